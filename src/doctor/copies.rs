//! Tables in no policy that look like copies of what the policy protects.
//!
//! In: rules. Out: a warning for each such table. Never: a look into it; names and types are all that is compared.

use std::sync::Arc;

use super::{Check, few, plural};
use crate::policy::Policy;
use crate::policy::rules::Rules;
use crate::sql::schema::{Column, RelKind, Relation};

/// Tables named one by one.
const TABLES_MAX: usize = 20;

/// A protected plaintext column, and how it is called.
struct Protected {
    column: Column,
    full: String,
}

/// Every unlisted table with a column of the same name and type as a plaintext column that the policy lists and hides from
/// somebody. Keys are in many tables by nature, and do not count.
pub(super) fn tables(rules: &Rules, policy: &Policy, found: &mut Vec<Check>) {
    let protected = protected(rules, policy);
    let table = |r: &&Arc<Relation>| matches!(r.kind, RelKind::Table | RelKind::Partitioned | RelKind::Foreign);
    let unlisted = |r: &&Arc<Relation>| !rules.tables.contains_key(&r.oid) && &*r.schema != "pgveil";
    let mut alike: Vec<(&Relation, Vec<String>)> = Vec::new();
    for relation in rules.schema.relations.values().filter(table).filter(unlisted) {
        let same =
            |c: &&Protected| relation.column(&c.column.name).is_some_and(|live| live.type_name == c.column.type_name);
        let columns: Vec<String> = protected.iter().filter(same).map(|c| c.full.clone()).collect();
        if !columns.is_empty() {
            alike.push((relation, columns));
        }
    }
    alike.sort_by_key(|(relation, _)| relation.qualified());
    for (relation, columns) in alike.iter().take(TABLES_MAX) {
        let message = format!("may be a copy, by names and types, of what the policy protects: {}", few(columns));
        let name = relation.qualified();
        let advice = format!("if it is one, add [tables.{name:?}] to the policy, or drop it");
        found.push(Check::warning("copies", message).table(&name).todo_by_hand(advice));
    }
    match alike.len() {
        0 => found.push(Check::ok("copies", "no table outside the policy looks like a copy of a protected column")),
        count if count > TABLES_MAX => {
            let message = format!("{} more may be copies of protected columns", plural(count - TABLES_MAX, "table"));
            found.push(Check::warning("copies", message));
        }
        _ => {}
    }
}

fn protected(rules: &Rules, policy: &Policy) -> Vec<Protected> {
    let mut protected = Vec::new();
    for table in &policy.tables {
        let Some(relation) = rules.schema.named(&table.schema, &table.name) else { continue };
        let key = table.subject.as_ref().map(|subject| subject.key.value.as_str());
        for listed in &table.columns {
            let Some(column) = relation.column(&listed.name.value) else { continue };
            let is_key = relation.primary_key.contains(&column.attnum) || key == Some(&*column.name);
            if !is_key && column.sealed.is_none() && rules.hidden_from_some((relation.oid, column.attnum)) {
                let full = format!("{}.{}", relation.qualified(), column.name);
                protected.push(Protected { column: column.clone(), full });
            }
        }
    }
    protected.sort_by(|a, b| a.full.cmp(&b.full));
    protected
}
