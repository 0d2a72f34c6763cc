//! Trees: sqlparser's grammar over the guard lexer's tokens.
//!
//! In: the text and its tokens. Out: sqlparser's trees, whose locations lead back to tokens and bytes. Never: a tree
//! of tokens that PostgreSQL would cut or name differently.
//!
//! sqlparser's own tokenizer differs from PostgreSQL's in dozens of ways (`U&"…"`, E'\xFF', `a\u{a0}b`, `@-`, `$é$`, continuation
//! lines), so it is not used: its parser reads the guard's tokens, one statement at a time, and must read the last one.
//! So both agree on the boundaries of tokens and statements by construction. Identifiers arrive folded, unescaped and
//! cut to 63 bytes; string constants of any form but `N'…'` arrive decoded as `SingleQuotedString`, as PostgreSQL's
//! grammar knows only one; words that are keywords for other databases only arrive as plain identifiers.
//!
//! A location is (line 1, column = byte offset + 1).

use std::ops::{Deref, Range};

use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span as TreeSpan, Token as TreeToken, TokenWithSpan};

use super::Span;
use super::lexer::{Token, TokenKind};
use super::statement::statements;

mod assigned;
mod feed;
mod foreign;

/// How deep expressions, subqueries and types may nest. PostgreSQL's own limit is its stack, a few thousand.
pub const NESTING_MAX: usize = 256;

/// Above this, [`with_stack`] would need more than half a gigabyte of address space.
pub const TOKENS_MAX: usize = 250_000;

/// Statements up to this many tokens fit any thread's stack, however they nest.
const SHALLOW_TOKENS_MAX: usize = 128;

/// Stack bytes per token for walking and dropping a tree: every second token of `1+1+…` is one level. Frames of an
/// unoptimised build are several times larger.
const STACK_BYTES_PER_TOKEN: usize = if cfg!(debug_assertions) { 8192 } else { 2048 };

/// Why there is no tree. Names what was wrong, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRefusal {
    /// sqlparser's grammar has no rule for it; PostgreSQL's may have.
    #[error("the statement uses a construct that pgveil cannot read")]
    Grammar,
    /// Nested too deeply.
    #[error("the statement nests too deeply")]
    Nesting,
    /// Too many tokens.
    #[error("the statement is too long")]
    TooLong,
    /// A string constant whose value cannot be told: see [`super::string_value`].
    #[error("a string constant has an escape that pgveil cannot read")]
    Literal,
    /// A byte that is in no SQL token.
    #[error("the statement holds a character that is not SQL")]
    Character,
    /// The text is empty.
    #[error("the statement is empty")]
    Empty,
}

/// The trees of all statements of a text. May be dropped on any stack.
#[derive(Debug)]
pub struct Parsed {
    /// One per statement of the text.
    pub statements: Vec<Statement>,
    /// All tokens of the text.
    pub tokens: Vec<Token>,
    /// The tokens of each statement.
    pub ranges: Vec<Range<usize>>,
}

impl Drop for Parsed {
    fn drop(&mut self) {
        let statements = std::mem::take(&mut self.statements);
        with_stack(self.tokens.len(), || drop(statements));
    }
}

impl Parsed {
    /// See [`token_at`].
    pub fn token_at(&self, location: Location) -> Option<usize> {
        token_at(&self.tokens, location)
    }

    /// See [`span_of`].
    pub fn span_of(&self, span: TreeSpan) -> Option<Span> {
        span_of(span)
    }
}

/// The tree of one statement. May be dropped on any stack.
#[derive(Debug)]
pub struct Tree {
    statement: Option<Box<Statement>>,
    tokens: usize,
}

impl Deref for Tree {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        // Made with a statement, and only `drop` takes it.
        self.statement.as_deref().expect("only drop takes the statement")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let statement = self.statement.take();
        with_stack(self.tokens, || drop(statement));
    }
}

/// Reads every statement of the text.
pub fn parse(sql: &str, tokens: Vec<Token>) -> Result<Parsed, ParseRefusal> {
    let ranges = statements(&tokens, sql);
    let mut parsed = Parsed { statements: Vec::with_capacity(ranges.len()), tokens, ranges };
    for range in parsed.ranges.clone() {
        parsed.statements.push(read(sql, &parsed.tokens[range])?);
    }
    Ok(parsed)
}

/// Reads one statement: `tokens[range]`, as [`statements`] gave it.
pub fn parse_statement(sql: &str, tokens: &[Token], range: Range<usize>) -> Result<Tree, ParseRefusal> {
    let tokens = tokens.get(range).unwrap_or_default();
    let statement = read(sql, tokens)?;
    Ok(Tree { statement: Some(Box::new(statement)), tokens: tokens.len() })
}

fn read(sql: &str, tokens: &[Token]) -> Result<Statement, ParseRefusal> {
    if tokens.is_empty() {
        return Err(ParseRefusal::Empty);
    }
    if tokens.len() > TOKENS_MAX {
        return Err(ParseRefusal::TooLong);
    }
    if nesting(tokens) > NESTING_MAX {
        return Err(ParseRefusal::Nesting);
    }
    let fed = feed::feed(sql, tokens)?;
    with_stack(tokens.len(), || read_fed(fed))
}

fn read_fed(tokens: Vec<TokenWithSpan>) -> Result<Statement, ParseRefusal> {
    let mut parser =
        Parser::new(&PostgreSqlDialect {}).with_recursion_limit(NESTING_MAX * 2).with_tokens_with_locations(tokens);
    let refusal = |error| match error {
        ParserError::RecursionLimitExceeded => ParseRefusal::Nesting,
        _ => ParseRefusal::Grammar,
    };
    let statement = parser.parse_statement().map_err(refusal)?;
    if parser.peek_token_ref().token == TreeToken::EOF { Ok(statement) } else { Err(ParseRefusal::Grammar) }
}

/// The deepest nesting of parentheses and brackets.
pub fn nesting(tokens: &[Token]) -> usize {
    let mut depth = 0usize;
    let mut deepest = 0;
    for token in tokens {
        match token.kind {
            TokenKind::Punct(b'(' | b'[') => depth += 1,
            TokenKind::Punct(b')' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Runs `work`, which walks or drops trees of that many tokens, on a stack that is deep enough for them. Costs nothing
/// for small statements.
pub fn with_stack<T>(tokens: usize, work: impl FnOnce() -> T) -> T {
    if tokens <= SHALLOW_TOKENS_MAX {
        return work();
    }
    let bytes = tokens.min(TOKENS_MAX).saturating_mul(STACK_BYTES_PER_TOKEN);
    stacker::maybe_grow(bytes, bytes, work)
}

/// The token that starts at, or holds, this location of a tree.
pub fn token_at(tokens: &[Token], location: Location) -> Option<usize> {
    let byte = offset(location)?;
    let after = tokens.partition_point(|token| token.span.start <= byte);
    let index = after.checked_sub(1)?;
    (byte < tokens[index].span.end).then_some(index)
}

/// The bytes of a span of a tree; `None` if the tree does not know where the node stands.
pub fn span_of(span: TreeSpan) -> Option<Span> {
    let span = Span { start: offset(span.start)?, end: offset(span.end)? };
    (span.start < span.end).then_some(span)
}

fn offset(location: Location) -> Option<u32> {
    if location.line != 1 {
        return None;
    }
    u32::try_from(location.column.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests;
