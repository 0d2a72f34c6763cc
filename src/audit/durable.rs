//! Durable records from a place in the chain on: for whoever copies the log elsewhere.
//!
//! In: a directory that a proxy may be writing, and the newest record that was copied. Out: the events after it, in order,
//! once each, and what is missing between them. Never: a record that is not on the device yet (the head says which are), one
//! that was given up after a failed fsync and stands again in the next segment, another log taken for the one that was
//! copied.

use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::disk;
use super::lines::Lines;
use super::record::{self, Head, Record};
use super::verify::{VerifyError, first_record, heads};
use crate::error::{Error, Result};
use crate::event::Event;

/// The name of a log among those that are copied to one place: a file beside it, 32 hex digits.
const INSTANCE: &str = "instance";

/// A place in the chain: everything up to this record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Its sequence number; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: [u8; 32],
}

/// An event as the log holds it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its record's sequence number.
    pub seq: u64,
    /// Its record's hash.
    pub hash: [u8; 32],
    /// What happened.
    pub event: Event,
}

/// Records that follow each other.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order.
    pub events: Vec<Kept>,
    /// Records that are not there any more, or not as they were written.
    pub gaps: Vec<RangeInclusive<u64>>,
    /// Durable records after the last of these.
    pub left: u64,
}

/// Reads on, call after call.
#[derive(Debug)]
pub struct Durable {
    dir: PathBuf,
    at: Position,
    /// Segment and offset where reading goes on.
    place: Option<(u64, u64)>,
    /// What `at.hash` is has been seen here, and not only been said.
    known: bool,
}

impl Durable {
    /// After that place.
    pub fn after(dir: &Path, at: Position) -> Self {
        Self { dir: dir.to_owned(), at, place: None, known: false }
    }

    /// The newest record that was read.
    pub fn at(&self) -> Position {
        self.at
    }

    /// The next records, about `bytes_max` of them; none when there are none.
    ///
    /// # Errors
    /// A file cannot be read; the log is not the one that the place was in.
    pub fn next(&mut self, bytes_max: u64) -> Result<Batch> {
        let mut batch = Batch::default();
        // The head first: what it names is in segments that are listed later.
        let Some(head) = newest(&self.dir)? else { return Ok(batch) };
        if head.seq < self.at.seq {
            return Err(self.another());
        }
        let mut bytes = 0;
        while self.at.seq < head.seq && bytes < bytes_max {
            let listed = disk::segments(&self.dir).map_err(|e| self.unreadable(e))?;
            let Some((number, offset)) = self.place.or_else(|| self.find(&listed)) else { break };
            let Some((_, path)) = listed.iter().find(|(listed, _)| *listed == number) else {
                // It has been taken away: what it held shows as a gap before the next one.
                let Some((next, _)) = listed.iter().find(|(next, _)| *next > number) else { break };
                self.place = Some((*next, 0));
                continue;
            };
            let next = listed.iter().find(|(next, _)| *next > number);
            // A segment that was given up ends where the next one begins.
            let begun = next.and_then(|(_, path)| first_record(path)).map(|first| first.seq);
            let last = begun.map_or(head.seq, |begun| head.seq.min(begun.saturating_sub(1)));
            let (read, ended) = self.segment(path, (number, offset), last, bytes_max - bytes, &mut batch)?;
            bytes += read;
            match (next, begun) {
                (Some((next, _)), Some(begun)) if ended && head.seq >= begun => self.place = Some((*next, 0)),
                _ if ended => break,
                _ => {}
            }
        }
        batch.left = head.seq - self.at.seq;
        Ok(batch)
    }

    /// The segment in which reading begins: the newest that begins at or before the next record, else the oldest.
    fn find(&self, listed: &[(u64, PathBuf)]) -> Option<(u64, u64)> {
        let holds = |(_, path): &&(u64, PathBuf)| first_record(path).is_some_and(|first| first.seq <= self.at.seq + 1);
        let found = listed.iter().rev().find(holds).or_else(|| listed.first());
        found.map(|(number, _)| (*number, 0))
    }

    /// Takes records up to `last` out of one segment; how many bytes of them, and whether there are no more.
    fn segment(
        &mut self,
        path: &Path,
        (number, mut offset): (u64, u64),
        last: u64,
        bytes_max: u64,
        batch: &mut Batch,
    ) -> Result<(u64, bool)> {
        let mut lines = Lines::open_at(path, offset)?;
        let mut bytes = 0;
        while bytes < bytes_max && self.at.seq < last {
            // A line without its end is still being written.
            let Some((line, true)) = lines.next()? else {
                self.place = Some((number, offset));
                return Ok((bytes, true));
            };
            let found = record::decode(line);
            if found.as_ref().is_ok_and(|found| found.seq > last) {
                break;
            }
            let length = line.len() as u64 + 1;
            offset += length;
            // A line that is no record is missed when the next one is read.
            if let Ok(found) = found
                && found.seq > self.at.seq
            {
                bytes += length;
                self.take(&found, record::event(line).map(|(_, event)| event), batch)?;
            }
        }
        self.place = Some((number, offset));
        Ok((bytes, bytes < bytes_max || self.at.seq >= last))
    }

    fn take(&mut self, found: &Record, event: Option<Event>, batch: &mut Batch) -> Result<()> {
        let next = self.at.seq + 1;
        if found.seq > next {
            batch.gaps.push(next..=found.seq - 1);
        } else if found.prev != self.at.hash {
            if !self.known {
                return Err(self.another());
            }
            // The record before it is not what was written.
            batch.gaps.push(self.at.seq..=self.at.seq);
        }
        self.known = true;
        self.at = Position { seq: found.seq, hash: found.hash };
        batch.events.extend(event.map(|event| Kept { seq: found.seq, hash: found.hash, event }));
        Ok(())
    }

    fn another(&self) -> Error {
        Error::Config(format!(
            "{}: record {} of this access log is not the one that was copied before. Either an older copy of the folder was \
             put back (see `pgveil log verify`), or it is a copy of another proxy's: then give it a name of its own by \
             removing the file `{INSTANCE}` in it",
            self.dir.display(),
            self.at.seq
        ))
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        Error::io(format!("reading {}", self.dir.display()), error)
    }
}

/// The newest durable record; `None` where there is no log yet.
fn newest(dir: &Path) -> Result<Option<Head>> {
    match heads(dir) {
        Ok(heads) => Ok(heads.map(|[a, b]| if a.seq >= b.seq { a } else { b })),
        Err(VerifyError::Unreadable(error)) => Err(error),
        Err(VerifyError::Break(found)) => Err(Error::Config(format!("{}: {found}", dir.display()))),
    }
}

/// Sequence number of the newest durable record; 0 where there is no log yet.
///
/// # Errors
/// The head cannot be read.
pub fn durable_seq(dir: &Path) -> Result<u64> {
    Ok(newest(dir)?.map_or(0, |head| head.seq))
}

/// The log's name among others of its deployment, made with `fresh` when it has none.
///
/// # Errors
/// The file beside the log cannot be read or written, or holds something else.
pub fn instance(dir: &Path, fresh: impl FnOnce() -> u128) -> Result<u128> {
    let path = dir.join(INSTANCE);
    let fail = |e| Error::io(format!("the access log's name in {}", path.display()), e);
    match fs::read_to_string(&path) {
        Ok(text) => named(&text).ok_or_else(|| {
            Error::Config(format!(
                "{}: not a name of 32 hex digits; remove the file, and a new one is made",
                path.display()
            ))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let name = fresh();
            let new = dir.join(format!("{INSTANCE}.new"));
            let mut file = disk::private().create(true).truncate(true).write(true).open(&new).map_err(fail)?;
            file.write_all(format!("{name:032x}\n").as_bytes()).map_err(fail)?;
            file.sync_all().map_err(fail)?;
            fs::rename(&new, &path).map_err(fail)?;
            disk::sync_dir(dir).map_err(fail)?;
            Ok(name)
        }
        Err(e) => Err(fail(e)),
    }
}

fn named(text: &str) -> Option<u128> {
    let mut bytes: [u8; 16] = [0; 16];
    hex::decode_to_slice(text.trim_end(), &mut bytes).ok()?;
    Some(u128::from_be_bytes(bytes))
}
