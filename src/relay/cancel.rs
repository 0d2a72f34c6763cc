//! Who may interrupt whom: the keys we gave to clients, and the backend each stands for.
//!
//! One entry per session, so the number of sessions bounds it. Secrets are compared in constant time; a key that does
//! not match is answered as one that does: by closing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::MutexGuard;

use crate::desk::Word;
use crate::secret;
use crate::wire::startup::CancelKey;

/// Where a CancelRequest goes.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) key: CancelKey,
    /// The session's own: its rows may wait here.
    pub(crate) word: Arc<Word>,
    queue: Arc<Queue>,
}

/// One request is on its way to the server and one waits behind it; more would say nothing new, and each costs the
/// server a process.
#[derive(Debug, Default)]
struct Queue {
    turn: tokio::sync::Mutex<()>,
    awaited: AtomicBool,
}

impl Backend {
    pub(crate) fn new(address: SocketAddr, key: CancelKey, word: Arc<Word>) -> Self {
        Self { address, key, word, queue: Arc::default() }
    }

    /// Waits for the request before this one. `None` if another waits already, which will be sent after this one came.
    pub(crate) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.queue.awaited.swap(true, Ordering::AcqRel) {
            return None;
        }
        let waiting = Waiting(&self.queue.awaited);
        let turn = self.queue.turn.lock().await;
        drop(waiting);
        Some(turn)
    }
}

/// Makes room for the next to wait, also when this one is cut.
struct Waiting<'a>(&'a AtomicBool);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// By process id: connection, its key, its backend.
type Entries = HashMap<u32, Vec<(u64, CancelKey, Backend)>>;

/// All keys in use.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By the server's process id. It comes again once a backend has ended; then the secret decides.
    entries: Mutex<Entries>,
}

impl Registry {
    /// Keeps the key until the ticket is dropped. `connection` is unique.
    pub(crate) fn enter(self: &Arc<Self>, connection: u64, ours: CancelKey, backend: Backend) -> Ticket {
        let pid = ours.pid;
        self.lock().entry(pid).or_default().push((connection, ours, backend));
        Ticket { registry: self.clone(), pid, connection }
    }

    /// The backend that key stands for.
    pub(crate) fn find(&self, key: &CancelKey) -> Option<Backend> {
        let entries = self.lock();
        let found = entries.get(&key.pid)?.iter().find(|(_, ours, _)| secret::same(&ours.secret, &key.secret));
        found.map(|(_, _, backend)| backend.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry's life.
#[derive(Debug)]
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    pid: u32,
    connection: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        if let Some(same_pid) = entries.get_mut(&self.pid) {
            same_pid.retain(|(connection, ..)| *connection != self.connection);
            if same_pid.is_empty() {
                entries.remove(&self.pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: u32, secret: u8) -> CancelKey {
        CancelKey { pid, secret: vec![secret; 4] }
    }

    #[test]
    fn only_the_whole_key_finds_its_own_backend() {
        let registry = Arc::new(Registry::default());
        let backend = |pid| Backend::new(([127, 0, 0, 1], 5432).into(), key(pid, 0), Arc::default());
        let one = registry.enter(1, key(7, 1), backend(101));
        let two = registry.enter(2, key(7, 2), backend(102));
        assert_eq!(registry.find(&key(7, 1)).unwrap().key.pid, 101);
        assert_eq!(registry.find(&key(7, 2)).unwrap().key.pid, 102);
        assert!(registry.find(&key(7, 3)).is_none());
        assert!(registry.find(&key(8, 1)).is_none());
        assert!(registry.find(&CancelKey { pid: 7, secret: vec![1; 5] }).is_none());
        drop(one);
        assert!(registry.find(&key(7, 1)).is_none());
        assert!(registry.find(&key(7, 2)).is_some());
        drop(two);
        assert!(registry.lock().is_empty());
    }

    #[tokio::test]
    async fn one_request_is_sent_and_one_waits() {
        let backend = Backend::new(([127, 0, 0, 1], 5432).into(), key(7, 1), Arc::default());
        let first = backend.turn().await.unwrap();
        let second = backend.turn();
        tokio::pin!(second);
        assert!(poll(second.as_mut()).is_pending());
        assert!(backend.turn().await.is_none());
        drop(first);
        drop(second.await.unwrap());
        let first = backend.turn().await.unwrap();
        {
            let cut = backend.turn();
            tokio::pin!(cut);
            assert!(poll(cut.as_mut()).is_pending());
        }
        let second = backend.turn();
        tokio::pin!(second);
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> std::task::Poll<T> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
