//! The files of a log: one directory, mode 0700, files 0600.
//!
//! In: names, offsets, bytes. Out: what the operating system says. Never: what the bytes mean.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file that is written at offsets.
pub(super) trait Sink: Send {
    /// Writes all of `bytes` at that offset.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Returns when data and length are on the device.
    fn sync(&mut self) -> io::Result<()>;
}

/// Where segments are made.
pub(super) trait Disk: Send {
    /// Makes an empty file whose name is durable; an existing file of that name is emptied.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Sink>>;
    /// Replaces a file by one with that content, atomically and durably, and opens it.
    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<Box<dyn Sink>>;
}

impl Sink for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A log's directory, locked: two writers would fork the chain.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory where it is missing, takes away other people's rights, and locks it.
    ///
    /// # Errors
    /// It cannot be made or another process holds the lock.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let what = |verb: &str| format!("{verb} the access log's directory {}", path.display());
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(|e| Error::io(what("making"), e))?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|e| Error::io(what("protecting"), e))?;
        let lock = private().create(true).write(true).truncate(false).open(path.join("lock"));
        let lock = lock.map_err(|e| Error::io(what("locking"), e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Error::Config(format!("{}: another pgveil writes this access log", path.display())))
            }
            Err(fs::TryLockError::Error(e)) => Err(Error::io(what("locking"), e)),
        }
    }
}

impl Disk for Directory {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file = private().create(true).truncate(true).write(true).open(self.path.join(name))?;
        sync_dir(&self.path)?;
        Ok(Box::new(file))
    }

    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<Box<dyn Sink>> {
        let fresh = self.path.join(format!("{name}.new"));
        let file = private().create(true).truncate(true).write(true).open(&fresh)?;
        FileExt::write_all_at(&file, content, 0)?;
        file.sync_all()?;
        fs::rename(&fresh, self.path.join(name))?;
        sync_dir(&self.path)?;
        Ok(Box::new(file))
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Options of a file that only its owner may touch.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// `head`: two slots naming the newest durable record.
pub(super) const HEAD: &str = "head";

/// File name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("access-{number:08}.jsonl")
}

/// The segments of a directory, ascending.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("access-")?.strip_suffix(".jsonl")?.parse().ok());
        if let Some(number) = number.filter(|number| name.to_str() == Some(&segment_name(*number))) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
