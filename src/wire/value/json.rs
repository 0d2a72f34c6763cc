//! json and jsonb: PostgreSQL's grammar, and jsonb's one way of printing a document.
//!
//! In: UTF-8 text. Out: yes or no (json), or the normal form (jsonb). Never: recursion deeper than [`DEPTH_MAX`].

use super::numeric::Numeric;
use super::{Result, ValueError};

const SYNTAX: ValueError = ValueError::syntax("invalid input syntax for type json");
const TOO_DEEP: ValueError = ValueError::new(b"54001", "the JSON document is nested too deeply");
/// PostgreSQL's own limit is its stack; this is a tenth of what it takes.
const DEPTH_MAX: usize = 512;

/// json_in: the text is one JSON value.
pub(super) fn check(s: &str) -> Result<()> {
    let mut reader = Reader { rest: s.as_bytes(), depth: 0 };
    reader.value(None)?;
    reader.end()
}

/// jsonb_in, then jsonb_out: appends the normal form.
pub(super) fn jsonb_in(s: &str, out: &mut Vec<u8>) -> Result<()> {
    let mut reader = Reader { rest: s.as_bytes(), depth: 0 };
    let mut normal = Vec::with_capacity(s.len() + s.len() / 8);
    reader.value(Some(&mut normal))?;
    reader.end()?;
    out.append(&mut normal);
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        let length = self.rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.rest = &self.rest[length..];
    }

    fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.rest.is_empty() { Ok(()) } else { Err(SYNTAX) }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// One value; with `out`, its jsonb form.
    fn value(&mut self, out: Option<&mut Vec<u8>>) -> Result<()> {
        self.skip_space();
        match self.rest.first().ok_or(SYNTAX)? {
            b'{' => self.nested(|reader| reader.object(out)),
            b'[' => self.nested(|reader| reader.array(out)),
            b'"' => {
                let string = self.string(out.is_some())?;
                if let Some(out) = out {
                    quote(&string, out);
                }
                Ok(())
            }
            b'-' | b'0'..=b'9' => self.number(out),
            _ => self.word(out),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        self.rest = &self.rest[1..];
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, mut out: Option<&mut Vec<u8>>) -> Result<()> {
        if let Some(out) = &mut out {
            out.push(b'[');
        }
        self.skip_space();
        if !self.take(b']') {
            loop {
                self.value(out.as_deref_mut())?;
                self.skip_space();
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return Err(SYNTAX);
                }
                if let Some(out) = &mut out {
                    out.extend_from_slice(b", ");
                }
            }
        }
        if let Some(out) = &mut out {
            out.push(b']');
        }
        Ok(())
    }

    fn object(&mut self, out: Option<&mut Vec<u8>>) -> Result<()> {
        let mut members: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        self.skip_space();
        if !self.take(b'}') {
            loop {
                self.skip_space();
                if self.rest.first() != Some(&b'"') {
                    return Err(SYNTAX);
                }
                let key = self.string(out.is_some())?;
                self.skip_space();
                if !self.take(b':') {
                    return Err(SYNTAX);
                }
                let mut value = Vec::new();
                self.value(out.is_some().then_some(&mut value))?;
                if out.is_some() {
                    members.push((key, value));
                }
                self.skip_space();
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return Err(SYNTAX);
                }
            }
        }
        if let Some(out) = out {
            put_object(members, out);
        }
        Ok(())
    }

    /// The string's bytes; with `decode`, escapes are resolved as jsonb must (otherwise only checked).
    fn string(&mut self, decode: bool) -> Result<Vec<u8>> {
        self.rest = &self.rest[1..];
        let mut string = Vec::new();
        loop {
            let plain = self.rest.iter().take_while(|&&b| b != b'"' && b != b'\\' && b >= 0x20).count();
            let (text, rest) = self.rest.split_at(plain);
            if decode {
                string.extend_from_slice(text);
            }
            self.rest = rest;
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(string);
                }
                [b'\\', b'u', rest @ ..] => {
                    self.rest = rest;
                    let unit = self.hex4()?;
                    if decode {
                        let c = self.unicode(unit)?;
                        string.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                [b'\\', escape, rest @ ..] => {
                    string.push(match escape {
                        b'"' | b'\\' | b'/' => *escape,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        _ => return Err(SYNTAX),
                    });
                    self.rest = rest;
                }
                _ => return Err(SYNTAX),
            }
        }
    }

    fn hex4(&mut self) -> Result<u32> {
        let (digits, rest) = self.rest.split_first_chunk::<4>().ok_or(SYNTAX)?;
        self.rest = rest;
        digits
            .iter()
            .try_fold(0, |unit, &digit| char::from(digit).to_digit(16).map(|digit| unit << 4 | digit).ok_or(SYNTAX))
    }

    /// One code point, reading the low half of a surrogate pair if `unit` is a high one.
    fn unicode(&mut self, unit: u32) -> Result<char> {
        let code = match unit {
            0 => return Err(ValueError::new(b"22P05", "\\u0000 cannot be converted to text")),
            0xd800..0xdc00 => {
                self.rest = self.rest.strip_prefix(b"\\u").ok_or(SYNTAX)?;
                match self.hex4()? {
                    low @ 0xdc00..0xe000 => 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff),
                    _ => return Err(SYNTAX),
                }
            }
            _ => unit,
        };
        char::from_u32(code).ok_or(SYNTAX)
    }

    fn number(&mut self, out: Option<&mut Vec<u8>>) -> Result<()> {
        let length = self
            .rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_'))
            .count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        let token = std::str::from_utf8(token).map_err(|_| SYNTAX)?;
        if !is_number(token) {
            return Err(SYNTAX);
        }
        if let Some(out) = out {
            // As numeric stores it: no exponent, the decimals as written.
            let number = Numeric::parse(token)?;
            number.put(&mut Vec::new())?;
            number.print(out);
        }
        Ok(())
    }

    fn word(&mut self, out: Option<&mut Vec<u8>>) -> Result<()> {
        let length = self.rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80).count();
        let (token, rest) = self.rest.split_at(length);
        if !matches!(token, b"true" | b"false" | b"null") {
            return Err(SYNTAX);
        }
        self.rest = rest;
        if let Some(out) = out {
            out.extend_from_slice(token);
        }
        Ok(())
    }
}

/// `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`
fn is_number(token: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let unsigned = token.strip_prefix('-').unwrap_or(token);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// Keys by length, then bytes; of equal ones the last.
fn put_object(mut members: Vec<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) {
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    out.push(b'{');
    let mut first = true;
    for (i, (key, value)) in members.iter().enumerate() {
        if members.get(i + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        if !first {
            out.extend_from_slice(b", ");
        }
        first = false;
        quote(key, out);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

/// escape_json.
fn quote(string: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in string {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
