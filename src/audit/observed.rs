//! What enforcing an observed policy would change, added up from the log: by role and shape of statement.
//!
//! In: events in the order of the log. Out: a [`Summary`]. Never: more than a bounded number of shapes in memory, a
//! guess about statements that the log does not hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::event::{Event, EventKind, Would};

/// Shapes that are told apart; of others executions are only counted.
const SHAPES_MAX: usize = 100_000;

/// Roles that are told apart.
const ROLES_MAX: usize = 10_000;

/// Characters of a statement's text that are kept.
const TEXT_MAX: usize = 1_000;

/// What roles beyond the bound are counted as.
const MORE_ROLES: &str = "(further roles)";

/// Adds up.
#[derive(Debug)]
pub struct Observed {
    shapes: HashMap<Key, Shape>,
    shapes_max: usize,
    totals: BTreeMap<String, (u64, u64)>,
    left_out: u64,
    /// Records up to this one have been seen; after a failed fsync some stand in the log twice.
    seen: u64,
}

/// One shape under one policy: what would change is part of it.
type Key = (String, Arc<str>, Arc<Would>);

/// Executions of one shape by one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The login.
    pub role: String,
    /// Of the statement without literals; empty if it has none.
    pub fingerprint: Arc<str>,
    /// The statement without literals, perhaps cut.
    pub text: String,
    /// How often it ran.
    pub count: u64,
    /// Microseconds since the Unix epoch.
    pub first_us: i64,
    /// Microseconds since the Unix epoch.
    pub last_us: i64,
    /// What would change.
    pub would: Arc<Would>,
}

/// Statements of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// The login.
    pub role: String,
    /// Recorded while the policy was only observed.
    pub statements: u64,
    /// Those of which something would change.
    pub changed: u64,
}

/// Everything, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The most frequent first.
    pub shapes: Vec<Shape>,
    /// By role.
    pub totals: Vec<Total>,
    /// Executions that would change too, of shapes beyond the bound.
    pub left_out: u64,
}

impl Default for Observed {
    fn default() -> Self {
        Self::bounded(SHAPES_MAX)
    }
}

impl Observed {
    fn bounded(shapes_max: usize) -> Self {
        Self { shapes: HashMap::new(), shapes_max, totals: BTreeMap::new(), left_out: 0, seen: 0 }
    }

    /// Counts the record if it is the outcome of a statement that was only observed.
    pub fn add(&mut self, seq: u64, event: &Event) {
        if seq <= self.seen {
            return;
        }
        self.seen = seq;
        let action = event.action();
        if !action.observed || !matches!(event.kind, EventKind::Statement | EventKind::Refused) {
            return;
        }
        let role = event.actor.as_ref().map_or("", |actor| actor.role.as_str());
        let counted = match self.totals.len() {
            ROLES_MAX.. if !self.totals.contains_key(role) => MORE_ROLES,
            _ => role,
        };
        let total = self.totals.entry(counted.to_owned()).or_default();
        total.0 += 1;
        let Some(would) = &action.would else { return };
        total.1 += 1;
        let fingerprint = action.fingerprint.clone().unwrap_or_else(|| "".into());
        let key = (role.to_owned(), fingerprint.clone(), would.clone());
        if let Some(shape) = self.shapes.get_mut(&key) {
            shape.count += 1;
            (shape.first_us, shape.last_us) = (shape.first_us.min(event.at_us), shape.last_us.max(event.at_us));
        } else if self.shapes.len() < self.shapes_max {
            let shape = Shape {
                role: role.to_owned(),
                fingerprint,
                text: cut(action.text.as_deref().unwrap_or("")),
                count: 1,
                first_us: event.at_us,
                last_us: event.at_us,
                would: would.clone(),
            };
            self.shapes.insert(key, shape);
        } else {
            self.left_out += 1;
        }
    }

    /// The same for the same log.
    pub fn summary(self) -> Summary {
        let mut shapes: Vec<Shape> = self.shapes.into_values().collect();
        shapes.sort_by(|a, b| {
            let of = |shape: &Shape| (Reverse(shape.count), shape.role.clone(), shape.fingerprint.clone());
            of(a).cmp(&of(b)).then_with(|| a.would.cmp(&b.would))
        });
        let total = |(role, (statements, changed))| Total { role, statements, changed };
        Summary { shapes, totals: self.totals.into_iter().map(total).collect(), left_out: self.left_out }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Actor, ActorAuth};

    fn event(role: &str, text: &str, would: Option<Would>, at_us: i64) -> Event {
        let actor = Actor {
            role: role.to_owned(),
            database: "d".to_owned(),
            auth: ActorAuth::Trust,
            certificate: None,
            application: String::new(),
            client: None,
            purpose: None,
            purpose_by: None,
            person: None,
        };
        let action = Action {
            fingerprint: Some(text.into()),
            text: Some(text.into()),
            observed: true,
            would: would.map(Arc::new),
            ..Action::none()
        };
        let (actor, action) = (Some(actor.into()), Some(action.into()));
        Event { actor, action, ..Event::new(EventKind::Statement, at_us) }
    }

    fn refused() -> Option<Would> {
        Some(Would::refused("PV018", "do otherwise"))
    }

    fn summary(events: &[Event], shapes_max: usize) -> Summary {
        let mut observed = Observed::bounded(shapes_max);
        (1..).zip(events).for_each(|(seq, event)| observed.add(seq, event));
        observed.summary()
    }

    #[test]
    fn the_most_frequent_come_first_and_every_role_has_its_total() {
        let events = [
            event("b", "one", refused(), 5),
            event("a", "two", refused(), 6),
            event("a", "two", refused(), 9),
            event("a", "fine", None, 7),
            Event { kind: EventKind::Intent, ..event("a", "two", refused(), 8) },
            event("a", "one", refused(), 8),
        ];
        let found = summary(&events, 10);
        let told: Vec<_> =
            found.shapes.iter().map(|s| (s.role.as_str(), s.text.as_str(), s.count, s.first_us, s.last_us)).collect();
        assert_eq!(told, [("a", "two", 2, 6, 9), ("a", "one", 1, 8, 8), ("b", "one", 1, 5, 5)]);
        let totals: Vec<_> = found.totals.iter().map(|t| (t.role.as_str(), t.statements, t.changed)).collect();
        assert_eq!(totals, [("a", 4, 3), ("b", 1, 1)]);
    }

    #[test]
    fn shapes_beyond_the_bound_are_counted() {
        let events = [event("a", "x", refused(), 1), event("a", "y", refused(), 2), event("a", "x", refused(), 3)];
        let found = summary(&events, 1);
        assert_eq!((found.shapes.len(), found.shapes[0].count, found.left_out), (1, 2, 1));
        assert_eq!(found.totals[0].changed, 3);
    }

    #[test]
    fn a_record_that_stands_twice_counts_once_and_what_was_enforced_not_at_all() {
        let mut observed = Observed::default();
        for seq in [4, 5, 4, 5] {
            observed.add(seq, &event("a", "x", refused(), 1));
        }
        let action = Action { would: None, observed: false, ..event("a", "x", None, 1).action().clone() };
        observed.add(6, &Event { action: Some(action.into()), ..event("a", "x", None, 1) });
        let found = observed.summary();
        assert_eq!((found.shapes[0].count, found.totals[0].statements), (2, 2));
    }

    #[test]
    fn one_shape_that_would_change_in_two_ways_is_two() {
        let masked = Would { until_lens: true, ..Would::refused("PV013", "") };
        let found = summary(&[event("a", "x", refused(), 1), event("a", "x", Some(masked), 2)], 10);
        assert_eq!(found.shapes.len(), 2);
        assert!(cut(&"é".repeat(TEXT_MAX + 1)).ends_with("é…"));
    }
}
