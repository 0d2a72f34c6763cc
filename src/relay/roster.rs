//! Who is logged in, for the console: one line for each session, and whether it may be paused.
//!
//! In: sessions as they come and go, and what each is at. Out: lines; how many still work while everything is to pause.
//! Never: what a session asks or gets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{Actor, Part};

/// What a session is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A statement runs, or a transaction is open.
    Busy,
    /// Neither.
    Idle,
    /// Neither, and what its client sends waits for the end of the pause.
    Held,
    /// Its bytes are not looked at: the database has no policy.
    Passthrough,
    /// It is a console.
    Console,
}

const STATES: [State; 5] = [State::Busy, State::Idle, State::Held, State::Passthrough, State::Console];

impl State {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            State::Busy => "busy",
            State::Idle => "idle",
            State::Held => "held",
            State::Passthrough => "passthrough",
            State::Console => "console",
        }
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Place {
    line: Line,
    state: AtomicU8,
}

impl Place {
    pub(crate) fn is_at(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn state(&self) -> State {
        STATES[usize::from(self.state.load(Ordering::Acquire)).min(STATES.len() - 1)]
    }
}

/// What the console shows of a session.
#[derive(Clone, Debug)]
pub struct Line {
    /// The connection's number, as in the access log.
    pub number: u64,
    /// Who, as they logged in.
    pub actor: Part<Actor>,
    /// Its client speaks TLS.
    pub tls: bool,
    /// When it logged in, microseconds since the epoch.
    pub since_us: i64,
    /// What it is at.
    pub state: State,
}

/// Every session that is logged in. Bounded as sessions are.
#[derive(Debug, Default)]
pub struct Roster(Mutex<BTreeMap<u64, Arc<Place>>>);

impl Roster {
    /// A session has logged in; it is forgotten when the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>, line: Line) -> Present {
        let (number, state) = (line.number, AtomicU8::new(line.state as u8));
        let place = Arc::new(Place { line, state });
        self.places().insert(number, place.clone());
        Present { roster: self.clone(), number, place }
    }

    /// All of them, by number.
    pub fn lines(&self) -> Vec<Line> {
        self.places().values().map(|place| Line { state: place.state(), ..place.line.clone() }).collect()
    }

    /// How many have not come to a halt since a pause began, among those that can be paused at all.
    pub fn at_work(&self) -> usize {
        self.places().values().filter(|place| matches!(place.state(), State::Busy | State::Idle)).count()
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Place>>> {
        // Whole after every statement that changes it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in the roster.
#[derive(Debug)]
pub(crate) struct Present {
    roster: Arc<Roster>,
    number: u64,
    pub(crate) place: Arc<Place>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.roster.places().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ActorAuth;

    #[test]
    fn a_session_is_there_until_it_is_gone_and_counts_until_it_halts() {
        let roster = Arc::new(Roster::default());
        let actor = Actor {
            role: "app".into(),
            database: "medico".into(),
            auth: ActorAuth::ScramSha256,
            certificate: None,
            application: String::new(),
            client: None,
            purpose: None,
            purpose_by: None,
            person: None,
        };
        let line = Line { number: 7, actor: actor.into(), tls: false, since_us: 1, state: State::Busy };
        let present = roster.enter(line.clone());
        let other = roster.enter(Line { number: 3, ..line });
        for (state, at_work) in STATES.into_iter().zip([2, 2, 1, 1, 1]) {
            present.place.is_at(state);
            assert_eq!(roster.at_work(), at_work, "{state:?}");
            assert_eq!(roster.lines()[1].state, state);
        }
        drop(present);
        let left: Vec<_> = roster.lines().into_iter().map(|line| line.number).collect();
        assert_eq!(left, [3]);
        drop(other);
        assert_eq!(roster.at_work(), 0);
    }
}
