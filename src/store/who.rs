//! Who saw whose data, from the copy of the log in PostgreSQL: a look into an index, whatever the log's size.
//!
//! In: what [`crate::audit::who_saw`] is asked. Out: the same answer. Never: a scan of events.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::Store;
use super::rows::{At, Uuid};
use crate::audit::{Found, Search, Seen, Unknown, unfinished};
use crate::catalog::ask;
use crate::error::{Error, Result};
use crate::event::Event;

/// Of one person, newest first.
const NEWEST: &str = "select l.log, l.seq, l.subjects + l.more_subjects, jsonb_strip_nulls(jsonb_build_object(\
     'kind', l.kind, 'at_us', (extract(epoch from l.at) * 1000000)::int8, 'connection', l.connection, \
     'statement', l.statement, 'actor', case when l.role is not null then jsonb_build_object(\
     'role', l.role, 'database', l.database, 'auth', l.auth, 'certificate', l.certificate, \
     'application', l.application, 'client', host(l.client), 'purpose', l.purpose, 'purpose_by', l.purpose_by, \
     'person', l.person, 'person_by', l.person_by) end, \
     'rules_version', l.rules_version, 'fingerprint', l.fingerprint, 'text', l.text, 'access', l.access, \
     'touches', l.touches, 'touches_unknown', l.touches_unknown, 'observed', l.observed, 'would', l.would, \
     'rows', l.rows, 'canaries', nullif(l.canaries, 0), 'trace', l.trace, 'subjects', jsonb_build_object('unknown_rows', l.unknown_rows, 'more', l.more_subjects), \
     'sqlstate', l.sqlstate, 'code', l.code, 'duration_us', l.duration_us, 'note', l.note))::text \
     from (select at, log, seq from pgveil.access_subjects where pseudonym = any($1) and at >= $2 \
     order by at desc, log desc, seq desc limit $3) s \
     join pgveil.access_log l on l.at = s.at and l.log = s.log and l.seq = s.seq \
     order by l.at desc, l.log desc, l.seq desc";

const TOTAL: &str = "select count(*) from pgveil.access_subjects where pseudonym = any($1) and at >= $2";

/// By whole hours.
const UNKNOWN: &str = "select coalesce(sum(events), 0)::int8, coalesce(sum(rows), 0)::int8, \
     coalesce(sum(more_subjects), 0)::int8 from pgveil.access_unknown \
     where hour >= date_trunc('hour', $1, 'UTC') \
     and (relations = '{}' or relations && $2 or not relations <@ $3)";

const STARTS: &str = "select note from pgveil.access_log where kind = 'start' and at >= $1 and note is not null";

const EXTENT: &str = "select (select (extract(epoch from min(at)) * 1000000)::int8 from pgveil.access_log), \
     (select (extract(epoch from max(shipped_at)) * 1000000)::int8 from pgveil.shipped), \
     (select coalesce(sum(last_seq - first_seq + 1), 0)::int8 from pgveil.ship_gaps)";

/// Asks.
///
/// # Errors
/// As [`Store::ready`] and [`Store::within`].
pub async fn who_saw(store: &Store, search: &Search) -> Result<Found> {
    store.ready().await?;
    store.within(async |client| answer(client, search).await).await
}

async fn answer(client: &Client, search: &Search) -> Result<Found> {
    let people: Vec<Uuid> = search.people.iter().copied().map(Uuid::from).collect();
    let (since, limit) = (At(search.since_us), i64::try_from(search.limit).unwrap_or(i64::MAX));
    let (theirs, known) = (&search.tables.theirs, &search.tables.known);
    let newest = ask(client, NEWEST, &[&people, &since, &limit]).await?;
    let total = number(&one(client, TOTAL, &[&people, &since]).await?, 0);
    let unknown = one(client, UNKNOWN, &[&since, theirs, known]).await?;
    let starts = ask(client, STARTS, &[&since]).await?;
    let extent = one(client, EXTENT, &[]).await?;
    Ok(Found {
        total,
        newest: newest.iter().map(seen).collect::<Result<_>>()?,
        unknown: Unknown { events: number(&unknown, 0), rows: number(&unknown, 1), people: number(&unknown, 2) },
        unfinished: starts.iter().map(|row| unfinished(row.get(0))).sum(),
        begins_us: extent.get(0),
        copied_us: extent.get(1),
        missing: number(&extent, 2),
    })
}

async fn one(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
    ask(client, sql, parameters).await?.pop().ok_or(Error::Bug("an aggregate without a row"))
}

fn number(row: &Row, column: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}

fn seen(row: &Row) -> Result<Seen> {
    let event: Event = serde_json::from_str(row.get(3))
        .map_err(|_| Error::Control("a row of pgveil.access_log is not what pgveil writes there".into()))?;
    Ok(Seen { log: row.get(0), seq: number(row, 1), people: number(row, 2), event })
}
