//! Sinks of alerts: webhooks, mail, Alertmanager, files.
//!
//! In: the access log, which is the outbox: a task for each sink follows its alerts from a place that a small file
//! remembers ([`Cursor`]). Out: each alert to each sink at least once, with a key that tells a repetition. Never: a sink
//! that waits for another, an alert dropped because a sink was down, a value or a person in a message, a redirect
//! followed, an answer's body read.
//!
//! What could not be delivered is tried again after 1 s, 2 s, … 5 min, each wait up to half shorter by chance. The third
//! failure in a row is itself an alert, of rule `sink`, which the other sinks deliver. When more than [`EACH_MAX`] alerts
//! wait, all but the newest of them are added up in one message; when more than [`READ_MAX`] wait, each such part of the
//! log is.

mod cursor;
mod deliver;
mod file;
mod http;
mod message;
mod smtp;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub use cursor::Cursor;
pub use http::Target;
pub use message::{Message, SINK_RULE, Source, digest};

use crate::audit::Alerts;
use crate::desk::Desk;
use crate::detect::Severity;
use crate::error::{Error, Result};
use crate::metrics::Meters;

/// Alerts that are told one by one when they have piled up.
pub const EACH_MAX: usize = 10;
/// Alerts read from the log at once.
pub const READ_MAX: usize = 1_000;
/// The most sinks a configuration may have.
pub const SINKS_MAX: usize = 16;

/// `[[alerts.sinks]]`
#[derive(Clone, Debug)]
pub struct Settings {
    /// In metrics, in log lines, in the name of its cursor's file.
    pub name: String,
    /// Alerts below it are not for this sink.
    pub min_severity: Severity,
    /// For one delivery in all.
    pub timeout: Duration,
    /// Where to.
    pub kind: Kind,
}

/// What a sink is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// JSON by POST, signed with the secret in the file.
    Webhook {
        /// Where to.
        target: Target,
        /// Its first line is the secret.
        secret_file: PathBuf,
    },
    /// Alertmanager's API, version 2.
    Alertmanager {
        /// Its address, to which `/api/v2/alerts` is added.
        target: Target,
        /// Its first line is sent as bearer token.
        token_file: Option<PathBuf>,
    },
    /// Mail.
    Smtp(smtp::Settings),
    /// One JSON line for each message.
    File(PathBuf),
}

pub use smtp::{Encryption, Settings as SmtpSettings};

impl Kind {
    /// The configuration's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Smtp(_) => "smtp",
            Self::File(_) => "log",
        }
    }
}

/// Why a sink has not taken a message, in words that hold nothing the other side has sent but its status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub(crate) String);

impl Failure {
    fn new(said: impl std::fmt::Display) -> Self {
        Self(said.to_string())
    }
}

/// A sink ready to take messages.
#[derive(Clone, Debug)]
pub struct Sink {
    settings: Settings,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Webhook(http::Webhook),
    Alertmanager(http::Alertmanager),
    Smtp(Box<smtp::Smtp>),
    File(PathBuf),
}

impl Sink {
    /// Reads what the settings name: authorities, secrets. Secrets are read anew for each delivery.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn new(settings: &Settings) -> Result<Self> {
        let way = match &settings.kind {
            Kind::Webhook { target, secret_file } => Way::Webhook(http::Webhook::new(target, secret_file)?),
            Kind::Alertmanager { target, token_file } => {
                Way::Alertmanager(http::Alertmanager::new(target, token_file.as_deref())?)
            }
            Kind::Smtp(smtp) => Way::Smtp(Box::new(smtp::Smtp::new(smtp, settings.timeout)?)),
            Kind::File(path) => Way::File(path.clone()),
        };
        Ok(Self { settings: settings.clone(), way })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// One try.
    ///
    /// # Errors
    /// It was not taken, or not known to be within the sink's timeout.
    pub async fn send(&self, message: &Message) -> Result<(), Failure> {
        let sending = async {
            match &self.way {
                Way::Webhook(webhook) => webhook.send(message).await,
                Way::Alertmanager(alertmanager) => alertmanager.send(message).await,
                Way::Smtp(smtp) => smtp.send(message).await,
                Way::File(path) => file::append(path, message).await,
            }
        };
        match tokio::time::timeout(self.settings.timeout, sending).await {
            Ok(done) => done,
            Err(_) => Err(Failure::new(format!("no answer within {} s", self.settings.timeout.as_secs()))),
        }
    }
}

/// Starts a task for each sink; dropping what is returned ends them. What they have not delivered then, they deliver
/// when they are started again.
///
/// # Errors
/// A sink's files cannot be read, or its cursor.
pub fn start(sinks: &[Settings], log: &Place, desk: &Desk, meters: &Arc<Meters>) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    if sinks.is_empty() {
        return Ok(tasks);
    }
    std::fs::create_dir_all(&log.cursors)
        .map_err(|e| Error::io(format!("making the folder {}", log.cursors.display()), e))?;
    let marks = *desk.marks().borrow();
    for settings in sinks {
        let sink = Sink::new(settings)?;
        let mut cursor = Cursor::open(&log.cursors, &settings.name, marks.before)?;
        if cursor.seen > marks.durable {
            tracing::warn!(
                target: "pgveil::sink",
                sink = settings.name,
                "the access log is younger than what this sink has seen: every alert in it is delivered"
            );
            cursor.seen = 0;
        }
        let alerts = Alerts::after(&log.dir, cursor.seen)?;
        let meter = meters.sink(&settings.name);
        tasks.spawn(deliver::run(deliver::Follower::new(
            sink,
            cursor,
            alerts,
            log.source.clone(),
            desk.clone(),
            meter,
        )));
    }
    Ok(tasks)
}

/// The log that sinks follow.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its folder.
    pub dir: PathBuf,
    /// Folder of the cursors.
    pub cursors: PathBuf,
    /// What messages say about where they come from.
    pub source: Source,
}
