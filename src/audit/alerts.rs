//! Alerts read from a log while it is written, from any place in it.
//!
//! In: a directory, the newest durable record's number. Out: alerts in order, each once. Never: a record that is not
//! durable, more of the log in memory than one line and what was asked for.

use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::{disk, record, verify};
use crate::error::{Error, Result};
use crate::event::{Event, EventKind};

/// A place in the log, and the way on.
#[derive(Debug)]
pub struct Alerts {
    dir: PathBuf,
    segment: u64,
    offset: u64,
    seen: u64,
}

impl Alerts {
    /// From the record after `seen`.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn after(dir: &Path, seen: u64) -> Result<Self> {
        let segments = listed(dir)?;
        let begins = |path: &Path| verify::first_record(path).is_some_and(|first| first.seq <= seen + 1);
        let found = segments.iter().rev().find(|(_, path)| begins(path)).or(segments.first());
        Ok(Self { dir: dir.to_owned(), segment: found.map_or(1, |(number, _)| *number), offset: 0, seen })
    }

    /// Every alert up to this record was given out.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The next alerts among records up to `durable`, at most `max`; fewer mean that there are no more.
    ///
    /// # Errors
    /// A segment cannot be read; call again.
    pub fn next(&mut self, durable: u64, max: usize) -> Result<Vec<(u64, Event)>> {
        let mut found = Vec::new();
        while found.len() < max {
            // Asked before reading: what is written to this segment afterwards is not the last of it.
            let following = listed(&self.dir)?.into_iter().map(|(number, _)| number).find(|n| *n > self.segment);
            if !self.read(durable, max, &mut found)? || found.len() == max {
                break;
            }
            let Some(next) = following else { break };
            (self.segment, self.offset) = (next, 0);
        }
        Ok(found)
    }

    /// False at the first record that is not durable yet.
    fn read(&mut self, durable: u64, max: usize, found: &mut Vec<(u64, Event)>) -> Result<bool> {
        let path = self.dir.join(disk::segment_name(self.segment));
        if !path.exists() {
            return Ok(true);
        }
        let mut lines = Lines::open_at(&path, self.offset)?;
        // A line without its end is still being written.
        while let Some((line, true)) = lines.next()? {
            let seq = record::seq(line);
            if seq.is_some_and(|seq| seq > durable) {
                return Ok(false);
            }
            self.offset += line.len() as u64 + 1;
            let Some(seq) = seq.filter(|seq| *seq > self.seen) else { continue };
            self.seen = seq;
            found.extend(alert(line));
            if found.len() == max {
                break;
            }
        }
        Ok(true)
    }
}

fn listed(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))
}

/// Only lines that can be alerts are parsed: within a JSON string the quotes would be escaped.
fn alert(line: &[u8]) -> Option<(u64, Event)> {
    memchr::memmem::find(line, br#""kind":"alert""#)?;
    record::event(line).filter(|(_, event)| event.kind == EventKind::Alert && event.alert.is_some())
}
