//! The name of a type where it stands in the text, as far as sealed values can be of it.
//!
//! In: tokens from the type's first one on. Out: where it ends, which family of values it is of.

use crate::sql::casts;
use crate::sql::lexer::{Token, TokenKind};
use crate::wire::types::Kind;

/// A type's name in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeText {
    /// Index of its first token.
    pub first: usize,
    /// Index after its last token.
    pub end: usize,
    /// What values it has.
    pub family: Family,
    /// Its modifiers (`varchar(10)` → 10), if any are written.
    pub modifier: Option<Modifier>,
    /// It is an array of that.
    pub array: bool,
}

/// `(a)` or `(a, b)`.
pub type Modifier = (i32, Option<i32>);

/// Types that values of a sealed column may be cast to without changing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One of the logical types.
    Kind(Kind),
    /// Anything else.
    Other,
}

/// Reads the type name that begins at token `first`; `None` if no type name stands there.
pub fn type_at(sql: &str, tokens: &[Token], first: usize) -> Option<TypeText> {
    let name = casts::type_at(sql, tokens, first)?;
    let number = |at: usize| tokens.get(at).and_then(|token| token.text(sql).parse::<i32>().ok());
    let modifier = match &name.modifiers {
        None => None,
        Some(range) => match range.len() {
            1 => Some((number(range.start)?, None)),
            3 => Some((number(range.start)?, Some(number(range.start + 2)?))),
            _ => return None,
        },
    };
    let system = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
    let setof = tokens.get(name.range.start).is_some_and(|token| token.is_word(sql, "setof"));
    // INTERVAL YEAR TO MONTH cuts values.
    let fields = name.name == "interval"
        && tokens.get(name.range.start + 1).is_some_and(|token| {
            name.range.contains(&(name.range.start + 1)) && matches!(token.kind, TokenKind::Ident)
        });
    let family = if system && !setof && !fields { family(&name.name) } else { Family::Other };
    Some(TypeText { first: name.range.start, end: name.range.end, family, modifier, array: name.array })
}

/// The family of a type of pg_catalog or of a bare name.
fn family(name: &str) -> Family {
    let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name);
    kind.map_or(Family::Other, Family::Kind)
}
