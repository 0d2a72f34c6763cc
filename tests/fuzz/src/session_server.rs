//! A hostile server: any messages of its own at any time, with a client that may be hostile as well.

use super::stage::{self, Hostile};

/// One input.
pub fn run(data: &[u8]) {
    stage::run(data, Hostile::Both);
}
