//! The envelope's fixed part: 20 bytes that say what it is and whose key opens it (DESIGN §5, frozen).
//!
//! ```text
//! off   len  field
//! 0     2    magic FE D1 (FE never occurs in UTF-8)
//! 2     1    version 01
//! 3     1    hi nibble suite 1; lo nibble mode 1 randomized, 2 deterministic
//! 4     1    logical type 0..=12
//! 5     1    flags
//! 6     2    token length T
//! 8     4    column id
//! 12    8    key id
//! 20    T    search token
//! 20+T  12   nonce
//! 32+T  n    ciphertext
//!       16   tag
//! ```

use super::envelope::OVERHEAD;
use super::token::{TOKEN_LEN, order_token_len};

/// The first two bytes of every envelope.
pub const MAGIC: [u8; 2] = [0xFE, 0xD1];
/// The third.
pub const VERSION: u8 = 1;
/// Bytes before the search token.
pub const HEADER_LEN: usize = 20;

/// AES-256-GCM-SIV + HKDF-SHA-256 + HMAC-SHA-256.
const SUITE: u8 = 1;
/// 0 bytea … 12 interval.
const TYPE_CODE_MAX: u8 = 12;

/// Bits of the flags byte.
pub mod flags {
    /// The token is an equality token.
    pub const EQUALITY: u8 = 1 << 0;
    /// The AAD ends with the row's canonical primary key. Reserved: policy refuses it.
    pub const ROW_BOUND: u8 = 1 << 1;
    /// The plaintext is padded. Reserved: policy refuses it.
    pub const PADDED: u8 = 1 << 2;
    /// The token is an order token.
    pub const ORDER: u8 = 1 << 3;
    pub(in crate::crypto) const KNOWN: u8 = EQUALITY | ROW_BOUND | PADDED | ORDER;
}

/// How a cell's nonce is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealMode {
    /// A fresh random nonce for every cell.
    Randomized,
    /// Same column, same value: same envelope.
    Deterministic,
}

/// The fixed part, parsed. Not authenticated until the envelope is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the nonce was made.
    pub mode: SealMode,
    /// Logical type, 0..=12 (`Kind::code`).
    pub type_code: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Length of the search token: 0, 16, or an order token's.
    pub token_len: u16,
    /// Whose cell.
    pub column_id: u32,
    /// Which key.
    pub key_id: u64,
}

impl Header {
    /// Parses the head of an envelope. `None` unless magic, version, suite, mode, type and flags are known, the token
    /// length is the one those flags and that type call for, and there is room for token, nonce and tag.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let (head, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [m0, m1, version, suite_mode, type_code, flags, t0, t1, c0, c1, c2, c3, key_id @ ..] = *head;
        if [m0, m1] != MAGIC || version != VERSION || suite_mode >> 4 != SUITE || type_code > TYPE_CODE_MAX {
            return None;
        }
        let mode = match suite_mode & 0x0F {
            1 => SealMode::Randomized,
            2 => SealMode::Deterministic,
            _ => return None,
        };
        let token_len = u16::from_be_bytes([t0, t1]);
        if !token_fits(type_code, flags, token_len) || rest.len() < usize::from(token_len) + OVERHEAD - HEADER_LEN {
            return None;
        }
        let column_id = u32::from_be_bytes([c0, c1, c2, c3]);
        Some(Header { mode, type_code, flags, token_len, column_id, key_id: u64::from_be_bytes(key_id) })
    }

    /// The 20 bytes; `None` if [`Header::parse`] would refuse them.
    pub(super) fn to_bytes(self) -> Option<[u8; HEADER_LEN]> {
        if self.type_code > TYPE_CODE_MAX || !token_fits(self.type_code, self.flags, self.token_len) {
            return None;
        }
        let mode = match self.mode {
            SealMode::Randomized => 1,
            SealMode::Deterministic => 2,
        };
        let mut head = [0; HEADER_LEN];
        head[..2].copy_from_slice(&MAGIC);
        head[2] = VERSION;
        head[3] = SUITE << 4 | mode;
        head[4] = self.type_code;
        head[5] = self.flags;
        head[6..8].copy_from_slice(&self.token_len.to_be_bytes());
        head[8..12].copy_from_slice(&self.column_id.to_be_bytes());
        head[12..].copy_from_slice(&self.key_id.to_be_bytes());
        Some(head)
    }

    /// Bytes that the AAD repeats: fixed part and token.
    pub(super) fn authenticated_len(&self) -> usize {
        HEADER_LEN + usize::from(self.token_len)
    }
}

/// Flags are known, and they, the type and the token's length go together.
fn token_fits(type_code: u8, flags: u8, token_len: u16) -> bool {
    if flags & !flags::KNOWN != 0 {
        return false;
    }
    let token_len = usize::from(token_len);
    match (flags & flags::EQUALITY != 0, flags & flags::ORDER != 0) {
        (false, false) => token_len == 0,
        (true, false) => token_len == TOKEN_LEN,
        (false, true) => order_widths(type_code).iter().any(|bits| order_token_len(*bits) == token_len),
        (true, true) => false,
    }
}

/// Bits an order token of that logical type may cover: int2/4/8, date, timestamptz, timestamp, time.
fn order_widths(type_code: u8) -> &'static [u8] {
    match type_code {
        2 => &[16, 32, 64],
        4 => &[32],
        5 | 10 | 11 => &[64],
        _ => &[],
    }
}
