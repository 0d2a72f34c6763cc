//! Search tokens: keyed prefixes inside an envelope that PostgreSQL can compare without opening it (DESIGN §5).
//!
//! Format features only: policy refuses `searchable` and `ordered` columns until the plan can splice them.

use super::derive::Prf;

/// Length of an equality token.
pub const TOKEN_LEN: usize = 16;

const ORDER_BITS_MAX: usize = 64;
/// Length of the longest order token.
pub(super) const ORDER_LEN_MAX: usize = ORDER_BITS_MAX + 1;

/// HMAC(K_token, "t" ‖ canonical value), first 16 bytes.
pub(super) fn equality(key: &Prf, canonical: &[u8]) -> [u8; TOKEN_LEN] {
    let mut token = [0; TOKEN_LEN];
    token.copy_from_slice(&key.compute(&[b"t", canonical])[..TOKEN_LEN]);
    token
}

/// An integer whose order the token reveals: the sign bit is flipped, so that unsigned order is the value's order.
#[derive(Clone, Copy)]
pub struct OrderValue {
    bits: u8,
    value: u64,
}

impl OrderValue {
    /// int2.
    pub fn int2(value: i16) -> Self {
        Self { bits: 16, value: u64::from(value.cast_unsigned() ^ 1 << 15) }
    }

    /// int4, or a date in days since 2000-01-01.
    pub fn int4(value: i32) -> Self {
        Self { bits: 32, value: u64::from(value.cast_unsigned() ^ 1 << 31) }
    }

    /// int8, or a time or timestamp in microseconds.
    pub fn int8(value: i64) -> Self {
        Self { bits: 64, value: value.cast_unsigned() ^ 1 << 63 }
    }
}

impl std::fmt::Debug for OrderValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OrderValue({} bits, …)", self.bits)
    }
}

/// 17, 33 or 65 bytes that compare, as bytes, like the value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderToken {
    bytes: [u8; ORDER_LEN_MAX],
    len: usize,
}

impl OrderToken {
    /// The token.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for OrderToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OrderToken(…)")
    }
}

/// T for a value of `bits` bits.
pub(super) fn order_token_len(bits: u8) -> usize {
    usize::from(bits) + 1
}

/// Exact-carry OPE: C = Σ (F(i, prefix_i) + 2·b_i) · 256^(n−i), where F is the first byte of
/// HMAC(K_order, u8 n ‖ u16 i ‖ u64 prefix_i), i = 1 is the most significant bit and prefix_i the i−1 bits above it.
///
/// Two values first differ at some bit i: the F above and at i are the same, so the larger one is ahead by 2·256^(n−i),
/// and everything below can take back at most Σ 257·256^(n−j) < 2·256^(n−i).
pub(super) fn order(key: &Prf, value: OrderValue) -> OrderToken {
    let n = usize::from(value.bits);
    let mut digits = [0u16; ORDER_LEN_MAX];
    let mut prefix = 0u64;
    // digits[0] only ever receives the carry; digits[i] is bit i's.
    for (digit, i) in digits[1..=n].iter_mut().zip(1u16..) {
        let bit = value.value >> (n - usize::from(i)) & 1;
        let f = key.compute(&[&[value.bits], &i.to_be_bytes(), &prefix.to_be_bytes()])[0];
        *digit = u16::from(f) + if bit == 1 { 2 } else { 0 };
        prefix = prefix << 1 | bit;
    }
    let mut token = OrderToken { bytes: [0; ORDER_LEN_MAX], len: n + 1 };
    let mut carry = 0;
    for (byte, digit) in token.bytes[..=n].iter_mut().zip(&digits[..=n]).rev() {
        let sum = digit + carry;
        *byte = (sum & 0xFF) as u8;
        carry = sum >> 8;
    }
    token
}
