//! The control connection: pgveil's own account on the server.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

/// How to reach the server, password included (its `Debug` hides it).
#[derive(Clone)]
pub struct Connect {
    /// Host, port, user, database, password.
    pub config: Config,
    /// TLS, already knowing how to verify; `None` = plaintext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("config", &self.config).field("tls", &self.tls.is_some()).finish()
    }
}

/// Deadline of connecting, when the configuration names none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Connect {
    /// Opens a connection. `notified` is woken at every notification on a channel it listens to; the connection's task
    /// ends when the client is dropped or the server goes away, and then wakes it too.
    ///
    /// # Errors
    /// [`Error::Control`] with the server's message; [`Error::Unreachable`] when another attempt may succeed.
    pub async fn open(&self, notified: Arc<Notify>) -> Result<Client> {
        let mut config = self.config.clone();
        config.application_name("pgveil");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        let deadline = config.get_connect_timeout().map_or(CONNECT_TIMEOUT, |t| *t * 2);
        let attempt = async {
            match &self.tls {
                Some(tls) => {
                    config.ssl_mode(tokio_postgres::config::SslMode::Require);
                    let (client, connection) = config.connect(MakeRustlsConnect::new((**tls).clone())).await?;
                    tokio::spawn(drive(connection, notified));
                    Ok(client)
                }
                None => {
                    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(drive(connection, notified));
                    Ok(client)
                }
            }
        };
        match tokio::time::timeout(deadline, attempt).await {
            Ok(connected) => connected.map_err(|e: tokio_postgres::Error| control(&e)),
            Err(_) => Err(Error::Unreachable("connecting took too long".into())),
        }
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>, notified: Arc<Notify>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(_) = message {
            notified.notify_one();
        }
    }
    notified.notify_one();
}

/// Starting up or shutting down, and no place left: all pass.
const PASSING: [SqlState; 4] =
    [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::TOO_MANY_CONNECTIONS];

/// Rows of a question to the catalog.
///
/// # Errors
/// [`Error::Control`] with the server's message.
pub async fn ask(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    client.query(sql, parameters).await.map_err(|e| control(&e))
}

/// What the server said, without DETAIL, which could quote values.
pub fn control(error: &tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        let said = format!("{} ({})", db.message(), db.code().code());
        return if PASSING.contains(db.code()) { Error::Unreachable(said) } else { Error::Control(said) };
    }
    let source = std::error::Error::source(error);
    let cause = source.map(|e| format!(": {e}")).unwrap_or_default();
    let said = format!("{error}{cause}");
    // No address, refused, reset, closed. A certificate that does not verify comes as an I/O error too, and stays wrong.
    let network = |io: &io::Error| io.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>());
    let lost = error.is_closed() || source.and_then(|e| e.downcast_ref::<io::Error>()).is_some_and(network);
    if lost { Error::Unreachable(said) } else { Error::Control(said) }
}
