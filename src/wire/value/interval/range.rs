//! The field masks of an interval's type modifier (src/include/utils/timestamp.h).
//!
//! In, out: `typmod = mask << 16 | precision`. Never: values.

pub(in crate::wire::value) const MONTH: i32 = 1 << 1;
pub(in crate::wire::value) const YEAR: i32 = 1 << 2;
pub(in crate::wire::value) const DAY: i32 = 1 << 3;
pub(in crate::wire::value) const HOUR: i32 = 1 << 10;
pub(in crate::wire::value) const MINUTE: i32 = 1 << 11;
pub(in crate::wire::value) const SECOND: i32 = 1 << 12;
/// No restriction of fields.
pub(in crate::wire::value) const FULL: i32 = 0x7fff;
/// No restriction of decimals.
pub(in crate::wire::value) const FULL_PRECISION: i32 = 0xffff;

/// Restrictions by name.
pub(in crate::wire::value) const NAMED: &[(&str, i32)] = &[
    ("year", YEAR),
    ("month", MONTH),
    ("day", DAY),
    ("hour", HOUR),
    ("minute", MINUTE),
    ("second", SECOND),
    ("year to month", YEAR | MONTH),
    ("day to hour", DAY | HOUR),
    ("day to minute", DAY | HOUR | MINUTE),
    ("day to second", DAY | HOUR | MINUTE | SECOND),
    ("hour to minute", HOUR | MINUTE),
    ("hour to second", HOUR | MINUTE | SECOND),
    ("minute to second", MINUTE | SECOND),
];

/// The least significant field of a mask.
pub(in crate::wire::value) fn lowest(mask: i32) -> i32 {
    [SECOND, MINUTE, HOUR, DAY, MONTH, YEAR].into_iter().find(|field| mask & field != 0).unwrap_or(SECOND)
}
