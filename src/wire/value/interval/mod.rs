//! interval: the three fields, the type modifier, the plaintext and the four output styles.
//!
//! In: text (see `parse`), binary, plaintext. Out: the same. Never: PostgreSQL 17's infinite intervals, which 15 and 16
//! would read as other values.

mod parse;
pub(super) mod range;

use std::io::Write;

use super::{NOT_CANONICAL, Result, ValueError, fixed};
use crate::wire::types::IntervalForm;

const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;
const SECOND: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) months: i32,
    pub(super) days: i32,
    pub(super) micros: i64,
}

/// The fields as they are printed (interval2itm); each has the sign of its group.
struct Shown {
    years: i32,
    months: i32,
    days: i32,
    hours: i64,
    minutes: i64,
    seconds: i64,
    micros: i64,
}

impl Interval {
    /// interval_recv.
    pub(super) fn receive(bytes: &[u8]) -> Result<Self> {
        let bytes: [u8; 16] = fixed(bytes)?;
        let (micros, rest) = bytes.split_at(8);
        let (days, months) = rest.split_at(4);
        let interval = Self { months: int4(months), days: int4(days), micros: int8(micros) };
        let infinite = Self { months: i32::MAX, days: i32::MAX, micros: i64::MAX };
        let minus_infinite = Self { months: i32::MIN, days: i32::MIN, micros: i64::MIN };
        if interval == infinite || interval == minus_infinite {
            return Err(ValueError::datetime_range("infinite intervals cannot be sealed"));
        }
        Ok(interval)
    }

    /// interval_send, appended.
    pub(super) fn send(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.micros.to_be_bytes());
        out.extend_from_slice(&self.days.to_be_bytes());
        out.extend_from_slice(&self.months.to_be_bytes());
    }

    /// The plaintext, appended.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        self.print(IntervalForm::Iso8601, out);
    }

    /// The value in a plaintext: exactly what [`Interval::put`] writes.
    pub(super) fn plain(plaintext: &[u8]) -> Result<Self> {
        let interval = parse::canonical(plaintext).ok_or(NOT_CANONICAL)?;
        let mut again = Vec::with_capacity(plaintext.len());
        interval.put(&mut again);
        if again == plaintext { Ok(interval) } else { Err(NOT_CANONICAL) }
    }

    /// Fields and precision of a declared type (AdjustIntervalForTypmod).
    pub(super) fn fit(mut self, typmod: i32) -> Result<Self> {
        if typmod < 0 {
            return Ok(self);
        }
        let (mask, precision) = (typmod >> 16 & range::FULL, typmod & range::FULL_PRECISION);
        if mask != range::FULL {
            let lowest = range::lowest(mask);
            if lowest == range::YEAR {
                self.months = self.months / 12 * 12;
            }
            if matches!(lowest, range::YEAR | range::MONTH) {
                self.days = 0;
            }
            match lowest {
                range::YEAR | range::MONTH | range::DAY => self.micros = 0,
                range::HOUR => self.micros = self.micros / HOUR * HOUR,
                range::MINUTE => self.micros = self.micros / MINUTE * MINUTE,
                _ => {}
            }
        }
        if let Ok(decimals @ 0..6) = u32::try_from(precision) {
            let scale = 10_i64.pow(6 - decimals);
            let half = if self.micros >= 0 { scale / 2 } else { -(scale / 2) };
            let out_of_range = ValueError::datetime_range("interval out of range");
            self.micros = self.micros.checked_add(half).ok_or(out_of_range)? / scale * scale;
        }
        Ok(self)
    }

    fn shown(self) -> Shown {
        Shown {
            years: self.months / 12,
            months: self.months % 12,
            days: self.days,
            hours: self.micros / HOUR,
            minutes: self.micros % HOUR / MINUTE,
            seconds: self.micros % MINUTE / SECOND,
            micros: self.micros % SECOND,
        }
    }

    /// interval_out, appended.
    pub(super) fn print(self, form: IntervalForm, out: &mut Vec<u8>) {
        let shown = self.shown();
        match form {
            IntervalForm::Postgres => self.print_postgres(&shown, out),
            IntervalForm::PostgresVerbose => self.print_verbose(&shown, out),
            IntervalForm::SqlStandard => self.print_sql(&shown, out),
            IntervalForm::Iso8601 => self.print_iso(&shown, out),
        }
    }

    fn print_postgres(self, shown: &Shown, out: &mut Vec<u8>) {
        let (mut empty, mut after_negative) = (true, false);
        for (value, unit) in [(shown.years, "year"), (shown.months, "mon"), (shown.days, "day")] {
            if value != 0 {
                let space = if empty { "" } else { " " };
                let sign = if after_negative && value > 0 { "+" } else { "" };
                let plural = if value == 1 { "" } else { "s" };
                put(out, format_args!("{space}{sign}{value} {unit}{plural}"));
                (empty, after_negative) = (false, value < 0);
            }
        }
        if empty || self.micros != 0 {
            let space = if empty { "" } else { " " };
            let sign = match self.micros {
                ..0 => "-",
                _ if after_negative => "+",
                _ => "",
            };
            put(out, format_args!("{space}{sign}{:02}:{:02}:", shown.hours.abs(), shown.minutes.abs()));
            seconds(shown, true, out);
        }
    }

    fn print_verbose(self, shown: &Shown, out: &mut Vec<u8>) {
        let (mut empty, mut ago) = (true, false);
        out.push(b'@');
        for (value, unit) in [
            (i64::from(shown.years), "year"),
            (i64::from(shown.months), "mon"),
            (i64::from(shown.days), "day"),
            (shown.hours, "hour"),
            (shown.minutes, "min"),
        ] {
            if value != 0 {
                if empty {
                    ago = value < 0;
                }
                let value = if ago { -value } else { value };
                let plural = if value == 1 { "" } else { "s" };
                put(out, format_args!(" {value} {unit}{plural}"));
                empty = false;
            }
        }
        if shown.seconds != 0 || shown.micros != 0 {
            out.push(b' ');
            if shown.seconds < 0 || (shown.seconds == 0 && shown.micros < 0) {
                if empty {
                    ago = true;
                } else if !ago {
                    out.push(b'-');
                }
            } else if ago {
                out.push(b'-');
            }
            seconds(shown, false, out);
            let singular = shown.seconds.abs() == 1 && shown.micros == 0;
            out.extend_from_slice(if singular { b" sec" } else { b" secs" });
            empty = false;
        }
        if empty {
            out.extend_from_slice(b" 0");
        }
        if ago {
            out.extend_from_slice(b" ago");
        }
    }

    fn print_sql(self, shown: &Shown, out: &mut Vec<u8>) {
        let negative = self.months < 0 || self.days < 0 || self.micros < 0;
        let positive = self.months > 0 || self.days > 0 || self.micros > 0;
        let both_groups = self.months != 0 && (self.days != 0 || self.micros != 0);
        let (years, months, days) =
            (shown.years.unsigned_abs(), shown.months.unsigned_abs(), shown.days.unsigned_abs());
        let (hours, minutes) = (shown.hours.unsigned_abs(), shown.minutes.unsigned_abs());
        if !negative && !positive {
            out.push(b'0');
            return;
        }
        if (negative && positive) || both_groups {
            let sign = |negative: bool| if negative { '-' } else { '+' };
            let (a, b, c) = (sign(self.months < 0), sign(self.days < 0), sign(self.micros < 0));
            put(out, format_args!("{a}{years}-{months} {b}{days} {c}{hours}:{minutes:02}:"));
            seconds(shown, true, out);
            return;
        }
        if negative {
            out.push(b'-');
        }
        if self.months != 0 {
            put(out, format_args!("{years}-{months}"));
            return;
        }
        if self.days != 0 {
            put(out, format_args!("{days} "));
        }
        put(out, format_args!("{hours}:{minutes:02}:"));
        seconds(shown, true, out);
    }

    fn print_iso(self, shown: &Shown, out: &mut Vec<u8>) {
        if self == Self::default() {
            out.extend_from_slice(b"PT0S");
            return;
        }
        out.push(b'P');
        for (value, unit) in [(shown.years, 'Y'), (shown.months, 'M'), (shown.days, 'D')] {
            if value != 0 {
                put(out, format_args!("{value}{unit}"));
            }
        }
        if self.micros != 0 {
            out.push(b'T');
        }
        for (value, unit) in [(shown.hours, 'H'), (shown.minutes, 'M')] {
            if value != 0 {
                put(out, format_args!("{value}{unit}"));
            }
        }
        if shown.seconds != 0 || shown.micros != 0 {
            if shown.seconds < 0 || shown.micros < 0 {
                out.push(b'-');
            }
            seconds(shown, false, out);
            out.push(b'S');
        }
    }
}

/// Seconds without sign and with the fraction that is needed (AppendSeconds).
fn seconds(shown: &Shown, two_digits: bool, out: &mut Vec<u8>) {
    let (whole, micros) = (shown.seconds.abs(), shown.micros.abs());
    if two_digits {
        put(out, format_args!("{whole:02}"));
    } else {
        put(out, format_args!("{whole}"));
    }
    if micros != 0 {
        let digits = format!("{micros:06}");
        put(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn int4(bytes: &[u8]) -> i32 {
    bytes.iter().fold(0, |value, &byte| value << 8 | i32::from(byte))
}

fn int8(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | i64::from(byte))
}
