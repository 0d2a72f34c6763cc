//! Pure mask functions: the founding documents' formats byte for byte, NULL stays NULL.
//!
//! In: a value's text. Out: the masked text. Never: keys, policy.
//!
//! What these formats give away is their nature, and `pgveil check` says so: `email`, `name`, `partial` and `last4` keep
//! lengths; `email` keeps the first letter and the top-level domain, so that of `a@x.com` only the `x` is hidden; `name`
//! keeps a name of one letter whole. Where that matters the policy says `null`, `fixed` or `remove`.
//!
//! Every mask also exists as SQL for lenses ([`sql`]); `tests/masks.rs` holds both to the same answers.

mod general;
pub mod sql;

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::event::Pseudonym;
use crate::wire::types::{Format, Kind, SqlType, Style};
use crate::wire::value;
use general::Unit;

/// The mask of a column (vectors in `tests/vectors/masks.tsv`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the policy's")]
pub enum Mask {
    Email,
    Phone,
    Name,
    Date,
    DateHidden,
    Id,
    Remove,
    Null,
    Fixed(Arc<str>),
    Partial {
        keep_start: u16,
        keep_end: u16,
    },
    Last4,
    Year,
    Month,
    Decade,
    /// The multiple of this number below the value.
    Bucket(NonZeroU32),
    /// Up to this many units more or less (days for dates), for plaintext columns in lenses only.
    Noise(NonZeroU32),
}

/// The masked form of `text`, the value of a column of `kind` as PostgreSQL prints it in ISO style.
///
/// `None`: the mask has no value of that type, and the client gets NULL. What is returned always reads as a value of
/// `kind`: only text and varchar take the starred forms (`1985-**-**` is not a date); a fixed text stands for another
/// kind if it is one of its values. The generalising masks keep dates and numbers what they are: `year`, `month` and
/// `decade` give the first day at 00:00:00 (a timestamptz's in UTC), `bucket` the multiple below; infinity, NaN, years
/// before 1, and what would leave the type's range have none. [`Mask::Id`] needs a key: see [`apply_id`];
/// [`Mask::Noise`] is not made here.
pub fn apply(mask: &Mask, kind: Kind, text: &str) -> Option<String> {
    match mask {
        Mask::Fixed(fixed) => return reads_as(kind, fixed).then(|| fixed.to_string()),
        Mask::Year => return general::start_of(Unit::Year, kind, text),
        Mask::Month => return general::start_of(Unit::Month, kind, text),
        Mask::Decade => return general::start_of(Unit::Decade, kind, text),
        Mask::Bucket(size) => return general::bucket(*size, kind, text),
        _ if !kind.is_text() => return None,
        _ => {}
    }
    match mask {
        Mask::Email => Some(email(text)),
        Mask::Phone => Some(phone(text)),
        Mask::Name => Some(name(text)),
        Mask::Date => Some(date(text, true)),
        Mask::DateHidden => Some(date(text, false)),
        Mask::Partial { keep_start, keep_end } => Some(partial(text, usize::from(*keep_start), usize::from(*keep_end))),
        Mask::Last4 => Some(partial(text, 0, 4)),
        _ => None,
    }
}

/// The pseudonym of an id: `anon_` and 32 hex digits for text, a UUID of version 8 (RFC 9562) for uuid, else `None`.
///
/// The pseudonym is keyed, over the value (the keyring makes it): equal ids stay equal, the empty one too, and nobody
/// without the key can enumerate them.
pub fn apply_id(kind: Kind, pseudonym: Pseudonym) -> Option<String> {
    match kind {
        Kind::Text | Kind::Varchar => Some(format!("anon_{pseudonym}")),
        Kind::Uuid => {
            let bits = pseudonym.0 & !(0xf << 76) & !(0b11 << 62) | 8 << 76 | 0b10 << 62;
            let digits = format!("{bits:032x}");
            let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
            Some(format!("{a}-{b}-{c}-{d}-{e}"))
        }
        _ => None,
    }
}

fn reads_as(kind: Kind, text: &str) -> bool {
    let ty = SqlType { kind, typmod: -1 };
    value::decode(ty, Format::Text, text.as_bytes(), &Style::default(), &mut Vec::new()).is_ok()
}

fn stars(count: usize) -> String {
    "*".repeat(count)
}

/// The first character, then a star for each other.
fn initial(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(String::from).unwrap_or_default();
    first + &stars(chars.count())
}

/// `j*******@*******.com`: everything up to the first `@` is the local part, the first and last label of the rest count.
fn email(text: &str) -> String {
    match text.split_once('@') {
        Some((local, domain)) if !local.is_empty() => {
            let first_label = domain.split('.').next().unwrap_or_default().chars().count();
            let top_level = domain.rsplit_once('.').map(|(_, last)| format!(".{last}")).unwrap_or_default();
            format!("{}@{}{top_level}", initial(local), stars(first_label))
        }
        _ => "anonymous@example.com".to_owned(),
    }
}

/// `+**-***-***-**67`: the last two of at least ten digits.
fn phone(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        count @ 10.. => format!("+**-***-***-**{}", &digits[count - 2..]),
        _ => "***-***-****".to_owned(),
    }
}

/// `J*** D**`: words with their first letter.
fn name(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(initial).collect();
    if words.is_empty() { "Anonymous User".to_owned() } else { words.join(" ") }
}

/// `1985-**-**` of an ISO 8601 date or date and time; what is not one, or a hidden year, is `****-**-**`.
fn date(text: &str, preserve_year: bool) -> String {
    match iso_year(text) {
        Some(year) if preserve_year => format!("{year}-**-**"),
        _ => "****-**-**".to_owned(),
    }
}

/// The four digits of the year, if the whole text is a day that exists, `YYYY-MM-DD` or `YYYYMMDD` of the years 0001 to
/// 9999, alone or followed by `T` or a space and `HH[:MM[:SS[.f…]]]`, then by `Z`, `±HH[:MM[:SS]]` or nothing.
fn iso_year(text: &str) -> Option<&str> {
    let extended = text.as_bytes().get(4) == Some(&b'-');
    let (date, rest) = text.as_bytes().split_at_checked(if extended { 10 } else { 8 })?;
    let (year, month, day) = match *date {
        [ref year @ .., b'-', m1, m2, b'-', d1, d2] if extended => (year, [m1, m2], [d1, d2]),
        [ref year @ .., m1, m2, d1, d2] if !extended => (year, [m1, m2], [d1, d2]),
        _ => return None,
    };
    let (number, month, day) = (digits(year)?, digits(&month)?, digits(&day)?);
    let leap = number % 4 == 0 && (number % 100 != 0 || number % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (number > 0 && (1..=days).contains(&day) && (rest.is_empty() || is_time(rest))).then_some(())?;
    text.get(..4)
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

/// `T` or a space, a time of day, and at most an offset.
fn is_time(bytes: &[u8]) -> bool {
    let [b'T' | b' ', clock @ ..] = bytes else { return false };
    let Some((mut rest, seconds)) = clock_fields(clock) else { return false };
    if let (true, [b'.', fraction @ ..]) = (seconds, rest) {
        let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    match rest {
        [] | [b'Z'] => true,
        [b'+' | b'-', offset @ ..] => clock_fields(offset).is_some_and(|(rest, _)| rest.is_empty()),
        _ => false,
    }
}

/// What follows `HH[:MM[:SS]]`, and whether the seconds were there.
fn clock_fields(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let field = |bytes: &'_ [u8], below| {
        let (field, rest) = bytes.split_at_checked(2)?;
        (digits(field)? < below).then_some(rest.len())
    };
    let tail = |length: usize| &bytes[bytes.len() - length..];
    let mut rest = tail(field(bytes, 24)?);
    for last in [false, true] {
        let [b':', next @ ..] = rest else { return Some((rest, false)) };
        rest = tail(field(next, 60)?);
        if last {
            return Some((rest, true));
        }
    }
    None
}

/// The first and last characters, stars between; a value that would be shown whole is starred whole.
fn partial(text: &str, keep_start: usize, keep_end: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= keep_start + keep_end {
        return stars(chars.len());
    }
    let end = chars.len() - keep_end;
    chars.iter().enumerate().map(|(i, c)| if i < keep_start || i >= end { *c } else { '*' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_founding_documents_formats() {
        let vectors = include_str!("../../tests/vectors/masks.tsv");
        let mut seen = 0;
        for line in vectors.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let cells: Vec<&str> = line.split('\t').collect();
            let text = |cell: &str| if cell == "\"\"" { String::new() } else { cell.to_owned() };
            let mask = match cells[0] {
                "email" => Mask::Email,
                "phone" => Mask::Phone,
                "name" => Mask::Name,
                "date" => Mask::Date,
                "date_hidden" => Mask::DateHidden,
                other => panic!("no mask {other}"),
            };
            assert_eq!(apply(&mask, Kind::Text, &text(cells[1])), Some(text(cells[2])), "{line}");
            seen += 1;
        }
        assert_eq!(seen, 35);
    }

    #[test]
    fn a_masked_value_is_of_its_columns_type_or_null() {
        assert_eq!(apply(&Mask::Date, Kind::Date, "1985-07-23"), None);
        assert_eq!(apply(&Mask::Email, Kind::Jsonb, "\"a@b.c\""), None);
        assert_eq!(apply(&Mask::Fixed("0".into()), Kind::Int4, "17"), Some("0".into()));
        assert_eq!(apply(&Mask::Fixed("hidden".into()), Kind::Int4, "17"), None);
        assert_eq!(apply(&Mask::Fixed("hidden".into()), Kind::Text, "17"), Some("hidden".into()));
        assert_eq!(apply(&Mask::Fixed("1900-01-01".into()), Kind::Date, "1985-07-23"), Some("1900-01-01".into()));
        assert_eq!(apply(&Mask::Null, Kind::Text, "a"), None);
        assert_eq!(apply(&Mask::Remove, Kind::Text, "a"), None);
    }

    #[test]
    fn partial_never_shows_everything() {
        let mask = Mask::Partial { keep_start: 2, keep_end: 1 };
        assert_eq!(apply(&mask, Kind::Text, "abcdé").unwrap(), "ab**é");
        assert_eq!(apply(&mask, Kind::Text, "abc").unwrap(), "***");
        assert_eq!(apply(&Mask::Last4, Kind::Text, "123-45-6789").unwrap(), "*******6789");
        assert_eq!(apply(&Mask::Last4, Kind::Text, "6789").unwrap(), "****");
    }

    #[test]
    fn dates_that_are_none_are_hidden() {
        for no in [
            "2023-02-29",
            "2024-01-01x",
            "0000-01-01",
            "2024-01-01T25:00",
            "２０２４-01-01",
            "2024-1-1",
            "1900-02-29",
            "2024-01-01 10:00 PM",
            "2024-01-01T",
            "2024-01-01\n",
        ] {
            assert_eq!(apply(&Mask::Date, Kind::Text, no).unwrap(), "****-**-**", "{no}");
        }
    }

    #[test]
    fn dates_with_times_show_their_year() {
        for yes in
            ["2000-02-29", "20000229 10", "2000-02-29T10:20", "2000-02-29 10:20:30.123456+05:30", "2000-02-29T23Z"]
        {
            assert_eq!(apply(&Mask::Date, Kind::Text, yes).unwrap(), "2000-**-**", "{yes}");
        }
    }

    #[test]
    fn ids_become_keyed_pseudonyms() {
        let pseudonym = Pseudonym(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(apply_id(Kind::Text, pseudonym).unwrap(), "anon_0123456789abcdef0123456789abcdef");
        assert_eq!(apply_id(Kind::Uuid, pseudonym).unwrap(), "01234567-89ab-8def-8123-456789abcdef");
        assert_eq!(apply_id(Kind::Int4, pseudonym), None);
        assert_eq!(apply(&Mask::Id, Kind::Text, "42"), None);
    }
}
