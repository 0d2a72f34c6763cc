//! The server processes behind this proxy's own sessions, by which others are told from them.
//!
//! In: process ids from the server's BackendKeyData, for as long as their sessions last. Out: whether a process is, or
//! was, one of them. Never: an address, which several machines may share, or a secret of a cancel key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Now;

/// Ended sessions that are remembered: their processes may run on for a while.
const ENDED_MAX: usize = 100_000;

/// Past that bound those that ended longer ago are forgotten.
const ENDED_NS: u64 = 600_000_000_000;

/// Clocks of the monotonic kind agree better than this with how old the server says a process is.
const SLACK_NS: u64 = 2_000_000_000;

/// All of this proxy's.
#[derive(Debug, Default)]
pub struct Backends(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Process id → sessions. A server that was restarted may give an id anew before the old session has noticed.
    live: HashMap<u32, u32>,
    /// Process id → when the last session with it ended.
    ended: HashMap<u32, u64>,
}

impl Backends {
    /// A session has that process, until the ticket is dropped.
    pub fn enter(self: &Arc<Self>, pid: u32) -> Ticket {
        *self.lock().live.entry(pid).or_default() += 1;
        Ticket { backends: self.clone(), pid }
    }

    /// Whether the process with that id, which began at that reading of the monotonic clock, is or was a session's.
    pub fn ours(&self, pid: u32, began_ns: u64) -> bool {
        let known = self.lock();
        known.live.contains_key(&pid) || known.ended.get(&pid).is_some_and(|ended| began_ns <= *ended + SLACK_NS)
    }

    fn leave(&self, pid: u32, now_ns: u64) {
        let mut known = self.lock();
        if let Some(sessions) = known.live.get_mut(&pid) {
            *sessions -= 1;
            if *sessions == 0 {
                known.live.remove(&pid);
            }
        }
        if known.ended.len() >= ENDED_MAX {
            known.ended.retain(|_, ended| *ended + ENDED_NS > now_ns);
        }
        if known.ended.len() < ENDED_MAX {
            known.ended.insert(pid, now_ns);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's process.
#[derive(Debug)]
pub struct Ticket {
    backends: Arc<Backends>,
    pid: u32,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.backends.leave(self.pid, Now::read().mono_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ours_while_its_session_lasts_and_while_it_runs_on() {
        let backends = Arc::new(Backends::default());
        assert!(!backends.ours(7, 0));
        let (one, two) = (backends.enter(7), backends.enter(7));
        drop(one);
        assert!(backends.ours(7, u64::MAX));
        drop(two);
        let now = Now::read().mono_ns;
        assert!(backends.ours(7, now.saturating_sub(1)), "it began while the session lasted");
        assert!(!backends.ours(7, now + 2 * SLACK_NS), "another one with the same id");
        assert!(!backends.ours(8, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let backends = Backends::default();
        for pid in 0..150_000 {
            backends.leave(pid, u64::from(pid) * 10_000_000);
        }
        assert!(backends.lock().ended.len() <= ENDED_MAX);
        assert!(backends.ours(149_999, 0));
    }
}
