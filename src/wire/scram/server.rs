//! The side that checks: client-first → server-first → client-final → server-final.

use super::{
    Fault, Mechanism, NONCE_BYTES, Verifier, attribute, bounded, decode_key, encode, mac, nonce, stored_key, xor,
};
use crate::secret::{Key, same};

/// A client that has been challenged.
#[derive(Debug)]
pub struct Server {
    pub(super) verifier: Verifier,
    /// Base64 of the GS2 header and the binding data: what `c=` must say.
    pub(super) binding: String,
    /// `client-first-message-bare`.
    pub(super) first_bare: Vec<u8>,
    pub(super) challenge: String,
    pub(super) nonce: String,
}

/// What a right proof gives away: enough to log in elsewhere with the same verifier, as long as it stays the same.
#[derive(Clone, Debug)]
pub struct Proven {
    pub(super) client_key: Key,
    pub(super) verifier: Verifier,
    /// `server-final-message`, for the client.
    pub server_final: String,
}

impl Server {
    /// Reads `client-first-message`. `end_point` is the `tls-server-end-point` of the connection if PLUS was offered;
    /// `random` is ours alone.
    ///
    /// # Errors
    /// [`Fault::Malformed`], [`Fault::Unsupported`], [`Fault::Binding`]
    pub fn challenge(
        verifier: Verifier,
        mechanism: Mechanism,
        end_point: Option<&[u8]>,
        client_first: &[u8],
        random: &[u8; NONCE_BYTES],
    ) -> Result<Self, Fault> {
        let message = bounded(client_first)?;
        let (flag, rest) = until_comma(message)?;
        let data = match (flag, mechanism) {
            // RFC 5802 §6: who supports binding and believes that we do not was shown a list that is not ours.
            (b"y", Mechanism::Plain) if end_point.is_none() => &[][..],
            (b"n", Mechanism::Plain) => &[][..],
            (b"p=tls-server-end-point", Mechanism::Plus) => end_point.ok_or(Fault::Binding)?,
            (b"y" | b"n" | b"p=tls-server-end-point", _) => return Err(Fault::Binding),
            ([b'p', b'=', ..], _) => return Err(Fault::Unsupported),
            _ => return Err(Fault::Malformed),
        };
        let (identity, bare) = until_comma(rest)?;
        if !identity.is_empty() {
            return Err(if identity.starts_with(b"a=") { Fault::Unsupported } else { Fault::Malformed });
        }
        // The user is the startup packet's, as in PostgreSQL.
        let (_, rest) = attribute(bare, b'n')?;
        let (theirs, _) = attribute(rest.ok_or(Fault::Malformed)?, b'r')?;
        let theirs = std::str::from_utf8(nonce(theirs)?).map_err(|_| Fault::Malformed)?;
        let nonce = format!("{theirs}{}", encode(random));
        let header = &message[..message.len() - bare.len()];
        Ok(Self {
            binding: encode(&[header, data].concat()),
            first_bare: bare.to_vec(),
            challenge: format!("r={nonce},s={},i={}", encode(&verifier.salt), verifier.iterations),
            nonce,
            verifier,
        })
    }

    /// `server-first-message`.
    pub fn server_first(&self) -> &str {
        &self.challenge
    }

    /// Reads `client-final-message` and checks its proof.
    ///
    /// # Errors
    /// [`Fault::Malformed`], [`Fault::Unsupported`], [`Fault::Nonce`], [`Fault::Binding`]; [`Fault::Unproven`] when all
    /// is well but the password.
    pub fn check(self, client_final: &[u8]) -> Result<Proven, Fault> {
        let message = bounded(client_final)?;
        let (binding, rest) = attribute(message, b'c')?;
        let (nonce, extensions) = attribute(rest.ok_or(Fault::Malformed)?, b'r')?;
        if nonce != self.nonce.as_bytes() {
            return Err(Fault::Nonce);
        }
        // The proof comes last; what is between is optional extensions.
        let comma = memchr::memrchr(b',', message).ok_or(Fault::Malformed)?;
        if extensions.is_none_or(|extensions| extensions.starts_with(b"m=")) {
            return Err(Fault::Malformed);
        }
        let (proof, end) = attribute(&message[comma + 1..], b'p')?;
        if end.is_some() {
            return Err(Fault::Malformed);
        }
        let proof = decode_key(proof)?;
        if binding != self.binding.as_bytes() {
            return Err(Fault::Binding);
        }
        let authenticated: [&[u8]; 5] = [&self.first_bare, b",", self.challenge.as_bytes(), b",", &message[..comma]];
        let client_key = xor(&proof, &mac(self.verifier.stored_key.expose(), &authenticated));
        if !same(stored_key(&client_key).expose(), self.verifier.stored_key.expose()) {
            return Err(Fault::Unproven);
        }
        let signature = mac(self.verifier.server_key.expose(), &authenticated);
        Ok(Proven { client_key, server_final: format!("v={}", encode(signature.expose())), verifier: self.verifier })
    }
}

fn until_comma(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let comma = memchr::memchr(b',', bytes).ok_or(Fault::Malformed)?;
    Ok((&bytes[..comma], &bytes[comma + 1..]))
}
