//! SQL text: guard lexer, parse, names → relations and columns, splice.
//!
//! In: the client's bytes and a [`schema::Schema`]. Out: tokens, trees and byte spans. Never: policy, keys, re-printing.

pub mod schema;

/// Bytes `start..end` of the client's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "a half-open range")]
pub struct Span {
    pub start: u32,
    pub end: u32,
}
