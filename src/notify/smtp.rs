//! Kind `smtp`: one mail for each message, over TLS unless the server is this machine.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{Failure, Message};
use crate::error::{Error, Result};
use crate::keys::secret_file;

/// A mail server, and who writes to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// PEM certificates of the server's authorities; `None` = the system's.
    pub ca: Option<PathBuf>,
    /// User and the file with its password.
    pub login: Option<(String, PathBuf)>,
    /// Sender.
    pub from: Mailbox,
    /// Recipients, at least one.
    pub to: Vec<Mailbox>,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// TLS after STARTTLS, or no mail.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// In clear; only to this machine.
    None,
}

/// A mail server whose certificate can be checked.
#[derive(Clone, Debug)]
pub(super) struct Smtp {
    settings: Settings,
    tls: Tls,
    timeout: Duration,
}

/// A header that mail programs show as importance.
#[derive(Clone, Copy, Debug)]
struct Priority;

impl Header for Priority {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Priority")
    }

    fn parse(_: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "1 (Highest)".to_owned())
    }
}

impl Smtp {
    pub(super) fn new(settings: &Settings, timeout: Duration) -> Result<Self> {
        let tls = match settings.encryption {
            Encryption::None => Tls::None,
            Encryption::StartTls => Tls::Required(parameters(settings)?),
            Encryption::Tls => Tls::Wrapper(parameters(settings)?),
        };
        let smtp = Self { settings: settings.clone(), tls, timeout };
        smtp.credentials().map_err(|failure| Error::Config(format!("[[alerts.sinks]]: {failure}")))?;
        Ok(smtp)
    }

    fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let Some((user, path)) = &self.settings.login else { return Ok(None) };
        let password = secret_file(path, "the mail server's password").map_err(Failure::new)?;
        Ok(Some(Credentials::new(user.clone(), password.expose().to_owned())))
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), Failure> {
        let Settings { host, port, from, to, .. } = &self.settings;
        let mut mail = lettre::Message::builder()
            .from(from.clone())
            .subject(message.subject())
            .message_id(Some(format!("<{}@pgveil>", message.id)))
            .header(Priority)
            .header(ContentType::TEXT_PLAIN);
        for recipient in to {
            mail = mail.to(recipient.clone());
        }
        let mail = mail.body(message.text()).map_err(Failure::new)?;
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str())
            .port(*port)
            .tls(self.tls.clone())
            .timeout(Some(self.timeout));
        if let Some(credentials) = self.credentials()? {
            server = server.credentials(credentials);
        }
        match server.build().send(mail).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.status() {
                // Of what the server says only the number: the rest may repeat what it was told.
                Some(code) => Failure(format!("the mail server answered {code}")),
                None => Failure(format!("mail: {error}")),
            }),
        }
    }
}

fn parameters(settings: &Settings) -> Result<TlsParameters> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca {
        let wrong = |said: &dyn std::fmt::Display| Error::Config(format!("certificates in {}: {said}", path.display()));
        let pem = std::fs::read(path).map_err(|e| wrong(&e))?;
        let authority = Certificate::from_pem(&pem).map_err(|e| wrong(&e))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    builder.build_rustls().map_err(|e| Error::Config(format!("TLS towards the mail server: {e}")))
}
