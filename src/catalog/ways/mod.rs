//! Every way around a lens: what lets a masked role reach what its lens hides without going through it.
//!
//! In: the masked roles, what each may not see, and the catalog. Out: one [`Way`] for each thing that must go before a
//! lens means anything, with the SQL that removes it where SQL can decide that.
//!
//! Never: a change (it only reads), a value (names alone), a query per role or table (one per kind of object).
//!
//! What is looked at and is no way, so that nobody looks for it twice:
//! - CREATEDB: a new database holds a copy only of a template, and in the copy every table keeps its owner and rights.
//! - TEMP: pg_temp is searched first, but only in the session that made it, and never for functions and operators.
//!   Nobody else's statement meets a temporary object; a SECURITY DEFINER function that would is a way of its own.
//! - `security_invoker` views: the base is read with the current user's rights, also through a definer's view. What a
//!   materialised view has kept of one counts.
//! - A view owned by the role itself: it reads with the role's rights. It still counts as [`WayKind::ViewOwner`] when
//!   it uses the base, for others who read it run what the role puts there.
//! - pg_stats, pg_stats_ext, pg_user_mappings, information_schema: they check for themselves. Sizes and estimates
//!   (`reltuples`, pg_relation_size) are everybody's, with or without a lens; exact counts are not.
//! - Triggers on what the role writes: SECURITY INVOKER code runs with its own rights. What a SECURITY DEFINER trigger
//!   of a table the role may write does is that table's design, and is not read here.
//! - What a function's text does: a function counts by whose rights it runs with, not by what it says.
//! - Rights WITH GRANT OPTION that others hold, sequences, large objects, pg_signal_backend, pg_checkpoint,
//!   pg_read_all_settings, USAGE on schemas, event triggers of others, expressions of indexes and generated columns.
//! - A publication or subscription without the attribute REPLICATION or the right to make one.

mod around;
mod queries;
mod roles;
mod tables;

use std::fmt;

use tokio_postgres::Client;

use crate::catalog::{ask, control};
use crate::error::Result;
use roles::{Cast, Fix};

/// A masked role, login or group, and what it must reach through its lens only. Logins that are masked because of a
/// group are each asked about under their own name: the group does not show what else they are members of. A role with
/// a lens for each of its purposes is asked about once, with all their schemas: the others are empty without their purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// Its name; a role that does not exist has no way.
    pub role: String,
    /// Its protected tables. The key table of keyed masks belongs here too, for every masked role; of other tables in
    /// schema `pgveil` only rights to write count.
    pub hidden: Vec<Hidden>,
    /// Where its own lenses are. Views of another role's lens are dependent views like any other.
    pub lens_schemas: Vec<String>,
    /// Whose the views of a lens are; what others put into its schema is not the lens.
    pub lens_owner: String,
    /// `(schema, name)` of functions and foreign tables that somebody has read and found harmless: SECURITY DEFINER
    /// functions, dblink's, those in untrusted languages.
    pub reviewed: Vec<(String, String)>,
}

/// What the role must not see of a table. Partitions, children and parents are found here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hidden {
    /// Oid of the base table.
    pub relation: u32,
    /// `attnum` of columns it must not read as they are; empty where rows are hidden, and with them every column.
    pub columns: Vec<i16>,
}

macro_rules! kinds {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        /// What sort of way it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum WayKind { $(#[doc = $doc] $name,)* }

        impl WayKind {
            /// Every kind, in order.
            pub const ALL: &'static [WayKind] = &[$(WayKind::$name,)*];

            /// Stable, for scripts.
            pub fn as_str(self) -> &'static str {
                match self { $(WayKind::$name => $text,)* }
            }

            /// One line of what it is.
            pub fn meaning(self) -> &'static str {
                match self { $(WayKind::$name => $doc,)* }
            }
        }
    };
}

kinds! {
    Superuser = "superuser", "A superuser, or a member of one: nothing is checked. The role's other ways are not listed.";
    BypassRls = "bypassrls", "BYPASSRLS: row security does not apply.";
    CreateRole = "createrole", "CREATEROLE: makes logins no policy knows; before PostgreSQL 16 also joins any group.";
    Replication = "replication", "REPLICATION: streams every table and file.";
    PredefinedRole = "predefined_role", "A membership in a predefined role that reads, writes or connects past grants.";
    LensOwner = "lens_owner", "It owns the lens, or is a member of its owner, who reads the base.";
    TableOwner = "table_owner", "It owns the table, a partition, child or parent: an owner grants itself what it likes.";
    SchemaOwner = "schema_owner", "It owns the table's or lens's schema: it drops and replaces what is in there.";
    DatabaseOwner = "database_owner", "It owns the database: it sets other sessions' search_path and owns public.";
    ViewOwner = "view_owner", "It owns a view or materialised view of the table, whose readers run what it puts there.";
    FunctionOwner = "function_owner", "It owns a function that runs on the table's rows when others write or read.";
    TypeOwner = "type_owner", "It owns the domain of a hidden column: a new CHECK is computed over all its values.";
    Read = "read", "SELECT on the table, a partition, child or parent.";
    ReadColumn = "read_column", "SELECT on a hidden column.";
    Write = "write", "A write around the lens: hidden rows and columns are changed or counted, filters not checked.";
    References = "references", "REFERENCES: a foreign key tells which hidden values exist.";
    Trigger = "trigger", "TRIGGER: its code is given every row that others write.";
    Maintain = "maintain", "MAINTAIN where rows are hidden: VACUUM VERBOSE counts them.";
    View = "view", "SELECT on a view, through any number of views, that shows what is hidden.";
    MaterializedView = "materialized_view", "SELECT on a materialised copy of what is hidden.";
    Rule = "rule", "A write that a rule turns into a read of the table with another's rights.";
    Existence = "existence", "A write to a table whose foreign key tells which hidden rows or values exist.";
    RowPolicy = "row_policy", "Row security with a policy that is not TO PUBLIC: it does not hold for the lens.";
    DefaultAcl = "default_acl", "Default privileges that open tables made from now on.";
    CreateInSchema = "create_in_schema", "CREATE on a schema where others' statements find their names.";
    CreateInDatabase = "create_in_database", "CREATE on the database: a schema named like a user comes first in that user's path.";
    DefinerFunction = "definer_function", "EXECUTE on a SECURITY DEFINER function that nobody has reviewed.";
    RemoteFunction = "remote_function", "EXECUTE on a function that connects to databases past the proxy.";
    SystemFunction = "system_function", "EXECUTE on a function that reads the server's files or write-ahead log.";
    UntrustedLanguage = "untrusted_language", "Code in an untrusted language: its own, or a function nobody has reviewed.";
    ForeignTable = "foreign_table", "A foreign table, which may lead back to this database under another login.";
    ForeignServer = "foreign_server", "USAGE on a foreign server: foreign tables of its own.";
    ForeignWrapper = "foreign_wrapper", "USAGE on a foreign-data wrapper: servers of its own.";
    SystemCatalog = "system_catalog", "SELECT on a system table that holds values or passwords.";
    Parameter = "parameter", "A right to set a parameter that runs programs or loads code.";
    EventTrigger = "event_trigger", "It owns an event trigger or its function, which everybody's DDL runs.";
    Publication = "publication", "The table is published and the role may replicate.";
    RoleSetting = "role_setting", "Its sessions begin as another role, which the lens was not made for.";
}

impl fmt::Display for WayKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One way around. Ordered by role, kind and words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// The masked role.
    pub role: String,
    /// What sort.
    pub kind: WayKind,
    /// The rest of the sentence that begins with the role: the object, and the path to the right on it.
    pub what: String,
    /// What closes it, one or more statements; `None` where only a person can say what to do instead.
    pub sql: Option<String>,
    /// The SQL takes something from this role alone: no other role loses a right. False without SQL.
    pub only_this_role: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.what)
    }
}

/// What is found, as it is found.
#[derive(Debug, Default)]
struct Found(Vec<Way>);

impl Found {
    fn add(&mut self, actor: &roles::Actor<'_>, kind: WayKind, what: String, (sql, alone): Fix) {
        let role = actor.masked.role.clone();
        let only_this_role = alone && sql.is_some();
        self.0.push(Way { role, kind, what, sql, only_this_role });
    }
}

/// Finds them all, sorted. Sees the caller's transaction. Sets the connection's `search_path` to pg_catalog, and leaves
/// it there as every control connection has it.
///
/// # Errors
/// [`Error::Control`](crate::error::Error::Control) with the server's message.
pub async fn ways(client: &Client, masked: &[Masked]) -> Result<Vec<Way>> {
    client.batch_execute(queries::PATH).await.map_err(|e| control(&e))?;
    let mut cast = Cast::read(client, masked).await?;
    let mut found = Found::default();
    around::attributes(&mut cast, &mut found);
    if !cast.actors.is_empty() {
        let tables = tables::Tables::read(client, &cast).await?;
        tables.judge(&cast, &mut found);
        around::judge(client, &cast, &tables, &mut found).await?;
    }
    let mut ways = found.0;
    ways.sort();
    ways.dedup();
    Ok(ways)
}
