//! One leg's byte stream: plain TCP or TLS over it. Nothing else knows which.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::reactor::Socket;
use crate::wire::certificate::EndPoint;

/// What the pump needs of a leg.
pub(crate) trait Leg: AsyncRead + AsyncWrite + Unpin {
    /// Bytes on this leg are encrypted: what is written may have to be flushed.
    fn is_tls(&self) -> bool;
    /// What SCRAM can be bound to on this leg.
    fn end_point(&self) -> Option<EndPoint>;
    /// Everything that has come was read: another read would wait, and who waits already will be told. `false` where
    /// that is not known.
    fn drained(&self) -> bool;
}

/// A connected leg.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In clear.
    Plain(Socket),
    /// TLS, handshake done.
    Tls(Box<Tls>),
}

/// TLS over TCP.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) session: TlsStream<Socket>,
    /// Of the certificate that the server of this leg has shown.
    pub(crate) end_point: Option<EndPoint>,
    /// The common name of the certificate that the client of this leg has shown.
    pub(crate) certificate: Option<Arc<str>>,
}

impl Stream {
    /// In whose name the client's certificate is.
    pub(crate) fn certificate(&self) -> Option<Arc<str>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.certificate.clone(),
        }
    }
}

impl Leg for Stream {
    #[inline]
    fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    fn end_point(&self) -> Option<EndPoint> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.end_point,
        }
    }

    #[inline]
    fn drained(&self) -> bool {
        match self {
            Stream::Plain(s) => s.drained(),
            // The session may hold more than it was asked for.
            Stream::Tls(_) => false,
        }
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(&mut s.session).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(&mut s.session).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(&mut s.session).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(&mut s.session).poll_shutdown(cx),
        }
    }
}
