//! SQL text: guard lexer, parse, names → relations and columns, splice.
//!
//! In: the client's bytes and a [`schema::Schema`]. Out: tokens, trees and byte spans. Never: policy, keys, re-printing.

pub mod casts;
pub mod comment;
pub mod copy_stmt;
mod cursor;
pub mod kind;
pub mod lexer;
pub mod literal;
pub mod name;
pub mod parse;
pub mod privacy;
pub mod resolve;
pub mod schema;
pub mod setting;
pub mod shape;
pub mod splice;
pub mod statement;

pub use kind::{Kind, kind, mentions};
pub use lexer::{LexError, Token, TokenKind, lex};
pub use literal::string_value;
pub use name::ident;
pub use shape::{Shape, shape};
pub use splice::splice;
pub use statement::statements;

/// Bytes `start..end` of the client's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "a half-open range")]
pub struct Span {
    pub start: u32,
    pub end: u32,
}
