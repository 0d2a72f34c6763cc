//! `[console]`: who may use the admin console; and the settings as the console shows them.

use super::{Config, ControlUrl, Durability, LogFormat, OnAuditFailure, Statements, TlsMode, Unlock, Verifiers};
use crate::console::Roles;
use crate::policy::problem::At;
use crate::policy::reader::Section;
use crate::session::CONSOLE;
use crate::wire::startup::NAME_MAX;

/// `passthrough` and the control account's database are databases that exist, or may.
pub(super) fn read(mut s: Section<'_>, passthrough: &[String], control: Option<&ControlUrl>) -> Roles {
    let all = s.texts("roles").unwrap_or_default();
    let read_only = s.texts("read_only_roles").unwrap_or_default();
    for role in all.iter().chain(&read_only).filter(|role| !(1..=NAME_MAX).contains(&role.value.len())) {
        s.problem(&role.place, "not the name of a role", "one to 63 bytes, as in PostgreSQL".to_owned());
    }
    for role in read_only.iter().filter(|role| all.iter().any(|other| other.value == role.value)) {
        let message = format!("role \"{}\" is in roles and in read_only_roles", role.value);
        s.problem(&role.place, message, "keep one".to_owned());
    }
    let served = passthrough.iter().map(String::as_str).chain(control.map(ControlUrl::database));
    if served.into_iter().any(|database| database == CONSOLE) && !(all.is_empty() && read_only.is_empty()) {
        let message = format!("the console's name is \"{CONSOLE}\", and a database of that name is served");
        s.problem(s.place(), message, "rename the database, or leave [console] out".to_owned());
    }
    s.close();
    let names = |roles: Vec<At<String>>| roles.into_iter().map(|role| role.value).collect();
    Roles { all: names(all), read_only: names(read_only) }
}

impl Config {
    /// Names and values of what is set, defaults too, without anything secret.
    pub fn shown(&self) -> Vec<(String, String)> {
        let mut shown = Vec::new();
        let mut tell = |name: &str, value: String| shown.push((name.to_owned(), value));
        let listen = &self.listen;
        tell("listen.postgres", listen.postgres.to_string());
        tell("listen.admin", listen.admin.map_or_else(|| "off".to_owned(), |address| address.to_string()));
        tell("listen.tls", if listen.tls.is_some() { "on" } else { "off" }.to_owned());
        tell("listen.allow_trust", listen.allow_trust.to_string());
        tell("listen.max_connections", listen.connections_max.to_string());
        tell("listen.max_connections_per_address", bound(listen.connections_per_address_max));
        tell("listen.max_connections_per_user", bound(listen.connections_per_user_max));
        tell("listen.rules", listen.rules.len().to_string());
        tell("listen.startup_timeout_s", listen.startup_timeout.as_secs().to_string());
        tell("listen.drain_timeout_s", listen.drain_timeout.as_secs().to_string());
        tell("upstream.host", self.upstream.host.clone());
        tell("upstream.port", self.upstream.port.to_string());
        tell("upstream.tls", tls(self.upstream.tls.mode).to_owned());
        tell("control.database", self.control.url.database().to_owned());
        tell("control.user", self.control.url.config.get_user().unwrap_or_default().to_owned());
        tell("auth.mode", if self.auth.terminate.is_some() { "terminate" } else { "relay" }.to_owned());
        tell("auth.verifiers", verifiers(self.auth.terminate.as_ref()).to_owned());
        tell("policy.path", self.policy.display().to_string());
        tell("keys.path", self.keys.path.display().to_string());
        tell("keys.unlocked_by", unlock(&self.keys.unlock).to_owned());
        self.audit_shown(&mut tell);
        tell("databases.passthrough", self.passthrough.join(", "));
        tell("limits.message_bytes", self.limits.message_bytes.to_string());
        tell("limits.prepared_statements", self.limits.prepared_statements.to_string());
        tell("limits.portals", self.limits.portals.to_string());
        tell("limits.tokens", self.limits.tokens.to_string());
        tell("limits.nesting", self.limits.nesting.to_string());
        tell("limits.plan_cache", self.limits.plan_cache.to_string());
        tell("log.format", if self.log.format == LogFormat::Json { "json" } else { "text" }.to_owned());
        tell("log.level", self.log.level.to_owned());
        tell("console.roles", self.console.all.join(", "));
        tell("console.read_only_roles", self.console.read_only.join(", "));
        shown
    }

    fn audit_shown(&self, tell: &mut impl FnMut(&str, String)) {
        let audit = &self.audit;
        tell("audit.dir", audit.dir.display().to_string());
        tell("audit.durability", if audit.durability == Durability::Async { "async" } else { "intent" }.to_owned());
        let denies = audit.on_failure == OnAuditFailure::DenyProtected;
        tell("audit.on_failure", if denies { "deny_protected" } else { "block" }.to_owned());
        tell("audit.segment_mb", audit.segment_mb.to_string());
        tell("audit.segment_hours", audit.segment_hours.to_string());
        tell("audit.statements", if audit.statements == Statements::All { "all" } else { "protected" }.to_owned());
        tell("audit.anchors", audit.anchors.len().to_string());
    }
}

fn bound(max: Option<u32>) -> String {
    max.map_or_else(|| "unlimited".to_owned(), |max| max.to_string())
}

fn tls(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

fn verifiers(source: Option<&Verifiers>) -> &'static str {
    match source {
        None => "the server's own",
        Some(Verifiers::Function) => "function",
        Some(Verifiers::File(_)) => "file",
    }
}

fn unlock(unlock: &Unlock) -> &'static str {
    match unlock {
        Unlock::PassphraseEnv(_) => "passphrase_env",
        Unlock::PassphraseFile(_) => "passphrase_file",
        Unlock::KeyFile(_) => "key_file",
    }
}
