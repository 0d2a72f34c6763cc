//! `EXPLAIN (PRIVACY) statement`: an EXPLAIN that pgveil answers.
//!
//! In: tokens of one statement. Out: the statement inside, or what is wrong. Never: PostgreSQL's own EXPLAIN; what has no
//! option of that name is left to it.

use std::ops::Range;

use super::cursor::Cursor;
use super::kind::{Kind, kind};
use super::lexer::Token;

/// What `EXPLAIN (PRIVACY)` was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// About the statement of these tokens.
    About(Range<usize>),
    /// Another option stands beside it, or PRIVACY is turned off.
    OtherOption,
    /// There is no statement that can be asked about.
    Nothing,
}

/// `None`: the statement is not an EXPLAIN with an option PRIVACY.
pub fn asked(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<Asked> {
    if kind(sql, tokens, range.clone()) != Kind::Explain {
        return None;
    }
    let mut cursor = Cursor::new(sql, tokens, range);
    cursor.at += 1;
    let options = cursor.peek(0).filter(|token| token.is_punct(b'(')).and_then(|_| cursor.group())?;
    // `EXPLAIN (SELECT …)` has no options.
    if matches!(kind(sql, tokens, options.clone()), Kind::Query | Kind::With) {
        return None;
    }
    let mut option = Cursor::new(sql, tokens, options);
    let (mut privacy, mut alone) = (false, true);
    while !option.done() {
        let named = option.name().is_some_and(|name| name == "privacy");
        privacy |= named;
        alone &= named;
        let _ = option.word(&["true"]) || option.word(&["on"]);
        if !option.done() && !option.punct(b',') {
            alone = false;
            while option.next().is_some_and(|token| !token.is_punct(b',')) {}
        }
    }
    match () {
        () if !privacy => None,
        () if !alone => Some(Asked::OtherOption),
        () if cursor.done() || cursor.is(0, "explain") => Some(Asked::Nothing),
        () => Some(Asked::About(cursor.at..cursor.end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex;

    fn of(sql: &str) -> Option<Asked> {
        let tokens = lex(sql, 100).unwrap();
        asked(sql, &tokens, 0..tokens.len())
    }

    #[test]
    fn the_option_stands_alone() {
        for sql in
            ["explain (privacy) select 1", "EXPLAIN (Privacy true) select 1", "explain (\"privacy\" on) select 1"]
        {
            assert!(matches!(of(sql), Some(Asked::About(range)) if range.len() == 2), "{sql}");
        }
        for sql in [
            "explain (privacy, analyze) select 1",
            "explain (analyze, privacy) select 1",
            "explain (format json, privacy) select 1",
            "explain (privacy off) select 1",
            "explain (privacy 'on') select 1",
            "explain (privacy true false) select 1",
        ] {
            assert_eq!(of(sql), Some(Asked::OtherOption), "{sql}");
        }
        for sql in ["explain (privacy)", "explain (privacy) explain (privacy) select 1"] {
            assert_eq!(of(sql), Some(Asked::Nothing), "{sql}");
        }
        for sql in [
            "explain select privacy",
            "explain (select privacy)",
            "explain (table privacy)",
            "explain ((select privacy))",
            "explain (analyze) select (privacy)",
            "select (privacy)",
            "explain (costs off, verbose) select 1",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }
}
