//! Envelope, tokens, keyring in memory.
//!
//! In: plaintext cells and keys. Out: envelopes, and plaintext for those that open. Never: I/O, clocks, its own
//! randomness, policy.
//!
//! `derive` is all key derivation, `header` the envelope's fixed part, `envelope` the sealed cell, `token` the
//! search prefixes, `keyring` who holds which key. Formats are frozen by `tests/vectors/envelope.txt`.

mod derive;
mod envelope;
mod header;
mod keyring;
mod token;

#[cfg(test)]
mod tests;

pub use derive::{KekKeys, commitment};
pub use envelope::{NONCE_LEN, OVERHEAD, TAG_LEN, WRAPPED_LEN, unwrap_key, wrap_key};
pub use header::{HEADER_LEN, Header, MAGIC, SealMode, VERSION, flags};
pub use keyring::{Builder, Column, ColumnInfo, Extras, KeyInfo, Keyring, OpenError, RingError, SealError};
pub use token::{OrderToken, OrderValue, TOKEN_LEN};
