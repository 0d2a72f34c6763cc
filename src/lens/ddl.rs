//! SQL text: names quoted, one statement each, with the comment that explains it.

use crate::mask;
use crate::sql::schema::Relation;
use crate::wire::types::Kind;

/// One statement and why it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// One line.
    pub why: String,
    /// Without the final semicolon.
    pub sql: String,
}

impl Statement {
    pub(super) fn new(why: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { why: why.into(), sql: sql.into() }
    }
}

impl From<mask::sql::Definition> for Statement {
    fn from(definition: mask::sql::Definition) -> Self {
        Self { why: definition.why, sql: definition.sql }
    }
}

impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "-- {}\n{};", self.why.replace('\n', " "), self.sql)
    }
}

/// A quoted identifier.
pub(super) use crate::sql::name::quoted as name;

/// A quoted literal (`standard_conforming_strings` is on).
pub(super) use crate::sql::literal::quoted as literal;

/// A quoted, qualified relation.
pub(super) fn relation(relation: &Relation) -> String {
    format!("{}.{}", name(&relation.schema), name(&relation.name))
}

/// Shortest envelope: 20 bytes of header, no token, 12 of nonce, no ciphertext, 16 of tag.
const ENVELOPE_BYTES_MIN: usize = 48;

/// The CHECK of every sealed domain: built-ins only, for magic, version and length. It stops plaintext on every path into
/// the column.
pub fn sealed_constraint() -> String {
    format!(
        "constraint sealed check (value is null or (pg_catalog.octet_length(value) >= {ENVELOPE_BYTES_MIN} \
         and pg_catalog.substr(value, 1, 3) operator(pg_catalog.=) '\\xfed101'::bytea))"
    )
}

/// The sealed domain of a kind.
pub(super) fn domain(kind: Kind) -> Statement {
    let sql = format!("create domain pgveil.sealed_{} as bytea {}", kind.name(), sealed_constraint());
    Statement::new(format!("sealed {}: bytea that holds an envelope", kind.name()), sql)
}

/// Schema `pgveil`. Everybody may resolve its types; nobody else may create in it.
pub(super) fn schema() -> [Statement; 2] {
    [
        Statement::new("pgveil's own schema", "create schema pgveil"),
        Statement::new("column types must resolve for every role", "grant usage on schema pgveil to public"),
    ]
}

/// `pgveil.columns`. `regclass` and the column's name survive dump and restore, `attnum` survives a rename.
pub(super) fn columns_table() -> [Statement; 2] {
    [
        Statement::new(
            "which columns are sealed, and as what",
            "create table pgveil.columns (relation regclass not null, attnum int2 not null, column_name text not null, \
             column_id int8 not null, as_type text not null, mode text not null, \
             sealed_at timestamptz not null default pg_catalog.now(), primary key (relation, attnum))",
        ),
        Statement::new("names and types only, no secret", "grant select on pgveil.columns to public"),
    ]
}

/// DDL anywhere in the database wakes the proxies. Needs a superuser. PostgreSQL prepares no transaction that has
/// notified, so where two-phase commit is possible the proxies find changes by polling.
pub(super) fn event_trigger() -> [Statement; 2] {
    [
        Statement::new(
            "tells the proxies that the catalog changed",
            "create or replace function pgveil.notify_catalog() returns event_trigger language plpgsql \
             set search_path = pg_catalog as $$begin \
             if current_setting('max_prepared_transactions') = '0' then \
             perform pg_catalog.pg_notify('pgveil_catalog', ''); end if; end$$",
        ),
        Statement::new(
            "… at the end of every DDL command",
            "create event trigger pgveil_catalog on ddl_command_end execute function pgveil.notify_catalog()",
        ),
    ]
}

/// The control account may ask for the verifier of a user that may log in now: NULL where it is not SCRAM's, no row
/// where there is no such user. Needs a superuser, who alone may read `pg_authid`.
pub(super) fn verifier_function(control: &str) -> [Statement; 3] {
    [
        Statement::new(
            "what passwords are checked with when logins end in the proxy",
            "create or replace function pgveil.scram_verifier(name text) returns table (verifier text) \
             language sql stable strict security definer set search_path = pg_catalog, pg_temp as $$ \
             select case when a.rolpassword like 'SCRAM-SHA-256$%' then a.rolpassword end from pg_catalog.pg_authid a \
             where a.rolname::text = $1 and a.rolcanlogin \
             and (a.rolvaliduntil is null or a.rolvaliduntil > pg_catalog.now()) $$",
        ),
        Statement::new("… by nobody", "revoke all on function pgveil.scram_verifier(text) from public"),
        Statement::new(
            "… but pgveil",
            format!("grant execute on function pgveil.scram_verifier(text) to {}", name(control)),
        ),
    ]
}

/// Schema `pgveil` for a control account that has not made it yet.
pub(super) fn schema_of(control: &str) -> [Statement; 2] {
    let [_, usage] = schema();
    let create = format!("create schema pgveil authorization {}", name(control));
    [Statement::new("pgveil's own schema", create), usage]
}

/// One column's clause of ALTER TABLE. A row that holds plaintext fails the domain's CHECK and with it the whole
/// transaction, so nothing can be lost to a race with a writer.
pub(super) fn seal_clause(column: &str, kind: Kind) -> String {
    let column = name(column);
    format!(
        "alter column {column} type pgveil.sealed_{} using pg_catalog.convert_to({column}::text, 'UTF8')",
        kind.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_cannot_break_out() {
        assert_eq!(name("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(Statement::new("a\nb", "select 1").to_string(), "-- a b\nselect 1;");
    }
}
