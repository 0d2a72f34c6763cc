//! The listening socket, the acceptor and the worker threads.
//!
//! Each worker is one thread with its own reactor; a connection is one task on one worker and never moves, so no
//! wake-up crosses threads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::admit::Stranger;
use super::connection;
use super::drain::Phase;
use super::mind::Host;
use super::reactor::{self, Reactor};
use crate::error::{Error, Result};

/// Connections the kernel completes before they are accepted.
const BACKLOG: i32 = 1024;
/// Accepted sockets that wait for one worker.
const QUEUE: usize = 256;
/// A peer that is silent for this long is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// After accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// TCP_NODELAY and keepalive.
pub(crate) fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// A listening socket with SO_REUSEADDR.
///
/// # Errors
/// What the system said, with the address.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener> {
    let bound = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|e| Error::io(format!("[listen] postgres = \"{address}\""), e))
}

/// An accepted socket on its way to a worker.
type Delivery = (std::net::TcpStream, SocketAddr, Stranger);

/// One worker thread.
struct Worker {
    inbox: mpsc::Sender<Delivery>,
    done: oneshot::Receiver<()>,
}

/// Accepts and serves until the drain begins, then waits until every connection has ended.
///
/// # Errors
/// A thread or runtime that cannot be made.
pub(crate) async fn run<H: Host>(listener: std::net::TcpListener, shared: Arc<Shared<H>>) -> Result<()> {
    let listener = TcpListener::from_std(listener).map_err(|e| Error::io("listening", e))?;
    let workers = (0..shared.settings.workers.max(1)).map(|n| hire(n, &shared)).collect::<Result<Vec<_>>>()?;
    tokio::select! {
        () = accept(&listener, &workers, &shared) => {}
        () = shared.drain.reached(Phase::Draining) => {}
    }
    drop(listener);
    for Worker { inbox, done } in workers {
        drop(inbox);
        // A sender dropped without a word means the worker died; its connections are gone too.
        let _ = done.await;
    }
    Ok(())
}

async fn accept<H: Host>(listener: &TcpListener, workers: &[Worker], shared: &Arc<Shared<H>>) {
    for turn in 0.. {
        let (socket, peer) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        let stranger = shared.gate.admit();
        if let Ok(socket) = tune(&socket).and_then(|()| socket.into_std()) {
            deliver(workers, turn, (socket, peer, stranger)).await;
        }
    }
}

/// Round-robin, past workers whose queue is full; when all are, the one whose turn it is takes it when it can.
async fn deliver(workers: &[Worker], turn: usize, mut delivery: Delivery) {
    for offset in 0..workers.len() {
        match workers[(turn.wrapping_add(offset)) % workers.len()].inbox.try_send(delivery) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => delivery = back,
        }
    }
    let _ = workers[turn % workers.len()].inbox.send(delivery).await;
}

fn hire<H: Host>(number: usize, shared: &Arc<Shared<H>>) -> Result<Worker> {
    let reactor = Reactor::new().map_err(|e| Error::io("worker reactor", e))?;
    let runtime = Handle::current();
    let (inbox, deliveries) = mpsc::channel(QUEUE);
    let (finished, done) = oneshot::channel();
    let shared = shared.clone();
    std::thread::Builder::new()
        .name(format!("relay-{number}"))
        .spawn(move || {
            let _context = runtime.enter();
            if let Err(error) = reactor.run(work(deliveries, shared)) {
                tracing::error!(%error, "a worker has failed; its connections are closed");
            }
            let _ = finished.send(());
        })
        .map_err(|e| Error::io("worker thread", e))?;
    Ok(Worker { inbox, done })
}

/// Starts what is delivered to one worker.
async fn work<H: Host>(mut deliveries: mpsc::Receiver<Delivery>, shared: Arc<Shared<H>>) {
    while let Some((socket, peer, stranger)) = deliveries.recv().await {
        let Ok(socket) = reactor::Socket::new(socket) else { continue };
        // The place may be needed by a newer stranger before this one has run at all.
        let claim = stranger.claim();
        claim.runs_as(reactor::spawn(connection::serve(shared.clone(), socket, peer, stranger)));
    }
}
