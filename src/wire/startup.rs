//! The untyped packets that open a connection: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.
//!
//! In: the first bytes of a connection. Out: an [`Opening`], or a [`Fault`] and what PostgreSQL answers to it; and the
//! same packets encoded for the upstream leg. The rules are `ProcessStartupPacket`'s (PostgreSQL's
//! `backend_startup.c`, before 17 `postmaster.c`). Never: I/O, a panic on hostile bytes, a lossy decode.

use std::fmt;

use bytes::{BufMut, BytesMut};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::{Code, Refusal, SqlState};

/// `MAX_STARTUP_PACKET_LENGTH`: the longest packet PostgreSQL takes, without its length word.
pub const LENGTH_MAX: usize = 10_000;
/// The request code of CancelRequest, 1234.5678.
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// The request code of SSLRequest, 1234.5679.
pub const SSL_REQUEST: u32 = 80_877_103;
/// The request code of GSSENCRequest, 1234.5680.
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// Role and database names are cut to this many bytes (`NAMEDATALEN − 1`), as PostgreSQL cuts them at startup.
pub const NAME_MAX: usize = 63;
/// A cancel secret is 4 bytes in protocol 3.0 and at most this many in 3.2.
pub const SECRET_MAX: usize = 256;

/// What names one backend in a CancelRequest.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CancelKey {
    /// The process id, ours or the server's.
    pub pid: u32,
    /// 4 to [`SECRET_MAX`] bytes.
    pub secret: Vec<u8>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({}, …)", self.pid)
    }
}

/// A StartupMessage: protocol version and parameters as they came, in order, bytes untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// 3.
    pub major: u16,
    /// 0, or what the client would like.
    pub minor: u16,
    /// Names and values without their NULs. PostgreSQL lets the last one of a name win.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Startup {
    /// The value of that parameter; the last one wins, as in PostgreSQL.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().rev().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_slice())
    }

    /// The login role, cut to [`NAME_MAX`] bytes; `None` if missing or empty (PostgreSQL: 28000).
    pub fn user(&self) -> Option<&[u8]> {
        self.parameter("user").filter(|u| !u.is_empty()).map(cut)
    }

    /// The database, cut to [`NAME_MAX`] bytes; the user's name if missing or empty.
    pub fn database(&self) -> Option<&[u8]> {
        self.parameter("database").filter(|d| !d.is_empty()).map(cut).or_else(|| self.user())
    }

    /// Sets a parameter, replacing every earlier value of that name.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.parameters.retain(|(n, _)| n != name.as_bytes());
        self.parameters.push((name.as_bytes().to_vec(), value.to_vec()));
    }

    /// Appends the packet.
    ///
    /// # Errors
    /// [`Fault::Length`] if it would be longer than [`LENGTH_MAX`]; nothing is appended then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Fault> {
        let body = 4 + self.parameters.iter().map(|(n, v)| n.len() + v.len() + 2).sum::<usize>() + 1;
        let length = u32::try_from(body + 4).ok().filter(|_| body <= LENGTH_MAX).ok_or(Fault::Length)?;
        out.reserve(body + 4);
        out.put_u32(length);
        out.put_u16(self.major);
        out.put_u16(self.minor);
        for (name, value) in &self.parameters {
            out.put_slice(name);
            out.put_u8(0);
            out.put_slice(value);
            out.put_u8(0);
        }
        out.put_u8(0);
        Ok(())
    }
}

fn cut(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_MAX)]
}

/// The first packet of a connection, or the next one after a request for encryption was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The client would like TLS.
    Ssl,
    /// The client would like GSSAPI encryption.
    Gssenc,
    /// Interrupt what another connection is doing.
    Cancel(CancelKey),
    /// A session.
    Startup(Startup),
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its length word is impossible. PostgreSQL closes without an answer.
    Length,
    /// A CancelRequest of another size. PostgreSQL closes without an answer.
    Cancel,
    /// Its parameters are not pairs of terminated strings ending at the last byte.
    Layout,
    /// A protocol that is not 3.x.
    Version {
        /// The major version asked for.
        major: u16,
        /// The minor version asked for.
        minor: u16,
    },
}

impl Fault {
    /// What the client is told before the connection closes; `None`: nothing, as PostgreSQL does.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Fault::Length | Fault::Cancel => None,
            Fault::Layout => Some(Refusal::new(
                Code::Protocol,
                "invalid startup packet layout: expected terminator as last byte",
                "The client does not speak the PostgreSQL protocol, or the connection is damaged.",
            )),
            Fault::Version { major, minor } => Some(
                Refusal::new(
                    Code::Protocol,
                    format!("unsupported frontend protocol {major}.{minor}: pgveil supports 3.0 and later 3.x"),
                    "Use a client that speaks protocol 3.",
                )
                .with_sqlstate(SqlState(*b"0A000")),
            ),
        }
    }
}

/// The length of the packet at the start of `input`, length word included, once that word is there. The packet
/// itself may be incomplete still.
///
/// # Errors
/// [`Fault::Length`] if the word is below 8 or above `limit` + 4.
pub fn length(input: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*head)).map_err(|_| Fault::Length)?;
    if length < 8 || length - 4 > limit.min(LENGTH_MAX) { Err(Fault::Length) } else { Ok(Some(length)) }
}

/// Decodes one whole packet, length word included.
///
/// # Errors
/// The [`Fault`]; nothing of the packet's bytes is in it.
pub fn parse(packet: &[u8]) -> Result<Opening, Fault> {
    if length(packet, LENGTH_MAX)? != Some(packet.len()) {
        return Err(Fault::Length);
    }
    let code = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    let body = &packet[8..];
    match code {
        SSL_REQUEST if body.is_empty() => Ok(Opening::Ssl),
        GSSENC_REQUEST if body.is_empty() => Ok(Opening::Gssenc),
        SSL_REQUEST | GSSENC_REQUEST => Err(Fault::Length),
        CANCEL_REQUEST => cancel(body),
        _ if code >> 16 == 3 => parameters(code, body),
        _ => {
            let [a, b, c, d] = code.to_be_bytes();
            Err(Fault::Version { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) })
        }
    }
}

fn cancel(body: &[u8]) -> Result<Opening, Fault> {
    let (pid, secret) = body.split_first_chunk::<4>().ok_or(Fault::Cancel)?;
    if !(4..=SECRET_MAX).contains(&secret.len()) {
        return Err(Fault::Cancel);
    }
    Ok(Opening::Cancel(CancelKey { pid: u32::from_be_bytes(*pid), secret: secret.to_vec() }))
}

fn parameters(code: u32, mut body: &[u8]) -> Result<Opening, Fault> {
    let mut parameters = Vec::new();
    loop {
        let (name, rest) = terminated(body)?;
        if name.is_empty() {
            let minor = u16::try_from(code & 0xFFFF).unwrap_or(0);
            return if rest.is_empty() {
                Ok(Opening::Startup(Startup { major: 3, minor, parameters }))
            } else {
                Err(Fault::Layout)
            };
        }
        let (value, rest) = terminated(rest)?;
        parameters.push((name.to_vec(), value.to_vec()));
        body = rest;
    }
}

fn terminated(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = memchr::memchr(0, bytes).ok_or(Fault::Layout)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

/// Appends an SSLRequest.
pub fn encode_ssl_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(SSL_REQUEST);
}

/// Appends a CancelRequest.
///
/// # Errors
/// [`Fault::Cancel`] if the secret is not 4 to [`SECRET_MAX`] bytes; nothing is appended then.
pub fn encode_cancel(key: &CancelKey, out: &mut BytesMut) -> Result<(), Fault> {
    if !(4..=SECRET_MAX).contains(&key.secret.len()) {
        return Err(Fault::Cancel);
    }
    let length = u32::try_from(12 + key.secret.len()).map_err(|_| Fault::Cancel)?;
    out.put_u32(length);
    out.put_u32(CANCEL_REQUEST);
    out.put_u32(key.pid);
    out.put_slice(&key.secret);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(body);
        out
    }

    fn startup(pairs: &[u8]) -> Result<Opening, Fault> {
        let mut body = vec![0, 3, 0, 0];
        body.extend_from_slice(pairs);
        parse(&packet(&body))
    }

    #[test]
    fn a_startup_round_trips() {
        let mut out = BytesMut::new();
        let message = Startup {
            major: 3,
            minor: 0,
            parameters: vec![(b"user".to_vec(), b"al\xffice".to_vec()), (b"database".to_vec(), b"app".to_vec())],
        };
        message.encode(&mut out).unwrap();
        assert_eq!(parse(&out), Ok(Opening::Startup(message)));
    }

    #[test]
    fn the_last_user_wins_and_names_are_cut_as_postgres_cuts_them() {
        let long = "u".repeat(80);
        let Ok(Opening::Startup(message)) = startup(format!("user\0a\0user\0{long}\0\0").as_bytes()) else {
            panic!("not a startup")
        };
        assert_eq!(message.user(), Some(&long.as_bytes()[..63]));
        assert_eq!(message.database(), message.user());
    }

    #[test]
    fn layout_faults() {
        for bad in [&b"user\0a"[..], b"user\0a\0", b"user\0a\0\0x", b"user", b"", b"\0\0"] {
            assert_eq!(startup(bad), Err(Fault::Layout), "{bad:?}");
        }
        assert!(startup(b"\0").is_ok_and(|o| matches!(o, Opening::Startup(s) if s.user().is_none())));
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        assert_eq!(length(&[0, 0, 0], LENGTH_MAX), Ok(None));
        for bad in [0u32, 4, 7, 10_005, 0x1603_0100, u32::MAX] {
            assert_eq!(length(&bad.to_be_bytes(), LENGTH_MAX), Err(Fault::Length), "{bad}");
        }
        assert_eq!(length(&10_004u32.to_be_bytes(), LENGTH_MAX), Ok(Some(10_004)));
        let mut out = BytesMut::new();
        let huge = Startup { major: 3, minor: 0, parameters: vec![(vec![b'n'; 5_000], vec![b'v'; 5_000])] };
        assert_eq!(huge.encode(&mut out), Err(Fault::Length));
        assert!(out.is_empty());
    }

    #[test]
    fn requests() {
        let mut out = BytesMut::new();
        encode_ssl_request(&mut out);
        assert_eq!(parse(&out), Ok(Opening::Ssl));
        assert_eq!(parse(&packet(&GSSENC_REQUEST.to_be_bytes())), Ok(Opening::Gssenc));
        assert_eq!(parse(&packet(&[4, 210, 22, 47, 0])), Err(Fault::Length));
        assert_eq!(parse(&packet(&[0, 2, 0, 0])), Err(Fault::Version { major: 2, minor: 0 }));
    }

    #[test]
    fn cancel_keys_have_four_bytes_or_more_and_are_not_printed() {
        let key = CancelKey { pid: 7, secret: vec![0xAB; 4] };
        let mut out = BytesMut::new();
        encode_cancel(&key, &mut out).unwrap();
        assert_eq!(out.len(), 16);
        assert_eq!(parse(&out), Ok(Opening::Cancel(key.clone())));
        assert_eq!(format!("{key:?}"), "CancelKey(7, …)");
        out.truncate(15);
        out[3] = 15;
        assert_eq!(parse(&out), Err(Fault::Cancel));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = length(&bytes, LENGTH_MAX);
            let _ = parse(&bytes);
            let _ = parse(&packet(&bytes));
        }
    }
}
