//! Julian days, the ranges of the date and time types, rounding to a type modifier.
//!
//! In: days, microseconds. Out: civil fields and checks. Never: time zones, text.

use super::{Result, ValueError};

/// 1970-01-01 in days since 2000-01-01.
pub(super) const UNIX_EPOCH_DAYS: i64 = -10_957;
pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Julian day of 2000-01-01.
const POSTGRES_EPOCH_JULIAN: i64 = 2_451_545;
/// −4713-11-24 and 5874898-01-01 (exclusive).
const DATE_DAYS: std::ops::Range<i64> = -POSTGRES_EPOCH_JULIAN..2_147_483_494 - POSTGRES_EPOCH_JULIAN;
/// −4713-11-24 and 294277-01-01 (exclusive).
const TIMESTAMP_MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// A local date and time, not necessarily in range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Civil {
    /// Astronomical: 0 is 1 BC.
    pub(super) year: i32,
    pub(super) month: i32,
    pub(super) day: i32,
    pub(super) hour: i32,
    pub(super) minute: i32,
    pub(super) second: i32,
    pub(super) micros: i32,
}

impl Civil {
    /// Days and microseconds since 2000-01-01 → fields. `micros` must be within the timestamp range.
    pub(super) fn of_timestamp(micros: i64) -> Self {
        let (days, time) = (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY));
        let mut civil = Self::of_days(days);
        civil.set_time(time);
        civil
    }

    /// A date at midnight. `days` must be within the date range.
    pub(super) fn of_days(days: i64) -> Self {
        let (year, month, day) = from_julian(days + POSTGRES_EPOCH_JULIAN);
        Self { year, month, day, ..Self::default() }
    }

    pub(super) fn set_time(&mut self, micros: i64) {
        let seconds = micros / MICROS_PER_SECOND;
        self.hour = (seconds / 3600) as i32;
        self.minute = (seconds / 60 % 60) as i32;
        self.second = (seconds % 60) as i32;
        self.micros = (micros % MICROS_PER_SECOND) as i32;
    }

    /// Days since 2000-01-01, if the date is one PostgreSQL can hold at all.
    pub(super) fn days(&self) -> Option<i64> {
        let low = self.year > -4713 || (self.year == -4713 && self.month >= 11);
        let high = self.year < 5_874_898 || (self.year == 5_874_898 && self.month < 6);
        (low && high).then(|| julian(self.year, self.month, self.day) - POSTGRES_EPOCH_JULIAN)
    }

    /// Microseconds since midnight; seconds may be 60 and the hour 24.
    pub(super) fn time_micros(&self) -> i64 {
        let seconds = (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60 + i64::from(self.second);
        seconds * MICROS_PER_SECOND + i64::from(self.micros)
    }

    /// Microseconds since 2000-01-01 in local time, range not checked.
    pub(super) fn local_micros(&self) -> Option<i64> {
        self.days()?.checked_mul(MICROS_PER_DAY)?.checked_add(self.time_micros())
    }

    /// 0 = Sunday.
    pub(super) fn weekday(&self) -> usize {
        (julian(self.year, self.month, self.day) + 1).rem_euclid(7) as usize
    }
}

/// The proleptic Gregorian calendar (date2j).
pub(super) fn julian(year: i32, month: i32, day: i32) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let (year, month) = if month > 2 { (year + 4800, month + 1) } else { (year + 4799, month + 13) };
    let century = year.div_euclid(100);
    year * 365 - 32_167 + year.div_euclid(4) - century + century.div_euclid(4) + 7834 * month / 256 + day
}

/// The inverse (j2date), for `day ≥ 0`.
pub(super) fn from_julian(day: i64) -> (i32, i32, i32) {
    // Days since 0000-03-01, so that the leap day ends the year.
    let shifted = day - 1_721_120;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as i32, month as i32, (of_year - (153 * shifted_month + 2) / 5 + 1) as i32)
}

/// Days in that month.
pub(super) fn month_length(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A date PostgreSQL accepts: finite in range, or ±infinity (i32 MAX, MIN).
pub(super) fn check_date(days: i32) -> Result<()> {
    if days == i32::MAX || days == i32::MIN || DATE_DAYS.contains(&i64::from(days)) {
        Ok(())
    } else {
        Err(ValueError::datetime_range("date out of range"))
    }
}

/// 00:00 to 24:00.
pub(super) fn check_time(micros: i64) -> Result<()> {
    if (0..=MICROS_PER_DAY).contains(&micros) { Ok(()) } else { Err(ValueError::datetime_range("time out of range")) }
}

/// A timestamp PostgreSQL accepts: finite in range, or ±infinity (i64 MAX, MIN).
pub(super) fn check_timestamp(micros: i64) -> Result<()> {
    if micros == i64::MAX || micros == i64::MIN || TIMESTAMP_MICROS.contains(&micros) {
        Ok(())
    } else {
        Err(ValueError::datetime_range("timestamp out of range"))
    }
}

/// Half away from zero to `typmod` decimals (AdjustTimeForTypmod).
pub(super) fn round_time(micros: i64, typmod: i32) -> i64 {
    round(micros, typmod)
}

/// Likewise for timestamps, infinities untouched (AdjustTimestampForTypmod).
pub(super) fn round_timestamp(micros: i64, typmod: i32) -> Result<i64> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(micros);
    }
    let rounded = round(micros, typmod);
    check_timestamp(rounded)?;
    Ok(rounded)
}

fn round(micros: i64, typmod: i32) -> i64 {
    let Ok(decimals @ 0..6) = u32::try_from(typmod) else { return micros };
    let scale = 10_i64.pow(6 - decimals);
    let half = scale / 2;
    if micros >= 0 { (micros + half) / scale * scale } else { -((-micros + half) / scale * scale) }
}
