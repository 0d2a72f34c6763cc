//! Everything a client may say before its StartupMessage: at most one SSLRequest and one GSSENCRequest, or TLS from
//! the first byte; a CancelRequest instead.
//!
//! In: an accepted socket. Out: a [`Guest`], or how to part. Never: a byte read before TLS that is used after it
//! (CVE-2021-23214), a packet above [`startup::LENGTH_MAX`], an answer to what is not PostgreSQL's protocol.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::reactor::Socket;
use super::stream::{Leg, Stream, Tls};
use super::tls::{ALPN, ServerTls};
use crate::error::{Code, Refusal};
use crate::wire::certificate::common_name;
use crate::wire::startup::{self, CancelKey, Fault, Opening, Startup};

/// The first byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the client turned out to be.
#[derive(Debug)]
pub(crate) enum Guest {
    /// It wants another connection's statement interrupted.
    Cancel(CancelKey, Stream),
    /// It wants a session. `early` is what it sent after the StartupMessage, on the same leg.
    Session { startup: Startup, stream: Stream, early: BytesMut },
}

/// Why there is no guest.
#[derive(Debug)]
pub(crate) enum Parting {
    /// Close without a word, as PostgreSQL does. The reason is for the log.
    Silent(&'static str),
    /// Tell it, then close.
    Refused(Refusal, Stream),
}

impl From<io::Error> for Parting {
    fn from(_: io::Error) -> Self {
        Parting::Silent("connection lost during startup")
    }
}

/// Listens until the client has said who it is. The caller sets the deadline.
pub(crate) async fn greet(socket: Socket, tls: Option<&ServerTls>) -> Result<Guest, Parting> {
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Err(Parting::Silent("closed before startup"));
    }
    if first[0] == TLS_HANDSHAKE {
        return direct(socket, tls).await;
    }
    let mut stream = Stream::Plain(socket);
    let mut input = BytesMut::new();
    let (mut ssl_done, mut gss_done) = (false, false);
    loop {
        let opening = packet(&mut stream, &mut input).await?;
        match opening {
            Ok(Opening::Ssl) if !ssl_done => {
                ssl_done = true;
                alone(&input)?;
                let Some(tls) = tls else {
                    stream.write_all(b"N").await?;
                    continue;
                };
                stream.write_all(b"S").await?;
                stream = accept(stream, tls).await?;
                // GSSAPI encryption inside TLS is not a thing.
                gss_done = true;
            }
            Ok(Opening::Gssenc) if !gss_done => {
                gss_done = true;
                alone(&input)?;
                stream.write_all(b"N").await?;
            }
            Ok(Opening::Ssl) => return parting(request_again(startup::SSL_REQUEST), stream),
            Ok(Opening::Gssenc) => return parting(request_again(startup::GSSENC_REQUEST), stream),
            Ok(Opening::Cancel(key)) => return Ok(Guest::Cancel(key, stream)),
            Ok(Opening::Startup(_)) if tls.is_some_and(|t| t.required) && !stream.is_tls() => {
                let refusal = Refusal::new(Code::TlsRequired, "this server takes TLS only", "Use sslmode=require.");
                return Err(Parting::Refused(refusal, stream));
            }
            Ok(Opening::Startup(startup)) => return Ok(Guest::Session { startup, stream, early: input }),
            Err(fault) => return parting(fault, stream),
        }
    }
}

/// A second request for encryption is an unknown protocol, as it is to PostgreSQL.
fn request_again(code: u32) -> Fault {
    let [a, b, c, d] = code.to_be_bytes();
    Fault::Version { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
}

fn parting(fault: Fault, stream: Stream) -> Result<Guest, Parting> {
    Err(match fault.refusal() {
        Some(refusal) => Parting::Refused(refusal, stream),
        None => Parting::Silent("invalid startup packet"),
    })
}

/// Nothing may follow a request for encryption before it is answered: those bytes were not protected and would be
/// taken for bytes that were.
fn alone(input: &BytesMut) -> Result<(), Parting> {
    if input.is_empty() { Ok(()) } else { Err(Parting::Silent("unencrypted data after a request for encryption")) }
}

async fn accept(stream: Stream, tls: &ServerTls) -> Result<Stream, Parting> {
    let Stream::Plain(socket) = stream else { return Err(Parting::Silent("TLS inside TLS")) };
    let identity = tls.identity();
    let acceptor = TlsAcceptor::from(identity.config.clone());
    let done = acceptor.accept(socket).await.map_err(|_| Parting::Silent("TLS handshake"))?;
    let shown = done.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown.and_then(|leaf| common_name(leaf)).map(Arc::from);
    Ok(Stream::Tls(Box::new(Tls { session: done.into(), end_point: identity.end_point, certificate })))
}

/// TLS from the first byte; the client must name the protocol, so that no other protocol's client can be led here.
async fn direct(socket: Socket, tls: Option<&ServerTls>) -> Result<Guest, Parting> {
    let tls = tls.ok_or(Parting::Silent("direct TLS, but none is configured"))?;
    let mut stream = accept(Stream::Plain(socket), tls).await?;
    if let Stream::Tls(tls) = &stream
        && tls.session.get_ref().1.alpn_protocol() != Some(ALPN)
    {
        return Err(Parting::Silent("direct TLS without ALPN"));
    }
    let mut input = BytesMut::new();
    match packet(&mut stream, &mut input).await? {
        Ok(Opening::Cancel(key)) => Ok(Guest::Cancel(key, stream)),
        Ok(Opening::Startup(startup)) => Ok(Guest::Session { startup, stream, early: input }),
        Ok(Opening::Ssl) => parting(request_again(startup::SSL_REQUEST), stream),
        Ok(Opening::Gssenc) => parting(request_again(startup::GSSENC_REQUEST), stream),
        Err(fault) => parting(fault, stream),
    }
}

/// Takes one packet off the front of `input`, reading as much as that needs.
async fn packet(stream: &mut Stream, input: &mut BytesMut) -> Result<Result<Opening, Fault>, Parting> {
    loop {
        match startup::length(input, startup::LENGTH_MAX) {
            Err(fault) => return Ok(Err(fault)),
            Ok(Some(length)) if input.len() >= length => return Ok(startup::parse(&input.split_to(length))),
            Ok(_) => {}
        }
        input.reserve(1024);
        if stream.read_buf(input).await? == 0 {
            return Err(Parting::Silent("closed during startup"));
        }
    }
}
