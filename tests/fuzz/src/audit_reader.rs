//! A log's directory is hostile: anybody who got at the disk wrote it. Verifying, reading and reopening it never panics.

use std::fs;

use pgveil::audit::{self, Settings, VerifierKey};
use pgveil::secret::Key;

/// One input.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let dir = std::env::temp_dir().join(format!("pgveil-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    if fs::create_dir_all(&dir).is_err() {
        return;
    }
    // Half of the input to the head, or all of it to one of the files.
    let middle = data.len() / 2;
    let (head, segment) = match which % 3 {
        0 => (&data[..middle], &data[middle..]),
        1 => (data, &data[..0]),
        _ => (&data[..0], data),
    };
    let _ = fs::write(dir.join("head"), head);
    let _ = fs::write(dir.join("access-00000001.jsonl"), segment);
    let key = Key::new([1; 32]);
    let _ = audit::verify(&dir, Some(&key));
    let _ = audit::verify(&dir, None);
    let _ = audit::anchors(&dir.join("access-00000001.jsonl"), &VerifierKey::new(&key, &[1; 16]));
    let _ = audit::last_events(&dir, 10);
    let _ = audit::Alerts::after(&dir, 1).and_then(|mut alerts| alerts.next(u64::MAX, 10));
    let _ = pgveil::notify::Cursor::decode(data);
    let settings = Settings::new(dir);
    let _ = audit::open(&settings, key, &[1; 16], 0);
}
