//! Time as an argument: floors 0–4 receive a [`Now`], only the world floor calls [`Now::read`].

use std::cell::Cell;
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

/// Where one step of work has its time from.
pub trait Clock {
    /// The same reading each time it is asked.
    fn now(&self) -> Now;
}

impl Clock for Now {
    fn now(&self) -> Now {
        *self
    }
}

/// The system's clocks, read when first asked: most steps never ask.
#[derive(Debug, Default)]
pub struct Lazy(Cell<Option<Now>>);

impl Clock for Lazy {
    fn now(&self) -> Now {
        let now = self.0.get().unwrap_or_else(Now::read);
        self.0.set(Some(now));
        now
    }
}
