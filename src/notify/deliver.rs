//! One sink's task: read alerts, deliver, remember; on failure wait and try again.

use std::time::Duration;

use rand::RngExt as _;

use super::{Cursor, Message, READ_MAX, SINK_RULE, Sink, Source, digest};
use crate::audit::Alerts;
use crate::clock::Now;
use crate::desk::Desk;
use crate::detect::Severity;
use crate::event::{Alert, Event, EventKind};
use crate::metrics::SinkMeter;

/// Failures in a row that are told.
pub(super) const TRIES: u32 = 3;
/// First and longest wait after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Without an alert, the place in the log is moved on this often, so that the next one is found at once.
const IDLE: Duration = Duration::from_secs(10);
/// … and remembered when it has moved by this many records.
const REMEMBER: u64 = 100_000;

/// A sink and its place in the log.
#[derive(Debug)]
pub(super) struct Follower {
    sink: Sink,
    cursor: Cursor,
    /// `None` while a thread reads.
    alerts: Option<Alerts>,
    source: Source,
    desk: Desk,
    meter: SinkMeter,
}

impl Follower {
    pub(super) fn new(
        sink: Sink,
        cursor: Cursor,
        alerts: Alerts,
        source: Source,
        desk: Desk,
        meter: SinkMeter,
    ) -> Self {
        meter.up(!cursor.down);
        Self { sink, cursor, alerts: Some(alerts), source, desk, meter }
    }
}

/// Until it is dropped, or the desk is gone.
pub(super) async fn run(mut follower: Follower) {
    let mut marks = follower.desk.marks();
    loop {
        let durable = marks.borrow_and_update().durable;
        let (found, seen) = follower.read(durable).await;
        if found.is_empty() {
            let moved = seen.saturating_sub(follower.cursor.seen);
            if moved >= REMEMBER {
                follower.remember(seen);
            }
            match tokio::time::timeout(IDLE, marks.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) | Err(_) => continue,
            }
        }
        let mut ours = found;
        ours.retain(|(_, event)| follower.wants(event));
        for message in digest(&ours, &follower.source) {
            follower.deliver(&message).await;
            follower.remember(message.seq);
        }
        follower.remember(seen);
    }
}

impl Follower {
    /// The next alerts, and how far the log was read. A log that cannot be read is tried again later.
    async fn read(&mut self, durable: u64) -> (Vec<(u64, Event)>, u64) {
        let Some(mut alerts) = self.alerts.take() else { return (Vec::new(), self.cursor.seen) };
        let reading = tokio::task::spawn_blocking(move || {
            let found = alerts.next(durable, READ_MAX);
            (alerts, found)
        });
        match reading.await {
            Ok((alerts, Ok(found))) => {
                let seen = alerts.seen();
                self.alerts = Some(alerts);
                (found, seen)
            }
            Ok((alerts, Err(error))) => {
                tracing::error!(target: "pgveil::sink", sink = self.sink.name(), %error, "alerts cannot be read");
                let seen = alerts.seen();
                self.alerts = Some(alerts);
                (Vec::new(), seen)
            }
            Err(_) => (Vec::new(), self.cursor.seen),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let Some(alert) = &event.alert else { return false };
        let about_itself = alert.rule == SINK_RULE && event.note.as_deref() == Some(self.sink.name());
        Severity::named(&alert.severity) >= self.sink.settings.min_severity && !about_itself
    }

    async fn deliver(&mut self, message: &Message) {
        let mut tries = 0;
        while let Err(failure) = self.sink.send(message).await {
            tries += 1;
            self.meter.error();
            tracing::warn!(target: "pgveil::sink", sink = self.sink.name(), tries, %failure, "an alert was not delivered");
            if tries == TRIES && !self.cursor.down {
                self.tell(tries).await;
            }
            let chance = rand::rng().random_range(0.0..1.0);
            tokio::time::sleep(pause(tries, chance)).await;
        }
        self.meter.delivered();
        if self.cursor.down {
            self.cursor.down = false;
            self.meter.up(true);
            tracing::info!(target: "pgveil::sink", sink = self.sink.name(), "alerts are delivered again");
        }
    }

    /// Once for each outage, also across restarts.
    async fn tell(&mut self, tries: u32) {
        let name = self.sink.name().to_owned();
        self.meter.up(false);
        self.cursor.down = true;
        self.save();
        let message = format!("alerts do not reach sink {name} ({})", self.sink.settings.kind.as_str());
        tracing::error!(target: "pgveil::sink", sink = name, tries, "{message}");
        let mut event = Event::new(EventKind::Alert, Now::read().unix_us);
        event.alert = Some(Alert {
            rule: SINK_RULE.to_owned(),
            severity: Severity::High.as_str().to_owned(),
            observed: u64::from(tries),
            threshold: u64::from(TRIES - 1),
            window_s: 0,
            address: None,
            action: Default::default(),
            message,
        });
        event.note = Some(name);
        let _ = self.desk.event(event).await;
    }

    fn remember(&mut self, seen: u64) {
        if self.cursor.seen != seen {
            self.cursor.seen = seen;
            self.save();
        }
    }

    /// What is not remembered is delivered once more after a restart.
    fn save(&self) {
        if let Err(error) = self.cursor.save() {
            tracing::warn!(target: "pgveil::sink", sink = self.sink.name(), %error, "how far this sink is cannot be written");
        }
    }
}

/// The wait after that many failures in a row; `chance` from 0 to 1 takes up to half of it away, so that the sinks of
/// many proxies do not come back all at once.
pub(super) fn pause(tries: u32, chance: f64) -> Duration {
    let full = PAUSE.0.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(PAUSE.1);
    full.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}
