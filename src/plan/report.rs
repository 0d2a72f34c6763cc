//! What would happen to a text, and why: for `pgveil explain` and `EXPLAIN (PRIVACY)`.
//!
//! In: a question to the planner, its decision. Out: a [`Report`], as data and as lines. Never: a value: constants of the
//! client's text are `?`, cells are `'\x…'`, parameters stay `$n`; nothing is decided here.

mod columns;
mod lines;
mod sent;

#[cfg(test)]
mod tests;

pub(super) use columns::relation_named;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::{Decision, Plan, Refused, Request, Step, SubjectFrom};
use crate::event::Access;
use crate::policy::rules::{Mode, SealedColumn};
use crate::policy::{above_name, level_name};
use crate::sql::lexer::Token;
use crate::sql::name::{ident, is_ident};
use crate::sql::resolve::{Found, Names};
use crate::sql::{lex, shape, statements};

/// Who reads the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Whoever has the policy before him: its conditions are shown as they are written.
    Operator,
    /// A client: constants of the policy's conditions are `?` too.
    Client,
}

/// The report on one text.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What becomes of the text.
    pub decision: Verdict,
    /// It is not done: where the policy says `mode = "observe"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// Who asks.
    pub role: Role,
    /// In which names are looked up, `$user` replaced.
    pub search_path: Vec<Arc<str>>,
    /// Why nothing is forwarded.
    pub refusal: Option<Said>,
    /// One for each statement; of a refused text the one that is refused.
    pub statements: Vec<Statement>,
    /// Indexes of the columns that are searched by their sealed values, if somebody has looked.
    pub indexes: Option<Vec<Index>>,
    /// Those columns, each once.
    #[serde(skip)]
    pub searched: Vec<Arc<SealedColumn>>,
}

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing protected is in it: forwarded as it is.
    Pass,
    /// Every use of something protected is decided.
    Act,
    /// PostgreSQL never sees it.
    Refused,
    /// It names something that the catalog, as last read, does not have.
    Unknown,
}

/// Who asks.
#[derive(Clone, Debug, Serialize)]
pub struct Role {
    /// The login.
    pub login: String,
    /// The policy has an entry for it, or for a group of its.
    pub listed: bool,
    /// PostgreSQL has a role of that name.
    pub exists: bool,
    /// `[roles.…]` or `default_role`.
    pub entry: Arc<str>,
    /// Where that stands in the policy.
    pub at: String,
    /// What it acts for, if its role has purposes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Arc<str>>,
    /// Levels up to this are clear.
    pub clearance: &'static str,
    /// What it gets above.
    pub above: &'static str,
    /// Most rows of listed tables that one statement may release.
    pub max_rows: Option<u64>,
    /// What PostgreSQL itself shows it in place of tables.
    pub lens: LensState,
}

/// Whether a role sees through a lens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LensState {
    /// No plaintext column or row is hidden from it.
    NotNeeded,
    /// PostgreSQL shows it views in place of tables.
    InForce,
    /// It needs one and has none that can be trusted: pgveil refuses whatever SQL could show more.
    Missing,
}

/// A refusal.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as the client is told")]
pub struct Said {
    pub code: &'static str,
    pub sqlstate: String,
    pub message: String,
    pub hint: String,
}

/// One statement.
#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    /// Its text, constants as `?`.
    pub text: Arc<str>,
    /// What is done to data.
    pub access: Option<Access>,
    /// It runs code that cannot be seen into.
    pub runs_unseen: bool,
    /// Protected columns it uses.
    pub columns: Vec<Column>,
    /// Tables of which the role reaches some rows only.
    pub rows: Vec<Rows>,
    /// Whose rows, and how that is known.
    pub subject: Option<String>,
    /// What PostgreSQL gets, if that is another text.
    pub sent: Option<String>,
}

/// One use of a protected column.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// `schema.table`.
    pub relation: Arc<str>,
    /// Its name.
    pub column: Arc<str>,
    /// `read`, `searched`, `written`; `named` by a refusal.
    pub used: &'static str,
    /// `clear`, `masked`, `null`, `sealed`, `refused`.
    pub treatment: &'static str,
    /// The mask, if it is masked.
    pub mask: Option<String>,
    /// How it is encrypted, if it is.
    pub encrypt: Option<&'static str>,
    /// The view of the lens through which it is reached.
    pub through: Option<String>,
    /// Level and clearance, and where the policy says so.
    pub why: String,
}

/// A row filter.
#[derive(Clone, Debug, Serialize)]
pub struct Rows {
    /// `schema.table`.
    pub relation: String,
    /// Only rows for which it is true exist for the role.
    pub condition: Arc<str>,
    /// Where the policy says so.
    pub at: String,
}

/// An index of a column that is searched.
#[derive(Clone, Debug, Serialize)]
pub struct Index {
    /// `schema.table.column`.
    pub column: String,
    /// The index that leads with it.
    pub index: Option<String>,
    /// The statement that makes one, if there is none.
    pub create: Option<String>,
}

impl Report {
    /// The report on what was decided about `request.sql`.
    pub fn new(request: &Request<'_>, decision: &Decision, asker: Asker) -> Self {
        let tokens = lex(request.sql, usize::MAX).unwrap_or_default();
        let about = About { request, asker, tokens: &tokens };
        let (decision, refusal, statements) = match decision {
            Decision::Pass(plan) => (Verdict::Pass, None, about.plan(plan)),
            Decision::Act(plan) => (Verdict::Act, None, about.plan(plan)),
            Decision::Unknown(plan) => (Verdict::Unknown, None, about.plan(plan)),
            Decision::Refuse(refused) => (Verdict::Refused, Some(Said::new(refused)), vec![about.refused(refused)]),
        };
        let mut searched: Vec<Arc<SealedColumn>> = Vec::new();
        let used = |c: &&Column| c.used == "searched" && c.treatment == "sealed";
        for column in statements.iter().flat_map(|statement| &statement.columns).filter(used) {
            let sealed = request.rules.sealed.values();
            let sealed = sealed.into_iter().find(|s| s.relation == column.relation && s.column == column.column);
            let searchable = sealed.filter(|s| s.mode == Mode::Deterministic && !searched.contains(s));
            searched.extend(searchable.cloned());
        }
        let (role, search_path) = (about.role(), request.search_path.to_vec());
        let observed = request.rules.observe.as_ref().map(|observe| observe.place.to_string());
        Self { decision, observed, role, search_path, refusal, statements, indexes: None, searched }
    }
}

impl Said {
    fn new(refused: &Refused) -> Self {
        let refusal = &refused.refusal;
        Self {
            code: refusal.code.as_str(),
            sqlstate: refusal.sqlstate.as_str().to_owned(),
            message: refusal.message.to_string(),
            hint: refusal.hint.to_string(),
        }
    }
}

/// What a report is made of.
struct About<'a> {
    request: &'a Request<'a>,
    asker: Asker,
    tokens: &'a [Token],
}

impl About<'_> {
    fn role(&self) -> Role {
        let class = self.request.rules.class(self.request.class);
        let ground = self.request.rules.grounds.class(self.request.class);
        let lens = match () {
            () if class.lens.is_some() => LensState::InForce,
            () if class.partial() => LensState::Missing,
            () => LensState::NotNeeded,
        };
        Role {
            login: self.request.role.to_owned(),
            listed: self.request.rules.class_of.contains_key(self.request.role),
            exists: self.request.rules.schema.roles.contains_key(self.request.role),
            entry: ground.map_or_else(|| class.role.as_str().into(), |ground| ground.entry.clone()),
            at: ground.map_or_else(String::new, |ground| ground.place.to_string()),
            purpose: class.purpose.clone(),
            clearance: ground.map_or("", |ground| level_name(ground.clearance)),
            above: ground.map_or("", |ground| above_name(ground.above)),
            max_rows: class.max_rows,
            lens,
        }
    }

    fn plan(&self, plan: &Plan) -> Vec<Statement> {
        let ranges = statements(self.tokens, self.request.sql);
        ranges.into_iter().zip(&plan.steps).map(|(range, step)| self.statement(range, step, plan)).collect()
    }

    fn statement(&self, range: Range<usize>, step: &Step, plan: &Plan) -> Statement {
        Statement {
            text: step.shape.text.clone(),
            access: Some(step.access),
            runs_unseen: step.touches_unknown,
            columns: step.touches.iter().map(|touched| self.column(touched)).collect(),
            rows: self.rows(range.clone()),
            subject: step.subject.as_ref().map(|subject| format!("{}, by {}", subject.kind, by(&subject.from))),
            sent: sent::text(self.request.sql, &self.tokens[range], &plan.edits),
        }
    }

    fn refused(&self, refused: &Refused) -> Statement {
        let shaped = |range: &Range<usize>| shape(self.request.sql, &self.tokens[range.clone()]) == *refused.shape;
        let range = statements(self.tokens, self.request.sql).into_iter().find(shaped);
        let mut columns: Vec<Column> = refused.touches.iter().map(|touched| self.column(touched)).collect();
        for named in self.named_in(&refused.refusal.message) {
            if !columns.iter().any(|c| c.relation == named.relation && c.column == named.column) {
                columns.push(self.column(&named));
            }
        }
        for column in &mut columns {
            (column.treatment, column.mask) = ("refused", None);
        }
        Statement {
            text: refused.shape.text.clone(),
            access: None,
            runs_unseen: false,
            columns,
            rows: range.map_or_else(Vec::new, |range| self.rows(range)),
            subject: None,
            sent: None,
        }
    }

    /// Filters of the tables that the statement's words name.
    fn rows(&self, range: Range<usize>) -> Vec<Rows> {
        let Request { sql, rules, search_path, temporary, .. } = self.request;
        let Some(ground) = rules.grounds.class(self.request.class).filter(|ground| !ground.rows.is_empty()) else {
            return Vec::new();
        };
        let class = rules.class(self.request.class);
        let names = Names { schema: &rules.schema, path: search_path, temporary };
        let own = &self.tokens[range];
        let mut tables = BTreeSet::new();
        for (at, token) in own.iter().enumerate().filter(|(_, token)| is_ident(token)) {
            let schema = at.checked_sub(2).filter(|schema| own[at - 1].is_punct(b'.') && is_ident(&own[*schema]));
            let schema = schema.map(|schema| ident(sql, &own[schema]).into_owned());
            let parts: Vec<String> = schema.into_iter().chain([ident(sql, token).into_owned()]).collect();
            let Found::Relation(relation) = names.find(&parts) else { continue };
            let base = class.lens.as_ref().and_then(|lens| lens.table_of(relation.oid));
            tables.insert(base.unwrap_or(relation.oid));
        }
        let shown = |condition: &Arc<str>| match self.asker {
            Asker::Operator => condition.clone(),
            Asker::Client => {
                lex(condition, usize::MAX).map_or_else(|_| "…".into(), |tokens| shape(condition, &tokens).text)
            }
        };
        let filters = tables.into_iter().filter_map(|table| {
            let (condition, place) = ground.rows.get(&table)?;
            let relation = rules.schema.relation(table)?.qualified();
            Some(Rows { relation, condition: shown(condition), at: place.to_string() })
        });
        filters.collect()
    }
}

fn by(from: &SubjectFrom) -> String {
    match from {
        SubjectFrom::Field(at) => format!("output column {}", u32::from(*at) + 1),
        SubjectFrom::Parameters(all) => {
            let all: Vec<String> = all.iter().map(|at| format!("${}", u32::from(*at) + 1)).collect();
            all.join(", ")
        }
        SubjectFrom::Added => "a column that pgveil adds and takes away again".to_owned(),
        SubjectFrom::Literals(all) if all.len() == 1 => "a constant".to_owned(),
        SubjectFrom::Literals(all) => format!("{} constants", all.len()),
    }
}
