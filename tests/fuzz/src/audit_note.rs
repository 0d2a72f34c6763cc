//! Signed checkpoints and public keys come from outside: what is read prints as it was, and only ours is proven.

use pgveil::audit::{Note, VerifierKey};
use pgveil::secret::Key;

/// One input: a note, or a key.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ours = VerifierKey::new(&Key::new([7; 32]), &[1; 16]);
    if let Some(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        if note.prove(&ours).is_ok() {
            assert_eq!(note.origin(), ours.name());
        }
    }
    if let Some(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
}
