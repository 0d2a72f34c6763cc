//! Runs a plan: one transaction, one advisory lock, every statement named as it runs.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Client;

use super::{Plan, bindings, facts, plan};
use crate::catalog::{self, CHANNEL, Connect, control};
use crate::error::{Error, Result};
use crate::keys::ColumnBinding;
use crate::policy::Policy;
use crate::policy::problem::{Problem, render};
use crate::sql::schema::Schema;

/// "pgveil" and "apply" in one bigint: two runs at once wait for each other.
const LOCK: i64 = 0x7067_7665_696c_0001;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Print, change nothing.
    pub dry_run: bool,
    /// Also run [`Plan::grants`].
    pub grants: bool,
}

/// Told about each statement before it runs: its number from 1, how many, and the statement.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize, &super::Statement);

/// What was done.
#[derive(Debug)]
pub struct Applied {
    /// What was planned; its statements have run unless it was a dry run.
    pub plan: Plan,
    /// Ids made in the keyring by this run.
    pub ids: Vec<(String, u32)>,
    /// Warnings of the policy against the catalog as it is now.
    pub warnings: Vec<String>,
}

/// Column ids for bindings: from the keyring file, made where they are missing.
pub(super) type Allocate<'a> = &'a mut dyn FnMut(&[ColumnBinding]) -> Result<Vec<(u32, bool)>>;

/// The keyring's id and mode of a `schema.table.column` in that database.
pub(super) type Known<'a> = &'a dyn Fn(&Schema, &str) -> Option<(u32, crate::policy::rules::Mode)>;

/// Plans against the live catalog and, unless it is a dry run, executes the plan in one transaction. `allocate` makes
/// missing ids and is not called in a dry run.
///
/// # Errors
/// The policy contradicts the catalog, the keyring refuses, or a statement fails; then nothing has changed in the
/// database.
pub async fn apply(
    connect: &Connect,
    policy: &Policy,
    mode: Mode,
    known: Known<'_>,
    allocate: Allocate<'_>,
    progress: Progress<'_>,
) -> Result<Applied> {
    let client = connect.open(Arc::new(Notify::new())).await?;
    run(&client, catalog::SETTINGS).await?;
    let system_identifier = catalog::system_identifier(&client).await?;
    let begin = if mode.dry_run { "begin isolation level repeatable read read only" } else { "begin" };
    run(&client, begin).await?;
    if !mode.dry_run {
        run(&client, &format!("select pg_advisory_xact_lock({LOCK})")).await?;
    }
    let mut schema = catalog::read(&client).await?;
    schema.system_identifier = system_identifier;
    let done = within(&client, policy, schema, mode, known, allocate, progress).await;
    let end = if done.is_ok() && !mode.dry_run { "commit" } else { "rollback" };
    let ended = run(&client, end).await;
    let done = done?;
    ended?;
    Ok(done)
}

async fn within(
    client: &Client,
    policy: &Policy,
    schema: Schema,
    mode: Mode,
    known: Known<'_>,
    allocate: Allocate<'_>,
    progress: Progress<'_>,
) -> Result<Applied> {
    let schema = Arc::new(schema);
    let id = |column: &str| known(&schema, column);
    let problems = |problems: Vec<Problem>| Error::Config(render(&problems));
    let rules = crate::policy::compile(policy, schema.clone(), &id, 0).map_err(problems)?;
    let relations: Vec<u32> = rules.tables.keys().copied().collect();
    let facts = facts::read(client, &schema, &relations).await?;
    let (mut ids, mut new, mut missing) = (HashMap::new(), Vec::new(), Vec::new());
    for binding in bindings(policy, &schema, &facts) {
        match id(&binding.column) {
            // A column that holds cells keeps the id they carry, also when a dump of it was restored elsewhere.
            Some((id, _)) if !binding.empty => {
                ids.insert(binding.column, id);
            }
            _ => missing.push(binding),
        }
    }
    if mode.dry_run {
        ids.extend(missing.iter().filter_map(|b| Some((b.column.clone(), id(&b.column)?.0))));
    } else if !missing.is_empty() {
        for (binding, (id, made)) in missing.iter().zip(allocate(&missing)?) {
            ids.insert(binding.column.clone(), id);
            if made {
                new.push((binding.column.clone(), id));
            }
        }
    }
    let mut plan = plan(policy, &schema, &facts, &ids);
    if mode.grants {
        plan.statements.append(&mut plan.grants);
    }
    let count = plan.statements.len();
    for (number, statement) in plan.statements.iter().enumerate() {
        progress(number + 1, count, statement);
        if !mode.dry_run {
            let failed =
                |error: Error| Error::Control(format!("{error}; nothing was changed. It was: {}", statement.why));
            run(client, &statement.sql).await.map_err(failed)?;
        }
    }
    if count > 0 && !mode.dry_run {
        run(client, &format!("select pg_notify('{CHANNEL}', '')")).await?;
    }
    Ok(Applied { plan, ids: new, warnings: rules.warnings })
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| control(&e))
}
