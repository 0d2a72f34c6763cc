//! `canaries = […]` of tables: keys of people that nobody has a reason to look at, as pseudonyms.
//!
//! In: the checked policy, the catalog's types of the key columns, the keyring's pseudonyms. Out: [`Canaries`]. Never: a
//! key in a message.

use super::checked::{Policy, Table};
use super::problem::Problem;
use crate::detect::Canaries;
use crate::event::Pseudonym;
use crate::sql::schema::Schema;

/// The pseudonyms of all canaries. `pseudonym` is of a kind and a key in PostgreSQL's own text form.
///
/// # Errors
/// Every key that the column's type cannot hold.
pub fn canaries(
    policy: &Policy,
    schema: &Schema,
    pseudonym: &dyn Fn(&str, &[u8]) -> Pseudonym,
) -> Result<Canaries, Vec<Problem>> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for table in policy.tables.iter().filter(|table| !table.canaries.is_empty()) {
        let Some(subject) = &table.subject else { continue };
        let ty = key_type(table, schema);
        for at in &table.canaries {
            match canonical(at.value.expose(), ty) {
                Some(key) => found.push(pseudonym(&subject.kind, key.as_bytes())),
                None => {
                    let message = format!("a canary of {} is no {}", table.qualified(), subject.key.value);
                    let hint = "write the key as PostgreSQL prints it, such as \"4711\"".to_owned();
                    problems.push(Problem::at(&at.place, message, hint));
                }
            }
        }
    }
    if problems.is_empty() { Ok(found.into_iter().collect()) } else { Err(problems) }
}

fn key_type(table: &Table, schema: &Schema) -> u32 {
    let column = schema
        .named(&table.schema, &table.name)
        .and_then(|relation| relation.column(&table.subject.as_ref()?.key.value).map(|column| column.type_oid));
    column.unwrap_or_default()
}

/// As the server prints it; `None`: no value of that type.
fn canonical(text: &str, type_oid: u32) -> Option<String> {
    match type_oid {
        20 | 21 | 23 => text.trim().parse::<i64>().ok().map(|key| key.to_string()),
        2950 => {
            let digits: String = text.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect();
            let hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let d = hex.then(|| digits.to_ascii_lowercase())?;
            Some(format!("{}-{}-{}-{}-{}", &d[..8], &d[8..12], &d[12..16], &d[16..20], &d[20..]))
        }
        _ => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_the_server_prints() {
        assert_eq!(canonical(" 0042", 23).as_deref(), Some("42"));
        assert_eq!(canonical("parkiet", 20), None);
        let uuid = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
        assert_eq!(canonical(uuid, 2950), Some(uuid.to_ascii_lowercase()));
        assert_eq!(canonical("a0ee", 2950), None);
        assert_eq!(canonical("As is", 25).as_deref(), Some("As is"));
    }

    #[test]
    fn a_canary_is_in_no_debug_and_wants_a_subject() {
        let of = |subject: &str| {
            let text = format!(
                "version = 1\n[tables.\"public.t\"]\n{subject}\ncanaries = [\"parkiet\"]\n[tables.\"public.t\".columns]\n\
                 id = {{ level = \"public\" }}\n"
            );
            super::super::parse(&[("p.toml".to_owned(), text)])
        };
        let policy = of("subject = { kind = \"user\", key = \"id\" }").unwrap();
        assert!(!format!("{policy:?}").contains("parkiet"));
        let all = canaries(&policy, &Schema::default(), &|kind, key| {
            assert_eq!((kind, key), ("user", b"parkiet".as_slice()));
            Pseudonym(7)
        });
        let all = all.unwrap();
        assert!(all.contains(Pseudonym(7)) && !all.contains(Pseudonym(8)) && !all.is_empty());
        let problems = super::super::problem::render(&of("").unwrap_err());
        assert!(problems.starts_with("p.toml:4: [tables.\"public.t\"] has canaries and no subject"), "{problems}");
    }
}
