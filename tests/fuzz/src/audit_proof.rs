//! Proofs, and what stands for pruned records, come from outside: what is read prints as it was, and only ours is proven.

use pgveil::audit::{GrowthProof, Note, Pruned, RecordProof, VerifierKey};
use pgveil::secret::Key;

/// One input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ours = VerifierKey::new(&Key::new([7; 32]), &[1; 16]);
    if let Some(proof) = RecordProof::parse(text) {
        assert_eq!(proof.to_string(), text);
        let checked = proof.check(data, &ours);
        assert!(checked.is_err(), "a proof cannot be of its own text");
    }
    if let Some(proof) = GrowthProof::parse(text) {
        assert_eq!(proof.to_string(), text);
        if proof.check(&ours).is_ok() {
            assert!(proof.earlier().size() <= proof.later().size());
        }
    }
    if let Some(pruned) = Pruned::parse(text) {
        assert_eq!(pruned.to_string(), text);
        assert!(Note::parse(text).is_none(), "it cannot be taken for a checkpoint of the log");
        let _ = pruned.prove(&ours);
    }
    let _ = Note::last_of(text);
}
