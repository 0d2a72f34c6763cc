//! Typed values: client text or binary → canonical plaintext (what is sealed) → exactly what PostgreSQL would send.
//!
//! In: one field's bytes, its logical type, the session's [`Style`]. Out: bytes appended to the caller's buffer, or a
//! [`ValueError`] with PostgreSQL's SQLSTATE and no trace of the value. Never: a guess (what is not parsed exactly as
//! PostgreSQL 15 and later parse it is an error), a panic, the clock (`now`, `today` are refused), I/O.
//!
//! # Canonical plaintext (frozen with envelope v1)
//!
//! | kind | bytes |
//! |---|---|
//! | text, varchar | UTF-8, without NUL |
//! | int2, int4, int8 | i64, big-endian |
//! | numeric | PostgreSQL's binary form: u16 ndigits, i16 weight, u16 sign, u16 dscale, u16 base-10000 digits, no leading or trailing zero group; NaN and ±Infinity as sign C000, D000, F000 |
//! | float4, float8 | f64, big-endian; float4 widened exactly; one NaN (7FF8…); −0 kept |
//! | bool | one byte, 0 or 1 |
//! | date | i32 big-endian, days since 2000-01-01; ±infinity = i32 MAX, MIN |
//! | time | i64 big-endian, microseconds since midnight |
//! | timestamp, timestamptz | i64 big-endian, microseconds since 2000-01-01 00:00 (UTC); ±infinity = i64 MAX, MIN |
//! | uuid | 16 bytes |
//! | json | the UTF-8 text as written |
//! | jsonb | UTF-8, as jsonb prints it: keys by length then bytes, last duplicate wins, `": "` and `", "` |
//! | bytea | the bytes |
//! | interval | ISO 8601 as `IntervalStyle = iso_8601` prints it (months, days and microseconds all survive) |

mod calendar;
mod cast;
mod datetime_in;
mod datetime_out;
mod fields;
mod interval;
mod json;
mod number;
mod numeric;
mod sqltype;
#[cfg(test)]
mod tests;
mod text;
mod zone;
mod zone_abbreviations;

use std::fmt;

use super::types::{Format, Kind, SqlType, Style};
use crate::error::SqlState;

pub use cast::{assigns, cast_explicitly, casts, compares, decode_declared, same_in_declared};

/// Why a value does not become one of the column's type. Never holds the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What PostgreSQL would report.
    pub sqlstate: SqlState,
    /// In plain words, without the value.
    pub what: &'static str,
}

impl ValueError {
    pub(crate) const fn new(sqlstate: &[u8; 5], what: &'static str) -> Self {
        Self { sqlstate: SqlState(*sqlstate), what }
    }

    /// 22P02 invalid_text_representation.
    pub(crate) const fn syntax(what: &'static str) -> Self {
        Self::new(b"22P02", what)
    }

    /// 22003 numeric_value_out_of_range.
    pub(crate) const fn range(what: &'static str) -> Self {
        Self::new(b"22003", what)
    }

    /// 22P03 invalid_binary_representation.
    pub(crate) const fn binary(what: &'static str) -> Self {
        Self::new(b"22P03", what)
    }

    /// 22007 invalid_datetime_format.
    pub(crate) const fn datetime(what: &'static str) -> Self {
        Self::new(b"22007", what)
    }

    /// 22008 datetime_field_overflow.
    pub(crate) const fn datetime_range(what: &'static str) -> Self {
        Self::new(b"22008", what)
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for ValueError {}

type Result<T, E = ValueError> = std::result::Result<T, E>;

/// A plaintext that is not one of its type's: our defect or an envelope sealed under another type.
const NOT_CANONICAL: ValueError = ValueError::new(b"XX001", "the sealed value is not one of the column's type");

/// Client representation → canonical plaintext, appended to `out`.
///
/// Text follows the type's input function under `style` (date order, time zone, interval style), binary its receive
/// function; the type modifier is applied as an assignment to the column would.
pub fn decode(ty: SqlType, format: Format, bytes: &[u8], style: &Style, out: &mut Vec<u8>) -> Result<()> {
    match format {
        Format::Text => decode_text(ty, text::utf8(bytes)?, style, out),
        Format::Binary => decode_binary(ty, bytes, out),
    }
}

fn decode_text(ty: SqlType, s: &str, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    match ty.kind {
        Kind::Text => out.extend_from_slice(s.as_bytes()),
        Kind::Varchar => text::varchar_in(s, ty.typmod, out)?,
        Kind::Int2 | Kind::Int4 | Kind::Int8 => number::put_int(ty.kind, number::int_in(ty.kind, s)?, out)?,
        Kind::Numeric => numeric::Numeric::parse(s)?.fit(ty.typmod)?.put(out)?,
        Kind::Float4 => number::put_float(f64::from(number::float4_in(s)?), out),
        Kind::Float8 => number::put_float(number::float8_in(s)?, out),
        Kind::Bool => out.push(u8::from(text::bool_in(s)?)),
        Kind::Date => out.extend_from_slice(&datetime_in::date(s, style)?.to_be_bytes()),
        Kind::Time => {
            out.extend_from_slice(&calendar::round_time(datetime_in::time(s, style)?, ty.typmod).to_be_bytes())
        }
        Kind::Timestamp => put_timestamp(calendar::round_timestamp(datetime_in::timestamp(s, style)?, ty.typmod)?, out),
        Kind::Timestamptz => {
            put_timestamp(calendar::round_timestamp(datetime_in::timestamptz(s, style)?, ty.typmod)?, out);
        }
        Kind::Uuid => out.extend_from_slice(&text::uuid_in(s)?),
        Kind::Jsonb => json::jsonb_in(s, out)?,
        Kind::Json => {
            json::check(s)?;
            out.extend_from_slice(s.as_bytes());
        }
        Kind::Bytea => text::bytea_in(s, out)?,
        Kind::Interval => interval::Interval::parse(s, ty.typmod, style)?.put(out),
    }
    Ok(())
}

fn decode_binary(ty: SqlType, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match ty.kind {
        Kind::Text => out.extend_from_slice(text::utf8(bytes)?.as_bytes()),
        Kind::Varchar => text::varchar_in(text::utf8(bytes)?, ty.typmod, out)?,
        Kind::Int2 | Kind::Int4 | Kind::Int8 => number::put_int(ty.kind, number::int_recv(ty.kind, bytes)?, out)?,
        Kind::Numeric => numeric::Numeric::receive(bytes)?.fit(ty.typmod)?.put(out)?,
        Kind::Float4 => number::put_float(f64::from(f32::from_be_bytes(fixed(bytes)?)), out),
        Kind::Float8 => number::put_float(f64::from_be_bytes(fixed(bytes)?), out),
        Kind::Bool => out.push(u8::from(fixed::<1>(bytes)? != [0])),
        Kind::Date => {
            let days = i32::from_be_bytes(fixed(bytes)?);
            calendar::check_date(days)?;
            out.extend_from_slice(&days.to_be_bytes());
        }
        Kind::Time => {
            let time = i64::from_be_bytes(fixed(bytes)?);
            calendar::check_time(time)?;
            out.extend_from_slice(&calendar::round_time(time, ty.typmod).to_be_bytes());
        }
        Kind::Timestamp | Kind::Timestamptz => {
            let timestamp = i64::from_be_bytes(fixed(bytes)?);
            calendar::check_timestamp(timestamp)?;
            put_timestamp(calendar::round_timestamp(timestamp, ty.typmod)?, out);
        }
        Kind::Uuid => out.extend_from_slice(&fixed::<16>(bytes)?),
        Kind::Jsonb => match bytes.split_first() {
            Some((1, json)) => json::jsonb_in(text::utf8(json)?, out)?,
            _ => return Err(ValueError::new(b"XX000", "unsupported jsonb version number")),
        },
        Kind::Json => {
            json::check(text::utf8(bytes)?)?;
            out.extend_from_slice(bytes);
        }
        Kind::Bytea => out.extend_from_slice(bytes),
        Kind::Interval => interval::Interval::receive(bytes)?.fit(ty.typmod)?.put(out),
    }
    Ok(())
}

/// Canonical plaintext → what PostgreSQL would send in `format`, appended to `out`.
///
/// An error (XX001) means the plaintext is not one of this kind.
pub fn encode(ty: SqlType, plaintext: &[u8], format: Format, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    match format {
        Format::Text => encode_text(ty.kind, plaintext, style, out),
        Format::Binary => encode_binary(ty.kind, plaintext, out),
    }
}

fn encode_text(kind: Kind, plaintext: &[u8], style: &Style, out: &mut Vec<u8>) -> Result<()> {
    match kind {
        Kind::Text | Kind::Varchar | Kind::Json | Kind::Jsonb => out.extend_from_slice(plain_utf8(plaintext)?),
        Kind::Int2 | Kind::Int4 | Kind::Int8 => {
            out.extend_from_slice(number::plain_int(kind, plaintext)?.to_string().as_bytes());
        }
        Kind::Numeric => numeric::Numeric::plain(plaintext)?.print(out),
        Kind::Float4 => number::float4_out(number::plain_float4(plaintext)?, style.extra_float_digits, out),
        Kind::Float8 => number::float8_out(f64::from_be_bytes(plain(plaintext)?), style.extra_float_digits, out),
        Kind::Bool => out.push(if plain::<1>(plaintext)? == [0] { b'f' } else { b't' }),
        Kind::Date => datetime_out::date(i32::from_be_bytes(plain(plaintext)?), style, out)?,
        Kind::Time => datetime_out::time(i64::from_be_bytes(plain(plaintext)?), out)?,
        Kind::Timestamp => datetime_out::timestamp(i64::from_be_bytes(plain(plaintext)?), style, out)?,
        Kind::Timestamptz => datetime_out::timestamptz(i64::from_be_bytes(plain(plaintext)?), style, out)?,
        Kind::Uuid => text::uuid_out(plain(plaintext)?, out),
        Kind::Bytea => text::bytea_out(plaintext, style.bytea_hex, out),
        Kind::Interval => interval::Interval::plain(plaintext)?.print(style.interval, out),
    }
    Ok(())
}

fn encode_binary(kind: Kind, plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match kind {
        Kind::Text | Kind::Varchar | Kind::Json => out.extend_from_slice(plain_utf8(plaintext)?),
        Kind::Jsonb => {
            let json = plain_utf8(plaintext)?;
            out.push(1);
            out.extend_from_slice(json);
        }
        Kind::Int2 | Kind::Int4 | Kind::Int8 => {
            let width = usize::from(kind.typlen().unsigned_abs());
            let value = number::plain_int(kind, plaintext)?.to_be_bytes();
            out.extend_from_slice(&value[value.len() - width..]);
        }
        Kind::Numeric => numeric::Numeric::plain(plaintext)?.put(out)?,
        Kind::Float4 => out.extend_from_slice(&number::plain_float4(plaintext)?.to_be_bytes()),
        Kind::Float8 | Kind::Time | Kind::Timestamp | Kind::Timestamptz => {
            out.extend_from_slice(&plain::<8>(plaintext)?);
        }
        Kind::Bool => out.push(u8::from(plain::<1>(plaintext)? != [0])),
        Kind::Date => out.extend_from_slice(&plain::<4>(plaintext)?),
        Kind::Uuid => out.extend_from_slice(&plain::<16>(plaintext)?),
        Kind::Bytea => out.extend_from_slice(plaintext),
        Kind::Interval => interval::Interval::plain(plaintext)?.send(out),
    }
    Ok(())
}

/// Whether two plaintexts of a kind are the same value: numerics may differ in their display scale.
pub fn equal(kind: Kind, left: &[u8], right: &[u8]) -> bool {
    match kind {
        Kind::Numeric if left.len() >= 8 && right.len() >= 8 => left[..6] == right[..6] && left[8..] == right[8..],
        Kind::Float4 | Kind::Float8 => {
            let float = |bytes| plain(bytes).map_or(f64::NAN, f64::from_be_bytes);
            left == right || float(left) == float(right)
        }
        _ => left == right,
    }
}

fn put_timestamp(timestamp: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&timestamp.to_be_bytes());
}

/// Exactly `N` bytes of a binary parameter; PostgreSQL answers 08P01 to fewer, 22P03 to more.
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    if bytes.len() < N {
        return Err(ValueError::new(b"08P01", "insufficient data left in message"));
    }
    bytes.try_into().map_err(|_| ValueError::binary("incorrect binary data format"))
}

/// Exactly `N` bytes of plaintext.
fn plain<const N: usize>(plaintext: &[u8]) -> Result<[u8; N]> {
    plaintext.try_into().map_err(|_| NOT_CANONICAL)
}

fn plain_utf8(plaintext: &[u8]) -> Result<&[u8]> {
    text::utf8(plaintext).map(str::as_bytes).map_err(|_| NOT_CANONICAL)
}
