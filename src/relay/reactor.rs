//! One worker thread's reactor: readiness from epoll, by way of mio, and tasks polled where they stand.
//!
//! In: the futures of the thread's connections. Out: each polled when one of its sockets, timers or receipts says so.
//! Never: a task that moves to another thread, a task that keeps the others waiting (see [`BUDGET`]), a panic that
//! takes other connections with it.
//!
//! Tokio's own reactor would do, at 15 % of the throughput: it keeps a timer wheel, wakes through several atomics and
//! asks the clock at every turn, none of which a relayed message needs. Timers, name look-ups and new upstream
//! connections do need it, once per connection: [`Reactor::run`] must be called inside a Tokio runtime's context.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Registry, Token};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads one poll of a task may do; then it waits for its next turn.
const BUDGET: u32 = 64;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// The token of the bell; sockets are numbered from 0.
const BELL: Token = Token(usize::MAX);

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
    static LEFT: Cell<u32> = const { Cell::new(BUDGET) };
}

/// What sockets and [`spawn`] need of the thread's reactor.
struct Here {
    registry: Registry,
    slots: Slab<Rc<Slot>>,
    tasks: Slab<()>,
    spawned: Vec<Task>,
    shared: Arc<Shared>,
}

/// A future and its handle.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    handle: Arc<Handle>,
    waker: Waker,
}

/// What wakers on any thread can reach.
struct Shared {
    ready: Mutex<Vec<usize>>,
    /// The thread waits for events, or is about to: the bell must be rung.
    asleep: AtomicBool,
    bell: mio::Waker,
}

impl Shared {
    fn ready(&self) -> MutexGuard<'_, Vec<usize>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: usize) {
        self.ready().push(task);
        if self.asleep.load(Ordering::SeqCst) {
            // A bell that cannot be rung has been rung already.
            let _ = self.bell.wake();
        }
    }
}

/// One task, seen from outside.
struct Handle {
    id: usize,
    queued: AtomicBool,
    cut: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.push(self.id);
        }
    }
}

/// Ends a task from anywhere.
pub(crate) struct Cut(Arc<Handle>);

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cut({})", self.0.id)
    }
}

impl Cut {
    /// The task is dropped at its thread's next turn.
    pub(crate) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.wake_by_ref();
    }
}

/// Starts a task on this thread's reactor.
///
/// # Panics
/// Outside of [`Reactor::run`]: a mistake in this program.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) -> Cut {
    here(|here| {
        let id = here.tasks.insert(());
        let shared = here.shared.clone();
        let handle = Arc::new(Handle { id, queued: AtomicBool::new(true), cut: AtomicBool::new(false), shared });
        let waker = Waker::from(handle.clone());
        here.spawned.push(Task { future: Box::pin(future), handle: handle.clone(), waker });
        Cut(handle)
    })
}

/// The loop of one thread, not running yet.
pub(crate) struct Reactor {
    poll: mio::Poll,
    shared: Arc<Shared>,
}

impl Reactor {
    /// # Errors
    /// The system has no more file descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let bell = mio::Waker::new(poll.registry(), BELL)?;
        let shared = Arc::new(Shared { ready: Mutex::default(), asleep: AtomicBool::new(false), bell });
        Ok(Self { poll, shared })
    }

    /// Runs until `root` and every task started by then have ended.
    ///
    /// # Errors
    /// The system's wait for events failed.
    pub(crate) fn run(self, root: impl Future<Output = ()> + 'static) -> io::Result<()> {
        let registry = self.poll.registry().try_clone()?;
        let Self { poll, shared } = self;
        let mut turns =
            Turns { poll, shared: shared.clone(), events: Events::with_capacity(EVENTS), tasks: Vec::new() };
        HERE.set(Some(Here { registry, slots: Slab::new(), tasks: Slab::new(), spawned: Vec::new(), shared }));
        spawn(root);
        let mut ready = Vec::new();
        let mut done = Ok(());
        while done.is_ok() && turns.start_spawned() {
            std::mem::swap(&mut *turns.shared.ready(), &mut ready);
            for id in ready.drain(..) {
                turns.step(id);
            }
            done = turns.wait();
        }
        drop(turns);
        HERE.set(None);
        done
    }
}

/// The loop, running.
struct Turns {
    poll: mio::Poll,
    shared: Arc<Shared>,
    events: Events,
    tasks: Vec<Option<Task>>,
}

impl Turns {
    /// Polls what has been started since the last turn. `false` when there is nothing left to run.
    fn start_spawned(&mut self) -> bool {
        loop {
            let spawned = here(|here| std::mem::take(&mut here.spawned));
            if spawned.is_empty() {
                return here(|here| !here.tasks.is_empty());
            }
            for task in spawned {
                let id = task.handle.id;
                if self.tasks.len() <= id {
                    self.tasks.resize_with(id + 1, || None);
                }
                self.tasks[id] = Some(task);
                self.step(id);
            }
        }
    }

    /// Polls one task.
    fn step(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(id).and_then(Option::as_mut) else { return };
        // Before the poll: what wakes the task while it runs queues it again.
        task.handle.queued.store(false, Ordering::Release);
        let ended = task.handle.cut.load(Ordering::Acquire) || {
            LEFT.set(BUDGET);
            let Task { future, waker, .. } = task;
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(waker))));
            if polled.is_err() {
                tracing::error!("a connection's task panicked; the connection is closed");
            }
            !matches!(polled, Ok(Poll::Pending))
        };
        if ended {
            // What a future does when it is dropped is its own affair, and may panic too.
            let task = self.tasks[id].take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
            here(|here| here.tasks.remove(id));
        }
    }

    /// Waits for events, unless a task is ready, and marks what they concern.
    fn wait(&mut self) -> io::Result<()> {
        self.shared.asleep.store(true, Ordering::SeqCst);
        let busy = !self.shared.ready().is_empty() || here(|here| !here.spawned.is_empty() || here.tasks.is_empty());
        let polled = self.poll.poll(&mut self.events, busy.then_some(Duration::ZERO));
        self.shared.asleep.store(false, Ordering::SeqCst);
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        here(|here| {
            for event in &self.events {
                if let Some(slot) = here.slots.get(event.token().0) {
                    slot.note(event);
                }
            }
        });
        Ok(())
    }
}

/// Lends what this thread's tasks share.
fn here<T>(what: impl FnOnce(&mut Here) -> T) -> T {
    // Only called by tasks and by the loop that polls them, which has put it there.
    HERE.with_borrow_mut(|here| what(here.as_mut().expect("a reactor runs on this thread")))
}

/// What is known of one socket, and who wants to know more.
#[derive(Default)]
struct Slot {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The peer has sent its end: a short read does not mean that there is nothing more to be read.
    ending: Cell<bool>,
    /// One task owns both directions.
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn note(&self, event: &Event) {
        let ending = event.is_read_closed() || event.is_error();
        if ending {
            self.ending.set(true);
        }
        if event.is_readable() || ending {
            self.readable.set(true);
        }
        if event.is_writable() || event.is_write_closed() || event.is_error() {
            self.writable.set(true);
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// A TCP socket of this thread's reactor.
pub(crate) struct Socket {
    io: mio::net::TcpStream,
    slot: Rc<Slot>,
    number: usize,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({})", self.number)
    }
}

impl Socket {
    /// Takes a connected, non-blocking socket over.
    ///
    /// # Errors
    /// The system cannot watch it.
    pub(crate) fn new(socket: std::net::TcpStream) -> io::Result<Self> {
        let mut io = mio::net::TcpStream::from_std(socket);
        here(|here| {
            let slot = Rc::new(Slot::default());
            let entry = here.slots.vacant_entry();
            let number = entry.key();
            here.registry.register(&mut io, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            entry.insert(slot.clone());
            Ok(Self { io, slot, number })
        })
    }

    /// The first bytes, which stay to be read.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.ready(cx, &self.slot.readable, || self.io.peek(into))).await
    }

    /// Nothing is to be read, and the task that has asked last will be woken when that changes.
    #[inline]
    pub(crate) fn drained(&self) -> bool {
        !self.slot.readable.get() && self.slot.waker.borrow().is_some()
    }

    /// Does `work` when `ready` says that it can be done, and takes that back when it cannot.
    #[inline]
    fn ready<T>(
        &self,
        cx: &Context<'_>,
        ready: &Cell<bool>,
        mut work: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.slot.watch(cx);
        while ready.get() {
            match work() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.set(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        Poll::Pending
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // At the end of the thread there is no reactor any more, nor anything to tell it.
        HERE.with_borrow_mut(|here| {
            if let Some(here) = here.as_mut() {
                let _ = here.registry.deregister(&mut self.io);
                here.slots.try_remove(self.number);
            }
        });
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(left) = LEFT.get().checked_sub(1) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let into = buf.initialize_unfilled();
        let room = into.len();
        let polled = self.ready(cx, &self.slot.readable, || (&self.io).read(into));
        polled.map_ok(|read| {
            LEFT.set(left);
            // The kernel tells of every arrival, so a read that leaves room has taken all there was.
            if read < room && !self.slot.ending.get() {
                self.slot.readable.set(false);
            }
            buf.advance(read);
        })
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ready(cx, &self.slot.writable, || (&self.io).write(bytes))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// Both ends of one connection, the second for a [`Socket`].
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (far, near)
    }

    #[test]
    fn bytes_and_ends_arrive() {
        let (mut far, near) = pair();
        let echo = |near| async move {
            let mut near = Socket::new(near).unwrap();
            assert_eq!(near.peek(&mut [0; 1]).await.unwrap(), 1);
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.unwrap();
            near.write_all(&all).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let worker = std::thread::spawn(move || Reactor::new().unwrap().run(echo(near)));
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let mut reader = far.try_clone().unwrap();
        let answer = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        for part in sent.chunks(70_001) {
            far.write_all(part).unwrap();
        }
        far.shutdown(Shutdown::Write).unwrap();
        assert!(answer.join().unwrap().unwrap() == sent);
        worker.join().unwrap().unwrap();
    }

    #[test]
    fn a_flood_does_not_keep_others_waiting() {
        let (mut far, near) = pair();
        // It never stops to send; what it is asked at last is not asked by the flooded task.
        let flood = std::thread::spawn(move || while far.write_all(&[0; 4096]).is_ok() {});
        let root = async move {
            let sink = spawn(async move {
                let mut near = Socket::new(near).unwrap();
                while near.read(&mut [0; 16]).await.is_ok_and(|read| read > 0) {}
            });
            for _ in 0..100 {
                let (say, said) = oneshot::channel();
                spawn(async move { say.send(()).unwrap() });
                said.await.unwrap();
            }
            sink.cut();
        };
        Reactor::new().unwrap().run(root).unwrap();
        flood.join().unwrap();
    }

    #[test]
    fn a_panic_ends_its_own_task_only() {
        let (told, tell) = mpsc::channel();
        let root = async move {
            spawn(async { panic!("as the test wants") });
            spawn(async move { told.send(1).unwrap() });
        };
        Reactor::new().unwrap().run(root).unwrap();
        assert_eq!(tell.iter().sum::<i32>(), 1);
    }

    #[test]
    fn other_threads_wake_and_cut() {
        let (give, given) = mpsc::channel();
        let (alive, dropped) = oneshot::channel::<()>();
        let (say, said) = oneshot::channel();
        let root = async move {
            let cut = spawn(async move {
                let _alive = alive;
                std::future::pending().await
            });
            give.send(cut).unwrap();
            assert_eq!(said.await, Ok(7));
        };
        let worker = std::thread::spawn(|| Reactor::new().unwrap().run(root));
        say.send(7).unwrap();
        given.recv().unwrap().cut();
        assert!(dropped.blocking_recv().is_err());
        worker.join().unwrap().unwrap();
    }
}
