//! Who may be here: a bounded crowd of strangers (sockets that have not logged in), of which the oldest gives way to
//! the newest, those first that have not said who they are; and a bounded number of sessions.
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
    /// Those that have not said yet who they are.
    silent: Members,
    /// Those whose login is under way.
    speaking: Members,
}

/// By age. `None` until its task has been spawned.
type Members = BTreeMap<u64, Option<Cut>>;

impl Crowd {
    fn len(&self) -> usize {
        self.silent.len() + self.speaking.len()
    }

    fn member(&mut self, id: u64) -> Option<&mut Option<Cut>> {
        self.silent.get_mut(&id).or_else(|| self.speaking.get_mut(&id))
    }

    fn remove(&mut self, id: u64) -> Option<Option<Cut>> {
        self.silent.remove(&id).or_else(|| self.speaking.remove(&id))
    }
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
        while crowd.len() >= self.strangers_max {
            let oldest = crowd.silent.pop_first().or_else(|| crowd.speaking.pop_first());
            if let Some((_, Some(task))) = oldest {
                task.cut();
            }
        }
        let id = crowd.next;
        crowd.next += 1;
        crowd.silent.insert(id, None);
        Stranger { gate: self.clone(), id }
    }

    /// Another session may log in at this moment, of a kind that has so many seats beside everybody's.
    pub(crate) fn has_seat(&self, own: usize) -> bool {
        self.sessions.load(Ordering::Relaxed) < self.sessions_max + own
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

    /// It has said who it is, and may be let in.
    pub(crate) fn speaks(&self) {
        let mut crowd = self.gate.crowd();
        if let Some(member) = crowd.silent.remove(&self.id) {
            crowd.speaking.insert(self.id, member);
        }
    }

    /// The gate it stands at.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A session's place instead of a stranger's, of a kind that has so many beside everybody's; `None` if all are taken.
    pub(crate) fn seat(self, own: usize) -> Option<Seat> {
        let taken = self.gate.sessions.fetch_add(1, Ordering::AcqRel);
        let seat = Seat { gate: self.gate.clone() };
        (taken < self.gate.sessions_max + own).then_some(seat)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.gate.crowd().remove(self.id);
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
        match self.gate.crowd().member(self.id) {
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
            assert_eq!(gate.crowd().len(), 1);
            drop(third);
            assert_eq!(gate.crowd().len(), 0);
        };
        Reactor::new().unwrap().run(root).unwrap();
    }

    #[test]
    fn seats_are_bounded_and_given_back() {
        let gate = Gate::new(1, 8);
        let first = gate.admit().seat(0).unwrap();
        assert!(!gate.has_seat(0));
        assert!(gate.admit().seat(0).is_none());
        assert_eq!(gate.sessions.load(Ordering::Relaxed), 1);
        drop(first);
        assert!(gate.has_seat(0));
        assert_eq!(gate.crowd().len(), 0);
    }

    #[test]
    fn who_has_not_said_a_word_gives_way_first() {
        let gate = Gate::new(1, 2);
        let login = gate.admit();
        login.speaks();
        let flood: Vec<_> = (0..100).map(|_| gate.admit()).collect();
        assert!(gate.crowd().speaking.contains_key(&login.id));
        assert_eq!(gate.crowd().len(), 2);
        flood[99].speaks();
        let _newest = gate.admit();
        assert!(!gate.crowd().speaking.contains_key(&login.id));
        assert!(gate.crowd().speaking.contains_key(&flood[99].id));
    }
}
