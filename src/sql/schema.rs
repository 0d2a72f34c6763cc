//! A snapshot of pg_catalog: what names mean. Filled by the `catalog` room, read by everybody.

use std::collections::HashMap;
use std::sync::Arc;

use crate::wire::types::{Kind, SqlType};

/// `pg_class.relkind`, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PostgreSQL's")]
pub enum RelKind {
    Table,
    Partitioned,
    View,
    MatView,
    Foreign,
    Sequence,
    Composite,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// `attnum`, from 1.
    pub attnum: i16,
    /// `attname`, unquoted, exact.
    pub name: Arc<str>,
    /// `atttypid`.
    pub type_oid: u32,
    /// `format_type(atttypid, atttypmod)`.
    pub type_name: Arc<str>,
    /// `atttypmod`.
    pub typmod: i32,
    /// `attnotnull`.
    pub not_null: bool,
    /// It has a default, is an identity or is generated.
    pub has_default: bool,
    /// `GENERATED ALWAYS AS (…)`.
    pub generated: bool,
    /// Its type is the domain `pgveil.sealed_<kind>` (or an array of it: see `sealed_array`).
    pub sealed: Option<Kind>,
    /// Its type is an array of a sealed domain.
    pub sealed_array: bool,
    /// For views: the base column (relation oid, attnum) this output column shows unchanged, if known.
    pub source: Option<(u32, i16)>,
}

/// One relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// `nspname`.
    pub schema: Arc<str>,
    /// `relname`.
    pub name: Arc<str>,
    /// `relkind`.
    pub kind: RelKind,
    /// Live columns by ascending `attnum` (dropped ones left out).
    pub columns: Vec<Column>,
    /// Attnums of the primary key, if it holds within every statement: not a deferrable one, nor one that a partition
    /// lacks.
    pub primary_key: Vec<i16>,
    /// For views and materialised views: every relation the definition reads, transitively.
    pub reads: Vec<u32>,
    /// Inheritance or partition children, transitively.
    pub children: Vec<u32>,
}

impl Relation {
    /// The column of that exact name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| &*c.name == name)
    }

    /// The column of that number.
    pub fn column_at(&self, attnum: i16) -> Option<&Column> {
        self.columns.iter().find(|c| c.attnum == attnum)
    }

    /// `schema.name`, unquoted.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// One login or group role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// `rolsuper`.
    pub superuser: bool,
    /// Roles it is a member of, directly or not (without itself).
    pub member_of: Vec<String>,
    /// Those of them whose rights it has without SET ROLE.
    pub inherits: Vec<String>,
}

/// A function outside the system's schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// `nspname`.
    pub schema: Arc<str>,
    /// `proname`; one entry for all that share it.
    pub name: Arc<str>,
    /// One of them is `SECURITY DEFINER`.
    pub security_definer: bool,
}

/// What makes users' code run without naming it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Reading that relation.
    Read,
    /// Writing that relation.
    Write,
    /// Naming that type, or a column of it.
    Type,
    /// That operator.
    Operator,
    /// Any statement.
    Any,
    /// Any definition.
    Definition,
}

/// Users' code that stands behind something. Sorted, so that two snapshots of one catalog are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// When it runs.
    pub when: When,
    /// Bare name of the relation, type or operator; empty for [`When::Any`] and [`When::Definition`].
    pub name: Arc<str>,
    /// The same for people.
    pub qualified: Arc<str>,
    /// `schema.name` of the function, or of a relation of the system that shows values of others.
    pub code: Arc<str>,
    /// It is a function.
    pub function: bool,
    /// For [`When::Type`], else 0.
    pub type_oid: u32,
}

/// A rule (of CREATE RULE) that runs when its relation is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `rulename`.
    pub name: Arc<str>,
    /// Its relation.
    pub relation: u32,
    /// (relation oid, attnum) its actions name; attnum 0 for the relation itself.
    pub columns: Vec<(u32, i16)>,
    /// It names a row as a whole.
    pub whole_row: bool,
}

/// The snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// `current_database()`.
    pub database: String,
    /// `server_version_num`.
    pub server_version: u32,
    /// `pg_control_system().system_identifier`, or 0 where it may not be read.
    pub system_identifier: u64,
    /// By oid.
    pub relations: HashMap<u32, Arc<Relation>>,
    /// (schema, name) → oid.
    pub by_name: HashMap<(Arc<str>, Arc<str>), u32>,
    /// Domain oid → kind.
    pub sealed_domains: HashMap<u32, Kind>,
    /// Oid of the domain's array type → kind.
    pub sealed_arrays: HashMap<u32, Kind>,
    /// Types of base columns as recorded in `pgveil.columns` (relation oid, attnum) → `as`.
    pub sealed_types: HashMap<(u32, i16), SqlType>,
    /// Roles by name.
    pub roles: HashMap<String, Role>,
    /// Functions outside pg_catalog and information_schema, and users' functions inside.
    pub functions: Vec<Function>,
    /// Their names, unqualified.
    pub user_functions: std::collections::HashSet<String>,
    /// Names, in lower case, of relations whose defaults, rules or triggers may change the search path of the session.
    pub movers: std::collections::HashSet<String>,
    /// Views of `pgveil_lens` in schemas of its own → their comment, which marks how they were made.
    pub lens_views: HashMap<u32, Arc<str>>,
    /// What runs users' code without naming it.
    pub behind: Vec<Behind>,
    /// Rules other than views' own.
    pub rules: Vec<Rule>,
    /// Names of functions declared to return a sealed domain, or a row of a relation with a sealed column.
    pub sealed_functions: std::collections::HashSet<String>,
    /// Who may SELECT from a relation (attnum 0) or from one of its columns: names of roles, empty for PUBLIC.
    pub readers: HashMap<(u32, i16), Vec<Arc<str>>>,
    /// Names of all aggregates, the system's too.
    pub aggregates: std::collections::HashSet<String>,
    /// Names of all functions of which none is an aggregate, the system's too.
    pub routines: std::collections::HashSet<String>,
}

impl Schema {
    /// The relation of that oid.
    pub fn relation(&self, oid: u32) -> Option<&Arc<Relation>> {
        self.relations.get(&oid)
    }

    /// The relation of that exact schema and name.
    pub fn named(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.by_name.get(&(Arc::from(schema), Arc::from(name))).and_then(|oid| self.relations.get(oid))
    }
}
