//! The policy's files: one file, or every `*.toml` of a folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};

/// Larger than any policy; a bound on what a wrong path can make us read.
const BYTES_MAX: u64 = 16 << 20;

/// Reads the policy: (path, text) each, in the order of their names.
///
/// # Errors
/// [`Error::Io`] naming the file, [`Error::Config`] for a file that is too large.
pub fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for file in list(path)? {
        let named = |source| Error::io(format!("policy {}", file.display()), source);
        if std::fs::metadata(&file).map_err(named)?.len() > BYTES_MAX {
            return Err(Error::Config(format!("policy {} is larger than 16 MiB", file.display())));
        }
        texts.push((file.display().to_string(), std::fs::read_to_string(&file).map_err(named)?));
    }
    Ok(texts)
}

/// What changes when a file is written, added or removed; `None` while it cannot be read.
pub(super) type Stamp = Option<Vec<(PathBuf, Option<SystemTime>, u64)>>;

/// See [`Stamp`].
pub(super) fn stamp(path: &Path) -> Stamp {
    let stamp = |file: PathBuf| {
        let about = std::fs::metadata(&file).ok()?;
        Some((file, about.modified().ok(), about.len()))
    };
    list(path).ok()?.into_iter().map(stamp).collect()
}

fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let named = |source| Error::io(format!("policy {}", path.display()), source);
    if !std::fs::metadata(path).map_err(named)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(named)? {
        let file = entry.map_err(named)?.path();
        if file.extension().is_some_and(|e| e == "toml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
