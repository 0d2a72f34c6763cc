//! Identifiers as PostgreSQL understands them: folded, unescaped, cut to 63 bytes.
//!
//! In: a token and its text. Out: the name. Never: an error; the lexer has refused what has no name.

use std::borrow::Cow;

use super::lexer::{LexError, NAME_BYTES_MAX, Token, TokenKind};
use super::literal;

/// The name an identifier token stands for: unquoted ones in lower case (ASCII only, as for any multi-byte encoding),
/// quoted ones unescaped, all cut to 63 bytes at a character boundary. Other tokens: their text.
pub fn ident<'a>(sql: &'a str, token: &Token) -> Cow<'a, str> {
    let text = token.text(sql);
    match token.kind {
        TokenKind::Ident => cut(fold(text)),
        TokenKind::QuotedIdent => cut(unquote(text)),
        TokenKind::UnicodeIdent => match unicode(text) {
            Ok(name) => cut(Cow::Owned(name)),
            Err(_) => Cow::Borrowed(text),
        },
        _ => Cow::Borrowed(text),
    }
}

/// The name as text that PostgreSQL reads back as it is, quoted always.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the token can name something: quoted or not. Keywords are included.
pub fn is_ident(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent)
}

/// Reserved words of PostgreSQL 15 to 17 that stand for no value. Not ARRAY: sqlparser has a function `array(SELECT …)`.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "as", "asc", "asymmetric", "both", "case", "cast", "check",
    "collate", "column", "constraint", "create", "deferrable", "desc", "distinct", "do", "else", "end", "except", "fetch",
    "for", "foreign", "from", "grant", "group", "having", "in", "initially", "intersect", "into", "lateral", "leading",
    "limit", "not", "offset", "on", "only", "or", "order", "placing", "primary", "references", "returning", "select",
    "some", "symmetric", "table", "then", "to", "trailing", "union", "unique", "using", "variadic", "when", "where",
    "window", "with",
];

/// Whether the word, in lower case, names no column, relation or function while it is not quoted. Behind AS or a dot, or
/// as the label of an output (`SELECT a OR FROM t`), it may.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word).is_ok()
}

/// Refuses a `U&"…"` whose escapes name no character, so that [`ident`] cannot fail.
pub(super) fn check_unicode(text: &[u8]) -> Result<(), LexError> {
    let text = std::str::from_utf8(text).map_err(|_| LexError::Escape)?;
    unicode(text).map(drop)
}

fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// `"…"` → its inside, `""` standing for `"`.
fn unquote(text: &str) -> Cow<'_, str> {
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or("");
    if inside.contains('"') { Cow::Owned(inside.replace("\"\"", "\"")) } else { Cow::Borrowed(inside) }
}

/// `U&"…" [UESCAPE '…']`.
fn unicode(text: &str) -> Result<String, LexError> {
    let open = 2;
    let mut close = open + 1;
    let bytes = text.as_bytes();
    loop {
        close += memchr::memchr(b'"', bytes.get(close..).unwrap_or_default()).ok_or(LexError::UnterminatedIdent)?;
        if bytes.get(close + 1) != Some(&b'"') {
            break;
        }
        close += 2;
    }
    let escape = literal::uescape(&text[close + 1..])?;
    literal::unicode_unescape(&unquote(&text[open..=close]), escape)
}

fn cut(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let end = (0..=NAME_BYTES_MAX).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(&name[..end]),
        Cow::Owned(mut name) => {
            name.truncate(end);
            Cow::Owned(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex;

    fn name(sql: &str) -> String {
        let tokens = lex(sql, 10).unwrap();
        assert_eq!(tokens.len(), 1, "{sql}");
        ident(sql, &tokens[0]).into_owned()
    }

    #[test]
    fn names_are_folded_unescaped_and_cut() {
        assert_eq!(name("Users"), "users");
        assert_eq!(name("ÄÖ_Ab$1"), "ÄÖ_ab$1");
        assert_eq!(name("\"Us\"\"ers\""), "Us\"ers");
        assert_eq!(name("U&\"d\\0061t\\+000061\""), "data");
        assert_eq!(name("u&\"d!0061!!\"\"\" uescape '!'"), "da!\"");
        assert_eq!(name("U&\"\\D83D\\DE00\""), "😀");
        assert_eq!(name(&"x".repeat(70)), "x".repeat(63));
        assert_eq!(name(&format!("{}é", "x".repeat(62))), "x".repeat(62));
        assert_eq!(name(&format!("\"{}\"", "é".repeat(40))), "é".repeat(31));
        assert_eq!(name(&format!("{}é", "x".repeat(61))), format!("{}é", "x".repeat(61)));
    }

    #[test]
    fn reserved_words() {
        assert!(RESERVED.is_sorted());
        assert!(is_reserved("from") && is_reserved("or") && !is_reserved("users") && !is_reserved("user"));
    }

    #[test]
    fn names_without_a_character_are_refused_by_the_lexer() {
        for sql in ["U&\"\\D83D\"", "U&\"\\DE00\"", "U&\"\\00\"", "U&\"\\0000\"", "U&\"x\" uescape '+'", "U&\"\\zzzz\""]
        {
            assert!(lex(sql, 10).is_err(), "{sql}");
        }
    }
}
