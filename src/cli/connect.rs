//! From configuration to a control connection: password and TLS found, nothing printed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio_postgres::config::Host;

use crate::auth::{Source, Verifiers};
use crate::catalog::Connect;
use crate::config::{self, Config, Control, TlsMode, UpstreamTls};
use crate::relay::{ClientTls, Verify};
use crate::secret::Passphrase;

/// What the control connection needs. The password comes from the URL, else from `password_env` or `password_file`,
/// else from `PGPASSWORD`, else from the password file libpq would use.
pub(super) fn control(control: &Control) -> anyhow::Result<Connect> {
    let mut config = control.url.config.clone();
    if config.get_password().is_none()
        && let Some(password) = password(control)?
    {
        config.password(password.expose());
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        _ => "localhost".to_owned(),
    };
    let tls = client_tls(&host, &control.tls).context("[control]")?.map(|tls| tls.config());
    Ok(Connect { tls, config })
}

/// TLS towards that host, as configured; `None`: in clear.
pub(super) fn client_tls(host: &str, tls: &UpstreamTls) -> anyhow::Result<Option<ClientTls>> {
    let verify = match tls.mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Require => Verify::Nothing,
        TlsMode::VerifyCa => Verify::Authority,
        TlsMode::VerifyFull => Verify::Full,
    };
    Ok(Some(ClientTls::new(host, verify, tls.ca.as_deref())?))
}

/// What logins that end here are checked with; `None`: they do not.
pub(super) fn verifiers(config: &Config) -> anyhow::Result<Option<Verifiers>> {
    Ok(match &config.auth.terminate {
        None => None,
        Some(config::Verifiers::Function) => {
            Some(Verifiers::new(Source::Function(Box::new(control(&config.control)?))))
        }
        Some(config::Verifiers::File(path)) => Some(Verifiers::new(Source::File(path.clone()))),
    })
}

fn password(control: &Control) -> anyhow::Result<Option<Passphrase>> {
    if let Some(name) = &control.password_env {
        let text = std::env::var(name).with_context(|| format!("[control] password_env: {name} is not set"))?;
        return Ok(Some(Passphrase::new(text)));
    }
    if let Some(path) = &control.password_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("[control] password_file {} cannot be read", path.display()))?;
        return Ok(Some(Passphrase::new(text.lines().next().unwrap_or_default().to_owned())));
    }
    if let Ok(text) = std::env::var("PGPASSWORD") {
        return Ok(Some(Passphrase::new(text)));
    }
    Ok(pgpass_file().and_then(|path| pgpass(&path, &control.url.config)))
}

fn pgpass_file() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    named.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pgpass")))
}

/// The first line that matches, as libpq reads it; a file that others may read is ignored, as libpq does.
fn pgpass(path: &Path, config: &tokio_postgres::Config) -> Option<Passphrase> {
    let about = std::fs::metadata(path).ok()?;
    if about.permissions().mode() & 0o077 != 0 {
        eprintln!("pgveil: {} can be read by others and is ignored", path.display());
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let host = match config.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        Host::Unix(_) => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let wanted = [&*host, &*port, config.get_dbname()?, config.get_user()?];
    text.lines().find_map(|line| entry(line, wanted)).map(Passphrase::new)
}

/// `host:port:database:user:password`; `*` matches all, `\` escapes.
fn entry(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => fields.last_mut()?.extend(chars.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    let password = fields.pop()?;
    let matches = fields.len() == 4 && fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
    matches.then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_file_lines_match_as_in_libpq() {
        let wanted = ["db", "5432", "app", "pgveil"];
        assert_eq!(entry("db:5432:app:pgveil:s3cret", wanted).as_deref(), Some("s3cret"));
        assert_eq!(entry("*:*:*:pgveil:a\\:b\\\\c", wanted).as_deref(), Some("a:b\\c"));
        assert_eq!(entry("*:*:*:pgveil:a:b", wanted).as_deref(), Some("a:b"));
        assert_eq!(entry("other:*:*:*:x", wanted), None);
        assert_eq!(entry("# comment", wanted), None);
    }
}
