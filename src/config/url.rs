//! The control connection's URL. Its password is held by `tokio_postgres::Config`, whose `Debug` hides it.

use std::path::Path;
use std::str::FromStr;

use tokio_postgres::config::Host;

use super::read::is_loopback;
use super::{TlsMode, UpstreamTls};

/// A parsed `postgresql://` URL or `key=value` string; `sslmode` and `sslrootcert` are taken out of it.
#[derive(Clone, Debug)]
pub struct ControlUrl {
    /// What tokio-postgres connects with (its own `ssl_mode` still the default).
    pub config: tokio_postgres::Config,
    /// `sslmode` and `sslrootcert`, if written.
    pub tls: Option<UpstreamTls>,
}

impl ControlUrl {
    /// Parses; relative `sslrootcert` paths start at `folder`. The error never repeats the text.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, &'static str> {
        let (rest, mode, ca) = take_tls(text);
        let config = tokio_postgres::Config::from_str(&rest).map_err(|_| "not a connection string")?;
        if config.get_user().is_none_or(str::is_empty) {
            return Err("no user is named");
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err("no database is named");
        }
        if config.get_hosts().is_empty() {
            return Err("no host is named");
        }
        let ca = ca.map(|ca| folder.join(ca));
        let mode = match mode.as_deref() {
            None if ca.is_some() => Some(TlsMode::VerifyFull),
            None => None,
            Some("disable") => Some(TlsMode::Disable),
            Some("require") => Some(TlsMode::Require),
            Some("verify-ca") => Some(TlsMode::VerifyCa),
            Some("verify-full") => Some(TlsMode::VerifyFull),
            Some("allow" | "prefer") => return Err("sslmode allow and prefer fall back silently and are not offered"),
            Some(_) => return Err("sslmode is one of disable, require, verify-ca, verify-full"),
        };
        Ok(Self { config, tls: mode.map(|mode| UpstreamTls { mode, ca }) })
    }

    /// Every host is a Unix socket, `localhost` or a loopback address.
    pub fn hosts_are_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => is_loopback(name),
            #[cfg(unix)]
            Host::Unix(_) => true,
        })
    }

    /// pgveil's own login.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// The database whose policy this is.
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }
}

/// Splits `sslmode` and `sslrootcert` from a URL's query or from a `key=value` string.
fn take_tls(text: &str) -> (String, Option<String>, Option<String>) {
    let (mut mode, mut ca) = (None, None);
    let mut keep = |pair: &str| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            mode = Some(value.trim_matches('\'').to_owned());
            false
        }
        Some(("sslrootcert", value)) => {
            ca = Some(value.trim_matches('\'').replace("%2F", "/").replace("%2f", "/"));
            false
        }
        _ => true,
    };
    let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        match text.split_once('?') {
            Some((base, query)) => {
                let kept: Vec<&str> = query.split('&').filter(|pair| keep(pair)).collect();
                if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
            }
            None => text.to_owned(),
        }
    } else {
        text.split(' ').filter(|pair| keep(pair)).collect::<Vec<_>>().join(" ")
    };
    (rest, mode, ca)
}
