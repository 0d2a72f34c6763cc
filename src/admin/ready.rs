//! Can pgveil serve? Four questions, each with its reason when the answer is no.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpStream, UnixStream};

/// The answer of /readyz.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// All of them.
    pub ready: bool,
    /// PostgreSQL accepts connections.
    pub upstream: Check,
    /// The keyring is unlocked.
    pub keys: Check,
    /// The access log can be written.
    pub audit: Check,
    /// Policy and catalog make rules.
    pub catalog: Check,
    /// pgveil is not shutting down.
    pub serving: Check,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Yes.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Check {
    fn when(ok: bool, reason: &str) -> Self {
        Self { ok, reason: (!ok).then(|| reason.to_owned()) }
    }
}

/// What the rest of the proxy tells the admin port. All false at first.
#[derive(Debug, Default)]
pub struct Facts {
    /// The keyring is unlocked.
    pub keys: AtomicBool,
    /// Policy and catalog were loaded and compiled.
    pub catalog: AtomicBool,
    /// SIGTERM came: load balancers should send no more clients.
    pub draining: AtomicBool,
}

impl Facts {
    pub(super) fn judge(&self, upstream: Result<(), String>, audit: bool) -> Readiness {
        let keys = Check::when(self.keys.load(Ordering::Acquire), "the keyring is not unlocked");
        let audit = Check::when(audit, "the access log cannot be written");
        let catalog = Check::when(self.catalog.load(Ordering::Acquire), "policy and catalog are not loaded");
        let serving = Check::when(!self.draining.load(Ordering::Acquire), "shutting down");
        let upstream = Check { ok: upstream.is_ok(), reason: upstream.err() };
        let ready = [&upstream, &keys, &audit, &catalog, &serving].iter().all(|check| check.ok);
        Readiness { ready, upstream, keys, audit, catalog, serving }
    }
}

/// Where PostgreSQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name, address, or the folder of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How long a connection may take to open.
    pub timeout: Duration,
}

impl Upstream {
    /// Opens and closes a connection; PostgreSQL logs nothing for one that never says a word.
    pub(super) async fn reachable(&self) -> Result<(), String> {
        let connect = async {
            if self.host.starts_with('/') {
                let socket = Path::new(&self.host).join(format!(".s.PGSQL.{}", self.port));
                UnixStream::connect(socket).await.map(drop)
            } else {
                TcpStream::connect((self.host.as_str(), self.port)).await.map(drop)
            }
        };
        match tokio::time::timeout(self.timeout, connect).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("PostgreSQL at {}:{}: {error}", self.host, self.port)),
            Err(_) => Err(format!("PostgreSQL at {}:{}: no answer", self.host, self.port)),
        }
    }
}
