//! What PostgreSQL gets in place of a statement, without the values in it.
//!
//! In: the client's text, its tokens, the plan's edits. Out: the spliced text on one line, constants as `?`, cells as
//! `'\x…'`. Never: a key, a value, a comment.

use super::super::{Edit, Replacement};
use crate::sql::Span;
use crate::sql::lexer::Token;
use crate::sql::shape::is_constant;

/// Characters kept of the text.
const TEXT_CHARS_MAX: usize = 2_000;

/// `None` if no edit is within the statement of these tokens.
pub(super) fn text(sql: &str, tokens: &[Token], edits: &[Edit]) -> Option<String> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    let own = |edit: &&Edit| edit.span.start >= first.span.start && edit.span.end <= last.span.end;
    let mut edits = edits.iter().filter(own).peekable();
    edits.peek()?;
    let mut writer = Writer { text: String::new(), end: first.span.start };
    for token in tokens {
        while let Some(edit) = edits.next_if(|edit| edit.span.start < token.span.end) {
            writer.piece(edit.span, replacement(&edit.with));
        }
        // What an edit covers is gone.
        if token.span.start >= writer.end {
            writer.piece(token.span, if is_constant(sql, token) { "?" } else { token.text(sql) });
        }
    }
    for edit in edits {
        writer.piece(edit.span, replacement(&edit.with));
    }
    let mut text = writer.text;
    if let Some((cut, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(cut);
        text.push('…');
    }
    Some(text)
}

fn replacement(with: &Replacement) -> &str {
    match with {
        Replacement::Text(text) => text,
        Replacement::Cell { target, .. } if target.array => "'{…}'::pg_catalog.bytea[]",
        Replacement::Cell { .. } => "'\\x…'::pg_catalog.bytea",
    }
}

struct Writer {
    text: String,
    /// Where what has been written ends in the client's text.
    end: u32,
}

impl Writer {
    fn piece(&mut self, span: Span, text: &str) {
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '?' | '"' | '\'');
        let melts = self.text.ends_with(word) && text.starts_with(word);
        if !self.text.is_empty() && (span.start > self.end || melts) {
            self.text.push(' ');
        }
        self.text.push_str(text);
        self.end = self.end.max(span.end);
    }
}
