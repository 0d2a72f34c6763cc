//! Events → alerts over exact sliding windows; the clock is an argument.
//!
//! In: [`crate::event::Event`]s. Out: [`crate::event::Alert`]s. Never: I/O, sketches, tumbling windows.
//!
//! A window of W seconds ending at t is (t − W, t]. "More than T records in W" holds exactly when the newest T+1
//! records lie in the window, so a ring trimmed to a total weight of T+1 decides it without error, and "more than T
//! different people" is decided by the T+1 most recently seen ones. Thresholds that grow on reload are exact again
//! after one window.

mod detector;
mod hours;
mod rule;
mod window;

#[cfg(test)]
mod tests;

pub use detector::{ACTORS_MAX, Counts, Detector};
pub use hours::{Calendar, UnknownZone};
pub use rule::Rule;

/// Thresholds of the five rules (`[detect]`), the seeds' numbers by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `bulk`: more records than this …
    pub bulk_records: u64,
    /// … within this many seconds.
    pub bulk_window_s: u64,
    /// `subjects`: more different people than this …
    pub subjects: u64,
    /// … within this many seconds.
    pub subjects_window_s: u64,
    /// `failures`: more failures than this …
    pub failures: u64,
    /// … within this many seconds.
    pub failures_window_s: u64,
    /// `export`: more records than this in one statement, or in `export_window_s`.
    pub export_records: u64,
    /// Seconds.
    pub export_window_s: u64,
    /// `after_hours`: `None` switches the rule off.
    pub hours: Option<Hours>,
    /// Roles no rule looks at.
    pub exempt: Vec<String>,
    /// The same alert for the same actor is raised again only after this many seconds.
    pub cooldown_s: u64,
}

/// Business hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// IANA time zone.
    pub time_zone: String,
    /// Monday first: (start, end) in minutes after midnight, end exclusive; `start > end` spans midnight;
    /// `None` = closed all day.
    pub week: [Option<(u16, u16)>; 7],
    /// Closed days.
    pub holidays: Vec<jiff::civil::Date>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            bulk_records: 100,
            bulk_window_s: 900,
            subjects: 50,
            subjects_window_s: 3_600,
            failures: 10,
            failures_window_s: 900,
            export_records: 1_000,
            export_window_s: 86_400,
            hours: None,
            exempt: Vec::new(),
            cooldown_s: 900,
        }
    }
}
