//! Kinds of statement that the policy refuses to a role (`refuse = […]`).
//!
//! In: tokens, the class. Out: a refusal. Never: protection of values; a role that must not write has no right to in
//! PostgreSQL, and this says so early and with the policy's words.

use std::ops::Range;
use std::sync::Arc;

use super::{Refused, Request, guard};
use crate::error::{Code, Refusal};
use crate::policy::rules::StatementClass;
use crate::sql::kind::{self, Kind};
use crate::sql::lexer::Token;
use crate::sql::name::{ident, is_ident};
use crate::sql::{shape, statements};

/// The first statement of the text that is refused to the class.
pub(super) fn objection(request: &Request<'_>, tokens: &[Token]) -> Option<Refused> {
    let class = request.rules.class(request.class);
    if class.refuses.is_empty() {
        return None;
    }
    let ranges = statements(tokens, request.sql).into_iter();
    let mut refused = ranges.filter_map(|range| {
        let found = classes(request, tokens, range.clone());
        let found = found.into_iter().find(|found| class.refuses.contains(found))?;
        Some((found, range))
    });
    let (found, range) = refused.next()?;
    let refusal = Refusal::new(
        Code::FunctionDenied,
        format!("{} is not available to this role", found.words()),
        format!("The policy says so: refuse = [\"{}\"] in [roles.{}].", found.word(), class.role),
    );
    let shape = Arc::new(shape(request.sql, &tokens[range]));
    Some(Refused::new(refusal, Arc::from([]), shape))
}

/// Everything that the statement is.
fn classes(request: &Request<'_>, tokens: &[Token], range: Range<usize>) -> Vec<StatementClass> {
    use StatementClass::{CopyOut, Ddl, Do, FileFunctions, Functions, Listen, Read, SqlFunctions, Write};
    let sql = request.sql;
    let own = &tokens[range.clone()];
    let kind = kind::kind(sql, tokens, range.clone());
    let mut found = match kind {
        Kind::Query | Kind::With => vec![Read],
        Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge | Kind::Truncate => vec![Write],
        Kind::Copy if super::copy::copies_out(sql, tokens, range.clone()) => vec![Read, CopyOut],
        Kind::Copy => vec![Write],
        Kind::Do => vec![Do],
        Kind::Call => vec![Functions],
        Kind::Listen | Kind::Notify | Kind::Unlisten => vec![Listen],
        Kind::Explain | Kind::Declare | Kind::Prepare => match kind::inner(sql, tokens, range.clone()) {
            Some(inner) => return classes(request, tokens, inner.range),
            None => Vec::new(),
        },
        Kind::Refresh | Kind::Reindex | Kind::Cluster => vec![Ddl],
        _ if kind.is_ddl() => vec![Ddl],
        _ => Vec::new(),
    };
    if matches!(kind, Kind::Query | Kind::With | Kind::Copy) && guard::changes(sql, own) {
        found.push(Write);
    }
    if matches!(kind, Kind::Query | Kind::With) && kind::created(sql, tokens, range.clone()).is_some() {
        found.push(Ddl);
    }
    let calls = guard::calls_of(sql, own, &request.rules.schema);
    let of_server = kind == Kind::Copy && super::copy::reaches_server(sql, tokens, range.clone());
    let called = [(calls.user, Functions), (calls.sql, SqlFunctions), (calls.files || of_server, FileFunctions)];
    found.extend(called.into_iter().filter(|(is, _)| *is).map(|(_, class)| class));
    let notifies =
        |pair: &[Token]| is_ident(&pair[0]) && *ident(sql, &pair[0]) == *"pg_notify" && pair[1].is_punct(b'(');
    if own.windows(2).any(notifies) {
        found.push(Listen);
    }
    found
}
