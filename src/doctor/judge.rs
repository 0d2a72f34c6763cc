//! The examination: what is checked in which order, and with which rules.
//!
//! In: what is given, the control connection. Out: checks. Never: an end at the first thing that is wrong; without the
//! keyring's ids the recorded ones serve, so that everything else is still looked at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use super::{Check, Given, Step, around, ask, columns, copies, hba, lens, readers, server};
use crate::catalog;
use crate::error::{Error, Result};
use crate::policy::rules::{Mode, Rules};
use crate::policy::{self, Policy};
use crate::sql::name::quoted;
use crate::sql::schema::Schema;

/// A row of `pgveil.columns`.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) relation: u32,
    pub(super) attnum: i16,
    pub(super) column: String,
    pub(super) id: i64,
}

const RECORDED: &str = "select relation::oid, attnum, column_name::text, column_id from pgveil.columns";

const FOUNDATION: &str = "select to_regnamespace('pgveil') is not null, to_regclass('pgveil.columns') is not null, \
     exists (select from pg_event_trigger where evtname = 'pgveil_catalog' and evtenabled <> 'D')";

/// Everything that can be seen from the control connection; with the rules, if policy and catalog agree.
///
/// # Errors
/// [`Error::Control`]: the catalog cannot be read at all.
pub async fn examine(client: &Client, given: &Given<'_>) -> Result<(Vec<Check>, Option<Rules>)> {
    let mut found = Vec::new();
    client.batch_execute(catalog::SETTINGS).await.map_err(|e| catalog::control(&e))?;
    if given.full {
        client.batch_execute("set statement_timeout = 0").await.map_err(|e| catalog::control(&e))?;
    }
    if let Some(place) = &given.policy.observe {
        let message = format!("the policy only observes: {place} says mode = \"observe\", so no plaintext is hidden");
        let way_out = "look at `pgveil report observe`, and write mode = \"enforce\"";
        found.push(Check::hole("mode", message).todo_by_hand(way_out));
    }
    server::clock(client, &mut found).await;
    server::tls(client, &given.legs, &mut found).await;
    let schema = Arc::new(catalog::load(client).await?);
    let recorded = foundation(client, given.policy, &mut found).await?;
    columns::domains(client, &schema, &mut found).await;
    keyring(given, &schema, &mut found);
    let rules = compiled(given, &schema, &recorded, &mut found);
    if let Some(rules) = &rules {
        columns::sealed(client, given, rules, &recorded, &mut found).await;
        lens::views(client, rules, &mut found).await;
        readers::columns(client, rules, &mut found).await;
        around::ways(client, rules, &mut found).await;
        around::strangers(client, rules, &mut found).await;
        copies::tables(rules, given.policy, &mut found);
        server::logging(client, rules, &mut found).await;
        let mut roles: Vec<&str> = rules.class_of.keys().map(String::as_str).collect();
        roles.sort_unstable();
        hba::paths(client, &schema, &roles, &mut found).await;
    }
    around::unclassified(client, given.policy, &schema, &mut found).await;
    named(client, &schema.database, &mut found).await;
    Ok((found, rules))
}

/// CONTROL and DATABASE in the way out become what they stand for.
async fn named(client: &Client, database: &str, found: &mut [Check]) {
    let Ok(rows) = ask(client, "select current_user::text", &[]).await else { return };
    let Some(control) = rows.first().map(|row| row.get::<_, String>(0)) else { return };
    for step in found.iter_mut().flat_map(|check| &mut check.way_out) {
        if let Step::Sql(text) | Step::Run(text) = step {
            *text = text
                .replace(" CONTROL", &format!(" {}", quoted(&control)))
                .replace(" DATABASE", &format!(" {}", quoted(database)));
        }
    }
}

async fn foundation(client: &Client, policy: &Policy, found: &mut Vec<Check>) -> Result<Vec<Recorded>> {
    let asked = |e: super::Unanswered| Error::Control(e.said);
    let row = ask(client, FOUNDATION, &[]).await.map_err(asked)?;
    let fact = |at: usize| row.first().is_some_and(|row| row.get(at));
    let encrypts = policy.tables.iter().flat_map(|table| &table.columns).any(|column| column.sealing.is_some());
    if !fact(0) || !fact(1) {
        let message = "schema pgveil or its table of sealed columns is not in the database";
        let check = if encrypts { Check::hole("schema", message) } else { Check::warning("schema", message) };
        found.push(check.run("pgveil apply"));
        return Ok(Vec::new());
    }
    found.push(Check::ok("schema", "schema pgveil and its table of sealed columns are there"));
    found.push(if fact(2) {
        Check::ok("event_trigger", "DDL tells the proxies at once")
    } else {
        let message = "no event trigger tells the proxies of DDL: they notice it by polling, up to 2 s later";
        Check::warning("event_trigger", message).run("pgveil apply --superuser | psql -U postgres -d DATABASE")
    });
    match ask(client, RECORDED, &[]).await {
        Ok(rows) => {
            let recorded = |row: &tokio_postgres::Row| Recorded {
                relation: row.get(0),
                attnum: row.get(1),
                column: row.get(2),
                id: row.get(3),
            };
            Ok(rows.iter().map(recorded).collect())
        }
        Err(error) => {
            let message = format!("pgveil.columns cannot be read: {}", error.said);
            found.push(Check::warning("schema", message).sql("grant select on pgveil.columns to public"));
            Ok(Vec::new())
        }
    }
}

/// Every sealed column's id is in the keyring.
fn keyring(given: &Given<'_>, schema: &Schema, found: &mut Vec<Check>) {
    let Some(keyring) = given.keyring else { return };
    let mut known = 0;
    for table in &given.policy.tables {
        let Some(relation) = schema.named(&table.schema, &table.name) else { continue };
        for column in &table.columns {
            let sealed = relation.column(&column.name.value).is_some_and(|live| live.sealed.is_some());
            let Some(sealing) = column.sealing.as_ref().filter(|_| sealed) else { continue };
            let own = format!("{}.{}", table.qualified(), column.name.value);
            let owner = sealing.same_as.as_ref().map_or(own.as_str(), |other| &other.value);
            if catalog::column_id(keyring, schema, owner).is_some() {
                known += 1;
                continue;
            }
            let message = "the keyring has no key of this column: what is sealed in it does not open";
            let check = Check::hole("keyring", message).table(&table.qualified()).column(&column.name.value);
            found.push(check.todo_by_hand("put the keyring file back that `pgveil apply` sealed this column with"));
        }
    }
    found.push(Check::ok("keyring", format!("opens, and knows {known} sealed columns")));
}

/// Policy and catalog as one. Where the keyring has no id the recorded one stands in, or any.
fn compiled(given: &Given<'_>, schema: &Arc<Schema>, recorded: &[Recorded], found: &mut Vec<Check>) -> Option<Rules> {
    let invented: RefCell<HashMap<String, u32>> = RefCell::default();
    let ids = |name: &str| -> Option<(u32, Mode)> {
        if let Some(known) = given.keyring.and_then(|ring| catalog::column_id(ring, schema, name)) {
            return Some(known);
        }
        let (table, column) = given.policy.column(name)?;
        let mode = column.sealing.as_ref()?.mode;
        let relation = schema.named(&table.schema, &table.name)?;
        let live = relation.column(&column.name.value)?;
        let same = |r: &&Recorded| r.relation == relation.oid && r.attnum == live.attnum;
        if let Some(id) = recorded.iter().find(same).and_then(|r| u32::try_from(r.id).ok()) {
            return Some((id, mode));
        }
        let mut invented = invented.borrow_mut();
        let next = u32::MAX - u32::try_from(invented.len()).unwrap_or(0);
        Some((*invented.entry(name.to_owned()).or_insert(next), mode))
    };
    match policy::compile(given.policy, schema.clone(), &ids, 0) {
        Ok(rules) => {
            let message = format!(
                "policy and catalog agree: {} tables, {} sealed columns",
                rules.tables.len(),
                rules.sealed.len()
            );
            found.push(Check::ok("catalog", message));
            // What has a check of its own is not said twice.
            let own = |w: &&String| w.contains("lens is not in the database") || w.contains("is not sealed yet");
            found.extend(rules.warnings.iter().filter(|w| !own(w)).map(|w| Check::warning("catalog", w.clone())));
            Some(rules)
        }
        Err(problems) => {
            for problem in problems {
                let message = format!("policy and catalog contradict each other: {}", problem.message);
                let check = Check::hole("catalog", message);
                found.push(match problem.hint {
                    Some(hint) => check.todo_by_hand(hint),
                    None => check.run("pgveil check"),
                });
            }
            None
        }
    }
}
