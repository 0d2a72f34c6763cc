//! What one actor did to protected data in some time, added up from the access log for whoever must report it.
//!
//! In: statements of the log, one by one or already added up. Out: how many records and people, in which columns, clear,
//! masked or sealed. Never: a value, a person's name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use crate::event::{Access, Event, EventKind, Shown, Subject, Touch};

/// One kind of statement, counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// `Statement` or `Refused`; others are passed over.
    pub kind: EventKind,
    /// What was done.
    pub access: Access,
    /// Columns touched.
    pub touches: Vec<Touch>,
    /// Code ran that pgveil cannot see into.
    pub touches_unknown: bool,
    /// The PV code of refusals.
    pub code: Option<String>,
    /// How many of them.
    pub events: u64,
    /// Rows of all.
    pub rows: u64,
    /// Of these, rows whose person is not known.
    pub unknown_rows: u64,
    /// People that the log counts but does not name.
    pub more_people: u64,
    /// When, microseconds since the Unix epoch.
    pub first_us: i64,
    /// When last.
    pub last_us: i64,
}

impl From<&Event> for Counted {
    fn from(event: &Event) -> Self {
        let action = event.action();
        Self {
            kind: event.kind,
            access: action.access,
            touches: action.touches.clone(),
            touches_unknown: action.touches_unknown,
            code: event.code.clone(),
            events: 1,
            rows: event.rows,
            unknown_rows: event.subjects.unknown_rows,
            more_people: event.subjects.more,
            first_us: event.at_us,
            last_us: event.at_us,
        }
    }
}

/// Records by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    /// At least one column of level confidential or restricted was shown in clear.
    pub clear: u64,
    /// None in clear, at least one masked.
    pub masked: u64,
    /// None in clear or masked: as sealed bytes only.
    pub sealed: u64,
    /// Written or deleted.
    pub changed: u64,
    /// By code that pgveil cannot see into.
    pub unseen: u64,
    /// Nothing was shown but columns of level public or internal.
    pub light: u64,
}

/// A refusal, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// Microseconds since the Unix epoch.
    pub first_us: i64,
    /// Microseconds since the Unix epoch.
    pub last_us: i64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Statements that touched protected data.
    pub statements: u64,
    /// Their records.
    pub records: Records,
    /// Of the released records, those that left as exports (COPY, pg_dump).
    pub exported: u64,
    /// Different people, by pseudonym.
    pub people: u64,
    /// Records whose person the log does not know.
    pub unknown_rows: u64,
    /// People beyond those that a record of the log names; some may be counted among `people` too.
    pub more_people: u64,
    /// Columns (`schema.table`, column) and records by what was shown: clear, masked, sealed, written.
    pub columns: BTreeMap<(String, String), Column>,
    /// By PV code.
    pub refusals: BTreeMap<String, Refusals>,
    /// The first and the last statement counted.
    pub span_us: Option<(i64, i64)>,
    #[serde(skip)]
    seen: HashSet<Subject>,
    #[serde(skip)]
    light: Light,
}

/// Columns (`schema.table`, column) of level public or internal. All others, also those that the policy does not name,
/// decide whether a record was shown in clear.
pub type Light = BTreeSet<(String, String)>;

/// One column's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Column {
    /// In clear.
    pub clear: u64,
    /// Masked.
    pub masked: u64,
    /// Sealed.
    pub sealed: u64,
    /// Written.
    pub written: u64,
}

impl Evidence {
    /// Nothing yet.
    pub fn new(light: Light) -> Self {
        Self { light, ..Self::default() }
    }

    /// Adds statements of one kind.
    pub fn add(&mut self, counted: &Counted) {
        match counted.kind {
            EventKind::Refused => self.refused(counted),
            EventKind::Statement if !counted.touches.is_empty() || counted.touches_unknown => self.statement(counted),
            _ => {}
        }
    }

    /// Adds one event, and the people it names.
    pub fn add_event(&mut self, event: &Event) {
        self.add(&Counted::from(event));
        if event.kind == EventKind::Statement {
            self.seen.extend(event.subjects.known.iter().cloned());
            self.people = self.seen.len() as u64;
        }
    }

    fn refused(&mut self, counted: &Counted) {
        let code = counted.code.clone().unwrap_or_else(|| "other".to_owned());
        let new = Refusals { count: 0, first_us: counted.first_us, last_us: counted.last_us };
        let refusals = self.refusals.entry(code).or_insert(new);
        refusals.count += counted.events;
        refusals.first_us = refusals.first_us.min(counted.first_us);
        refusals.last_us = refusals.last_us.max(counted.last_us);
    }

    fn statement(&mut self, counted: &Counted) {
        self.statements += counted.events;
        self.unknown_rows += counted.unknown_rows;
        self.more_people += counted.more_people;
        let (first, last) = self.span_us.unwrap_or((counted.first_us, counted.last_us));
        self.span_us = Some((first.min(counted.first_us), last.max(counted.last_us)));
        let light = |touch: &Touch| self.light.contains(&(touch.relation.to_string(), touch.column.to_string()));
        let (less, more): (Vec<&Touch>, Vec<&Touch>) = counted.touches.iter().partition(|touch| light(touch));
        let any = |shown: Shown| more.iter().any(|touch| touch.shown == shown);
        let records = &mut self.records;
        let released = match () {
            () if any(Shown::Clear) => &mut records.clear,
            () if any(Shown::Masked) => &mut records.masked,
            () if any(Shown::Sealed) => &mut records.sealed,
            () if matches!(counted.access, Access::Write | Access::Delete) => &mut records.changed,
            () if counted.touches_unknown => &mut records.unseen,
            () if less.iter().any(|touch| touch.shown == Shown::Clear) => &mut records.light,
            // Protected columns only found the rows.
            () => return,
        };
        *released += counted.rows;
        if counted.access == Access::Export {
            self.exported += counted.rows;
        }
        for touch in &counted.touches {
            let column = self.columns.entry((touch.relation.to_string(), touch.column.to_string())).or_default();
            match touch.shown {
                Shown::Clear => column.clear += counted.rows,
                Shown::Masked => column.masked += counted.rows,
                Shown::Sealed => column.sealed += counted.rows,
                Shown::Written => column.written += counted.rows,
                Shown::Searched | Shown::Refused => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Pseudonym};

    fn event(at_us: i64, shown: &[(&str, Shown)], rows: u64, person: u128) -> Event {
        let touches = shown
            .iter()
            .map(|(column, shown)| Touch { relation: "public.people".into(), column: (*column).into(), shown: *shown })
            .collect();
        let mut event = Event::new(EventKind::Statement, at_us);
        event.action = Some(Action { access: Access::Read, touches, ..Action::none() }.into());
        event.rows = rows;
        event.subjects.known = vec![Subject { kind: "user".into(), pseudonym: Pseudonym(person) }];
        event
    }

    #[test]
    fn records_count_once_by_the_most_that_was_shown_of_them() {
        let mut evidence = Evidence::new([("public.people".to_owned(), "id".to_owned())].into());
        evidence.add_event(&event(5, &[("mail", Shown::Clear), ("name", Shown::Masked)], 3, 1));
        evidence.add_event(&event(3, &[("id", Shown::Clear), ("mail", Shown::Masked)], 4, 1));
        evidence.add_event(&event(6, &[("id", Shown::Clear)], 7, 1));
        evidence.add_event(&event(9, &[("mail", Shown::Sealed)], 5, 2));
        evidence.add_event(&event(20, &[("mail", Shown::Searched)], 6, 3));
        let mut unknown = event(7, &[("name", Shown::Clear)], 2, 1);
        unknown.subjects.unknown_rows = 2;
        evidence.add_event(&unknown);
        let mut refused = Event::new(EventKind::Refused, 8);
        refused.code = Some("PV011".to_owned());
        evidence.add_event(&refused);
        assert_eq!(evidence.records, Records { clear: 5, masked: 4, sealed: 5, light: 7, ..Records::default() });
        assert_eq!((evidence.people, evidence.unknown_rows, evidence.statements), (3, 2, 6));
        let mail = &evidence.columns[&("public.people".to_owned(), "mail".to_owned())];
        assert_eq!((mail.clear, mail.masked, mail.sealed), (3, 4, 5));
        assert_eq!(evidence.refusals["PV011"], Refusals { count: 1, first_us: 8, last_us: 8 });
        assert_eq!(evidence.span_us, Some((3, 20)));
    }
}
