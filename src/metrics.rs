//! Metric names, descriptions and pre-registered handles.
//!
//! In: counts and durations from every floor. Out: atomic updates of handles registered once at start, in arrays
//! indexed by small enums, so the hot path looks up nothing. Never: a label made of client bytes, a value, a
//! subject, a role. Label sets are bounded by enums, by [`ALERT_RULES`], by [`RESPONSES_BY`], by [`KEYS_MAX`] for columns with
//! keys, and by the configuration for sinks.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use ::metrics::{Counter, Gauge, Histogram};

use crate::error::Code;
use crate::event::Access;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A level.
    Gauge,
    /// Distribution over fixed buckets.
    Histogram,
}

/// Name, kind and help text of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// `pgveil_…`, Prometheus naming.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal $help:literal;)*) => {
        $(const $id: &str = $name;)*
        /// Every metric pgveil exposes, in the order of the README's table.
        pub const CATALOGUE: &[Metric] = &[$(Metric { name: $id, kind: Kind::$kind, help: $help },)*];
    };
}

metrics! {
    BUILD_INFO Gauge "pgveil_build_info" "Always 1; the label carries the version.";
    READY Gauge "pgveil_ready" "1 when /readyz answers 200, else 0.";
    UPSTREAM_UP Gauge "pgveil_upstream_up" "1 when PostgreSQL could last be reached, asked for every client and every few seconds, else 0.";
    UPSTREAM_ERRORS Counter "pgveil_upstream_connect_errors_total" "Connections to PostgreSQL that could not be made.";
    CONNECTIONS_OPEN Gauge "pgveil_connections_open" "Client connections open now.";
    CONNECTIONS_ACCEPTED Counter "pgveil_connections_accepted_total" "Client connections accepted.";
    CONNECTIONS_REFUSED Counter "pgveil_connections_refused_total" "Client connections refused before or during login.";
    LOGINS_FAILED Counter "pgveil_logins_failed_total" "Logins the server or pgveil refused.";
    CANCELS Counter "pgveil_cancel_requests_total" "Cancel requests received, whether or not they matched a session.";
    STATEMENTS Counter "pgveil_statements_total" "Statements by access and outcome.";
    ROWS Counter "pgveil_rows_total" "Rows released or written with a sealed column, by what became of it.";
    REFUSALS Counter "pgveil_refusals_total" "Statements and connections refused, by PV code.";
    SEAL_ERRORS Counter "pgveil_seal_errors_total" "Values that could not be sealed.";
    OPEN_ERRORS Counter "pgveil_open_errors_total" "Cells of sealed columns that did not open.";
    ADDED_LATENCY Histogram "pgveil_added_latency_seconds" "Time pgveil spent on a batch of messages, one in 16 measured, excluding waits for peers.";
    PLAN_HITS Counter "pgveil_plan_cache_hits_total" "Statements whose decision was cached.";
    PLAN_MISSES Counter "pgveil_plan_cache_misses_total" "Statements that had to be analysed.";
    PLAN_ENTRIES Gauge "pgveil_plan_cache_entries" "Decisions in the plan cache.";
    AUDIT_QUEUE Gauge "pgveil_audit_queue_depth" "Records waiting to be written to the access log.";
    AUDIT_RECORDS Counter "pgveil_audit_records_total" "Records written to the access log.";
    AUDIT_BYTES Counter "pgveil_audit_written_bytes_total" "Bytes written to the access log.";
    AUDIT_FSYNC Histogram "pgveil_audit_fsync_seconds" "Duration of one group commit of the access log.";
    AUDIT_LAST_FSYNC Gauge "pgveil_audit_last_fsync_timestamp_seconds" "When the access log was last made durable, Unix time.";
    AUDIT_ERRORS Counter "pgveil_audit_errors_total" "Writes or fsyncs of the access log that failed.";
    AUDIT_UP Gauge "pgveil_audit_up" "1 while the access log can be written, else 0.";
    ANCHOR_ERRORS Counter "pgveil_audit_anchor_errors_total" "Signed checkpoints of the access log that could not be written to an anchor.";
    SHIP_LAG Gauge "pgveil_ship_lag_records" "Durable records of the access log that are not in PostgreSQL yet; 0 unless [store] ship = true.";
    SHIPPED Counter "pgveil_shipped_records_total" "Events of the access log copied into PostgreSQL.";
    SHIP_ERRORS Counter "pgveil_ship_errors_total" "Attempts to copy the access log into PostgreSQL that failed, and gaps found on the way.";
    AUDIT_UNFINISHED Gauge "pgveil_audit_intents_without_outcome" "Intents of the previous run that never got an outcome, counted at start.";
    ALERTS Counter "pgveil_alerts_total" "Alerts of the breach detector, by rule.";
    SINK_UP Gauge "pgveil_sink_up" "1 while alerts reach a sink ([[alerts.sinks]]); 0 from the third failed try in a row to the next delivery.";
    SINK_ERRORS Counter "pgveil_sink_errors_total" "Tries to deliver to a sink that failed.";
    SINK_DELIVERED Counter "pgveil_sink_delivered_total" "Messages that a sink has taken.";
    INCIDENTS_OPEN Gauge "pgveil_incidents_open" "Incidents that are not closed, by severity, without drills; 0 unless [store] ship = true.";
    INCIDENT_DEADLINE Gauge "pgveil_incident_deadline_seconds" "Time until the nearest end of an open incident's 72 hours (GDPR, Article 33); negative when it is over, +Inf when there is none.";
    INCIDENT_HIPAA Gauge "pgveil_incident_hipaa_deadline_seconds" "Time until the nearest end of an open incident's 60 days (HIPAA); negative when it is over, +Inf when there is none.";
    RESPONSES Counter "pgveil_detector_actions_total" "Alerts of the breach detector that something followed, by action.";
    QUARANTINED Gauge "pgveil_quarantined" "Logins that are refused until somebody releases them.";
    DETECTOR_ACTORS Gauge "pgveil_detector_actors" "Actors the breach detector holds windows for.";
    DETECTOR_EVICTED Counter "pgveil_detector_evictions_total" "Actors with live windows dropped because the bound was reached.";
    DETECTOR_GAPS Counter "pgveil_detector_gaps_total" "Events a rule could not judge: unknown time zone, memory of first times full.";
    KEY_CREATED Gauge "pgveil_key_created_timestamp_seconds" "When the current key of a column was made, Unix time; its age is time() minus this.";
    RULES_VERSION Gauge "pgveil_rules_version" "Version of the rules in force.";
    PAUSED Gauge "pgveil_paused" "1 between PAUSE and RESUME on the console: new statements wait; else 0.";
    OBSERVING Gauge "pgveil_observing" "1 while the policy in force only observes (mode): plaintext is shown to everybody as PostgreSQL has it; else 0.";
    POLICY_LOADED Counter "pgveil_policy_reloads_total" "Attempts to load the policy, by outcome.";
    CATALOG_LOADED Gauge "pgveil_catalog_loaded_timestamp_seconds" "When the catalog was last read, Unix time; its age is time() minus this.";
    BYPASS_BLIND Gauge "pgveil_bypass_blind" "1 while rule bypass is on and the control account may not see who else is connected, else 0.";
    CATALOG_ERRORS Counter "pgveil_catalog_errors_total" "Attempts to read the catalog that failed.";
}

/// Labels of `pgveil_alerts_total`: the detector's rules.
pub const ALERT_RULES: [&str; 13] = [
    "bulk",
    "subjects",
    "after_hours",
    "failures",
    "export",
    "tamper",
    "canary",
    "sequence",
    "first_time",
    "break_glass",
    "policy_change",
    "bypass",
    "unusual",
];

/// Labels of `pgveil_incidents_open`, the mildest first.
pub const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];

/// Labels of `pgveil_detector_actions_total`.
pub const RESPONSES_BY: [&str; 4] = ["throttle", "stop", "kill", "quarantine"];

/// The most columns `pgveil_key_created_timestamp_seconds` has a series for.
pub const KEYS_MAX: usize = 4_096;

/// Upper bounds of the added-latency histogram, seconds.
pub const LATENCY_BUCKETS: [f64; 14] =
    [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.25, 1.0];

/// Upper bounds of the fsync histogram, seconds.
pub const FSYNC_BUCKETS: [f64; 12] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 5e-2, 0.1, 0.5, 2.0];

/// Histograms and their bounds, for whoever builds the recorder.
pub const HISTOGRAMS: [(&str, &[f64]); 2] = [(ADDED_LATENCY, &LATENCY_BUCKETS), (AUDIT_FSYNC, &FSYNC_BUCKETS)];

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// The server reported an error.
    Error,
    /// pgveil refused it.
    Refused,
}

/// What became of the sealed columns of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTreatment {
    /// At least one was shown in clear.
    Opened,
    /// At least one was masked, none shown in clear.
    Masked,
    /// At least one left as its envelope, none opened.
    Sealed,
    /// At least one was sealed on its way in.
    Written,
}

const ACCESSES: [(Access, &str); 5] = [
    (Access::Read, "read"),
    (Access::Write, "write"),
    (Access::Delete, "delete"),
    (Access::Export, "export"),
    (Access::Other, "other"),
];
const OUTCOMES: [&str; 3] = ["ok", "error", "refused"];
const TREATMENTS: [&str; 4] = ["opened", "masked", "sealed", "written"];

/// Pre-registered handles. Shared by `Arc`; every method is a few atomic operations.
pub struct Meters {
    ready: Gauge,
    upstream_up: Gauge,
    upstream_errors: Counter,
    connections_open: Gauge,
    connections_accepted: Counter,
    connections_refused: Counter,
    logins_failed: Counter,
    cancels: Counter,
    statements: [[Counter; 3]; 5],
    rows: [Counter; 4],
    refusals: Vec<Counter>,
    seal_errors: Counter,
    open_errors: Counter,
    added_latency: Histogram,
    plan_hits: Counter,
    plan_misses: Counter,
    plan_entries: Gauge,
    audit_queue: Gauge,
    audit_records: Counter,
    audit_bytes: Counter,
    audit_fsync: Histogram,
    audit_last_fsync: Gauge,
    audit_errors: Counter,
    audit_up: Gauge,
    anchor_errors: Counter,
    ship_lag: Gauge,
    shipped: Counter,
    ship_errors: Counter,
    audit_unfinished: Gauge,
    alerts: [Counter; ALERT_RULES.len()],
    incidents_open: [Gauge; SEVERITIES.len()],
    incident_deadline: Gauge,
    incident_hipaa: Gauge,
    responses: [Counter; RESPONSES_BY.len()],
    quarantined: Gauge,
    detector_actors: Gauge,
    detector_evicted: Counter,
    detector_gaps: Counter,
    /// Columns that have a series.
    keys: Mutex<HashSet<String>>,
    rules_version: Gauge,
    paused: Gauge,
    observing: Gauge,
    policy_loaded: [Counter; 2],
    catalog_loaded: Gauge,
    bypass_blind: Gauge,
    catalog_errors: Counter,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters(…)")
    }
}

fn counter(name: &'static str) -> Counter {
    ::metrics::counter!(name)
}

fn labelled(name: &'static str, label: &'static str, value: &'static str) -> Counter {
    ::metrics::counter!(name, label => value)
}

fn gauge(name: &'static str) -> Gauge {
    ::metrics::gauge!(name)
}

/// Seconds until something that is not in sight.
fn never(name: &'static str) -> Gauge {
    let gauge = gauge(name);
    gauge.set(f64::INFINITY);
    gauge
}

fn describe() {
    for metric in CATALOGUE {
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => ::metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => ::metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

impl Meters {
    /// Registers and describes every metric with the current recorder (`metrics::with_local_recorder`, else the
    /// global one); a recorder installed later is not seen.
    pub fn new() -> Self {
        describe();
        ::metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        let statements = ACCESSES.map(|(_, access)| {
            OUTCOMES.map(|outcome| ::metrics::counter!(STATEMENTS, "access" => access, "outcome" => outcome))
        });
        Self {
            ready: gauge(READY),
            upstream_up: gauge(UPSTREAM_UP),
            upstream_errors: counter(UPSTREAM_ERRORS),
            connections_open: gauge(CONNECTIONS_OPEN),
            connections_accepted: counter(CONNECTIONS_ACCEPTED),
            connections_refused: counter(CONNECTIONS_REFUSED),
            logins_failed: counter(LOGINS_FAILED),
            cancels: counter(CANCELS),
            statements,
            rows: TREATMENTS.map(|treatment| labelled(ROWS, "treatment", treatment)),
            refusals: Code::ALL.iter().map(|code| labelled(REFUSALS, "code", code.as_str())).collect(),
            seal_errors: counter(SEAL_ERRORS),
            open_errors: counter(OPEN_ERRORS),
            added_latency: ::metrics::histogram!(ADDED_LATENCY),
            plan_hits: counter(PLAN_HITS),
            plan_misses: counter(PLAN_MISSES),
            plan_entries: gauge(PLAN_ENTRIES),
            audit_queue: gauge(AUDIT_QUEUE),
            audit_records: counter(AUDIT_RECORDS),
            audit_bytes: counter(AUDIT_BYTES),
            audit_fsync: ::metrics::histogram!(AUDIT_FSYNC),
            audit_last_fsync: gauge(AUDIT_LAST_FSYNC),
            audit_errors: counter(AUDIT_ERRORS),
            audit_up: gauge(AUDIT_UP),
            anchor_errors: counter(ANCHOR_ERRORS),
            ship_lag: gauge(SHIP_LAG),
            shipped: counter(SHIPPED),
            ship_errors: counter(SHIP_ERRORS),
            audit_unfinished: gauge(AUDIT_UNFINISHED),
            alerts: ALERT_RULES.map(|rule| labelled(ALERTS, "rule", rule)),
            incidents_open: SEVERITIES.map(|severity| ::metrics::gauge!(INCIDENTS_OPEN, "severity" => severity)),
            incident_deadline: never(INCIDENT_DEADLINE),
            incident_hipaa: never(INCIDENT_HIPAA),
            responses: RESPONSES_BY.map(|action| labelled(RESPONSES, "action", action)),
            quarantined: gauge(QUARANTINED),
            detector_actors: gauge(DETECTOR_ACTORS),
            detector_evicted: counter(DETECTOR_EVICTED),
            detector_gaps: counter(DETECTOR_GAPS),
            keys: Mutex::default(),
            rules_version: gauge(RULES_VERSION),
            paused: gauge(PAUSED),
            observing: gauge(OBSERVING),
            policy_loaded: ["ok", "refused"].map(|outcome| labelled(POLICY_LOADED, "outcome", outcome)),
            catalog_loaded: gauge(CATALOG_LOADED),
            bypass_blind: gauge(BYPASS_BLIND),
            catalog_errors: counter(CATALOG_ERRORS),
        }
    }

    /// Handles that lead nowhere, for tests and offline commands.
    pub fn detached() -> Self {
        ::metrics::with_local_recorder(&::metrics::NoopRecorder, Self::new)
    }

    /// `/readyz` answers 200.
    pub fn ready(&self, ready: bool) {
        self.ready.set(f64::from(u8::from(ready)));
    }

    /// PostgreSQL was seen to accept connections, or not.
    pub fn upstream_seen(&self, up: bool) {
        self.upstream_up.set(f64::from(u8::from(up)));
    }

    /// A client's connection to PostgreSQL was made, or could not be.
    pub fn upstream(&self, reached: bool) {
        self.upstream_seen(reached);
        if !reached {
            self.upstream_errors.increment(1);
        }
    }

    /// A client connection was accepted; pair with [`Meters::connection_closed`].
    pub fn connection_opened(&self) {
        self.connections_accepted.increment(1);
        self.connections_open.increment(1.0);
    }

    /// An accepted client connection ended.
    pub fn connection_closed(&self) {
        self.connections_open.decrement(1.0);
    }

    /// A client connection was refused; the code is counted as a refusal too.
    pub fn connection_refused(&self, code: Code) {
        self.connections_refused.increment(1);
        self.refusal(code);
    }

    /// A login failed.
    pub fn login_failed(&self) {
        self.logins_failed.increment(1);
    }

    /// A CancelRequest arrived.
    pub fn cancel_requested(&self) {
        self.cancels.increment(1);
    }

    /// A statement ended.
    pub fn statement(&self, access: Access, outcome: Outcome) {
        self.statements[access as usize][outcome as usize].increment(1);
    }

    /// Rows with a sealed column were released or written.
    pub fn rows(&self, treatment: RowTreatment, count: u64) {
        self.rows[treatment as usize].increment(count);
    }

    /// Something was refused.
    pub fn refusal(&self, code: Code) {
        self.refusals[code as usize].increment(1);
    }

    /// A value could not be sealed.
    pub fn seal_error(&self) {
        self.seal_errors.increment(1);
    }

    /// A cell of a sealed column did not open.
    pub fn open_error(&self) {
        self.open_errors.increment(1);
    }

    /// Nanoseconds spent on one batch of messages.
    pub fn added_latency_ns(&self, ns: u64) {
        self.added_latency.record(seconds(ns));
    }

    /// The plan cache was asked.
    pub fn plan(&self, hit: bool) {
        if hit { &self.plan_hits } else { &self.plan_misses }.increment(1);
    }

    /// Decisions in the plan cache.
    pub fn plan_entries(&self, entries: usize) {
        self.plan_entries.set(entries as f64);
    }

    /// Records waiting to be written.
    pub fn audit_queue(&self, depth: usize) {
        self.audit_queue.set(depth as f64);
    }

    /// Records and bytes written.
    pub fn audit_written(&self, records: u64, bytes: u64) {
        self.audit_records.increment(records);
        self.audit_bytes.increment(bytes);
    }

    /// The log was made durable at `unix_us`, which took `ns` nanoseconds.
    pub fn audit_synced(&self, ns: u64, unix_us: i64) {
        self.audit_fsync.record(seconds(ns));
        self.audit_last_fsync.set(unix_us as f64 / 1e6);
    }

    /// A write or fsync failed.
    pub fn audit_error(&self) {
        self.audit_errors.increment(1);
    }

    /// The log can be written.
    pub fn audit_up(&self, up: bool) {
        self.audit_up.set(f64::from(u8::from(up)));
    }

    /// Records of the access log that are not in PostgreSQL yet.
    pub fn ship_lag(&self, records: u64) {
        self.ship_lag.set(records as f64);
    }

    /// Events were copied into PostgreSQL.
    pub fn shipped(&self, events: u64) {
        self.shipped.increment(events);
    }

    /// They could not be, or some were missing.
    pub fn ship_error(&self) {
        self.ship_errors.increment(1);
    }

    /// A signed checkpoint could not be written to an anchor.
    pub fn anchor_error(&self) {
        self.anchor_errors.increment(1);
    }

    /// Intents of the previous run that never got an outcome.
    pub fn audit_unfinished(&self, intents: u64) {
        self.audit_unfinished.set(intents as f64);
    }

    /// Something followed an alert; `action` is one of [`RESPONSES_BY`].
    pub fn response(&self, action: &str) {
        if let Some(index) = RESPONSES_BY.iter().position(|known| *known == action) {
            self.responses[index].increment(1);
        }
    }

    /// So many logins are refused.
    pub fn quarantined(&self, logins: usize) {
        self.quarantined.set(logins as f64);
    }

    /// An alert was raised; `rule` is one of [`ALERT_RULES`].
    pub fn alert(&self, rule: &str) {
        if let Some(index) = ALERT_RULES.iter().position(|known| *known == rule) {
            self.alerts[index].increment(1);
        }
    }

    /// So many incidents of that severity ([`SEVERITIES`]) are open.
    pub fn incidents_open(&self, severity: usize, count: u64) {
        if let Some(gauge) = self.incidents_open.get(severity) {
            gauge.set(count as f64);
        }
    }

    /// Seconds until the nearest deadlines: the authority's, HIPAA's.
    pub fn incident_deadlines(&self, authority: f64, hipaa: f64) {
        self.incident_deadline.set(authority);
        self.incident_hipaa.set(hipaa);
    }

    /// The series of a sink, named in the configuration.
    pub fn sink(&self, name: &str) -> SinkMeter {
        let name = name.to_owned();
        SinkMeter {
            up: ::metrics::gauge!(SINK_UP, "sink" => name.clone()),
            errors: ::metrics::counter!(SINK_ERRORS, "sink" => name.clone()),
            delivered: ::metrics::counter!(SINK_DELIVERED, "sink" => name),
        }
    }

    /// The detector's state: actors held now, evictions and gaps since the last call.
    pub fn detector(&self, actors: usize, evicted: u64, gaps: u64) {
        self.detector_actors.set(actors as f64);
        self.detector_evicted.increment(evicted);
        self.detector_gaps.increment(gaps);
    }

    /// The current key of `column` (`schema.table.column`) was made at `unix_s`. Past [`KEYS_MAX`] columns no further
    /// series are made.
    pub fn key_created(&self, column: &str, unix_s: i64) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < KEYS_MAX || keys.contains(column) {
            keys.insert(column.to_owned());
            ::metrics::gauge!(KEY_CREATED, "column" => column.to_owned()).set(unix_s as f64);
        }
    }

    /// Rules of that version are in force.
    pub fn rules_version(&self, version: u64) {
        self.rules_version.set(version as f64);
    }

    /// New statements wait.
    pub fn paused(&self, paused: bool) {
        self.paused.set(f64::from(u8::from(paused)));
    }

    /// The rules in force only observe.
    pub fn observing(&self, observing: bool) {
        self.observing.set(f64::from(u8::from(observing)));
    }

    /// The policy was loaded, or refused.
    pub fn policy_loaded(&self, accepted: bool) {
        self.policy_loaded[usize::from(!accepted)].increment(1);
    }

    /// Rule `bypass` cannot see.
    pub fn bypass_blind(&self, blind: bool) {
        self.bypass_blind.set(f64::from(u8::from(blind)));
    }

    /// The catalog was read at `unix_us`.
    pub fn catalog_loaded(&self, unix_us: i64) {
        self.catalog_loaded.set(unix_us as f64 / 1e6);
    }

    /// Attempts to read the catalog that failed, since start.
    pub fn catalog_errors(&self, failed: u64) {
        self.catalog_errors.absolute(failed);
    }
}

/// What one sink of alerts counts.
#[derive(Clone)]
pub struct SinkMeter {
    up: Gauge,
    errors: Counter,
    delivered: Counter,
}

impl std::fmt::Debug for SinkMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SinkMeter(…)")
    }
}

impl SinkMeter {
    /// Alerts reach it, or not.
    pub fn up(&self, up: bool) {
        self.up.set(f64::from(u8::from(up)));
    }

    /// A try failed.
    pub fn error(&self) {
        self.errors.increment(1);
    }

    /// It has taken a message.
    pub fn delivered(&self) {
        self.delivered.increment(1);
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_arrays_follow_the_enums_they_are_indexed_by() {
        for (index, (access, _)) in ACCESSES.iter().enumerate() {
            assert_eq!(*access as usize, index);
        }
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index);
        }
        assert_eq!(OUTCOMES[Outcome::Refused as usize], "refused");
        assert_eq!(TREATMENTS[RowTreatment::Written as usize], "written");
    }

    #[test]
    fn every_metric_is_described_and_appears() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            let meters = Meters::new();
            meters.key_created("public.users.email", 1);
            let sink = meters.sink("hook");
            sink.up(true);
            sink.error();
            sink.delivered();
            meters.added_latency_ns(1_000);
            meters.audit_synced(1_000, 1);
        });
        let text = handle.render();
        for metric in CATALOGUE {
            assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{} has no help", metric.name);
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{} is not registered", metric.name);
            assert!(metric.name.starts_with("pgveil_"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
        let typed = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(typed, CATALOGUE.len(), "a metric is missing from the catalogue");
    }

    #[test]
    fn counts_reach_the_series_they_name() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            let meters = Meters::new();
            meters.statement(Access::Export, Outcome::Refused);
            meters.rows(RowTreatment::Masked, 7);
            meters.refusal(Code::AuditDown);
            meters.alert("bulk");
            meters.alert("no such rule");
        });
        let text = handle.render();
        assert!(text.contains(r#"pgveil_statements_total{access="export",outcome="refused"} 1"#), "{text}");
        assert!(text.contains(r#"pgveil_rows_total{treatment="masked"} 7"#));
        assert!(text.contains(r#"pgveil_refusals_total{code="PV021"} 1"#));
        assert!(text.contains(r#"pgveil_alerts_total{rule="bulk"} 1"#));
    }
}
