//! The gate's windows after a restart, from the access log's tail.
//!
//! In: its events, oldest first. Out: windows in which everything lies that was released, or may have been. Never: less:
//! a statement that a crash cut short counts as if it had released all that it still could.

use std::collections::HashMap;

use super::detector::mono_us;
use super::gate::{Batch, Gate, Limits};
use super::window::Time;
use super::{Action, Thresholds};
use crate::clock::Now;
use crate::event::{Access, Event, EventKind, Shown};

/// What a statement that has no outcome yet may have released.
struct Open {
    role: String,
    shown: bool,
    export: bool,
    at: Time,
}

/// Reads events into a [`Gate`].
pub struct Replay<'a> {
    gate: &'a Gate,
    thresholds: &'a Thresholds,
    now: Now,
    /// By connection and statement, of the run that is read.
    open: HashMap<(u64, u64), Open, foldhash::quality::RandomState>,
}

impl<'a> Replay<'a> {
    /// Statements without outcome that are kept; the oldest of more are not told apart from none.
    const OPEN_MAX: usize = 1 << 20;

    /// `now` is when it is read.
    pub fn new(gate: &'a Gate, thresholds: &'a Thresholds, now: Now) -> Self {
        Self { gate, thresholds, now, open: HashMap::default() }
    }

    /// One more event.
    pub fn see(&mut self, event: &Event) {
        let statement = (event.connection, event.statement);
        match event.kind {
            // The run before it has ended, one way or the other.
            EventKind::Start => self.cut_short(),
            EventKind::Refused => {
                self.open.remove(&statement);
            }
            EventKind::Intent | EventKind::Statement => {
                let Some(role) = event.actor.as_ref().map(|actor| actor.role.as_str()) else { return };
                if self.gate.throttles() && event.rows > 0 {
                    self.gate.passage(role, self.now).restore_pace(self.at(event));
                }
                let Some(limits) = Limits::of(self.thresholds, role) else { return };
                let export = event.action().access == Access::Export;
                let (shown, at) = (shown(event), self.at(event));
                if event.kind == EventKind::Statement {
                    self.open.remove(&statement);
                    let batch = Batch { rows: event.rows, shown, export, before: 0 };
                    let people = &event.subjects;
                    self.gate.passage(role, self.now).restore(batch, &people.known, people.more, &limits, at);
                } else if (shown || export) && self.open.len() < Self::OPEN_MAX {
                    self.open.insert(statement, Open { role: role.to_owned(), shown, export, at });
                }
            }
            EventKind::Alert => {
                let Some((actor, alert)) = event.actor.as_ref().zip(event.alert.as_ref()) else { return };
                if let Action::Throttle { rows_per_s } = alert.action {
                    let at = self.at(event);
                    self.gate.throttle_from(&actor.role, rows_per_s, alert.window_s, at, self.now);
                }
            }
            _ => {}
        }
    }

    /// There are no more.
    pub fn end(mut self) {
        self.cut_short();
    }

    fn cut_short(&mut self) {
        let mut open: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        open.sort_by_key(|open| open.at);
        for open in open {
            if let Some(limits) = Limits::of(self.thresholds, &open.role) {
                self.gate.passage(&open.role, self.now).restore_all(open.shown, open.export, &limits, open.at);
            }
        }
    }

    fn at(&self, event: &Event) -> Time {
        mono_us(self.now).saturating_sub(self.now.unix_us.saturating_sub(event.at_us).max(0))
    }
}

/// Values were shown, or nobody knows what was.
fn shown(event: &Event) -> bool {
    let action = event.action();
    let values = |shown| matches!(shown, Shown::Clear | Shown::Masked);
    action.touches_unknown || action.touches.is_empty() || action.touches.iter().any(|touch| values(touch.shown))
}
