//! Whether a statement that mentions nothing protected names a relation that the snapshot does not know: a view made
//! a moment ago may show sealed columns.
//!
//! In: tokens. Out: yes or no. Cheap first: the words after FROM, JOIN, INTO, UPDATE and USING. Only if one of them is
//! no known relation is the tree read, to tell a new relation from a query of WITH or the FROM of an expression.

use std::ops::Range;

use super::Request;
use super::reader::Reader;
use crate::sql::kind::{self, Kind};
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::{ident, is_ident};
use crate::sql::parse::{parse_statement, with_stack};
use crate::sql::resolve::{Found, Names};

/// Whether the statement `tokens[range]` names a relation that the snapshot does not know.
pub(super) fn names_unknown(request: &Request<'_>, tokens: &[Token], range: Range<usize>) -> bool {
    let readable = matches!(
        kind::kind(request.sql, tokens, range.clone()),
        Kind::Query | Kind::With | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge | Kind::Copy
    );
    if !readable || !suspects(request, &tokens[range.clone()]) {
        return false;
    }
    with_stack(range.len(), || {
        // What sqlparser cannot read needs no reading: nothing protected is mentioned.
        let Ok(tree) = parse_statement(request.sql, tokens, range.clone()) else { return false };
        let mut reader = Reader::new(request, request.temporary, tokens);
        let _ = reader.statement(&tree);
        reader.unknown_relation
    })
}

/// Whether a word where relations stand is no known relation.
fn suspects(request: &Request<'_>, own: &[Token]) -> bool {
    let sql = request.sql;
    let names = Names { schema: &request.rules.schema, path: request.search_path, temporary: request.temporary };
    // Per depth of parentheses: inside a FROM list, where a comma begins another relation.
    let mut lists = vec![false];
    let mut expected = false;
    let mut at = 0;
    while let Some(token) = own.get(at) {
        at += 1;
        match token.kind {
            TokenKind::Punct(b'(') => {
                lists.push(false);
                expected = false;
            }
            TokenKind::Punct(b')') => {
                lists.pop();
                expected = false;
            }
            TokenKind::Punct(b',') => expected = lists.last() == Some(&true),
            _ if expected && is_ident(token) => {
                if ["only", "lateral", "table"].iter().any(|word| token.is_word(sql, word)) {
                    continue;
                }
                expected = false;
                let mut parts = vec![ident(sql, token).into_owned()];
                while let [dot, part, ..] = own.get(at..).unwrap_or_default()
                    && dot.is_punct(b'.')
                    && is_ident(part)
                {
                    parts.push(ident(sql, part).into_owned());
                    at += 2;
                }
                let called = own.get(at).is_some_and(|token| token.is_punct(b'('));
                // INSERT INTO t (…) looks like a call; a relation that is known is no suspect either way.
                if matches!(names.find(&parts), Found::Unknown) && (!called || after_into(sql, own, at)) {
                    return true;
                }
            }
            TokenKind::Ident => {
                let word = |words: &[&str]| words.iter().any(|word| token.is_word(sql, word));
                if word(&["from", "join", "into", "update", "using", "copy"]) {
                    expected = true;
                    if word(&["from", "using"])
                        && let Some(list) = lists.last_mut()
                    {
                        *list = true;
                    }
                } else if word(&["select", "where", "group", "order", "having", "limit", "set", "returning", "values"])
                    && let Some(list) = lists.last_mut()
                {
                    *list = false;
                }
            }
            _ => expected = false,
        }
    }
    false
}

/// Whether the name that ends before `at` stands after INTO.
fn after_into(sql: &str, own: &[Token], at: usize) -> bool {
    let name = |token: &Token| is_ident(token) && !token.is_word(sql, "into") || token.is_punct(b'.');
    let before = own.get(..at).unwrap_or_default().iter().rev().find(|token| !name(token));
    before.is_some_and(|token| token.is_word(sql, "into"))
}
