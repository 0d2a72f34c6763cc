//! Who may interrupt whom: the keys we gave to clients, and the backend each stands for.
//!
//! One entry per session, so the number of sessions bounds it. Secrets are compared in constant time; a key that does
//! not match is answered as one that does: by closing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::secret;
use crate::wire::startup::CancelKey;

/// Where a CancelRequest goes.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) key: CancelKey,
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

    fn lock(&self) -> MutexGuard<'_, Entries> {
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
        let backend = |pid| Backend { address: ([127, 0, 0, 1], 5432).into(), key: key(pid, 0) };
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
}
