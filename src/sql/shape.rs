//! A statement without its values: what the access log may keep.
//!
//! In: text and tokens. Out: a [`Shape`]. Never: a constant of any form, a comment.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::kind::{Kind, kind};
use super::lexer::{Token, TokenKind};
use super::name::ident;
use super::statement::statements;

/// Characters kept of the text.
const TEXT_CHARS_MAX: usize = 2_000;

/// A statement without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// 16 hex digits.
    pub fingerprint: Arc<str>,
    /// The text with constants replaced by `?`, lists of them by `(?, …)`, and comments cut out, cut to 2,000 characters.
    pub text: Arc<str>,
}

impl Shape {
    /// Of a text that has no tokens.
    pub fn unreadable() -> Self {
        Self { fingerprint: Arc::from("0000000000000000"), text: Arc::from("(unreadable)") }
    }
}

/// The shape of `tokens`: one statement, or a whole text.
///
/// The fingerprint is over folded names, keywords and operators, so that spelling, spacing, comments, constants, the size
/// of IN lists and the number of VALUES rows do not count. What SET sets a variable to is a constant, whatever its form.
pub fn shape(sql: &str, tokens: &[Token]) -> Shape {
    let mut writer = Writer { sql, tokens, text: String::new(), chars: 0, hash: Sha256::new() };
    for range in statements(tokens, sql) {
        let start = range.start;
        if start > 0 && tokens[start - 1].is_punct(b';') {
            writer.piece(";", ";", false);
        }
        writer.statement(range);
    }
    let digest = writer.hash.finalize();
    Shape { fingerprint: hex::encode(&digest[..8]).into(), text: writer.text.into() }
}

/// Whether the token is a value that somebody wrote.
pub fn is_constant(sql: &str, token: &Token) -> bool {
    match token.kind {
        TokenKind::String | TokenKind::DollarString | TokenKind::BitString | TokenKind::Number => true,
        TokenKind::Ident => token.is_word(sql, "true") || token.is_word(sql, "false"),
        _ => false,
    }
}

struct Writer<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    text: String,
    chars: usize,
    hash: Sha256,
}

impl Writer<'_> {
    fn statement(&mut self, range: Range<usize>) {
        let hidden = self.set_value(range.clone()).unwrap_or(range.end);
        let mut index = range.start;
        while index < hidden {
            let token = &self.tokens[index];
            if let Some(close) = self.list(index, hidden) {
                let piece = if token.is_punct(b'[') { "[?, …]" } else { "(?, …)" };
                self.piece(piece, piece, self.spaced(index));
                index = self.more_rows(close + 1, hidden);
                continue;
            }
            if self.is_constant(token) {
                self.piece("?", "?", self.spaced(index));
            } else {
                let name = ident(self.sql, token);
                // A quoted name and a keyword of the same letters differ.
                let tag = if matches!(token.kind, TokenKind::Ident) { "" } else { "\"" };
                self.hash.update(tag);
                self.piece(token.text(self.sql), &name, self.spaced(index));
            }
            index += 1;
        }
        if hidden < range.end {
            self.piece("?", "?", self.spaced(hidden));
        }
    }

    /// Where the value begins in `SET name = value`.
    fn set_value(&self, range: Range<usize>) -> Option<usize> {
        if kind(self.sql, self.tokens, range.clone()) != Kind::Set {
            return None;
        }
        let value = range.clone().find(|&index| {
            let token = &self.tokens[index];
            index > range.start && (token.is_word(self.sql, "to") || token.is_operator(self.sql, "="))
        });
        value.map(|index| index + 1)
    }

    fn is_constant(&self, token: &Token) -> bool {
        is_constant(self.sql, token)
    }

    /// The closing index of a list of constants and parameters that opens here, behind IN, VALUES or ARRAY.
    fn list(&self, index: usize, end: usize) -> Option<usize> {
        let before = &self.tokens[index.checked_sub(1)?];
        let close = match self.tokens[index].kind {
            TokenKind::Punct(b'(') if before.is_word(self.sql, "in") || before.is_word(self.sql, "values") => b')',
            TokenKind::Punct(b'[') if before.is_word(self.sql, "array") => b']',
            _ => return None,
        };
        self.list_end(index, end, close)
    }

    fn list_end(&self, open: usize, end: usize, close: u8) -> Option<usize> {
        let mut at = open + 1;
        while at < end {
            let token = &self.tokens[at];
            if token.is_punct(close) {
                return (at > open + 1).then_some(at);
            }
            let cast = self.tokens[at - 1].is_operator(self.sql, "::");
            let plain = match token.kind {
                TokenKind::Param(_) | TokenKind::Punct(b',') => true,
                TokenKind::Operator => ["-", "+", "::"].contains(&token.text(self.sql)),
                TokenKind::Ident => cast || token.is_word(self.sql, "null") || token.is_word(self.sql, "default"),
                _ => false,
            };
            if !plain && !self.is_constant(token) {
                return None;
            }
            at += 1;
        }
        None
    }

    /// Past further rows: `, (?, ?)`.
    fn more_rows(&self, mut at: usize, end: usize) -> usize {
        while at + 1 < end && self.tokens[at].is_punct(b',') && self.tokens[at + 1].is_punct(b'(') {
            match self.list_end(at + 1, end, b')') {
                Some(close) => at = close + 1,
                None => break,
            }
        }
        at
    }

    /// Whether whitespace or a comment stands before the token.
    fn spaced(&self, index: usize) -> bool {
        index > 0 && self.tokens[index - 1].span.end < self.tokens[index].span.start
    }

    fn piece(&mut self, text: &str, normal: &str, spaced: bool) {
        self.hash.update(normal.as_bytes());
        self.hash.update([0]);
        if self.chars >= TEXT_CHARS_MAX {
            return;
        }
        let space = if spaced && !self.text.is_empty() { " " } else { "" };
        for part in [space, text] {
            let room = TEXT_CHARS_MAX - self.chars;
            let end = part.char_indices().nth(room).map_or(part.len(), |(at, _)| at);
            self.text.push_str(&part[..end]);
            self.chars += part[..end].chars().count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex;

    fn of(sql: &str) -> Shape {
        shape(sql, &lex(sql, 100_000).unwrap())
    }

    #[test]
    fn no_constant_survives() {
        for (sql, expected) in [
            ("select  'secret' ,\n 42, -1.5e3", "select ? , ?, -?"),
            ("select E'secret', N'secret', U&'secret' uescape '!', $$secret$$, $a$secret$a$", "select ?, ?, ?, ?, ?"),
            ("select b'101', x'1F', 'sec'\n'ret'", "select ?, ?, ?"),
            ("select true, FALSE, null -- secret", "select ?, ?, null"),
            ("select /* secret */ \"a b\", $1::int", "select \"a b\", $1::int"),
            ("select*from t where a in(1,2,3)", "select*from t where a in(?, …)"),
            (
                "select 1 where a in ($1, $2::text, 'x') and b = any(array[1,2])",
                "select ? where a in (?, …) and b = any(array[?, …])",
            ),
            ("insert into t values (1, -2, default), (3, 4, null)", "insert into t values (?, …)"),
            ("insert into t values (1, f('x')), (3, 4)", "insert into t values (?, f(?)), (?, ?)"),
            ("set app.user to alice, bob", "set app.user to ?"),
            ("set session x = secret", "set session x = ?"),
            ("set role alice", "set role alice"),
            ("update t set a = b", "update t set a = b"),
            ("begin; set x = secret; select 1;", "begin; set x = ?; select ?"),
            ("do $$ secret $$", "do ?"),
            ("select date '2020-01-01' as d", "select date ? as d"),
            ("", ""),
        ] {
            assert_eq!(&*of(sql).text, expected, "{sql}");
        }
    }

    #[test]
    fn fingerprints_ignore_spelling_and_values_only() {
        let base = of("select A from t where b in (1, 2) and c = 'x'");
        assert_eq!(base.fingerprint.len(), 16);
        for same in
            ["SELECT a\nFROM T where B in (1) /* x */ and c=$$y$$", "select a from t where b in ($1,$2,$3) and c = 1"]
        {
            assert_eq!(of(same).fingerprint, base.fingerprint, "{same}");
        }
        for other in ["select a from u where b in (1) and c = 1", "select \"A\" from t where b in (1) and c = 1"] {
            assert_ne!(of(other).fingerprint, base.fingerprint, "{other}");
        }
        assert_ne!(of("select a b").fingerprint, of("select ab").fingerprint);
    }

    #[test]
    fn text_is_bounded() {
        let long = of(&format!("select {}", "é, ".repeat(5_000)));
        assert_eq!(long.text.chars().count(), TEXT_CHARS_MAX);
        assert_eq!(&*Shape::unreadable().text, "(unreadable)");
    }
}
