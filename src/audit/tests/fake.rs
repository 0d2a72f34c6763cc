//! A disk in memory for tests: it can be full, and its fsync can fail; it remembers the order of what was asked.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::super::disk::{Disk, Sink};
use super::super::tree::Tree;
use super::super::writer::{Full, Log, Start, Tip};
use crate::secret::Key;

/// What was asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Write(String),
    Sync(String),
    /// A test's own mark.
    Mark(&'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) ops: Vec<Op>,
    /// Bytes that may still be written to segments.
    pub(crate) room: Option<usize>,
    /// How many further fsyncs of segments fail.
    pub(crate) failing_syncs: u32,
    /// Bytes set aside.
    pub(crate) reserve: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeDisk(pub(crate) Arc<Mutex<Inner>>);

impl FakeDisk {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub(crate) fn log(&self, segment_bytes: u64) -> Log {
        let start = Start { segment: 1, tip: Tip { seq: 0, hash: [0; 32] }, tree: Some(Tree::default()) };
        // By age never: some tests count from 0, others by the clock.
        let full = Full { bytes: segment_bytes, us: u64::MAX };
        Log::resume(Box::new(self.clone()), Key::new([7; 32]), "00".repeat(16), full, start, 0).unwrap()
    }

    /// As [`FakeDisk::log`], with that much room held.
    pub(crate) fn log_with_reserve(&self, reserve: u64) -> Log {
        let mut log = self.log(1 << 20);
        log.keep_reserve(reserve);
        log
    }

    /// Writes the files where the real reader finds them.
    pub(crate) fn dump(&self, dir: &std::path::Path) {
        self.with(|inner| {
            for (name, bytes) in &inner.files {
                std::fs::write(dir.join(name), bytes).unwrap();
            }
        });
    }
}

struct FakeSink(FakeDisk, String);

impl Disk for FakeDisk {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Sink>> {
        self.with(|inner| inner.files.insert(name.to_owned(), Vec::new()));
        Ok(Box::new(FakeSink(self.clone(), name.to_owned())))
    }

    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<Box<dyn Sink>> {
        self.with(|inner| inner.files.insert(name.to_owned(), content.to_vec()));
        Ok(Box::new(FakeSink(self.clone(), name.to_owned())))
    }

    fn set_aside(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).unwrap();
        self.with(|inner| {
            match &mut inner.room {
                Some(room) if *room < bytes => return Err(io::ErrorKind::StorageFull.into()),
                Some(room) => *room -= bytes,
                None => {}
            }
            inner.reserve = bytes;
            Ok(())
        })
    }

    fn release(&mut self) -> io::Result<()> {
        self.with(|inner| {
            let bytes = std::mem::take(&mut inner.reserve);
            if let Some(room) = &mut inner.room {
                *room += bytes;
            }
            Ok(())
        })
    }
}

impl Sink for FakeSink {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let name = &self.1;
        self.0.with(|inner| {
            let fits = match &mut inner.room {
                Some(room) if name != super::super::disk::HEAD => {
                    let fits = bytes.len().min(*room);
                    *room -= fits;
                    fits
                }
                _ => bytes.len(),
            };
            let file = inner.files.get_mut(name).unwrap();
            let at = usize::try_from(at).unwrap();
            file.resize(file.len().max(at + fits), 0);
            file[at..at + fits].copy_from_slice(&bytes[..fits]);
            inner.ops.push(Op::Write(name.clone()));
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let name = &self.1;
        self.0.with(|inner| inner.files.get_mut(name).unwrap().truncate(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let name = &self.1;
        self.0.with(|inner| {
            if inner.failing_syncs > 0 && name != super::super::disk::HEAD {
                inner.failing_syncs -= 1;
                return Err(io::ErrorKind::Other.into());
            }
            inner.ops.push(Op::Sync(name.clone()));
            Ok(())
        })
    }
}
