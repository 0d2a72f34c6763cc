//! date, time, timestamp, timestamptz from text, by the rules of PostgreSQL's DecodeDateTime and DecodeTimeOnly.
//!
//! In: text and the session's style. Out: days or microseconds. Never: the clock: `now`, `today` and their like are
//! refused. Where PostgreSQL 15 and 16 differ (`infinity` beside other fields, `y2001m02d04`), the input is refused.

use super::calendar::{self, Civil, MICROS_PER_SECOND};
use super::fields::{BAD_FORMAT, Field, FieldKind, Keyword, cut};
use super::zone::Zone;
use super::zone_abbreviations::{self, Abbreviation};
use super::{Result, ValueError};
use crate::wire::types::{DateOrder, Style};

const OVERFLOW: ValueError = ValueError::datetime_range("date/time field value out of range");
const ZONE_OVERFLOW: ValueError = ValueError::new(b"22009", "time zone displacement out of range");
const UNKNOWN_ZONE: ValueError = ValueError::new(b"22023", "time zone not recognized");
const CLOCK: ValueError = ValueError::new(
    b"0A000",
    "values that depend on the clock (now, today, …) cannot be sealed; send the value itself",
);
/// MAXDATELEN + 1.
const ROOM: usize = 129;

/// What has been seen (fmask); a field may come only once.
const YEAR: u16 = 1;
const MONTH: u16 = 1 << 1;
const DAY: u16 = 1 << 2;
const DAY_OF_YEAR: u16 = 1 << 3;
const TIME: u16 = 1 << 4;
const ZONE: u16 = 1 << 5;
const WEEKDAY: u16 = 1 << 6;
const MERIDIEM: u16 = 1 << 7;
const ERA: u16 = 1 << 8;
const DST: u16 = 1 << 9;
const DAYLIGHT: u16 = 1 << 10;
const DATE: u16 = YEAR | MONTH | DAY;

/// Days since 2000-01-01.
pub(super) fn date(s: &str, style: &Style) -> Result<i32> {
    match decode(s, style)? {
        Decoded::Infinity => Ok(i32::MAX),
        Decoded::MinusInfinity => Ok(i32::MIN),
        Decoded::Epoch => Ok(calendar::UNIX_EPOCH_DAYS as i32),
        Decoded::Fields(parsed) => {
            let out_of_range = ValueError::datetime_range("date out of range");
            let days = parsed.civil.days().and_then(|d| i32::try_from(d).ok()).ok_or(out_of_range)?;
            calendar::check_date(days)?;
            Ok(days)
        }
    }
}

/// Microseconds since midnight. A time zone is read and ignored.
pub(super) fn time(s: &str, style: &Style) -> Result<i64> {
    let fields = cut(s, ROOM)?;
    let mut parser = Parser::new(style, true);
    parser.run(&fields)?;
    let parsed = parser.finish()?;
    if parsed.seen & TIME == 0 || parsed.special.is_some() {
        return Err(BAD_FORMAT);
    }
    let civil = &parsed.civil;
    if civil.minute > 59 || civil.second > 60 || civil.hour > 24 || over_midnight(civil) {
        return Err(OVERFLOW);
    }
    // A zone with changing offsets means something only beside a date.
    if let Some(Offset::Zone(zone)) = &parsed.offset
        && zone.fixed_offset().is_none()
        && parsed.seen & DATE != DATE
    {
        return Err(BAD_FORMAT);
    }
    Ok(civil.time_micros())
}

/// Microseconds since 2000-01-01; a time zone is read and ignored.
pub(super) fn timestamp(s: &str, style: &Style) -> Result<i64> {
    instant(s, style, false)
}

/// Microseconds since 2000-01-01 UTC; without a time zone the session's is meant.
pub(super) fn timestamptz(s: &str, style: &Style) -> Result<i64> {
    instant(s, style, true)
}

fn instant(s: &str, style: &Style, zoned: bool) -> Result<i64> {
    let out_of_range = ValueError::datetime_range("timestamp out of range");
    let parsed = match decode(s, style)? {
        Decoded::Infinity => return Ok(i64::MAX),
        Decoded::MinusInfinity => return Ok(i64::MIN),
        Decoded::Epoch => return Ok(calendar::UNIX_EPOCH_DAYS * calendar::MICROS_PER_DAY),
        Decoded::Fields(parsed) => parsed,
    };
    let mut micros = parsed.civil.local_micros().ok_or(out_of_range)?;
    if zoned {
        let offset = parsed.offset(style)?;
        micros = micros.checked_sub(i64::from(offset) * MICROS_PER_SECOND).ok_or(out_of_range)?;
    }
    if micros == i64::MAX || micros == i64::MIN {
        return Err(out_of_range);
    }
    calendar::check_timestamp(micros)?;
    Ok(micros)
}

/// The session's zone offset for a local time (assignment of timestamp or date to timestamptz).
pub(super) fn session_offset(local: &Civil, style: &Style) -> Result<i32> {
    let zone = Zone::named(&style.time_zone).ok_or(UNKNOWN_ZONE)?;
    zone.offset_of_local(local).ok_or(ValueError::datetime_range("timestamp out of range"))
}

enum Decoded {
    Infinity,
    MinusInfinity,
    Epoch,
    Fields(Parsed),
}

fn decode(s: &str, style: &Style) -> Result<Decoded> {
    let fields = cut(s, ROOM)?;
    let mut parser = Parser::new(style, false);
    parser.run(&fields)?;
    let parsed = parser.finish()?;
    Ok(match parsed.special {
        Some(Keyword::Infinity) => Decoded::Infinity,
        Some(Keyword::MinusInfinity) => Decoded::MinusInfinity,
        Some(_) => Decoded::Epoch,
        None if parsed.seen & DATE != DATE => return Err(BAD_FORMAT),
        None => Decoded::Fields(parsed),
    })
}

enum Offset {
    Seconds(i32),
    Zone(Zone),
    Dynamic { word: String, zone: &'static str },
}

struct Parsed {
    civil: Civil,
    seen: u16,
    offset: Option<Offset>,
    special: Option<Keyword>,
}

impl Parsed {
    fn offset(&self, style: &Style) -> Result<i32> {
        let out_of_range = ValueError::datetime_range("timestamp out of range");
        match &self.offset {
            None => session_offset(&self.civil, style),
            Some(Offset::Seconds(seconds)) => Ok(*seconds),
            Some(Offset::Zone(zone)) => zone.offset_of_local(&self.civil).ok_or(out_of_range),
            Some(Offset::Dynamic { word, zone }) => {
                let zone = Zone::named(zone).ok_or(UNKNOWN_ZONE)?;
                let offset = zone.offset_of_local(&self.civil).ok_or(out_of_range)?;
                let mut name = String::new();
                let local = self.civil.local_micros().ok_or(out_of_range)?;
                let instant = local.checked_sub(i64::from(offset) * MICROS_PER_SECOND).ok_or(out_of_range)?;
                zone.at(instant, &mut name).ok_or(out_of_range)?;
                // Where the zone itself went by another name then, PostgreSQL searches its history; we refuse.
                if name.eq_ignore_ascii_case(word) || name.starts_with(['+', '-']) {
                    Ok(offset)
                } else {
                    Err(BAD_FORMAT)
                }
            }
        }
    }
}

struct Parser<'a> {
    style: &'a Style,
    time_only: bool,
    civil: Civil,
    seen: u16,
    day_of_year: i32,
    text_month: bool,
    two_digit_year: bool,
    julian: bool,
    era_bc: bool,
    afternoon: Option<bool>,
    expect: Option<Keyword>,
    offset: Option<Offset>,
    special: Option<Keyword>,
}

impl<'a> Parser<'a> {
    fn new(style: &'a Style, time_only: bool) -> Self {
        Self {
            style,
            time_only,
            civil: Civil::default(),
            seen: 0,
            day_of_year: 0,
            text_month: false,
            two_digit_year: false,
            julian: false,
            era_bc: false,
            afternoon: None,
            expect: None,
            offset: None,
            special: None,
        }
    }

    fn run(&mut self, fields: &[Field]) -> Result<()> {
        for (i, field) in fields.iter().enumerate() {
            let found = match field.kind {
                FieldKind::Date => self.date_field(fields, i)?,
                FieldKind::Time => self.time_field(&field.text)?,
                FieldKind::Signed => {
                    self.offset = Some(Offset::Seconds(numeric_offset(&field.text)?));
                    ZONE
                }
                FieldKind::Number => self.number_field(fields, i)?,
                FieldKind::Word | FieldKind::Special => match self.word(fields, i)? {
                    Some(found) => found,
                    None => continue,
                },
            };
            self.note(found)?;
        }
        if self.expect.is_some() { Err(BAD_FORMAT) } else { Ok(()) }
    }

    fn note(&mut self, found: u16) -> Result<()> {
        if self.seen & found != 0 {
            return Err(BAD_FORMAT);
        }
        self.seen |= found;
        Ok(())
    }

    fn date_field(&mut self, fields: &[Field], i: usize) -> Result<u16> {
        let text = &fields[i].text;
        let after_label = self.expect.take();
        if after_label == Some(Keyword::Julian) {
            return Err(BAD_FORMAT);
        }
        let date_wanted = if self.time_only {
            let zoned_or_timed = fields.len() >= 2
                && (fields[fields.len() - 1].kind == FieldKind::Date || fields[1].kind == FieldKind::Time);
            i == 0 && zoned_or_timed
        } else {
            self.seen & (MONTH | DAY) != MONTH | DAY
        };
        if after_label.is_none() && date_wanted {
            return self.date(text);
        }
        if after_label.is_none() && !text.starts_with(|c: char| c.is_ascii_digit()) {
            self.offset = Some(Offset::Zone(Zone::named(text).ok_or(UNKNOWN_ZONE)?));
            return Ok(ZONE);
        }
        // A run-together time with a zone at its end: hhmmss-zz.
        if self.seen & TIME != 0 {
            return Err(BAD_FORMAT);
        }
        let dash = text.find('-').ok_or(BAD_FORMAT)?;
        self.offset = Some(Offset::Seconds(numeric_offset(&text[dash..])?));
        let context = if self.time_only { self.seen | DATE } else { self.seen };
        Ok(self.run_together(&text[..dash], context)? | ZONE)
    }

    fn time_field(&mut self, text: &str) -> Result<u16> {
        // `T` before it has done its work.
        if self.expect.take_if(|k| *k == Keyword::IsoTime).is_none() && self.expect.is_some() {
            return Err(BAD_FORMAT);
        }
        self.clock(text)?;
        if !self.time_only && (self.civil.hour > 24 || over_midnight(&self.civil)) {
            return Err(OVERFLOW);
        }
        Ok(TIME)
    }

    fn number_field(&mut self, fields: &[Field], i: usize) -> Result<u16> {
        let text = &fields[i].text;
        match self.expect.take() {
            Some(Keyword::Julian) => {
                if self.time_only {
                    return Err(BAD_FORMAT);
                }
                let (day, rest) = integer(text)?;
                if !rest.is_empty() {
                    return Err(BAD_FORMAT);
                }
                (self.civil.year, self.civil.month, self.civil.day) = calendar::from_julian(i64::from(day));
                self.julian = true;
                return Ok(DATE);
            }
            Some(_) => {
                let found = self.run_together(text, self.seen | DATE)?;
                return if found == TIME { Ok(TIME) } else { Err(BAD_FORMAT) };
            }
            None => {}
        }
        let point = text.find('.');
        let context = if self.time_only { self.seen | DATE } else { self.seen };
        match point {
            Some(_)
                if self.time_only
                    && i == 0
                    && fields.len() >= 2
                    && fields[fields.len() - 1].kind == FieldKind::Date =>
            {
                self.date(text)
            }
            Some(_) if !self.time_only && self.seen & DATE == 0 => self.date(text),
            Some(at) if at > 2 => self.run_together(text, context),
            Some(_) if self.time_only => Err(BAD_FORMAT),
            None if text.len() > 4 => self.run_together(text, context),
            _ => self.number(text, context),
        }
    }

    /// `None`: a word that is skipped.
    fn word(&mut self, fields: &[Field], i: usize) -> Result<Option<u16>> {
        let text = fields[i].text.as_str();
        if let Some(meaning) = zone_abbreviations::look_up(text) {
            // Only a plain abbreviation may stand before a date with delimiters.
            let (offset, found) = match meaning {
                Abbreviation::Fixed(seconds) => (Offset::Seconds(seconds), ZONE),
                Abbreviation::Daylight(seconds) => (Offset::Seconds(seconds), ZONE | DAYLIGHT),
                Abbreviation::Zone(zone) => (Offset::Dynamic { word: text.to_owned(), zone }, ZONE | DAYLIGHT),
            };
            self.offset = Some(offset);
            return Ok(Some(found));
        }
        let Some(keyword) = Keyword::of(text) else {
            self.offset = Some(Offset::Zone(Zone::named(text).ok_or(BAD_FORMAT)?));
            return Ok(Some(ZONE));
        };
        Ok(Some(match keyword {
            Keyword::Ignored => return Ok(None),
            Keyword::Month(_) if self.time_only => return Err(BAD_FORMAT),
            Keyword::Month(month) => self.month(month),
            Keyword::Weekday if self.time_only => return Err(BAD_FORMAT),
            Keyword::Weekday => WEEKDAY,
            Keyword::Am | Keyword::Pm => {
                self.afternoon = Some(keyword == Keyword::Pm);
                MERIDIEM
            }
            Keyword::Ad | Keyword::Bc => {
                self.era_bc = keyword == Keyword::Bc;
                ERA
            }
            // `PST DST`: an hour more than the abbreviation says.
            Keyword::DstModifier => match &mut self.offset {
                Some(Offset::Seconds(seconds)) => {
                    *seconds += 3600;
                    DST
                }
                _ => return Err(BAD_FORMAT),
            },
            Keyword::Zulu => {
                self.offset = Some(Offset::Seconds(0));
                TIME | ZONE
            }
            Keyword::Epoch | Keyword::Infinity | Keyword::MinusInfinity => {
                self.special = Some(keyword);
                DATE | TIME | ZONE
            }
            Keyword::Clock => return Err(CLOCK),
            Keyword::Julian | Keyword::IsoTime => {
                let next = fields.get(i + 1).map(|f| f.kind);
                let time_next = matches!(next, Some(FieldKind::Number | FieldKind::Time | FieldKind::Date));
                let needs_date = keyword == Keyword::IsoTime && !self.time_only && self.seen & DATE != DATE;
                if self.expect.is_some() || needs_date || (keyword == Keyword::IsoTime && !time_next) {
                    return Err(BAD_FORMAT);
                }
                self.expect = Some(keyword);
                0
            }
            Keyword::Unit => return Err(BAD_FORMAT),
        }))
    }

    fn month(&mut self, month: i32) -> u16 {
        // A number came first and was taken for the month: it was the day.
        let day_first = self.seen & MONTH != 0 && !self.text_month && self.seen & DAY == 0;
        let found = if day_first && (1..=31).contains(&self.civil.month) {
            self.civil.day = self.civil.month;
            DAY
        } else {
            MONTH
        };
        self.text_month = true;
        self.civil.month = month;
        found
    }

    /// A date with delimiters (DecodeDate).
    fn date(&mut self, text: &str) -> Result<u16> {
        let mut parts = Vec::new();
        let mut rest = text.as_bytes();
        while !rest.is_empty() && parts.len() < 25 {
            while rest.first().is_some_and(|b| !b.is_ascii_alphanumeric()) {
                rest = &rest[1..];
            }
            let Some(first) = rest.first() else { return Err(BAD_FORMAT) };
            let same: fn(&u8) -> bool =
                if first.is_ascii_digit() { u8::is_ascii_digit } else { u8::is_ascii_alphabetic };
            let length = rest.iter().position(|b| !same(b)).unwrap_or(rest.len());
            parts.push(std::str::from_utf8(&rest[..length]).map_err(|_| BAD_FORMAT)?);
            // The byte after a run is a delimiter, whatever it is.
            rest = &rest[(length + 1).min(rest.len())..];
        }
        let (mut seen, mut found) = (self.seen, 0);
        let mut text_month = false;
        for part in parts.iter().filter(|p| p.as_bytes()[0].is_ascii_alphabetic()) {
            match Keyword::of(part) {
                Some(Keyword::Ignored) => continue,
                Some(Keyword::Month(month)) if zone_abbreviations::look_up(part).is_none() => self.civil.month = month,
                _ => return Err(BAD_FORMAT),
            }
            if seen & MONTH != 0 {
                return Err(BAD_FORMAT);
            }
            text_month = true;
            (seen, found) = (seen | MONTH, found | MONTH);
        }
        for part in parts.iter().filter(|p| p.as_bytes()[0].is_ascii_digit()) {
            let outer = std::mem::replace(&mut self.text_month, text_month);
            let one = self.number(part, seen);
            self.text_month = outer;
            let one = one?;
            if seen & one != 0 {
                return Err(BAD_FORMAT);
            }
            (seen, found) = (seen | one, found | one);
        }
        if seen & !(DAY_OF_YEAR | ZONE) != DATE {
            return Err(BAD_FORMAT);
        }
        Ok(found)
    }

    /// One number; what came before says what it is (DecodeNumber).
    fn number(&mut self, text: &str, seen: u16) -> Result<u16> {
        let (value, rest) = integer(text)?;
        if rest.starts_with('.') {
            if text.len() - rest.len() > 2 {
                return self.run_together(text, seen | DATE);
            }
            self.civil.micros = fraction(rest)?;
        } else if !rest.is_empty() {
            return Err(BAD_FORMAT);
        }
        if text.len() == 3 && seen & DATE == YEAR && (1..=366).contains(&value) {
            self.day_of_year = value;
            return Ok(DAY_OF_YEAR | MONTH | DAY);
        }
        let long = text.len() >= 3;
        let order = self.style.date_order;
        let field = match seen & DATE {
            0 if long || order == DateOrder::Ymd => YEAR,
            0 if order == DateOrder::Dmy => DAY,
            0 => MONTH,
            YEAR => MONTH,
            MONTH if self.text_month && (long || order == DateOrder::Ymd) => YEAR,
            MONTH => DAY,
            bits if bits == YEAR | MONTH => {
                if self.text_month && long && self.two_digit_year {
                    // DD-MON-YYYY in YMD order: the first number was the day after all.
                    self.civil.day = self.civil.year;
                    self.civil.year = value;
                    self.two_digit_year = false;
                    return Ok(DAY);
                }
                DAY
            }
            DAY => MONTH,
            bits if bits == MONTH | DAY => YEAR,
            DATE => return self.run_together(text, seen),
            _ => return Err(BAD_FORMAT),
        };
        match field {
            YEAR => {
                self.civil.year = value;
                self.two_digit_year = text.len() <= 2;
            }
            MONTH => self.civil.month = value,
            _ => self.civil.day = value,
        }
        Ok(field)
    }

    /// yyyymmdd, yymmdd, hhmmss, hhmm (DecodeNumberField).
    fn run_together(&mut self, text: &str, seen: u16) -> Result<u16> {
        let mut digits = text;
        if let Some(point) = text.find('.') {
            self.civil.micros = fraction(&text[point..])?;
            digits = &text[..point];
        } else if seen & DATE != DATE && digits.len() >= 6 {
            let (year, month_day) = digits.split_at(digits.len() - 4);
            if year.len() > 9 {
                return Err(OVERFLOW);
            }
            self.civil.year = plain(year)?;
            self.civil.month = plain(&month_day[..2])?;
            self.civil.day = plain(&month_day[2..])?;
            if year.len() == 2 {
                self.two_digit_year = true;
            }
            return Ok(DATE);
        }
        if seen & TIME != 0 || !matches!(digits.len(), 4 | 6) {
            return Err(BAD_FORMAT);
        }
        self.civil.hour = plain(&digits[..2])?;
        self.civil.minute = plain(&digits[2..4])?;
        self.civil.second = if digits.len() == 6 { plain(&digits[4..])? } else { 0 };
        Ok(TIME)
    }

    /// hh:mm, hh:mm:ss, with a fraction; mm:ss.fff (DecodeTime).
    fn clock(&mut self, text: &str) -> Result<()> {
        let civil = &mut self.civil;
        let (hour, rest) = integer(text)?;
        let (minute, rest) = integer_or_zero(rest.strip_prefix(':').ok_or(BAD_FORMAT)?)?;
        (civil.hour, civil.minute, civil.second, civil.micros) = (hour, minute, 0, 0);
        if rest.starts_with('.') {
            civil.micros = fraction(rest)?;
            (civil.hour, civil.minute, civil.second) = (0, hour, minute);
        } else if let Some(rest) = rest.strip_prefix(':') {
            let (second, rest) = integer_or_zero(rest)?;
            civil.second = second;
            if !rest.is_empty() {
                civil.micros = fraction(rest)?;
            }
        } else if !rest.is_empty() {
            return Err(BAD_FORMAT);
        }
        if civil.minute > 59 || civil.second > 60 { Err(OVERFLOW) } else { Ok(()) }
    }

    /// Year adjustments, day of year, validity, AM and PM (ValidateDate and the end of DecodeDateTime).
    fn finish(mut self) -> Result<Parsed> {
        let civil = &mut self.civil;
        if self.special.is_some() {
            return Ok(Parsed { civil: *civil, seen: self.seen, offset: self.offset, special: self.special });
        }
        if self.seen & YEAR != 0 && !self.julian {
            if self.era_bc {
                if civil.year <= 0 {
                    return Err(OVERFLOW);
                }
                civil.year = 1 - civil.year;
            } else if self.two_digit_year {
                civil.year += match civil.year {
                    ..70 => 2000,
                    70..100 => 1900,
                    _ => 0,
                };
            } else if civil.year <= 0 {
                return Err(OVERFLOW);
            }
        }
        if self.seen & DAY_OF_YEAR != 0 {
            if !(-4712..5_874_898).contains(&civil.year) {
                return Err(OVERFLOW);
            }
            let day = calendar::julian(civil.year, 1, 1) + i64::from(self.day_of_year) - 1;
            (civil.year, civil.month, civil.day) = calendar::from_julian(day);
        }
        let month_bad = self.seen & MONTH != 0 && !(1..=12).contains(&civil.month);
        let day_bad = self.seen & DAY != 0 && !(1..=31).contains(&civil.day);
        if month_bad || day_bad {
            return Err(OVERFLOW);
        }
        if self.seen & DATE == DATE && civil.day > calendar::month_length(civil.year, civil.month) {
            return Err(OVERFLOW);
        }
        match self.afternoon {
            Some(_) if civil.hour > 12 => return Err(OVERFLOW),
            Some(false) if civil.hour == 12 => civil.hour = 0,
            Some(true) if civil.hour != 12 => civil.hour += 12,
            _ => {}
        }
        if self.seen & DST != 0 && self.seen & ZONE == 0 {
            return Err(BAD_FORMAT);
        }
        Ok(Parsed { civil: *civil, seen: self.seen, offset: self.offset, special: None })
    }
}

fn over_midnight(civil: &Civil) -> bool {
    civil.hour == 24 && (civil.minute > 0 || civil.second > 0 || civil.micros > 0)
}

/// Leading digits as an i32, and what follows them.
fn integer(text: &str) -> Result<(i32, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Err(BAD_FORMAT);
    }
    Ok((text[..end].parse().map_err(|_| OVERFLOW)?, &text[end..]))
}

/// Likewise, but no digits are 0, as C's strtol has it.
fn integer_or_zero(text: &str) -> Result<(i32, &str)> {
    if text.starts_with(|c: char| c.is_ascii_digit()) { integer(text) } else { Ok((0, text)) }
}

fn plain(digits: &str) -> Result<i32> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().map_err(|_| BAD_FORMAT) } else { Err(BAD_FORMAT) }
}

/// `.ddd` in microseconds, half to even on the double, as PostgreSQL rounds it.
fn fraction(text: &str) -> Result<i32> {
    match text.strip_prefix('.') {
        Some("") => Ok(0),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let value: f64 = text.parse().map_err(|_| BAD_FORMAT)?;
            Ok((value * 1e6).round_ties_even() as i32)
        }
        _ => Err(BAD_FORMAT),
    }
}

/// `±h`, `±hh`, `±hhmm`, `±hh:mm`, `±hh:mm:ss`, in seconds east (DecodeTimezone).
pub(super) fn numeric_offset(text: &str) -> Result<i32> {
    let negative = match text.as_bytes().first() {
        Some(b'-') => true,
        Some(b'+') => false,
        _ => return Err(BAD_FORMAT),
    };
    let overflow = |_| ZONE_OVERFLOW;
    let (mut hours, rest) = integer(&text[1..]).map_err(overflow)?;
    let (mut minutes, mut seconds, mut tail) = (0, 0, rest);
    if let Some(rest) = rest.strip_prefix(':') {
        (minutes, tail) = integer_or_zero(rest).map_err(overflow)?;
        if let Some(rest) = tail.strip_prefix(':') {
            (seconds, tail) = integer_or_zero(rest).map_err(overflow)?;
        }
    } else if rest.is_empty() && text.len() > 3 {
        (hours, minutes) = (hours / 100, hours % 100);
    }
    if hours > 15 || minutes >= 60 || seconds >= 60 {
        return Err(ZONE_OVERFLOW);
    }
    if !tail.is_empty() {
        return Err(BAD_FORMAT);
    }
    let total = (hours * 60 + minutes) * 60 + seconds;
    Ok(if negative { -total } else { total })
}
