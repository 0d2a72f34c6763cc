//! Casts around a constant or parameter: `::type`, `CAST(… AS type)`, `type '…'`, and how far they reach.
//!
//! In: tokens. Out: token ranges and type names. Never: a tree; sqlparser does not say where a type ends.

use std::ops::Range;

use super::Span;
use super::cursor::Cursor;
use super::lexer::{Token, TokenKind};
use super::name::is_ident;

/// A type as it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// Its tokens, modifiers and array bounds included.
    pub range: Range<usize>,
    /// `pg_catalog` for types that the grammar knows by keyword; `None` if the text names no schema.
    pub schema: Option<String>,
    /// As in `pg_type`: `varchar`, `timestamptz`, `int4`, …; what the text says for types that are no keyword.
    pub name: String,
    /// What stands in the parentheses, as tokens. `char` and `bit` without are of length 1 all the same.
    pub modifiers: Option<Range<usize>>,
    /// `[]`, `[3]`, `ARRAY`.
    pub array: bool,
}

/// A cast and the token range it makes with its operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Operand and cast.
    pub range: Range<usize>,
    /// To what.
    pub to: TypeName,
}

/// The bytes of a token range. Empty ranges have none.
pub fn bytes_of(tokens: &[Token], range: &Range<usize>) -> Option<Span> {
    let tokens = tokens.get(range.clone())?;
    Some(Span { start: tokens.first()?.span.start, end: tokens.last()?.span.end })
}

/// The `::type` directly behind `operand`.
pub fn cast_after(sql: &str, tokens: &[Token], operand: &Range<usize>) -> Option<Cast> {
    let mut cursor = Cursor::new(sql, tokens, operand.end..tokens.len());
    if !cursor.operator("::") {
        return None;
    }
    let to = type_name(&mut cursor)?;
    Some(Cast { range: operand.start..cursor.at, to })
}

/// The `CAST(… AS type)` directly around `operand`.
pub fn cast_call(sql: &str, tokens: &[Token], operand: &Range<usize>) -> Option<Cast> {
    let open = operand.start.checked_sub(2)?;
    if !tokens[open].is_word(sql, "cast") || !tokens[open + 1].is_punct(b'(') {
        return None;
    }
    let mut cursor = Cursor::new(sql, tokens, operand.end..tokens.len());
    if !cursor.word(&["as"]) {
        return None;
    }
    let to = type_name(&mut cursor)?;
    cursor.punct(b')').then_some(Cast { range: open..cursor.at, to })
}

/// The `type '…'` whose constant is the token `index`. Only for a constant that the tree says is a typed one:
/// `ESCAPE '…'` looks the same.
pub fn typed_literal(sql: &str, tokens: &[Token], index: usize) -> Option<Cast> {
    let most = 12;
    let starts = index.saturating_sub(most)..index;
    starts.filter(|&start| start == 0 || !tokens[start - 1].is_punct(b'.')).find_map(|start| {
        let mut cursor = Cursor::new(sql, tokens, start..index);
        let to = type_name(&mut cursor)?;
        cursor.done().then_some(Cast { range: start..index + 1, to })
    })
}

/// The parentheses directly around `operand`, if they only group: no call, no list, no subquery.
pub fn parentheses(sql: &str, tokens: &[Token], operand: &Range<usize>) -> Option<Range<usize>> {
    let open = operand.start.checked_sub(1)?;
    if !tokens[open].is_punct(b'(') || !tokens.get(operand.end)?.is_punct(b')') {
        return None;
    }
    let groups = match open.checked_sub(1).map(|before| &tokens[before]) {
        None => true,
        Some(before) => match before.kind {
            TokenKind::Operator | TokenKind::Punct(b'(' | b'[' | b',' | b':') => true,
            TokenKind::Ident => GROUPING.iter().any(|word| before.is_word(sql, word)),
            _ => false,
        },
    };
    groups.then_some(open..operand.end + 1)
}

/// Keywords behind which parentheses only group; all of them reserved, so none is a function.
const GROUPING: &[&str] = &[
    "select",
    "where",
    "and",
    "or",
    "not",
    "on",
    "having",
    "when",
    "then",
    "else",
    "case",
    "distinct",
    "limit",
    "offset",
    "returning",
    "like",
    "ilike",
    "end",
    "as",
    "default",
    "is",
    "from",
    "to",
];

/// Everything that only converts or groups the token `index`, from inside to outside: casts and parentheses. The range of
/// the last, or the token alone, is where the expression ends that has this value.
pub fn casts_around(sql: &str, tokens: &[Token], index: usize) -> (Range<usize>, Vec<TypeName>) {
    let mut range = index..index + 1;
    let mut types = Vec::new();
    loop {
        let cast = cast_after(sql, tokens, &range).or_else(|| cast_call(sql, tokens, &range));
        if let Some(cast) = cast {
            range = cast.range;
            types.push(cast.to);
        } else if let Some(group) = parentheses(sql, tokens, &range) {
            range = group;
        } else {
            return (range, types);
        }
    }
}

/// The type that starts at token `at`.
pub fn type_at(sql: &str, tokens: &[Token], at: usize) -> Option<TypeName> {
    type_name(&mut Cursor::new(sql, tokens, at..tokens.len()))
}

/// PostgreSQL's `Typename`: takes as much as the grammar would.
fn type_name(cursor: &mut Cursor<'_>) -> Option<TypeName> {
    let start = cursor.at;
    cursor.word(&["setof"]);
    let mut modifiers = None;
    let keyword = keyword_type(cursor, &mut modifiers);
    let (schema, name) = match keyword {
        Some(name) => (Some("pg_catalog".to_owned()), name.to_owned()),
        None => {
            let token = cursor.peek(0).filter(|token| is_ident(token))?;
            if token.kind == TokenKind::Ident && NEVER_A_TYPE.iter().any(|word| token.is_word(cursor.sql, word)) {
                return None;
            }
            let mut parts = cursor.qualified_name()?;
            modifiers = parenthesized(cursor)?;
            let name = parts.pop()?;
            (parts.pop(), name)
        }
    };
    let mut array = false;
    if cursor.word(&["array"]) {
        array = true;
    }
    while cursor.peek(0).is_some_and(|token| token.is_punct(b'[')) {
        let inside = cursor.group()?;
        let bound = cursor.tokens.get(inside.clone())?;
        if inside.len() > 1 || bound.first().is_some_and(|token| token.kind != TokenKind::Number) {
            // A subscript, not a bound.
            cursor.at = inside.start - 1;
            break;
        }
        array = true;
    }
    Some(TypeName { range: start..cursor.at, schema, name, modifiers, array })
}

/// Words before which a string constant can stand, or that an expression can begin with, and that name no type.
const NEVER_A_TYPE: &[&str] = &[
    "select",
    "where",
    "and",
    "or",
    "not",
    "on",
    "having",
    "when",
    "then",
    "else",
    "case",
    "distinct",
    "limit",
    "offset",
    "returning",
    "like",
    "ilike",
    "similar",
    "is",
    "in",
    "from",
    "as",
    "by",
    "to",
    "values",
    "row",
    "array",
    "any",
    "all",
    "some",
    "between",
    "default",
    "null",
    "true",
    "false",
    "end",
    "using",
    "set",
    "cast",
    "collate",
    "union",
    "intersect",
    "except",
    "group",
    "order",
    "escape",
    "uescape",
];

/// `(…)`; `Some(None)` if there is none, `None` if it does not end.
#[allow(clippy::option_option, reason = "absent and broken differ")]
fn parenthesized(cursor: &mut Cursor<'_>) -> Option<Option<Range<usize>>> {
    if !cursor.peek(0).is_some_and(|token| token.is_punct(b'(')) {
        return Some(None);
    }
    Some(Some(cursor.group()?))
}

/// The types that the grammar spells with keywords. Leaves the cursor where it was if it is none of them.
fn keyword_type(cursor: &mut Cursor<'_>, modifiers: &mut Option<Range<usize>>) -> Option<&'static str> {
    let start = cursor.at;
    let word = cursor.peek(0).filter(|token| token.kind == TokenKind::Ident)?.text(cursor.sql).to_ascii_lowercase();
    cursor.at += 1;
    // A qualified name is no keyword type: `public.date`, or `int.x`, which PostgreSQL refuses.
    let qualified = cursor.peek(0).is_some_and(|token| token.is_punct(b'.'));
    let found = if qualified { None } else { keyword_type_of(&word, cursor, modifiers) };
    if found.is_none() {
        cursor.at = start;
    }
    found
}

fn keyword_type_of(word: &str, cursor: &mut Cursor<'_>, modifiers: &mut Option<Range<usize>>) -> Option<&'static str> {
    let name = match word {
        "int" | "integer" => return Some("int4"),
        "smallint" => return Some("int2"),
        "bigint" => return Some("int8"),
        "real" => return Some("float4"),
        "boolean" => return Some("bool"),
        "double" => return cursor.word(&["precision"]).then_some("float8"),
        "float" => {
            let digits = parenthesized(cursor)?;
            let precision = digits.and_then(|digits| cursor.tokens[digits.start].text(cursor.sql).parse::<u32>().ok());
            return Some(if precision.is_some_and(|precision| precision <= 24) { "float4" } else { "float8" });
        }
        "decimal" | "dec" | "numeric" => "numeric",
        "bit" => {
            if cursor.word(&["varying"]) {
                "varbit"
            } else {
                "bit"
            }
        }
        "varchar" => "varchar",
        "character" | "char" | "nchar" => characters(cursor),
        "national" => {
            if !cursor.word(&["character"]) && !cursor.word(&["char"]) {
                return None;
            }
            characters(cursor)
        }
        "timestamp" | "time" => {
            *modifiers = parenthesized(cursor)?;
            let with = cursor.word(&["with", "time", "zone"]);
            if !with {
                cursor.word(&["without", "time", "zone"]);
            }
            return Some(match (word, with) {
                ("time", false) => "time",
                ("time", true) => "timetz",
                (_, false) => "timestamp",
                (_, true) => "timestamptz",
            });
        }
        "interval" => {
            interval_fields(cursor);
            "interval"
        }
        _ => return None,
    };
    *modifiers = parenthesized(cursor)?;
    Some(name)
}

fn characters(cursor: &mut Cursor<'_>) -> &'static str {
    if cursor.word(&["varying"]) { "varchar" } else { "bpchar" }
}

fn interval_fields(cursor: &mut Cursor<'_>) {
    const FIELDS: &[&str] = &["year", "month", "day", "hour", "minute", "second"];
    if FIELDS.iter().any(|field| cursor.word(&[field])) {
        let _ = FIELDS.iter().any(|field| cursor.word(&["to", field]));
    }
}

#[cfg(test)]
mod tests;
