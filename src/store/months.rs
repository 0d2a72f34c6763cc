//! Partitions: one of each table for each month, by the time of the event, UTC.
//!
//! In: times. Out: the months they are in, and the SQL that makes a month's partitions. Never: a month that nothing was in or
//! will be in, but the next one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The tables that have them.
const TABLES: [&str; 2] = ["access_log", "access_subjects"];

/// The first moment of 9999-12-30, microseconds: the last day that a time zone's calendar has.
const LATEST_US: i64 = 253_402_128_000_000_000;

/// A clock that was far off must not make a partition that PostgreSQL cannot: times outside 1970 to 9999 become its ends.
pub(super) fn clamped(at_us: i64) -> i64 {
    at_us.clamp(0, LATEST_US)
}

/// A month by its first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(Date);

impl Month {
    /// The month of that time.
    pub(super) fn of(at_us: i64) -> Self {
        let at = Timestamp::from_microsecond(clamped(at_us)).unwrap_or(Timestamp::UNIX_EPOCH);
        Self(at.to_zoned(TimeZone::UTC).date().first_of_month())
    }

    /// The one after it; the last month of all is followed by itself.
    pub(super) fn next(self) -> Self {
        Self(self.0.last_of_month().tomorrow().unwrap_or(self.0))
    }

    /// Makes its partitions where they are missing, without a lock that would wait for somebody's query or hold one up: a
    /// table is made beside, and attached.
    pub(super) fn sql(self) -> String {
        let from = self.0;
        let to = match self.next().0 {
            same if same == from => "maxvalue".to_owned(),
            next => format!("'{next} 00:00:00+00'"),
        };
        let make = |table: &&str| {
            let name = format!("pgveil.{table}_{:04}_{:02}", from.year(), from.month());
            format!(
                "do $$ begin if not exists (select from pg_inherits where inhrelid = to_regclass('{name}')) then \
                 create table if not exists {name} (like pgveil.{table} including all); \
                 revoke all on {name} from public; \
                 alter table pgveil.{table} attach partition {name} \
                 for values from ('{from} 00:00:00+00') to ({to}); end if; end $$"
            )
        };
        TABLES.iter().map(make).collect::<Vec<_>>().join(";\n")
    }
}

/// The months of those times, of now and of the time after.
pub(super) fn needed(times: impl Iterator<Item = i64>, now_us: i64) -> BTreeSet<Month> {
    let now = Month::of(now_us);
    times.map(Month::of).chain([now, now.next()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn months_begin_and_end_in_utc() {
        let (last, first) = (us("2026-12-31T23:59:59.999999Z"), us("2027-01-01T00:00:00Z"));
        assert!(Month::of(last) < Month::of(first) && Month::of(last).next() == Month::of(first));
        let sql = Month::of(last).sql();
        assert!(sql.contains("attach partition pgveil.access_log_2026_12 "), "{sql}");
        assert!(sql.contains("from ('2026-12-01 00:00:00+00') to ('2027-01-01 00:00:00+00')"), "{sql}");
        assert_eq!(needed([last, last].into_iter(), first).len(), 3);
    }

    #[test]
    fn a_clock_far_off_still_has_a_month() {
        assert_eq!(Month::of(i64::MIN), Month::of(0));
        let end = Month::of(i64::MAX);
        assert!(end.sql().contains("from ('9999-12-01 00:00:00+00') to (maxvalue)"), "{}", end.sql());
        assert_eq!(end.next(), end);
    }
}
