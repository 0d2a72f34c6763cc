//! Bytes by hand: a small HTTP GET, and a raw PostgreSQL connection for messages no driver would send.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::PASSWORD;

/// GET; status and body, or `None` if nobody answers.
pub fn http(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// One message from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// Without tag and length.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({:?})", char::from(self.tag), String::from_utf8_lossy(&self.body))
    }
}

impl Frame {
    /// A field of an ErrorResponse or NoticeResponse, such as `b'C'`.
    pub fn field(&self, key: u8) -> Option<String> {
        let mut parts = self.body.split(|b| *b == 0);
        parts.find(|p| p.first() == Some(&key)).map(|p| String::from_utf8_lossy(&p[1..]).into_owned())
    }
}

/// A message: tag, length, body.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).expect("a test's message").to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Every complete message in `bytes`.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut out = Vec::new();
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
        if length < 4 || bytes.len() < length + 1 {
            break;
        }
        out.push(Frame { tag: bytes[0], body: bytes[5..=length].to_vec() });
        bytes = &bytes[length + 1..];
    }
    out
}

/// The size of the first message, if it is complete.
fn first(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?) as usize;
    (length >= 4 && bytes.len() > length).then_some(length + 1)
}

/// Nothing came.
#[derive(Debug)]
pub struct Silence;

/// A raw connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects without saying anything.
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Self { stream, buffer: Vec::new() }
    }

    /// Connects and logs in with SCRAM-SHA-256; ready for queries.
    pub fn login(port: u16, role: &str, database: &str) -> Self {
        let mut wire = Self::open(port);
        wire.send(&startup(&[("user", role), ("database", database)]));
        wire.authenticate();
        loop {
            let frame = wire.frame().expect("the server answers");
            match frame.tag {
                b'Z' => return wire,
                b'E' => panic!("login of {role} failed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Sends bytes; a closed connection is not an error here, the next read tells.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a message.
    pub fn message(&mut self, tag: u8, body: &[u8]) {
        self.send(&frame(tag, body));
    }

    /// The next message; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(size) = first(&self.buffer) {
                let frame = frames(&self.buffer[..size]).pop().expect("a whole message");
                self.buffer.drain(..size);
                return Some(frame);
            }
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no answer within 10 s: {e}"),
            }
        }
    }

    /// As [`Wire::frame`], but silence for that long is an answer too.
    pub fn frame_within(&mut self, patience: Duration) -> Result<Option<Frame>, Silence> {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
        while first(&self.buffer).is_none() {
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(Silence);
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(self.frame())
    }

    /// Messages up to and with ReadyForQuery, or up to the end of the stream.
    pub fn until_ready(&mut self) -> Vec<Frame> {
        let mut out = Vec::new();
        while let Some(frame) = self.frame() {
            let ready = frame.tag == b'Z';
            out.push(frame);
            if ready {
                break;
            }
        }
        out
    }

    /// One raw byte, as the answer to SSLRequest is.
    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    /// Ends our direction only.
    pub fn shutdown_write(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    fn authenticate(&mut self) {
        let sasl = self.frame().expect("the server asks for a password");
        assert_eq!((sasl.tag, sasl.body.get(..4)), (b'R', Some(&[0, 0, 0, 10][..])), "not SASL: {sasl:?}");
        let bare = "n=,r=clientnonce0123456789";
        let first = format!("n,,{bare}");
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend_from_slice(&u32::try_from(first.len()).expect("short").to_be_bytes());
        body.extend_from_slice(first.as_bytes());
        self.message(b'p', &body);
        let challenge = self.frame().expect("the server continues");
        assert_eq!(challenge.tag, b'R', "{challenge:?}");
        let challenge = String::from_utf8(challenge.body[4..].to_vec()).expect("SCRAM is text");
        self.message(b'p', proof(bare, &challenge).as_bytes());
    }
}

/// The client's final message of RFC 5802.
fn proof(client_first_bare: &str, challenge: &str) -> String {
    let part = |key: char| challenge.split(',').find_map(|p| p.strip_prefix(&format!("{key}="))).expect("RFC 5802");
    let salt = base64(part('s'));
    let rounds: u32 = part('i').parse().expect("a count");
    let mut block = hmac(PASSWORD.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let mut salted = block;
    for _ in 1..rounds {
        block = hmac(PASSWORD.as_bytes(), &block);
        salted.iter_mut().zip(block).for_each(|(a, b)| *a ^= b);
    }
    let without_proof = format!("c=biws,r={}", part('r'));
    let message = format!("{client_first_bare},{challenge},{without_proof}");
    let mut key = hmac(&salted, b"Client Key");
    let stored: [u8; 32] = Sha256::digest(key).into();
    let signature = hmac(&stored, message.as_bytes());
    key.iter_mut().zip(signature).for_each(|(a, b)| *a ^= b);
    format!("{without_proof},p={}", to_base64(&key))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes().filter(|b| *b != b'=') {
        let value = ALPHABET.iter().position(|a| *a == byte).expect("base64");
        bits = bits << 6 | u32::try_from(value).expect("below 64");
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    out
}

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// A version 3.0 startup packet.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut out = u32::try_from(body.len() + 4).expect("a test's packet").to_be_bytes().to_vec();
    out.extend_from_slice(&body);
    out
}
