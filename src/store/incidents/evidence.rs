//! What the shipped access log has about an incident: added up by PostgreSQL, not row by row.

use tokio_postgres::{Client, Row};

use super::Incident;
use crate::catalog::ask;
use crate::detect::evidence::{Counted, Evidence, Light};
use crate::error::{Error, Result};
use crate::event::{Access, EventKind, Touch};

/// Who and when, as conditions on `pgveil.access_log l`.
const PART: &str = "l.at between 'epoch'::timestamptz + $1::int8 * interval '1 us' and \
     'epoch'::timestamptz + $2::int8 * interval '1 us' and l.database = $3 and \
     (l.role = $4 or $4 = 'address ' || host(l.client)) \
     and l.log in (select log from pgveil.shipped where deployment = $5)";

/// What the actor did from the incident's beginning until `until_us`; how it was established, in the log's words; and
/// whether the copy has anything at all of that time.
///
/// # Errors
/// [`Error::Control`]
pub async fn evidence(
    client: &Client,
    incident: &Incident,
    until_us: i64,
    light: &Light,
) -> Result<(Evidence, Vec<String>, bool)> {
    let counted = format!(
        "select l.kind, l.access, l.touches::text, l.touches_unknown, l.code, count(*), sum(l.rows)::int8, \
         sum(l.unknown_rows)::int8, sum(l.more_subjects)::int8, (extract(epoch from min(l.at)) * 1000000)::int8, \
         (extract(epoch from max(l.at)) * 1000000)::int8 from pgveil.access_log l \
         where l.kind in ('statement', 'refused') and {PART} group by 1, 2, 3, 4, 5"
    );
    let people = format!(
        "select count(distinct s.pseudonym) from pgveil.access_log l join pgveil.access_subjects s \
         on s.at = l.at and s.log = l.log and s.seq = l.seq where l.kind = 'statement' and {PART}"
    );
    let known = format!("select distinct l.auth from pgveil.access_log l where l.auth is not null and {PART}");
    let Incident { since_us, database, actor, deployment, .. } = incident;
    let part: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [since_us, &until_us, database, actor, deployment];
    let mut evidence = Evidence::new(light.clone());
    for row in ask(client, &counted, &part).await? {
        evidence.add(&read(&row)?);
    }
    let rows = ask(client, &people, &part).await?;
    evidence.people = rows.first().map_or(0, |row| count(row, 0));
    let auth: Vec<String> = ask(client, &known, &part).await?.iter().map(|row| row.get(0)).collect();
    let there = !auth.is_empty();
    Ok((evidence, auth, there))
}

fn read(row: &Row) -> Result<Counted> {
    let wrong = || Error::Control("a row of pgveil.access_log is not what pgveil writes there".into());
    let word = |at: usize| serde_json::Value::String(row.get(at));
    let touches: Option<String> = row.get(2);
    Ok(Counted {
        kind: serde_json::from_value::<EventKind>(word(0)).map_err(|_| wrong())?,
        access: serde_json::from_value::<Access>(word(1)).map_err(|_| wrong())?,
        touches: match touches {
            Some(touches) => serde_json::from_str::<Vec<Touch>>(&touches).map_err(|_| wrong())?,
            None => Vec::new(),
        },
        touches_unknown: row.get(3),
        code: row.get(4),
        events: count(row, 5),
        rows: count(row, 6),
        unknown_rows: count(row, 7),
        more_people: count(row, 8),
        first_us: row.get(9),
        last_us: row.get(10),
    })
}

fn count(row: &Row, at: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(at)).unwrap_or(0)
}
