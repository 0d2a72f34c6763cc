//! Envelope, tokens, keyring in memory.
//!
//! In: plaintext cells and keys. Out: envelopes, and plaintext for those that open. Never: I/O, clocks, its own
//! randomness, policy.
