//! Alerts become incidents, in the transaction that copies them: each is counted once, whatever fails.

use std::borrow::Cow;

use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::{Incident, find, record};
use crate::audit::Kept;
use crate::catalog::{ask, control};
use crate::detect::Severity;
use crate::detect::incident::GROUP_US;
use crate::error::{Error, Result};
use crate::event::{Alert, Event, EventKind};

/// "pgveil" and "incident" in one bigint: two proxies do not both begin an incident for the same actor.
const LOCK: &str = "select pg_advisory_xact_lock(8099004908010602499)";
/// A sink that does not work is nobody's data.
const NOT_OURS: &[&str] = &["sink", "test"];

/// One alert on its way into an incident.
#[derive(Clone, Debug)]
pub struct Signal {
    actor: String,
    database: String,
    rules_version: i64,
    at_us: i64,
    alert: Alert,
    /// Where it stands, for the history.
    seq: u64,
}

impl Signal {
    fn of(seq: u64, event: &Event) -> Option<Self> {
        let alert = event.alert.as_ref().filter(|_| event.kind == EventKind::Alert)?;
        if NOT_OURS.contains(&alert.rule.as_str()) {
            return None;
        }
        let actor = event.actor.as_deref();
        let name = match (alert.address, actor) {
            (Some(address), _) => format!("address {address}"),
            (None, Some(actor)) => actor.role.clone(),
            (None, None) => "pgveil".to_owned(),
        };
        Some(Self {
            actor: name,
            database: actor.map(|actor| actor.database.clone()).unwrap_or_default(),
            rules_version: number(event.rules_version),
            at_us: event.at_us,
            alert: alert.clone(),
            seq,
        })
    }
}

/// One row of `pgveil.incident_signals`.
#[derive(Clone, Debug, Serialize)]
pub struct SignalOf {
    /// The rule that was broken.
    pub rule: String,
    /// Under this version of the rules.
    pub rules_version: i64,
    /// The worst.
    pub severity: String,
    /// How often.
    pub signals: i64,
    /// Microseconds since the Unix epoch.
    pub first_us: i64,
    /// Microseconds since the Unix epoch.
    pub last_us: i64,
    /// The most that was counted.
    pub observed: i64,
    /// What was allowed.
    pub threshold: i64,
    /// Within so many seconds.
    pub window_s: i64,
    /// What the last one said.
    pub message: String,
}

/// What an incident's alerts were.
///
/// # Errors
/// [`Error::Control`]
pub async fn signals(client: &Client, id: i64) -> Result<Vec<SignalOf>> {
    const READ: &str = "select rule, rules_version, severity, signals, (extract(epoch from first_at) * 1000000)::int8, \
         (extract(epoch from last_at) * 1000000)::int8, observed, threshold, window_s, message \
         from pgveil.incident_signals where incident = $1 order by first_at, rule, rules_version";
    let signal = |row: &Row| SignalOf {
        rule: row.get(0),
        rules_version: row.get(1),
        severity: row.get(2),
        signals: row.get(3),
        first_us: row.get(4),
        last_us: row.get(5),
        observed: row.get(6),
        threshold: row.get(7),
        window_s: row.get(8),
        message: row.get(9),
    };
    Ok(ask(client, READ, &[&id]).await?.iter().map(signal).collect())
}

/// Takes the alerts of a batch in. `fit` makes text what the server can hold.
///
/// # Errors
/// [`Error::Control`]
pub(in crate::store) async fn follow(
    client: &Client,
    fit: impl Fn(&str) -> Cow<'_, str>,
    log: i32,
    events: &[Kept],
) -> Result<()> {
    const WHOSE: &str = "select deployment from pgveil.shipped where log = $1";
    let signals: Vec<Signal> = events.iter().filter_map(|kept| Signal::of(kept.seq, &kept.event)).collect();
    if signals.is_empty() {
        return Ok(());
    }
    let rows = ask(client, WHOSE, &[&log]).await?;
    let deployment: &str =
        rows.first().map(|row| row.get(0)).ok_or(Error::Bug("a log is copied and not registered"))?;
    client.batch_execute(LOCK).await.map_err(|e| control(&e))?;
    for mut signal in signals {
        for text in [&mut signal.actor, &mut signal.database, &mut signal.alert.rule, &mut signal.alert.message] {
            *text = fit(text).into_owned();
        }
        join(client, deployment, Some(log), &signal, false).await?;
    }
    Ok(())
}

/// A drill: an incident as if `event`, an alert, had been raised. Returns its number.
///
/// # Errors
/// [`Error::Control`]; [`Error::Bug`] if it is no alert.
pub async fn drill(client: &Client, deployment: &str, event: &Event) -> Result<Incident> {
    let signal = Signal::of(0, event).ok_or(Error::Bug("a drill without an alert"))?;
    let id = join(client, deployment, None, &signal, true).await?;
    find(client, id).await
}

/// Adds it to the actor's open incident, or begins one.
async fn join(client: &Client, deployment: &str, log: Option<i32>, signal: &Signal, drill: bool) -> Result<i64> {
    const OPEN: &str = "select id, severity from pgveil.incidents where deployment = $1 and actor = $2 and database = $3 \
         and closed_at is null and not drill and \
         'epoch'::timestamptz + $4::int8 * interval '1 us' between first_at - $5::int8 * interval '1 us' \
         and last_at + $5::int8 * interval '1 us' order by last_at desc limit 1";
    const BEGIN: &str = "insert into pgveil.incidents \
         (deployment, actor, database, rules, severity, signals, first_at, last_at, since, detected_at, drill) \
         values ($1, $2, $3, array[$4::text], $5, 1, 'epoch'::timestamptz + $6::int8 * interval '1 us', \
         'epoch'::timestamptz + $6::int8 * interval '1 us', 'epoch'::timestamptz + $7::int8 * interval '1 us', \
         'epoch'::timestamptz + $6::int8 * interval '1 us', $8) returning id";
    const ADD: &str = "update pgveil.incidents set signals = signals + 1, severity = $3, \
         rules = case when $2 = any(rules) then rules else rules || $2::text end, \
         first_at = least(first_at, 'epoch'::timestamptz + $4::int8 * interval '1 us'), \
         last_at = greatest(last_at, 'epoch'::timestamptz + $4::int8 * interval '1 us'), \
         since = least(since, 'epoch'::timestamptz + $5::int8 * interval '1 us') where id = $1";
    let Signal { actor, database, at_us, alert, .. } = signal;
    let since = at_us.saturating_sub(number(alert.window_s).saturating_mul(1_000_000));
    let open =
        if drill { Vec::new() } else { ask(client, OPEN, &[&deployment, actor, database, at_us, &GROUP_US]).await? };
    let new = Severity::named(&alert.severity);
    let id: i64 = match open.first() {
        Some(row) => {
            let worst = new.max(Severity::named(row.get(1))).as_str();
            let id: i64 = row.get(0);
            client.execute(ADD, &[&id, &alert.rule, &worst, at_us, &since]).await.map_err(|e| control(&e))?;
            id
        }
        None => {
            let worst = new.as_str();
            let values: [&(dyn ToSql + Sync); 8] =
                [&deployment, actor, database, &alert.rule, &worst, at_us, &since, &drill];
            let rows = ask(client, BEGIN, &values).await?;
            rows.first().map(|row| row.get(0)).ok_or(Error::Bug("an insert without its row"))?
        }
    };
    count(client, id, signal).await?;
    let detail = serde_json::json!({
        "rule": alert.rule, "severity": new.as_str(), "observed": alert.observed, "threshold": alert.threshold,
        "log": log, "seq": signal.seq, "message": alert.message,
    });
    record(client, id, *at_us, "pgveil", "signal", &detail).await?;
    Ok(id)
}

async fn count(client: &Client, id: i64, signal: &Signal) -> Result<()> {
    const READ: &str =
        "select severity from pgveil.incident_signals where incident = $1 and rule = $2 and rules_version = $3";
    const WRITE: &str = "insert into pgveil.incident_signals as s \
         (incident, rule, rules_version, severity, signals, first_at, last_at, observed, threshold, window_s, message) \
         values ($1, $2, $3, $4, 1, 'epoch'::timestamptz + $5::int8 * interval '1 us', \
         'epoch'::timestamptz + $5::int8 * interval '1 us', $6, $7, $8, $9) \
         on conflict (incident, rule, rules_version) do update set severity = excluded.severity, \
         signals = s.signals + 1, first_at = least(s.first_at, excluded.first_at), \
         last_at = greatest(s.last_at, excluded.last_at), observed = greatest(s.observed, excluded.observed), \
         threshold = excluded.threshold, window_s = greatest(s.window_s, excluded.window_s), message = excluded.message";
    let Signal { rules_version, at_us, alert, .. } = signal;
    let before = ask(client, READ, &[&id, &alert.rule, rules_version]).await?;
    let new = Severity::named(&alert.severity);
    let worst = before.first().map_or(new, |row| new.max(Severity::named(row.get(0)))).as_str();
    let [observed, threshold, window] = [alert.observed, alert.threshold, alert.window_s].map(number);
    let values: [&(dyn ToSql + Sync); 9] =
        [&id, &alert.rule, rules_version, &worst, at_us, &observed, &threshold, &window, &alert.message];
    client.execute(WRITE, &values).await.map_err(|e| control(&e))?;
    Ok(())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
