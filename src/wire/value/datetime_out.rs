//! date, time, timestamp, timestamptz as text, by the rules of PostgreSQL's EncodeDateOnly and EncodeDateTime.
//!
//! In: plaintext integers and the session's style. Out: text. Never: a value outside PostgreSQL's ranges.

use std::io::Write;

use super::calendar::{self, Civil, MICROS_PER_SECOND};
use super::zone::Zone;
use super::{NOT_CANONICAL, Result, ValueError};
use crate::wire::types::{DateForm, DateOrder, Style};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// MAXTZLEN.
const ABBREVIATION_MAX: usize = 10;

/// date_out.
pub(super) fn date(days: i32, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    calendar::check_date(days).map_err(|_| NOT_CANONICAL)?;
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            let civil = Civil::of_days(i64::from(days));
            match style.date_form {
                DateForm::Iso => iso_date(&civil, out),
                DateForm::Sql => delimited_date(&civil, style.date_order, b'/', out),
                DateForm::German => delimited_date(&civil, DateOrder::Dmy, b'.', out),
                DateForm::Postgres => delimited_date(&civil, style.date_order, b'-', out),
            }
            era(&civil, out);
        }
    }
    Ok(())
}

/// time_out.
pub(super) fn time(micros: i64, out: &mut Vec<u8>) -> Result<()> {
    calendar::check_time(micros).map_err(|_| NOT_CANONICAL)?;
    let mut civil = Civil::default();
    civil.set_time(micros);
    clock(&civil, out);
    Ok(())
}

/// timestamp_out.
pub(super) fn timestamp(micros: i64, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    if special(micros, out)? {
        return Ok(());
    }
    date_time(&Civil::of_timestamp(micros), None, style, out);
    Ok(())
}

/// timestamptz_out.
pub(super) fn timestamptz(micros: i64, style: &Style, out: &mut Vec<u8>) -> Result<()> {
    if special(micros, out)? {
        return Ok(());
    }
    let unknown = ValueError::new(b"22023", "the session's time zone is not in pgveil's time zone database");
    let zone = Zone::named(&style.time_zone).ok_or(unknown)?;
    let mut abbreviation = String::new();
    let offset = zone.at(micros, &mut abbreviation).ok_or(unknown)?;
    let local = micros.checked_add(i64::from(offset) * MICROS_PER_SECOND).ok_or(NOT_CANONICAL)?;
    date_time(&Civil::of_timestamp(local), Some((offset, &abbreviation)), style, out);
    Ok(())
}

fn special(micros: i64, out: &mut Vec<u8>) -> Result<bool> {
    calendar::check_timestamp(micros).map_err(|_| NOT_CANONICAL)?;
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => return Ok(false),
    }
    Ok(true)
}

fn date_time(civil: &Civil, zone: Option<(i32, &str)>, style: &Style, out: &mut Vec<u8>) {
    match style.date_form {
        DateForm::Iso => {
            iso_date(civil, out);
            out.push(b' ');
            clock(civil, out);
            if let Some((offset, _)) = zone {
                numeric_zone(offset, out);
            }
        }
        DateForm::Sql | DateForm::German => {
            if style.date_form == DateForm::Sql {
                delimited_date(civil, style.date_order, b'/', out);
            } else {
                delimited_date(civil, DateOrder::Dmy, b'.', out);
            }
            out.push(b' ');
            clock(civil, out);
            named_zone(zone, out);
        }
        DateForm::Postgres => {
            let (day, month) = (civil.day, MONTHS[civil.month as usize - 1]);
            put(out, format_args!("{} ", WEEKDAYS[civil.weekday()]));
            if style.date_order == DateOrder::Dmy {
                put(out, format_args!("{day:02} {month} "));
            } else {
                put(out, format_args!("{month} {day:02} "));
            }
            clock(civil, out);
            put(out, format_args!(" {:04}", shown_year(civil)));
            named_zone(zone, out);
        }
    }
    era(civil, out);
}

/// 1 BC is year 0.
fn shown_year(civil: &Civil) -> i32 {
    if civil.year > 0 { civil.year } else { 1 - civil.year }
}

fn iso_date(civil: &Civil, out: &mut Vec<u8>) {
    put(out, format_args!("{:04}-{:02}-{:02}", shown_year(civil), civil.month, civil.day));
}

fn delimited_date(civil: &Civil, order: DateOrder, delimiter: u8, out: &mut Vec<u8>) {
    let delimiter = char::from(delimiter);
    let (first, second) = if order == DateOrder::Dmy { (civil.day, civil.month) } else { (civil.month, civil.day) };
    put(out, format_args!("{first:02}{delimiter}{second:02}{delimiter}{:04}", shown_year(civil)));
}

fn era(civil: &Civil, out: &mut Vec<u8>) {
    if civil.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn clock(civil: &Civil, out: &mut Vec<u8>) {
    put(out, format_args!("{:02}:{:02}:{:02}", civil.hour, civil.minute, civil.second));
    if civil.micros != 0 {
        let digits = format!("{:06}", civil.micros);
        put(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

fn numeric_zone(offset: i32, out: &mut Vec<u8>) {
    let seconds = offset.abs();
    out.push(if offset >= 0 { b'+' } else { b'-' });
    put(out, format_args!("{:02}", seconds / 3600));
    if seconds % 3600 != 0 {
        put(out, format_args!(":{:02}", seconds / 60 % 60));
    }
    if seconds % 60 != 0 {
        put(out, format_args!(":{:02}", seconds % 60));
    }
}

fn named_zone(zone: Option<(i32, &str)>, out: &mut Vec<u8>) {
    if let Some((_, name)) = zone {
        out.push(b' ');
        out.extend_from_slice(&name.as_bytes()[..name.len().min(ABBREVIATION_MAX)]);
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}
