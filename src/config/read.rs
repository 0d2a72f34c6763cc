//! The sections of `pgveil.toml`, one function each: read what is written, check it, fill in defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::audit::{Keep, Syslog};
use crate::policy::reader::Section;
use crate::report::Organization;
use crate::sql::parse::{NESTING_MAX, TOKENS_MAX};
use crate::wire::frame::LENGTH_MAX;

pub(super) fn config(mut root: Section<'_>, folder: &Path) -> Option<Config> {
    let mut warnings = Vec::new();
    let listen = required(&mut root, "listen", |s| listen(s, folder, &mut warnings));
    let upstream = required(&mut root, "upstream", |s| upstream(s, folder));
    let upstream_tls = upstream.as_ref().map(|u| u.tls.clone());
    let control = required(&mut root, "control", |s| control(s, folder, upstream_tls));
    let policy = required(&mut root, "policy", |mut s| {
        let path = path(&mut s, "path", folder);
        if path.is_none() && !s.has("path") {
            missing(&s, "path", "path = \"policies/medico.toml\" (a file or a folder)");
        }
        s.close();
        path
    });
    let keys = required(&mut root, "keys", |s| keys(s, folder));
    let audit = match root.section("audit") {
        Some(section) => audit(section, folder),
        None => Some(default_audit(folder)),
    };
    let quarantine = root.section("quarantine").and_then(|mut s| {
        let path = path(&mut s, "path", folder);
        s.close();
        path
    });
    let store = root.section("store").map_or_else(Store::default, |mut s| {
        let ship = s.flag("ship").is_some_and(|at| at.value);
        s.close();
        Store { ship }
    });
    let organization = root.section("organization").map_or_else(Organization::default, organization);
    let sinks = root.section("alerts").map_or_else(Vec::new, |s| alerts::read(s, folder));
    let passthrough = root.section("databases").map_or_else(Vec::new, |mut s| {
        let names = s.texts("passthrough").unwrap_or_default();
        s.close();
        names.into_iter().map(|name| name.value).collect()
    });
    let limits = root.section("limits").map_or_else(Limits::default, limits);
    let log = root.section("log").map_or_else(Log::default, log);
    let url = control.as_ref().map(|control| &control.url);
    let console = root.section("console").map(|s| console::read(s, &passthrough, url)).unwrap_or_default();
    let both_tls = match (&listen, &upstream) {
        (Some(listen), Some(upstream)) => listen.tls.is_some() && upstream.tls.mode != TlsMode::Disable,
        _ => false,
    };
    let auth = match root.section("auth") {
        Some(section) => auth::read(section, folder, both_tls),
        None => Some(auth::default(both_tls)),
    };
    root.close();
    if both_tls && auth.as_ref().is_some_and(|auth| auth.terminate.is_none()) {
        // RFC 5802 §6: who could bind the channel and was not offered it says so, and a server that offers it refuses.
        warnings.push(
            "[auth] mode = \"relay\" with TLS on both legs: SCRAM clients that know channel binding (libpq) must \
             connect with channel_binding=disable"
                .into(),
        );
    }
    Some(Config {
        listen: listen?,
        upstream: upstream?,
        control: control?,
        auth: auth?,
        policy: policy?,
        keys: keys?,
        audit: audit?,
        quarantine: quarantine.unwrap_or_else(|| folder.join("quarantine.toml")),
        store,
        organization,
        sinks,
        passthrough,
        limits,
        log,
        console,
        warnings,
    })
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: LENGTH_MAX as u32,
            prepared_statements: 10_000,
            portals: 1_000,
            tokens: TOKENS_MAX as u32,
            nesting: NESTING_MAX as u32,
            plan_cache: 10_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info" }
    }
}

fn required<T>(root: &mut Section<'_>, key: &'static str, read: impl FnOnce(Section<'_>) -> Option<T>) -> Option<T> {
    if !root.has(key) {
        let place = root.place().clone();
        root.problem(&place, format!("section [{key}] is missing"), None);
    }
    root.section(key).and_then(read)
}

pub(super) fn missing(section: &Section<'_>, key: &str, hint: &str) {
    section.problem(section.place(), format!("`{key}` in [{}] is missing", section.path()), hint.to_owned());
}

pub(super) fn path(section: &mut Section<'_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    let text = section.text(key)?;
    if text.value.is_empty() {
        section.problem(&text.place, format!("`{key}` in [{}] is empty", section.path()), None);
        return None;
    }
    Some(folder.join(text.value))
}

fn seconds(section: &mut Section<'_>, key: &'static str, default: u64) -> Duration {
    Duration::from_secs(section.number(key, 1..=86_400).map_or(default, |at| at.value))
}

fn small(section: &mut Section<'_>, key: &'static str, max: u32, default: u32) -> u32 {
    let read = section.number(key, 1..=u64::from(max));
    read.and_then(|at| u32::try_from(at.value).ok()).unwrap_or(default)
}

fn few(section: &mut Section<'_>, key: &'static str) -> Option<u32> {
    section.number(key, 1..=1_000_000).and_then(|at| u32::try_from(at.value).ok())
}

fn address(section: &mut Section<'_>, key: &'static str) -> Option<SocketAddr> {
    let text = section.text(key)?;
    let spelled = text.value.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    match spelled.as_deref().unwrap_or(&text.value).parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("`{key}` in [{}] is not an address with a port", section.path());
            section.problem(&text.place, message, "like \"127.0.0.1:6432\" or \"[::1]:6432\"".to_owned());
            None
        }
    }
}

fn listen(mut s: Section<'_>, folder: &Path, warnings: &mut Vec<String>) -> Option<Listen> {
    if !s.has("postgres") {
        missing(&s, "postgres", "postgres = \"127.0.0.1:6432\"");
    }
    let postgres = address(&mut s, "postgres");
    let admin = admin(&mut s);
    let tls = s.section("tls").map(|tls| listen_tls(tls, folder));
    let allow_trust = s.flag("allow_trust");
    let connections_max = small(&mut s, "max_connections", 1_000_000, 1_000);
    let connections_per_address_max = few(&mut s, "max_connections_per_address");
    let connections_per_user_max = few(&mut s, "max_connections_per_user");
    let certificates = matches!(&tls, Some(Some(tls)) if tls.client_ca.is_some());
    let rules = rules::read(&mut s, tls.is_some(), certificates);
    let workers = s.number("workers", 1..=1_024).and_then(|at| u32::try_from(at.value).ok());
    let startup_timeout = seconds(&mut s, "startup_timeout_s", 10);
    let drain_timeout = seconds(&mut s, "drain_timeout_s", 30);
    let loopback = postgres.is_some_and(|address| address.ip().is_loopback());
    if let Some(at) = allow_trust.as_ref().filter(|at| at.value && postgres.is_some() && !loopback) {
        let hint = "bind postgres to 127.0.0.1, or give the accounts passwords in pg_hba.conf".to_owned();
        s.problem(&at.place, "allow_trust = true is only possible on a loopback address", hint);
    }
    s.close();
    let listen = Listen {
        postgres: postgres?,
        admin: admin?,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        allow_trust: allow_trust.is_some_and(|at| at.value),
        connections_max,
        connections_per_address_max,
        connections_per_user_max,
        rules,
        workers,
        startup_timeout,
        drain_timeout,
    };
    if !loopback && !listen.tls.as_ref().is_some_and(|tls| tls.required) {
        warnings.push(
            "[listen] postgres is not loopback and TLS is not required: values may cross the network in clear".into(),
        );
    }
    Some(listen)
}

/// Outer `None`: a problem was reported. Inner `None`: switched off.
fn admin(s: &mut Section<'_>) -> Option<Option<SocketAddr>> {
    if !s.has("admin") {
        return Some(Some(SocketAddr::from(([127, 0, 0, 1], 6480))));
    }
    if let Some(word) = s.text("admin").filter(|word| word.value == "off") {
        drop(word);
        return Some(None);
    }
    let place = s.place_of("admin");
    let address = address(s, "admin")?;
    if !address.ip().is_loopback() {
        let hint = "use 127.0.0.1 and reach it through ssh or a sidecar; TLS and logins for it come in a later version";
        s.problem(&place, "`admin` in [listen] must be a loopback address", hint.to_owned());
        return None;
    }
    Some(Some(address))
}

fn listen_tls(mut s: Section<'_>, folder: &Path) -> Option<ListenTls> {
    for key in ["cert", "key"] {
        if !s.has(key) {
            missing(&s, key, "a PEM file");
        }
    }
    let cert = path(&mut s, "cert", folder);
    let key = path(&mut s, "key", folder);
    let client_ca = path(&mut s, "client_ca", folder);
    const CERTIFICATES: &[(&str, bool)] = &[("required", false), ("optional", true)];
    let optional = s.choice("client_certificates", CERTIFICATES);
    if let Some(at) = optional.as_ref().filter(|_| client_ca.is_none()) {
        let hint = "client_ca = \"clients.pem\"".to_owned();
        s.problem(&at.place, "client_certificates needs the authorities that they are of", hint);
    }
    let certificate_optional = optional.is_some_and(|at| at.value);
    let required = s.flag("required");
    let required = match (&client_ca, required) {
        (Some(_), Some(at)) if !at.value && !certificate_optional => {
            let message = "client_ca demands certificates, which clients without TLS cannot show";
            s.problem(&at.place, message, "set required = true, or client_certificates = \"optional\"".to_owned());
            true
        }
        (_, Some(at)) => at.value,
        (_, None) => true,
    };
    s.close();
    Some(ListenTls { cert: cert?, key: key?, client_ca, certificate_optional, required })
}

fn upstream(mut s: Section<'_>, folder: &Path) -> Option<Upstream> {
    let host = s.text("host");
    if host.is_none() && !s.has("host") {
        missing(&s, "host", "host = \"127.0.0.1\"");
    }
    if let Some(at) = host.as_ref().filter(|at| at.value.is_empty() || at.value.starts_with('/')) {
        let hint = "a name or address; Unix sockets towards the server are not supported".to_owned();
        s.problem(&at.place, "`host` in [upstream] is not a host", hint);
    }
    let port = s.number("port", 1..=65_535).and_then(|at| u16::try_from(at.value).ok()).unwrap_or(5432);
    let host = host.map(|at| at.value);
    let tls = match s.section("tls") {
        Some(tls) => upstream_tls(tls, host.as_deref().unwrap_or("localhost"), folder),
        None => host.as_deref().map(|host| UpstreamTls { mode: default_tls(host, false), ca: None }),
    };
    let connect_timeout = seconds(&mut s, "connect_timeout_s", 10);
    s.close();
    Some(Upstream { host: host?, port, tls: tls?, connect_timeout })
}

const MODES: &[(&str, TlsMode)] = &[
    ("disable", TlsMode::Disable),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

/// Off loopback the certificate is verified in full, by the system's authorities if none are named.
fn default_tls(host: &str, ca: bool) -> TlsMode {
    if is_loopback(host) && !ca { TlsMode::Disable } else { TlsMode::VerifyFull }
}

fn upstream_tls(mut s: Section<'_>, host: &str, folder: &Path) -> Option<UpstreamTls> {
    let mode =
        if s.has("mode") { s.choice("mode", MODES).map(|at| at.value) } else { Some(default_tls(host, s.has("ca"))) };
    let ca = path(&mut s, "ca", folder);
    s.close();
    Some(UpstreamTls { mode: mode?, ca })
}

pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.starts_with('/') || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn control(mut s: Section<'_>, folder: &Path, upstream: Option<UpstreamTls>) -> Option<Control> {
    let place = s.place_of("url");
    let url = s.text("url");
    if url.is_none() && !s.has("url") {
        missing(&s, "url", "url = \"postgresql://veil@127.0.0.1:5432/app\"");
    }
    let password_env = s.text("password_env").map(|at| at.value);
    let password_file = path(&mut s, "password_file", folder);
    if password_env.is_some() && password_file.is_some() {
        s.problem(s.place(), "password_env and password_file are both given", "keep one".to_owned());
    }
    s.close();
    let parsed = match ControlUrl::parse(&url?.value, folder) {
        Ok(parsed) => parsed,
        Err(reason) => {
            let hint = "like \"postgresql://veil@127.0.0.1:5432/app?sslmode=verify-full&sslrootcert=ca.pem\"";
            s.problem(&place, format!("`url` in [control]: {reason}"), hint.to_owned());
            return None;
        }
    };
    let tls = match parsed.tls.clone() {
        Some(tls) => tls,
        None if parsed.hosts_are_local() => UpstreamTls { mode: TlsMode::Disable, ca: None },
        None => upstream?,
    };
    Some(Control { url: parsed, tls, password_env, password_file })
}

fn keys(mut s: Section<'_>, folder: &Path) -> Option<Keys> {
    if let Some(at) = s.text("provider").filter(|at| at.value != "file") {
        let known = ["env", "vault", "aws-kms", "pkcs11"].contains(&at.value.as_str());
        let message =
            format!("key provider \"{}\" is not {}", at.value, if known { "in this version" } else { "known" });
        s.problem(&at.place, message, "provider = \"file\"".to_owned());
    }
    if !s.has("path") {
        missing(&s, "path", "path = \"keyring.toml\", made by `pgveil keys init`");
    }
    let file = path(&mut s, "path", folder);
    let mut unlocks = Vec::new();
    unlocks.extend(s.text("passphrase_env").map(|at| Unlock::PassphraseEnv(at.value)));
    unlocks.extend(path(&mut s, "passphrase_file", folder).map(Unlock::PassphraseFile));
    unlocks.extend(path(&mut s, "key_file", folder).map(Unlock::KeyFile));
    if unlocks.len() != 1 {
        let message = match unlocks.len() {
            0 => "nothing is named in [keys] that unlocks the keyring",
            _ => "more than one thing is named in [keys] that unlocks the keyring",
        };
        let hint = "exactly one of passphrase_env, passphrase_file, key_file".to_owned();
        s.problem(s.place(), message, hint);
        unlocks.clear();
    }
    s.close();
    Some(Keys { path: file?, unlock: unlocks.pop()? })
}

fn default_audit(folder: &Path) -> Audit {
    Audit {
        dir: folder.join("audit"),
        durability: Durability::Intent,
        on_failure: OnAuditFailure::Block,
        segment_mb: 64,
        segment_hours: 24,
        reserve_bytes: crate::audit::Settings::RESERVE_BYTES,
        compress: true,
        keep: None,
        anchors: Vec::new(),
        collectors: Vec::new(),
        statements: Statements::Protected,
        subject_keys: SubjectKeys::Add,
    }
}

fn audit(mut s: Section<'_>, folder: &Path) -> Option<Audit> {
    let default = default_audit(folder);
    let dir = path(&mut s, "dir", folder);
    let durability = s.choice("durability", &[("intent", Durability::Intent), ("async", Durability::Async)]);
    let failures = [("block", OnAuditFailure::Block), ("deny_protected", OnAuditFailure::DenyProtected)];
    let on_failure = s.choice("on_failure", &failures);
    let statements = s.choice("statements", &[("protected", Statements::Protected), ("all", Statements::All)]);
    let keys = s.choice("subject_keys", &[("add", SubjectKeys::Add), ("as_asked", SubjectKeys::AsAsked)]);
    let dir = dir.unwrap_or(default.dir);
    let (mut anchors, mut collectors) = (Vec::new(), Vec::new());
    for anchor in s.texts("anchors").unwrap_or_default() {
        if anchor.value.starts_with("syslog:") {
            let collector = Syslog::parse(&anchor.value);
            if collector.is_none() {
                let hint =
                    "\"syslog:\" for the local one, \"syslog:/path/of/a/socket\", or \"syslog://host:port\"".to_owned();
                s.problem(&anchor.place, "an anchor in [audit] is no syslog that can be reached", hint);
            }
            collectors.extend(collector);
            continue;
        }
        let path = folder.join(&anchor.value);
        if anchor.value.is_empty() || path.starts_with(&dir) {
            let hint = "whoever puts an older log back puts this back with it: name a file on another machine's disk";
            s.problem(&anchor.place, "an anchor in [audit] is empty or inside the log's own folder", hint.to_owned());
        }
        anchors.push(path);
    }
    let keep = s.text("keep").and_then(|text| {
        let keep = Keep::parse(&text.value);
        if keep.is_none() {
            let hint = "an ISO 8601 period such as \"P7Y\" or \"P90D\"".to_owned();
            s.problem(&text.place, "`keep` in [audit] is not a period", hint);
        }
        keep
    });
    let audit = Audit {
        dir,
        anchors,
        collectors,
        keep,
        durability: durability.map_or(default.durability, |at| at.value),
        on_failure: on_failure.map_or(default.on_failure, |at| at.value),
        segment_mb: small(&mut s, "segment_mb", 4_096, default.segment_mb),
        segment_hours: small(&mut s, "segment_hours", 8_784, default.segment_hours),
        compress: s.flag("compress").map_or(default.compress, |at| at.value),
        reserve_bytes: s.number("reserve_bytes", 0..=1 << 30).map_or(default.reserve_bytes, |at| at.value),
        statements: statements.map_or(default.statements, |at| at.value),
        subject_keys: keys.map_or(default.subject_keys, |at| at.value),
    };
    s.close();
    Some(audit)
}

fn organization(mut s: Section<'_>) -> Organization {
    let mut text = |key| s.text(key).map(|at| at.value);
    let organization = Organization { name: text("name"), contact: text("contact"), dpo: text("dpo") };
    s.close();
    organization
}

fn limits(mut s: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        message_bytes: s
            .number("message_bytes", 65_536..=u64::from(default.message_bytes))
            .and_then(|at| u32::try_from(at.value).ok())
            .unwrap_or(default.message_bytes),
        prepared_statements: small(&mut s, "prepared_statements", 1_000_000, default.prepared_statements),
        portals: small(&mut s, "portals", 1_000_000, default.portals),
        tokens: small(&mut s, "tokens", default.tokens, default.tokens),
        nesting: small(&mut s, "nesting", default.nesting, default.nesting),
        plan_cache: small(&mut s, "plan_cache", 10_000_000, default.plan_cache),
    };
    s.close();
    limits
}

fn log(mut s: Section<'_>) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];
    let log = Log {
        format: s.choice("format", &formats).map_or(LogFormat::Text, |at| at.value),
        level: s.choice("level", &levels).map_or("info", |at| at.value),
    };
    s.close();
    log
}
