//! One row: where its fields are, what they hold, and writing it again.
//!
//! In: the bytes of one row. Out: decoded fields (CopyReadAttributesText, CopyReadAttributesCSV, NextCopyFrom's words on
//! FORCE_NULL and DEFAULT) and encoded ones (CopyAttributeOutText, CopyAttributeOutCSV). Never: a changed byte in a field that was not replaced.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::{CopyError, Layout, RowFormat, RowKind};

/// Where a field stands in its row, and how it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) state: State,
}

/// How a field is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its bytes are its value.
    Plain,
    /// It holds an escape (text) or a quote (CSV), so it is not its own value.
    Coded,
    Null,
    /// The server puts the column's default there, or says that it has none.
    Default,
}

/// Length of a binary field, before its value.
pub(super) const PREFIX: usize = 4;

/// A row, borrowed from the splitter.
pub struct Row<'a> {
    pub(super) kind: RowKind,
    pub(super) layout: &'a Layout,
    pub(super) raw: &'a [u8],
    /// Without the line end.
    pub(super) length: usize,
    pub(super) spans: &'a [Span],
}

impl std::fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("kind", &self.kind).field("fields", &self.spans.len()).finish_non_exhaustive()
    }
}

impl<'a> Row<'a> {
    /// What it is; only data rows have fields.
    pub fn kind(&self) -> RowKind {
        self.kind
    }

    /// The bytes as they came, with the line end.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Not a data row (a data row has at least one field, if an empty one).
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of field `i`, escapes and quotes resolved. `None`: NULL, the column's default, or no such field.
    pub fn field(&self, i: usize) -> Option<Cow<'a, [u8]>> {
        let span = self.spans.get(i)?;
        let raw = &self.raw[span.start..span.end];
        let layout = self.layout;
        let forced = |fields: &[bool]| layout.format == RowFormat::Csv && fields.get(i).copied().unwrap_or(false);
        let value = match span.state {
            // What stands there is the NULL string itself.
            State::Null if forced(&layout.force_not_null) => return Some(Cow::Borrowed(raw)),
            State::Null | State::Default => return None,
            State::Plain => Cow::Borrowed(raw),
            State::Coded if layout.format == RowFormat::Csv => Cow::Owned(decode_csv(layout, raw)),
            State::Coded => match raw {
                // As bytea's hex form is written.
                [b'\\', b'\\', rest @ ..] if memchr::memchr(b'\\', rest).is_none() => Cow::Borrowed(&raw[1..]),
                _ => Cow::Owned(decode_text(raw)),
            },
        };
        let null = forced(&layout.force_null) && *value == *layout.null.as_bytes();
        (!null).then_some(value)
    }

    /// To write the row again with some fields replaced.
    pub fn rewriter(&self) -> Rewriter<'_, 'a> {
        Rewriter { row: self, copied: 0 }
    }

    /// The bytes of the row without its line end.
    pub fn line(&self) -> &'a [u8] {
        &self.raw[..self.length]
    }
}

/// Writes a row again: all bytes but those of replaced fields are copied, the line end included.
#[derive(Debug)]
pub struct Rewriter<'r, 'a> {
    row: &'r Row<'a>,
    copied: usize,
}

impl Rewriter<'_, '_> {
    /// Appends the row up to field `i` and that field with another value, or NULL. By ascending field.
    pub fn replace(&mut self, i: usize, value: Option<&[u8]>, out: &mut impl BufMut) {
        if !self.copy_to(i, out) {
            return;
        }
        let Row { layout, spans, .. } = self.row;
        match value {
            Some(value) => put_field(layout, i, spans.len(), value, out),
            None => put_null(layout, out),
        }
    }

    /// [`Rewriter::replace`] by a value of type bytea, in the form that rows of this format carry.
    pub fn replace_bytea(&mut self, i: usize, value: &[u8], out: &mut BytesMut) {
        let Row { layout, .. } = self.row;
        let begin: &[u8] = match layout.format {
            RowFormat::Binary => return self.replace(i, Some(value), out),
            RowFormat::Text => b"\\\\x",
            // Nothing in it needs a quote.
            RowFormat::Csv if layout.hex_is_plain(i) => b"\\x",
            RowFormat::Csv => return self.replace(i, Some(format!("\\x{}", hex::encode(value)).as_bytes()), out),
        };
        if !self.copy_to(i, out) {
            return;
        }
        out.put_slice(begin);
        let begun = out.len();
        out.resize(begun + 2 * value.len(), 0);
        // Twice as long as what is written there.
        let _ = hex::encode_to_slice(value, &mut out[begun..]);
    }

    /// Appends the row up to field `i`, which the caller writes. `false`: there is none.
    fn copy_to(&mut self, i: usize, out: &mut impl BufMut) -> bool {
        let Row { layout, raw, spans, .. } = self.row;
        let Some(span) = spans.get(i) else { return false };
        let prefix = if layout.format == RowFormat::Binary { PREFIX } else { 0 };
        out.put_slice(&raw[self.copied..span.start - prefix]);
        self.copied = span.end;
        true
    }

    /// Appends what is left.
    pub fn finish(self, out: &mut impl BufMut) {
        out.put_slice(&self.row.raw[self.copied..]);
    }
}

/// Finds the fields of one line.
pub(super) fn find_fields(layout: &Layout, line: &[u8], spans: &mut Vec<Span>) -> Result<(), CopyError> {
    let mut start = 0;
    let csv = layout.format == RowFormat::Csv;
    loop {
        let (end, coded) = if csv { csv_field_end(layout, line, start)? } else { text_field_end(layout, line, start) };
        let spells = |what: &str| line[start..end] == *what.as_bytes();
        // Both strings are compared with the raw field; a quoted one is never NULL.
        let state = if spells(&layout.null) && !(csv && coded) {
            State::Null
        } else if layout.default.as_deref().is_some_and(spells) {
            State::Default
        } else if coded {
            State::Coded
        } else {
            State::Plain
        };
        spans.push(Span { start, end, state });
        if end >= line.len() {
            return Ok(());
        }
        start = end + 1;
    }
}

fn text_field_end(layout: &Layout, line: &[u8], start: usize) -> (usize, bool) {
    let (mut at, mut coded) = (start, false);
    while let Some(skip) = memchr::memchr2(layout.delimiter, b'\\', &line[at..]) {
        at += skip;
        if line[at] == layout.delimiter {
            return (at, coded);
        }
        coded = true;
        at += 2;
        if at >= line.len() {
            break;
        }
    }
    (line.len(), coded)
}

fn csv_field_end(layout: &Layout, line: &[u8], start: usize) -> Result<(usize, bool), CopyError> {
    let (quote, escape) = (layout.quote, layout.escape);
    let (mut at, mut coded) = (start, false);
    loop {
        match memchr::memchr2(layout.delimiter, quote, &line[at..]) {
            None => return Ok((line.len(), coded)),
            Some(skip) if line[at + skip] == layout.delimiter => return Ok((at + skip, coded)),
            Some(skip) => at += skip + 1,
        }
        coded = true;
        loop {
            let Some(skip) = memchr::memchr2(quote, escape, &line[at..]) else {
                return Err(CopyError::bad("unterminated CSV quoted field"));
            };
            at += skip;
            let next = line.get(at + 1);
            if line[at] == escape && next.is_some_and(|&n| n == escape || n == quote) {
                at += 2;
            } else if line[at] == quote {
                at += 1;
                break;
            } else {
                at += 1;
            }
        }
    }
}

fn decode_text(raw: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        value.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&escape, after)) = rest.split_first() else {
            // Cannot be: the splitter refuses a backslash at the end of the data.
            return value;
        };
        rest = after;
        let decoded = match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => digits(escape, &mut rest, 8, 2),
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                let first = rest[0];
                rest = &rest[1..];
                digits(first, &mut rest, 16, 1)
            }
            other => other,
        };
        value.push(decoded);
    }
    value.extend_from_slice(rest);
    value
}

/// `first` and up to `more` further digits of that base, modulo 256.
fn digits(first: u8, rest: &mut &[u8], base: u32, more: usize) -> u8 {
    let digit = |byte: u8| char::from(byte).to_digit(base);
    let mut value = digit(first).unwrap_or(0);
    for _ in 0..more {
        let Some(next) = rest.first().and_then(|&b| digit(b)) else { break };
        value = value * base + next;
        *rest = &rest[1..];
    }
    (value & 0xff) as u8
}

fn decode_csv(layout: &Layout, raw: &[u8]) -> Vec<u8> {
    let (quote, escape) = (layout.quote, layout.escape);
    let mut value = Vec::with_capacity(raw.len());
    let (mut at, mut quoted) = (0, false);
    while at < raw.len() {
        let byte = raw[at];
        at += 1;
        if !quoted {
            if byte == quote {
                quoted = true;
            } else {
                value.push(byte);
            }
            continue;
        }
        match raw.get(at) {
            Some(&next) if byte == escape && (next == escape || next == quote) => {
                value.push(next);
                at += 1;
            }
            _ if byte == quote => quoted = false,
            _ => value.push(byte),
        }
    }
    value
}

/// Appends NULL.
pub fn put_null(layout: &Layout, out: &mut impl BufMut) {
    match layout.format {
        RowFormat::Binary => out.put_i32(-1),
        RowFormat::Text | RowFormat::Csv => out.put_slice(layout.null.as_bytes()),
    }
}

/// Appends `value` as field `i` of a row of `count`, as COPY TO writes it.
pub fn put_field(layout: &Layout, i: usize, count: usize, value: &[u8], out: &mut impl BufMut) {
    match layout.format {
        RowFormat::Text => put_text(layout, value, out),
        RowFormat::Csv => put_csv(layout, i, count, value, out),
        RowFormat::Binary => {
            // A value is shorter than its frame, whose length is checked at the end.
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.put_slice(value);
        }
    }
}

fn put_text(layout: &Layout, value: &[u8], out: &mut impl BufMut) {
    // Without an early end, so that the compiler looks at many bytes at once.
    let controls = value.iter().fold(false, |found, byte| found | (byte.wrapping_sub(8) < 6));
    if controls {
        return put_controls(layout, value, out);
    }
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'\\', layout.delimiter, rest) {
        out.put_slice(&rest[..at]);
        out.put_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
}

fn put_controls(layout: &Layout, value: &[u8], out: &mut impl BufMut) {
    for &byte in value {
        let escape = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            _ if byte == layout.delimiter => byte,
            _ => {
                out.put_u8(byte);
                continue;
            }
        };
        out.put_slice(&[b'\\', escape]);
    }
}

fn put_csv(layout: &Layout, i: usize, count: usize, value: &[u8], out: &mut impl BufMut) {
    let (quote, escape) = (layout.quote, layout.escape);
    let special = |&b: &u8| b == layout.delimiter || b == quote || b == b'\n' || b == b'\r';
    let quoted = layout.force_quote.get(i).copied().unwrap_or(false)
        || value == layout.null.as_bytes()
        || (count == 1 && value == b"\\.")
        || value.iter().any(special);
    if !quoted {
        out.put_slice(value);
        return;
    }
    out.put_u8(quote);
    let mut rest = value;
    while let Some(at) = memchr::memchr2(quote, escape, rest) {
        out.put_slice(&rest[..at]);
        out.put_slice(&[escape, rest[at]]);
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
    out.put_u8(quote);
}
