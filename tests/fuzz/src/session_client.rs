//! A hostile client, in every state of a session, before a server that keeps to the protocol.

use super::stage::{self, Hostile};

/// One input.
pub fn run(data: &[u8]) {
    stage::run(data, Hostile::Client);
}
