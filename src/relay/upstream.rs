//! Reaching PostgreSQL: TCP within a deadline, then TLS as configured, never less than configured.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::listen::tune;
use super::reactor::Socket;
use super::stream::{Stream, Tls};
use super::tls::ClientTls;
use crate::error::{Code, Refusal};
use crate::wire::certificate::EndPoint;
use crate::wire::startup::{self, CancelKey};

/// How long PostgreSQL may take to act on a CancelRequest and close.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// Where PostgreSQL is.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `None`: in clear.
    pub tls: Option<ClientTls>,
    /// For name, TCP and TLS together.
    pub connect_timeout: Duration,
}

impl Upstream {
    /// A connected leg and the address it went to.
    ///
    /// # Errors
    /// [`Code::UpstreamDown`]; the details are in the log only.
    pub(crate) async fn connect(&self) -> Result<(Stream, SocketAddr), Refusal> {
        self.within(async {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
            for address in tokio::net::lookup_host((self.host.as_str(), self.port)).await? {
                match self.leg(address).await {
                    Ok(stream) => return Ok((stream, address)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
        .await
    }

    /// Sends a CancelRequest to the server at `address` and waits until it has been acted upon.
    pub(crate) async fn cancel(&self, address: SocketAddr, key: &CancelKey) -> Result<(), Refusal> {
        let mut stream = self.within(self.leg(address)).await?;
        let mut request = BytesMut::new();
        if startup::encode_cancel(key, &mut request).is_err() {
            return Ok(());
        }
        let acted = async {
            stream.write_all(&request).await?;
            stream.flush().await?;
            // The server answers by closing.
            stream.read(&mut [0; 1]).await
        };
        let _ = tokio::time::timeout(CANCEL_PATIENCE, acted).await;
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Refusal> {
        let error = match tokio::time::timeout(self.connect_timeout, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        tracing::warn!(host = %self.host, port = self.port, %error, "PostgreSQL cannot be reached");
        Err(Refusal::new(
            Code::UpstreamDown,
            "the PostgreSQL server cannot be reached",
            "Try again later; the operator finds the reason in pgveil's log.",
        ))
    }

    async fn leg(&self, address: SocketAddr) -> io::Result<Stream> {
        let socket = TcpStream::connect(address).await?;
        tune(&socket)?;
        let mut socket = Socket::new(socket.into_std()?)?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(socket)) };
        let mut request = BytesMut::new();
        startup::encode_ssl_request(&mut request);
        socket.write_all(&request).await?;
        // Room for one byte more than the answer has: whatever follows the S was not protected and would be taken
        // for bytes that were (CVE-2021-23222).
        let mut answer = [0; 2];
        match (socket.read(&mut answer).await?, answer[0]) {
            (1, b'S') => {}
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (1, b'N') => return Err(io::Error::other("the server offers no TLS and [upstream] tls demands it")),
            (_, b'S') => return Err(io::Error::other("unencrypted data after the answer to SSLRequest")),
            _ => return Err(io::Error::other("the server does not understand SSLRequest")),
        }
        let stream = TlsConnector::from(tls.config()).connect(tls.name.clone(), socket).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let end_point = shown.and_then(|certificate| EndPoint::of(certificate));
        Ok(Stream::Tls(Box::new(Tls { session: stream.into(), end_point, certificate: None })))
    }
}
