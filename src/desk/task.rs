//! The desk's thread: drain the queue, write once, fsync once, acknowledge, judge.
//!
//! In: the queue. Out: records, acknowledgements, alerts. Never: an acknowledgement before its record is as durable as
//! the settings say.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::anchor::Anchors;
use super::keeper::Keeper;
use super::{AuditDown, Desk, Durability, Item, OnFailure, Response, Settings, State, Thread};
use crate::audit::{self, Log, Recovered, Written};
use crate::clock::Now;
use crate::detect::{ACTORS_MAX, Action, Detector, Replay, Thresholds};
use crate::error::{Error, Result};
use crate::event::{Alert, Event, EventKind};
use crate::metrics::Meters;
use crate::policy::rules::Rules;

/// What nobody waits for is fsynced after this long.
const SYNC_AFTER_NS: u64 = 1_000_000_000;
/// … or when this much is not.
const SYNC_BYTES: usize = 1 << 20;
/// Past this much unwritten the queue is not drained any more, and callers wait.
const HELD_BYTES: usize = 16 << 20;
/// Events taken from the queue at once.
const BATCH: usize = 1_024;
/// How long events are gathered where nobody waits for them, so that not each of them wakes the thread.
const GATHER: Duration = Duration::from_millis(2);
/// Retries of a log that cannot be written: first and longest pause.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How much of the log is read to rebuild windows.
const REBUILD_BYTES: u64 = 256 << 20;

type Ack = oneshot::Sender<std::result::Result<(), AuditDown>>;
pub(super) type Watch = Box<dyn Fn() -> Arc<Rules> + Send>;

pub(super) fn launch(
    settings: Settings,
    log: Log,
    recovered: Recovered,
    rules: Watch,
    meters: Arc<Meters>,
) -> Result<(Desk, Thread)> {
    let anchors = Anchors::start(&settings.anchors, &settings.collectors, &meters)?;
    let (queue, inbox) = mpsc::channel(settings.queue.max(1));
    let keeper = Keeper::start(&settings, &log, queue.downgrade())?;
    let mut task = Task::new(&settings, log, anchors, rules, meters);
    task.open(&settings, recovered)?;
    let (ended, done) = oneshot::channel();
    let desk = Desk {
        queue: queue.clone(),
        state: task.state.clone(),
        meters: task.meters.clone(),
        durability: settings.durability,
        on_failure: settings.on_failure,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| Error::io("starting the desk's runtime", e))?;
    let body = move || {
        runtime.block_on(task.run(inbox));
        drop(keeper);
        let _ = ended.send(());
    };
    std::thread::Builder::new()
        .name("pgveil-desk".to_owned())
        .spawn(body)
        .map_err(|e| Error::io("starting the desk's thread", e))?;
    Ok((desk, Thread { queue, done }))
}

struct Task {
    log: Log,
    anchors: Anchors,
    durability: Durability,
    on_failure: OnFailure,
    rules: Watch,
    meters: Arc<Meters>,
    state: Arc<State>,
    detector: Detector,
    /// Events of this round, for the detector.
    round: Vec<Event>,
    /// Where in this round the last outcome of a statement is, by connection and number.
    ended: HashMap<(u64, u64), usize, foldhash::fast::RandomState>,
    acks: Vec<Ack>,
    alerts: Vec<Alert>,
    /// The newest record that is an alert.
    alert_seq: u64,
    response: Response,
    synced_ns: u64,
    pause: Duration,
    /// While the log is down, the next attempt is not made before this.
    retry_ns: u64,
    /// The disk is full, and the log says so.
    full: bool,
    stopping: bool,
}

impl Task {
    fn new(settings: &Settings, log: Log, anchors: Anchors, rules: Watch, meters: Arc<Meters>) -> Self {
        Self {
            log,
            anchors,
            durability: settings.durability,
            on_failure: settings.on_failure,
            rules,
            meters,
            state: Arc::new(State::default()),
            detector: Detector::new(ACTORS_MAX),
            round: Vec::new(),
            ended: HashMap::default(),
            acks: Vec::new(),
            alerts: Vec::new(),
            alert_seq: 0,
            response: settings.response.clone(),
            synced_ns: 0,
            pause: RETRY.0,
            retry_ns: 0,
            full: false,
            stopping: false,
        }
    }

    /// Reads the tail of the last run, writes the `start` event and whatever alerts are due.
    fn open(&mut self, settings: &Settings, recovered: Recovered) -> Result<()> {
        let now = Now::read();
        let rules = (self.rules)();
        let t = &rules.detect;
        let longest = i64::try_from(t.longest_s()).unwrap_or(i64::MAX);
        let since = now.unix_us.saturating_sub(longest.saturating_mul(1_000_000));
        let (events, cut) = audit::events_since(&settings.audit.dir, since, REBUILD_BYTES)?;
        let mut unfinished = Unfinished::default();
        let mut let_go = Replay::new(&settings.response.gate, t, now);
        let replay = events.map(|(_, event)| {
            unfinished.see(&event);
            let_go.see(&event);
            event
        });
        let due = self.detector.rebuild(replay, now, t);
        let_go.end();
        if !self.detector.knows_policy() {
            self.last_policy(settings, now, t)?;
        }
        let open = unfinished.0.len() as u64;
        self.meters.audit_unfinished(open);
        let mut start = Event::new(EventKind::Start, now.unix_us);
        start.rules_version = rules.version;
        start.note = Some(start_note(&recovered, open, cut));
        let before = self.log.seq();
        self.state.marks.send_modify(|marks| marks.before = before);
        self.log.append(&start);
        if let Some(found) = &recovered.broken {
            let alert = Alert {
                rule: "tamper".to_owned(),
                severity: "critical".to_owned(),
                observed: 1,
                threshold: 0,
                window_s: 0,
                address: None,
                action: Action::Alert,
                message: format!("the access log of the last run is not what was written: {found}"),
            };
            self.respond(&start, alert);
        }
        for (event, alert) in due {
            self.respond(&event, alert);
        }
        let written = self.log.sync(now.unix_us).map_err(|e| Error::io("writing the access log", e))?;
        self.wrote(written, now);
        self.meters.audit_up(true);
        Ok(())
    }

    /// The run before may have loaded its policy long before the windows begin.
    fn last_policy(&mut self, settings: &Settings, now: Now, t: &Thresholds) -> Result<()> {
        let (events, _) = audit::events_since(&settings.audit.dir, i64::MIN, REBUILD_BYTES)?;
        let policy = |event: &Event| event.kind == EventKind::Policy && event.code.is_none() && event.digest.is_some();
        if let Some(event) = events.map(|(_, event)| event).filter(policy).last() {
            self.detector.observe(&event, now, t, &mut Vec::new());
        }
        Ok(())
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Item>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let down = self.state.down.load(Ordering::Acquire);
            if self.log.pending_bytes() >= HELD_BYTES && down {
                tokio::time::sleep(self.pause).await;
            } else if !self.stopping {
                self.receive(&mut inbox, &mut batch, down).await;
            } else if down {
                tokio::time::sleep(self.pause).await;
            } else if inbox.recv_many(&mut batch, BATCH).await == 0 {
                break;
            }
            self.ended.clear();
            if self.durability == Durability::Async {
                let outcomes = batch.iter().enumerate();
                self.ended.extend(outcomes.filter_map(|(at, item)| Some((outcome(item)?, at))));
            }
            for (at, item) in batch.drain(..).enumerate() {
                self.take(item, at, &mut inbox);
            }
            self.commit();
            self.judge();
            if self.stopping && inbox.is_empty() && self.log.is_durable() {
                break;
            }
            if self.durability == Durability::Async && !self.stopping && self.acks.is_empty() {
                tokio::time::sleep(GATHER).await;
            }
        }
        self.finish();
    }

    /// Waits for events, but not past the time when the log wants an fsync, a signature or a retry.
    async fn receive(&mut self, inbox: &mut mpsc::Receiver<Item>, batch: &mut Vec<Item>, down: bool) {
        let received = inbox.recv_many(batch, BATCH);
        let limit = if down {
            self.pause
        } else if self.log.is_signed() {
            // Nothing to do until somebody calls; all handles gone means the end.
            self.stopping = received.await == 0;
            return;
        } else {
            Duration::from_nanos(SYNC_AFTER_NS.saturating_sub(Now::read().mono_ns.saturating_sub(self.synced_ns)))
        };
        if timeout(limit, received).await == Ok(0) {
            self.stopping = true;
        }
    }

    /// `at` is its place in the round.
    fn take(&mut self, item: Item, at: usize, inbox: &mut mpsc::Receiver<Item>) {
        match item {
            Item::Event(event) => {
                if event.kind == EventKind::Policy {
                    self.meters.policy_loaded(event.code.is_none());
                }
                self.log.append(&event);
                if event.kind == EventKind::Alert {
                    self.alert_seq = self.log.seq();
                }
                self.round.push(*event);
            }
            // While the log is down an intent that will be denied is not written: nothing it speaks of happens, and the
            // refusal is an event of its own.
            Item::Intent(_, Some(ack))
                if self.on_failure == OnFailure::DenyProtected && self.state.down.load(Ordering::Acquire) =>
            {
                let _ = ack.send(Err(AuditDown));
            }
            // Its outcome came with it, and says the same and more.
            Item::Intent(event, None)
                if self.ended.get(&(event.connection, event.statement)).is_some_and(|outcome| *outcome > at) => {}
            Item::Intent(event, ack) => {
                self.log.append(&event);
                self.acks.extend(ack);
            }
            Item::Stop => {
                inbox.close();
                self.stopping = true;
            }
        }
    }

    /// Writes what is pending; acknowledges what is thereby as durable as promised.
    fn commit(&mut self) {
        let before = Now::read();
        let due = before.mono_ns.saturating_sub(self.synced_ns) >= SYNC_AFTER_NS;
        let awaited = self.durability == Durability::Intent && !self.acks.is_empty();
        let down = self.state.down.load(Ordering::Acquire);
        if down && before.mono_ns < self.retry_ns {
            return;
        }
        let sync = awaited || due || down || self.stopping || self.log.pending_bytes() >= SYNC_BYTES;
        let done = if sync { self.log.sync(before.unix_us) } else { self.log.flush(before.unix_us) };
        match done {
            Ok(written) => {
                if sync {
                    self.wrote(written, before);
                } else {
                    self.meters.audit_written(written.records, written.bytes);
                }
                if down {
                    // What the reserve gave room for is written; nothing goes on before there is room for a reserve again.
                    if self.log.is_cramped() && self.log.make_reserve().is_err() {
                        self.wait_longer();
                        return;
                    }
                    tracing::info!(target: "pgveil::audit", "the access log can be written again");
                    if std::mem::take(&mut self.full) {
                        self.note("there is room on the disk again".to_owned());
                    }
                    self.meters.audit_up(true);
                    self.state.down.store(false, Ordering::Release);
                }
                self.pause = RETRY.0;
                // Last, so that whoever acts on it finds the log writable.
                for ack in self.acks.drain(..) {
                    let _ = ack.send(Ok(()));
                }
            }
            Err(error) => self.failed(&error, down),
        }
    }

    fn wrote(&mut self, written: Written, before: Now) {
        self.anchor();
        let (durable, alert) = (self.log.durable(), self.alert_seq);
        self.state.marks.send_if_modified(|marks| {
            let news = alert > marks.alert;
            (marks.durable, marks.alert) = (durable, alert);
            news
        });
        let after = Now::read();
        self.synced_ns = after.mono_ns;
        if written != Written::default() {
            self.meters.audit_written(written.records, written.bytes);
            self.meters.audit_synced(after.mono_ns.saturating_sub(before.mono_ns), after.unix_us);
        }
    }

    fn anchor(&mut self) {
        if let Some(note) = self.log.take_note() {
            self.anchors.offer(&note);
        }
    }

    fn failed(&mut self, error: &std::io::Error, already_down: bool) {
        self.meters.audit_error();
        self.meters.audit_up(false);
        self.state.down.store(true, Ordering::Release);
        if !already_down {
            tracing::error!(target: "pgveil::audit", %error, "the access log cannot be written");
        }
        if self.on_failure == OnFailure::DenyProtected {
            for ack in self.acks.drain(..) {
                let _ = ack.send(Err(AuditDown));
            }
        }
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if full && self.log.release_reserve() {
            self.full = true;
            self.note(format!("the disk is full; {}", self.on_failure.consequence()));
            self.retry_ns = 0;
            self.commit();
        } else if already_down {
            self.wait_longer();
        } else {
            self.retry_ns = nanoseconds_from_now(self.pause);
        }
    }

    /// An event about the log itself.
    fn note(&mut self, text: String) {
        let mut event = Event::new(EventKind::Log, Now::read().unix_us);
        event.note = Some(text);
        self.log.append(&event);
    }

    fn wait_longer(&mut self) {
        self.pause = (self.pause * 2).min(RETRY.1);
        self.retry_ns = nanoseconds_from_now(self.pause);
    }

    /// Shows this round's events to the detector; its alerts are records of the next write.
    fn judge(&mut self) {
        if self.round.is_empty() {
            return;
        }
        let rules = (self.rules)();
        let now = Now::read();
        let mut alerts = std::mem::take(&mut self.alerts);
        let before = self.log.seq();
        for event in std::mem::take(&mut self.round) {
            self.detector.observe(&event, now, &rules.detect, &mut alerts);
            for alert in alerts.drain(..) {
                self.respond(&event, alert);
            }
        }
        self.alerts = alerts;
        let counts = self.detector.counts();
        self.meters.detector(counts.actors, counts.evicted, counts.gaps);
        if self.log.seq() > before {
            self.commit();
        }
    }

    /// An alert is a record in the same chain, a line and a count.
    fn respond(&mut self, cause: &Event, alert: Alert) {
        let trace = cause.trace.map(tracing::field::display);
        let (role, database) = cause.actor.as_ref().map_or(("", ""), |a| (a.role.as_str(), a.database.as_str()));
        tracing::warn!(
            target: "pgveil::alert",
            rule = alert.rule,
            severity = alert.severity,
            role,
            database,
            connection = cause.connection,
            trace,
            observed = alert.observed,
            threshold = alert.threshold,
            window_s = alert.window_s,
            message = alert.message,
        );
        self.meters.alert(&alert.rule);
        let done = self.response.to(cause, &alert, Now::read());
        let not_done = done.as_ref().and_then(|done| done.failed.clone());
        let not_done = not_done.map(|message| Alert { action: Action::Alert, message, ..alert.clone() });
        self.record(EventKind::Alert, cause, |event| event.alert = Some(alert));
        if let Some(done) = done {
            self.meters.response(done.action);
            if let Some(kind) = done.kind {
                self.record(kind, cause, |event| event.note = Some(done.note));
            }
        }
        if let Some(alert) = not_done {
            tracing::error!(target: "pgveil::alert", rule = alert.rule, role, message = alert.message);
            self.record(EventKind::Alert, cause, |event| event.alert = Some(alert));
        }
    }

    /// A record about the same statement.
    fn record(&mut self, kind: EventKind, cause: &Event, say: impl FnOnce(&mut Event)) {
        let mut event = Event::new(kind, Now::read().unix_us);
        event.connection = cause.connection;
        event.statement = cause.statement;
        event.actor = cause.actor.clone();
        event.trace = cause.trace;
        event.rules_version = cause.rules_version;
        say(&mut event);
        self.log.append(&event);
        self.alert_seq = self.log.seq();
    }

    fn finish(mut self) {
        self.state.ended.store(true, Ordering::Release);
        self.meters.audit_up(false);
        self.log.append(&Event::new(EventKind::Stop, Now::read().unix_us));
        if let Err(error) = self.log.close(Now::read().unix_us) {
            tracing::error!(target: "pgveil::audit", %error, "the last records of the access log could not be written");
        }
        self.anchor();
        self.anchors.finish();
    }
}

fn nanoseconds_from_now(pause: Duration) -> u64 {
    Now::read().mono_ns.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX))
}

/// The statement whose outcome it is.
fn outcome(item: &Item) -> Option<(u64, u64)> {
    match item {
        Item::Event(event) if matches!(event.kind, EventKind::Statement | EventKind::Refused) => {
            Some((event.connection, event.statement))
        }
        _ => None,
    }
}

/// Intents of the newest run that have no outcome: what a crash may have cut short.
#[derive(Default)]
struct Unfinished(HashSet<(u64, u64)>);

impl Unfinished {
    /// More are not told apart.
    const MAX: usize = 1 << 20;

    fn see(&mut self, event: &Event) {
        let statement = (event.connection, event.statement);
        match event.kind {
            EventKind::Start => self.0.clear(),
            EventKind::Intent if self.0.len() < Self::MAX => {
                self.0.insert(statement);
            }
            EventKind::Statement | EventKind::Refused => {
                self.0.remove(&statement);
            }
            _ => {}
        }
    }
}

fn start_note(recovered: &Recovered, unfinished: u64, cut: bool) -> String {
    let mut note = format!("pgveil {} started", env!("CARGO_PKG_VERSION"));
    if recovered.first {
        note.push_str("; a new access log");
    }
    if let Some(torn) = &recovered.torn {
        note.push_str(&format!("; {} bytes of an unfinished record were moved to {}", torn.bytes, torn.file));
    }
    if let Some(found) = &recovered.broken {
        note.push_str(&format!("; the last run's log is not what was written: {found}"));
    }
    if unfinished > 0 {
        note.push_str(&format!("; {unfinished}{}", audit::UNFINISHED));
    }
    if cut {
        note.push_str("; windows were rebuilt from the newest segments only");
    }
    note
}
