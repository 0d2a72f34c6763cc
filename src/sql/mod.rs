//! SQL text: guard lexer, parse, names → relations and columns, splice.
//!
//! In: the client's bytes and a [`schema::Schema`]. Out: tokens, trees and byte spans. Never: policy, keys, re-printing.

pub mod schema;
