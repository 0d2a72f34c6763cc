//! Plaintext columns above somebody's clearance: who reads which, past the proxy.
//!
//! In: rules, the catalog's privileges. Out: one check for each column: clear, masked by a lens, or nothing, for each role
//! of the policy. Never: a query per role or column.

use std::collections::{BTreeMap, HashSet};

use tokio_postgres::Client;

use super::{Check, ask, few};
use crate::policy::rules::{ProtectedTable, Rules};
use crate::sql::name::quoted;
use crate::sql::schema::Relation;

const READS: &str = "select r.rolname::text, w.relation, w.attnum \
     from unnest($1::oid[], $2::int2[]) as w(relation, attnum) cross join pg_roles r \
     where r.rolname = any($3) and has_column_privilege(r.oid, w.relation, w.attnum, 'SELECT')";

/// One more would not be read by anybody.
const ROLES_MAX: usize = 1_000;

/// Every plaintext column that is above the clearance of a role of the policy.
pub(super) async fn columns(client: &Client, rules: &Rules, found: &mut Vec<Check>) {
    let mut roles: Vec<&str> = rules.class_of.keys().map(String::as_str).collect();
    roles.sort_unstable();
    if roles.len() > ROLES_MAX {
        let message = format!("{} logins have a class; only the first {ROLES_MAX} were looked at", roles.len());
        found.push(Check::warning("readable", message));
        roles.truncate(ROLES_MAX);
    }
    let above = |relation: u32, attnum: i16| {
        let hides = |id: &crate::policy::rules::ClassId| {
            let class = rules.class(*id);
            class.hidden.contains(&(relation, attnum)) || class.filtered.contains(&relation)
        };
        rules.class_of.values().any(hides)
    };
    let mut wanted: BTreeMap<&str, (&ProtectedTable, Vec<i16>)> = BTreeMap::new();
    for table in rules.tables.values() {
        let plain = |attnum: &&i16| !rules.sealed.contains_key(&(table.oid, **attnum));
        let mut attnums: Vec<i16> =
            table.levels.keys().filter(plain).copied().filter(|attnum| above(table.oid, *attnum)).collect();
        attnums.sort_unstable();
        wanted.insert(&table.name, (table, attnums));
    }
    let (relations, attnums): (Vec<u32>, Vec<i16>) =
        wanted.values().flat_map(|(table, attnums)| attnums.iter().map(|at| (table.oid, *at))).unzip();
    let reads: HashSet<(String, u32, i16)> = match ask(client, READS, &[&relations, &attnums, &roles]).await {
        Ok(rows) => rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
        Err(error) => {
            found.push(Check::warning("readable", format!("who reads what is not known: {}", error.said)));
            return;
        }
    };
    for (table, attnums) in wanted.values() {
        let Some(relation) = rules.schema.relation(table.oid) else { continue };
        for attnum in attnums {
            found.push(judge(rules, relation, *attnum, &roles, &reads));
        }
    }
}

fn judge(
    rules: &Rules,
    relation: &Relation,
    attnum: i16,
    roles: &[&str],
    reads: &HashSet<(String, u32, i16)>,
) -> Check {
    let (mut clear, mut masked, mut nothing, mut open) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for role in roles {
        let class = rules.class(rules.class_of(role));
        let hidden = class.hidden.contains(&(relation.oid, attnum)) || class.filtered.contains(&relation.oid);
        let direct = reads.contains(&((*role).to_owned(), relation.oid, attnum));
        let shown = |view: &&crate::policy::lens::View| {
            *view.role == *class.role && view.base == relation.oid && view.columns.iter().any(|c| c.attnum == attnum)
        };
        let lens = class.lens.is_some() && rules.views.iter().any(|view| shown(&view));
        let list = match (hidden, direct, lens) {
            (true, true, _) => &mut open,
            (false, true, _) => &mut clear,
            (true, false, true) => &mut masked,
            _ => &mut nothing,
        };
        list.push((*role).to_owned());
    }
    let column = relation.column_at(attnum).map(|column| column.name.to_string()).unwrap_or_default();
    let mut parts = Vec::new();
    for (what, list) in [("clear", &clear), ("by its lens", &masked), ("none", &nothing)] {
        if !list.is_empty() {
            parts.push(format!("{what}: {}", few(list)));
        }
    }
    let parts = parts.join("; ");
    let check = if open.is_empty() {
        Check::ok("readable", parts)
    } else {
        let message = format!("a direct connection as {} reads it, above clearance; {parts}", few(&open));
        let check = Check::hole("readable", message.trim_end_matches("; "));
        let by_lens = |role: &String| {
            let class = &rules.class(rules.class_of(role)).role;
            rules.views.iter().any(|view| *view.role == **class && view.base == relation.oid)
        };
        if open.iter().all(by_lens) {
            check.todo_by_hand("the ways around their lenses, listed with the roles, say what closes it")
        } else {
            let from = open.iter().map(|role| quoted(role)).collect::<Vec<_>>().join(", ");
            check.sql(format!("revoke select on {} from {from}", super::columns::relation_name(relation)))
        }
    };
    check.table(&relation.qualified()).column(&column)
}
