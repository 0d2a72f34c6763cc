//! int2, int4, int8, float4, float8.
//!
//! In: text or big-endian binary. Out: i64 or f64 plaintext, and PostgreSQL's text. Never: rounding that PostgreSQL
//! would not do.

use super::text::trim;
use super::{NOT_CANONICAL, Result, ValueError, fixed, plain};
use crate::wire::types::Kind;

const INT_SYNTAX: ValueError = ValueError::syntax("invalid input syntax for an integer type");
const INT_RANGE: ValueError = ValueError::range("value is out of range for the column's integer type");
const FLOAT_SYNTAX: ValueError = ValueError::syntax("invalid input syntax for a floating-point type");
const FLOAT_RANGE: ValueError = ValueError::range("value is out of range for the column's floating-point type");

/// Optional sign and decimal digits, spaces around (pg_strtoint64; the hexadecimal, octal, binary and underscored
/// forms of PostgreSQL 16 are refused because 15 refuses them). Digits out of range are noticed before what follows them.
pub(super) fn int_in(kind: Kind, s: &str) -> Result<i64> {
    let s = trim(s);
    let sign = usize::from(s.starts_with(['+', '-']));
    let end = s[sign..].bytes().position(|b| !b.is_ascii_digit()).map_or(s.len(), |at| at + sign);
    if end == sign {
        return Err(INT_SYNTAX);
    }
    let value = s[..end].parse().ok().filter(|&value| int_fits(kind, value)).ok_or(INT_RANGE)?;
    if end == s.len() { Ok(value) } else { Err(INT_SYNTAX) }
}

/// int2recv, int4recv, int8recv.
pub(super) fn int_recv(kind: Kind, bytes: &[u8]) -> Result<i64> {
    Ok(match kind {
        Kind::Int2 => i64::from(i16::from_be_bytes(fixed(bytes)?)),
        Kind::Int4 => i64::from(i32::from_be_bytes(fixed(bytes)?)),
        _ => i64::from_be_bytes(fixed(bytes)?),
    })
}

/// Range check for `kind`, then the plaintext.
pub(super) fn put_int(kind: Kind, value: i64, out: &mut Vec<u8>) -> Result<()> {
    if !int_fits(kind, value) {
        return Err(INT_RANGE);
    }
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

fn int_fits(kind: Kind, value: i64) -> bool {
    match kind {
        Kind::Int2 => i16::try_from(value).is_ok(),
        Kind::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    }
}

/// The integer in a plaintext.
pub(super) fn plain_int(kind: Kind, plaintext: &[u8]) -> Result<i64> {
    let value = i64::from_be_bytes(plain(plaintext)?);
    if int_fits(kind, value) { Ok(value) } else { Err(NOT_CANONICAL) }
}

/// The float4 in a plaintext.
pub(super) fn plain_float4(plaintext: &[u8]) -> Result<f32> {
    let wide = f64::from_be_bytes(plain(plaintext)?);
    let narrow = wide as f32;
    if wide.is_nan() || f64::from(narrow).to_bits() == wide.to_bits() { Ok(narrow) } else { Err(NOT_CANONICAL) }
}

/// The plaintext of a float: every NaN becomes the quiet one with no sign and no payload.
pub(super) fn put_float(value: f64, out: &mut Vec<u8>) {
    let value = if value.is_nan() { f64::NAN } else { value };
    out.extend_from_slice(&(if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() }).to_be_bytes());
}

/// float8in. Hexadecimal floats, which some C libraries take, are refused.
pub(super) fn float8_in(s: &str) -> Result<f64> {
    let (token, rest) = float_token(s);
    let value: f64 = token.parse().map_err(|_| FLOAT_SYNTAX)?;
    check_float(token, value == 0.0, value.is_infinite(), rest)?;
    Ok(value)
}

/// float4in: rounds once, from the decimal.
pub(super) fn float4_in(s: &str) -> Result<f32> {
    let (token, rest) = float_token(s);
    let value: f32 = token.parse().map_err(|_| FLOAT_SYNTAX)?;
    check_float(token, value == 0.0, value.is_infinite(), rest)?;
    Ok(value)
}

/// What strtod would take as the number, and what follows it.
fn float_token(s: &str) -> (&str, &str) {
    let s = trim(s);
    let bytes = s.as_bytes();
    let digits = |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let sign = usize::from(s.starts_with(['+', '-']));
    let mut end = sign + digits(sign);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if end == sign || end == sign + 1 && bytes[sign] == b'.' {
        // A word: infinity, NaN, or nothing.
        return (s, "");
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + exponent_sign);
        if exponent > 0 {
            end += 1 + exponent_sign + exponent;
        }
    }
    s.split_at(end)
}

/// A number written with digits that came out as zero or infinite did not fit (ERANGE of strtod), and that is noticed
/// before what follows it.
fn check_float(token: &str, zero: bool, infinite: bool, rest: &str) -> Result<()> {
    let mantissa = token.split(['e', 'E']).next().unwrap_or(token);
    let digits = mantissa.bytes().any(|b| b.is_ascii_digit());
    let nonzero = mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if (zero && nonzero) || (infinite && digits) {
        return Err(FLOAT_RANGE);
    }
    if rest.is_empty() { Ok(()) } else { Err(FLOAT_SYNTAX) }
}

/// float8out. With `extra` (`extra_float_digits`) ≥ 1 the shortest decimal strictly inside the rounding interval, else
/// `%.*g` with that many digits more than the type always keeps.
pub(super) fn float8_out(value: f64, extra: i32, out: &mut Vec<u8>) {
    if special_out(value, out) {
        return;
    }
    if extra < 1 {
        return rounded_out(value, 15 + extra, out);
    }
    let magnitude = value.abs();
    let mut decimal = split_scientific(&format!("{magnitude:e}"));
    if decimal.digits.len() > 15 || (1e12..1e42).contains(&magnitude) {
        decimal = settled(decimal, &|s| s.parse() == Ok(magnitude), &|n| format!("{magnitude:.n$e}"));
    }
    decimal_out(value.is_sign_negative(), &decimal, 15, out);
}

/// float4out, likewise.
pub(super) fn float4_out(value: f32, extra: i32, out: &mut Vec<u8>) {
    if special_out(f64::from(value), out) {
        return;
    }
    if extra < 1 {
        return rounded_out(f64::from(value), 6 + extra, out);
    }
    let magnitude = value.abs();
    let mut decimal = split_scientific(&format!("{magnitude:e}"));
    if decimal.digits.len() > 6 || (1e2..1e21).contains(&magnitude) {
        decimal = settled(decimal, &|s| s.parse() == Ok(magnitude), &|n| format!("{magnitude:.n$e}"));
    }
    decimal_out(value.is_sign_negative(), &decimal, 6, out);
}

/// `%.*g` of a finite value that is not zero (pg_strfromd).
fn rounded_out(value: f64, digits: i32, out: &mut Vec<u8>) {
    let digits = digits.max(1);
    let places = digits.unsigned_abs() as usize - 1;
    let decimal = split_scientific(&format!("{:.places$e}", value.abs()));
    decimal_out(value.is_sign_negative(), &decimal, digits, out);
}

fn special_out(value: f64, out: &mut Vec<u8>) -> bool {
    let word: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else if value == 0.0 {
        if value.is_sign_negative() { b"-0" } else { b"0" }
    } else {
        return false;
    };
    out.extend_from_slice(word);
    true
}

/// Digits without a point, and the decimal exponent of the first one.
struct Decimal {
    digits: String,
    exponent: i32,
}

/// The choice between decimals of the same length, and whether they are long enough, as PostgreSQL settles it.
///
/// Rust's shortest form differs from PostgreSQL's in two ways. Of two equally near it takes the upper, PostgreSQL the
/// even one: possible only with more digits than the type always keeps. And it accepts a decimal halfway between two
/// floats, which reads back only because ties go to even, where PostgreSQL takes more digits: possible only where that
/// decimal is short, in a range of magnitudes. Halfway is recognised by moving a hair to either side: it then reads as
/// a neighbour.
fn settled(shortest: Decimal, reads_back: &dyn Fn(&str) -> bool, rounded: &dyn Fn(usize) -> String) -> Decimal {
    let length = shortest.digits.len();
    let inside = |decimal: &Decimal| {
        let shift = decimal.exponent - (decimal.digits.len() as i32 - 1) - 25;
        let above = format!("{}{}1e{shift}", decimal.digits, "0".repeat(24));
        let below = format!("{}{}e{shift}", decrement(&decimal.digits), "9".repeat(25));
        reads_back(&above) && reads_back(&below)
    };
    let nearest = split_scientific(&rounded(length - 1));
    if !inside(&nearest) && inside(&shortest) {
        return shortest;
    }
    let mut decimal = nearest;
    for more in length..17 {
        if inside(&decimal) {
            break;
        }
        decimal = split_scientific(&rounded(more));
    }
    decimal
}

fn split_scientific(s: &str) -> Decimal {
    let (mantissa, exponent) = s.split_once('e').unwrap_or((s, "0"));
    Decimal { digits: mantissa.replace('.', ""), exponent: exponent.parse().unwrap_or(0) }
}

/// One less in the last place; the digits are not all zero.
fn decrement(digits: &str) -> String {
    let mut bytes = digits.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        if *byte > b'0' {
            *byte -= 1;
            break;
        }
        *byte = b'9';
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Plain notation for exponents from −4 to `fixed_limit` − 1, else `d.ddde±XX` (double_to_shortest_decimal_buf).
fn decimal_out(negative: bool, decimal: &Decimal, fixed_limit: i32, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    let (digits, exponent) = (decimal.digits.trim_end_matches('0').as_bytes(), decimal.exponent);
    let count = digits.len() as i32;
    if exponent < -4 || exponent >= fixed_limit {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
    } else if exponent + 1 >= count {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', (exponent + 1 - count) as usize));
    } else {
        let (whole, fraction) = digits.split_at((exponent + 1) as usize);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}
