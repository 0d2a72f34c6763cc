//! Which relation a name means.
//!
//! In: identifiers as written, the search path, the session's temporary names. Out: a relation of the snapshot, or
//! why there is none. Follows `RangeVarGetRelid`: pg_temp first, then pg_catalog unless listed, then the path.

use std::collections::HashSet;
use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::sql::name::is_reserved;
use crate::sql::schema::{Relation, Schema};

/// `NAMEDATALEN - 1`.
const NAME_BYTES_MAX: usize = 63;

/// The name an identifier of the tree stands for: folded when unquoted (ASCII only, as for multi-byte encodings), cut
/// to 63 bytes at a character boundary.
pub fn folded(ident: &Ident) -> String {
    let mut name = if ident.quote_style.is_none() { ident.value.to_ascii_lowercase() } else { ident.value.clone() };
    if name.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

/// Whether PostgreSQL's grammar has a keyword there, where sqlparser sees a name: `SELECT a OR FROM t` has a label `or`,
/// and no column `from`.
pub fn names_nothing(ident: &Ident) -> bool {
    ident.quote_style.is_none() && is_reserved(&folded(ident))
}

/// The names of a dotted name; `None` if a part is not an identifier.
pub fn parts(name: &ObjectName) -> Option<Vec<String>> {
    if matches!(name.0.first(), Some(ObjectNamePart::Identifier(first)) if names_nothing(first)) {
        return None;
    }
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(folded(ident)),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

/// What a relation name means in a session.
#[derive(Clone, Debug)]
pub enum Found<'s> {
    /// That relation.
    Relation(&'s Arc<Relation>),
    /// A temporary table of the session.
    Temporary,
    /// Something of pg_catalog or information_schema.
    System,
    /// Another database's name stands in front: PostgreSQL refuses it.
    OtherDatabase,
    /// Not in the snapshot.
    Unknown,
}

/// What decides the meaning of relation names.
#[derive(Clone, Copy, Debug)]
pub struct Names<'s> {
    /// The snapshot.
    pub schema: &'s Schema,
    /// The session's search path, `$user` replaced.
    pub path: &'s [Arc<str>],
    /// Unqualified names of the session's temporary tables.
    pub temporary: &'s HashSet<String>,
}

impl<'s> Names<'s> {
    /// The relation that a dotted name of one to three parts means.
    pub fn find(&self, parts: &[String]) -> Found<'s> {
        match parts {
            [name] => self.unqualified(name),
            [schema, name] => self.qualified(schema, name),
            [database, schema, name] if *database == self.schema.database => self.qualified(schema, name),
            [_, _, _] => Found::OtherDatabase,
            _ => Found::Unknown,
        }
    }

    fn qualified(&self, schema: &str, name: &str) -> Found<'s> {
        if schema == "pg_temp" || schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp_") {
            return Found::Temporary;
        }
        match self.schema.named(schema, name) {
            Some(relation) => Found::Relation(relation),
            None if is_system(schema) => Found::System,
            None => Found::Unknown,
        }
    }

    fn unqualified(&self, name: &str) -> Found<'s> {
        if self.temporary.contains(name) {
            return Found::Temporary;
        }
        let listed = self.path.iter().any(|schema| &**schema == "pg_catalog");
        let first = (!listed).then_some("pg_catalog");
        for schema in first.into_iter().chain(self.path.iter().map(|schema| &**schema)) {
            if let Some(relation) = self.schema.named(schema, name) {
                return Found::Relation(relation);
            }
        }
        // The snapshot need not list pg_catalog, whose relations all begin like this.
        if name.starts_with("pg_") { Found::System } else { Found::Unknown }
    }
}

/// Schemas whose relations hold no user's data; the snapshot need not list them.
pub fn is_system(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "pg_toast")
}
