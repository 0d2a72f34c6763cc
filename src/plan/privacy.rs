//! `EXPLAIN (PRIVACY) …`: the statement becomes a SELECT of the report's lines.
//!
//! In: the statement inside, decided as it would be. Out: one edit over the whole statement; simple and extended protocol,
//! portals and drivers see an ordinary query. Never: the statement inside running, a literal of the client's, a value for a
//! sealed column in clear.

use std::ops::Range;

use super::decide::{Text, decide, mentioned, step};
use super::report::{Asker, Column, Report};
use super::{Decision, Field, How, Limits, Parameter, Request, Span, Step, StepKind, Target, Touched};
use crate::error::{Code, Refusal, SqlState};
use crate::event::Access;
use crate::sql::lexer::Token;
use crate::sql::privacy::{Asked, asked};
use crate::sql::{shape, statements};
use crate::wire::types::Kind;

use super::refuse;

/// The column's name, as EXPLAIN has "QUERY PLAN".
const TITLE: &str = "PRIVACY PLAN";

const TEXT: &str = "pg_catalog.text";

/// Whether some statement of the text is an `EXPLAIN (PRIVACY)`.
pub(super) fn asks(sql: &str, tokens: &[Token]) -> bool {
    let explains = tokens.iter().any(|token| token.is_word(sql, "explain"));
    explains && statements(tokens, sql).into_iter().any(|range| asked(sql, tokens, range).is_some())
}

impl Text<'_> {
    pub(super) fn privacy(
        &mut self,
        range: Range<usize>,
        asked: &Asked,
        touches: &mut Vec<Touched>,
    ) -> Result<Step, Refusal> {
        let wrong = |message: &'static str| {
            let hint =
                "Write EXPLAIN (PRIVACY) and the statement; it runs nothing, and PostgreSQL's EXPLAIN is another.";
            Refusal::new(Code::Unreadable, message, hint).with_sqlstate(SqlState(*b"42601"))
        };
        let inner = match asked {
            Asked::About(inner) => inner.clone(),
            Asked::OtherOption => return Err(wrong("EXPLAIN (PRIVACY) takes no other option, such as ANALYZE")),
            Asked::Nothing => return Err(wrong("EXPLAIN (PRIVACY) needs a statement that it can explain")),
        };
        if let Some(what) = self.stale {
            return Err(refuse::stale(what));
        }
        let code = &self.request.rules.code;
        // The values of such a parameter are read by users' code, whatever the text says.
        let declared = self.request.parameter_oids.iter().find_map(|oid| code.types.get(oid));
        if let Some(reached) = declared.filter(|_| self.restricted) {
            return Err(refuse::users_code(reached));
        }
        let sql = self.request.sql;
        let about = self.span(&inner).and_then(|span| sql.get(span.start as usize..span.end as usize)).unwrap_or("");
        // Where the policy is only observed, what it says is what is asked for.
        let class = self.request.rules.observed(self.request.class).unwrap_or(self.request.class);
        let request = Request { sql: about, temporary: &self.temporary, class, ..*self.request };
        // The whole text is within the limits.
        let decision = decide(&request, Limits { tokens: usize::MAX, nesting: usize::MAX });
        let report = Report::new(&request, &decision, Asker::Client);
        self.unknown |= matches!(decision, Decision::Unknown(_));
        self.protected = true;
        touches.extend(touched(&decision, &report));
        let count = mentioned(sql, self.tokens, std::slice::from_ref(&range));
        let parameters = parameters(&request, &decision, count);
        let text = select(&report.lines(), &parameters);
        self.reported.extend(parameters.into_iter().enumerate().filter_map(|(index, of)| Some((index, of.ok()?))));
        if let Some(span) = self.span(&range) {
            self.replace(span, text.into());
        }
        let mut step = step(StepKind::Report, Access::Other, shape(sql, &self.tokens[range]).into());
        step.touches = touches.as_slice().into();
        step.fields = Some(vec![Field::Plain]);
        Ok(step)
    }

    fn span(&self, range: &Range<usize>) -> Option<Span> {
        let last = self.tokens.get(range.clone())?.last()?;
        Some(Span { start: self.tokens[range.start].span.start, end: last.span.end })
    }
}

/// What the statement inside would touch; of a refused one, the columns that the report names.
fn touched(decision: &Decision, report: &Report) -> Vec<Touched> {
    let refused = |column: &Column| {
        let (relation, column) = (column.relation.clone(), column.column.clone());
        Touched { relation, column, id: 0, how: How::Refused }
    };
    match decision {
        Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan) => {
            plan.steps.iter().flat_map(|step| step.touches.iter().cloned()).collect()
        }
        Decision::Refuse(_) => {
            let mut found: Vec<Touched> = Vec::new();
            for touched in report.statements.iter().flat_map(|statement| statement.columns.iter().map(refused)) {
                if !found.contains(&touched) {
                    found.push(touched);
                }
            }
            found
        }
    }
}

/// For each of the client's parameters the sealed column that it is for, so that its value is sealed here too, or a type.
/// Empty for a simple Query, which has none: there `$1` may stand for whatever an application will pass.
fn parameters(request: &Request<'_>, decision: &Decision, count: usize) -> Vec<Result<Target, String>> {
    let (Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan)) = decision else {
        return if request.extended { vec![Err(TEXT.to_owned()); count] } else { Vec::new() };
    };
    if !request.extended {
        return Vec::new();
    }
    let name = |oid| match (Kind::of_oid(oid), Kind::of_array_oid(oid)) {
        (Some(kind), _) => format!("pg_catalog.{}", kind.name()),
        (None, Some(kind)) => format!("pg_catalog.{}[]", kind.name()),
        (None, None) => TEXT.to_owned(),
    };
    (0..count)
        .map(|index| {
            let also = plan.hidden.iter().find(|hidden| usize::from(hidden.source) == index);
            match (plan.parameters.get(index), also) {
                (Some(Parameter::Sealed(target)), _) => Ok(target.clone()),
                (_, Some(hidden)) => Ok(hidden.target.clone()),
                (Some(Parameter::Typed(oid)), None) => Err(name(*oid)),
                (Some(Parameter::Plain) | None, None) => Err(TEXT.to_owned()),
            }
        })
        .collect()
}

/// A query whose rows are the lines. Parameters have a place in it that is never computed.
fn select(lines: &[String], parameters: &[Result<Target, String>]) -> String {
    let quoted: Vec<String> = lines.iter().map(|line| format!("'{}'", line.replace('\'', "''"))).collect();
    let list = quoted.join(",");
    let mut text = format!("select pg_catalog.unnest(array[{list}]::pg_catalog.text[]) as \"{TITLE}\"");
    for (index, parameter) in parameters.iter().enumerate() {
        let ty = match parameter {
            Ok(target) if target.array => "pg_catalog.bytea[]",
            Ok(_) => "pg_catalog.bytea",
            Err(name) => name,
        };
        let before = if index == 0 { " where true" } else { "" };
        text.push_str(&format!("{before} or ${}::{ty} is null", index + 1));
    }
    text
}
