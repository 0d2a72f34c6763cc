//! Date and time text → fields, as PostgreSQL's ParseDateTime cuts it, and the words it knows.
//!
//! In: text. Out: lower-cased fields with their kinds. Never: a meaning (datetime_in and interval give that).

use super::text::is_space;
use super::{Result, ValueError};

/// What a field looks like (the DTK_ types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    /// Digits, possibly with a decimal point.
    Number,
    /// Digits and two delimiters, or digits and text; also zone names with punctuation.
    Date,
    /// Digits, colons, possibly a decimal point.
    Time,
    /// Letters.
    Word,
    /// A sign followed by letters.
    Special,
    /// A sign followed by digits (and `:`, `.`, `-`).
    Signed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) kind: FieldKind,
    pub(super) text: String,
}

pub(super) const BAD_FORMAT: ValueError = ValueError::datetime("invalid input syntax for a date/time type");

const FIELDS_MAX: usize = 25;

struct Cutter<'a> {
    rest: &'a [u8],
    /// Bytes of PostgreSQL's work buffer still free.
    room: usize,
    field: String,
}

impl Cutter<'_> {
    fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or(0)
    }

    fn take(&mut self) -> Result<()> {
        if self.room < 2 {
            return Err(BAD_FORMAT);
        }
        self.room -= 1;
        self.field.push(char::from(self.peek().to_ascii_lowercase()));
        self.rest = &self.rest[1..];
        Ok(())
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> Result<()> {
        while !self.rest.is_empty() && wanted(self.peek()) {
            self.take()?;
        }
        Ok(())
    }

    /// A field that begins with a digit.
    fn number(&mut self) -> Result<FieldKind> {
        self.take_while(|b| b.is_ascii_digit())?;
        match self.peek() {
            b':' => {
                self.take()?;
                self.take_while(|b| b.is_ascii_digit() || b == b':' || b == b'.')?;
                Ok(FieldKind::Time)
            }
            delimiter @ (b'-' | b'/' | b'.') => {
                self.take()?;
                if !self.peek().is_ascii_digit() {
                    self.take_while(|b| b.is_ascii_alphanumeric() || b == delimiter)?;
                    return Ok(FieldKind::Date);
                }
                self.take_while(|b| b.is_ascii_digit())?;
                if self.peek() == delimiter {
                    self.take_while(|b| b.is_ascii_digit() || b == delimiter)?;
                    return Ok(FieldKind::Date);
                }
                Ok(if delimiter == b'.' { FieldKind::Number } else { FieldKind::Date })
            }
            _ => Ok(FieldKind::Number),
        }
    }

    /// A field that begins with a letter.
    fn word(&mut self) -> Result<FieldKind> {
        self.take_while(|b| b.is_ascii_alphabetic())?;
        let date = match self.peek() {
            b'-' | b'/' | b'.' => true,
            b'+' | b'0'..=b'9' => Keyword::of(&self.field).is_none(),
            _ => false,
        };
        if !date {
            return Ok(FieldKind::Word);
        }
        self.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'/' | b'_' | b'.' | b':'))?;
        Ok(FieldKind::Date)
    }

    /// A field that begins with a sign.
    fn signed(&mut self) -> Result<FieldKind> {
        self.take()?;
        while !self.rest.is_empty() && is_space(self.peek()) {
            self.rest = &self.rest[1..];
        }
        if self.peek().is_ascii_digit() {
            self.take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-'))?;
            Ok(FieldKind::Signed)
        } else if self.peek().is_ascii_alphabetic() {
            self.take_while(|b| b.is_ascii_alphabetic())?;
            Ok(FieldKind::Special)
        } else {
            Err(BAD_FORMAT)
        }
    }
}

/// Cuts `s`; `room` is the size of PostgreSQL's work buffer, which limits what it accepts.
pub(super) fn cut(s: &str, room: usize) -> Result<Vec<Field>> {
    let mut cutter = Cutter { rest: s.as_bytes(), room, field: String::new() };
    let mut fields = Vec::new();
    while !cutter.rest.is_empty() {
        let first = cutter.peek();
        if is_space(first) {
            cutter.rest = &cutter.rest[1..];
            continue;
        }
        if fields.len() >= FIELDS_MAX {
            return Err(BAD_FORMAT);
        }
        let kind = match first {
            b'0'..=b'9' => cutter.number()?,
            b'.' => {
                cutter.take()?;
                cutter.take_while(|b| b.is_ascii_digit())?;
                FieldKind::Number
            }
            b if b.is_ascii_alphabetic() => cutter.word()?,
            b'+' | b'-' => cutter.signed()?,
            b if b.is_ascii_punctuation() => {
                cutter.rest = &cutter.rest[1..];
                continue;
            }
            _ => return Err(BAD_FORMAT),
        };
        cutter.room = cutter.room.saturating_sub(1);
        fields.push(Field { kind, text: std::mem::take(&mut cutter.field) });
    }
    Ok(fields)
}

/// A word of PostgreSQL's date token table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Month(i32),
    Weekday,
    Am,
    Pm,
    Ad,
    Bc,
    /// `at`, `on`.
    Ignored,
    /// The number that follows is a Julian day.
    Julian,
    /// `T` between date and time.
    IsoTime,
    /// `dst` after a zone abbreviation.
    DstModifier,
    Epoch,
    Infinity,
    MinusInfinity,
    /// `allballs`: 00:00:00 UTC.
    Zulu,
    /// `now`, `today`, `tomorrow`, `yesterday`.
    Clock,
    /// Units, meaningless in a date since PostgreSQL 16.
    Unit,
}

impl Keyword {
    /// The meaning of a lower-case word.
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "jan" | "january" => Self::Month(1),
            "feb" | "february" => Self::Month(2),
            "mar" | "march" => Self::Month(3),
            "apr" | "april" => Self::Month(4),
            "may" => Self::Month(5),
            "jun" | "june" => Self::Month(6),
            "jul" | "july" => Self::Month(7),
            "aug" | "august" => Self::Month(8),
            "sep" | "sept" | "september" => Self::Month(9),
            "oct" | "october" => Self::Month(10),
            "nov" | "november" => Self::Month(11),
            "dec" | "december" => Self::Month(12),
            "sun" | "sunday" | "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "weds" | "wednesday" | "thu"
            | "thur" | "thurs" | "thursday" | "fri" | "friday" | "sat" | "saturday" => Self::Weekday,
            "am" => Self::Am,
            "pm" => Self::Pm,
            "ad" => Self::Ad,
            "bc" => Self::Bc,
            "at" | "on" => Self::Ignored,
            "j" | "jd" | "julian" => Self::Julian,
            "t" => Self::IsoTime,
            "dst" => Self::DstModifier,
            "epoch" => Self::Epoch,
            "infinity" => Self::Infinity,
            "-infinity" => Self::MinusInfinity,
            "allballs" => Self::Zulu,
            "now" | "today" | "tomorrow" | "yesterday" => Self::Clock,
            "d" | "dow" | "doy" | "h" | "isodow" | "isoyear" | "m" | "mm" | "s" | "y" => Self::Unit,
            _ => return None,
        })
    }
}
