//! What a sink is told: one alert, or several added up. Pure.
//!
//! In: events of the access log. Out: JSON, a mail's subject and text, an alert for Alertmanager. Never: a value, a
//! person, a statement, text that a client chose besides the name of its role.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{EACH_MAX, READ_MAX};
use crate::detect::Severity;
use crate::event::{Alert, Event};

/// The rule of alerts about sinks.
pub const SINK_RULE: &str = "sink";
/// The rule of messages that `pgveil alerts test` sends.
pub(super) const TEST_RULE: &str = "test";

/// Where messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The keyring's deployment id.
    pub deployment: String,
    /// Which of its proxies: where it serves PostgreSQL.
    pub instance: String,
}

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    version: u32,
    /// The same for each try: whoever has seen it need not look again.
    pub id: String,
    #[serde(rename = "type")]
    kind: String,
    rule: String,
    severity: &'static str,
    at: String,
    deployment: String,
    instance: String,
    /// The record in the access log.
    pub seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
    observed: u64,
    threshold: u64,
    window_s: u64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
}

/// Several alerts in one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Summary {
    alerts: usize,
    rules: BTreeMap<String, usize>,
    first_seq: u64,
    first_at: String,
    last_at: String,
}

impl Message {
    /// About the alert that is record `seq`.
    pub fn new(seq: u64, event: &Event, alert: &Alert, source: &Source) -> Self {
        let actor = event.actor.as_deref();
        let client = actor.and_then(|actor| actor.client);
        Self {
            version: 1,
            id: id(source, seq, event.at_us),
            kind: kind(&alert.rule).to_owned(),
            rule: alert.rule.clone(),
            severity: Severity::named(&alert.severity).as_str(),
            at: at(event.at_us),
            deployment: source.deployment.clone(),
            instance: source.instance.clone(),
            seq,
            role: actor.map(|actor| actor.role.clone()),
            database: actor.map(|actor| actor.database.clone()),
            address: alert.address.or(client).map(|address| address.to_string()),
            connection: Some(event.connection).filter(|number| *number > 0),
            observed: alert.observed,
            threshold: alert.threshold,
            window_s: alert.window_s,
            message: alert.message.clone(),
            summary: None,
        }
    }

    /// What `pgveil alerts test` sends.
    pub fn test(source: &Source, at_us: i64) -> Self {
        let alert = Alert {
            rule: TEST_RULE.to_owned(),
            severity: Severity::Low.as_str().to_owned(),
            observed: 0,
            threshold: 0,
            window_s: 0,
            address: None,
            action: Default::default(),
            message: "a test of this sink by `pgveil alerts test`; nothing has happened".to_owned(),
        };
        Self::new(0, &Event::new(crate::event::EventKind::Alert, at_us), &alert, source)
    }

    /// Of at least one alert, oldest first.
    fn of(alerts: &[(u64, Event)], source: &Source) -> Option<Self> {
        let ((first_seq, first), (seq, last)) = (alerts.first()?, alerts.last()?);
        let mut rules = BTreeMap::new();
        let mut worst = Severity::Low;
        for alert in alerts.iter().filter_map(|(_, event)| event.alert.as_ref()) {
            *rules.entry(alert.rule.clone()).or_insert(0) += 1;
            worst = worst.max(Severity::named(&alert.severity));
        }
        let told: Vec<String> = rules.iter().map(|(rule, count)| format!("{count} × {rule}")).collect();
        let (first_at, last_at) = (at(first.at_us), at(last.at_us));
        let message = format!(
            "{} alerts waited and are told together: {}; from {first_at} to {last_at}, records {first_seq} to {seq} of \
             the access log",
            alerts.len(),
            told.join(", "),
        );
        Some(Self {
            version: 1,
            id: id(source, *seq, last.at_us),
            kind: "summary".to_owned(),
            rule: "summary".to_owned(),
            severity: worst.as_str(),
            at: last_at.clone(),
            deployment: source.deployment.clone(),
            instance: source.instance.clone(),
            seq: *seq,
            role: None,
            database: None,
            address: None,
            connection: None,
            observed: alerts.len() as u64,
            threshold: 0,
            window_s: 0,
            message,
            summary: Some(Summary { alerts: alerts.len(), rules, first_seq: *first_seq, first_at, last_at }),
        })
    }

    /// A webhook's body, a line of a file.
    pub fn json(&self) -> String {
        // Writing into memory cannot fail, and the only map has strings for keys.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A mail's subject, as the founding documents have it.
    pub fn subject(&self) -> String {
        format!("Privacy Alert: {}", self.kind)
    }

    /// A mail's text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.message);
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<11}{}\n", value.escape_debug()));
        line("severity", self.severity);
        line("rule", &self.rule);
        line("at", &self.at);
        for (name, value) in [("role", &self.role), ("database", &self.database), ("address", &self.address)] {
            if let Some(value) = value {
                line(name, value);
            }
        }
        line("instance", &self.instance);
        line("deployment", &self.deployment);
        line("record", &self.seq.to_string());
        text.push_str("\nWho saw what is in the access log: `pgveil log tail`, `pgveil incidents list`.\n");
        text
    }

    /// The body for Alertmanager's `/api/v2/alerts`. Empty labels are left out: to it they are no labels.
    pub fn alertmanager(&self) -> Value {
        let mut labels = serde_json::Map::new();
        for (name, value) in [
            ("alertname", "PgveilPrivacyAlert"),
            ("rule", &self.rule),
            ("severity", self.severity),
            ("role", self.role.as_deref().unwrap_or_default()),
            ("database", self.database.as_deref().unwrap_or_default()),
            ("instance", &self.instance),
            ("deployment", &self.deployment),
        ] {
            if !value.is_empty() {
                labels.insert(name.to_owned(), value.into());
            }
        }
        let annotations = json!({
            "summary": self.subject(),
            "description": self.message,
            "record": self.seq.to_string(),
            "id": self.id,
        });
        json!([{ "labels": labels, "annotations": annotations, "startsAt": self.at }])
    }
}

/// The messages for these alerts (oldest first), each with the record up to which it speaks.
pub fn digest(alerts: &[(u64, Event)], source: &Source) -> Vec<Message> {
    // As many as are read at once: there may be any number more, and single ones would be told among them.
    let each = if alerts.len() >= READ_MAX { 0 } else { EACH_MAX };
    let (together, single) = alerts.split_at(alerts.len().saturating_sub(each));
    let single =
        single.iter().filter_map(|(seq, event)| Some(Message::new(*seq, event, event.alert.as_ref()?, source)));
    Message::of(together, source).into_iter().chain(single).collect()
}

/// Records of two proxies with one keyring differ in time.
fn id(source: &Source, seq: u64, at_us: i64) -> String {
    format!("{}-{seq}-{at_us}", source.deployment)
}

fn at(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| format!("{at:.3}"))
}

/// The founding documents' word for what a rule finds.
fn kind(rule: &str) -> &str {
    match rule {
        "bulk" => "bulk_data_access",
        "subjects" => "multiple_user_access",
        "after_hours" => "after_hours_access",
        "failures" => "failed_access_attempts",
        "export" => "large_data_export",
        other => other,
    }
}
