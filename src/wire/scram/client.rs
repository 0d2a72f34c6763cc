//! The side that proves, with the ClientKey in place of the password.

use super::{
    Fault, Mechanism, NONCE_BYTES, Proven, SALT_MAX, attribute, bounded, decode, decode_key, encode, iterations, mac,
    nonce, xor,
};
use crate::secret::{Key, same};

/// A server that is to be convinced.
#[derive(Debug)]
pub struct Client {
    proven: Proven,
    mechanism: Mechanism,
    /// Base64 of the GS2 header and the binding data.
    binding: String,
    header: &'static str,
    pub(super) first_bare: String,
    pub(super) nonce: String,
    /// What the server must sign with; known once it has challenged.
    signature: Option<Key>,
}

impl Client {
    /// `end_point` is the `tls-server-end-point` of the server if it offers PLUS and can be bound; otherwise the flag is
    /// `n`: `y` would say that we could bind and the server cannot, which one that offers it must refuse.
    pub fn new(proven: Proven, end_point: Option<&[u8]>, random: &[u8; NONCE_BYTES]) -> Self {
        let (mechanism, header) = match end_point {
            Some(_) => (Mechanism::Plus, "p=tls-server-end-point,,"),
            None => (Mechanism::Plain, "n,,"),
        };
        let nonce = encode(random);
        Self {
            proven,
            mechanism,
            binding: encode(&[header.as_bytes(), end_point.unwrap_or_default()].concat()),
            header,
            // PostgreSQL takes the name from the startup packet.
            first_bare: format!("n=,r={nonce}"),
            nonce,
            signature: None,
        }
    }

    /// The mechanism to name.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// `client-first-message`.
    pub fn client_first(&self) -> String {
        format!("{}{}", self.header, self.first_bare)
    }

    /// Reads `server-first-message`; `client-final-message`.
    ///
    /// # Errors
    /// [`Fault::Malformed`], [`Fault::Unsupported`], [`Fault::Iterations`], [`Fault::Nonce`]; [`Fault::OtherVerifier`]
    /// when salt or count are not those of the verifier that the ClientKey belongs to.
    pub fn answer(&mut self, server_first: &[u8]) -> Result<String, Fault> {
        let message = bounded(server_first)?;
        let (theirs, rest) = attribute(message, b'r')?;
        let (salt, rest) = attribute(rest.ok_or(Fault::Malformed)?, b's')?;
        let (count, _) = attribute(rest.ok_or(Fault::Malformed)?, b'i')?;
        let theirs = std::str::from_utf8(nonce(theirs)?).map_err(|_| Fault::Malformed)?;
        if theirs.len() <= self.nonce.len() || !theirs.starts_with(&self.nonce) || self.signature.is_some() {
            return Err(Fault::Nonce);
        }
        let verifier = &self.proven.verifier;
        let (salt, count) = (decode(salt, SALT_MAX)?, iterations(count)?);
        if salt != verifier.salt || count != verifier.iterations {
            return Err(Fault::OtherVerifier);
        }
        let without_proof = format!("c={},r={theirs}", self.binding);
        let authenticated: [&[u8]; 5] = [self.first_bare.as_bytes(), b",", message, b",", without_proof.as_bytes()];
        let proof = xor(&self.proven.client_key, &mac(verifier.stored_key.expose(), &authenticated));
        self.signature = Some(mac(verifier.server_key.expose(), &authenticated));
        Ok(format!("{without_proof},p={}", encode(proof.expose())))
    }

    /// Reads `server-final-message` and checks that the server has the verifier; then [`Proven::server_final`], for
    /// whoever proved it to us.
    ///
    /// # Errors
    /// [`Fault::Malformed`], [`Fault::Unproven`]
    pub fn finish(self, server_final: &[u8]) -> Result<String, Fault> {
        let (theirs, _) = attribute(bounded(server_final)?, b'v')?;
        let theirs = decode_key(theirs)?;
        match self.signature {
            Some(ours) if same(ours.expose(), theirs.expose()) => Ok(self.proven.server_final),
            _ => Err(Fault::Unproven),
        }
    }
}
