//! Those who watch the month: pgveil's detector, and what it is compared with.
//!
//! In: events in the order of time. Out: what each of them raises. Never: labels; a watcher cannot see them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use pgveil::clock::Now;
use pgveil::detect::{Detector, Thresholds};
use pgveil::event::{Alert, Event};

use super::hospital::{DAY, Hospital};

/// What a watcher says about an event.
#[derive(Clone, Debug)]
pub struct Raised {
    pub rule: Cow<'static, str>,
    pub observed: u64,
    pub threshold: u64,
    pub window_s: u64,
    /// It is about this address, not about the event's role.
    pub address: Option<IpAddr>,
}

pub trait Watcher {
    fn name(&self) -> &'static str;

    fn observe(&mut self, event: &Event, out: &mut Vec<Raised>);
}

/// The monotonic clock starts a day before the month; it must not begin at zero for windows to reach back.
pub fn now(event: &Event, start: i64) -> Now {
    let since = event.at_us - start + DAY;
    Now { mono_ns: since.max(0) as u64 * 1_000, unix_us: event.at_us }
}

/// pgveil's own.
pub struct Own {
    name: &'static str,
    detector: Detector,
    thresholds: Thresholds,
    start: i64,
    alerts: Vec<Alert>,
    /// Listed as canaries, too.
    vips: HashSet<u128>,
}

impl Own {
    pub fn new(name: &'static str, thresholds: Thresholds, start: i64) -> Self {
        Self {
            name,
            detector: Detector::new(pgveil::detect::ACTORS_MAX),
            thresholds,
            start,
            alerts: Vec::new(),
            vips: HashSet::new(),
        }
    }

    /// Under a policy that lists these people as canaries.
    pub fn listing(self, vips: HashSet<u128>) -> Self {
        Self { vips, ..self }
    }
}

impl Watcher for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn observe(&mut self, event: &Event, out: &mut Vec<Raised>) {
        let vips = if self.vips.is_empty() { 0 } else { Hospital::rows_of(&self.vips, event) };
        let listed = (vips > 0).then(|| Event { canaries: event.canaries + vips, ..event.clone() });
        let event = listed.as_ref().unwrap_or(event);
        self.detector.observe(event, now(event, self.start), &self.thresholds, &mut self.alerts);
        out.extend(self.alerts.drain(..).map(|alert| Raised {
            window_s: match alert.rule.as_str() {
                // It looks at an hour; what it says is how long it remembers.
                "unusual" => 3_600,
                _ => alert.window_s,
            },
            rule: alert.rule.into(),
            observed: alert.observed,
            threshold: alert.threshold,
            address: alert.address,
        }));
    }
}
