//! The subject's key that a query does not return: one more output column, which the session takes away again.
//!
//! In: the tree of a plain SELECT, what its names mean, the role's rights. Out: an edit at the end of the SELECT list.
//! Never: a column where it could change the rows or their order, or fail: DISTINCT, GROUP BY, aggregates, set operations,
//! a nullable side of an outer join, a column that the role may not read.
//!
//! A query of several people's tables is about one person only if their keys are compared with each other; else nobody
//! is named.

use std::ops::Range;
use std::sync::Arc;

use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, GroupByExpr, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem,
    SetExpr, Statement, TableFactor, TableWithJoins,
};

use super::decide::Text;
use super::query::bare;
use super::reader::{Output, Reader, Sc};
use super::value::Value;
use super::{Step, SubjectFrom, SubjectPlan};
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::{ident, is_ident, quoted};
use crate::sql::parse::parse_statement;
use crate::sql::resolve::{Found, parts};
use crate::sql::schema::{RelKind, Relation};
use crate::sql::{Span, lex};

/// What the column is called on its way.
pub const NAME: &str = "pgveil_subject";

/// Output columns of a query that gets one more; PostgreSQL's own limit is 1664.
const COLUMNS_MAX: usize = 1_600;

/// Types whose values are told in both formats: smallint, integer, bigint, uuid, text, varchar.
const TYPES: [u32; 6] = [21, 23, 20, 2950, 25, 1043];

/// What may stand before a parenthesis and is neither a function of the catalog nor an aggregate.
const WORDS: &[&str] = &[
    "and",
    "any",
    "array",
    "as",
    "at",
    "between",
    "by",
    "case",
    "cast",
    "char",
    "character",
    "coalesce",
    "current_time",
    "current_timestamp",
    "dec",
    "decimal",
    "else",
    "exists",
    "extract",
    "filter",
    "float",
    "greatest",
    "ilike",
    "in",
    "is",
    "least",
    "like",
    "localtime",
    "localtimestamp",
    "not",
    "nullif",
    "operator",
    "or",
    "order",
    "over",
    "partition",
    "row",
    "some",
    "symmetric",
    "then",
    "trim",
    "varying",
    "when",
    "window",
];

/// Where the key stands.
#[derive(Debug)]
pub(super) struct Key {
    kind: Arc<str>,
    /// `relation.column`, as the query must write it.
    column: String,
    /// The token that begins the first item of FROM that has a name.
    first: usize,
    /// Items of the SELECT list, and of FROM.
    items: (usize, usize),
}

/// A SELECT and no more: no WITH, no set operation.
pub(super) fn plain(statement: &Statement) -> bool {
    matches!(statement, Statement::Query(query) if select(query).is_some())
}

/// So many columns that one more is no trouble.
pub(super) fn countable(output: &Output) -> bool {
    !output.open && output.columns.len() < COLUMNS_MAX
}

fn select(query: &Query) -> Option<&Select> {
    match &*query.body {
        SetExpr::Select(select) if query.with.is_none() => Some(select),
        _ => None,
    }
}

/// One named relation of FROM.
struct Entry<'q> {
    name: &'q ObjectName,
    /// The row may be missing: an outer join has NULLs in its place.
    nullable: bool,
}

/// Where two columns are compared with each other.
enum Tie<'q> {
    /// True of every row that shows something of these entries; `None`: of every row.
    Condition(&'q Expr, Option<Range<usize>>),
    /// The column of that name, of the entries up to `end` from `start` on.
    Using { name: String, start: usize, end: usize },
}

/// FROM, if it is made of named relations only.
#[derive(Default)]
struct Named<'q> {
    entries: Vec<Entry<'q>>,
    ties: Vec<Tie<'q>>,
}

impl<'q> Named<'q> {
    fn of(list: &'q [TableWithJoins]) -> Option<Self> {
        let mut named = Self::default();
        list.iter().try_for_each(|item| named.item(item))?;
        Some(named)
    }

    fn item(&mut self, item: &'q TableWithJoins) -> Option<()> {
        let start = self.entries.len();
        self.factor(&item.relation)?;
        for join in &item.joins {
            let middle = self.entries.len();
            self.factor(&join.relation)?;
            let (constraint, left, right) = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint) => (constraint, false, false),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (constraint, false, true),
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (constraint, true, false),
                JoinOperator::FullOuter(constraint) => (constraint, true, true),
                _ => return None,
            };
            let end = self.entries.len();
            self.entries[start..middle].iter_mut().for_each(|entry| entry.nullable |= left);
            self.entries[middle..end].iter_mut().for_each(|entry| entry.nullable |= right);
            match constraint {
                JoinConstraint::On(condition) if !left => {
                    let of = if right { middle..end } else { start..end };
                    self.ties.push(Tie::Condition(condition, Some(of)));
                }
                JoinConstraint::Using(names) if !left => {
                    let single = |name: &ObjectName| parts(name)?.pop();
                    let using = |name| Tie::Using { name, start, end };
                    self.ties.extend(names.iter().filter_map(single).map(using));
                }
                _ => {}
            }
        }
        Some(())
    }

    fn factor(&mut self, factor: &'q TableFactor) -> Option<()> {
        match factor {
            TableFactor::Table { name, args: None, .. } => {
                self.entries.push(Entry { name, nullable: false });
                Some(())
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.item(table_with_joins),
            _ => None,
        }
    }
}

/// A table of FROM that has a subject.
struct Person<'r> {
    /// Which item of FROM it is.
    at: usize,
    /// What the role reads: the table, or a view in its place.
    read: &'r Arc<Relation>,
    kind: Arc<str>,
    key: (u32, i16),
    nullable: bool,
}

impl<'a> Reader<'a> {
    /// The key of the one person that each row of this SELECT is about.
    pub(super) fn key_beside(&self, scope: &Sc<'_>, select: &Select) -> Option<Key> {
        let grouped = match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) => !exprs.is_empty() || !modifiers.is_empty(),
            GroupByExpr::All(_) => true,
        };
        let distinct = !matches!(select.distinct, None | Some(Distinct::All));
        if grouped || distinct || select.having.is_some() || select.into.is_some() {
            return None;
        }
        let named = Named::of(&select.from)?;
        if named.entries.len() != scope.rels.len() {
            return None;
        }
        let people = self.people(&named)?;
        let tied = self.ties(scope, select, &named, &people);
        let of_all = |at: usize| {
            let mut together = vec![at];
            let mut next = 0;
            while let Some(from) = together.get(next).copied() {
                next += 1;
                for (a, b) in &tied {
                    let other = if *a == from {
                        *b
                    } else if *b == from {
                        *a
                    } else {
                        continue;
                    };
                    if !together.contains(&other) {
                        together.push(other);
                    }
                }
            }
            together.len() == people.len()
        };
        let fits = |(at, person): &(usize, &Person<'_>)| {
            !person.nullable && self.rules.readers.may(self.request.keys, person.read.oid) && of_all(*at)
        };
        let (_, person) = people.iter().enumerate().find(fits)?;
        let first = named.entries.first()?.name.0.first()?.as_ident()?;
        Some(Key {
            kind: person.kind.clone(),
            column: self.key_written(scope, person)?,
            first: self.token_at(first.span.start).ok()?,
            items: (select.projection.len(), select.from.len()),
        })
    }

    /// The tables with subjects, each of them once; `None` where a row may be about people that nobody sees.
    fn people(&self, named: &Named<'_>) -> Option<Vec<Person<'a>>> {
        let mut people: Vec<Person<'a>> = Vec::new();
        for (at, entry) in named.entries.iter().enumerate() {
            let relation = match self.through_lens(self.names.find(&parts(entry.name)?)) {
                Found::Relation(relation) => relation,
                Found::Temporary | Found::System => continue,
                Found::OtherDatabase | Found::Unknown => return None,
            };
            let table = self.behind_view(relation.oid).map_or(relation.oid, |table| table.oid);
            let own = matches!(relation.kind, RelKind::Table | RelKind::Partitioned) || table != relation.oid;
            let listed = self.rules.tables.get(&table).filter(|_| own);
            let Some(subject) = listed.and_then(|table| table.subject.as_ref()) else {
                if !own && (relation.kind != RelKind::View || self.reads_protected(relation)) {
                    return None;
                }
                continue;
            };
            let key = (table, subject.attnum);
            if people.iter().any(|other| other.key.0 == table || other.kind != subject.kind) {
                return None;
            }
            people.push(Person { at, read: relation, kind: subject.kind.clone(), key, nullable: entry.nullable });
        }
        Some(people)
    }

    /// Which of them have the same key in every row that shows both.
    fn ties(&self, scope: &Sc<'_>, select: &Select, named: &Named<'_>, people: &[Person<'_>]) -> Vec<(usize, usize)> {
        if people.len() < 2 {
            return Vec::new();
        }
        let mut ties = Vec::new();
        let conditions = named.ties.iter().filter_map(|tie| match tie {
            Tie::Condition(condition, of) => Some((*condition, of.clone())),
            Tie::Using { .. } => None,
        });
        let selection = select.selection.iter().map(|condition| (condition, None));
        let mut rest: Vec<(&Expr, Option<Range<usize>>)> = conditions.chain(selection).collect();
        let person = |expr| {
            let base = bare(scope, expr)?.base?;
            people.iter().position(|person| person.key == base)
        };
        while let Some((expr, of)) = rest.pop() {
            match expr {
                Expr::Nested(inner) => rest.push((inner, of)),
                Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                    rest.extend([(&**left, of.clone()), (&**right, of)]);
                }
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                    let within = |at: usize| of.as_ref().is_none_or(|of| of.contains(&people[at].at));
                    let pair = person(left).zip(person(right));
                    ties.extend(pair.filter(|(left, right)| within(*left) || within(*right)));
                }
                _ => {}
            }
        }
        for tie in &named.ties {
            let Tie::Using { name, start, end } = tie else { continue };
            let has = |(at, person): (usize, &Person<'_>)| {
                let rel = scope.rels.get(person.at).filter(|_| (*start..*end).contains(&person.at))?;
                let column = rel.columns.iter().find(|column| *column.name == **name)?;
                (column.base == Some(person.key)).then_some(at)
            };
            let same: Vec<usize> = people.iter().enumerate().filter_map(has).collect();
            ties.extend(same.windows(2).map(|two| (two[0], two[1])));
        }
        ties
    }

    /// The key's column under its names in this query.
    fn key_written(&self, scope: &Sc<'_>, person: &Person<'_>) -> Option<String> {
        let ty = self.rules.schema.relation(person.key.0)?.column_at(person.key.1)?.type_oid;
        let rel = scope.rels.get(person.at)?;
        let column = rel.columns.iter().find(|column| column.base == Some(person.key))?;
        let alone =
            |name: &str, names: &mut dyn Iterator<Item = &Arc<str>>| names.filter(|n| ***n == *name).count() == 1;
        let certain = TYPES.contains(&ty)
            && matches!(column.value, Value::Plain)
            && alone(&rel.name, &mut scope.rels.iter().map(|rel| &rel.name))
            && alone(&column.name, &mut rel.columns.iter().map(|column| &column.name));
        certain.then(|| format!("{}.{}", quoted(&rel.name), quoted(&column.name)))
    }
}

impl Text<'_> {
    /// Asks for the key, if the query has told nobody yet whose rows it reads.
    pub(super) fn add_key(&mut self, step: &mut Step, range: Range<usize>, key: &Key) {
        // Constants are read of the first statement of a text only.
        let literals = |subject: &SubjectPlan| matches!(subject.from, SubjectFrom::Literals(_));
        let told = step.subject.as_ref().is_some_and(|subject| range.start == 0 || !literals(subject));
        if told || step.touches.is_empty() || self.unknown {
            return;
        }
        let Some((place, text)) = self.addition(range, key) else { return };
        self.replace(place, text.into());
        step.subject = Some(SubjectPlan { kind: key.kind.clone(), from: SubjectFrom::Added });
    }

    /// Where the SELECT list ends, and what it goes on with.
    fn addition(&self, range: Range<usize>, key: &Key) -> Option<(Span, String)> {
        let sql = self.request.sql;
        let own = self.tokens.get(range.clone())?;
        let opens = |token: &Token| token.is_punct(b'(') || token.is_word(sql, "only");
        let first = key.first.checked_sub(range.start)?;
        let from = own.get(..first)?.iter().rposition(|token| !opens(token))?;
        let list = own.get(1..from)?;
        if !own[0].is_word(sql, "select") || !own[from].is_word(sql, "from") {
            return None;
        }
        let named = own.iter().any(|token| is_ident(token) && *ident(sql, token) == *NAME);
        let queries = ["select", "table", "values", "with"];
        let asks = list.iter().any(|token| queries.iter().any(|word| token.is_word(sql, word)));
        let order = own[from..].iter().position(|token| token.is_word(sql, "order") || token.is_word(sql, "window"));
        let behind = order.map_or(&[][..], |order| &own[from + order..]);
        if named || asks || self.aggregates(list) || self.aggregates(behind) {
            return None;
        }
        let end = own[from - 1].span.end;
        let comma = if key.items.0 == 0 { "" } else { "," };
        let text = format!("{comma} {} as {}", key.column, quoted(NAME));
        // Read again, it is the same query with one more item.
        let (start, stop) = (own[0].span.start as usize, own[own.len() - 1].span.end as usize);
        let longer = [sql.get(start..end as usize)?, &text, sql.get(end as usize..stop)?].concat();
        is_longer(&longer, key.items).then_some((Span { start: end, end }, text))
    }

    /// Some aggregate may be called that is no window function. So may whatever the catalog does not know yet: a session
    /// can make aggregates of its own.
    fn aggregates(&self, own: &[Token]) -> bool {
        let sql = self.request.sql;
        let schema = &self.request.rules.schema;
        let closing = |open: usize| {
            let mut depth = 0_usize;
            own.iter().enumerate().skip(open).find_map(|(at, token)| {
                match token.kind {
                    TokenKind::Punct(b'(') => depth += 1,
                    TokenKind::Punct(b')') => depth = depth.saturating_sub(1),
                    _ => {}
                }
                (depth == 0).then_some(at)
            })
        };
        let over = |open: usize| {
            let Some(close) = closing(open) else { return false };
            let word = |at: usize, word: &str| own.get(at).is_some_and(|token| token.is_word(sql, word));
            let after =
                if word(close + 1, "filter") { closing(close + 2).map_or(close, |at| at + 1) } else { close + 1 };
            word(after, "over")
        };
        own.iter().enumerate().any(|(at, token)| {
            if !is_ident(token) {
                return false;
            }
            let name = ident(sql, token);
            let called = own.get(at + 1).is_some_and(|next| next.is_punct(b'('));
            let dotted = at.checked_sub(1).is_some_and(|before| own[before].is_punct(b'.'));
            let aggregate = schema.aggregates.contains(&*name);
            if !called {
                // `row.count` is `count(row)` where the row has no such column.
                return aggregate && dotted;
            }
            let system = !dotted || at.checked_sub(2).is_some_and(|at| *ident(sql, &own[at]) == *"pg_catalog");
            let temporary = dotted && at.checked_sub(2).is_some_and(|at| ident(sql, &own[at]).starts_with("pg_temp"));
            let users = !temporary && schema.user_functions.contains(&*name);
            let word = !dotted && token.kind == TokenKind::Ident && WORDS.contains(&&*name);
            let plain = !aggregate && (word || (schema.routines.contains(&*name) && (system || users)));
            !plain && !over(at + 1)
        })
    }
}

/// The text is a SELECT with one more item than `items`, and that is the key.
fn is_longer(text: &str, items: (usize, usize)) -> bool {
    let Ok(tokens) = lex(text, usize::MAX) else { return false };
    let Ok(tree) = parse_statement(text, &tokens, 0..tokens.len()) else { return false };
    let Statement::Query(query) = &*tree else { return false };
    let Some(select) = select(query) else { return false };
    let last = |item: &SelectItem| matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.value == NAME);
    (select.projection.len(), select.from.len()) == (items.0 + 1, items.1) && select.projection.last().is_some_and(last)
}
