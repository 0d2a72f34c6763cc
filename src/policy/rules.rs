//! The compiled, immutable snapshot that every decision is made under.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::checked::Purpose;
use super::code::UsersCode;
use super::grounds::Grounds;
use super::lens::View;
use super::observe::Observe;
use super::purpose::Act;
use super::readers::Readers;
use super::voucher::Voucher;
use crate::mask::Mask;
use crate::sql::schema::Schema;
use crate::wire::types::SqlType;

/// By column id, as every cell is looked up: ids are the catalog's, so that no client can choose them to collide.
pub type ByColumn<V> = HashMap<u32, V, foldhash::fast::RandomState>;

/// Classification levels, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the founding documents'")]
pub enum Level {
    Public,
    Internal,
    Confidential,
    Restricted,
}

/// How a column is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Fresh nonce for every cell; store and read only.
    Randomized,
    /// Same value, same envelope: equality, grouping, keys.
    Deterministic,
}

/// What a client gets when a cell does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the policy's")]
pub enum OnFailure {
    Error,
    Null,
    Mask,
}

/// What an actor sees of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Treatment {
    /// The value.
    Clear,
    /// The column's mask, or NULL where the mask has no value of the column's type.
    Mask,
    /// NULL.
    Null,
    /// The statement is refused.
    Deny,
    /// The envelope as it is.
    Sealed,
}

/// Whose row it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectKey {
    /// `user`, `patient`, …
    pub kind: Arc<str>,
    /// Column of this table that holds the person's key.
    pub attnum: i16,
    /// Its name.
    pub column: Arc<str>,
}

/// A column that the policy encrypts and that is sealed in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedColumn {
    /// Stable id from the keyring.
    pub id: u32,
    /// `schema.table`.
    pub relation: Arc<str>,
    /// Column name.
    pub column: Arc<str>,
    /// `pg_class.oid`.
    pub relation_oid: u32,
    /// `attnum`.
    pub attnum: i16,
    /// The logical type clients see.
    pub ty: SqlType,
    /// How it is sealed.
    pub mode: Mode,
    /// Its level.
    pub level: Level,
    /// Its mask.
    pub mask: Mask,
    /// What happens when a cell does not open.
    pub on_failure: OnFailure,
}

/// A table named in the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedTable {
    /// `pg_class.oid`.
    pub oid: u32,
    /// `schema.table`.
    pub name: Arc<str>,
    /// Whose rows.
    pub subject: Option<SubjectKey>,
    /// Level of every live column, sealed or not, by attnum (unlisted ones have `default_level`).
    pub levels: HashMap<i16, Level>,
    /// Columns the policy encrypts but whose catalog type is not a sealed domain yet: statements that name the
    /// table are refused with PV026 until `pgveil apply` / `pgveil seal` has run.
    pub pending: Vec<Arc<str>>,
}

/// The views of one class, all of them in the database as the policy has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lens {
    /// Schema of tables → the schema of their views.
    pub schemas: HashMap<Arc<str>, Arc<str>>,
    /// Table → its view, both `pg_class.oid`.
    pub views: HashMap<u32, u32>,
    /// Table → the view through which rows are inserted, and its schema, where that is another.
    pub inserts: HashMap<u32, (Arc<str>, u32)>,
}

impl Lens {
    /// The table that one of its views stands for.
    pub fn table_of(&self, view: u32) -> Option<u32> {
        let seen = self.views.iter().find(|(_, oid)| **oid == view).map(|(table, _)| *table);
        seen.or_else(|| self.inserts.iter().find(|(_, (_, oid))| *oid == view).map(|(table, _)| *table))
    }
}

macro_rules! statement_classes {
    ($($name:ident = $word:literal, $words:literal;)*) => {
        /// What `refuse` can name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each has its words")]
        pub enum StatementClass { $($name,)* }

        impl StatementClass {
            /// The policy's words.
            pub const WORDS: &'static [(&'static str, StatementClass)] = &[$(($word, StatementClass::$name),)*];

            /// In a policy.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// In a message.
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

statement_classes! {
    Read = "read", "a query";
    Write = "write", "INSERT, UPDATE, DELETE, MERGE, TRUNCATE or COPY FROM";
    Ddl = "ddl", "a definition";
    CopyOut = "copy_out", "COPY TO";
    Functions = "functions", "a function that users have written";
    SqlFunctions = "sql_functions", "a function that runs SQL text";
    FileFunctions = "file_functions", "a function or COPY that reaches files of the server";
    Do = "do", "DO";
    Listen = "listen", "LISTEN, UNLISTEN or NOTIFY";
    FastPath = "fast_path", "a function-call message";
}

/// What becomes of a statement that would make a table of a protected plaintext column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copies {
    /// It is refused.
    #[default]
    Refuse,
    /// It runs, and the access log says so.
    Allow,
}

/// How the access log names a person that a login has vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persons {
    /// By a keyed pseudonym.
    Pseudonym,
    /// As the token does.
    Clear,
}

/// Actors with the same rights share a class; the plan cache is keyed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassId(pub u16);

/// What one class of actors may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActorClass {
    /// The `[roles.…]` entry it came from; empty for `default_role`.
    pub role: String,
    /// Sealed column id → what is seen. An id that is not here is `Null`.
    pub sealed: ByColumn<Treatment>,
    /// Sealed column ids this class may search and write.
    pub may_search: HashSet<u32>,
    /// Sealed column ids this class may store into.
    pub may_write: HashSet<u32>,
    /// Plaintext columns above its clearance: (relation oid, attnum). Also through views: the relation's `reads`.
    pub hidden: HashSet<(u32, i16)>,
    /// Statements it may not send, whatever they touch.
    pub refuses: Vec<StatementClass>,
    /// Most rows that one statement may release of what is protected.
    pub max_rows: Option<u64>,
    /// Relations of which it may not reach every row.
    pub filtered: HashSet<u32>,
    /// What PostgreSQL shows it in place of the tables; `None` while that is not in force.
    pub lens: Option<Arc<Lens>>,
    /// What whoever is in it acts for.
    pub purpose: Option<Arc<str>>,
    /// Of a login's own class: it may vouch for who is behind it, who is logged so.
    pub vouches: Option<Persons>,
    /// Of a login's own class: the purposes it may act for; the first when nothing is claimed.
    pub acts: Vec<Act>,
}

impl ActorClass {
    /// Something is hidden from it beside sealed values.
    pub fn partial(&self) -> bool {
        !self.hidden.is_empty() || !self.filtered.is_empty()
    }

    /// Something is hidden from it and only pgveil hides it, so SQL that cannot be read completely is refused.
    pub fn restricted(&self) -> bool {
        self.partial() && self.lens.is_none()
    }

    /// What is seen of that sealed column.
    pub fn treatment(&self, column_id: u32) -> Treatment {
        self.sealed.get(&column_id).copied().unwrap_or(Treatment::Null)
    }
}

/// The snapshot.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Grows with every swap; named by every event.
    pub version: u64,
    /// What names mean.
    pub schema: Arc<Schema>,
    /// By relation oid.
    pub tables: HashMap<u32, Arc<ProtectedTable>>,
    /// By (relation oid, attnum).
    pub sealed: HashMap<(u32, i16), Arc<SealedColumn>>,
    /// By column id.
    pub by_id: ByColumn<Arc<SealedColumn>>,
    /// All classes; index = `ClassId`. The first is `default_role`. With [`Rules::observe`] each stands there several
    /// times.
    pub classes: Vec<ActorClass>,
    /// Login role → class, for logins with an entry of their own or through `member_of`.
    pub class_of: HashMap<String, ClassId>,
    /// Lower-cased unqualified names of protected relations, of views over them, and of every relation with a
    /// sealed column: a statement whose tokens contain none of these mentions nothing protected.
    pub names: HashSet<String>,
    /// Users' code that restricted classes must not run.
    pub code: UsersCode,
    /// The views of all lenses, as the policy has them.
    pub views: Vec<View>,
    /// `[purposes]`, for what sessions claim.
    pub purposes: Vec<Purpose>,
    /// `[vouchers]`: who may sign for persons.
    pub vouchers: Vec<Voucher>,
    /// `[functions] reviewed`: (schema, name).
    pub reviewed: Vec<(String, String)>,
    /// Why: for people, and nothing is decided by it.
    pub grounds: Grounds,
    /// What hides plaintext is decided and logged, and not done.
    pub observe: Option<Observe>,
    /// Who may read the keys of whose rows they are.
    pub readers: Readers,
    /// Tables made of protected plaintext columns.
    pub copies: Copies,
    /// Thresholds.
    pub detect: crate::detect::Thresholds,
    /// Problems with the live catalog that do not stop serving (shown by `check` and the log).
    pub warnings: Vec<String>,
}

impl Rules {
    /// Before anything is known: no role has a class, so no session can be judged by them.
    pub fn none(detect: crate::detect::Thresholds) -> Self {
        Self {
            version: 0,
            schema: Arc::default(),
            tables: HashMap::new(),
            sealed: HashMap::new(),
            by_id: ByColumn::default(),
            classes: Vec::new(),
            class_of: HashMap::new(),
            names: HashSet::new(),
            code: UsersCode::default(),
            views: Vec::new(),
            purposes: Vec::new(),
            vouchers: Vec::new(),
            reviewed: Vec::new(),
            grounds: Grounds::default(),
            observe: None,
            readers: Readers::default(),
            copies: Copies::default(),
            detect,
            warnings: Vec::new(),
        }
    }

    /// The class of that login; `default_role`'s if it has none.
    pub fn class_of(&self, role: &str) -> ClassId {
        self.class_of.get(role).copied().unwrap_or(ClassId(0))
    }

    /// What that class may do.
    pub fn class(&self, id: ClassId) -> &ActorClass {
        &self.classes[usize::from(id.0)]
    }

    /// Some class may not see that plaintext column of a table, or of a view.
    pub fn hidden_from_some(&self, column: (u32, i16)) -> bool {
        self.classes.iter().any(|class| class.hidden.contains(&column))
    }

    /// That relation is a listed table, one of its parts, or a view over one.
    pub fn shows_table(&self, relation: u32) -> bool {
        let listed = |oid: &u32| self.tables.contains_key(oid);
        self.schema.relation(relation).is_some_and(|it| listed(&it.oid) || it.reads.iter().any(listed))
    }

    /// The sealed column that (relation, attnum) shows: itself, or through a view the base column.
    pub fn sealed_at(&self, relation: u32, attnum: i16) -> Option<&Arc<SealedColumn>> {
        if let Some(column) = self.sealed.get(&(relation, attnum)) {
            return Some(column);
        }
        let source = self.schema.relation(relation)?.column_at(attnum)?.source?;
        self.sealed.get(&source)
    }
}
