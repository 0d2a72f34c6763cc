//! Runs a plan: one transaction, one advisory lock, every statement named as it runs.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Client;

use super::facts::Facts;
use super::{Plan, bindings, facts, plan, views};
use crate::catalog::{self, CHANNEL, Connect, control};
use crate::error::{Error, Result};
use crate::keys::ColumnBinding;
use crate::policy::Policy;
use crate::policy::problem::render;
use crate::policy::rules::Rules;
use crate::sql::schema::Schema;

/// "pgveil" and "apply" in one bigint: two runs at once wait for each other.
const LOCK: i64 = 0x7067_7665_696c_0001;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Print, change nothing.
    pub dry_run: bool,
    /// What becomes of lenses.
    pub lenses: Lenses,
}

/// What becomes of lenses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lenses {
    /// They stay as they are; what would be done is told.
    Keep,
    /// They become what the policy says, and their roles lose the tables.
    Apply,
    /// They go, and their roles get the tables back. Nothing else is done.
    Remove,
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
    let mut schema = Arc::new(schema);
    let mut rules = compiled(policy, &schema, &|column| known(&schema, column))?;
    let lenses = views::read_lens_facts(client, &rules.views).await?;
    if mode.lenses == Lenses::Remove {
        let plan = Plan { statements: views::remove(&lenses), ..Plan::default() };
        let mut runner = Runner { client, mode, progress, done: 0, count: plan.statements.len() };
        runner.run(&plan.statements).await?;
        return Ok(Applied { plan, ids: Vec::new(), warnings: Vec::new() });
    }
    let relations: Vec<u32> = rules.tables.keys().copied().collect();
    let facts = facts::read(client, &schema, &relations).await?;
    let (ids, new) = identities(policy, &schema, &facts, mode, known, allocate)?;
    let mut plan = plan(policy, &schema, &facts, &ids);
    let seals = !plan.sealed.is_empty();
    let made = views::plan(&rules.views, &schema, &lenses, &facts.control);
    if !lenses.creates_roles {
        plan.superuser.extend(made.superuser);
    }
    // Once there are lenses, they follow the policy like everything else.
    let applies = mode.lenses == Lenses::Apply || !lenses.views.is_empty();
    plan.lenses = made.statements;
    let count = plan.statements.len() + if applies { plan.lenses.len() } else { 0 };
    let mut runner = Runner { client, mode, progress, done: 0, count };
    if !applies {
        runner.run(&plan.statements).await?;
        return Ok(Applied { plan, ids: new, warnings: rules.warnings });
    }
    if seals {
        // A view holds the types of its columns fast.
        let drop = views::over(&schema, &plan.sealed);
        plan.statements.splice(0..0, drop);
    }
    runner.run(&plan.statements).await?;
    if seals && !mode.dry_run {
        // Sealed columns pass through a lens as they are.
        schema = Arc::new(Schema { system_identifier: schema.system_identifier, ..catalog::read(client).await? });
        let id = |column: &str| {
            let mode = policy.column(column)?.1.sealing.as_ref()?.mode;
            ids.get(column).map(|id| (*id, mode)).or_else(|| known(&schema, column))
        };
        rules = compiled(policy, &schema, &id)?;
        let lenses = views::read_lens_facts(client, &rules.views).await?.with_rights_of(lenses);
        let made = views::plan(&rules.views, &schema, &lenses, &facts.control);
        plan.lenses = made.statements;
        runner.count = plan.statements.len() + plan.lenses.len();
    }
    if !made.refused.is_empty() {
        return Err(Error::Config(render(&made.refused)));
    }
    runner.run(&plan.lenses).await?;
    if !mode.dry_run {
        verify(client, policy, &schema, &|column| {
            let mode = policy.column(column)?.1.sealing.as_ref()?.mode;
            ids.get(column).map(|id| (*id, mode)).or_else(|| known(&schema, column))
        })
        .await?;
    }
    plan.statements.append(&mut plan.lenses);
    Ok(Applied { plan, ids: new, warnings: rules.warnings })
}

/// Fails, and with it all that was done, while a role has a way around its lens.
async fn verify(
    client: &Client,
    policy: &Policy,
    before: &Schema,
    id: &dyn Fn(&str) -> Option<(u32, crate::policy::rules::Mode)>,
) -> Result<()> {
    let schema = Schema { system_identifier: before.system_identifier, ..catalog::read(client).await? };
    let mut rules = compiled(policy, &Arc::new(schema), id)?;
    let ways = catalog::trust(Some(client), &mut rules).await?;
    if ways.is_empty() {
        return Ok(());
    }
    let mut said = String::from("nothing was changed: a lens is no protection while its role can go around it\n");
    for way in &ways {
        said.push_str(&format!("\n{way} ({})", way.kind));
        match &way.sql {
            Some(sql) => said.push_str(&format!("\n    {}", sql.replace('\n', "\n    "))),
            None => said.push_str(&format!("\n    {}", way.kind.meaning())),
        }
    }
    Err(Error::Config(said))
}

fn compiled(
    policy: &Policy,
    schema: &Arc<Schema>,
    id: &dyn Fn(&str) -> Option<(u32, crate::policy::rules::Mode)>,
) -> Result<Rules> {
    crate::policy::compile(policy, schema.clone(), id, 0).map_err(|problems| Error::Config(render(&problems)))
}

/// The id of every column that is sealed or will be, and those made by this run.
type Identities = (HashMap<String, u32>, Vec<(String, u32)>);

fn identities(
    policy: &Policy,
    schema: &Schema,
    facts: &Facts,
    mode: Mode,
    known: Known<'_>,
    allocate: Allocate<'_>,
) -> Result<Identities> {
    let (mut ids, mut new, mut missing) = (HashMap::new(), Vec::new(), Vec::new());
    for binding in bindings(policy, schema, facts) {
        match known(schema, &binding.column) {
            // A column that holds cells keeps the id they carry, also when a dump of it was restored elsewhere.
            Some((id, _)) if !binding.empty => {
                ids.insert(binding.column, id);
            }
            _ => missing.push(binding),
        }
    }
    if mode.dry_run {
        ids.extend(missing.iter().filter_map(|b| Some((b.column.clone(), known(schema, &b.column)?.0))));
    } else if !missing.is_empty() {
        for (binding, (id, made)) in missing.iter().zip(allocate(&missing)?) {
            ids.insert(binding.column.clone(), id);
            if made {
                new.push((binding.column.clone(), id));
            }
        }
    }
    Ok((ids, new))
}

/// Runs statements, or tells them.
struct Runner<'a> {
    client: &'a Client,
    mode: Mode,
    progress: Progress<'a>,
    done: usize,
    count: usize,
}

impl Runner<'_> {
    async fn run(&mut self, statements: &[super::Statement]) -> Result<()> {
        for statement in statements {
            self.done += 1;
            (self.progress)(self.done, self.count, statement);
            if !self.mode.dry_run {
                let failed =
                    |error: Error| Error::Control(format!("{error}; nothing was changed. It was: {}", statement.why));
                run(self.client, &statement.sql).await.map_err(failed)?;
            }
        }
        if !self.mode.dry_run && self.done == self.count && self.count > 0 {
            run(self.client, &format!("select pg_notify('{CHANNEL}', '')")).await?;
        }
        Ok(())
    }
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| control(&e))
}
