//! Values on their way in: literals and parameters sealed where they stand, stolen envelopes refused.
//!
//! In: the client's text or value, the plan's target. Out: envelopes. Never: a value in an error.

use bytes::{BufMut, BytesMut};

use crate::crypto::{Header, Keyring, SealMode};
use crate::crypto::{MAGIC, OVERHEAD};
use crate::error::{Code, Refusal, SqlState};
use crate::plan::{Edit, Replacement, Span, Target};
use crate::policy::rules::{Mode, SealedColumn};
use crate::secret::Entropy;
use crate::sql::lexer::{self, TokenKind};
use crate::wire::types::{Format, Kind, SqlType, Style};
use crate::wire::{array, frame, value};

/// Buffers reused from cell to cell.
#[derive(Default)]
pub(super) struct Scratch {
    pub envelope: Vec<u8>,
    pub plain: Vec<u8>,
    pub shown: Vec<u8>,
}

/// A buffer that has held more than this is given back.
const KEPT_MAX: usize = 64 * 1024;

impl Scratch {
    /// The step is over: what one large value took is not kept for the life of the connection.
    pub(super) fn rest(&mut self) {
        for buffer in [&mut self.envelope, &mut self.plain, &mut self.shown] {
            if buffer.capacity() > KEPT_MAX {
                zeroize::Zeroize::zeroize(buffer);
                *buffer = Vec::new();
            }
        }
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch(…)")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.plain.zeroize();
        self.shown.zeroize();
    }
}

/// What sealing needs.
pub(super) struct Sealer<'a> {
    pub keyring: &'a Keyring,
    pub entropy: &'a mut dyn Entropy,
    pub style: &'a Style,
    pub plain: &'a mut Vec<u8>,
}

fn name(column: &SealedColumn) -> String {
    format!("{}.{}", column.relation, column.column)
}

fn bad_value(column: &SealedColumn, sqlstate: SqlState, what: &str) -> Refusal {
    let code = if sqlstate.0 == *b"42804" { Code::ParameterType } else { Code::BadValue };
    Refusal::new(code, format!("{}: {what}", name(column)), format!("send a value of type {}", column.ty))
        .with_sqlstate(sqlstate)
}

/// The refusal of an envelope that a client sent.
pub(super) fn envelope_inbound() -> Refusal {
    Refusal::new(
        Code::EnvelopeInbound,
        "clients may not send sealed values",
        "send the value itself; envelopes are restored by a direct connection, into the column they came from",
    )
}

/// These bytes are an envelope of a column in our keyring.
pub(super) fn is_envelope(keyring: &Keyring, bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xfe, 0xd1]) && Header::parse(bytes).is_some_and(|h| keyring.has_column(h.column_id))
}

/// A value of a client, in text or binary form, is such an envelope.
pub(super) fn carries_envelope(keyring: &Keyring, bytes: &[u8], format: Format) -> bool {
    if is_envelope(keyring, bytes) {
        return true;
    }
    let text = bytes.trim_ascii_start();
    if format != Format::Text || !text.starts_with(b"\\") {
        return false;
    }
    let mut raw = Vec::new();
    super::fields::unbytea(text, &mut raw) && is_envelope(keyring, &raw)
}

/// As much of an envelope as its header is judged by: header, the longest token, nonce and tag.
const HEAD_MAX: usize = OVERHEAD + 64;

/// The data of a COPY holds an envelope, as it is or in either form bytea is written in.
pub(super) fn data_carries_envelope(keyring: &Keyring, data: &[u8]) -> bool {
    memchr::memmem::find_iter(data, &MAGIC).any(|at| is_envelope(keyring, &data[at..]))
        || text_carries_envelope(keyring, data)
}

/// Some string literal of the text holds an envelope, in either form bytea is written in: wherever the magic can
/// begin, a bounded head is decoded and judged.
pub(super) fn text_carries_envelope(keyring: &Keyring, sql: &[u8]) -> bool {
    memchr::memchr2_iter(b'f', b'F', sql).any(|at| is_envelope(keyring, &from_hex(&sql[at..])))
        || memchr::memmem::find_iter(sql, b"\\376").any(|at| {
            // One backslash begins an escape, or two where the literal itself is an E'' string.
            is_envelope(keyring, &from_escapes(&sql[at..], 1))
                || (at > 0 && is_envelope(keyring, &from_escapes(&sql[at - 1..], 2)))
        })
}

/// Nothing but an envelope begins so.
fn misses_magic(head: &[u8]) -> bool {
    !head.is_empty() && !MAGIC.starts_with(&head[..head.len().min(MAGIC.len())])
}

/// bytea's hex format after its `\x`: pairs of digits, white space between them allowed.
fn from_hex(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut digits = text;
    while out.len() < HEAD_MAX && !misses_magic(&out) {
        digits = digits.trim_ascii_start();
        let Some((Some(high), Some(low))) = digits.first_chunk().map(|[h, l]| (nibble(*h), nibble(*l))) else { break };
        out.push(high << 4 | low);
        digits = &digits[2..];
    }
    out
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// bytea's escape format up to the end of its literal; an escape begins with `unit` backslashes.
fn from_escapes(text: &[u8], unit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at).filter(|_| out.len() < HEAD_MAX && !misses_magic(&out)) {
        let slashes = text[at..].iter().take(2 * unit).take_while(|b| **b == b'\\').count();
        match byte {
            b'\\' if slashes == 2 * unit => {
                out.push(b'\\');
                at += 2 * unit;
            }
            b'\\' => match text.get(at + unit..at + unit + 3) {
                Some(&[a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7']) if slashes == unit => {
                    out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                    at += unit + 3;
                }
                _ => break,
            },
            b'\'' if text.get(at + 1) != Some(&b'\'') => break,
            b'\'' => {
                out.push(b'\'');
                at += 2;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Some string literal of a statement is an envelope, in any of the spellings that bytea and strings have.
pub(super) fn sql_carries_envelope(keyring: &Keyring, sql: &str) -> bool {
    if text_carries_envelope(keyring, sql.as_bytes()) {
        return true;
    }
    if memchr::memchr(b'\\', sql.as_bytes()).is_none() {
        return false;
    }
    let Ok(tokens) = lexer::lex(sql, usize::MAX) else { return false };
    tokens.iter().filter(|t| matches!(t.kind, TokenKind::String | TokenKind::DollarString)).any(|token| {
        crate::sql::string_value(sql, token).is_ok_and(|v| carries_envelope(keyring, v.as_bytes(), Format::Text))
    })
}

impl Sealer<'_> {
    /// Seals the plaintext in `self.plain` for that column and appends the envelope.
    fn seal(&mut self, column: &SealedColumn, exact: bool, out: &mut Vec<u8>) -> Result<(), Refusal> {
        // A value that no stored one can equal is sealed with a fresh nonce, so that it matches nothing.
        let mode = match column.mode {
            Mode::Deterministic if exact => SealMode::Deterministic,
            _ => SealMode::Randomized,
        };
        self.keyring.seal(column.id, mode, column.ty.kind.code(), self.plain, self.entropy, out).map_err(|_| {
            Refusal::new(
                Code::Internal,
                format!("{} has no key that can seal this", name(column)),
                "run pgveil keys list",
            )
        })
    }

    /// Seals one value of type `declared` (0 = the column's own), after the casts that the text writes around it.
    pub(super) fn value(
        &mut self,
        target: &Target,
        declared: u32,
        format: Format,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let column = &*target.column;
        if carries_envelope(self.keyring, bytes, format) {
            return Err(envelope_inbound());
        }
        if target.casts.is_empty() {
            return self.uncast(target, declared, format, bytes, out);
        }
        let (last, cast) = value::cast_explicitly(declared, &target.casts, format, bytes, self.style)
            .map_err(|e| bad_value(column, e.sqlstate, e.what))?;
        self.uncast(target, last, Format::Binary, &cast, out)
    }

    fn uncast(
        &mut self,
        target: &Target,
        declared: u32,
        format: Format,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let column = &*target.column;
        let mut exact = true;
        self.plain.clear();
        let stored = value::decode_declared(declared, column.ty, format, bytes, self.style, self.plain);
        if target.search {
            let own = Kind::of_oid(declared).is_none_or(|kind| kind == column.ty.kind);
            // Integers of all widths are the same bytes in a cell, which may be shown as a wider one.
            let kind = match column.ty.kind {
                Kind::Int2 | Kind::Int4 if !own => Kind::Int8,
                kind => kind,
            };
            let free = SqlType { kind, typmod: -1 };
            let whole = |stored: &[u8]| value::same_in_declared(declared, column.ty, format, bytes, self.style, stored);
            match stored {
                Ok(()) if column.ty.typmod == -1 => exact = whole(self.plain),
                stored => {
                    let mut wide = Vec::new();
                    match value::decode_declared(declared, free, format, bytes, self.style, &mut wide) {
                        Ok(()) => {
                            let same = stored.is_ok() && value::equal(column.ty.kind, self.plain, &wide);
                            exact = same && whole(self.plain);
                        }
                        // Beyond the range of another type: PostgreSQL compares in a wider one and finds nothing.
                        Err(e) if !own && e.sqlstate.0 == *b"22003" => {
                            exact = false;
                            wide.clear();
                        }
                        Err(e) => return Err(bad_value(column, e.sqlstate, e.what)),
                    }
                    if !exact {
                        *self.plain = wide;
                    }
                }
            }
        } else {
            stored.map_err(|e| bad_value(column, e.sqlstate, e.what))?;
        }
        self.seal(column, exact, out)
    }

    /// Seals every element of an array and appends a binary `bytea[]`.
    pub(super) fn array(
        &mut self,
        target: &Target,
        declared: u32,
        format: Format,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let element = match (declared, Kind::of_array_oid(declared)) {
            (_, Some(kind)) => kind.oid(),
            // Not declared, or as `unknown`.
            (0 | 705, None) => 0,
            (_, None) => {
                return Err(bad_value(&target.column, SqlState(*b"42804"), "arrays of that type do not convert"));
            }
        };
        let elements = array::split(bytes, format).map_err(|e| bad_value(&target.column, e.sqlstate, e.what))?;
        let mut sealed = Vec::with_capacity(elements.len());
        for value in &elements {
            sealed.push(match value {
                None => None,
                Some(value) => {
                    let mut cell = Vec::new();
                    self.value(target, element, format, value, &mut cell)?;
                    Some(cell)
                }
            });
        }
        array::join(&sealed, Kind::Bytea.oid(), Format::Binary, out)
            .map_err(|e| bad_value(&target.column, e.sqlstate, e.what))
    }

    /// The client's text with every edit made.
    pub(super) fn splice(&mut self, sql: &str, edits: &[Edit]) -> Result<Vec<u8>, Refusal> {
        let mut made = Vec::with_capacity(edits.len());
        for edit in edits {
            let with = match &edit.with {
                Replacement::Text(text) => text.as_bytes().to_vec(),
                Replacement::Cell { target, literal, negative } => {
                    let mut cell = Vec::new();
                    self.literal(sql, *literal, *negative, target, &mut cell)?;
                    cell
                }
            };
            made.push((edit.span, with));
        }
        let mut out = Vec::with_capacity(sql.len() + edits.len() * 200);
        crate::sql::splice(sql, &made, &mut out).map_err(|_| mismatch())?;
        Ok(out)
    }

    /// Appends `'\x…'::bytea`, or `'{…}'::bytea[]`, for the literal token at `span`.
    fn literal(
        &mut self,
        sql: &str,
        span: Span,
        negative: bool,
        target: &Target,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let token_text = sql.get(span.start as usize..span.end as usize).ok_or_else(mismatch)?;
        let tokens = lexer::lex(token_text, 4).map_err(|_| mismatch())?;
        let [token] = tokens.as_slice() else { return Err(mismatch()) };
        let mut text = if negative { "-".to_owned() } else { String::new() };
        let declared = match token.kind {
            TokenKind::String | TokenKind::DollarString => {
                text.push_str(&crate::sql::literal::string_value(token_text, token).map_err(|_| mismatch())?);
                target.from
            }
            TokenKind::Number => {
                text.push_str(token_text);
                if text.parse::<i32>().is_ok() {
                    23
                } else if text.parse::<i64>().is_ok() {
                    20
                } else {
                    1700
                }
            }
            TokenKind::Ident => {
                text.push_str(token_text);
                16
            }
            _ => return Err(mismatch()),
        };
        let mut cell = Vec::new();
        if target.array {
            let elements = array::split(text.as_bytes(), Format::Text)
                .map_err(|e| bad_value(&target.column, e.sqlstate, e.what))?;
            let element_type = Kind::of_array_oid(declared).map_or(0, Kind::oid);
            out.extend_from_slice(b"'{");
            for (i, element) in elements.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b"," } else { b"" });
                let Some(element) = element else {
                    out.extend_from_slice(b"NULL");
                    continue;
                };
                cell.clear();
                self.value(target, element_type, Format::Text, element, &mut cell)?;
                out.extend_from_slice(b"\"\\\\x");
                put_hex(&cell, out)?;
                out.push(b'"');
            }
            out.extend_from_slice(b"}'::pg_catalog.bytea[]");
            return Ok(());
        }
        self.value(target, declared, Format::Text, text.as_bytes(), &mut cell)?;
        out.extend_from_slice(b"'\\x");
        put_hex(&cell, out)?;
        out.extend_from_slice(b"'::pg_catalog.bytea");
        Ok(())
    }
}

/// Appends the digits of a sealed cell, unless no message could hold them.
fn put_hex(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let begun = out.len();
    if begun + 2 * cell.len() > frame::LENGTH_MAX {
        return Err(super::client::too_long());
    }
    out.resize(begun + 2 * cell.len(), 0);
    // Twice as long as what is written there.
    let _ = hex::encode_to_slice(cell, &mut out[begun..]);
    Ok(())
}

fn mismatch() -> Refusal {
    Refusal::new(
        Code::Internal,
        "the statement and its plan do not fit together",
        "please report this statement's shape",
    )
}

/// Appends a parameter value to a Bind message.
pub(super) fn put_parameter(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), Refusal> {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            let length = i32::try_from(value.len())
                .map_err(|_| Refusal::new(Code::Limit, "a parameter is too long", "send a shorter value"))?;
            out.put_i32(length);
            out.put_slice(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_decoded_from_both_forms_of_bytea() {
        let whole = [0xfe, 0xd1, 0x01, b'a', b'\'', b'\\', 0x00];
        assert_eq!(from_hex(b"fed10161275c00'"), whole);
        assert_eq!(from_hex(b"FE d1\t01\n61 27 5C 00 'x"), whole);
        assert_eq!(from_escapes(br"\376\321\001a''\\\000' || x", 1), whole);
        assert_eq!(from_escapes(br"\\376\\321\\001a''\\\\\\000', 1)", 2), whole);
        assert_eq!(from_escapes(br"\376\321", 2), b"");
    }

    #[test]
    fn other_text_is_left_after_two_bytes() {
        assert_eq!(from_hex(b"ffffffff"), [0xff]);
        assert_eq!(from_hex(b"feffffff"), [0xfe, 0xff]);
        assert!(from_hex(&b"fed1".repeat(10_000)).len() <= HEAD_MAX);
        assert!(from_escapes(&br"\376\321".repeat(10_000), 1).len() <= HEAD_MAX);
    }
}
