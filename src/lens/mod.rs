//! Policy → DDL: schema `pgveil`, the sealed domains, sealed columns, and the lenses.
//!
//! In: checked policy, catalog, column ids. Out: a plan that can be read as SQL, and its execution in one transaction.
//! Never: a statement that could lose a value (a table with rows is left alone, and a race fails the transaction), a
//! revoke from a role that has no lens.

mod acting;
mod apply;
mod columns;
mod ddl;
mod facts;
mod views;

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use apply::{Applied, Lenses, Mode as ApplyMode, Progress, apply};
pub use ddl::{Statement, sealed_constraint};
pub use facts::{Facts, read as read_facts};
pub use views::{LensFacts, read_lens_facts};

use crate::crypto::SealMode;
use crate::keys::ColumnBinding;
use crate::policy::Policy;
use crate::policy::problem::Problem;
use crate::policy::rules::Mode;
use crate::sql::schema::Schema;
use crate::wire::types::{Kind, SqlType};
use columns::{Wanted, foreign_keys_to_remake, judge, wanted};

/// What `pgveil apply` would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// In order; empty when nothing is to be done.
    pub statements: Vec<Statement>,
    /// Columns sealed by it, `schema.table.column`.
    pub sealed: Vec<String>,
    /// The same.
    seals: Vec<Seal>,
    /// Columns of tables that hold rows: they wait for `pgveil seal`.
    pub waiting: Vec<String>,
    /// Columns that cannot be sealed as things stand.
    pub refused: Vec<Problem>,
    /// What only a superuser can make and is missing: the event trigger, the verifier function, the owner of lenses.
    pub superuser: Vec<Statement>,
    /// What makes the lenses what the policy says, or removes them; run only on request.
    pub lenses: Vec<Statement>,
}

/// A column that becomes sealed.
#[derive(Clone, Debug)]
struct Seal {
    table: u32,
    column: Arc<str>,
    ty: SqlType,
}

impl Plan {
    /// Every column the policy encrypts is sealed once the statements have run.
    pub fn complete(&self) -> bool {
        self.waiting.is_empty() && self.refused.is_empty()
    }
}

/// The columns that need an id in the keyring: those that are sealed or can be sealed now.
pub fn bindings(policy: &Policy, schema: &Schema, facts: &Facts) -> Vec<ColumnBinding> {
    let all = wanted(policy, schema);
    let verdict = judge(&all, schema, facts);
    let mut bindings: Vec<ColumnBinding> = Vec::new();
    for column in all.iter().filter(|w| w.sealed).chain(&verdict.ready) {
        let owner = column.owner();
        // `same_as` always names a listed column; its own `was` decides about its id.
        let own = all.iter().find(|w| w.full() == owner).unwrap_or(column);
        if bindings.iter().all(|b| b.column != owner) {
            bindings.push(ColumnBinding {
                system_identifier: schema.system_identifier,
                database: schema.database.clone(),
                column: owner,
                mode: match column.sealing.mode {
                    Mode::Randomized => SealMode::Randomized,
                    Mode::Deterministic => SealMode::Deterministic,
                },
                was: own.sealing.was.as_ref().map(|at| at.value.clone()),
                empty: !own.sealed && !column.sealed,
            });
        }
    }
    bindings
}

/// The DDL that makes the database what the policy says. `ids` are the column ids by `schema.table.column`; a column
/// without one (a dry run) is recorded as 0.
pub fn plan(policy: &Policy, schema: &Schema, facts: &Facts, ids: &HashMap<String, u32>) -> Plan {
    let all = wanted(policy, schema);
    let verdict = judge(&all, schema, facts);
    let mut statements = foundation(schema, facts);
    let keys = foreign_keys_to_remake(&verdict.ready, facts);
    for key in &keys {
        let table = schema.relation(key.from.0).map(|r| ddl::relation(r)).unwrap_or_default();
        let sql = format!("alter table {table} drop constraint {}", ddl::name(&key.name));
        statements.push(Statement::new("both ends change their type", sql));
    }
    statements.extend(seal_tables(&verdict.ready));
    for key in &keys {
        let table = schema.relation(key.from.0).map(|r| ddl::relation(r)).unwrap_or_default();
        let sql = format!("alter table {table} add constraint {} {}", ddl::name(&key.name), key.definition);
        statements.push(Statement::new("the foreign key again, now between envelopes", sql));
    }
    statements.extend(record(&all, &verdict.ready, facts, ids));
    Plan {
        statements,
        sealed: verdict.ready.iter().map(Wanted::full).collect(),
        seals: verdict
            .ready
            .iter()
            .map(|w| Seal { table: w.relation.oid, column: w.column.clone(), ty: w.ty })
            .collect(),
        waiting: verdict.full.iter().map(Wanted::full).collect(),
        refused: verdict.refused,
        superuser: superuser_script(facts),
        lenses: Vec::new(),
    }
}

/// Tells one list of statements from another.
fn mark(statements: &[Statement]) -> String {
    let text: String = statements.iter().map(|statement| statement.sql.as_str()).collect();
    format!("pgveil masks {}", hex::encode(&Sha256::digest(text.as_bytes())[..16]))
}

/// Schema, domains, table, event trigger: whatever is missing.
fn foundation(schema: &Schema, facts: &Facts) -> Vec<Statement> {
    let mut statements = Vec::new();
    if !facts.schema {
        statements.extend(ddl::schema());
    }
    let missing = Kind::ALL.iter().filter(|kind| !schema.sealed_domains.values().any(|known| known == *kind));
    statements.extend(missing.map(|kind| ddl::domain(*kind)));
    if !facts.columns_table {
        statements.extend(ddl::columns_table());
    }
    if facts.superuser {
        statements.extend(privileged(facts));
    }
    statements
}

/// Event trigger and verifier function: whatever is missing of what only a superuser can make.
fn privileged(facts: &Facts) -> Vec<Statement> {
    let mut statements = Vec::new();
    if !facts.event_trigger {
        statements.extend(ddl::event_trigger());
    }
    if !facts.verifier_function {
        statements.extend(ddl::verifier_function(&facts.control));
    }
    statements
}

/// The same as a script for a superuser, in whatever order it and `apply` are run; empty when nothing is missing.
fn superuser_script(facts: &Facts) -> Vec<Statement> {
    let missing = privileged(facts);
    let mut script = Vec::new();
    if !facts.schema && !missing.is_empty() {
        script.extend(ddl::schema_of(&facts.control));
    }
    script.extend(missing);
    script
}

/// One ALTER TABLE per table.
fn seal_tables(ready: &[Wanted<'_>]) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut seen: Vec<u32> = Vec::new();
    for first in ready {
        if seen.contains(&first.relation.oid) {
            continue;
        }
        seen.push(first.relation.oid);
        let ours: Vec<&Wanted<'_>> = ready.iter().filter(|w| w.relation.oid == first.relation.oid).collect();
        let clauses: Vec<String> = ours.iter().map(|w| ddl::seal_clause(&w.column, w.ty.kind)).collect();
        let names: Vec<&str> = ours.iter().map(|w| &*w.column).collect();
        let sql = format!("alter table {}\n  {}", ddl::relation(first.relation), clauses.join(",\n  "));
        let why = format!("{}: {} become sealed", first.relation.qualified(), names.join(", "));
        statements.push(Statement::new(why, sql));
    }
    statements
}

/// New or differing rows of `pgveil.columns`. Rows of dropped columns join with nothing and stay.
fn record(all: &[Wanted<'_>], ready: &[Wanted<'_>], facts: &Facts, ids: &HashMap<String, u32>) -> Vec<Statement> {
    let mut statements = Vec::new();
    for column in all.iter().filter(|w| w.sealed).chain(ready) {
        let (relation, attnum) = (column.relation.oid, column.attnum);
        let id = ids.get(&column.owner()).copied();
        let as_type = column.ty.to_string();
        let mode = match column.sealing.mode {
            Mode::Randomized => "randomized",
            Mode::Deterministic => "deterministic",
        };
        let same = |r: &&facts::Recorded| r.relation == relation && r.attnum == attnum;
        let recorded = facts.recorded.iter().find(same);
        let right = recorded.is_some_and(|r| {
            *r.column == *column.column && r.as_type == as_type && r.mode == mode && id.is_none_or(|id| id == r.id)
        });
        if !right {
            let sql = format!(
                "insert into pgveil.columns (relation, attnum, column_name, column_id, as_type, mode) \
                 values ({}::regclass, {attnum}, {}, {}, {}, {}) \
                 on conflict (relation, attnum) do update set column_name = excluded.column_name, \
                 column_id = excluded.column_id, as_type = excluded.as_type, mode = excluded.mode",
                ddl::literal(&ddl::relation(column.relation)),
                ddl::literal(&column.column),
                id.unwrap_or(0),
                ddl::literal(&as_type),
                ddl::literal(mode),
            );
            statements.push(Statement::new(format!("{} is recorded as {as_type}", column.full()), sql));
        }
    }
    statements
}

#[cfg(test)]
mod tests;
