//! The name of a type where it stands in the text.
//!
//! In: tokens from the type's first one on. Out: where it ends, which family of values it is of. The tree has no
//! positions for types, so casts are edited by tokens.

use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::ident;
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
    /// The first type modifier (`varchar(10)` → 10), if one is written.
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
    let mut cursor = Cursor { sql, tokens, at: first };
    let setof = cursor.word("setof");
    let (family, modifier) = cursor.base()?;
    let array = cursor.array()?;
    let family = if setof { Family::Other } else { family };
    Some(TypeText { first, end: cursor.at, family, modifier, array })
}

struct Cursor<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn word(&mut self, word: &str) -> bool {
        let hit = self.peek().is_some_and(|token| token.is_word(self.sql, word));
        self.at += usize::from(hit);
        hit
    }

    fn punct(&mut self, byte: u8) -> bool {
        let hit = self.peek().is_some_and(|token| token.is_punct(byte));
        self.at += usize::from(hit);
        hit
    }

    fn name(&mut self) -> Option<(String, bool)> {
        let token = self.peek()?;
        let bare = token.kind == TokenKind::Ident;
        let named = bare || matches!(token.kind, TokenKind::QuotedIdent | TokenKind::UnicodeIdent);
        let name = named.then(|| ident(self.sql, token).into_owned())?;
        self.at += 1;
        Some((name, bare))
    }

    fn base(&mut self) -> Option<(Family, Option<Modifier>)> {
        let (mut name, mut bare) = self.name()?;
        let mut system = true;
        while self.punct(b'.') {
            system = name == "pg_catalog";
            (name, bare) = self.name()?;
        }
        let words = bare && system;
        match name.as_str() {
            "double" if words && self.word("precision") => return Some((Family::Kind(Kind::Float8), None)),
            "character" | "char" if words && self.word("varying") => {
                return Some((Family::Kind(Kind::Varchar), self.modifier()?));
            }
            "national" if words => {
                let _ = self.word("character") || self.word("char");
                let _ = self.word("varying");
                return Some((Family::Other, self.modifier()?));
            }
            "bit" if words => {
                let _ = self.word("varying");
                return Some((Family::Other, self.modifier()?));
            }
            "timestamp" | "time" if words => return self.clock(name == "time"),
            "interval" if words => return self.interval(),
            _ => {}
        }
        let modifier = self.modifier()?;
        let family = if system { family(&name) } else { Family::Other };
        Some((family, modifier))
    }

    fn clock(&mut self, time: bool) -> Option<(Family, Option<Modifier>)> {
        let modifier = self.modifier()?;
        let zoned = if self.word("with") {
            (self.word("time") && self.word("zone")).then_some(true)?
        } else if self.word("without") {
            (self.word("time") && self.word("zone")).then_some(false)?
        } else {
            false
        };
        let family = match (time, zoned) {
            (true, true) => Family::Other,
            (true, false) => Family::Kind(Kind::Time),
            (false, true) => Family::Kind(Kind::Timestamptz),
            (false, false) => Family::Kind(Kind::Timestamp),
        };
        Some((family, modifier))
    }

    fn interval(&mut self) -> Option<(Family, Option<Modifier>)> {
        let mut fields = false;
        while ["year", "month", "day", "hour", "minute", "second", "to"].iter().any(|word| self.word(word)) {
            fields = true;
        }
        let modifier = self.modifier()?;
        Some((if fields { Family::Other } else { Family::Kind(Kind::Interval) }, modifier))
    }

    /// `(n)`, `(n, m)` or nothing; `None` if something else stands in the parentheses.
    fn modifier(&mut self) -> Option<Option<Modifier>> {
        if !self.punct(b'(') {
            return Some(None);
        }
        let first = self.number()?;
        let second = if self.punct(b',') { Some(self.number()?) } else { None };
        self.punct(b')').then_some(Some((first, second)))
    }

    fn number(&mut self) -> Option<i32> {
        let token = self.peek()?;
        let number = (token.kind == TokenKind::Number).then(|| token.text(self.sql).parse().ok())??;
        self.at += 1;
        Some(number)
    }

    /// `[]`, `[3]`, `ARRAY`, `ARRAY[3]`, repeated.
    fn array(&mut self) -> Option<bool> {
        let mut array = self.word("array");
        while self.punct(b'[') {
            array = true;
            if !self.punct(b']') {
                self.number()?;
                self.punct(b']').then_some(())?;
            }
        }
        Some(array)
    }
}

/// The family of a type of pg_catalog or of a bare name.
fn family(name: &str) -> Family {
    let kind = match name {
        "text" => Kind::Text,
        "varchar" => Kind::Varchar,
        "int2" | "smallint" => Kind::Int2,
        "int4" | "int" | "integer" => Kind::Int4,
        "int8" | "bigint" => Kind::Int8,
        "numeric" | "decimal" | "dec" => Kind::Numeric,
        "float4" | "real" => Kind::Float4,
        "float8" | "float" => Kind::Float8,
        "bool" | "boolean" => Kind::Bool,
        "date" => Kind::Date,
        "timestamptz" => Kind::Timestamptz,
        "uuid" => Kind::Uuid,
        "jsonb" => Kind::Jsonb,
        "json" => Kind::Json,
        "bytea" => Kind::Bytea,
        _ => return Family::Other,
    };
    Family::Kind(kind)
}
