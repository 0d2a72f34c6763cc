//! What is said when a statement is not forwarded: the column, the operation, the way out. Never a value.

use crate::error::{Code, Refusal, SqlState};
use crate::policy::code::Reached;
use crate::policy::rules::{Mode, SealedColumn};

/// `schema.table.column`.
pub(super) fn name(column: &SealedColumn) -> String {
    format!("{}.{}", column.relation, column.column)
}

fn mode(column: &SealedColumn) -> &'static str {
    match column.mode {
        Mode::Randomized => "randomized",
        Mode::Deterministic => "deterministic",
    }
}

/// An operation that a sealed column does not support.
pub(super) fn sealed_use(column: &SealedColumn, operation: &str) -> Refusal {
    let message = format!("column {} is sealed ({}): {operation} is not possible on it", name(column), mode(column));
    let hint = match column.mode {
        _ if operation.contains("ORDER BY") => {
            "Sealed values keep no order: leave this column out of ORDER BY and sort in the application."
        }
        Mode::Randomized if equality(operation) => {
            "A randomized column can be stored and read. To search, group or join by it, declare it \
             encrypt = \"deterministic\" in the policy."
        }
        Mode::Randomized => "Select the column itself and do this in the application.",
        Mode::Deterministic => {
            "Select the column itself and do this in the application. On a deterministic column =, <>, IN, = ANY, \
             IS [NOT] DISTINCT FROM, GROUP BY, DISTINCT and count() are possible."
        }
    };
    Refusal::new(Code::SealedUse, message, hint)
}

fn equality(operation: &str) -> bool {
    ["=", "<>", "IN", "DISTINCT", "GROUP BY", "UNION", "INTERSECT", "EXCEPT", "PARTITION BY", "NULLIF", "USING", "CASE"]
        .iter()
        .any(|word| operation.starts_with(word))
}

/// A value computed by the server is stored in, or compared with, a sealed column.
pub(super) fn computed(column: &SealedColumn, operation: &str) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!("column {} is sealed: {operation} a value computed by the server is not possible", name(column)),
        "Compute the value in the application and pass it as a parameter or literal.",
    )
}

/// Cells of one column meet another column.
pub(super) fn other_column(column: &SealedColumn, operation: &str, other: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!(
            "column {} is sealed: {operation} between it and {} is not possible, they have different column ids",
            name(column),
            name(other)
        ),
        "Columns that are compared or copied must share one column id: same_as in the policy. Otherwise read the values \
         and pass them as parameters.",
    )
}

/// A sealed and a plain value meet in one place.
pub(super) fn mixed(column: &SealedColumn, operation: &str) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!("column {} is sealed: {operation} mixes it with values that are not", name(column)),
        "Let every branch be this column, NULL, a literal or a parameter.",
    )
}

/// The same derived value is used for a sealed column and elsewhere.
pub(super) fn two_roles(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!(
            "one value of a VALUES list, unnest or subquery is used for sealed column {} and elsewhere",
            name(column)
        ),
        "Give the value twice, once for each use.",
    )
}

/// A cast that would change a value for a sealed column.
pub(super) fn cast(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::ParameterType,
        format!("a value for sealed column {} is cast to a type that is not the column's", name(column)),
        "Cast to the column's own type without a shorter length, or leave the cast out.",
    )
}

/// A cast in the text that PostgreSQL has not.
pub(super) fn no_cast(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::ParameterType,
        format!("a value for sealed column {} is cast to a type that its own does not convert to", name(column)),
        "Cast to the column's own type, or leave the cast out.",
    )
    .with_sqlstate(SqlState(*b"42846"))
}

/// A value of a type that has no such operator with the column's.
pub(super) fn no_operator(column: &SealedColumn, operation: &str) -> Refusal {
    Refusal::new(
        Code::ParameterType,
        format!("operator does not exist: {} of type {} {operation} a value of another type", name(column), column.ty),
        "Cast the value to the column's type.",
    )
    .with_sqlstate(SqlState(*b"42883"))
}

/// A value of a type that is not assigned to the column's, or does not stand beside it in COALESCE, CASE, UNION.
pub(super) fn other_type(column: &SealedColumn, operation: &str) -> Refusal {
    Refusal::new(
        Code::ParameterType,
        format!(
            "column {} is of type {}: {operation} a value of another type does not convert to it",
            name(column),
            column.ty
        ),
        "Cast the value to the column's type.",
    )
}

/// Searching without clearance.
pub(super) fn may_not_search(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::SearchDenied,
        format!("searching sealed column {} needs clearance", name(column)),
        "Search by another column, or ask for clearance in the policy's [roles].",
    )
}

/// Writing without clearance.
pub(super) fn may_not_write(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::SearchDenied,
        format!("writing sealed column {} needs clearance", name(column)),
        "Leave the column out, or ask for clearance or write = true in the policy's [roles].",
    )
}

/// Copying a cell without clearance.
pub(super) fn may_not_copy(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::SearchDenied,
        format!("copying sealed column {} needs clearance", name(column)),
        "Pass the value as a parameter or literal, or ask for clearance in the policy's [roles].",
    )
}

/// `above = "deny"`.
pub(super) fn denied(column: &SealedColumn) -> Refusal {
    Refusal::new(
        Code::SearchDenied,
        format!("column {} is denied to this role", name(column)),
        "Name the columns you need instead of this one.",
    )
}

/// Plaintext columns above the class's clearance.
pub(super) fn hidden(columns: &[String]) -> Refusal {
    let (what, verb) = if columns.len() == 1 { ("column", "is") } else { ("columns", "are") };
    Refusal::new(
        Code::AboveClearance,
        format!("{what} {} {verb} above this role's clearance", columns.join(", ")),
        "Leave them out: name the columns you need instead of *.",
    )
}

/// A relation of which the class may not reach every row, without its lens.
pub(super) fn filtered(relation: &str) -> Refusal {
    Refusal::new(
        Code::AboveClearance,
        format!("not every row of {relation} is for this role, and its lens is not in the database"),
        "Whoever keeps the database runs `pgveil apply --lenses`.",
    )
}

/// A whole row with guarded columns in it.
pub(super) fn whole_row(relation: &str, above: bool) -> Refusal {
    if above {
        return Refusal::new(
            Code::AboveClearance,
            format!("a row of {relation} holds columns above this role's clearance"),
            "Name the columns you need instead of the row.",
        );
    }
    Refusal::new(
        Code::SealedUse,
        format!("a row of {relation} holds sealed columns: it cannot be used as one value"),
        "Name the columns: SELECT a, b instead of the row itself; build JSON in the application.",
    )
}

/// A column of a sealed domain that no policy column stands behind.
pub(super) fn untyped(column: &str, operation: &str) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!("column {column} holds sealed values but is not in the policy: {operation} is not possible"),
        "Use the table named in the policy, or name this column there.",
    )
}

/// The statement could not be read completely.
pub(super) fn unreadable(what: &str) -> Refusal {
    Refusal::new(
        Code::Unreadable,
        format!("the statement names a protected table and could not be read completely: {what}"),
        "Write it with plain SELECT, INSERT, UPDATE, DELETE or COPY, one thing per statement.",
    )
}

/// Not for a restricted class.
pub(super) fn function(what: &str) -> Refusal {
    Refusal::new(
        Code::FunctionDenied,
        format!("{what} is not available to a role that may not see every column"),
        "Use plain statements on tables, or ask for clearance in the policy's [roles].",
    )
}

/// Users' code that a restricted class would run.
pub(super) fn users_code(reached: &Reached) -> Refusal {
    let list = |names: &std::collections::BTreeSet<std::sync::Arc<str>>, open: &str, close: &str| {
        names.iter().map(|name| format!("{open}{name}{close}")).collect::<Vec<_>>().join(", ")
    };
    let what = [list(&reached.functions, "function ", "()"), list(&reached.others, "", "")];
    let what = what.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let when = if reached.when.is_empty() { String::new() } else { format!(" (behind {})", reached.when) };
    let message = format!("{what}{when} is not available to a role that may not see every column");
    let hint = if reached.others.is_empty() {
        format!(
            "Once somebody has read it and found that it shows no hidden value, add it to the policy: \
             [functions] reviewed = [{}]",
            list(&reached.functions, "\"", "\"")
        )
    } else {
        "Use plain statements on tables, or ask for clearance in the policy's [roles].".to_owned()
    };
    Refusal::new(Code::FunctionDenied, message, hint)
}

/// PREPARE or EXECUTE in SQL text by a restricted class.
pub(super) fn prepared() -> Refusal {
    Refusal::new(
        Code::FunctionDenied,
        "PREPARE and EXECUTE in SQL text are not available to a role that may not see every column",
        "Use protocol-level prepared statements, which every driver has.",
    )
}

/// The policy encrypts it, the table does not yet.
pub(super) fn pending(table: &str, columns: &[impl AsRef<str>]) -> Refusal {
    let names = columns.iter().map(|column| format!("{table}.{}", column.as_ref())).collect::<Vec<_>>().join(", ");
    Refusal::new(
        Code::NotSealedYet,
        format!("the policy encrypts {names} but the table still holds plaintext"),
        "Run `pgveil apply` (empty tables) or `pgveil seal` (tables with rows) first.",
    )
}

/// What a name means changes within the text.
pub(super) fn stale(what: &str) -> Refusal {
    Refusal::new(
        Code::CatalogStale,
        format!("{what} earlier in the same text, so names of protected tables are not certain"),
        "Send the statements one by one.",
    )
}

/// A table that would hide from nobody what some role may not see.
pub fn copy(column: &str) -> Refusal {
    Refusal::new(
        Code::UnprotectedCopy,
        format!("{column} is hidden from some roles, and a table made of it would hide it from nobody"),
        "Create the table first, list it in the policy, then INSERT … SELECT; or leave the column out; or the policy says \
         copies = \"allow\".",
    )
}

/// A temporary copy of sealed columns.
pub(super) fn temporary() -> Refusal {
    Refusal::new(
        Code::SealedUse,
        "a temporary table or view cannot have sealed columns: pgveil would not know them",
        "Make an ordinary (or unlogged) table or view and drop it afterwards, or leave the sealed columns out.",
    )
}

/// A function whose rows hold sealed columns.
pub(super) fn sealed_function(name: &str) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!("function {name}() returns sealed columns: pgveil cannot follow them through it"),
        "Select from the table, or from a view.",
    )
}

/// A relation that the snapshot does not know, named by a restricted class.
pub fn unknown_relation() -> Refusal {
    Refusal::new(
        Code::CatalogStale,
        "the statement names a relation that pgveil does not know",
        "check its name; after creating it, commit first",
    )
}

/// A bare name that may mean a relation with hidden columns.
pub(super) fn uncertain(name: &str, other: &str) -> Refusal {
    Refusal::new(
        Code::CatalogStale,
        format!("{name} may also mean {other}, which has columns above this role's clearance"),
        "Write the schema in front of the name.",
    )
}

/// A column that the snapshot does not know, of a relation with guarded columns: a new one, or a function of the row.
pub(super) fn no_column(relation: &str) -> Refusal {
    Refusal::new(
        Code::CatalogStale,
        format!("{relation} has no such column that pgveil knows of"),
        "Check the column's name; a new column is known after the next catalog refresh.",
    )
}
