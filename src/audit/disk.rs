//! The files of a log: one directory, mode 0700, files 0600.
//!
//! In: names, offsets, bytes. Out: what the operating system says. Never: what the bytes mean.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::packed;
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
    /// Sets that many bytes of the device aside; nothing to do where they are.
    fn set_aside(&mut self, bytes: u64) -> io::Result<()>;
    /// Gives them back, for what must be written although the disk is full.
    fn release(&mut self) -> io::Result<()>;
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
        Ok(Box::new(replace(&self.path, name, content)?))
    }

    fn set_aside(&mut self, bytes: u64) -> io::Result<()> {
        let path = self.path.join(RESERVE);
        let file = private().create(true).truncate(false).read(true).write(true).open(&path)?;
        let about = file.metadata()?;
        if about.len() == bytes && about.blocks() * 512 >= bytes {
            return Ok(());
        }
        let made = file.set_len(0).and_then(|()| allocate(&file, bytes)).and_then(|()| file.sync_all());
        if made.is_err() {
            // A part of it would only take room from the log.
            let _ = fs::remove_file(&path);
        }
        made.and_then(|()| sync_dir(&self.path))
    }

    fn release(&mut self) -> io::Result<()> {
        fs::remove_file(self.path.join(RESERVE))?;
        sync_dir(&self.path)
    }
}

/// Replaces a file of a directory by one with that content, atomically and durably.
pub(super) fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<File> {
    let fresh = dir.join(format!("{name}.new"));
    let file = private().create(true).truncate(true).write(true).open(&fresh)?;
    FileExt::write_all_at(&file, content, 0)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(name))?;
    sync_dir(dir)?;
    Ok(file)
}

/// Blocks of the device, not only a length.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let block = vec![0xa5; 64 * 1024];
            let mut at = 0;
            while at < bytes {
                let here = usize::try_from(bytes - at).map_or(block.len(), |left| left.min(block.len()));
                FileExt::write_all_at(file, &block[..here], at)?;
                at += here as u64;
            }
            Ok(())
        }
        other => other.map_err(io::Error::from),
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

/// `reserve`: room that is given back when the disk is full.
pub(super) const RESERVE: &str = "reserve";

/// File name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("access-{number:08}.jsonl")
}

/// The segments of a directory, ascending. Of one that is there plain and compressed, the plain one: the other is not proven
/// or not yet needed.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((number, packed)) = name.to_str().and_then(segment_number) else { continue };
        if packed {
            found.entry(number).or_insert(entry.path());
        } else {
            found.insert(number, entry.path());
        }
    }
    Ok(found.into_iter().collect())
}

/// Which segment a name is of, and whether compressed.
fn segment_number(name: &str) -> Option<(u64, bool)> {
    let (plain, packed) = name.strip_suffix(packed::SUFFIX).map_or((name, false), |plain| (plain, true));
    let number = plain.strip_prefix("access-")?.strip_suffix(".jsonl")?.parse().ok()?;
    (plain == segment_name(number)).then_some((number, packed))
}
