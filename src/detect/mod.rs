//! Events → alerts over exact sliding windows; the clock is an argument.
//!
//! In: [`crate::event::Event`]s. Out: [`crate::event::Alert`]s. Never: I/O, sketches, tumbling windows.
//!
//! A window of W seconds ending at t is (t − W, t]. "More than T records in W" holds exactly when the newest T+1
//! records lie in the window, so a ring trimmed to a total weight of T+1 decides it without error, and "more than T
//! different people" is decided by the T+1 most recently seen ones. Thresholds that grow on reload are exact again
//! after one window.

mod baseline;
mod canary;
mod detector;
pub mod evidence;
mod gate;
mod hours;
pub mod incident;
mod novel;
mod replay;
mod rule;
mod setting;
mod state;
mod window;

#[cfg(test)]
mod tests;

pub use canary::Canaries;
pub use detector::{ACTORS_MAX, Counts, Detector};
pub use gate::{Batch, Gate, Granted, Limits, Paced, Passage, note, stopped_by};
pub use hours::{Calendar, UnknownZone};
pub use replay::Replay;
pub use rule::{Rule, Severity};
pub use setting::{Setting, Thresholds};

pub use crate::event::alert::Action;

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
    /// Days with other hours than their weekday's, as `week`; they come before holidays.
    pub exceptions: Vec<(jiff::civil::Date, Option<(u16, u16)>)>,
}
