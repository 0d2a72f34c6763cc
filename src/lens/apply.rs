//! Runs a plan: one transaction, one advisory lock, every statement named as it runs.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Client;

use super::facts::Facts;
use super::{Plan, Seal, Statement, bindings, facts, plan, views};
use crate::catalog::{self, CHANNEL, Connect, control};
use crate::error::{Error, Result};
use crate::keys::ColumnBinding;
use crate::policy::Policy;
use crate::policy::problem::render;
use crate::policy::rules::Rules;
use crate::sql::schema::Schema;
use crate::store;

/// "pgveil" and "apply" in one bigint: two runs at once wait for each other.
const LOCK: i64 = 0x7067_7665_696c_0001;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Print, change nothing.
    pub dry_run: bool,
    /// What becomes of lenses.
    pub lenses: Lenses,
    /// pgveil's own tables too.
    pub own_tables: bool,
    /// Only what a superuser has to run is asked for, so that its being missing is no failure.
    pub superuser: bool,
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
    /// The policy only observes.
    pub observes: bool,
    /// pgveil's own tables were there.
    pub own_tables: bool,
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
    let mut rules = compiled(policy, &schema, &|column| known(&schema, column))?;
    let mut lenses = views::read_lens_facts(client, &rules.views).await?;
    if mode.lenses == Lenses::Remove {
        let plan = Plan { statements: views::remove(&lenses, &schema), ..Plan::default() };
        Runner { client, mode, progress }.run(&plan.statements).await?;
        let (observes, own_tables) = (policy.observe.is_some(), store::version(client).await?.is_some());
        return Ok(Applied { plan, ids: Vec::new(), warnings: Vec::new(), observes, own_tables });
    }
    let relations: Vec<u32> = rules.tables.keys().copied().collect();
    let facts = facts::read(client, &schema, &relations).await?;
    let (ids, new) = identities(policy, &schema, &facts, mode, known, allocate)?;
    let mut plan = plan(policy, &schema, &facts, &ids);
    let invented = if mode.dry_run { plan.sealed.clone() } else { Vec::new() };
    let id = |column: &str| {
        let mode = policy.column(column)?.1.sealing.as_ref()?.mode;
        let made = ids.get(column).map(|id| (*id, mode)).or_else(|| known(&schema, column));
        // A dry run makes no ids; any that nobody has will do.
        made.or_else(|| {
            invented.iter().position(|full| full == column).map(|at| (u32::MAX - u32::try_from(at).unwrap_or(0), mode))
        })
    };
    let applies = mode.lenses == Lenses::Apply || !lenses.views.is_empty();
    if !plan.seals.is_empty() {
        // A view holds the types of its columns fast, and sealed columns pass through it as they are.
        let drop = lenses.over(&schema, &plan.seals);
        plan.statements.splice(0..0, drop);
        rules = compiled(policy, &Arc::new(sealed(&schema, &plan.seals)), &id)?;
    }
    let made = views::plan(&rules.views, &schema, &lenses, &facts.control);
    plan.superuser.extend(made.superuser);
    plan.lenses = made.statements;
    // Once there are lenses, they follow the policy like everything else.
    if applies && !mode.superuser {
        if !made.refused.is_empty() {
            return Err(Error::Config(render(&made.refused)));
        }
        plan.statements.append(&mut plan.lenses);
    }
    if mode.own_tables && !mode.superuser {
        let tables = store::pending(client, policy).await?;
        plan.statements.extend(tables.into_iter().map(|(why, sql)| Statement { why, sql }));
    }
    Runner { client, mode, progress }.run(&plan.statements).await?;
    if applies && !mode.dry_run {
        verify(client, policy, &schema, &id).await?;
    }
    let (observes, own_tables) = (policy.observe.is_some(), mode.own_tables);
    Ok(Applied { plan, ids: new, warnings: rules.warnings, observes, own_tables })
}

/// The catalog as it will be once those columns are sealed.
fn sealed(schema: &Schema, seals: &[Seal]) -> Schema {
    let mut after = schema.clone();
    for seal in seals {
        let Some(relation) = schema.relation(seal.table) else { continue };
        for oid in relation.children.iter().chain([&seal.table]) {
            let Some(relation) = after.relations.get_mut(oid).map(Arc::make_mut) else { continue };
            for found in relation.columns.iter_mut().filter(|found| found.name == seal.column) {
                found.sealed = Some(seal.ty.kind);
                found.type_name = format!("pgveil.sealed_{}", seal.ty.kind.name()).into();
                after.sealed_types.insert((*oid, found.attnum), seal.ty);
            }
        }
    }
    after
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
    let aside = rules.classes.iter().filter(|class| class.lens.is_none()).map(|class| class.role.as_str());
    let aside: Vec<&str> = aside.filter(|role| rules.views.iter().any(|view| *view.role == **role)).collect();
    match (ways.is_empty(), aside.is_empty()) {
        (true, true) => return Ok(()),
        (true, false) => return Err(Error::Bug("a lens that was just made is not the policy's")),
        _ => {}
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
}

impl Runner<'_> {
    async fn run(self, statements: &[super::Statement]) -> Result<()> {
        for (number, statement) in statements.iter().enumerate() {
            (self.progress)(number + 1, statements.len(), statement);
            if !self.mode.dry_run {
                let failed =
                    |error: Error| Error::Control(format!("{error}; nothing was changed. It was: {}", statement.why));
                run(self.client, &statement.sql).await.map_err(failed)?;
            }
        }
        if !self.mode.dry_run && !statements.is_empty() {
            run(self.client, &format!("select pg_notify('{CHANNEL}', '')")).await?;
        }
        Ok(())
    }
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| control(&e))
}
