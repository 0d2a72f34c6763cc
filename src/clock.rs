//! Time as an argument: floors 0–4 receive a [`Now`], only the world floor calls [`Now::read`].

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Monotonic nanoseconds since the process first asked; for windows, deadlines and durations.
    pub mono_ns: u64,
    /// Microseconds since 1970-01-01T00:00:00Z; for records.
    pub unix_us: i64,
}

impl Now {
    /// Reads the system's clocks.
    pub fn read() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            mono_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            unix_us: i64::try_from(unix.as_micros()).unwrap_or(i64::MAX),
        }
    }

    /// Microseconds from `earlier` to this reading on the monotonic clock; 0 if `earlier` is later.
    pub fn since_us(self, earlier: Now) -> u64 {
        self.mono_ns.saturating_sub(earlier.mono_ns) / 1_000
    }
}
