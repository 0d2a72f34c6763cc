//! Business hours in a time zone.
//!
//! In: [`Hours`] and an instant. Out: open or closed. Never: the machine's own zone or its zone files; the IANA
//! database is the one built in.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, civil::Date};

use super::Hours;

/// The zone's name is not in the IANA database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {0:?}")]
pub struct UnknownZone(pub String);

/// Business hours with their zone looked up.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    hours: Hours,
}

impl Calendar {
    /// Looks the zone up.
    ///
    /// # Errors
    /// The zone is unknown.
    pub fn new(hours: &Hours) -> Result<Self, UnknownZone> {
        let zone = TimeZoneDatabase::bundled().get(&hours.time_zone);
        let zone = zone.map_err(|_| UnknownZone(hours.time_zone.clone()))?;
        Ok(Self { zone, hours: hours.clone() })
    }

    /// Whether `unix_us` (microseconds since the epoch) lies in business hours. An interval belongs to the day it
    /// begins on: a night shift that began before a holiday runs on into it, one of the holiday does not begin.
    /// Times that no calendar can hold are closed.
    pub fn open_at(&self, unix_us: i64) -> bool {
        let Ok(instant) = Timestamp::from_microsecond(unix_us) else { return false };
        let local = instant.to_zoned(self.zone.clone()).datetime();
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let today = self
            .of(local.date())
            .is_some_and(|(start, end)| if start <= end { start <= minute && minute < end } else { start <= minute });
        today
            || local
                .date()
                .yesterday()
                .ok()
                .and_then(|yesterday| self.of(yesterday))
                .is_some_and(|(start, end)| start > end && minute < end)
    }

    fn of(&self, day: Date) -> Option<(u16, u16)> {
        if let Some((_, hours)) = self.hours.exceptions.iter().find(|(date, _)| *date == day) {
            return *hours;
        }
        if self.hours.holidays.contains(&day) {
            return None;
        }
        self.hours.week[usize::from(day.weekday().to_monday_zero_offset().unsigned_abs())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn hours(zone: &str, weekday: (u16, u16)) -> Hours {
        let day = Some(weekday);
        let holidays = vec!["2026-12-25".parse().unwrap()];
        let exceptions = vec![("2026-12-31".parse().unwrap(), Some((9 * 60, 12 * 60)))];
        Hours { time_zone: zone.to_owned(), week: [day, day, day, day, day, None, None], holidays, exceptions }
    }

    #[test]
    fn office_hours_follow_the_zone_through_daylight_saving() {
        let berlin = Calendar::new(&hours("Europe/Berlin", (8 * 60, 18 * 60))).unwrap();
        // 2026-01-14 is a Wednesday, CET; 2026-07-15 one in CEST.
        assert!(!berlin.open_at(at("2026-01-14T06:59:59Z")));
        assert!(berlin.open_at(at("2026-01-14T07:00:00Z")));
        assert!(berlin.open_at(at("2026-01-14T16:59:59Z")));
        assert!(!berlin.open_at(at("2026-01-14T17:00:00Z")));
        assert!(berlin.open_at(at("2026-07-15T06:00:00Z")));
        assert!(!berlin.open_at(at("2026-07-15T16:00:00Z")));
        // Saturday, and a holiday that is a Friday.
        assert!(!berlin.open_at(at("2026-01-17T10:00:00Z")));
        assert!(!berlin.open_at(at("2026-12-25T10:00:00Z")));
        // New Year's Eve has hours of its own.
        assert!(!berlin.open_at(at("2026-12-31T07:30:00Z")) && berlin.open_at(at("2026-12-31T08:00:00Z")));
        assert!(!berlin.open_at(at("2026-12-31T11:00:00Z")));
    }

    #[test]
    fn a_night_shift_spans_midnight_and_belongs_to_the_day_it_begins() {
        let night = Calendar::new(&hours("Asia/Bangkok", (22 * 60, 6 * 60))).unwrap();
        // Bangkok is UTC+7. Friday 22:00 to Saturday 06:00 local is open, Saturday night is not.
        assert!(night.open_at(at("2026-01-16T15:00:00Z")));
        assert!(night.open_at(at("2026-01-16T22:59:00Z")));
        assert!(!night.open_at(at("2026-01-16T23:00:00Z")));
        assert!(!night.open_at(at("2026-01-17T15:00:00Z")));
        // Sunday's shift does not exist, so early Monday is closed; Tuesday's early hours are Monday's shift.
        assert!(!night.open_at(at("2026-01-18T22:00:00Z")));
        assert!(night.open_at(at("2026-01-19T22:00:00Z")));
        // The shift of Thursday 24 December runs into the holiday, the holiday's own does not begin.
        assert!(night.open_at(at("2026-12-24T20:00:00Z")));
        assert!(!night.open_at(at("2026-12-25T16:00:00Z")));
    }

    #[test]
    fn an_unknown_zone_is_an_error() {
        assert!(Calendar::new(&hours("Mars/Olympus", (0, 1440))).is_err());
        assert!(!Calendar::new(&hours("UTC", (0, 1440))).unwrap().open_at(i64::MAX));
    }
}
