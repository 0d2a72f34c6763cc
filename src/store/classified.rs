//! What the policy says about each column, where SQL about the access log can see it (`pgveil.classified`).
//!
//! In: the policy. Out: the SQL that makes the table say the same. Never: more than names and the policy's words.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use crate::catalog::ask;
use crate::error::Result;
use crate::policy::checked::{Column, Table};
use crate::policy::{Policy, level_name};
use crate::sql::literal::quoted;

/// Relation, column, level, kind of data, whose rows.
type Row = (String, String, String, Option<String>, Option<String>);

/// The statements that make the table what the policy says, none if it is. `there`: the table exists.
///
/// # Errors
/// [`crate::error::Error::Control`]
pub(super) async fn pending(client: &Client, policy: &Policy, there: bool) -> Result<Vec<(String, String)>> {
    const READ: &str = "select relation, column_name, level, data_type, subject_kind from pgveil.classified";
    let mut now = BTreeSet::new();
    if there {
        for row in ask(client, READ, &[]).await? {
            now.insert((row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)));
        }
    }
    Ok(changes(&now, &wanted(policy)))
}

fn wanted(policy: &Policy) -> BTreeSet<Row> {
    let columns = policy.tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
    let row = |(table, column): (&Table, &Column)| {
        (
            table.qualified(),
            column.name.value.clone(),
            level_name(column.level).to_owned(),
            column.data.map(|tag| tag.word().to_owned()),
            table.subject.as_ref().map(|subject| subject.kind.to_string()),
        )
    };
    columns.map(row).collect()
}

fn changes(now: &BTreeSet<Row>, wanted: &BTreeSet<Row>) -> Vec<(String, String)> {
    let key = |row: &Row| (row.0.clone(), row.1.clone());
    let listed: BTreeSet<_> = wanted.iter().map(key).collect();
    let gone: Vec<String> = now
        .iter()
        .filter(|row| !listed.contains(&key(row)))
        .map(|row| format!("({}, {})", quoted(&row.0), quoted(&row.1)))
        .collect();
    let or_null = |text: &Option<String>| text.as_ref().map_or_else(|| "null".to_owned(), |text| quoted(text));
    let value = |(relation, column, level, data, kind): &Row| {
        let [relation, column, level] = [relation, column, level].map(|text| quoted(text));
        format!("({relation}, {column}, {level}, {}, {})", or_null(data), or_null(kind))
    };
    let new: Vec<String> = wanted.difference(now).map(value).collect();
    let mut statements = Vec::new();
    if !gone.is_empty() {
        let sql = format!("delete from pgveil.classified where (relation, column_name) in ({})", gone.join(", "));
        statements.push(("columns that the policy does not name any more".to_owned(), sql));
    }
    if !new.is_empty() {
        let sql = format!(
            "insert into pgveil.classified (relation, column_name, level, data_type, subject_kind) values\n{}\n\
             on conflict (relation, column_name) do update set level = excluded.level, \
             data_type = excluded.data_type, subject_kind = excluded.subject_kind",
            new.join(",\n")
        );
        statements.push(("what the policy says about each column".to_owned(), sql));
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_policys_words() {
        let text = "version = 1\n[tables.\"public.it's\"]\nsubject = { kind = \"user\", key = \"id\" }\n\
             [tables.\"public.it's\".columns]\nid = { level = \"internal\" }\n\
             mail = { level = \"restricted\", data = \"pii\", as = \"text\", encrypt = \"randomized\" }\n\
             [roles.app]\nclearance = \"restricted\"\n";
        let policy = crate::policy::parse(&[("p.toml".to_owned(), text.to_owned())]).unwrap();
        let rows = wanted(&policy);
        let made = changes(&BTreeSet::new(), &rows);
        assert!(made[0].1.contains("('public.it''s', 'id', 'internal', null, 'user')"), "{made:?}");
        assert!(made[0].1.contains("('public.it''s', 'mail', 'restricted', 'pii', 'user')"), "{made:?}");
        assert_eq!(changes(&rows, &rows), []);
        let gone = changes(&rows, &BTreeSet::new());
        assert!(
            gone.len() == 1 && gone[0].1.ends_with("in (('public.it''s', 'id'), ('public.it''s', 'mail'))"),
            "{gone:?}"
        );
    }
}
