//! Time zones from the bundled tz database: an offset for a local time, an offset and abbreviation for an instant.
//!
//! In: names as PostgreSQL takes them. Out: seconds east of Greenwich. Never: the machine's own zone files.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::calendar::{Civil, MICROS_PER_DAY, MICROS_PER_SECOND, UNIX_EPOCH_DAYS};

/// The Gregorian calendar and every rule of a zone repeat after 400 years; the tz library ends at year 9999.
const CYCLE_SECONDS: i64 = 146_097 * 86_400;
const CYCLE_YEARS: i32 = 400;
/// 9990-01-01 in seconds since 1970.
const LAST_SECOND: i64 = 253_086_768_000;

/// A zone.
pub(super) enum Zone {
    /// From the tz database, or a POSIX rule.
    Rules(TimeZone),
    /// `<name>±hh:mm`, as the server reports a zone that was set as a plain offset.
    Fixed { seconds: i32, abbreviation: String },
}

impl Zone {
    /// A zone by name (case does not matter) or POSIX rule.
    pub(super) fn named(name: &str) -> Option<Self> {
        if name.len() > 255 {
            return None;
        }
        if let Ok(zone) = jiff::tz::db().get(name) {
            return Some(Self::Rules(zone));
        }
        if let Some(rest) = name.strip_prefix('<') {
            let (abbreviation, offset) = rest.split_once('>')?;
            if let Some(seconds) = posix_offset(offset) {
                return Some(Self::Fixed { seconds, abbreviation: abbreviation.to_owned() });
            }
        }
        TimeZone::posix(&name.to_ascii_uppercase()).ok().map(Self::Rules)
    }

    /// The offset that local time means: in a gap the one before it, in a fold the later instant
    /// (DetermineTimeZoneOffset).
    pub(super) fn offset_of_local(&self, local: &Civil) -> Option<i32> {
        match self {
            Self::Fixed { seconds, .. } => Some(*seconds),
            Self::Rules(zone) => {
                // Seconds of 60 and hours of 24 are the next minute and day: count, then cut.
                let micros = local.local_micros()?;
                let normal = Civil::of_timestamp(micros);
                let cycles = ((normal.year - 9990) / CYCLE_YEARS + 1).max(0);
                let year = if normal.year > 9990 { normal.year - cycles * CYCLE_YEARS } else { normal.year };
                let time = DateTime::new(
                    i16::try_from(year).ok()?,
                    normal.month as i8,
                    normal.day as i8,
                    normal.hour as i8,
                    normal.minute as i8,
                    normal.second as i8,
                    normal.micros * 1000,
                )
                .ok()?;
                let offset = match zone.to_ambiguous_timestamp(time).offset() {
                    AmbiguousOffset::Unambiguous { offset } => offset,
                    AmbiguousOffset::Gap { before, .. } => before,
                    AmbiguousOffset::Fold { after, .. } => after,
                };
                Some(offset.seconds())
            }
        }
    }

    /// Offset at an instant (microseconds since 2000-01-01 UTC); `abbreviation` gets the zone's name for it.
    pub(super) fn at(&self, micros: i64, abbreviation: &mut String) -> Option<i32> {
        match self {
            Self::Fixed { seconds, abbreviation: name } => {
                abbreviation.push_str(name);
                Some(*seconds)
            }
            Self::Rules(zone) => {
                let mut seconds =
                    micros.div_euclid(MICROS_PER_SECOND) - UNIX_EPOCH_DAYS * (MICROS_PER_DAY / MICROS_PER_SECOND);
                if seconds > LAST_SECOND {
                    seconds -= ((seconds - LAST_SECOND) / CYCLE_SECONDS + 1) * CYCLE_SECONDS;
                }
                let info = zone.to_offset_info(Timestamp::from_second(seconds).ok()?);
                abbreviation.push_str(info.abbreviation());
                Some(info.offset().seconds())
            }
        }
    }

    /// The offset, if it never changes.
    pub(super) fn fixed_offset(&self) -> Option<i32> {
        match self {
            Self::Fixed { seconds, .. } => Some(*seconds),
            Self::Rules(zone) => zone.to_fixed_offset().ok().map(Offset::seconds),
        }
    }
}

/// `[+-]h[:m[:s]]`, positive west of Greenwich, as POSIX has it.
fn posix_offset(s: &str) -> Option<i32> {
    let (sign, digits) = match s.as_bytes().first()? {
        b'-' => (1, &s[1..]),
        b'+' => (-1, &s[1..]),
        _ => (-1, s),
    };
    let mut total = 0;
    let mut parts = digits.split(':');
    for unit in [3600, 60, 1] {
        let Some(part) = parts.next() else { break };
        if part.is_empty() || part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        total += part.parse::<i32>().ok()? * unit;
    }
    (parts.next().is_none() && total < 168 * 3600).then_some(sign * total)
}
