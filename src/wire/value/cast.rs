//! A value of another type than the column's: PostgreSQL's assignment casts, and the explicit ones a text writes.
//!
//! In: a declared type OID, the value as the client encodes that type, the column's type. Out: canonical plaintext.
//! Never: a cast that PostgreSQL would refuse (42804 in an assignment, 42846 where it is written).

use zeroize::Zeroizing;

use super::calendar::{self, Civil, MICROS_PER_DAY, MICROS_PER_SECOND};
use super::interval::Interval;
use super::numeric::Numeric;
use super::{Result, ValueError, datetime_in, decode, encode, number, plain, text, zone::Zone};
use crate::wire::types::{Format, Kind, SqlType, Style};

const NO_CAST: ValueError =
    ValueError::new(b"42804", "the parameter is declared with a type that does not convert to the column's type");

const BPCHAR: u32 = 1042;
const NAME: u32 = 19;
const UNKNOWN: u32 = 705;

/// As [`super::decode`], for a parameter whose declared type is `declared_oid`.
///
/// 0 and `unknown` are the column's own type; a string type goes only into text and varchar; every known type goes into
/// text and varchar through its output function; numbers and dates convert among themselves.
pub fn decode_declared(
    declared_oid: u32,
    ty: SqlType,
    format: Format,
    bytes: &[u8],
    style: &Style,
    out: &mut Vec<u8>,
) -> Result<()> {
    if declared_oid == 0 || declared_oid == UNKNOWN || declared_oid == ty.kind.oid() {
        return decode(ty, format, bytes, style, out);
    }
    let to_text = matches!(ty.kind, Kind::Text | Kind::Varchar);
    if matches!(declared_oid, BPCHAR | NAME) {
        let string = text::utf8(bytes)?;
        return match declared_oid {
            _ if !to_text => Err(NO_CAST),
            BPCHAR => text::varchar_in(string.trim_end_matches(' '), ty.typmod, out),
            _ if string.len() > 63 => Err(ValueError::new(b"42622", "identifier too long")),
            _ => text::varchar_in(string, ty.typmod, out),
        };
    }
    let source = Kind::of_oid(declared_oid).ok_or(NO_CAST)?;
    if !to_text && !assignable(source, ty.kind) {
        return Err(NO_CAST);
    }
    let untyped = SqlType { kind: source, typmod: -1 };
    let mut value = Zeroizing::new(Vec::new());
    decode(untyped, format, bytes, style, &mut value)?;
    if to_text {
        let shown = as_text(source, &value, style)?;
        return text::varchar_in(text::utf8(&shown)?, ty.typmod, out);
    }
    convert(source, &value, ty, style, out)
}

/// What a cast to text makes of a plaintext.
fn as_text(source: Kind, value: &[u8], style: &Style) -> Result<Zeroizing<Vec<u8>>> {
    let mut shown = Zeroizing::new(Vec::new());
    match (source, value.first()) {
        (Kind::Bool, Some(0)) => shown.extend_from_slice(b"false"),
        (Kind::Bool, _) => shown.extend_from_slice(b"true"),
        _ => encode(SqlType { kind: source, typmod: -1 }, value, Format::Text, style, &mut shown)?,
    }
    Ok(shown)
}

/// Whether a value of that type may be assigned to a column of that kind (pg_cast, contexts `i` and `a`).
pub fn assigns(source_oid: u32, target: Kind) -> bool {
    match Kind::of_oid(source_oid) {
        Some(source) => source == target || target.is_text() || assignable(source, target),
        None => source_oid == UNKNOWN || (target.is_text() && matches!(source_oid, BPCHAR | NAME)),
    }
}

/// Whether `column = value` has an operator in PostgreSQL, for a value of that type.
pub fn compares(column: Kind, source_oid: u32) -> bool {
    let Some(source) = Kind::of_oid(source_oid) else {
        // `varchar = bpchar` is bpchar's: it passes over the blanks at the end of both, which a token keeps.
        return match source_oid {
            UNKNOWN => true,
            NAME => column.is_text(),
            BPCHAR => column == Kind::Text,
            _ => false,
        };
    };
    let temporal = |kind| matches!(kind, Kind::Date | Kind::Timestamp | Kind::Timestamptz);
    let daytime = |kind| matches!(kind, Kind::Time | Kind::Interval);
    column == source
        || (column.is_text() && source.is_text())
        || (is_number(column) && is_number(source))
        || (temporal(column) && temporal(source))
        || (daytime(column) && daytime(source))
}

/// Whether the text may cast a value of that type to that kind.
pub fn casts(source_oid: u32, target: Kind) -> bool {
    let Some(source) = Kind::of_oid(source_oid) else {
        return matches!(source_oid, UNKNOWN | BPCHAR | NAME);
    };
    source.is_text()
        || assigns(source_oid, target)
        || matches!((source, target), (Kind::Int4, Kind::Bool) | (Kind::Bool, Kind::Int4))
}

/// A value and the casts that the text writes around it → binary form of the last cast's type, and that type's OID.
///
/// # Errors
/// As the casts' own in PostgreSQL; 42846 where it has none, or none that is known here.
pub fn cast_explicitly(
    declared_oid: u32,
    casts: &[SqlType],
    format: Format,
    bytes: &[u8],
    style: &Style,
) -> Result<(u32, Zeroizing<Vec<u8>>)> {
    let first = casts.first().ok_or(NO_CAST)?;
    let mut kind = match declared_oid {
        0 | UNKNOWN => first.kind,
        BPCHAR | NAME => Kind::Text,
        oid => Kind::of_oid(oid).ok_or(NO_CAST)?,
    };
    let mut value = Zeroizing::new(Vec::new());
    // The length of a varchar cuts, where the column's own would refuse: it is applied by the cast below.
    decode_declared(declared_oid, SqlType { kind, typmod: -1 }, format, bytes, style, &mut value)?;
    for to in casts {
        let mut next = Zeroizing::new(Vec::new());
        explicit(kind, &value, *to, style, &mut next)?;
        (kind, value) = (to.kind, next);
    }
    let mut shown = Zeroizing::new(Vec::new());
    encode(SqlType { kind, typmod: -1 }, &value, Format::Binary, style, &mut shown)?;
    Ok((kind.oid(), shown))
}

/// Plaintext of `source` → plaintext of `ty`, as `::type` does it.
fn explicit(source: Kind, value: &[u8], ty: SqlType, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    match (source, ty.kind) {
        (_, Kind::Text | Kind::Varchar) => {
            let shown = as_text(source, value, style)?;
            let string = text::utf8(&shown)?;
            let kept = usize::try_from(ty.typmod - 4).ok().and_then(|limit| string.char_indices().nth(limit));
            out.extend_from_slice(&string.as_bytes()[..kept.map_or(string.len(), |(end, _)| end)]);
            Ok(())
        }
        // Text is read by the type's input function; a value of the type itself meets the modifier.
        (Kind::Text | Kind::Varchar, _) => decode(ty, Format::Text, value, style, out),
        (from, to) if from == to => {
            let mut same = Zeroizing::new(Vec::new());
            encode(SqlType { kind: from, typmod: -1 }, value, Format::Binary, style, &mut same)?;
            decode(ty, Format::Binary, &same, style, out)
        }
        (Kind::Int4, Kind::Bool) => {
            out.push(u8::from(number::plain_int(source, value)? != 0));
            Ok(())
        }
        (Kind::Bool, Kind::Int4) => number::put_int(Kind::Int4, i64::from(value.first() == Some(&1)), out),
        (from, to) if assignable(from, to) => convert(from, value, ty, style, out),
        _ => Err(ValueError::new(b"42846", "PostgreSQL has no such cast")),
    }
}

/// Whether the plaintext `stored` of the column's type, read as the declared type again, is the value that was given:
/// PostgreSQL compares two types in the wider one, where nothing is rounded or cut.
pub fn same_in_declared(
    declared_oid: u32,
    ty: SqlType,
    format: Format,
    bytes: &[u8],
    style: &Style,
    stored: &[u8],
) -> bool {
    let Some(kind) = Kind::of_oid(declared_oid) else { return true };
    if kind == ty.kind || (kind.is_text() && ty.kind.is_text()) {
        return true;
    }
    let free = SqlType { kind, typmod: -1 };
    let (mut given, mut back) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
    let read = decode(free, format, bytes, style, &mut given);
    let returned = convert(ty.kind, stored, free, style, &mut back);
    read.is_ok() && returned.is_ok() && super::equal(kind, &given, &back)
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Float4 | Kind::Float8)
}

/// pg_cast rows with castcontext `i` or `a`, among our kinds.
fn assignable(source: Kind, target: Kind) -> bool {
    use Kind::{Date, Interval, Json, Jsonb, Time, Timestamp, Timestamptz};
    (is_number(source) && is_number(target))
        || matches!(
            (source, target),
            (Date, Timestamp | Timestamptz)
                | (Timestamp, Date | Time | Timestamptz)
                | (Timestamptz, Date | Time | Timestamp)
                | (Time, Interval)
                | (Interval, Time)
                | (Json, Jsonb)
                | (Jsonb, Json)
        )
}

/// Plaintext of `source` → plaintext of `ty`.
fn convert(source: Kind, value: &[u8], ty: SqlType, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    match source {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => from_int(number::plain_int(source, value)?, ty, out),
        Kind::Float4 | Kind::Float8 => from_float(source, f64::from_be_bytes(plain(value)?), ty, out),
        Kind::Numeric => from_numeric(Numeric::plain(value)?, ty, out),
        Kind::Date => from_date(i32::from_be_bytes(plain(value)?), ty, style, out),
        Kind::Timestamp | Kind::Timestamptz => {
            from_timestamp(source, i64::from_be_bytes(plain(value)?), ty, style, out)
        }
        Kind::Time => {
            Interval { months: 0, days: 0, micros: i64::from_be_bytes(plain(value)?) }.fit(ty.typmod)?.put(out);
            Ok(())
        }
        Kind::Interval => {
            let time = Interval::plain(value)?.micros.rem_euclid(MICROS_PER_DAY);
            out.extend_from_slice(&calendar::round_time(time, ty.typmod).to_be_bytes());
            Ok(())
        }
        Kind::Json | Kind::Jsonb => decode(ty, Format::Text, value, style, out),
        _ => Err(NO_CAST),
    }
}

fn from_int(value: i64, ty: SqlType, out: &mut Vec<u8>) -> Result<()> {
    match ty.kind {
        Kind::Numeric => Numeric::of_int(value).fit(ty.typmod)?.put(out),
        Kind::Float4 => {
            number::put_float(f64::from(value as f32), out);
            Ok(())
        }
        Kind::Float8 => {
            number::put_float(value as f64, out);
            Ok(())
        }
        kind => number::put_int(kind, value, out),
    }
}

fn from_float(source: Kind, value: f64, ty: SqlType, out: &mut Vec<u8>) -> Result<()> {
    match ty.kind {
        Kind::Numeric => {
            Numeric::of_float(value, if source == Kind::Float4 { 6 } else { 15 })?.fit(ty.typmod)?.put(out)
        }
        Kind::Float8 => {
            number::put_float(value, out);
            Ok(())
        }
        Kind::Float4 => {
            let narrow = value as f32;
            if (narrow.is_infinite() && value.is_finite()) || (narrow == 0.0 && value != 0.0) {
                return Err(ValueError::range("value is out of range for type real"));
            }
            number::put_float(f64::from(narrow), out);
            Ok(())
        }
        kind => {
            // Half to even, as rint(); the bounds are exact in f64.
            let rounded = value.round_ties_even();
            if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
                return Err(ValueError::range("value is out of range for the column's integer type"));
            }
            number::put_int(kind, rounded as i64, out)
        }
    }
}

fn from_numeric(value: Numeric, ty: SqlType, out: &mut Vec<u8>) -> Result<()> {
    match ty.kind {
        Kind::Float4 => number::put_float(f64::from(number::float4_in(&value.to_text())?), out),
        Kind::Float8 => number::put_float(number::float8_in(&value.to_text())?, out),
        kind => number::put_int(kind, value.to_int()?, out)?,
    }
    Ok(())
}

fn from_date(days: i32, ty: SqlType, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    let micros = match days {
        i32::MAX => i64::MAX,
        i32::MIN => i64::MIN,
        _ => {
            let out_of_range = ValueError::datetime_range("date out of range for timestamp");
            let midnight = i64::from(days).checked_mul(MICROS_PER_DAY).ok_or(out_of_range)?;
            calendar::check_timestamp(midnight).map_err(|_| out_of_range)?;
            if ty.kind == Kind::Timestamptz { to_utc(midnight, style)? } else { midnight }
        }
    };
    out.extend_from_slice(&calendar::round_timestamp(micros, ty.typmod)?.to_be_bytes());
    Ok(())
}

fn from_timestamp(source: Kind, micros: i64, ty: SqlType, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    let infinite = micros == i64::MAX || micros == i64::MIN;
    let local = if infinite || source == Kind::Timestamp { micros } else { to_local(micros, style)? };
    match ty.kind {
        Kind::Date => {
            let days = match micros {
                i64::MAX => i32::MAX,
                i64::MIN => i32::MIN,
                _ => local.div_euclid(MICROS_PER_DAY) as i32,
            };
            out.extend_from_slice(&days.to_be_bytes());
        }
        // PostgreSQL makes NULL of it; a value that silently becomes NULL is not sealed.
        Kind::Time if infinite => return Err(ValueError::datetime_range("an infinite timestamp has no time of day")),
        Kind::Time => {
            let time = calendar::round_time(local.rem_euclid(MICROS_PER_DAY), ty.typmod);
            out.extend_from_slice(&time.to_be_bytes());
        }
        _ => {
            let value = if infinite || source == Kind::Timestamptz { local } else { to_utc(local, style)? };
            out.extend_from_slice(&calendar::round_timestamp(value, ty.typmod)?.to_be_bytes());
        }
    }
    Ok(())
}

fn to_utc(local: i64, style: &Style) -> Result<i64> {
    let offset = datetime_in::session_offset(&Civil::of_timestamp(local), style)?;
    let micros = local - i64::from(offset) * MICROS_PER_SECOND;
    calendar::check_timestamp(micros)?;
    Ok(micros)
}

fn to_local(micros: i64, style: &Style) -> Result<i64> {
    let unknown = ValueError::new(b"22023", "the session's time zone is not in pgveil's time zone database");
    let zone = Zone::named(&style.time_zone).ok_or(unknown)?;
    let offset = zone.at(micros, &mut String::new()).ok_or(unknown)?;
    Ok(micros.saturating_add(i64::from(offset) * MICROS_PER_SECOND))
}
