//! The generalising masks: a coarser value of the same type.
//!
//! In: a value's text in ISO style, and its kind. Out: the start of its year, month or decade, or the multiple of N below
//! it. Never: a guess. What has no such value of the type (infinity, NaN, a year before 1, a type without years) is `None`.

use std::num::NonZeroU32;

use crate::wire::types::{Format, Kind, SqlType, Style};
use crate::wire::value;

/// What a date is cut down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Year,
    Month,
    Decade,
}

/// Digits before the decimal point that a numeric may have here and stay a numeric: PostgreSQL's limit less one.
const NUMERIC_DIGITS_MAX: usize = 131_071;

/// Below it every whole number is a float8: 2^53.
const WHOLE_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// The first day of the value's year, month or decade, at 00:00:00; a timestamptz in UTC.
///
/// Decades begin with years that end in 0, so the years 1–9 have none; years before 1 have no first day here.
pub(super) fn start_of(unit: Unit, kind: Kind, text: &str) -> Option<String> {
    let clock = match kind {
        Kind::Date => "",
        Kind::Timestamp => " 00:00:00",
        Kind::Timestamptz => " 00:00:00+00",
        _ => return None,
    };
    let utc = reprinted(kind, text)?;
    if utc.ends_with(" BC") {
        return None;
    }
    let (year, rest) = utc.split_once('-')?;
    let (month, _) = rest.split_once('-')?;
    let year: u32 = year.parse().ok()?;
    match unit {
        Unit::Year => Some(format!("{year:04}-01-01{clock}")),
        Unit::Month => Some(format!("{year:04}-{month}-01{clock}")),
        Unit::Decade if year < 10 => None,
        Unit::Decade => Some(format!("{:04}-01-01{clock}", year / 10 * 10)),
    }
}

/// The greatest multiple of `size` that is not above the value, if the type has it. Floats from 2^53 on have none that
/// means anything.
pub(super) fn bucket(size: NonZeroU32, kind: Kind, text: &str) -> Option<String> {
    let size = size.get();
    match kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => {
            let value: i128 = reprinted(kind, text)?.parse().ok()?;
            reprinted(kind, &(value.div_euclid(size.into()) * i128::from(size)).to_string())
        }
        Kind::Numeric => numeric_bucket(size, &reprinted(kind, text)?),
        Kind::Float4 | Kind::Float8 => {
            let value: f64 = match kind {
                Kind::Float4 => reprinted(kind, text)?.parse::<f32>().ok()?.into(),
                _ => reprinted(kind, text)?.parse().ok()?,
            };
            let low = float_bucket(f64::from(size), value)?;
            #[allow(clippy::cast_possible_truncation, reason = "to the nearest float4, as PostgreSQL's cast")]
            let shown = if kind == Kind::Float4 { (low as f32).to_string() } else { low.to_string() };
            reprinted(kind, &shown)
        }
        _ => None,
    }
}

/// The value as PostgreSQL prints it in ISO style and UTC; `None` if it is not one of the kind's.
fn reprinted(kind: Kind, text: &str) -> Option<String> {
    let ty = SqlType { kind, typmod: -1 };
    let (mut plain, mut shown) = (Vec::new(), Vec::new());
    value::decode(ty, Format::Text, text.as_bytes(), &Style::default(), &mut plain).ok()?;
    value::encode(ty, &plain, Format::Text, &Style::default(), &mut shown).ok()?;
    String::from_utf8(shown).ok()
}

fn float_bucket(size: f64, value: f64) -> Option<f64> {
    if !(value > -WHOLE_FLOAT_MAX && value < WHOLE_FLOAT_MAX) {
        return None;
    }
    Some(if value.abs() >= 1.0 {
        (value / size).floor() * size
    } else if value < 0.0 {
        -size
    } else {
        0.0
    })
}

/// By school arithmetic: a numeric has up to 131,072 digits.
fn numeric_bucket(size: u32, text: &str) -> Option<String> {
    let (negative, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    if whole.len() > NUMERIC_DIGITS_MAX || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = i64::from(size);
    let rest = whole.bytes().fold(0, |rest, digit| (rest * 10 + i64::from(digit - b'0')) % size);
    let exact = rest == 0 && fraction.bytes().all(|b| b == b'0');
    let low = sum(whole, if negative && !exact { size - rest } else { -rest });
    let low = low.trim_start_matches('0');
    match low.len() {
        0 => Some("0".to_owned()),
        1..=NUMERIC_DIGITS_MAX => Some(format!("{}{low}", if negative { "-" } else { "" })),
        _ => None,
    }
}

/// Decimal digits plus a number that does not make them negative.
fn sum(digits: &str, addend: i64) -> String {
    let mut carry = addend;
    let mut low_first = Vec::with_capacity(digits.len() + 10);
    let mut high = digits.bytes().rev().map(|b| i64::from(b - b'0'));
    loop {
        let digit = match high.next() {
            Some(digit) => digit,
            None if carry == 0 => break,
            None => 0,
        };
        let all = digit + carry;
        low_first.push(char::from(b'0' + u8::try_from(all.rem_euclid(10)).unwrap_or_default()));
        carry = all.div_euclid(10);
    }
    low_first.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_cut_to_the_start() {
        let day = |unit, text| start_of(unit, Kind::Date, text);
        assert_eq!(day(Unit::Year, "1985-07-23").unwrap(), "1985-01-01");
        assert_eq!(day(Unit::Month, "1985-07-23").unwrap(), "1985-07-01");
        assert_eq!(day(Unit::Decade, "1985-07-23").unwrap(), "1980-01-01");
        assert_eq!(day(Unit::Year, "0009-02-03").unwrap(), "0009-01-01");
        assert_eq!(day(Unit::Month, "5874897-12-31").unwrap(), "5874897-12-01");
        for (unit, none) in [
            (Unit::Decade, "0009-02-03"),
            (Unit::Year, "0001-12-31 BC"),
            (Unit::Year, "infinity"),
            (Unit::Month, "-infinity"),
        ] {
            assert_eq!(day(unit, none), None, "{none}");
        }
    }

    #[test]
    fn timestamps_start_at_midnight_and_timestamptz_in_utc() {
        let at = |kind, text| start_of(Unit::Year, kind, text).unwrap();
        assert_eq!(at(Kind::Timestamp, "1985-07-23 10:20:30.5"), "1985-01-01 00:00:00");
        assert_eq!(at(Kind::Timestamptz, "1986-01-01 01:00:00+02"), "1985-01-01 00:00:00+00");
        assert_eq!(start_of(Unit::Year, Kind::Text, "1985-07-23"), None);
        assert_eq!(start_of(Unit::Year, Kind::Time, "10:20:30"), None);
    }

    #[test]
    fn buckets_are_floors() {
        let ten = |kind, text| bucket(NonZeroU32::new(10).unwrap(), kind, text);
        for (kind, text, low) in [
            (Kind::Int2, "17", "10"),
            (Kind::Int4, "-1", "-10"),
            (Kind::Int8, "-20", "-20"),
            (Kind::Numeric, "17.35", "10"),
            (Kind::Numeric, "-0.01", "-10"),
            (Kind::Numeric, "-10.00", "-10"),
            (Kind::Numeric, "9.99999999999999999999999999", "0"),
            (Kind::Numeric, "-99999999999999999999999999999991", "-100000000000000000000000000000000"),
            (Kind::Float8, "-0.5", "-10"),
            (Kind::Float8, "-1", "-10"),
            (Kind::Float8, "5e-324", "0"),
            (Kind::Float8, "1234567", "1234560"),
            (Kind::Float4, "19.9", "10"),
        ] {
            let low = reprinted(kind, low).unwrap();
            assert_eq!(ten(kind, text).as_deref(), Some(&*low), "{text}");
        }
        for (kind, none) in [
            (Kind::Int2, "-32768"),
            (Kind::Int8, "-9223372036854775808"),
            (Kind::Numeric, "NaN"),
            (Kind::Numeric, "-Infinity"),
            (Kind::Float8, "NaN"),
            (Kind::Float8, "1e300"),
            (Kind::Text, "17"),
            (Kind::Date, "1985-07-23"),
        ] {
            assert_eq!(ten(kind, none), None, "{none}");
        }
    }
}
