//! Statements: where one ends and the next begins.
//!
//! In: tokens. Out: token ranges. Never: a range without tokens; PostgreSQL skips empty statements too.

use std::ops::Range;

use super::lexer::{Token, TokenKind};

/// The token ranges of the statements in the text, without their semicolons.
///
/// A `;` ends a statement unless it stands inside parentheses (`CREATE RULE … DO (a; b)`) or in the body of a function
/// written as `BEGIN ATOMIC a; b; END`. That body ends at the `END` which directly follows a `;` or the `ATOMIC`: no
/// statement of a body begins with END. Unbalanced parentheses only lengthen a statement, and PostgreSQL refuses such a
/// text whole.
pub fn statements(tokens: &[Token], sql: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(1);
    let mut start = 0;
    let mut depth = 0usize;
    let mut bodies = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth = depth.saturating_sub(1),
            TokenKind::Punct(b';') if depth == 0 && bodies == 0 => {
                if start < index {
                    ranges.push(start..index);
                }
                start = index + 1;
            }
            TokenKind::Ident if index > start => {
                let before = &tokens[index - 1];
                if token.is_word(sql, "atomic") && before.is_word(sql, "begin") && tokens[start].is_word(sql, "create")
                {
                    bodies += 1;
                } else if bodies > 0
                    && token.is_word(sql, "end")
                    && (before.is_punct(b';') || before.is_word(sql, "atomic"))
                {
                    bodies -= 1;
                }
            }
            _ => {}
        }
    }
    if start < tokens.len() {
        ranges.push(start..tokens.len());
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex;

    fn split(sql: &str) -> Vec<&str> {
        let tokens = lex(sql, 1000).unwrap();
        statements(&tokens, sql)
            .into_iter()
            .map(|range| &sql[tokens[range.start].span.start as usize..tokens[range.end - 1].span.end as usize])
            .collect()
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(split("select 1; select ';' ;; --;\n select $$;$$"), ["select 1", "select ';'", "select $$;$$"]);
        assert_eq!(split(""), Vec::<&str>::new());
        assert_eq!(split(" ; ; /* ; */"), Vec::<&str>::new());
        assert_eq!(split("begin; end;"), ["begin", "end"]);
        assert_eq!(split("select 1); select 2"), ["select 1)", "select 2"]);
    }

    #[test]
    fn some_statements_hold_semicolons() {
        let rule = "create rule r as on insert to t do also (insert into a values (1); insert into b values (2))";
        assert_eq!(split(&format!("{rule}; select 1")), [rule, "select 1"]);
        let body = "create function f() returns int language sql begin atomic select 1; select case when true then 1 end; \
                    select 2 as end; select x.end from x; select 1 \"atomic\"; end";
        assert_eq!(split(&format!("{body}; select 1")), [body, "select 1"]);
        let empty = "create or replace procedure p() begin atomic end";
        assert_eq!(split(&format!("{empty}; select 1")), [empty, "select 1"]);
        assert_eq!(split("begin; select atomic; end"), ["begin", "select atomic", "end"]);
        assert_eq!(split("select begin atomic; select 2"), ["select begin atomic", "select 2"]);
    }
}
