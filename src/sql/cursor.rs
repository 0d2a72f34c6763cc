//! A reader over a statement's tokens: look, take, go back.
//!
//! In: text and tokens. Out: words, names, strings, in order. Never: past the end.

use std::ops::Range;

use super::lexer::{Token, TokenKind};
use super::literal::string_value;
use super::name::{ident, is_ident};

/// Reads `tokens[at..end]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a str,
    pub(super) tokens: &'a [Token],
    /// Index of the next token.
    pub(super) at: usize,
    /// Index after the last token.
    pub(super) end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(sql: &'a str, tokens: &'a [Token], range: Range<usize>) -> Self {
        let end = range.end.min(tokens.len());
        Self { sql, tokens, at: range.start.min(end), end }
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<&'a Token> {
        let index = self.at.checked_add(ahead)?;
        if index < self.end { self.tokens.get(index) } else { None }
    }

    pub(super) fn done(&self) -> bool {
        self.at >= self.end
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek(0)?;
        self.at += 1;
        Some(token)
    }

    /// Whether the token `ahead` is this keyword.
    pub(super) fn is(&self, ahead: usize, word: &str) -> bool {
        self.peek(ahead).is_some_and(|token| token.is_word(self.sql, word))
    }

    /// Takes these keywords if all of them come next.
    pub(super) fn word(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(ahead, word)| self.is(ahead, word));
        if all {
            self.at += words.len();
        }
        all
    }

    pub(super) fn punct(&mut self, byte: u8) -> bool {
        let is = self.peek(0).is_some_and(|token| token.is_punct(byte));
        self.at += usize::from(is);
        is
    }

    pub(super) fn operator(&mut self, operator: &str) -> bool {
        let is = self.peek(0).is_some_and(|token| token.is_operator(self.sql, operator));
        self.at += usize::from(is);
        is
    }

    /// An identifier or keyword, as a name.
    pub(super) fn name(&mut self) -> Option<String> {
        let token = self.peek(0).filter(|token| is_ident(token))?;
        self.at += 1;
        Some(ident(self.sql, token).into_owned())
    }

    /// `a.b.c`.
    pub(super) fn qualified_name(&mut self) -> Option<Vec<String>> {
        let mut parts = vec![self.name()?];
        while self.punct(b'.') {
            parts.push(self.name()?);
        }
        Some(parts)
    }

    /// A string constant's value; `None` also if it cannot be told.
    pub(super) fn string(&mut self) -> Option<String> {
        let token = self.peek(0).filter(|token| matches!(token.kind, TokenKind::String | TokenKind::DollarString))?;
        let value = string_value(self.sql, token).ok()?.into_owned();
        self.at += 1;
        Some(value)
    }

    /// From an opening parenthesis or bracket to after its closing one. Returns what is between.
    pub(super) fn group(&mut self) -> Option<Range<usize>> {
        let inside = self.at + 1;
        let mut depth = 0usize;
        let mut look = *self;
        while let Some(token) = look.next() {
            match token.kind {
                TokenKind::Punct(b'(' | b'[') => depth += 1,
                TokenKind::Punct(b')' | b']') => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        self.at = look.at;
                        return Some(inside..look.at - 1);
                    }
                }
                _ if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }
}
