//! All key derivation, on one screen. HKDF-SHA-256 (RFC 5869), salt = deployment id.
//!
//! ```text
//! column keys    ikm = DEK           info = "pgveil1/" ‖ purpose ‖ 00 ‖ u32 column id           purpose: enc, nonce
//! search keys    ikm = index secret  info = "pgveil1/" ‖ purpose ‖ 00 ‖ u32 equality-domain id  purpose: token, order
//! pseudonym key  ikm = index secret  info = "pgveil1/" ‖ "subject" ‖ 00 ‖ u32 0
//! audit key      ikm = index secret  info = "pgveil1/" ‖ "audit" ‖ 00 ‖ u32 0
//! commitment     ikm = DEK           info = "pgveil1/commit"
//! keyring file   ikm = KEK           info = "pgveil1/kek-wrap" | "pgveil1/kek-mac" | "pgveil1/kek-check"
//! ```
//!
//! The `subject` purpose is pgveil's own addition to DESIGN §5: a person's pseudonym in the access log is
//! HMAC-SHA-256(key, kind ‖ 00 ‖ key bytes), first 16 bytes, so that logs can be searched by whoever holds the keyring
//! and by nobody else.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Key;

const PREFIX: &[u8] = b"pgveil1/";
const COMMIT: &[u8] = b"pgveil1/commit";
const KEK_WRAP: &[u8] = b"pgveil1/kek-wrap";
const KEK_MAC: &[u8] = b"pgveil1/kek-mac";
const KEK_CHECK: &[u8] = b"pgveil1/kek-check";

/// What a key made by [`derive`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// AES-256-GCM-SIV of cells, from a DEK.
    Enc,
    /// Nonces of deterministic cells, from a DEK.
    Nonce,
    /// Equality tokens, from the index secret.
    Token,
    /// Order tokens, from the index secret.
    Order,
    /// Subject pseudonyms, from the index secret; its id is 0.
    Subject,
    /// MACs of the access log, from the index secret; its id is 0.
    Audit,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Enc => b"enc",
            Purpose::Nonce => b"nonce",
            Purpose::Token => b"token",
            Purpose::Order => b"order",
            Purpose::Subject => b"subject",
            Purpose::Audit => b"audit",
        }
    }
}

/// K for one purpose and one column (or equality domain).
pub(super) fn derive(deployment_id: &[u8; 16], ikm: &Key, purpose: Purpose, id: u32) -> Key {
    expand(deployment_id, ikm, &[PREFIX, purpose.label(), &[0], &id.to_be_bytes()])
}

/// What a key record says about its DEK without revealing it; checked at unwrap, so a wrapped key that was swapped for
/// another one is noticed before anything is sealed with it.
pub fn commitment(deployment_id: &[u8; 16], dek: &Key) -> [u8; 32] {
    *expand(deployment_id, dek, &[COMMIT]).expose()
}

/// The three uses a keyring file makes of its KEK, kept apart.
#[derive(Debug)]
pub struct KekKeys {
    /// Wraps DEKs and the index secret.
    pub wrap: Key,
    /// Authenticates the file.
    pub mac: Key,
    /// Public: tells a wrong KEK from an edited file.
    pub check: [u8; 32],
}

impl KekKeys {
    /// Derives all three.
    pub fn derive(deployment_id: &[u8; 16], kek: &Key) -> Self {
        Self {
            wrap: expand(deployment_id, kek, &[KEK_WRAP]),
            mac: expand(deployment_id, kek, &[KEK_MAC]),
            check: *expand(deployment_id, kek, &[KEK_CHECK]).expose(),
        }
    }

    /// HMAC-SHA-256 of the file's bytes.
    pub fn file_mac(&self, bytes: &[u8]) -> [u8; 32] {
        Prf::new(&self.mac).compute(&[bytes])
    }
}

fn expand(deployment_id: &[u8; 16], ikm: &Key, info: &[&[u8]]) -> Key {
    let mut key = Key::new([0; 32]);
    Hkdf::<Sha256>::new(Some(deployment_id), ikm.expose())
        .expand_multi_info(info, &mut key.0)
        .expect("32 bytes are within HKDF's limit"); // 32 ≤ 255 · 32 (RFC 5869)
    key
}

/// HMAC-SHA-256 with its key already absorbed: a short message costs two compressions.
#[derive(Clone)]
pub(super) struct Prf(Hmac<Sha256>);

impl Prf {
    pub(super) fn new(key: &Key) -> Self {
        // RFC 2104: longer keys are hashed, shorter ones padded.
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(key.expose()).expect("HMAC takes keys of any length"))
    }

    /// Of the concatenation of `parts`.
    pub(super) fn compute(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}
