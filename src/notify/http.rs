//! JSON by POST: webhooks and Alertmanager, over https, or http to this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use hyper::client::conn::http1;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Failure, Message};
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::keys::secret_file;
use crate::relay::{ClientTls, Verify};
use crate::secret::Passphrase;

/// The head of an answer may be this long; its body is not read.
const HEAD_MAX: usize = 64 * 1024;
/// Shorter secrets can be guessed.
const SECRET_MIN: usize = 16;

/// Where to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    /// In clear only to this machine.
    tls: bool,
    authority: String,
    path: String,
    ca: Option<PathBuf>,
}

impl Target {
    /// Reads an address; the error says what is wrong with it, never what it is.
    pub fn parse(url: &str, ca: Option<PathBuf>) -> std::result::Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is no URL")?;
        let authority = uri.authority().ok_or("is no whole URL")?.clone();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if loopback => false,
            Some("http") => return Err("would cross the network in clear: https only, or http to a loopback address"),
            _ => return Err("is neither https nor http"),
        };
        if authority.as_str().contains('@') {
            return Err("has a user or a password in it: name a file with the secret instead");
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.port().is_some() => return Err("has no such port"),
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host, port, tls, authority: authority.to_string(), path, ca })
    }

    /// The same host, with `path` added.
    fn join(mut self, path: &str) -> Self {
        self.path = format!("{}{path}", self.path.trim_end_matches('/'));
        self
    }
}

/// A target with the authorities its certificate is checked by.
#[derive(Clone, Debug)]
struct Poster {
    target: Target,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

impl Poster {
    fn new(target: Target) -> Result<Self> {
        let tls = if target.tls {
            let tls = ClientTls::new(&target.host, Verify::Full, target.ca.as_deref())?;
            let mut config = rustls::ClientConfig::clone(&tls.config());
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some((Arc::new(config), tls.name.clone()))
        } else {
            None
        };
        Ok(Self { target, tls })
    }

    async fn post(&self, headers: &[(&'static str, String)], body: String) -> Result<(), Failure> {
        let Target { host, port, .. } = &self.target;
        let stream =
            TcpStream::connect((host.as_str(), *port)).await.map_err(|e| Failure(format!("connecting: {e}")))?;
        match &self.tls {
            Some((config, name)) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await.map_err(|e| Failure(format!("TLS: {e}")))?;
                self.ask(stream, headers, body).await
            }
            // A name may lead elsewhere than it says.
            None if stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) => {
                self.ask(stream, headers, body).await
            }
            None => Err(Failure::new("http is spoken to this machine only, and this name leads to another")),
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<(), Failure> {
        let failed = |error: hyper::Error| Failure(format!("HTTP: {error}"));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // Ends with this call, whatever becomes of it; with it the connection, and an answer's body unread.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.target.path)
            .header(header::HOST, &self.target.authority)
            .header(header::USER_AGENT, concat!("pgveil/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(|_| Failure::new("a header that HTTP does not allow"))?;
        let status = sender.send_request(request).await.map_err(failed)?.status();
        match status.as_u16() {
            200..=299 => Ok(()),
            code @ 300..=399 => Err(Failure(format!("answered {code}: redirects are not followed"))),
            code => Err(Failure(format!("answered {code}"))),
        }
    }
}

fn secret(path: &Path, what: &'static str) -> Result<Passphrase, Failure> {
    secret_file(path, what).map_err(Failure::new)
}

/// Kind `webhook`.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    poster: Poster,
    secret_file: PathBuf,
}

impl Webhook {
    pub(super) fn new(target: &Target, secret_file: &Path) -> Result<Self> {
        let webhook = Self { poster: Poster::new(target.clone())?, secret_file: secret_file.to_owned() };
        webhook.secret().map_err(|failure| Error::Config(format!("[[alerts.sinks]]: {failure}")))?;
        Ok(webhook)
    }

    fn secret(&self) -> Result<Passphrase, Failure> {
        let secret = secret(&self.secret_file, "the webhook's secret")?;
        if secret.expose().len() < SECRET_MIN {
            let path = self.secret_file.display();
            return Err(Failure(format!("the webhook's secret in {path} is shorter than {SECRET_MIN} bytes")));
        }
        Ok(secret)
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), Failure> {
        let body = message.json();
        let timestamp = (Now::read().unix_us / 1_000_000).to_string();
        let headers = [
            ("x-pgveil-signature", signature(&self.secret()?, &timestamp, &body)),
            ("x-pgveil-timestamp", timestamp),
            ("idempotency-key", message.id.clone()),
        ];
        self.poster.post(&headers, body).await
    }
}

/// `sha256=` and, in hex, HMAC-SHA-256 under the secret over `timestamp.body`.
pub(super) fn signature(secret: &Passphrase, timestamp: &str, body: &str) -> String {
    let key = secret.expose().as_bytes();
    // RFC 2104: longer keys are hashed, shorter ones padded.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Kind `alertmanager`.
#[derive(Clone, Debug)]
pub(super) struct Alertmanager {
    poster: Poster,
    token_file: Option<PathBuf>,
}

impl Alertmanager {
    pub(super) fn new(target: &Target, token_file: Option<&Path>) -> Result<Self> {
        let poster = Poster::new(target.clone().join("/api/v2/alerts"))?;
        let alertmanager = Self { poster, token_file: token_file.map(Path::to_owned) };
        alertmanager.headers().map_err(|failure| Error::Config(format!("[[alerts.sinks]]: {failure}")))?;
        Ok(alertmanager)
    }

    fn headers(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let Some(path) = &self.token_file else { return Ok(Vec::new()) };
        let token = secret(path, "Alertmanager's token")?;
        Ok(vec![("authorization", format!("Bearer {}", token.expose()))])
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), Failure> {
        self.poster.post(&self.headers()?, message.alertmanager().to_string()).await
    }
}
