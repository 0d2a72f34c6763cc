//! What a server keeps of a password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in
//! `pg_authid.rolpassword`.

use std::fmt;

use super::{Fault, ITERATIONS_MIN, SALT_MAX, SCRAM_SHA_256, decode, decode_key, iterations, mac};
use crate::secret::Key;

/// A verifier. Whoever has it can pretend to be the server, and guess passwords.
#[derive(Clone)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// Reads PostgreSQL's text form.
    ///
    /// # Errors
    /// [`Fault::Malformed`]: it is something else, such as an MD5 hash. [`Fault::Iterations`]
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let rest = text.strip_prefix(SCRAM_SHA_256).and_then(|rest| rest.strip_prefix('$')).ok_or(Fault::Malformed)?;
        let (head, keys) = rest.split_once('$').ok_or(Fault::Malformed)?;
        let (count, salt) = head.split_once(':').ok_or(Fault::Malformed)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(Fault::Malformed)?;
        let salt = decode(salt.as_bytes(), SALT_MAX)?;
        if salt.is_empty() {
            return Err(Fault::Malformed);
        }
        Ok(Self {
            iterations: iterations(count.as_bytes())?,
            salt,
            stored_key: decode_key(stored_key.as_bytes())?,
            server_key: decode_key(server_key.as_bytes())?,
        })
    }

    /// For a user that has none: the same challenge whenever that name is asked for, and no proof that fits. The salt
    /// is as long, and the count as high, as PostgreSQL makes them.
    pub fn mock(secret: &Key, user: &str) -> Self {
        let part = |label: &[u8]| mac(secret.expose(), &[label, &[0], user.as_bytes()]);
        Self {
            iterations: ITERATIONS_MIN,
            salt: part(b"salt").expose()[..16].to_vec(),
            stored_key: part(b"stored"),
            server_key: part(b"server"),
        }
    }
}
