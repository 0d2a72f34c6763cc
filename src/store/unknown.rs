//! Rows of which the log does not know whose they were, added up: who asks who saw somebody must hear of them too.
//!
//! In: events. Out: rows of `pgveil.access_unknown`, by hour and tables touched. Never: an intent counted beside its outcome.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::months;
use super::rows::{At, Encoding, signed};
use crate::audit::{Kept, Unknown};
use crate::catalog::control;
use crate::error::Result;

/// Names of tables in one sum, bytes: they are part of a key, and an index holds no longer ones. Beyond it the sum is for no
/// table, which concerns everybody.
const NAMES_MAX: usize = 2_000;

const HOUR_US: i64 = 3_600_000_000;

/// What a sum is for: hour and tables.
type Key = (i64, Vec<String>);

/// Adds a batch.
///
/// # Errors
/// [`crate::error::Error::Control`]
pub(super) async fn add(client: &Client, encoding: Encoding, log: i32, events: &[Kept]) -> Result<()> {
    const ADD: &str = "insert into pgveil.access_unknown as u (hour, relations, log, events, rows, more_subjects) \
         values ($1, $2, $3, $4, $5, $6) on conflict (hour, relations, log) do update set \
         events = u.events + excluded.events, rows = u.rows + excluded.rows, \
         more_subjects = u.more_subjects + excluded.more_subjects";
    let sums = sums(encoding, events);
    if sums.is_empty() {
        return Ok(());
    }
    let add = client.prepare(ADD).await.map_err(|e| control(&e))?;
    for ((hour_us, relations), sum) in sums {
        let (events, rows, people) = (signed(sum.events), signed(sum.rows), signed(sum.people));
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&At(hour_us), &relations, &log, &events, &rows, &people];
        client.execute(&add, &values).await.map_err(|e| control(&e))?;
    }
    Ok(())
}

fn sums(encoding: Encoding, events: &[Kept]) -> BTreeMap<Key, Unknown> {
    let mut sums: BTreeMap<Key, Unknown> = BTreeMap::new();
    for Kept { event, .. } in events {
        let mut one = Unknown::default();
        one.add(event);
        if one.events > 0 {
            let relations: BTreeSet<&str> = event.action().touches.iter().map(|touch| &*touch.relation).collect();
            let mut relations: Vec<String> =
                relations.into_iter().map(|name| encoding.fit(name).into_owned()).collect();
            if relations.iter().map(|name| name.len() + 8).sum::<usize>() > NAMES_MAX {
                relations.clear();
            }
            let hour_us = months::clamped(event.at_us) / HOUR_US * HOUR_US;
            sums.entry((hour_us, relations)).or_default().add(event);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Event, EventKind, Shown, Subjects, Touch};

    fn event(kind: EventKind, at_us: i64, tables: &[&str], unknown_rows: u64) -> Kept {
        let touch = |name: &&str| Touch { relation: (*name).into(), column: "c".into(), shown: Shown::Clear };
        let action = Action { touches: tables.iter().map(touch).collect(), ..Action::none() };
        let subjects = Subjects { unknown_rows, ..Subjects::default() };
        let event = Event { action: Some(action.into()), subjects, ..Event::new(kind, at_us) };
        Kept { seq: 1, hash: [0; 32], event }
    }

    #[test]
    fn sums_are_by_hour_and_tables_and_of_outcomes() {
        let events = [
            event(EventKind::Statement, HOUR_US + 5, &["b", "a", "b"], 2),
            event(EventKind::Statement, HOUR_US + 9, &["a", "b"], 3),
            event(EventKind::Statement, 2 * HOUR_US, &["a"], 4),
            event(EventKind::Intent, HOUR_US, &["a", "b"], 50),
            event(EventKind::Statement, HOUR_US, &["a", "b"], 0),
        ];
        let sums = sums(Encoding::Utf8, &events);
        let told: Vec<_> = sums.iter().map(|((hour, tables), sum)| (*hour, tables.join(" "), *sum)).collect();
        let sum = |events, rows| Unknown { events, rows, people: 0 };
        let many: Vec<String> = (0..500).map(|n| format!("public.table_{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let wide = super::sums(Encoding::Utf8, &[event(EventKind::Statement, 0, &many, 1)]);
        assert!(
            wide.keys().all(|(_, relations)| relations.is_empty()),
            "for no table: an index has no room for the names"
        );
        assert_eq!(told, [(HOUR_US, "a b".to_owned(), sum(2, 5)), (2 * HOUR_US, "a".to_owned(), sum(1, 4))]);
    }
}
