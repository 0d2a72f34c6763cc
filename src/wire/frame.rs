//! Frames: one tag byte, a big-endian length that counts itself, a body. Split by length first, then decode from
//! exactly that slice (PostgreSQL documentation, "Frontend/Backend Protocol", chapter 55.7).
//!
//! In: a peer's bytes. Out: how long the first frame is, or that more bytes are needed. Never: a decode.

use bytes::BytesMut;

/// Tag and length word.
pub const HEADER: usize = 5;

/// A length that the protocol or the configured limit does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// Smaller than the length word itself.
    TooShort,
    /// Larger than the limit.
    TooLong,
}

/// The first frame of `bytes`: its tag and its whole size, header included. `None`: the header is not complete yet.
/// The body may still be missing: compare the size with `bytes.len()`.
pub fn peek(bytes: &[u8], limit: usize) -> Result<Option<(u8, usize)>, BadFrame> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < 4 {
        return Err(BadFrame::TooShort);
    }
    if length > limit {
        return Err(BadFrame::TooLong);
    }
    Ok(Some((tag, length + 1)))
}

/// Starts a frame in `out`; give the returned mark to [`finish`] after the body.
pub fn begin(out: &mut BytesMut, tag: u8) -> usize {
    let mark = out.len();
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    mark
}

/// The body written since [`begin`] is too long for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// The longest length PostgreSQL accepts of a client (`PQ_LARGE_MESSAGE_LIMIT`: `MaxAllocSize` − 1). It sends up to four
/// more: a body of this many bytes, and its length word.
pub const LENGTH_MAX: usize = 0x3fff_fffe;

/// Patches the length of the frame begun at `mark`. On overflow the frame is taken back out of `out`.
pub fn finish(out: &mut BytesMut, mark: usize) -> Result<(), Overflow> {
    let length = out.len() - mark - 1;
    if length > LENGTH_MAX {
        out.truncate(mark);
        return Err(Overflow);
    }
    let word = (length as u32).to_be_bytes();
    out[mark + 1..mark + HEADER].copy_from_slice(&word);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_split_anywhere_is_not_a_frame_yet() {
        let frame = [b'Q', 0, 0, 0, 6, b'x', 0];
        for cut in 0..HEADER {
            assert_eq!(peek(&frame[..cut], 100), Ok(None));
        }
        assert_eq!(peek(&frame, 100), Ok(Some((b'Q', 7))));
    }

    #[test]
    fn lengths_outside_the_rules_are_refused() {
        assert_eq!(peek(&[b'Q', 0, 0, 0, 3], 100), Err(BadFrame::TooShort));
        assert_eq!(peek(&[b'Q', 0xff, 0xff, 0xff, 0xff], 100), Err(BadFrame::TooLong));
        assert_eq!(peek(&[b'Q', 0, 0, 0, 101], 100), Err(BadFrame::TooLong));
    }

    #[test]
    fn begin_and_finish_patch_the_length() {
        let mut out = BytesMut::from(&b"before"[..]);
        let mark = begin(&mut out, b'D');
        out.extend_from_slice(b"abc");
        assert_eq!(finish(&mut out, mark), Ok(()));
        assert_eq!(&out[mark..], &[b'D', 0, 0, 0, 7, b'a', b'b', b'c']);
    }
    #[test]
    fn a_frame_that_outgrows_every_limit_is_taken_back() {
        // Zeroed memory costs nothing until it is touched.
        let mut out = BytesMut::zeroed(LENGTH_MAX + 3);
        assert_eq!(finish(&mut out, 1), Err(Overflow));
        assert_eq!(out.len(), 1);
        let mut out = BytesMut::zeroed(LENGTH_MAX + 1);
        assert_eq!(finish(&mut out, 0), Ok(()));
        assert_eq!(out[..HEADER], [0, 0x3f, 0xff, 0xff, 0xfe]);
    }
}
