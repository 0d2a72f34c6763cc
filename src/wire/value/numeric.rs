//! numeric: text and binary → base-10000 digits, rounding to a declared precision, and back.
//!
//! In: text or binary. Out: PostgreSQL's binary form, which is also the plaintext. Never: a binary float.

use super::text::trim;
use super::{NOT_CANONICAL, Result, ValueError};
use crate::wire::types::Kind;

const SYNTAX: ValueError = ValueError::syntax("invalid input syntax for type numeric");
const OVERFLOW: ValueError = ValueError::range("value overflows numeric format");
const FIELD_OVERFLOW: ValueError = ValueError::range("numeric field overflow");
const POSITIVE: u16 = 0;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
const SCALE_MAX: i64 = 0x3FFF;

/// Declared precision and scale in a typmod ≥ 4; the scale has 11 bits and a sign.
pub(super) fn precision_and_scale(typmod: i32) -> (i32, i32) {
    let bits = typmod - 4;
    (bits >> 16 & 0xffff, ((bits & 0x7ff) ^ 1024) - 1024)
}

/// A value. Finite ones are `0.d₁d₂…dₙ · 10^point`, digits decimal, without leading or trailing zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numeric {
    sign: u16,
    digits: Vec<u8>,
    point: i64,
    /// Digits shown after the decimal point.
    scale: i64,
}

impl Numeric {
    fn special(sign: u16) -> Self {
        // What numeric_send makes of the header of an infinity.
        let scale = if sign == NAN { 0 } else { 32 };
        Self { sign, digits: Vec::new(), point: 0, scale }
    }

    fn finite(&self) -> bool {
        matches!(self.sign, POSITIVE | NEGATIVE)
    }

    /// numeric_in without the typmod; the number forms of PostgreSQL 16 (0x…, 1_000) are refused.
    pub(super) fn parse(s: &str) -> Result<Self> {
        let s = trim(s);
        for (word, sign) in [
            ("nan", NAN),
            ("infinity", INFINITY),
            ("+infinity", INFINITY),
            ("-infinity", MINUS_INFINITY),
            ("inf", INFINITY),
            ("+inf", INFINITY),
            ("-inf", MINUS_INFINITY),
        ] {
            if s.eq_ignore_ascii_case(word) {
                return Ok(Self::special(sign));
            }
        }
        let (negative, unsigned) = match s.as_bytes().first() {
            Some(b'-') => (true, &s[1..]),
            Some(b'+') => (false, &s[1..]),
            _ => (false, s),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_in(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err(SYNTAX);
        }
        let digits = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
        Ok(Self {
            sign: if negative { NEGATIVE } else { POSITIVE },
            digits,
            point: whole.len() as i64 + exponent,
            scale: (fraction.len() as i64 - exponent).max(0),
        }
        .normal())
    }

    /// An integer.
    pub(super) fn of_int(value: i64) -> Self {
        let digits: Vec<u8> = value.unsigned_abs().to_string().bytes().map(|b| b - b'0').collect();
        let point = digits.len() as i64;
        Self { sign: if value < 0 { NEGATIVE } else { POSITIVE }, digits, point, scale: 0 }.normal()
    }

    /// A float through `significant` decimal digits (float8_numeric: 15, float4_numeric: 6).
    pub(super) fn of_float(value: f64, significant: usize) -> Result<Self> {
        if value.is_nan() {
            return Ok(Self::special(NAN));
        }
        if value.is_infinite() {
            return Ok(Self::special(if value > 0.0 { INFINITY } else { MINUS_INFINITY }));
        }
        let text = format!("{value:.*e}", significant - 1);
        let (mantissa, exponent) = text.split_once('e').ok_or(SYNTAX)?;
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        Self::parse(&format!("{mantissa}e{exponent}"))
    }

    /// numeric_recv without the typmod.
    pub(super) fn receive(bytes: &[u8]) -> Result<Self> {
        let short = ValueError::new(b"08P01", "insufficient data left in message");
        let (header, body) = bytes.split_first_chunk::<8>().ok_or(short)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (count, weight, sign, scale) = (usize::from(word(0)), word(2) as i16, word(4), i64::from(word(6)));
        if !matches!(sign, POSITIVE | NEGATIVE | NAN | INFINITY | MINUS_INFINITY) {
            return Err(ValueError::binary("invalid sign in external \"numeric\" value"));
        }
        if scale > SCALE_MAX {
            return Err(ValueError::binary("invalid scale in external \"numeric\" value"));
        }
        if body.len() < count * 2 {
            return Err(short);
        }
        if body.len() > count * 2 {
            return Err(ValueError::binary("incorrect binary data format"));
        }
        let mut digits = Vec::with_capacity(count * 4);
        for group in body.chunks_exact(2) {
            let group = u16::from_be_bytes([group[0], group[1]]);
            if group >= 10_000 {
                return Err(ValueError::binary("invalid digit in external \"numeric\" value"));
            }
            digits.extend([group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|d| d as u8));
        }
        if !matches!(sign, POSITIVE | NEGATIVE) {
            return Ok(Self::special(sign));
        }
        let point = (i64::from(weight) + 1) * 4;
        // Digits beyond the declared display scale are cut (trunc_var).
        digits.truncate(usize::try_from(point + scale).unwrap_or(0));
        Ok(Self { sign, digits, point, scale }.normal())
    }

    /// The value in a plaintext.
    pub(super) fn plain(plaintext: &[u8]) -> Result<Self> {
        Self::receive(plaintext).map_err(|_| NOT_CANONICAL)
    }

    fn normal(mut self) -> Self {
        let zeros = self.digits.iter().take_while(|&&d| d == 0).count();
        self.digits.drain(..zeros);
        self.point -= zeros as i64;
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        if self.digits.is_empty() && self.finite() {
            self.sign = POSITIVE;
            self.point = 0;
        }
        self
    }

    /// Half away from zero to `scale` decimals; a negative scale rounds before the point (round_var).
    fn round(mut self, scale: i64) -> Self {
        let keep = self.point + scale;
        self.scale = scale.max(0);
        if keep < 0 {
            self.digits.clear();
            return self.normal();
        }
        let Ok(keep) = usize::try_from(keep) else { return self };
        if keep < self.digits.len() {
            let up = self.digits[keep] >= 5;
            self.digits.truncate(keep);
            if up {
                match self.digits.iter().rposition(|&d| d != 9) {
                    Some(at) => {
                        self.digits.truncate(at + 1);
                        self.digits[at] += 1;
                    }
                    None => {
                        self.digits = vec![1];
                        self.point += 1;
                    }
                }
            }
        }
        self.normal()
    }

    /// The value as the declared precision and scale keep it (apply_typmod).
    pub(super) fn fit(self, typmod: i32) -> Result<Self> {
        if typmod < 4 || self.sign == NAN {
            return Ok(self);
        }
        if !self.finite() {
            return Err(FIELD_OVERFLOW);
        }
        let (precision, scale) = precision_and_scale(typmod);
        let rounded = self.round(i64::from(scale));
        if !rounded.digits.is_empty() && rounded.point > i64::from(precision - scale) {
            return Err(FIELD_OVERFLOW);
        }
        Ok(rounded)
    }

    /// The binary form, appended; 22003 when PostgreSQL's format cannot hold it.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<()> {
        let weight = if self.digits.is_empty() { 0 } else { (self.point - 1).div_euclid(4) };
        let weight = i16::try_from(weight).map_err(|_| OVERFLOW)?;
        if self.scale > SCALE_MAX {
            return Err(OVERFLOW);
        }
        let lead = if self.digits.is_empty() { 0 } else { (i64::from(weight) + 1) * 4 - self.point };
        let lead = usize::try_from(lead).map_err(|_| OVERFLOW)?;
        let count = u16::try_from((lead + self.digits.len()).div_ceil(4)).map_err(|_| OVERFLOW)?;
        for word in [count, weight as u16, self.sign, self.scale as u16] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        let mut group = [0_u16; 4];
        let mut filled = lead;
        for &digit in &self.digits {
            group[filled] = u16::from(digit);
            filled += 1;
            if filled == 4 {
                put_group(std::mem::take(&mut group), out);
                filled = 0;
            }
        }
        if filled > 0 {
            put_group(group, out);
        }
        Ok(())
    }

    /// numeric_out, appended.
    pub(super) fn print(&self, out: &mut Vec<u8>) {
        match self.sign {
            NAN => return out.extend_from_slice(b"NaN"),
            INFINITY => return out.extend_from_slice(b"Infinity"),
            MINUS_INFINITY => return out.extend_from_slice(b"-Infinity"),
            NEGATIVE => out.push(b'-'),
            _ => {}
        }
        let digit = |at: i64| {
            let digit = usize::try_from(at).ok().and_then(|at| self.digits.get(at)).copied().unwrap_or(0);
            b'0' + digit
        };
        if self.point <= 0 {
            out.push(b'0');
        }
        out.extend((0..self.point).map(digit));
        if self.scale > 0 {
            out.push(b'.');
            out.extend((self.point..self.point + self.scale).map(digit));
        }
    }

    /// Half away from zero; NaN and infinities 0A000, too large 22003.
    pub(super) fn to_int(&self) -> Result<i64> {
        if !self.finite() {
            return Err(ValueError::new(b"0A000", "cannot convert NaN or infinity to an integer"));
        }
        let rounded = self.clone().round(0);
        if rounded.point > 19 {
            return Err(ValueError::range("value is out of range for the column's integer type"));
        }
        let mut text = Vec::new();
        rounded.print(&mut text);
        std::str::from_utf8(&text).map_err(|_| SYNTAX).and_then(|text| super::number::int_in(Kind::Int8, text))
    }

    /// The decimal text, for the float types' input functions.
    pub(super) fn to_text(&self) -> String {
        let mut text = Vec::new();
        self.print(&mut text);
        text.into_iter().map(char::from).collect()
    }
}

fn put_group(group: [u16; 4], out: &mut Vec<u8>) {
    let value = group.iter().fold(0, |value, digit| value * 10 + digit);
    out.extend_from_slice(&value.to_be_bytes());
}

/// `[+-]digits`, smaller than i32::MAX / 2 (set_var_from_str); too large is noticed before what follows the digits.
fn exponent_in(s: &str) -> Result<i64> {
    let sign = usize::from(s.starts_with(['+', '-']));
    let end = s[sign..].bytes().position(|b| !b.is_ascii_digit()).map_or(s.len(), |at| at + sign);
    if end == sign {
        return Err(SYNTAX);
    }
    let exponent: i64 = s[..end].parse().map_err(|_| OVERFLOW)?;
    if exponent.unsigned_abs() >= u64::from(i32::MAX.unsigned_abs() / 2) {
        return Err(OVERFLOW);
    }
    if end == s.len() { Ok(exponent) } else { Err(SYNTAX) }
}
