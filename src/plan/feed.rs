//! What sqlparser is given where it reads PostgreSQL's grammar by halves.
//!
//! In: the tokens of one statement. Out: the tokens it reads instead. Never: another meaning; a word is left out or
//! replaced only where neither names nor values depend on it. Added words stand behind the client's text, so every
//! position of the tree is still one of the client's.

use crate::sql::Span;
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::is_ident;

/// Words that are added.
const ADDED: &str = " select * from true ";
const SELECT: (usize, usize) = (1, 6);
const STAR: (usize, usize) = (8, 1);
const FROM: (usize, usize) = (10, 4);
const TRUE: (usize, usize) = (15, 4);

/// The text with the added words, and the tokens sqlparser reads:
/// - without the ONLY before a table, which it would take for the table's name;
/// - `SELECT * FROM t` for `TABLE t`;
/// - TRUE for `CURRENT OF cursor`;
/// - without `OVERRIDING … VALUE`, without `NO KEY` and `KEY` of row locks;
/// - without the condition of `ON CONFLICT (…) WHERE …`, if it holds no constant.
pub(super) fn fed(sql: &str, tokens: &[Token]) -> (String, Vec<Token>) {
    let feed = Feed { sql, tokens };
    let mut out = Vec::with_capacity(tokens.len() + 2);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let (added, skipped): (&[_], usize) = match () {
            () if feed.only(at) => (&[], 1),
            () if feed.table(at) => (&[SELECT, STAR, FROM], 1),
            () if feed.words(at, &["current", "of"]) && feed.named(at + 2) => (&[TRUE], 3),
            () if feed.overriding(at) => (&[], 3),
            () if feed.words(at, &["for", "no", "key", "update"]) => {
                out.push(*token);
                (&[], 3)
            }
            () if feed.words(at, &["for", "key", "share"]) => {
                out.push(*token);
                (&[], 2)
            }
            () => match feed.conflict_condition(at) {
                Some(length) => (&[], length),
                None => {
                    out.push(*token);
                    (&[], 1)
                }
            },
        };
        out.extend(added.iter().map(|(start, length)| feed.added(*start, *length)));
        at += skipped;
    }
    (format!("{sql}{ADDED}"), out)
}

struct Feed<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Feed<'_> {
    fn added(&self, start: usize, length: usize) -> Token {
        let at = |offset: usize| u32::try_from(self.sql.len() + offset).unwrap_or(u32::MAX);
        let kind = if length == 1 { TokenKind::Operator } else { TokenKind::Ident };
        Token { kind, span: Span { start: at(start), end: at(start + length) } }
    }

    fn word(&self, at: usize, words: &[&str]) -> bool {
        self.tokens.get(at).is_some_and(|token| words.iter().any(|word| token.is_word(self.sql, word)))
    }

    fn words(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(offset, word)| self.word(at + offset, &[word]))
    }

    fn punct(&self, at: usize, byte: u8) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_punct(byte))
    }

    fn named(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(is_ident)
    }

    fn only(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        let table =
            self.punct(before, b',') || self.word(before, &["from", "join", "update", "into", "table", "using"]);
        table && self.word(at, &["only"])
    }

    fn table(&self, at: usize) -> bool {
        let query = |before| {
            self.punct(before, b'(') || self.word(before, &["union", "all", "distinct", "except", "intersect"])
        };
        let created = |before| self.word(before, &["as"]) && self.word(0, &["create"]) && !self.word(at + 1, &["from"]);
        let command = at.checked_sub(1).is_none_or(|before| query(before) || created(before));
        command && self.word(at, &["table"]) && self.named(at + 1)
    }

    fn overriding(&self, at: usize) -> bool {
        self.word(at, &["overriding"]) && self.word(at + 1, &["system", "user"]) && self.word(at + 2, &["value"])
    }

    /// Length of the `WHERE …` between `ON CONFLICT (…)` and DO, which begins at `at`.
    fn conflict_condition(&self, at: usize) -> Option<usize> {
        if !self.word(at, &["where"]) || !self.punct(at.checked_sub(1)?, b')') {
            return None;
        }
        let open = (0..at).rev().find(|before| self.punct(*before, b'('))?;
        if !self.words(open.checked_sub(2)?, &["on", "conflict"]) {
            return None;
        }
        let end = (at..self.tokens.len())
            .find(|end| self.words(*end, &["do", "update"]) || self.words(*end, &["do", "nothing"]))?;
        let constant = |token: &Token| {
            matches!(
                token.kind,
                TokenKind::Param(_)
                    | TokenKind::String
                    | TokenKind::DollarString
                    | TokenKind::BitString
                    | TokenKind::Number
            )
        };
        let free =
            !self.tokens[at..end].iter().any(constant) && !(at..end).any(|inside| self.word(inside, &["select"]));
        free.then_some(end - at)
    }
}
