//! text, varchar, bool, uuid, bytea.
//!
//! In: UTF-8 text. Out: plaintext bytes, and back. Never: a lossy decode.

use super::{Result, ValueError};

/// C's `isspace` in the C locale, which PostgreSQL's input functions skip.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The text between leading and trailing `isspace` bytes.
pub(super) fn trim(s: &str) -> &str {
    s.trim_matches(|c: char| u8::try_from(c).is_ok_and(is_space))
}

/// PostgreSQL's check of incoming text: valid UTF-8 without NUL (22021).
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    let invalid = ValueError::new(b"22021", "invalid byte sequence for encoding \"UTF8\"");
    if memchr::memchr(0, bytes).is_some() {
        return Err(invalid);
    }
    std::str::from_utf8(bytes).map_err(|_| invalid)
}

/// At most `typmod − 4` characters; only spaces may stand beyond, and they are cut off (varchar_input).
pub(super) fn varchar_in(s: &str, typmod: i32, out: &mut Vec<u8>) -> Result<()> {
    let kept = match usize::try_from(typmod - 4) {
        Ok(limit) if s.len() > limit => match s.char_indices().nth(limit) {
            Some((end, _)) => {
                if s.as_bytes()[end..].iter().any(|&b| b != b' ') {
                    return Err(ValueError::new(b"22001", "value too long for the column's type"));
                }
                &s[..end]
            }
            None => s,
        },
        _ => s,
    };
    out.extend_from_slice(kept.as_bytes());
    Ok(())
}

/// Any prefix of true, false, yes, no; on, of, off; 1, 0 (parse_bool_with_len).
pub(super) fn bool_in(s: &str) -> Result<bool> {
    let word = trim(s);
    let prefix_of = |full: &str, least: usize| {
        word.len() >= least
            && word.len() <= full.len()
            && full.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes())
    };
    if word == "1" || prefix_of("true", 1) || prefix_of("yes", 1) || prefix_of("on", 2) {
        Ok(true)
    } else if word == "0" || prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) {
        Ok(false)
    } else {
        Err(ValueError::syntax("invalid input syntax for type boolean"))
    }
}

/// 32 hex digits, optional braces, optional hyphens after every fourth digit (string_to_uuid).
pub(super) fn uuid_in(s: &str) -> Result<[u8; 16]> {
    const BAD: ValueError = ValueError::syntax("invalid input syntax for type uuid");
    let mut rest = s.as_bytes();
    let braces = rest.first() == Some(&b'{');
    if braces {
        rest = rest[1..].strip_suffix(b"}").ok_or(BAD)?;
    }
    let mut uuid = [0; 16];
    for (i, byte) in uuid.iter_mut().enumerate() {
        let [high, low, after @ ..] = rest else { return Err(BAD) };
        *byte = hex_digit(*high).ok_or(BAD)? << 4 | hex_digit(*low).ok_or(BAD)?;
        rest = match after {
            [b'-', tail @ ..] if i % 2 == 1 && i < 15 => tail,
            _ => after,
        };
    }
    if rest.is_empty() { Ok(uuid) } else { Err(BAD) }
}

/// Lower case, 8-4-4-4-12.
pub(super) fn uuid_out(uuid: [u8; 16], out: &mut Vec<u8>) {
    for (i, byte) in uuid.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        push_hex(byte, out);
    }
}

/// Hex form (`\x…`, spaces allowed between digit pairs) or escape form (byteain).
pub(super) fn bytea_in(s: &str, out: &mut Vec<u8>) -> Result<()> {
    match s.as_bytes() {
        [b'\\', b'x', hex @ ..] => bytea_hex_in(hex, out),
        bytes => bytea_escape_in(bytes, out),
    }
}

fn bytea_hex_in(mut hex: &[u8], out: &mut Vec<u8>) -> Result<()> {
    loop {
        match hex {
            [] => return Ok(()),
            [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] => hex = rest,
            [high, rest @ ..] => {
                let invalid = ValueError::new(b"22023", "invalid hexadecimal data");
                let high = hex_digit(*high).ok_or(invalid)?;
                let [low, rest @ ..] = rest else { return Err(invalid) };
                out.push(high << 4 | hex_digit(*low).ok_or(invalid)?);
                hex = rest;
            }
        }
    }
}

fn bytea_escape_in(mut bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    loop {
        match bytes {
            [] => return Ok(()),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                bytes = rest;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                bytes = rest;
            }
            [b'\\', ..] => return Err(ValueError::syntax("invalid input syntax for type bytea")),
            [byte, rest @ ..] => {
                out.push(*byte);
                bytes = rest;
            }
        }
    }
}

/// `bytea_output` hex or escape (byteaout).
pub(super) fn bytea_out(bytes: &[u8], hex: bool, out: &mut Vec<u8>) {
    if hex {
        out.reserve(2 + bytes.len() * 2);
        out.extend_from_slice(b"\\x");
        bytes.iter().for_each(|&byte| push_hex(byte, out));
        return;
    }
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(byte),
            _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
        }
    }
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|d| d as u8)
}
