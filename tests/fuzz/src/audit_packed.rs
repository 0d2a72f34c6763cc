//! A compressed segment is hostile: reading it never panics and never takes much memory.

use std::fs;

use pgveil::audit;
use pgveil::secret::Key;

/// One input: the segment.
pub fn run(data: &[u8]) {
    let dir = std::env::temp_dir().join(format!("pgveil-fuzz-packed-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    if fs::create_dir_all(&dir).is_err() {
        return;
    }
    let _ = fs::write(dir.join("access-00000001.jsonl.zst"), data);
    let _ = audit::last_events(&dir, 10);
    let _ = audit::events_since(&dir, 0, 1 << 20).map(|(events, _)| events.count());
    let _ = audit::verify(&dir, None);
    let key = Key::new([1; 32]);
    let _ = audit::open(&audit::Settings::new(&dir), key.clone(), &[1; 16], 0).map(|(mut log, _)| log.close(1));
    let _ = audit::verify(&dir, Some(&key));
    let _ = fs::remove_dir_all(&dir);
}
