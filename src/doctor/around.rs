//! What goes around the policy: ways around lenses, logins it does not know, tables it does not list.
//!
//! In: rules, the catalog. Out: a hole for every way, a warning for what nobody has decided. Never: a row of a table
//! that no policy lists.

use std::collections::HashSet;

use tokio_postgres::Client;

use super::{Check, ask, few, plural};
use crate::catalog::{self, ways};
use crate::policy::Policy;
use crate::policy::rules::Rules;
use crate::sql::schema::{RelKind, Relation, Schema};

/// Personal data is often called one of these.
const WORDS: &str = include_str!("personal.txt");

/// Tables named one by one.
const TABLES_MAX: usize = 20;

const STRANGERS: &str = "select r.rolname::text, r.rolsuper from pg_roles r \
     where r.rolcanlogin and r.rolname <> current_user and not r.rolname = any($1) \
       and has_database_privilege(r.oid, current_database(), 'CONNECT') \
       and (r.rolsuper or exists (select from unnest($2::oid[], $3::int2[]) as w(relation, attnum) \
         where has_column_privilege(r.oid, w.relation, w.attnum, 'SELECT'))) order by 1";

const EXTENSIONS: &str = "select objid from pg_depend where classid = 'pg_class'::regclass and deptype = 'e'";

/// Everything that goes around a lens is a hole, unless the policy accepts it.
pub(super) async fn ways(client: &Client, rules: &Rules, found: &mut Vec<Check>) {
    let masked = catalog::masked(rules);
    if masked.is_empty() {
        return;
    }
    let ways = match ways::ways(client, &masked).await {
        Ok(ways) => ways,
        Err(error) => {
            found.push(Check::warning("ways", format!("ways around the lenses were not looked for: {error}")));
            return;
        }
    };
    let mut open: HashSet<&str> = HashSet::new();
    for way in ways.iter().filter(|way| !catalog::accepted(rules, way)) {
        open.insert(&way.role);
        let check = Check::hole(&format!("way_{}", way.kind), way.to_string()).role(&way.role);
        found.push(match &way.sql {
            Some(sql) => check.sql(sql.clone()),
            None => check.todo_by_hand(way.kind.meaning()),
        });
    }
    for role in masked.iter().map(|masked| masked.role.as_str()).filter(|role| !open.contains(role)) {
        let message = format!("{role} has no way around its lens ({} kinds looked for)", ways::WayKind::ALL.len());
        found.push(Check::ok("ways", message).role(role));
    }
}

/// Logins the policy has no entry for, which read protected plaintext columns past the proxy.
pub(super) async fn strangers(client: &Client, rules: &Rules, found: &mut Vec<Check>) {
    let known: Vec<&str> = rules.class_of.keys().map(String::as_str).collect();
    let hidden = rules.classes.first().map(|class| &class.hidden);
    let own = |at: &&(u32, i16)| rules.tables.contains_key(&at.0);
    let (relations, attnums): (Vec<u32>, Vec<i16>) = hidden.into_iter().flatten().filter(own).copied().unzip();
    let rows = match ask(client, STRANGERS, &[&known, &relations, &attnums]).await {
        Ok(rows) => rows,
        Err(error) => {
            found.push(Check::warning("strangers", format!("other logins were not looked at: {}", error.said)));
            return;
        }
    };
    let names = |superuser: bool| -> Vec<String> {
        rows.iter().filter(|row| row.get::<_, bool>(1) == superuser).map(|row| row.get(0)).collect()
    };
    let (strangers, superusers) = (names(false), names(true));
    if strangers.is_empty() {
        let message = "no login outside the policy reads protected plaintext columns";
        found.push(Check::ok("strangers", message));
    } else {
        let message = format!("not in the policy, and read protected plaintext columns directly: {}", few(&strangers));
        let check = Check::warning("strangers", message);
        let advice = format!("give each an entry [roles.{}] in the policy, or revoke what it may read", strangers[0]);
        found.push(check.todo_by_hand(advice));
    }
    let listed = if superusers.is_empty() { "none".to_owned() } else { few(&superusers) };
    let message = format!("superusers read plaintext columns, and of sealed ones the envelopes: {listed}");
    found.push(Check::ok("superusers", message));
}

/// Tables that no policy lists.
pub(super) async fn unclassified(client: &Client, policy: &Policy, schema: &Schema, found: &mut Vec<Check>) {
    let extensions: HashSet<u32> = match ask(client, EXTENSIONS, &[]).await {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        Err(_) => HashSet::new(),
    };
    let parents = schema.relations.values().filter(|relation| !relation.children.is_empty());
    let children: HashSet<u32> = parents.flat_map(|parent| parent.children.iter().copied()).collect();
    let table =
        |r: &&std::sync::Arc<Relation>| matches!(r.kind, RelKind::Table | RelKind::Partitioned | RelKind::Foreign);
    let mut unlisted: Vec<&Relation> = schema
        .relations
        .values()
        .filter(table)
        .map(|relation| &**relation)
        .filter(|r| &*r.schema != "pgveil" && !extensions.contains(&r.oid) && !children.contains(&r.oid))
        .filter(|r| policy.table(&r.schema, &r.name).is_none())
        .collect();
    unlisted.sort_by_key(|relation| relation.qualified());
    for relation in unlisted.iter().take(TABLES_MAX) {
        let suspicious: Vec<String> =
            relation.columns.iter().map(|c| c.name.to_string()).filter(|name| personal(name)).collect();
        let message = if suspicious.is_empty() {
            "no policy lists it: everything in it is in plaintext for everybody with rights".to_owned()
        } else {
            format!("no policy lists it, and by their names these columns hold personal data: {}", few(&suspicious))
        };
        let check = Check::warning("unclassified", message).table(&relation.qualified());
        let name = relation.qualified();
        found.push(check.todo_by_hand(format!("add [tables.{name:?}] to the policy, or revoke what nobody needs")));
    }
    match unlisted.len() {
        0 => found.push(Check::ok("unclassified", "every table is listed in the policy")),
        count if count > TABLES_MAX => {
            let message = format!("{} more are in no policy", plural(count - TABLES_MAX, "table"));
            found.push(Check::warning("unclassified", message));
        }
        _ => {}
    }
}

/// A word of the name is on the list: words end at `_`, at a digit, and where a capital begins.
fn personal(column: &str) -> bool {
    let listed = |word: &str| WORDS.lines().any(|line| !line.starts_with('#') && line == word);
    let mut words = vec![String::new()];
    let mut small = false;
    for c in column.chars() {
        if !c.is_alphabetic() || c.is_uppercase() && small {
            words.push(String::new());
        }
        small = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphabetic()) {
            word.extend(c.to_lowercase());
        }
    }
    listed(&column.to_lowercase()) || words.iter().any(|word| listed(word) || listed(word.trim_end_matches('s')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_personal_data_are_recognised_by_their_words() {
        for name in ["email", "home_address", "firstName", "SSN", "phone2", "date_of_birth", "iban", "phones"] {
            assert!(personal(name), "{name}");
        }
        for name in ["id", "renamed", "amount", "shipped_at", "addressed", "word", ""] {
            assert!(!personal(name), "{name}");
        }
    }
}
