//! Statement + rules → what to do with each parameter, literal, field and COPY column. Bounded cache.
//!
//! In: the client's text, declared parameter types, the actor's class, the rules. Out: a [`Decision`]. Never: keys,
//! values, I/O. The cache is keyed by hashes and holds no text of a client's literal.

mod allowed;
mod assemble;
mod cache;
mod constant;
mod copy;
mod ddl;
mod decide;
mod expression;
mod from;
mod function;
mod guard;
mod handles;
mod insert;
mod key;
mod lens;
mod observe;
mod privacy;
mod probe;
mod query;
mod reader;
mod refuse;
pub mod report;
mod subject;
mod typing;
mod update;
mod value;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, OnceLock};

pub use cache::Cache;
pub use decide::styled;
pub use guard::RELATIONS_DENIED;
pub use key::NAME as ADDED_KEY;
pub use observe::observed;
pub use refuse::{copy as copy_refused, unknown_relation};

use crate::error::Refusal;
use crate::event::{Access, Action, Part, Trace, Would};
use crate::policy::rules::{ClassId, Rules, SealedColumn};
use crate::sql::kind::Executed;
use crate::sql::parse::{NESTING_MAX, TOKENS_MAX};
pub use crate::sql::{Shape, Span};
use crate::wire::copy::Layout;
use crate::wire::types::SqlType;

/// How much of a text that names something protected is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens.
    pub tokens: usize,
    /// Parentheses and brackets in each other.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens: TOKENS_MAX, nesting: NESTING_MAX }
    }
}

/// Everything a decision depends on.
#[derive(Debug)]
pub struct Request<'a> {
    /// The client's text, UTF-8 already checked by the wire.
    pub sql: &'a str,
    /// Declared parameter types of a Parse; empty for a simple Query.
    pub parameter_oids: &'a [u32],
    /// Whether it came as Parse (parameters possible, one statement).
    pub extended: bool,
    /// The actor's class.
    pub class: ClassId,
    /// The login role, for `$user` in the search path.
    pub role: &'a str,
    /// What keys the current role may read ([`crate::policy::readers`]), to be added where a query returns none; 0: none
    /// is added.
    pub keys: u16,
    /// The session's search path, in order, `$user` already replaced, pg_catalog not added.
    pub search_path: &'a [Arc<str>],
    /// Unqualified names of temporary tables this session made; they hide everything else.
    pub temporary: &'a std::collections::HashSet<String>,
    /// The snapshot.
    pub rules: &'a Rules,
}

/// What to do with a statement text.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing protected is mentioned, or only as TRUNCATE does: forward untouched. Each step says what kind of statement
    /// it is.
    Pass(Arc<Plan>),
    /// Something protected is mentioned and every use of it is decided.
    Act(Arc<Plan>),
    /// The server must fail in its place.
    Refuse(Refused),
    /// It names a relation that the snapshot does not know: refresh the catalog and ask again (once).
    Unknown(Arc<Plan>),
}

/// A refusal with what the log needs.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What the client is told.
    pub refusal: Refusal,
    /// What was touched, for the event.
    pub touches: Arc<[Touched]>,
    /// Fingerprint and text without literals.
    pub shape: Arc<Shape>,
    /// The client's trace, where its comment names one; decisions are shared by texts, and do not.
    pub trace: Option<Trace>,
}

impl Refused {
    /// Without a trace.
    pub fn new(refusal: Refusal, touches: Arc<[Touched]>, shape: Arc<Shape>) -> Self {
        Self { refusal, touches, shape, trace: None }
    }
}

/// What happens to one statement text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Ascending, non-overlapping spans of the client's text; empty: forward the bytes as they are.
    pub edits: Vec<Edit>,
    /// Role of the client's `$1`, `$2`, …: as many as the text mentions.
    pub parameters: Vec<Parameter>,
    /// Further parameters the spliced text uses, numbered after the client's.
    pub hidden: Vec<Hidden>,
    /// One per SQL statement in the text, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Some parameter is cast by the text before it is sealed.
    pub fn casts(&self) -> bool {
        self.sealed().any(|target| !target.casts.is_empty())
    }

    /// What parameters are sealed for.
    pub fn sealed(&self) -> impl Iterator<Item = &Target> {
        let own = self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Sealed(target) => Some(target),
            _ => None,
        });
        own.chain(self.hidden.iter().map(|hidden| &hidden.target))
    }
}

/// Replaces one span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced.
    pub span: Span,
    /// By what.
    pub with: Replacement,
}

/// What stands there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// Fixed text.
    Text(Arc<str>),
    /// The literal at `literal` (string, number, TRUE/FALSE token), sealed and written as `'\x…'::bytea`.
    Cell {
        /// The column it belongs to.
        target: Target,
        /// The literal's own token inside the span.
        literal: Span,
        /// A minus sign stands before it.
        negative: bool,
    },
}

/// A sealed column that a value is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub column: Arc<SealedColumn>,
    /// The value is an array of which each element is sealed (`= ANY($1)`, unnest).
    pub array: bool,
    /// The value is compared, not stored: a value that cannot be a stored one (too long) is still sealed.
    pub search: bool,
    /// The value's own type (pg_type OID), as PostgreSQL would settle it; an array's if `array`. 0: the column's.
    pub from: u32,
    /// The casts that the text writes around it, innermost first; each on the elements if `array`.
    pub casts: Arc<[SqlType]>,
}

impl Target {
    /// For values of the column's own type, to be stored.
    pub fn stored(column: Arc<SealedColumn>) -> Self {
        Self { column, array: false, search: false, from: 0, casts: Arc::from([]) }
    }

    /// The type that a client is told the value has.
    pub fn told(&self) -> u32 {
        match self.from {
            0 if self.array => self.column.ty.kind.array_oid(),
            0 => self.column.ty.kind.oid(),
            oid => oid,
        }
    }
}

/// What a client parameter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Forwarded as it is.
    Plain,
    /// Forwarded as it is, and declared to the server as of that type (pg_type OID): a sealed place settles it first.
    Typed(u32),
    /// Sealed; the server is told bytea (17) or bytea[] (1001), the client its logical type. When the text casts it
    /// (`$1::varchar`), the cast is edited to bytea.
    Sealed(Target),
}

/// A parameter the client does not know about: the value of `source`, sealed for `target`, while `source` itself
/// stays plain (or is sealed for another column).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Zero-based index of the client's parameter.
    pub source: u16,
    /// What it is sealed for.
    pub target: Target,
}

/// What kind of statement, as far as the session must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Returns rows or counts, nothing special.
    Ordinary,
    /// COPY … FROM STDIN; without a plan it is of nothing protected.
    CopyIn(Option<CopyPlan>),
    /// COPY … TO STDOUT.
    CopyOut(CopyPlan),
    /// Ends or begins a transaction, savepoints.
    Transaction {
        /// It may take settings back: COMMIT those of SET LOCAL, ROLLBACK all since.
        restores: bool,
        /// It is over, perhaps with another one in its place.
        ends: bool,
    },
    /// CREATE, ALTER, DROP, GRANT, COMMENT, …: the catalog may differ afterwards.
    Ddl {
        /// CREATE TEMP TABLE of this unqualified name.
        temporary: Option<Arc<str>>,
        /// A relation of the policy is altered, dropped, or renamed.
        protected: bool,
    },
    /// SHOW search_path.
    ShowPath,
    /// PREPARE: the session can bind it by name from then on.
    Prepare {
        /// Its name.
        name: Arc<str>,
        /// The statement inside.
        query: Span,
    },
    /// EXPLAIN (PRIVACY): its rows are lines about a statement, and nobody's data.
    Report,
    /// DECLARE: what the query moves, it moves when rows are fetched.
    Declare,
    /// DEALLOCATE of one statement. That of all is told by its tag, as DISCARD ALL is.
    Deallocate(Arc<str>),
    /// An empty statement: answered by EmptyQueryResponse, and only if the whole text is empty.
    Empty,
}

/// What is done with the rows of a COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// How they look.
    pub layout: Arc<Layout>,
    /// In the order of the fields: sealed column or plain.
    pub columns: Vec<Option<Arc<SealedColumn>>>,
    /// Type of the field that names the subject (pg_type OID); 0 if there is none.
    pub subject_type: u32,
}

/// What the resolver says of one output column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Not sealed, as far as is known.
    Plain,
    /// That column, unchanged or through a listed wrapper.
    Sealed(Arc<SealedColumn>),
    /// An array of that column's cells (array_agg).
    SealedArray(Arc<SealedColumn>),
}

/// One SQL statement of the text.
#[derive(Clone, Debug)]
pub struct Step {
    /// What kind.
    pub kind: StepKind,
    /// For the event.
    pub access: Access,
    /// Protected columns touched, without duplicates.
    pub touches: Arc<[Touched]>,
    /// Runs code that cannot be seen into.
    pub touches_unknown: bool,
    /// A role's `max_rows` counts what it returns: it reads a protected relation, or nobody knows what it reads.
    pub counted: bool,
    /// A plaintext column, hidden from some role, that it reads as it is; of a definition: that it makes a table of.
    pub shows: Option<Arc<str>>,
    /// The cursor that DECLARE makes, FETCH reads or CLOSE ends.
    pub cursor: Option<CursorName>,
    /// A definition after which any statement may have to be decided otherwise. Other definitions matter only to
    /// statements that name what they define, which is unknown then, or that use something protected.
    pub far_reaching: bool,
    /// What may mean something else once it has run.
    pub moves: Moves,
    /// FETCH, MOVE, EXECUTE: it also moves what a cursor or statement made by SQL moves.
    pub runs_handle: bool,
    /// The prepared statement that it runs.
    pub executes: Option<Executed>,
    /// The relation it makes with sealed columns in it: until the catalog has been read again, nobody knows which.
    pub creates_sealed: Option<Arc<str>>,
    /// It changes data (INSERT, UPDATE, DELETE, MERGE, also inside a CTE).
    pub writes: bool,
    /// Output columns, if the resolver knows them: same order and number as RowDescription, else `None`.
    pub fields: Option<Vec<Field>>,
    /// Whose rows.
    pub subject: Option<SubjectPlan>,
    /// For the event.
    pub shape: Arc<Shape>,
    /// What enforcing the policy would have done, where it is only observed.
    pub would: Option<Arc<Would>>,
    /// What the events of all its runs share under that version of the rules, which a prepared statement may outlast.
    pub action: OnceLock<(u64, Part<Action>)>,
}

impl Step {
    /// Whose rows they are, if the server is asked for one more column than the client.
    pub fn added_key(&self) -> Option<&SubjectPlan> {
        self.subject.as_ref().filter(|subject| subject.from == SubjectFrom::Added)
    }
}

/// A cursor of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorName {
    /// Its name.
    pub name: Arc<str>,
    /// DECLARE … WITH HOLD.
    pub hold: bool,
}

/// What a statement may change for those after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Some setting (SET, RESET, DISCARD, set_config, DO, CALL, users' functions).
    pub settings: bool,
    /// Among them the search path or the role: bare names may mean other relations.
    pub names: bool,
    /// Among them DateStyle, TimeZone, IntervalStyle, bytea_output or extra_float_digits: values may be read and
    /// written in another form.
    pub style: bool,
}

impl std::ops::BitOrAssign for Moves {
    fn bitor_assign(&mut self, other: Self) {
        self.settings |= other.settings;
        self.names |= other.names;
        self.style |= other.style;
    }
}

/// A protected column that the statement uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Touched {
    /// `schema.table`.
    pub relation: Arc<str>,
    /// Column name.
    pub column: Arc<str>,
    /// Sealed column id; 0 for a plaintext one.
    pub id: u32,
    /// How.
    pub how: How,
}

/// How a protected column is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "plain words")]
pub enum How {
    Read,
    /// Read as a lens shows it.
    Masked,
    Searched,
    Written,
    /// In a statement that would be refused.
    Refused,
}

/// Where the subject's key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPlan {
    /// `user`, …
    pub kind: Arc<str>,
    /// Where.
    pub from: SubjectFrom,
}

/// See [`SubjectPlan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectFrom {
    /// Output column index (RETURNING, SELECT list, COPY field).
    Field(u16),
    /// Client parameters, zero-based (WHERE id = $1, INSERT VALUES, IN ($1,$2)); each names one person.
    Parameters(Vec<u16>),
    /// Literal tokens of the client's text; each names one person.
    Literals(Vec<Span>),
    /// A last output column that the plan's edits add, and that the client does not see.
    Added,
}
