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
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-256 with pgveil, and with what its proof gave away with the server.
    ScramTerminate,
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
    /// The common name of the client's certificate, of an authority in `[listen] tls client_ca`, if it has shown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `application_name` as the client set it, cut to 64 characters, control characters replaced.
    pub application: String,
    /// The client's address; `None` for a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The declared purpose, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Subject>,
    /// Rows released whose subject was not in the result or the statement.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_rows: u64,
    /// Distinct people beyond the bound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

impl Subjects {
    /// The most people one event names; further ones are counted.
    pub const MAX: usize = 1_000;

    /// Nobody is named and nobody was left out.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown_rows == 0 && self.more == 0
    }
}

/// The detector's finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// `bulk`, `subjects`, `after_hours`, `failures`, `export`, `tamper`.
    pub rule: String,
    /// `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// What was counted; at least this much.
    pub observed: u64,
    /// The threshold it crossed.
    pub threshold: u64,
    /// The window, in seconds; 0 where the rule has none.
    pub window_s: u64,
    /// The rule counted by client address instead of by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// One sentence.
    pub message: String,
}

/// What a record leaves out.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// One event. There is no field that could hold a value: text comes from the fingerprinter with literals cut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// Microseconds since the Unix epoch, UTC.
    pub at_us: i64,
    /// The proxy's connection number; 0 for the proxy itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connection: u64,
    /// The statement's number within its connection, pairing an intent with its outcome; 0 if none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub statement: u64,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<Actor>>,
    /// The rules it was decided under.
    pub rules_version: u64,
    /// Hash of the statement with literals and comments cut out, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Arc<str>>,
    /// The statement with literals and comments cut out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// What was done.
    pub access: Access,
    /// Columns touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touches: Vec<Touch>,
    /// The statement ran code we cannot see into (DO, CALL, unknown functions).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub touches_unknown: bool,
    /// Rows released to the client, or rows written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Whose.
    #[serde(default, skip_serializing_if = "Subjects::is_empty")]
    pub subjects: Subjects,
    /// How it ended; `None` = success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The PV code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Wall time from the statement's arrival to its end, microseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration_us: u64,
    /// The finding, for `Alert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// What the proxy has to say (policy version, reason): never from client bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
