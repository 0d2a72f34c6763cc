//! Events read back: for the detector's windows at start, for `pgveil log tail`.
//!
//! In: a directory. Out: events in order. Never: a check of hashes, that is `verify`'s; lines that are no event
//! (headers, checkpoints, torn tails) are passed over.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::{disk, packed, record};
use crate::error::{Error, Result};
use crate::event::Event;

/// Events of some segments, in the order of the log, each with its sequence number.
#[derive(Debug)]
pub struct Events {
    files: VecDeque<PathBuf>,
    open: Option<Lines>,
    bytes: u64,
    bytes_read: u64,
    failed: Option<Error>,
}

impl Events {
    fn of(files: impl Into<VecDeque<PathBuf>>) -> Self {
        Self { files: files.into(), open: None, bytes: 0, bytes_read: 0, failed: None }
    }

    /// Size of all segments, if they come from [`events_since`].
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of these, read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Why events of some segment are missing.
    pub fn failed(self) -> Option<Error> {
        self.failed
    }
}

impl Iterator for Events {
    type Item = (u64, Event);

    fn next(&mut self) -> Option<(u64, Event)> {
        loop {
            let Some(lines) = self.open.as_mut() else {
                match Lines::open(&self.files.pop_front()?) {
                    Ok(lines) => self.open = Some(lines),
                    Err(error) => self.failed = Some(error),
                }
                continue;
            };
            match lines.next() {
                Ok(Some((line, true))) => {
                    self.bytes_read += line.len() as u64 + 1;
                    if let Some(found) = record::event(line) {
                        return Some(found);
                    }
                }
                Ok(Some((_, false))) => {
                    if lines.damaged() {
                        self.failed = Some(Error::io("reading a compressed segment", ErrorKind::InvalidData.into()));
                    }
                }
                Ok(None) => self.open = None,
                Err(error) => (self.open, self.failed) = (None, Some(error)),
            }
        }
    }
}

fn listed(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))
}

/// The events of every segment that may hold one at or after `since_us`, the newest and, up to `bytes_max` in all, those before it;
/// and whether older segments were left out for their size.
///
/// # Errors
/// The directory cannot be read.
pub fn events_since(dir: &Path, since_us: i64, bytes_max: u64) -> Result<(Events, bool)> {
    let (mut files, mut bytes, mut taken, mut cut) = (VecDeque::new(), 0, 0, false);
    for (_, path) in listed(dir)?.into_iter().rev() {
        bytes += packed::text_len(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?;
        if bytes > bytes_max && !files.is_empty() {
            cut = true;
            break;
        }
        taken = bytes;
        let created = super::verify::first_record(&path).and_then(|first| match first.kind {
            record::Kind::Segment(header) => Some(header.created_us),
            _ => None,
        });
        files.push_front(path);
        if created.is_some_and(|created| created < since_us) {
            break;
        }
    }
    Ok((Events { bytes: taken, ..Events::of(files) }, cut))
}

/// The newest `count` events, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn last_events(dir: &Path, count: usize) -> Result<Vec<(u64, Event)>> {
    let mut newest: VecDeque<(u64, Event)> = VecDeque::new();
    for (_, path) in listed(dir)?.into_iter().rev() {
        let mut here: VecDeque<(u64, Event)> = VecDeque::new();
        for found in Events::of([path]) {
            here.push_back(found);
            if here.len() > count - newest.len().min(count) {
                here.pop_front();
            }
        }
        here.append(&mut newest);
        newest = here;
        if newest.len() >= count {
            break;
        }
    }
    Ok(newest.into())
}

/// Follows a log that another process writes.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    segment: u64,
    offset: u64,
    /// Events up to this one were already seen.
    seen: u64,
}

impl Follow {
    /// Follows from the event after `seen`.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn after(dir: &Path, seen: u64) -> Result<Self> {
        let segment = listed(dir)?.last().map_or(1, |(number, _)| *number);
        Ok(Self { dir: dir.to_owned(), segment, offset: 0, seen })
    }

    /// Events that were added since the last call.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn poll(&mut self) -> Result<Vec<(u64, Event)>> {
        let mut found = Vec::new();
        loop {
            let next = exists(&self.dir.join(disk::segment_name(self.segment + 1)));
            self.read_segment(&mut found)?;
            if !next {
                return Ok(found);
            }
            (self.segment, self.offset) = (self.segment + 1, 0);
        }
    }

    fn read_segment(&mut self, found: &mut Vec<(u64, Event)>) -> Result<()> {
        let path = self.dir.join(disk::segment_name(self.segment));
        if !exists(&path) {
            return Ok(());
        }
        let mut lines = Lines::open_at(&path, self.offset)?;
        // A line without its end is still being written.
        while let Some((line, true)) = lines.next()? {
            self.offset += line.len() as u64 + 1;
            if let Some((seq, event)) = record::event(line).filter(|(seq, _)| *seq > self.seen) {
                self.seen = seq;
                found.push((seq, event));
            }
        }
        Ok(())
    }
}

/// Plain or compressed.
fn exists(plain: &Path) -> bool {
    plain.exists() || packed::packed(plain).exists()
}
