//! What one sink has delivered, in a file that is replaced whole.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Longer than any such file.
const BYTES_MAX: u64 = 4_096;

/// How far one sink has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    path: PathBuf,
    /// Every alert up to this record was delivered, or is not for this sink.
    pub seen: u64,
    /// Its failing has been told.
    pub down: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u32,
    seen: u64,
    #[serde(default)]
    down: bool,
}

impl Cursor {
    /// The sink's cursor in that folder; at `first` if it has none yet.
    ///
    /// # Errors
    /// The file cannot be read, or is none that pgveil has written.
    pub fn open(folder: &Path, sink: &str, first: u64) -> Result<Self> {
        let path = folder.join(format!("{sink}.json"));
        let failed = |e| Error::io(format!("reading {}", path.display()), e);
        let mut text = Vec::new();
        match std::fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, seen: first, down: false });
            }
            opened => opened.map_err(failed)?.take(BYTES_MAX).read_to_end(&mut text).map_err(failed)?,
        };
        match Self::decode(&text) {
            Some((seen, down)) => Ok(Self { path, seen, down }),
            None => Err(Error::Config(format!(
                "{} is not what pgveil has written; remove it, and this sink begins at this start",
                path.display()
            ))),
        }
    }

    /// What a file's text says.
    pub fn decode(text: &[u8]) -> Option<(u64, bool)> {
        let written: Written = serde_json::from_slice(text).ok()?;
        (written.v == 1).then_some((written.seen, written.down))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut staged = NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut staged, &Written { v: 1, seen: self.seen, down: self.down })?;
        staged.write_all(b"\n")?;
        staged.as_file().sync_all()?;
        staged.persist(&self.path)?;
        std::fs::File::open(folder)?.sync_all()
    }
}
