//! Subscripts of columns that are assigned to: `SET a[1] = x`, `SET (a[1], b) = …`, `INSERT INTO t (a[1:2], b)`.
//!
//! In: the tokens of one statement. Out: ranges of tokens, in order. Never: a subscript of an expression, one that holds
//! anything but numbers (what else stands there is read), more than one look at a token.

use std::ops::Range;

use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::is_ident;

/// What a level of parentheses lists.
#[derive(Clone, Copy, PartialEq)]
enum List {
    Other,
    /// `column = expression`, behind SET.
    Assignments,
    /// Columns.
    Targets,
}

/// Longest `INTO a.b.c AS d (`.
const TARGET_TOKENS_MAX: usize = 9;

/// `MAXDIM` of PostgreSQL's array.h.
const DIMENSIONS_MAX: usize = 6;

/// `1:2`.
const BOUNDS_MAX: usize = 3;

pub(super) fn subscripts(sql: &str, tokens: &[Token]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if !tokens.iter().any(|token| token.is_punct(b'[')) {
        return found;
    }
    let word = |at: usize, words: &[&str]| {
        tokens.get(at).is_some_and(|token| words.iter().any(|word| token.is_word(sql, word)))
    };
    let punct = |at: usize, byte: u8| tokens.get(at).is_some_and(|token| token.is_punct(byte));
    let (mut levels, mut into, mut at) = (vec![List::Other], usize::MAX, 0);
    while at < tokens.len() {
        let before = at.wrapping_sub(1);
        let list = levels.last().copied().unwrap_or(List::Other);
        match tokens[at].kind {
            TokenKind::Punct(b'(') if word(before, &["set"]) || is_target(sql, tokens, into, at) => {
                levels.push(List::Targets);
            }
            TokenKind::Punct(b'(') => levels.push(List::Other),
            TokenKind::Punct(b')') if levels.len() > 1 => drop(levels.pop()),
            TokenKind::Punct(b'[') => {
                let end = numbers(tokens, at);
                let column = at.checked_sub(2).is_some_and(|first| {
                    let begins = word(first, &["set"]) || punct(first, b',') || punct(first, b'(');
                    begins && is_ident(&tokens[before])
                });
                let assigned = match list {
                    List::Assignments => is_equals(sql, tokens, end),
                    List::Targets => punct(end, b',') || punct(end, b')'),
                    List::Other => false,
                };
                if column && assigned && end > at {
                    found.push(at..end);
                    at = end;
                    continue;
                }
            }
            TokenKind::Ident if word(at, &["set"]) => {
                levels.last_mut().into_iter().for_each(|l| *l = List::Assignments)
            }
            TokenKind::Ident if word(at, &["from", "where", "returning", "select", "when"]) => {
                levels.last_mut().into_iter().for_each(|l| *l = List::Other);
            }
            TokenKind::Ident if word(at, &["into"]) => into = at,
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_equals(sql: &str, tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.kind == TokenKind::Operator && token.text(sql) == "=")
}

/// The end of the subscripts that begin at `at`; `at` itself if they hold more than numbers, or are more than an array
/// can have.
fn numbers(tokens: &[Token], at: usize) -> usize {
    let mut end = at;
    for _ in 0..=DIMENSIONS_MAX {
        if !tokens.get(end).is_some_and(|token| token.is_punct(b'[')) {
            return end;
        }
        let inside = |token: &&Token| matches!(token.kind, TokenKind::Number | TokenKind::Punct(b':'));
        end += 1 + tokens[end + 1..].iter().take(BOUNDS_MAX).take_while(inside).count();
        if !tokens.get(end).is_some_and(|token| token.is_punct(b']')) {
            return at;
        }
        end += 1;
    }
    at
}

/// `INTO s.t AS a` stands before the parenthesis at `open`.
fn is_target(sql: &str, tokens: &[Token], into: usize, open: usize) -> bool {
    if into >= open || open - into > TARGET_TOKENS_MAX {
        return false;
    }
    let named = |at: usize| at < open && is_ident(&tokens[at]);
    let mut at = into + 2;
    while tokens[at.min(open)].is_punct(b'.') && named(at + 1) {
        at += 2;
    }
    if tokens[at.min(open)].is_word(sql, "as") && named(at + 1) {
        at += 2;
    }
    named(into + 1) && at == open
}
