//! The messages we originate. Encoding is pgwire's where it has the message; lengths are checked here.
//!
//! In: parts. Out: bytes appended to the caller's buffer. Never: a message built from a peer's unchecked length.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::copy::CopyFail;
use pgwire::messages::extendedquery::{Describe, Flush, Sync};
use pgwire::messages::response::ErrorResponse;
use pgwire::messages::simplequery::Query;

use super::frame::{self, Overflow};
use crate::error::Refusal;

/// Encoding these fixed messages cannot fail: no peer decides their length.
fn put(message: &impl Message, out: &mut BytesMut) {
    let mark = out.len();
    if message.encode(out).is_err() {
        out.truncate(mark);
    }
}

/// `E` with severity `ERROR` or `FATAL`, code, message and hint.
pub fn error(out: &mut BytesMut, severity: &str, refusal: &Refusal) {
    let mut fields = vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', refusal.sqlstate.as_str().to_owned()),
        (b'M', refusal.to_string()),
    ];
    if !refusal.hint.is_empty() {
        fields.push((b'H', refusal.hint.clone().into_owned()));
    }
    put(&ErrorResponse::new(fields), out);
}

/// `Q` with a text of ours.
pub fn query(out: &mut BytesMut, sql: &str) {
    put(&Query::new(sql.to_owned()), out);
}

/// `S`.
pub fn sync(out: &mut BytesMut) {
    put(&Sync::new(), out);
}

/// `H`.
pub fn flush(out: &mut BytesMut) {
    put(&Flush::new(), out);
}

/// `D` for a portal or statement name of ours.
pub fn describe(out: &mut BytesMut, kind: u8, name: &str) {
    put(&Describe::new(kind, Some(name.to_owned())), out);
}

/// `f`.
pub fn copy_fail(out: &mut BytesMut, message: &str) {
    put(&CopyFail::new(message.to_owned()), out);
}

/// `F` for a function that does not exist: no arguments, text result.
pub fn failing_function_call(out: &mut BytesMut) {
    out.put_slice(&[b'F', 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// `Z`.
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// `K`: process id and secret.
pub fn backend_key(out: &mut BytesMut, process: u32, secret: &[u8]) -> Result<(), Overflow> {
    let mark = frame::begin(out, b'K');
    out.put_u32(process);
    out.put_slice(secret);
    frame::finish(out, mark)
}

/// `I`.
pub fn empty_query(out: &mut BytesMut) {
    out.put_slice(&[b'I', 0, 0, 0, 4]);
}

/// `T` for columns of no table, in text format: `int8` where the flag says a whole number, else `text`.
pub fn row_description(out: &mut BytesMut, columns: &[(&'static str, bool)]) -> Result<(), Overflow> {
    let mark = frame::begin(out, b'T');
    out.put_u16(u16::try_from(columns.len()).map_err(|_| Overflow)?);
    for (name, number) in columns {
        out.put_slice(name.as_bytes());
        // The name's end; no table, no column of it.
        out.put_slice(&[0; 7]);
        let (oid, size) = if *number { (20, 8) } else { (25, -1) };
        out.put_u32(oid);
        out.put_i16(size);
        out.put_i32(-1);
        out.put_i16(0);
    }
    frame::finish(out, mark)
}

/// `D` with those texts; `None` is NULL.
pub fn text_row(out: &mut BytesMut, cells: &[Option<String>]) -> Result<(), Overflow> {
    let mark = frame::begin(out, b'D');
    out.put_u16(u16::try_from(cells.len()).map_err(|_| Overflow)?);
    for cell in cells {
        match cell {
            Some(text) => {
                out.put_i32(i32::try_from(text.len()).map_err(|_| Overflow)?);
                out.put_slice(text.as_bytes());
            }
            None => out.put_i32(-1),
        }
    }
    frame::finish(out, mark)
}

/// `C`.
pub fn command_complete(out: &mut BytesMut, tag: &str) -> Result<(), Overflow> {
    raw(out, b'C', &[tag.as_bytes(), b"\0"].concat())
}

/// Any message whose body is already bytes.
pub fn raw(out: &mut BytesMut, tag: u8, body: &[u8]) -> Result<(), Overflow> {
    let mark = frame::begin(out, tag);
    out.put_slice(body);
    frame::finish(out, mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn an_error_carries_code_and_hint() {
        let mut out = BytesMut::new();
        error(&mut out, "ERROR", &Refusal::new(Code::SealedUse, "no", "do that"));
        let (tag, size) = frame::peek(&out, 1 << 20).unwrap().unwrap();
        assert_eq!((tag, size), (b'E', out.len()));
        let fields = crate::wire::message::notice_fields(&out[5..]).unwrap();
        assert_eq!(fields[2], (b'C', &b"0A000"[..]));
        assert_eq!(fields[3], (b'M', &b"PV011 no"[..]));
        assert_eq!(fields[4], (b'H', &b"do that"[..]));
    }

    #[test]
    fn what_we_originate_frames_itself() {
        let mut out = BytesMut::new();
        query(&mut out, "\"");
        sync(&mut out);
        flush(&mut out);
        describe(&mut out, b'S', "x");
        copy_fail(&mut out, "m");
        failing_function_call(&mut out);
        ready_for_query(&mut out, b'I');
        backend_key(&mut out, 1, &[1, 2, 3, 4]).unwrap();
        row_description(&mut out, &[("n", true), ("text", false)]).unwrap();
        text_row(&mut out, &[Some("1".into()), None]).unwrap();
        command_complete(&mut out, "SHOW").unwrap();
        empty_query(&mut out);
        let mut tags = Vec::new();
        let mut rest = &out[..];
        while let Some((tag, size)) = frame::peek(rest, 100).unwrap() {
            tags.push(tag);
            rest = &rest[size..];
        }
        assert!(rest.is_empty());
        assert_eq!(tags, b"QSHDfFZKTDCI");
    }
}
