//! The sessions that are open, so that those of one login can be ended, and a statement that waits be let off.
//!
//! In: connections as they come and go. Out: a word to each of them. Never: a session kept alive by being known, more
//! entries than there are connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

/// What a session is told from outside. Words are only added.
#[derive(Debug, Default)]
pub struct Word {
    said: AtomicU8,
    /// Of the task that the session runs in.
    waker: Mutex<Option<Waker>>,
}

impl Word {
    const CANCEL: u8 = 1;
    const KILL: u8 = 2;
    const QUARANTINE: u8 = 4;

    /// Wakes that task when a word is said. Once is enough: a task's waker stays the same for its whole life.
    pub fn listen(&self, cx: &Context<'_>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }

    /// The client has asked for its statement to be cancelled.
    pub fn cancel(&self) {
        self.say(Self::CANCEL);
    }

    /// It has, since this was last asked.
    pub fn take_cancel(&self) -> bool {
        self.said.load(Ordering::Acquire) & Self::CANCEL > 0
            && self.said.fetch_and(!Self::CANCEL, Ordering::AcqRel) & Self::CANCEL > 0
    }

    /// Why the session has to end.
    pub fn end(&self) -> Option<Ending> {
        match self.said.load(Ordering::Acquire) {
            said if said & Self::QUARANTINE > 0 => Some(Ending::Quarantined),
            said if said & Self::KILL > 0 => Some(Ending::Killed),
            _ => None,
        }
    }

    fn say(&self, word: u8) {
        self.said.fetch_or(word, Ordering::AcqRel);
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// Why a session has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A rule of the detector ends it.
    Killed,
    /// Its login is quarantined.
    Quarantined,
}

/// By connection: the role that it claims or has proven, and how it is told.
type Open = HashMap<u64, (Box<str>, Weak<Word>)>;

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Open>);

impl Sessions {
    /// A connection has said who it is.
    pub fn enter(self: &Arc<Self>, connection: u64, role: &str) -> Known {
        let word = Arc::new(Word::default());
        self.lock().insert(connection, (role.into(), Arc::downgrade(&word)));
        Known { word, sessions: Arc::downgrade(self), connection }
    }

    /// Ends one session. `false`: it has ended already.
    pub fn kill(&self, connection: u64) -> bool {
        let word = self.lock().get(&connection).and_then(|(_, word)| word.upgrade());
        word.as_ref().inspect(|word| word.say(Word::KILL)).is_some()
    }

    /// Ends all sessions of a login that is quarantined: how many.
    pub fn quarantine(&self, role: &str) -> usize {
        let words: Vec<_> =
            self.lock().values().filter(|(of, _)| **of == *role).filter_map(|(_, word)| word.upgrade()).collect();
        words.iter().for_each(|word| word.say(Word::QUARANTINE));
        words.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's entry; taken out on drop.
#[derive(Debug)]
pub struct Known {
    word: Arc<Word>,
    sessions: Weak<Sessions>,
    connection: u64,
}

impl Known {
    /// Of a connection that nobody knows.
    pub fn unknown() -> Self {
        Self { word: Arc::default(), sessions: Weak::new(), connection: 0 }
    }

    /// How it is told.
    pub fn word(&self) -> &Arc<Word> {
        &self.word
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.lock().remove(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_session_and_nobody_else() {
        let sessions = Arc::new(Sessions::default());
        let [one, two, other] = [(1, "app"), (2, "app"), (3, "nurse")].map(|(at, role)| sessions.enter(at, role));
        assert!(sessions.kill(1) && !sessions.kill(9));
        assert_eq!([&one, &two, &other].map(|entry| entry.word().end()), [Some(Ending::Killed), None, None]);
        assert_eq!(sessions.quarantine("app"), 2);
        assert_eq!(one.word().end(), Some(Ending::Quarantined));
        assert_eq!([two.word().end(), other.word().end()], [Some(Ending::Quarantined), None]);
        drop((one, two));
        assert_eq!(sessions.quarantine("app"), 0);
        assert_eq!(sessions.lock().len(), 1);
    }

    #[test]
    fn a_cancel_is_taken_once() {
        let word = Word::default();
        word.cancel();
        assert!(word.take_cancel() && !word.take_cancel());
        assert_eq!(word.end(), None);
    }
}
