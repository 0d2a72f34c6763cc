//! String constants: what value they stand for.
//!
//! In: a token and its text. Out: the value PostgreSQL's parser would see. Never: a value in an error.

use std::borrow::Cow;

use super::lexer::{self, LexError, Token, TokenKind};

/// The text as a string constant, for `standard_conforming_strings = on`.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// How a string constant is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringForm {
    /// `'…'`.
    Plain,
    /// `E'…'`.
    Escape,
    /// `N'…'`: PostgreSQL reads it as `bpchar '…'`, so trailing spaces do not count.
    National,
    /// `U&'…'`.
    Unicode,
    /// `$tag$…$tag$`.
    Dollar,
}

/// How this string constant is written; `None` if it is not one.
pub fn string_form(sql: &str, token: &Token) -> Option<StringForm> {
    let first = token.text(sql).as_bytes().first().copied();
    match (token.kind, first) {
        (TokenKind::DollarString, _) => Some(StringForm::Dollar),
        (TokenKind::String, Some(b'e' | b'E')) => Some(StringForm::Escape),
        (TokenKind::String, Some(b'n' | b'N')) => Some(StringForm::National),
        (TokenKind::String, Some(b'u' | b'U')) => Some(StringForm::Unicode),
        (TokenKind::String, _) => Some(StringForm::Plain),
        _ => None,
    }
}

/// The value of a String or DollarString token. Fails where PostgreSQL fails (no such character, not UTF-8), and on
/// `E'\v'`, which PostgreSQL 15 reads as `v` and 16 as a vertical tab.
pub fn string_value<'a>(sql: &'a str, token: &Token) -> Result<Cow<'a, str>, LexError> {
    let text = token.text(sql);
    match string_form(sql, token).ok_or(LexError::UnterminatedString)? {
        StringForm::Dollar => {
            let tag = memchr::memchr(b'$', &text.as_bytes()[1..]).ok_or(LexError::UnterminatedDollarString)? + 2;
            text.get(tag..text.len() - tag).map(Cow::Borrowed).ok_or(LexError::UnterminatedDollarString)
        }
        StringForm::Plain => Ok(plain(text)?.0),
        StringForm::National => Ok(plain(&text[1..])?.0),
        StringForm::Unicode => {
            let (value, rest) = plain(&text[2..])?;
            unicode_unescape(&value, uescape(rest)?).map(Cow::Owned)
        }
        StringForm::Escape => escaped(&text[1..]),
    }
}

/// `'…'` with its continuation lines, and what stands behind it.
fn plain(text: &str) -> Result<(Cow<'_, str>, &str), LexError> {
    let bytes = text.as_bytes();
    let mut value = Cow::Borrowed("");
    let mut from = 1;
    loop {
        let quote = from + memchr::memchr(b'\'', &bytes[from..]).ok_or(LexError::UnterminatedString)?;
        append(&mut value, &text[from..quote]);
        if bytes.get(quote + 1) == Some(&b'\'') {
            append(&mut value, "'");
            from = quote + 2;
            continue;
        }
        match lexer::continuation(bytes, quote + 1) {
            Some(inside) => from = inside,
            None => return Ok((value, &text[quote + 1..])),
        }
    }
}

fn append<'a>(value: &mut Cow<'a, str>, part: &'a str) {
    if value.is_empty() {
        *value = Cow::Borrowed(part);
    } else if !part.is_empty() {
        value.to_mut().push_str(part);
    }
}

/// The escape character of a `U&` token, from what stands behind its closing quote.
pub(super) fn uescape(rest: &str) -> Result<char, LexError> {
    let tokens = lexer::lex(rest, 2)?;
    let [_, literal] = tokens.as_slice() else {
        return if tokens.is_empty() { Ok('\\') } else { Err(LexError::Uescape) };
    };
    let value = string_value(rest, literal).map_err(|_| LexError::Uescape)?;
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some(escape), None)
            if escape.is_ascii()
                && !escape.is_ascii_hexdigit()
                && !matches!(escape, '+' | '\'' | '"')
                && !lexer::is_space(escape as u8) =>
        {
            Ok(escape)
        }
        _ => Err(LexError::Uescape),
    }
}

/// `str_udeescape` of PostgreSQL's parser.c: `\XXXX`, `\+XXXXXX`, `\\`, surrogates in pairs.
pub(super) fn unicode_unescape(text: &str, escape: char) -> Result<String, LexError> {
    let mut value = String::with_capacity(text.len());
    let mut pair = None;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        if character != escape || after.starts_with(escape) {
            if pair.is_some() {
                return Err(LexError::Escape);
            }
            value.push(character);
            rest = if character == escape { &after[escape.len_utf8()..] } else { after };
            continue;
        }
        let (from, digits) = if after.starts_with('+') { (1, 6) } else { (0, 4) };
        let code = hex(after.get(from..from + digits).ok_or(LexError::Escape)?)?;
        push_code(&mut value, &mut pair, code)?;
        rest = &after[from + digits..];
    }
    if pair.is_some() { Err(LexError::Escape) } else { Ok(value) }
}

fn hex(digits: &str) -> Result<u32, LexError> {
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(LexError::Escape);
    }
    u32::from_str_radix(digits, 16).map_err(|_| LexError::Escape)
}

/// Appends a code point, or keeps the first half of a surrogate pair for the second.
fn push_code(value: &mut String, pair: &mut Option<u32>, code: u32) -> Result<(), LexError> {
    let code = match (pair.take(), code) {
        (None, 0xD800..=0xDBFF) => {
            *pair = Some(code);
            return Ok(());
        }
        (Some(first), 0xDC00..=0xDFFF) => 0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00),
        (Some(_), _) | (None, 0) => return Err(LexError::Escape),
        (None, code) => code,
    };
    value.push(char::from_u32(code).ok_or(LexError::Escape)?);
    Ok(())
}

/// `'…'` of an E string with its continuation lines.
fn escaped(text: &str) -> Result<Cow<'_, str>, LexError> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Ok(plain(text)?.0);
    }
    let bytes = text.as_bytes();
    let mut value = Vec::with_capacity(text.len());
    let mut from = 1;
    loop {
        let stop = from + memchr::memchr2(b'\'', b'\\', &bytes[from..]).ok_or(LexError::UnterminatedString)?;
        value.extend_from_slice(&bytes[from..stop]);
        if bytes[stop] == b'\\' {
            from = stop + 1 + backslash(&bytes[stop + 1..], &mut value)?;
        } else if bytes.get(stop + 1) == Some(&b'\'') {
            value.push(b'\'');
            from = stop + 2;
        } else if let Some(inside) = lexer::continuation(bytes, stop + 1) {
            from = inside;
        } else {
            break;
        }
    }
    match String::from_utf8(value) {
        Ok(value) if !value.contains('\0') => Ok(Cow::Owned(value)),
        _ => Err(LexError::Escape),
    }
}

/// What follows a backslash; returns how many bytes it took.
fn backslash(rest: &[u8], value: &mut Vec<u8>) -> Result<usize, LexError> {
    let first = *rest.first().ok_or(LexError::UnterminatedString)?;
    let run = |from: usize, most: usize, digit: fn(&u8) -> bool| {
        rest.iter().skip(from).take(most).take_while(|byte| digit(byte)).count()
    };
    let number = |from: usize, length: usize, radix: u32| {
        let digits = std::str::from_utf8(&rest[from..from + length]).map_err(|_| LexError::Escape)?;
        u32::from_str_radix(digits, radix).map_err(|_| LexError::Escape)
    };
    let byte = match first {
        b'0'..=b'7' => {
            let length = run(0, 3, |byte| matches!(byte, b'0'..=b'7'));
            value.push(number(0, length, 8)? as u8);
            return Ok(length);
        }
        b'x' if run(1, 2, u8::is_ascii_hexdigit) > 0 => {
            let length = run(1, 2, u8::is_ascii_hexdigit);
            value.push(number(1, length, 16)? as u8);
            return Ok(1 + length);
        }
        b'u' | b'U' => return unicode_escape(rest, value),
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => return Err(LexError::Escape),
        other => other,
    };
    value.push(byte);
    Ok(1)
}

/// `uXXXX` or `UXXXXXXXX`; the first half of a surrogate pair must be followed by `\u` or `\U` and the second.
fn unicode_escape(rest: &[u8], value: &mut Vec<u8>) -> Result<usize, LexError> {
    let mut text = String::new();
    let mut pair = None;
    let mut at = 0;
    loop {
        let digits = if rest.get(at) == Some(&b'U') { 8 } else { 4 };
        let code = rest.get(at + 1..at + 1 + digits).and_then(|digits| std::str::from_utf8(digits).ok());
        push_code(&mut text, &mut pair, hex(code.ok_or(LexError::Escape)?)?)?;
        at += 1 + digits;
        if pair.is_none() {
            value.extend_from_slice(text.as_bytes());
            return Ok(at);
        }
        if !matches!(rest.get(at..at + 2), Some(b"\\u" | b"\\U")) {
            return Err(LexError::Escape);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(sql: &str) -> Result<String, LexError> {
        let tokens = lexer::lex(sql, 10)?;
        assert_eq!(tokens.len(), 1, "{sql}");
        string_value(sql, &tokens[0]).map(Cow::into_owned)
    }

    #[test]
    fn values_are_postgresqls() {
        for (sql, expected) in [
            ("''", ""),
            ("'a''b'", "a'b"),
            ("''''", "'"),
            (r"'a\nb'", r"a\nb"),
            ("'a'\n  'b' -- x\n 'c''d'", "abc'd"),
            ("''\n'b'", "b"),
            ("N'x '", "x "),
            (r"E'a\nb\t\b\f\r\\\'\q'", "a\nb\t\u{8}\u{c}\r\\'q"),
            (r"E'a''b'", "a'b"),
            ("E'plain'\n'more'", "plainmore"),
            ("E'a'\n'\\n'", "a\n"),
            (r"E'\101\x41\x4g\xg'", "AA\u{4}gxg"),
            (r"E'\303\251'", "é"),
            (r"E'\é'", "é"),
            (r"E'\541'", "a"),
            (r"E'\u00e9\U0001F600\ud83d\ude00\uD83D\U0000DE00'", "é😀😀😀"),
            (r"U&'d\0061t\+000061\\'", r"data\"),
            (r"U&'d!0061''\' UESCAPE '!'", r"da'\"),
            (r"U&'\D83D\DE00'", "😀"),
            ("U&'a'\n'\\0062' uescape\n'\\'", "ab"),
            ("$$a'b$$", "a'b"),
            ("$x$ $$ $y$ $x$", " $$ $y$ "),
            ("$$$$", ""),
        ] {
            assert_eq!(value(sql).as_deref(), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn what_names_no_character_is_an_error() {
        for sql in [
            r"E'\u12'",
            r"E'\u123'",
            r"E'\U0001F60'",
            r"E'\ud83d'",
            r"E'\ud83dx'",
            r"E'\ude00'",
            r"E'\u0000'",
            r"E'\0'",
            r"E'\x00'",
            r"E'\xff'",
            r"E'\U00110000'",
            r"E'\u+041'",
            r"E'\v'",
            r"U&'\006'",
            r"U&'\D83D'",
            r"U&'\D83D\D83D'",
            r"U&'\zzzz'",
            r"U&'\+00061'",
            r"U&'a' UESCAPE '+'",
            r"U&'a' UESCAPE 'ab'",
            r"U&'a' UESCAPE 'é'",
            r"U&'a' UESCAPE ''",
        ] {
            assert!(value(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn common_strings_are_borrowed() {
        let sql = "'plain'";
        let tokens = lexer::lex(sql, 10).unwrap();
        assert!(matches!(string_value(sql, &tokens[0]), Ok(Cow::Borrowed("plain"))));
    }
}
