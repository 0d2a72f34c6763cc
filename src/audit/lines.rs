//! Lines of a segment, each with a bound on its length.
//!
//! In: a path. Out: one line after the other. Never: more of a file in memory than one line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};

/// A line longer than this is no record; it is read in pieces, none of which is.
const LINE_MAX: u64 = 16 * 1024 * 1024;

/// Lines of a file.
#[derive(Debug)]
pub(super) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    /// From the file's beginning.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_at(path, 0)
    }

    /// From that offset.
    pub(super) fn open_at(path: &Path, offset: u64) -> Result<Self> {
        let fail = |e| Error::io(format!("reading {}", path.display()), e);
        let mut file = File::open(path).map_err(fail)?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        Ok(Self { reader: BufReader::with_capacity(256 * 1024, file), line: Vec::new() })
    }

    /// The next line without its newline, and whether it had one.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], bool)>> {
        self.line.clear();
        let read = self.reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.line);
        if read.map_err(|e| Error::io("reading a segment", e))? == 0 {
            return Ok(None);
        }
        let whole = self.line.pop_if(|byte| *byte == b'\n').is_some();
        Ok(Some((&self.line, whole)))
    }

    /// Bytes to the end of the file.
    pub(super) fn rest(&mut self) -> Result<u64> {
        let mut bytes = 0;
        while let Some((line, whole)) = self.next()? {
            bytes += line.len() as u64 + u64::from(whole);
        }
        Ok(bytes)
    }
}
