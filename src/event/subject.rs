//! Whose data it was, as pseudonyms.
//!
//! In: keyed hashes of kind and key. Out: members of the event. Never: a key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Stands for a person to whoever holds the keyring: HMAC-SHA-256 over kind and key, first 128 bits. Written as 32
/// lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pseudonym(pub u128);

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Pseudonym {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 32];
        match hex::encode_to_slice(self.0.to_be_bytes(), &mut digits) {
            Ok(()) => serializer.serialize_str(std::str::from_utf8(&digits).unwrap_or_default()),
            Err(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Pseudonym {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(&*digits, &mut bytes).map_err(|_| serde::de::Error::custom("not 32 hex digits"))?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

/// A person, as a pseudonym.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The policy's `subject.kind`.
    pub kind: Arc<str>,
    /// Of that kind.
    pub pseudonym: Pseudonym,
}

/// Whose data it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subjects {
    /// Distinct people, at most [`Subjects::MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Subject>,
    /// Rows released whose subject was not in the result or the statement.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_rows: u64,
    /// Distinct people beyond the bound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

impl Subjects {
    /// The most people one event names; further ones are counted.
    pub const MAX: usize = 1_000;

    /// Nobody is named and nobody was left out.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown_rows == 0 && self.more == 0
    }
}

/// What a record leaves out.
fn is_zero(count: &u64) -> bool {
    *count == 0
}
