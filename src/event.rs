//! What happened, in words that cannot hold a value: the access log's and the detector's only input.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::SqlState;

/// How the actor was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorAuth {
    /// `trust` in pg_hba, allowed by `[listen] allow_trust`.
    Trust,
    /// A password exchange with the server, relayed in clear inside TLS or on loopback.
    Cleartext,
    /// MD5 challenge.
    Md5,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// Not established (failed login).
    None,
}

/// Who asks: the authenticated login of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The PostgreSQL login role.
    pub role: String,
    /// The database.
    pub database: String,
    /// How we know.
    pub auth: ActorAuth,
    /// `application_name` as the client set it, cut to 64 characters, control characters replaced.
    pub application: String,
    /// The client's address; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// The declared purpose, if any.
    pub purpose: Option<String>,
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The proxy started.
    Start,
    /// The proxy stopped in order.
    Stop,
    /// A login succeeded.
    Login,
    /// A login failed.
    LoginFailed,
    /// A session ended.
    Logout,
    /// Written before protected bytes are released or a protected write is forwarded.
    Intent,
    /// A statement ended; the outcome.
    Statement,
    /// A statement was refused.
    Refused,
    /// A cell did not open.
    Tamper,
    /// An envelope left as the bytes it is because its field is not known to be sealed.
    Untyped,
    /// A policy was loaded or refused.
    Policy,
    /// The detector raised an alert.
    Alert,
}

/// What was done to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Rows came back.
    Read,
    /// Rows were inserted or updated.
    Write,
    /// Rows were deleted.
    Delete,
    /// COPY TO, pg_dump.
    Export,
    /// None of these.
    Other,
}

/// What became of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Opened, or plaintext within clearance.
    Clear,
    /// Opened and masked, or NULL in its place.
    Masked,
    /// Left sealed.
    Sealed,
    /// Written by the client.
    Written,
    /// Used to find rows.
    Searched,
    /// The statement was refused because of it.
    Refused,
}

/// One column touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Touch {
    /// `schema.table`.
    pub relation: Arc<str>,
    /// Column name.
    pub column: Arc<str>,
    /// What became of it.
    pub shown: Shown,
}

/// A person, as a keyed pseudonym: HMAC-SHA-256 over kind and key, first 128 bits, lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The policy's `subject.kind`.
    pub kind: Arc<str>,
    /// 32 hex digits.
    pub pseudonym: String,
}

/// Whose data it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subjects {
    /// Distinct people, at most [`Subjects::MAX`].
    pub known: Vec<Subject>,
    /// Rows released whose subject was not in the result or the statement.
    pub unknown_rows: u64,
    /// Distinct people beyond the bound.
    pub more: u64,
}

impl Subjects {
    /// The most people one event names; further ones are counted.
    pub const MAX: usize = 1_000;
}

/// The detector's finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// `bulk`, `subjects`, `after_hours`, `failures`, `export`, `tamper`.
    pub rule: String,
    /// `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// What was counted.
    pub observed: u64,
    /// The threshold it crossed.
    pub threshold: u64,
    /// The window, in seconds; 0 where the rule has none.
    pub window_s: u64,
    /// One sentence.
    pub message: String,
}

/// One event. There is no field that could hold a value: text comes from the fingerprinter with literals cut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// Microseconds since the Unix epoch, UTC.
    pub at_us: i64,
    /// The proxy's connection number; 0 for the proxy itself.
    pub connection: u64,
    /// The statement's number within its connection, pairing an intent with its outcome; 0 if none.
    pub statement: u64,
    /// Who.
    pub actor: Option<Arc<Actor>>,
    /// The rules it was decided under.
    pub rules_version: u64,
    /// Hash of the statement with literals and comments cut out, 16 hex digits.
    pub fingerprint: Option<Arc<str>>,
    /// The statement with literals and comments cut out.
    pub text: Option<Arc<str>>,
    /// What was done.
    pub access: Access,
    /// Columns touched.
    pub touches: Vec<Touch>,
    /// The statement ran code we cannot see into (DO, CALL, unknown functions).
    pub touches_unknown: bool,
    /// Rows released to the client, or rows written.
    pub rows: u64,
    /// Whose.
    pub subjects: Subjects,
    /// How it ended; `None` = success.
    pub sqlstate: Option<String>,
    /// The PV code of a refusal.
    pub code: Option<String>,
    /// Wall time from the statement's arrival to its end, microseconds.
    pub duration_us: u64,
    /// The finding, for `Alert`.
    pub alert: Option<Alert>,
    /// What the proxy has to say (policy version, reason): never from client bytes.
    pub note: Option<String>,
}

impl Event {
    /// An event with nothing but its kind and time.
    pub fn new(kind: EventKind, at_us: i64) -> Self {
        Self {
            kind,
            at_us,
            connection: 0,
            statement: 0,
            actor: None,
            rules_version: 0,
            fingerprint: None,
            text: None,
            access: Access::Other,
            touches: Vec::new(),
            touches_unknown: false,
            rows: 0,
            subjects: Subjects::default(),
            sqlstate: None,
            code: None,
            duration_us: 0,
            alert: None,
            note: None,
        }
    }

    /// Sets the SQLSTATE.
    pub fn ended(mut self, sqlstate: SqlState) -> Self {
        self.sqlstate = Some(sqlstate.as_str().to_owned());
        self
    }
}
