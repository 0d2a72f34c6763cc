//! The quarantine's file: reading it never panics, and what is read is written so that it is read again.

use pgveil::desk::quarantine::{parse, write};

/// One input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(entries) = parse("quarantine.toml", text) {
        assert_eq!(parse("quarantine.toml", &write(&entries)).ok(), Some(entries));
    }
}
