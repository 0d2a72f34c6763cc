//! Binary COPY: the file header, tuples, the trailer (ReceiveCopyBinaryHeader, NextCopyFrom, CopyReadBinaryAttribute).
//!
//! In: the bytes that have come. Out: where the header or tuple ends, and its fields. Never: a length believed before it
//! was compared with the limit.

use super::CopyError;
use super::row::{PREFIX, Span, State};
use super::split::{Found, TOO_LONG};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER: usize = SIGNATURE.len() + 8;
/// `pg_dump` of tables WITH OIDS, which are no more.
const FLAG_OIDS: u32 = 1 << 16;

/// A big-endian word at `at`, if it is all there.
fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// What is missing has yet to come, or never will.
fn cut(finished: bool, what: &'static str) -> Result<Found, CopyError> {
    if finished { Err(CopyError::bad(what)) } else { Ok(Found::Nothing) }
}

/// The file header.
pub(super) fn header(bytes: &[u8], row_max: usize, finished: bool) -> Result<Found, CopyError> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(CopyError::bad("COPY file signature not recognized"));
    }
    if seen < SIGNATURE.len() {
        return cut(finished, "COPY file signature not recognized");
    }
    let Some(flags) = word(bytes, SIGNATURE.len()).map(u32::from_be_bytes) else {
        return cut(finished, "invalid COPY file header (missing flags)");
    };
    if flags & FLAG_OIDS != 0 {
        return Err(CopyError::bad("invalid COPY file header (WITH OIDS)"));
    }
    if flags >> 16 != 0 {
        return Err(CopyError::bad("unrecognized critical flags in COPY file header"));
    }
    let Some(extension) = word(bytes, SIGNATURE.len() + 4).map(i32::from_be_bytes) else {
        return cut(finished, "invalid COPY file header (missing length)");
    };
    let extension =
        usize::try_from(extension).map_err(|_| CopyError::bad("invalid COPY file header (missing length)"))?;
    let whole = HEADER + extension;
    if whole > row_max {
        return Err(TOO_LONG);
    }
    if bytes.len() < whole {
        return cut(finished, "invalid COPY file header (wrong length)");
    }
    Ok(Found::Line { length: whole, whole })
}

/// A tuple, or the trailer. `scanned` and `spans` are where the scan before stopped, for want of bytes, and its fields.
pub(super) fn tuple(
    bytes: &[u8],
    row_max: usize,
    finished: bool,
    scanned: &mut usize,
    spans: &mut Vec<Span>,
) -> Result<Found, CopyError> {
    let Some(count) = word(bytes, 0).map(i16::from_be_bytes) else {
        // PostgreSQL takes a count cut short for the end of the data (CopyGetInt16).
        let rest = finished && !bytes.is_empty();
        return Ok(if rest { Found::Marker { whole: bytes.len() } } else { Found::Nothing });
    };
    if count == -1 {
        return Ok(Found::Marker { whole: 2 });
    }
    let count = usize::try_from(count).map_err(|_| CopyError::bad("row field count is negative"))?;
    *scanned = (*scanned).max(2);
    while spans.len() < count {
        let Some(size) = word(bytes, *scanned).map(i32::from_be_bytes) else {
            return cut(finished, "unexpected EOF in COPY data");
        };
        let (length, state) = match usize::try_from(size) {
            Ok(length) => (length, State::Plain),
            Err(_) if size == -1 => (0, State::Null),
            Err(_) => return Err(CopyError::bad("invalid field size")),
        };
        let start = *scanned + PREFIX;
        let end = start + length;
        if end > row_max {
            return Err(TOO_LONG);
        }
        if bytes.len() < end {
            return cut(finished, "unexpected EOF in COPY data");
        }
        spans.push(Span { start, end, state });
        *scanned = end;
    }
    Ok(Found::Line { length: *scanned, whole: *scanned })
}
