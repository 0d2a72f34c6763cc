//! SCRAM-SHA-256 and its `-PLUS` form (RFC 5802, RFC 7677), both sides, without a password: the [`Server`] side checks
//! a proof with a verifier, the [`Client`] side proves with the ClientKey that the proof gave away.
//!
//! In: messages of a peer, verifiers, channel binding data, random nonces. Out: messages, [`Proven`]. Never: a
//! password, a key in `Debug`, a comparison of secrets that takes as long as they agree, a length or an iteration count
//! without a bound, a panic on hostile bytes.

mod client;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod verifier;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

pub use client::Client;
pub use server::{Proven, Server};
pub use verifier::Verifier;

use crate::secret::Key;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with it.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Longest message, in bytes; PostgreSQL's own are below 300.
pub const MESSAGE_MAX: usize = 2_048;
/// Longest salt, in bytes.
pub const SALT_MAX: usize = 64;
/// Longest nonce of a peer, in characters.
pub const NONCE_MAX: usize = 256;
/// Fewest iterations: RFC 7677 §4, and PostgreSQL's default.
pub const ITERATIONS_MIN: u32 = 4_096;
/// Most iterations: a client would compute for most of a second.
pub const ITERATIONS_MAX: u32 = 600_000;
/// Random bytes of a nonce of ours, as in PostgreSQL.
pub const NONCE_BYTES: usize = 18;

/// Why an exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message that does not follow RFC 5802 §7, or is too long.
    Malformed,
    /// An extension, an authorization identity, or a channel binding type other than `tls-server-end-point`.
    Unsupported,
    /// The channel binding flag does not belong to the mechanism, or the client was shown other mechanisms than we
    /// offered.
    Binding,
    /// The message belongs to another exchange.
    Nonce,
    /// Fewer iterations than [`ITERATIONS_MIN`] or more than [`ITERATIONS_MAX`].
    Iterations,
    /// The server's challenge is made of another verifier than ours.
    OtherVerifier,
    /// The proof or the signature is wrong.
    Unproven,
}

/// What a peer that does not know the password is told apart by: the mechanism, and with it the binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// `SCRAM-SHA-256`.
    Plain,
    /// `SCRAM-SHA-256-PLUS`.
    Plus,
}

impl Mechanism {
    /// By its name on the wire.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            name if name == SCRAM_SHA_256.as_bytes() => Some(Mechanism::Plain),
            name if name == SCRAM_SHA_256_PLUS.as_bytes() => Some(Mechanism::Plus),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => SCRAM_SHA_256,
            Mechanism::Plus => SCRAM_SHA_256_PLUS,
        }
    }
}

/// HMAC-SHA-256 (RFC 2104) over the concatenation of `parts`.
fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    // RFC 2104: longer keys are hashed, shorter ones padded.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Key::new(mac.finalize().into_bytes().into())
}

/// H(ClientKey) (RFC 5802 §3).
fn stored_key(client_key: &Key) -> Key {
    Key::new(Sha256::digest(client_key.expose()).into())
}

/// ClientKey XOR ClientSignature, which is its own inverse.
fn xor(a: &Key, b: &Key) -> Key {
    let mut bytes = *a.expose();
    for (byte, other) in bytes.iter_mut().zip(b.expose()) {
        *byte ^= other;
    }
    let key = Key::new(bytes);
    bytes.zeroize();
    key
}

/// Strict base64 of exactly 32 bytes.
fn decode_key(text: &[u8]) -> Result<Key, Fault> {
    let mut bytes = decode(text, 32)?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map(Key::new).map_err(|_| Fault::Malformed);
    bytes.zeroize();
    key
}

/// Strict base64 of at most `bytes_max` bytes.
fn decode(text: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    if text.len() > bytes_max.div_ceil(3) * 4 {
        return Err(Fault::Malformed);
    }
    let bytes = STANDARD.decode(text).map_err(|_| Fault::Malformed)?;
    if bytes.len() > bytes_max { Err(Fault::Malformed) } else { Ok(bytes) }
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A message that may be one: within [`MESSAGE_MAX`].
fn bounded(message: &[u8]) -> Result<&[u8], Fault> {
    if message.len() > MESSAGE_MAX { Err(Fault::Malformed) } else { Ok(message) }
}

/// Cuts `name=value` off the front, up to the next comma or the end; the rest without that comma, `None` at the end.
fn attribute(message: &[u8], name: u8) -> Result<(&[u8], Option<&[u8]>), Fault> {
    match message {
        [first, b'=', rest @ ..] if *first == name => Ok(match memchr::memchr(b',', rest) {
            Some(comma) => (&rest[..comma], Some(&rest[comma + 1..])),
            None => (rest, None),
        }),
        // RFC 5802 §5.1: a mandatory extension that is not known ends the exchange.
        [b'm', b'=', ..] => Err(Fault::Unsupported),
        _ => Err(Fault::Malformed),
    }
}

/// Printable ASCII without comma (RFC 5802 §7), not empty, within [`NONCE_MAX`].
fn nonce(value: &[u8]) -> Result<&[u8], Fault> {
    let printable = |b: &u8| matches!(b, 0x21..=0x2b | 0x2d..=0x7e);
    if (1..=NONCE_MAX).contains(&value.len()) && value.iter().all(printable) {
        Ok(value)
    } else {
        Err(Fault::Malformed)
    }
}

/// Decimal without sign or leading zero, within the bounds.
fn iterations(value: &[u8]) -> Result<u32, Fault> {
    let text = std::str::from_utf8(value).map_err(|_| Fault::Malformed)?;
    if !(1..=10).contains(&text.len()) || !value.iter().all(u8::is_ascii_digit) || value[0] == b'0' {
        return Err(Fault::Malformed);
    }
    let count = text.parse().map_err(|_| Fault::Iterations)?;
    if (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&count) { Ok(count) } else { Err(Fault::Iterations) }
}
