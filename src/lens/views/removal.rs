//! `pgveil apply --remove`: lenses go, what was taken comes back.

use std::collections::BTreeSet;

use super::facts::LensFacts;
use super::{name, qualified, undone};
use crate::lens::acting;
use crate::lens::ddl::Statement;
use crate::mask::sql as masks;
use crate::policy::lens::OWNER;
use crate::sql::schema::Schema;

/// Statements that leave the database as it was before the first lens. The order: rights first, so that no moment is
/// without them.
pub(in crate::lens) fn remove(facts: &LensFacts, schema: &Schema) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut add = |why: &str, sql: String| statements.push(Statement::new(why, sql));
    let mut given = BTreeSet::new();
    for undo in facts.undo_statements.iter().rev() {
        // A table or role that is no more gets nothing back.
        if undone(undo, schema).is_some() && given.insert(undo) {
            add("as it was before", undo.clone());
        }
    }
    let views: BTreeSet<&(String, String)> = facts.views.keys().collect();
    for (schema, view) in views {
        add("a lens", format!("drop view {}", qualified(schema, view)));
    }
    let schemas: BTreeSet<&String> =
        facts.schemas.iter().filter(|(_, ours)| **ours).map(|(schema, _)| schema).collect();
    for schema in schemas {
        add("its schema", format!("drop schema {}", name(schema)));
    }
    if facts.undo {
        add("nothing is left to undo", "drop table pgveil.lens_undo".to_owned());
    }
    if facts.acting.1 {
        add("nobody asks any more", format!("drop function {}", acting::FUNCTION));
    }
    if facts.acting.0 {
        add("what sessions act for", format!("drop table {}", acting::TABLE));
    }
    if facts.key {
        add("the key of keyed masks", "drop table pgveil.lens_key".to_owned());
    }
    if !facts.functions.is_empty() {
        for function in masks::signatures() {
            add("a mask", format!("drop function if exists {function}"));
        }
        add("no masks are installed", "comment on schema pgveil is null".to_owned());
    }
    let (here, elsewhere) = facts.holds;
    if here && facts.member {
        add("its rights on tables", format!("drop owned by {OWNER}"));
    }
    if facts.owner && facts.creates_roles && facts.member && !elsewhere {
        add("who owned lenses", format!("drop role {OWNER}"));
    }
    statements
}
