//! `pgveil.toml` → checked settings.
//!
//! In: the file's text and folder. Out: a [`Config`] in which nothing is optional that must be there, or every
//! problem at once with its line. Never: default secrets; a secret's value in a message.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::policy::problem::{Problem, render};
use crate::policy::reader::Document;

mod alerts;
mod auth;
mod console;
mod read;
mod rules;
pub mod url;

pub use url::ControlUrl;

/// Everything `pgveil serve` needs to know. Paths are absolute or relative to the working folder, already joined
/// with the config file's own folder.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[upstream]`
    pub upstream: Upstream,
    /// `[control]`
    pub control: Control,
    /// `[auth]`
    pub auth: Auth,
    /// `[policy] path`: a file, or a folder of `*.toml`.
    pub policy: PathBuf,
    /// `[keys]`
    pub keys: Keys,
    /// `[audit]`
    pub audit: Audit,
    /// `[quarantine] path`: the logins that are refused.
    pub quarantine: PathBuf,
    /// `[store]`
    pub store: Store,
    /// `[organization]`: who reports.
    pub organization: crate::report::Organization,
    /// `[[alerts.sinks]]`
    pub sinks: Vec<crate::notify::Settings>,
    /// `[databases] passthrough`: served without a policy.
    pub passthrough: Vec<String>,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// `[console]`
    pub console: crate::console::Roles,
    /// Allowed, but worth a line in the log.
    pub warnings: Vec<String>,
}

/// `[store]`
#[derive(Clone, Copy, Debug, Default)]
pub struct Store {
    /// The access log is copied into pgveil's own tables.
    pub ship: bool,
}

/// `[listen]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where clients connect.
    pub postgres: SocketAddr,
    /// Metrics and health; always loopback. `None` = `admin = "off"`.
    pub admin: Option<SocketAddr>,
    /// TLS towards clients.
    pub tls: Option<ListenTls>,
    /// Accept logins that the server lets in without a password. Only on loopback.
    pub allow_trust: bool,
    /// Connections served at the same time.
    pub connections_max: u32,
    /// Of one address (IPv6: one /64), logging in or logged in.
    pub connections_per_address_max: Option<u32>,
    /// Of one user, logged in.
    pub connections_per_user_max: Option<u32>,
    /// Which connections may come at all; empty: all.
    pub rules: Vec<crate::relay::Rule>,
    /// Threads that serve connections; `None`: one for each processor.
    pub workers: Option<u32>,
    /// From accept to ReadyForQuery's first request: TLS, startup message, authentication.
    pub startup_timeout: Duration,
    /// How long running statements may take to finish after SIGTERM.
    pub drain_timeout: Duration,
}

/// `[listen] tls`
#[derive(Clone, Debug)]
pub struct ListenTls {
    /// PEM certificate chain.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// PEM certificates of authorities that clients may, or must, present a certificate of.
    pub client_ca: Option<PathBuf>,
    /// A client without a certificate is served too.
    pub certificate_optional: bool,
    /// Refuse clients without TLS.
    pub required: bool,
}

/// `[upstream]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name or address of the PostgreSQL server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS towards it.
    pub tls: UpstreamTls,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
}

/// `[upstream] tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// libpq's `sslmode` without the modes that fall back silently.
    pub mode: TlsMode,
    /// PEM certificates of the authorities; `None` = the system's.
    pub ca: Option<PathBuf>,
}

/// libpq's `sslmode` without `allow` and `prefer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are libpq's")]
pub enum TlsMode {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `mode = "terminate"`: pgveil checks the clients' passwords itself; with what. `None`: `mode = "relay"`.
    pub terminate: Option<Verifiers>,
    /// Users without a SCRAM verifier are asked for their password by the server, through us.
    pub relay_cleartext: bool,
}

/// `[auth] verifiers`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verifiers {
    /// The server's own, through `pgveil.scram_verifier`.
    Function,
    /// Those of a file.
    File(PathBuf),
}

/// `[control]`: pgveil's own account.
#[derive(Clone, Debug)]
pub struct Control {
    /// Host, port, user, database, perhaps a password.
    pub url: ControlUrl,
    /// TLS of the control connection: the URL's `sslmode`, else `[upstream] tls`.
    pub tls: UpstreamTls,
    /// Environment variable with the password, if named.
    pub password_env: Option<String>,
    /// File whose first line is the password, if named.
    pub password_file: Option<PathBuf>,
}

/// `[keys]`
#[derive(Clone, Debug)]
pub struct Keys {
    /// The keyring file.
    pub path: PathBuf,
    /// What unlocks it.
    pub unlock: Unlock,
}

/// What unlocks the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlock {
    /// A passphrase in this environment variable.
    PassphraseEnv(String),
    /// A passphrase, first line of this file.
    PassphraseFile(PathBuf),
    /// A key file.
    KeyFile(PathBuf),
}

/// `[audit]`
#[derive(Clone, Debug)]
pub struct Audit {
    /// Folder of the segments.
    pub dir: PathBuf,
    /// When a record must be on disk.
    pub durability: Durability,
    /// What happens when it cannot be.
    pub on_failure: OnAuditFailure,
    /// A segment is closed at this size.
    pub segment_mb: u32,
    /// … or at this age.
    pub segment_hours: u32,
    /// Room held for what must be written although the disk is full.
    pub reserve_bytes: u64,
    /// Closed segments are compressed.
    pub compress: bool,
    /// How long records stay; for ever without it.
    pub keep: Option<crate::audit::Keep>,
    /// Files elsewhere that signed checkpoints are appended to.
    pub anchors: Vec<PathBuf>,
    /// Collectors that they are sent to.
    pub collectors: Vec<crate::audit::Syslog>,
    /// Which statements are logged.
    pub statements: Statements,
    /// Whether a query that does not return its rows' subjects is asked for them.
    pub subject_keys: SubjectKeys,
}

impl From<&Audit> for crate::desk::Settings {
    fn from(audit: &Audit) -> Self {
        use crate::desk;
        let mut settings = desk::Settings::new(&audit.dir);
        settings.audit.segment_bytes = u64::from(audit.segment_mb) << 20;
        settings.audit.segment_us = u64::from(audit.segment_hours) * 3_600 * 1_000_000;
        settings.audit.reserve_bytes = audit.reserve_bytes;
        settings.compress = audit.compress;
        settings.keep = audit.keep;
        settings.anchors.clone_from(&audit.anchors);
        settings.collectors.clone_from(&audit.collectors);
        settings.durability = match audit.durability {
            Durability::Intent => desk::Durability::Intent,
            Durability::Async => desk::Durability::Async,
        };
        settings.on_failure = match audit.on_failure {
            OnAuditFailure::Block => desk::OnFailure::Block,
            OnAuditFailure::DenyProtected => desk::OnFailure::DenyProtected,
        };
        settings
    }
}

/// `[audit] subject_keys`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKeys {
    /// The key is one more output column on the way to pgveil.
    Add,
    /// Queries stay as the client wrote them.
    AsAsked,
}

/// `[audit] durability`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// An intent record is on disk before protected bytes leave.
    Intent,
    /// Records are written soon.
    Async,
}

/// `[audit] on_failure`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuditFailure {
    /// Everything waits until the log can be written again.
    Block,
    /// Protected statements are refused, others go on.
    DenyProtected,
}

/// `[audit] statements`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// Only statements that touch something protected (and every refusal).
    Protected,
    /// All.
    All,
}

/// `[limits]`, per connection unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message of an authenticated client or server, and of what opening makes of a row, bytes.
    pub message_bytes: u32,
    /// Named prepared statements.
    pub prepared_statements: u32,
    /// Open portals.
    pub portals: u32,
    /// Tokens of one statement text that names something protected.
    pub tokens: u32,
    /// Nesting depth of such a text.
    pub nesting: u32,
    /// Entries of the plan cache, whole proxy.
    pub plan_cache: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
}

/// `[log] format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain words")]
pub enum LogFormat {
    Text,
    Json,
}

/// Reads and checks one config file's text. `file` is its path: the name in messages and, by its folder, the base
/// of relative paths.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let document = Document::new(&file.display().to_string(), text);
    let config = document.read(|root| read::config(root, file.parent().unwrap_or(Path::new(""))));
    let problems = document.problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// Loads a config file.
///
/// # Errors
/// The file cannot be read, or [`crate::error::Error::Config`] with every problem in it.
pub fn load(file: &Path) -> crate::error::Result<Config> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| crate::error::Error::io(format!("config file {}", file.display()), source))?;
    parse(file, &text).map_err(|problems| crate::error::Error::Config(render(&problems)))
}

#[cfg(test)]
mod tests;
