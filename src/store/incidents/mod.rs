//! Incidents: alerts about one actor, grouped, and what people did about them.
//!
//! In: alerts of the shipped access log, steps that people take. Out: rows of `pgveil.incidents`, a line of
//! `pgveil.incident_history` for every change, what the log has about them. Never: a step that
//! [`Progress`](crate::detect::incident::Progress) refuses, a drill among what is counted, a change without who made it.

mod evidence;
mod meter;
pub(super) mod schema;
mod signal;

use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

pub use evidence::evidence;
pub use meter::measure;
pub(super) use signal::follow;
pub use signal::{Signal, SignalOf, drill, signals};

use crate::catalog::{ask, control};
use crate::detect::Severity;
use crate::detect::incident::{Progress, Step, Verdict};
use crate::error::{Error, Result};

/// One row of `pgveil.incidents`. Times are microseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// Whose access log.
    pub deployment: String,
    /// The role, or the address, that it is about.
    pub actor: String,
    /// In which database.
    pub database: String,
    /// Rules that were broken.
    pub rules: Vec<String>,
    /// The worst of its alerts.
    #[serde(serialize_with = "severity")]
    pub severity: Severity,
    /// How many alerts.
    pub signals: i64,
    /// The first alert.
    pub first_us: i64,
    /// The last one.
    pub last_us: i64,
    /// Where the first alert's window began.
    pub since_us: i64,
    /// How far it is.
    #[serde(flatten, serialize_with = "progress")]
    pub progress: Progress,
    /// Who sees to it.
    pub owner: Option<String>,
    /// Why it could happen.
    pub root_cause: Option<String>,
    /// Why the authority was told late.
    pub delay_reasons: Option<String>,
    /// Whatever else was said.
    pub notes: Option<String>,
    /// It did not happen.
    pub drill: bool,
}

fn severity<S: serde::Serializer>(severity: &Severity, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.as_str())
}

fn progress<S: serde::Serializer>(progress: &Progress, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("stage", progress.stage())?;
    map.serialize_entry("verdict", progress.verdict.as_str())?;
    map.serialize_entry("detected_us", &progress.detected_us)?;
    for (name, at) in [
        ("aware_us", progress.aware_us),
        ("contained_us", progress.contained_us),
        ("notified_us", progress.notified_us),
        ("subjects_notified_us", progress.subjects_notified_us),
        ("closed_us", progress.closed_us),
        ("authority_due_us", progress.authority_due_us()),
        ("hipaa_due_us", progress.hipaa_due_us()),
    ] {
        map.serialize_entry(name, &at)?;
    }
    map.end()
}

/// What people may add with a step.
#[derive(Clone, Debug, Default)]
pub struct Remarks {
    /// Who does it.
    pub by: String,
    /// Who sees to the incident from now on.
    pub owner: Option<String>,
    /// Why it could happen.
    pub root_cause: Option<String>,
    /// Anything else.
    pub note: Option<String>,
}

/// One line of an incident's history.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Who: a person, or `pgveil`.
    pub by: String,
    /// `signal`, `aware`, `contained`, …
    pub change: String,
    /// What else is known of it.
    pub detail: serde_json::Value,
}

const COLUMNS: &str = "id, deployment, actor, database, rules, severity, signals, \
     (extract(epoch from first_at) * 1000000)::int8, (extract(epoch from last_at) * 1000000)::int8, \
     (extract(epoch from since) * 1000000)::int8, (extract(epoch from detected_at) * 1000000)::int8, \
     (extract(epoch from aware_at) * 1000000)::int8, (extract(epoch from contained_at) * 1000000)::int8, \
     (extract(epoch from notified_at) * 1000000)::int8, (extract(epoch from subjects_notified_at) * 1000000)::int8, \
     (extract(epoch from closed_at) * 1000000)::int8, verdict, owner, root_cause, delay_reasons, notes, drill";

fn incident(row: &Row) -> Incident {
    let progress = Progress {
        detected_us: row.get(10),
        aware_us: row.get(11),
        contained_us: row.get(12),
        notified_us: row.get(13),
        subjects_notified_us: row.get(14),
        closed_us: row.get(15),
        // A check of the table's.
        verdict: Verdict::named(row.get(16)).unwrap_or(Verdict::Open),
    };
    Incident {
        id: row.get(0),
        deployment: row.get(1),
        actor: row.get(2),
        database: row.get(3),
        rules: row.get(4),
        severity: Severity::named(row.get(5)),
        signals: row.get(6),
        first_us: row.get(7),
        last_us: row.get(8),
        since_us: row.get(9),
        progress,
        owner: row.get(17),
        root_cause: row.get(18),
        delay_reasons: row.get(19),
        notes: row.get(20),
        drill: row.get(21),
    }
}

/// Those that are open, the newest first; with `closed` at most a thousand of all.
///
/// # Errors
/// [`Error::Control`]
pub async fn list(client: &Client, closed: bool) -> Result<Vec<Incident>> {
    let which = if closed { "" } else { "where closed_at is null" };
    let sql = format!("select {COLUMNS} from pgveil.incidents {which} order by last_at desc, id desc limit 1000");
    Ok(ask(client, &sql, &[]).await?.iter().map(incident).collect())
}

/// The one with that number, kept from others until the transaction ends.
///
/// # Errors
/// [`Error::Config`] when there is none; [`Error::Control`].
pub async fn find(client: &Client, id: i64) -> Result<Incident> {
    let sql = format!("select {COLUMNS} from pgveil.incidents where id = $1 for update");
    let rows = ask(client, &sql, &[&id]).await?;
    let missing = || Error::Config(format!("there is no incident INC-{id}; `pgveil incidents list --all` has all"));
    rows.first().map(incident).ok_or_else(missing)
}

/// Its history, oldest first.
///
/// # Errors
/// [`Error::Control`]
pub async fn history(client: &Client, id: i64) -> Result<Vec<Change>> {
    const READ: &str = "select (extract(epoch from at) * 1000000)::int8, by_whom, change, detail::text \
         from pgveil.incident_history where incident = $1 order by id";
    let change = |row: &Row| Change {
        at_us: row.get(0),
        by: row.get(1),
        change: row.get(2),
        detail: serde_json::from_str(row.get(3)).unwrap_or_default(),
    };
    Ok(ask(client, READ, &[&id]).await?.iter().map(change).collect())
}

/// Takes a step, in the transaction that the caller has begun, and returns what it made of the incident.
///
/// # Errors
/// [`Error::Config`] when the step is not possible, with the way out; [`Error::Control`].
pub async fn step(
    client: &Client,
    id: i64,
    step: &Step,
    (at_us, now_us): (i64, i64),
    remarks: &Remarks,
) -> Result<Incident> {
    const WRITE: &str = "update pgveil.incidents set \
         aware_at = 'epoch'::timestamptz + $2::int8 * interval '1 us', \
         contained_at = 'epoch'::timestamptz + $3::int8 * interval '1 us', \
         notified_at = 'epoch'::timestamptz + $4::int8 * interval '1 us', \
         subjects_notified_at = 'epoch'::timestamptz + $5::int8 * interval '1 us', \
         closed_at = 'epoch'::timestamptz + $6::int8 * interval '1 us', verdict = $7, \
         owner = coalesce($8, owner), root_cause = coalesce($9, root_cause), \
         delay_reasons = coalesce($10, delay_reasons), notes = concat_ws(E'\\n', notes, $11::text) where id = $1";
    let before = find(client, id).await?;
    let refused = |refused: crate::detect::incident::Refused| Error::Config(format!("INC-{id}: {refused}"));
    let after = before.progress.after(step, at_us, now_us).map_err(refused)?;
    let (delay, exempt) = match step {
        Step::Notify { delay_reason } => (delay_reason.as_ref(), None),
        Step::Close { not_notified, .. } => (None, not_notified.as_ref().map(|why| format!("Not notified: {why}"))),
        _ => (None, None),
    };
    let said: Vec<&str> = exempt.iter().chain(&remarks.note).map(String::as_str).collect();
    let note = (!said.is_empty()).then(|| said.join("\n"));
    let verdict = after.verdict.as_str();
    let values: [&(dyn ToSql + Sync); 11] = [
        &id,
        &after.aware_us,
        &after.contained_us,
        &after.notified_us,
        &after.subjects_notified_us,
        &after.closed_us,
        &verdict,
        &remarks.owner,
        &remarks.root_cause,
        &delay,
        &note,
    ];
    client.execute(WRITE, &values).await.map_err(|e| control(&e))?;
    let detail = serde_json::json!({
        "at_us": at_us, "verdict": verdict, "owner": remarks.owner, "root_cause": remarks.root_cause,
        "delay_reason": delay, "note": note,
    });
    record(client, id, now_us, &remarks.by, step.as_str(), &detail).await?;
    find(client, id).await
}

async fn record(
    client: &Client,
    id: i64,
    at_us: i64,
    by: &str,
    change: &str,
    detail: &serde_json::Value,
) -> Result<()> {
    const WRITE: &str = "insert into pgveil.incident_history (incident, at, by_whom, change, detail) \
         values ($1, 'epoch'::timestamptz + $2::int8 * interval '1 us', $3, $4, jsonb_strip_nulls($5::text::jsonb))";
    let detail = detail.to_string();
    client.execute(WRITE, &[&id, &at_us, &by, &change, &detail]).await.map_err(|e| control(&e))?;
    Ok(())
}
