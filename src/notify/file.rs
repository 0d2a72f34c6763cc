//! Kind `log`: one JSON line for each message, appended to a file and on the device before it counts as delivered.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Failure, Message};

pub(super) async fn append(path: &Path, message: &Message) -> Result<(), Failure> {
    let (path, mut line) = (PathBuf::from(path), message.json());
    line.push('\n');
    let written = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()
    });
    match written.await {
        Ok(done) => done.map_err(Failure::new),
        Err(_) => Err(Failure::new("the writing thread has ended")),
    }
}
