//! Who can read, by connecting directly, plaintext columns that the proxy would not show: reported, and with
//! `--grants` taken away where the right was granted to that role itself.

use super::ddl::{Statement, name, relation};
use super::facts::{Facts, TableFacts};
use crate::policy::Policy;
use crate::policy::checked::{Role, Table};
use crate::policy::rules::Level;
use crate::sql::schema::{Relation, Schema};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// Rights granted directly: what `--grants` runs.
    pub(super) direct: Vec<Statement>,
    /// Everything else, in words and SQL.
    pub(super) notes: Vec<String>,
}

pub(super) fn find(policy: &Policy, schema: &Schema, facts: &Facts) -> Grants {
    let mut grants = Grants::default();
    for table in &policy.tables {
        let Some(relation) = schema.named(&table.schema, &table.name) else { continue };
        let Some(about) = facts.tables.get(&relation.oid) else { continue };
        for role in &policy.roles {
            let (hidden, visible) = split(policy, table, relation, role.clearance);
            if !hidden.is_empty() {
                reader(role, schema, relation, about, &hidden, &visible, &mut grants);
            }
        }
        let (hidden, visible) = split(policy, table, relation, policy.default_role.clearance);
        if !hidden.is_empty() && about.readers.contains(&None) {
            grants.notes.push(format!(
                "PUBLIC may read {} directly, {} included; split it for every role that needs more:\n    \
                 revoke select on {} from public;\n    {}",
                relation.qualified(),
                hidden.join(", "),
                super::ddl::relation(relation),
                grant(relation, &visible, "public")
            ));
        }
    }
    grants.notes.sort();
    grants.notes.dedup();
    grants
}

/// Plaintext columns above the clearance, and all the others. Sealed columns are for everybody: they are envelopes.
fn split(policy: &Policy, table: &Table, relation: &Relation, clearance: Level) -> (Vec<String>, Vec<String>) {
    let hidden = |name: &str| match table.columns.iter().find(|c| c.name.value == name) {
        Some(column) => column.sealing.is_none() && column.level > clearance,
        None => policy.default_level > clearance,
    };
    relation.columns.iter().map(|c| c.name.to_string()).partition(|name| hidden(name))
}

fn grant(on: &Relation, visible: &[String], to: &str) -> String {
    if visible.is_empty() {
        return format!("-- {to} may see no column of {}", on.qualified());
    }
    let columns: Vec<String> = visible.iter().map(|column| name(column)).collect();
    format!("grant select ({}) on {} to {to};", columns.join(", "), relation(on))
}

fn reader(
    role: &Role,
    schema: &Schema,
    on: &Relation,
    about: &TableFacts,
    hidden: &[String],
    visible: &[String],
    grants: &mut Grants,
) {
    let login = &role.member_of.as_ref().unwrap_or(&role.name).value;
    let Some(real) = schema.roles.get(login) else { return };
    let columns = hidden.join(", ");
    let table = on.qualified();
    let member = |group: &str| real.member_of.iter().any(|g| g == group);
    if real.superuser {
        grants.notes.push(format!("{login} is a superuser and can read {table}.{{{columns}}} by connecting directly"));
        return;
    }
    if *login == about.owner || member(&about.owner) {
        grants.notes.push(format!(
            "{login} owns {table} (or is a member of its owner) and can read {columns} by connecting directly:\n    \
             alter table {} owner to another_role;",
            relation(on)
        ));
        return;
    }
    if member("pg_read_all_data") {
        let sql = format!("revoke pg_read_all_data from {};", name(login));
        grants
            .notes
            .push(format!("{login} is a member of pg_read_all_data and can read {table}.{{{columns}}}:\n    {sql}"));
    }
    for group in about.readers.iter().flatten().filter(|group| member(group)) {
        grants.notes.push(format!(
            "{login} can read {table}.{{{columns}}} directly as a member of {group}; for that group, or {login} out of it:\n    \
             revoke select on {} from {};\n    {}",
            relation(on),
            name(group),
            grant(on, visible, &name(group))
        ));
    }
    if about.readers.iter().flatten().any(|reader| reader == login) {
        let why = format!("{login} could read {table}.{{{columns}}} by connecting directly");
        let revoke = format!("revoke select on {} from {}", relation(on), name(login));
        grants.direct.push(Statement::new(why, revoke));
        if !visible.is_empty() {
            let sql = grant(on, visible, &name(login));
            let why = format!("{login} keeps the columns within its clearance");
            grants.direct.push(Statement::new(why, sql.trim_end_matches(';')));
        }
    }
}
