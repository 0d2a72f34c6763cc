//! Events as rows, in PostgreSQL's binary COPY.
//!
//! In: events as the access log holds them. Out: rows of `pgveil.access_log` and `pgveil.access_subjects`. Never: a value
//! (events have no field for one), a character that the server's encoding does not have.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::pin::pin;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

use super::months;
use crate::audit::Kept;
use crate::catalog::control;
use crate::error::{Error, Result};
use crate::event::{Actor, Pseudonym};

/// 2000-01-01, where PostgreSQL's time begins.
const EPOCH_US: i64 = 946_684_800_000_000;

/// `timestamptz`, as microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub(super) i64);

impl ToSql for At {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_i64(self.0.saturating_sub(EPOCH_US));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// `uuid`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uuid(pub(super) u128);

impl From<Pseudonym> for Uuid {
    fn from(pseudonym: Pseudonym) -> Self {
        Self(pseudonym.0)
    }
}

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u128(self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

/// `jsonb`, as its text.
#[derive(Clone, Debug)]
struct Json(String);

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u8(1);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

/// What text the server can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// All of it but zero bytes.
    Utf8,
    /// Surely no more than ASCII.
    Other,
}

impl Encoding {
    /// The text with `?` for each character that would make the server refuse the whole batch.
    pub(super) fn fit(self, text: &str) -> Cow<'_, str> {
        let fits = |c: char| c != '\0' && (self == Encoding::Utf8 || c.is_ascii());
        match text.chars().all(fits) {
            true => Cow::Borrowed(text),
            false => text.chars().map(|c| if fits(c) { c } else { '?' }).collect(),
        }
    }

    fn json(self, value: &impl Serialize) -> Option<Json> {
        let text = serde_json::to_string(value).ok()?;
        // The one escape that JSON has and jsonb has not; characters outside ASCII stand as they are.
        let text = if text.contains("\\u0000") { text.replace("\\u0000", "?") } else { text };
        Some(Json(self.fit(&text).into_owned()))
    }
}

/// The word that the log has for it.
fn word(value: &impl Serialize) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}

const EVENT_COLUMNS: &[(&str, Type)] = &[
    ("log", Type::INT4),
    ("seq", Type::INT8),
    ("at", Type::TIMESTAMPTZ),
    ("kind", Type::TEXT),
    ("connection", Type::INT8),
    ("statement", Type::INT8),
    ("role", Type::TEXT),
    ("database", Type::TEXT),
    ("auth", Type::TEXT),
    ("certificate", Type::TEXT),
    ("application", Type::TEXT),
    ("client", Type::INET),
    ("purpose", Type::TEXT),
    ("purpose_by", Type::TEXT),
    ("person", Type::TEXT),
    ("person_by", Type::TEXT),
    ("trace", Type::TEXT),
    ("rules_version", Type::INT8),
    ("fingerprint", Type::TEXT),
    ("text", Type::TEXT),
    ("access", Type::TEXT),
    ("touches", Type::JSONB),
    ("touches_unknown", Type::BOOL),
    ("observed", Type::BOOL),
    ("would", Type::JSONB),
    ("rows", Type::INT8),
    ("subjects", Type::INT4),
    ("unknown_rows", Type::INT8),
    ("more_subjects", Type::INT8),
    ("canaries", Type::INT8),
    ("sqlstate", Type::TEXT),
    ("code", Type::TEXT),
    ("duration_us", Type::INT8),
    ("alert", Type::JSONB),
    ("note", Type::TEXT),
    ("hash", Type::BYTEA),
];

const SUBJECT_COLUMNS: &[(&str, Type)] =
    &[("pseudonym", Type::UUID), ("at", Type::TIMESTAMPTZ), ("log", Type::INT4), ("seq", Type::INT8)];

/// Copies events into both tables, whose partitions are there.
///
/// # Errors
/// [`Error::Control`], [`Error::Unreachable`]
pub(super) async fn copy(client: &Client, encoding: Encoding, log: i32, events: &[Kept]) -> Result<()> {
    let writer = begin(client, "pgveil.access_log", EVENT_COLUMNS).await?;
    let mut writer = pin!(writer);
    for kept in events {
        writer.as_mut().write_raw(row(encoding, log, kept)).await.map_err(|e| control(&e))?;
    }
    writer.as_mut().finish().await.map_err(|e| control(&e))?;
    let writer = begin(client, "pgveil.access_subjects", SUBJECT_COLUMNS).await?;
    let mut writer = pin!(writer);
    for kept in events {
        let (at, seq) = (At(months::clamped(kept.event.at_us)), signed(kept.seq));
        let mut people: Vec<Pseudonym> = kept.event.subjects.known.iter().map(|subject| subject.pseudonym).collect();
        people.sort_unstable();
        people.dedup();
        for person in people {
            let values: [&(dyn ToSql + Sync); 4] = [&Uuid::from(person), &at, &log, &seq];
            writer.as_mut().write(&values).await.map_err(|e| control(&e))?;
        }
    }
    writer.as_mut().finish().await.map_err(|e| control(&e))?;
    Ok(())
}

async fn begin(client: &Client, table: &str, columns: &[(&str, Type)]) -> Result<BinaryCopyInWriter, Error> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let types: Vec<Type> = columns.iter().map(|(_, ty)| ty.clone()).collect();
    let sql = format!("copy {table} ({}) from stdin binary", names.join(", "));
    let sink = client.copy_in(&sql).await.map_err(|e| control(&e))?;
    Ok(BinaryCopyInWriter::new(sink, &types))
}

/// Counts of ours are far below the bound.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// One event, in the order of [`EVENT_COLUMNS`].
fn row(encoding: Encoding, log: i32, kept: &Kept) -> Vec<Box<dyn ToSql + Sync + Send>> {
    let (event, action) = (&kept.event, kept.event.action());
    let actor: Option<&Actor> = event.actor.as_deref();
    let person = actor.and_then(|actor| actor.person.as_ref());
    let text = |text: Option<&str>| text.map(|text| encoding.fit(text).into_owned());
    let touches = Some(&action.touches).filter(|touches| !touches.is_empty());
    vec![
        Box::new(log),
        Box::new(signed(kept.seq)),
        Box::new(At(months::clamped(event.at_us))),
        Box::new(word(&event.kind)),
        Box::new(signed(event.connection)),
        Box::new(signed(event.statement)),
        Box::new(text(actor.map(|actor| actor.role.as_str()))),
        Box::new(text(actor.map(|actor| actor.database.as_str()))),
        Box::new(actor.and_then(|actor| word(&actor.auth))),
        Box::new(text(actor.and_then(|actor| actor.certificate.as_deref()))),
        Box::new(text(actor.map(|actor| actor.application.as_str()))),
        Box::new(actor.and_then(|actor| actor.client)),
        Box::new(text(actor.and_then(|actor| actor.purpose.as_deref()))),
        Box::new(actor.and_then(|actor| word(actor.purpose_by.as_ref()?))),
        Box::new(text(person.map(|known| known.person.as_str()))),
        Box::new(person.and_then(|known| word(&known.person_by))),
        Box::new(event.trace.map(|trace| trace.to_string())),
        Box::new(signed(event.rules_version)),
        Box::new(text(action.fingerprint.as_deref())),
        Box::new(text(action.text.as_deref())),
        Box::new(word(&action.access)),
        Box::new(touches.and_then(|touches| encoding.json(touches))),
        Box::new(action.touches_unknown),
        Box::new(action.observed),
        Box::new(action.would.as_deref().and_then(|would| encoding.json(would))),
        Box::new(signed(event.rows)),
        Box::new(i32::try_from(event.subjects.known.len()).unwrap_or(i32::MAX)),
        Box::new(signed(event.subjects.unknown_rows)),
        Box::new(signed(event.subjects.more)),
        Box::new(signed(event.canaries)),
        Box::new(text(event.sqlstate.as_deref())),
        Box::new(text(event.code.as_deref())),
        Box::new(signed(event.duration_us)),
        Box::new(event.alert.as_ref().and_then(|alert| encoding.json(alert))),
        Box::new(text(event.note.as_deref())),
        Box::new(kept.hash.to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventKind};

    #[test]
    fn a_row_has_the_tables_columns() {
        let kept = Kept { seq: 7, hash: [3; 32], event: Event::new(EventKind::Start, 5) };
        let row = row(Encoding::Utf8, 1, &kept);
        assert_eq!(row.len(), EVENT_COLUMNS.len());
        for (value, (name, ty)) in row.iter().zip(EVENT_COLUMNS) {
            let mut out = BytesMut::new();
            assert!(value.to_sql_checked(ty, &mut out).is_ok(), "{name} is no {ty}");
        }
    }

    #[test]
    fn no_character_can_hold_up_a_batch() {
        assert_eq!(Encoding::Utf8.fit("a\0é"), "a?é");
        assert_eq!(Encoding::Other.fit("a\0é"), "a??");
        assert_eq!(Encoding::Utf8.json(&"a\0é").unwrap().0, "\"a?é\"");
        assert_eq!(Encoding::Other.json(&["é"]).unwrap().0, "[\"?\"]");
    }
}
