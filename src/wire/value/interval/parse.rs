//! interval from text: PostgreSQL's own notation, the SQL standard's, ISO 8601's (DecodeInterval,
//! DecodeISO8601Interval), and the plaintext.
//!
//! In: text, the session's interval style, the declared fields. Out: an [`Interval`]. Where PostgreSQL 15 and 16 differ
//! (`ago` not at the end, a unit without a number), the input is refused.

use super::{Interval, range};
use crate::wire::types::{IntervalForm, Style};
use crate::wire::value::fields::{Field, FieldKind, cut};
use crate::wire::value::text::is_space;
use crate::wire::value::{Result, ValueError};

const BAD_FORMAT: ValueError = ValueError::datetime("invalid input syntax for type interval");
const OVERFLOW: ValueError = ValueError::new(b"22015", "interval field value out of range");
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const ROOM: usize = 256;

/// Units, and their bits of what has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Decade,
    Century,
    Millennium,
    Quarter,
}

impl Unit {
    fn of(word: &str) -> Option<Self> {
        // PostgreSQL compares ten characters.
        Some(match word.get(..10).unwrap_or(word) {
            "us" | "usec" | "usecs" | "useconds" | "microsecon" => Self::Microsecond,
            "ms" | "msec" | "msecs" | "mseconds" | "millisecon" => Self::Millisecond,
            "s" | "sec" | "secs" | "second" | "seconds" => Self::Second,
            "m" | "min" | "mins" | "minute" | "minutes" => Self::Minute,
            "h" | "hr" | "hrs" | "hour" | "hours" => Self::Hour,
            "d" | "day" | "days" => Self::Day,
            "w" | "week" | "weeks" => Self::Week,
            "mon" | "mons" | "month" | "months" => Self::Month,
            "y" | "yr" | "yrs" | "year" | "years" => Self::Year,
            "dec" | "decs" | "decade" | "decades" => Self::Decade,
            "c" | "cent" | "century" | "centuries" => Self::Century,
            "mil" | "mils" | "millennia" | "millennium" => Self::Millennium,
            "qtr" | "quarter" => Self::Quarter,
            _ => return None,
        })
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }

    /// What a number without a unit means at the end, by the declared fields.
    fn of_range(mask: i32) -> Self {
        match if mask == range::FULL { range::SECOND } else { range::lowest(mask) } {
            range::YEAR => Self::Year,
            range::MONTH => Self::Month,
            range::DAY => Self::Day,
            range::HOUR => Self::Hour,
            range::MINUTE => Self::Minute,
            _ => Self::Second,
        }
    }
}

const SUBSECONDS: u16 = 1 << Unit::Second as u16 | 1 << Unit::Millisecond as u16 | 1 << Unit::Microsecond as u16;
const CLOCK: u16 = SUBSECONDS | 1 << Unit::Minute as u16 | 1 << Unit::Hour as u16;

impl Interval {
    /// interval_in.
    pub(in crate::wire::value) fn parse(s: &str, typmod: i32, style: &Style) -> Result<Self> {
        let mask = if typmod < 0 { range::FULL } else { typmod >> 16 & range::FULL };
        let parts = match cut(s, ROOM).map_err(|_| BAD_FORMAT).and_then(|fields| decode(&fields, mask, style)) {
            Err(e) if e == BAD_FORMAT => Iso::decode(s)?,
            other => other?,
        };
        parts.interval()?.fit(typmod)
    }
}

/// Years apart from months, as they are read (pg_itm_in).
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    years: i32,
    months: i32,
    days: i32,
    micros: i64,
}

impl Parts {
    fn interval(self) -> Result<Interval> {
        let months = i64::from(self.years) * 12 + i64::from(self.months);
        let months = i32::try_from(months).map_err(|_| ValueError::datetime_range("interval out of range"))?;
        Ok(Interval { months, days: self.days, micros: self.micros })
    }

    fn add_micros(&mut self, whole: i64, fraction: f64, scale: i64) -> Result<()> {
        self.micros = whole.checked_mul(scale).and_then(|m| self.micros.checked_add(m)).ok_or(OVERFLOW)?;
        self.add_fraction(fraction, scale)
    }

    fn add_fraction(&mut self, fraction: f64, scale: i64) -> Result<()> {
        let exact = fraction * scale as f64;
        let mut micros = exact as i64;
        let left = exact - micros as f64;
        if left > 0.5 {
            micros += 1;
        } else if left < -0.5 {
            micros -= 1;
        }
        self.micros = self.micros.checked_add(micros).ok_or(OVERFLOW)?;
        Ok(())
    }

    fn add_days(&mut self, whole: i64, fraction: f64, scale: i32) -> Result<()> {
        let whole = i32::try_from(whole).ok().and_then(|d| d.checked_mul(scale)).ok_or(OVERFLOW)?;
        self.days = self.days.checked_add(whole).ok_or(OVERFLOW)?;
        if scale == 1 { self.add_fraction(fraction, DAY) } else { self.add_fraction_days(fraction, scale) }
    }

    fn add_fraction_days(&mut self, fraction: f64, scale: i32) -> Result<()> {
        let exact = fraction * f64::from(scale);
        let days = exact as i32;
        self.days = self.days.checked_add(days).ok_or(OVERFLOW)?;
        self.add_fraction(exact - f64::from(days), DAY)
    }

    fn add_months(&mut self, whole: i64, fraction: f64) -> Result<()> {
        let whole = i32::try_from(whole).map_err(|_| OVERFLOW)?;
        self.months = self.months.checked_add(whole).ok_or(OVERFLOW)?;
        self.add_fraction_days(fraction, 30)
    }

    fn add_years(&mut self, whole: i64, fraction: f64, scale: i32) -> Result<()> {
        let whole = i32::try_from(whole).ok().and_then(|y| y.checked_mul(scale)).ok_or(OVERFLOW)?;
        self.years = self.years.checked_add(whole).ok_or(OVERFLOW)?;
        let months = (fraction * f64::from(scale) * 12.0).round_ties_even() as i32;
        self.months = self.months.checked_add(months).ok_or(OVERFLOW)?;
        Ok(())
    }

    fn add(&mut self, unit: Unit, whole: i64, fraction: f64) -> Result<()> {
        match unit {
            Unit::Microsecond => self.add_micros(whole, fraction, 1),
            Unit::Millisecond => self.add_micros(whole, fraction, 1000),
            Unit::Second => self.add_micros(whole, fraction, 1_000_000),
            Unit::Minute => self.add_micros(whole, fraction, 60_000_000),
            Unit::Hour => self.add_micros(whole, fraction, HOUR),
            Unit::Day => self.add_days(whole, fraction, 1),
            Unit::Week => self.add_days(whole, fraction, 7),
            Unit::Month => self.add_months(whole, fraction),
            Unit::Year => self.add_years(whole, fraction, 1),
            Unit::Decade => self.add_years(whole, fraction, 10),
            Unit::Century => self.add_years(whole, fraction, 100),
            Unit::Millennium => self.add_years(whole, fraction, 1000),
            Unit::Quarter => Err(BAD_FORMAT),
        }
    }

    fn negated(self) -> Result<Self> {
        Ok(Self {
            years: self.years.checked_neg().ok_or(OVERFLOW)?,
            months: self.months.checked_neg().ok_or(OVERFLOW)?,
            days: self.days.checked_neg().ok_or(OVERFLOW)?,
            micros: self.micros.checked_neg().ok_or(OVERFLOW)?,
        })
    }
}

/// Units come after their numbers, so the fields are read from the right.
fn decode(fields: &[Field], mask: i32, style: &Style) -> Result<Parts> {
    let signed = |field: &Field| field.text.starts_with(['-', '+']);
    // In SQL standard style a single leading minus is meant for all fields.
    let all_negative = style.interval == IntervalForm::SqlStandard
        && fields.first().is_some_and(|f| f.text.starts_with('-'))
        && !fields[1..].iter().any(signed);
    let mut parts = Parts::default();
    let mut seen = 0;
    let mut unit = None;
    let mut unit_pending = false;
    let mut ago = false;
    for (i, field) in fields.iter().enumerate().rev() {
        let found = match field.kind {
            FieldKind::Word | FieldKind::Special => {
                if unit_pending {
                    return Err(BAD_FORMAT);
                }
                if field.text == "ago" && i == fields.len() - 1 {
                    ago = true;
                } else {
                    unit = Some(Unit::of(&field.text).ok_or(BAD_FORMAT)?);
                    unit_pending = true;
                }
                continue;
            }
            FieldKind::Time | FieldKind::Signed if field.text.contains(':') => {
                match (field.kind, clock(field.text.trim_start_matches(['+', '-']), mask)) {
                    (_, Ok(micros)) => {
                        let negative = field.text.starts_with('-') || (all_negative && micros > 0);
                        parts.micros = if negative { -micros } else { micros };
                        unit = Some(Unit::Day);
                        CLOCK
                    }
                    (FieldKind::Time, Err(e)) => return Err(e),
                    (_, Err(_)) => return Err(BAD_FORMAT),
                }
            }
            _ => {
                if ago && unit.is_none() {
                    return Err(BAD_FORMAT);
                }
                let mut this = unit.unwrap_or_else(|| Unit::of_range(mask));
                let (mut whole, mut fraction, year_month) = number(&field.text)?;
                if year_month {
                    this = Unit::Month;
                }
                if all_negative {
                    (whole, fraction) = (whole.min(whole.wrapping_neg()), -fraction.abs());
                }
                parts.add(this, whole, fraction)?;
                unit = Some(if this == Unit::Hour { Unit::Day } else { this });
                if this == Unit::Second && fraction != 0.0 { SUBSECONDS } else { this.bit() }
            }
        };
        unit_pending = false;
        if seen & found != 0 {
            return Err(BAD_FORMAT);
        }
        seen |= found;
    }
    if seen == 0 || unit_pending {
        return Err(BAD_FORMAT);
    }
    if ago { parts.negated() } else { Ok(parts) }
}

/// `[+-]digits`, `[+-]digits.digits`, `[+-]years-months`: whole, fraction, whether it was the last form.
fn number(text: &str) -> Result<(i64, f64, bool)> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = unsigned.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, rest) = unsigned.split_at(end);
    let whole = if digits.is_empty() && rest.starts_with('.') { 0 } else { integer(digits, negative)? };
    if rest.is_empty() {
        return Ok((whole, 0.0, false));
    }
    if let Some(months) = rest.strip_prefix('-') {
        if !months.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BAD_FORMAT);
        }
        let months = if months.is_empty() { 0 } else { integer(months, false)? };
        if months >= 12 {
            return Err(OVERFLOW);
        }
        let months = if negative { -months } else { months };
        let total = whole.checked_mul(12).and_then(|m| m.checked_add(months)).ok_or(OVERFLOW)?;
        return Ok((total, 0.0, true));
    }
    let fraction = fraction(rest)?;
    Ok((whole, if negative { -fraction } else { fraction }, false))
}

fn integer(digits: &str, negative: bool) -> Result<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD_FORMAT);
    }
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    signed.parse().map_err(|_| OVERFLOW)
}

/// `.ddd`, possibly without digits.
fn fraction(text: &str) -> Result<f64> {
    match text.strip_prefix('.') {
        Some("") => Ok(0.0),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => text.parse().map_err(|_| BAD_FORMAT),
        _ => Err(BAD_FORMAT),
    }
}

/// hh:mm, hh:mm:ss, with a fraction; mm:ss.fff, and mm:ss where the type is MINUTE TO SECOND.
fn clock(text: &str, mask: i32) -> Result<i64> {
    let piece = |text: &str| -> Result<i64> { if text.is_empty() { Ok(0) } else { integer(text, false) } };
    let (whole, micros) = match text.find('.') {
        Some(point) => (&text[..point], (fraction(&text[point..])? * 1e6).round_ties_even() as i64),
        None => (text, 0),
    };
    let pieces: Vec<&str> = whole.split(':').collect();
    let (hours, minutes, seconds) = match pieces.as_slice() {
        [m, s] if text.contains('.') || mask == range::MINUTE | range::SECOND => (0, integer(m, false)?, piece(s)?),
        [h, m] => (integer(h, false)?, piece(m)?, 0),
        [h, m, s] => (integer(h, false)?, piece(m)?, piece(s)?),
        _ => return Err(BAD_FORMAT),
    };
    if minutes > 59 || seconds > 60 {
        return Err(OVERFLOW);
    }
    let rest = (minutes * 60 + seconds) * 1_000_000 + micros;
    hours.checked_mul(HOUR).and_then(|h| h.checked_add(rest)).ok_or(OVERFLOW)
}

/// ISO 8601 with designators (`P1Y2M3DT4H5M6S`) and alternative (`P0001-02-03T04:05:06`, `P00010203T040506`).
struct Iso<'a> {
    rest: &'a [u8],
    parts: Parts,
}

impl Iso<'_> {
    fn decode(s: &str) -> Result<Parts> {
        let rest = s.as_bytes().strip_prefix(b"P").filter(|rest| !rest.is_empty()).ok_or(BAD_FORMAT)?;
        let mut iso = Iso { rest, parts: Parts::default() };
        let (mut date, mut any) = (true, false);
        while let Some(&first) = iso.rest.first() {
            if first == b'T' {
                iso.rest = &iso.rest[1..];
                (date, any) = (false, false);
                continue;
            }
            let (whole, fraction, width) = iso.number()?;
            let unit = iso.next();
            let known = match (date, unit) {
                (true, b'Y') => Some(Unit::Year),
                (true, b'M') => Some(Unit::Month),
                (true, b'W') => Some(Unit::Week),
                (true, b'D') => Some(Unit::Day),
                (false, b'H') => Some(Unit::Hour),
                (false, b'M') => Some(Unit::Minute),
                (false, b'S') => Some(Unit::Second),
                _ => None,
            };
            if let Some(known) = known {
                iso.parts.add(known, whole, fraction)?;
                any = true;
                continue;
            }
            if any {
                return Err(BAD_FORMAT);
            }
            let done = match (date, unit) {
                (true, b'T' | 0 | b'-') => iso.alternative_date(whole, fraction, width, unit)?,
                (false, b':' | 0) => iso.alternative_time(whole, fraction, width, unit)?,
                _ => return Err(BAD_FORMAT),
            };
            if done {
                break;
            }
            (date, any) = (false, false);
        }
        Ok(iso.parts)
    }

    /// 0 at the end.
    fn next(&mut self) -> u8 {
        let first = self.rest.first().copied().unwrap_or(0);
        self.rest = self.rest.get(1..).unwrap_or_default();
        first
    }

    /// Whole part, fraction, number of digits before the point.
    fn number(&mut self) -> Result<(i64, f64, usize)> {
        let sign = usize::from(self.rest.first() == Some(&b'-'));
        let digits = |from: usize| self.rest[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let width = digits(sign);
        let point = self.rest.get(sign + width) == Some(&b'.');
        let decimals = if point { digits(sign + width + 1) } else { 0 };
        let length = sign + width + usize::from(point) + decimals;
        // What strtod would also take (exponents, hexadecimal, infinities) is refused.
        if width + decimals == 0 || matches!(self.rest.get(length), Some(b'e' | b'E' | b'x' | b'X')) {
            return Err(BAD_FORMAT);
        }
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        let token = std::str::from_utf8(token).map_err(|_| BAD_FORMAT)?;
        let value: f64 = token.parse().map_err(|_| BAD_FORMAT)?;
        if value.abs() > 1e15 {
            return Err(OVERFLOW);
        }
        let whole = value.trunc();
        Ok((whole as i64, value - whole, width))
    }

    /// True at the end of the text.
    fn alternative_date(&mut self, whole: i64, fraction: f64, width: usize, unit: u8) -> Result<bool> {
        if width == 8 && unit != b'-' {
            self.parts.add_years(whole / 10_000, 0.0, 1)?;
            self.parts.add_months(whole / 100 % 100, 0.0)?;
            self.parts.add_days(whole % 100, fraction, 1)?;
            return Ok(unit == 0);
        }
        self.parts.add_years(whole, fraction, 1)?;
        if unit != b'-' {
            return Ok(unit == 0);
        }
        let (months, fraction, _) = self.number()?;
        self.parts.add_months(months, fraction)?;
        match self.rest.first() {
            None => return Ok(true),
            Some(b'T') => return Ok(false),
            Some(b'-') => self.rest = &self.rest[1..],
            Some(_) => return Err(BAD_FORMAT),
        }
        let (days, fraction, _) = self.number()?;
        self.parts.add_days(days, fraction, 1)?;
        match self.rest.first() {
            None => Ok(true),
            Some(b'T') => Ok(false),
            Some(_) => Err(BAD_FORMAT),
        }
    }

    fn alternative_time(&mut self, whole: i64, fraction: f64, width: usize, unit: u8) -> Result<bool> {
        if width == 6 && unit == 0 {
            self.parts.add_micros(whole / 10_000, 0.0, HOUR)?;
            self.parts.add_micros(whole / 100 % 100, 0.0, 60_000_000)?;
            self.parts.add_micros(whole % 100, 0.0, 1_000_000)?;
            self.parts.add_fraction(fraction, 1)?;
            return Ok(true);
        }
        self.parts.add_micros(whole, fraction, HOUR)?;
        if unit == 0 {
            return Ok(true);
        }
        let (minutes, fraction, _) = self.number()?;
        self.parts.add_micros(minutes, fraction, 60_000_000)?;
        match self.rest.first() {
            None => return Ok(true),
            Some(b':') => self.rest = &self.rest[1..],
            Some(_) => return Err(BAD_FORMAT),
        }
        let (seconds, fraction, _) = self.number()?;
        self.parts.add_micros(seconds, fraction, 1_000_000)?;
        if self.rest.is_empty() { Ok(true) } else { Err(BAD_FORMAT) }
    }
}

/// The plaintext form: `P[nY][nM][nD][T[nH][nM][n[.n]S]]`, integers exact beyond what a float holds.
pub(super) fn canonical(plaintext: &[u8]) -> Option<Interval> {
    let text = std::str::from_utf8(plaintext).ok()?.strip_prefix('P')?;
    if text.bytes().any(is_space) {
        return None;
    }
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i128);
    for (number, unit) in designated(date)? {
        let value: i64 = number.parse().ok()?;
        match unit {
            b'Y' => months = months.checked_add(value.checked_mul(12)?)?,
            b'M' => months = months.checked_add(value)?,
            b'D' => days = days.checked_add(value)?,
            _ => return None,
        }
    }
    for (number, unit) in designated(time)? {
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let value: i64 = whole.parse().ok()?;
        let scale = match unit {
            b'H' if decimals.is_empty() => i128::from(HOUR),
            b'M' if decimals.is_empty() => 60_000_000,
            b'S' if decimals.len() <= 6 && decimals.bytes().all(|b| b.is_ascii_digit()) => 1_000_000,
            _ => return None,
        };
        // Each is below 2^96, and a text of so many that they overflow does not fit into memory.
        micros += i128::from(value) * scale;
        if !decimals.is_empty() {
            let fraction: i128 = format!("{decimals:0<6}").parse().ok()?;
            micros += if whole.starts_with('-') { -fraction } else { fraction };
        }
    }
    Some(Interval {
        months: i32::try_from(months).ok()?,
        days: i32::try_from(days).ok()?,
        micros: i64::try_from(micros).ok()?,
    })
}

/// `12Y-3M` → (12, Y), (-3, M).
fn designated(text: &str) -> Option<Vec<(&str, u8)>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.bytes().position(|b| b.is_ascii_alphabetic())?;
        found.push((&rest[..end], rest.as_bytes()[end]));
        rest = &rest[end + 1..];
    }
    Some(found)
}
