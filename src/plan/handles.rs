//! What SQL has names for beside relations: prepared statements and cursors.
//!
//! In: tokens of one statement. Out: the name that it makes or uses. Never: what stands behind a name; the session knows.

use std::ops::Range;
use std::sync::Arc;

use super::{CursorName, Span, StepKind};
use crate::sql::kind::{self, Kind};
use crate::sql::lexer::Token;

/// PREPARE, and DEALLOCATE of one name.
pub(super) fn statement(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<StepKind> {
    let of = kind::kind(sql, tokens, range.clone());
    if !matches!(of, Kind::Prepare | Kind::Deallocate) {
        return None;
    }
    let name: Arc<str> = kind::handle(sql, tokens, range.clone())?.into();
    if of == Kind::Deallocate {
        return Some(StepKind::Deallocate(name));
    }
    let inner = kind::inner(sql, tokens, range)?.range;
    let (first, last) = (tokens.get(inner.start)?, tokens.get(inner.end.checked_sub(1)?)?);
    Some(StepKind::Prepare { name, query: Span { start: first.span.start, end: last.span.end } })
}

/// The cursor of DECLARE, FETCH or CLOSE.
pub(super) fn cursor(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<CursorName> {
    let own = &tokens[range.clone()];
    let of = kind::kind(sql, tokens, range.clone());
    if !matches!(of, Kind::Declare | Kind::Fetch | Kind::Close) {
        return None;
    }
    let name = kind::handle(sql, tokens, range)?.into();
    let options = own.iter().take_while(|token| !token.is_word(sql, "for")).collect::<Vec<_>>();
    let hold = options.windows(2).any(|pair| pair[0].is_word(sql, "with") && pair[1].is_word(sql, "hold"));
    Some(CursorName { name, hold: of == Kind::Declare && hold })
}
