//! Who may be here: a bounded crowd of strangers (sockets that have not logged in), of which the oldest gives way to
//! the newest, and a bounded number of sessions.
//!
//! Strangers never use up the places of sessions, and a flood of half-open sockets never keeps a new login out: it
//! pushes out its own oldest members first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reactor::Cut;

/// The two bounds and what counts against them.
#[derive(Debug)]
pub(crate) struct Gate {
    sessions_max: usize,
    strangers_max: usize,
    sessions: AtomicUsize,
    strangers: Mutex<Crowd>,
}

#[derive(Debug, Default)]
struct Crowd {
    next: u64,
    /// By age. `None` until its task has been spawned.
    members: BTreeMap<u64, Option<Cut>>,
}

impl Gate {
    pub(crate) fn new(sessions_max: usize, strangers_max: usize) -> Arc<Self> {
        Arc::new(Self {
            sessions_max,
            strangers_max: strangers_max.max(1),
            sessions: AtomicUsize::new(0),
            strangers: Mutex::default(),
        })
    }

    /// A place among the strangers. When there is none the oldest stranger's connection is cut.
    pub(crate) fn admit(self: &Arc<Self>) -> Stranger {
        let mut crowd = self.crowd();
        while crowd.members.len() >= self.strangers_max {
            if let Some((_, Some(task))) = crowd.members.pop_first() {
                task.cut();
            }
        }
        let id = crowd.next;
        crowd.next += 1;
        crowd.members.insert(id, None);
        Stranger { gate: self.clone(), id }
    }

    /// Another session may log in at this moment.
    pub(crate) fn has_seat(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) < self.sessions_max
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        // A crowd is whole after every statement that changes it, so a panic elsewhere cannot have torn it.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who have not logged in; given back on drop.
#[derive(Debug)]
pub(crate) struct Stranger {
    gate: Arc<Gate>,
    id: u64,
}

impl Stranger {
    /// For whoever starts the task that this place belongs to.
    pub(crate) fn claim(&self) -> Claim {
        Claim { gate: self.gate.clone(), id: self.id }
    }

    /// The gate it stands at.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A session's place instead of a stranger's; `None` if all are taken.
    pub(crate) fn seat(self) -> Option<Seat> {
        let taken = self.gate.sessions.fetch_add(1, Ordering::AcqRel);
        let seat = Seat { gate: self.gate.clone() };
        (taken < self.gate.sessions_max).then_some(seat)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.gate.crowd().members.remove(&self.id);
    }
}

/// The link from a place to the task that holds it.
#[derive(Debug)]
pub(crate) struct Claim {
    gate: Arc<Gate>,
    id: u64,
}

impl Claim {
    /// Names the task, which has not run yet, to cut when the place is needed. If it has been needed already, the
    /// task is cut now.
    pub(crate) fn runs_as(self, task: Cut) {
        match self.gate.crowd().members.get_mut(&self.id) {
            Some(entry) => *entry = Some(task),
            None => task.cut(),
        }
    }
}

/// A session's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Arc<Gate>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::reactor::{Reactor, spawn};

    #[test]
    fn the_oldest_stranger_gives_way() {
        let lasting = || {
            let (alive, ended) = tokio::sync::oneshot::channel::<()>();
            let task = spawn(async move {
                let _alive = alive;
                std::future::pending().await
            });
            (task, ended)
        };
        let root = async move {
            let gate = Gate::new(1, 2);
            let old = gate.admit();
            let (task, ended) = lasting();
            old.claim().runs_as(task);
            let second = gate.admit();
            let third = gate.admit();
            assert!(ended.await.is_err());
            let (late, ended) = lasting();
            old.claim().runs_as(late);
            assert!(ended.await.is_err());
            drop((old, second));
            assert_eq!(gate.crowd().members.len(), 1);
            drop(third);
            assert!(gate.crowd().members.is_empty());
        };
        Reactor::new().unwrap().run(root).unwrap();
    }

    #[test]
    fn seats_are_bounded_and_given_back() {
        let gate = Gate::new(1, 8);
        let first = gate.admit().seat().unwrap();
        assert!(!gate.has_seat());
        assert!(gate.admit().seat().is_none());
        assert_eq!(gate.sessions.load(Ordering::Relaxed), 1);
        drop(first);
        assert!(gate.has_seat());
        assert!(gate.crowd().members.is_empty());
    }
}
