//! Lines of a segment, each with a bound on its length.
//!
//! In: a path. Out: one line after the other. Never: more of a file in memory than one line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::packed::{self, Unpacked};
use crate::error::{Error, Result};

/// A line longer than this is no record; it is read in pieces, none of which is.
const LINE_MAX: u64 = 16 * 1024 * 1024;

/// Lines of a file, plain or compressed.
pub(super) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    damaged: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("damaged", &self.damaged).finish_non_exhaustive()
    }
}

impl Lines {
    /// From the file's beginning. A plain segment that was compressed since it was listed is found.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_at(path, 0)
    }

    /// From that offset of the text.
    pub(super) fn open_at(path: &Path, offset: u64) -> Result<Self> {
        let fail = |e| Error::io(format!("reading {}", path.display()), e);
        let opened = match Self::opened(path, offset) {
            Err(e) if e.kind() == ErrorKind::NotFound && !packed::is_packed(path) => {
                Self::opened(&packed::packed(path), offset).map_err(|_| e)
            }
            other => other,
        };
        let reader = BufReader::with_capacity(256 * 1024, opened.map_err(fail)?);
        Ok(Self { reader, line: Vec::new(), damaged: false })
    }

    fn opened(path: &Path, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        if packed::is_packed(path) {
            let mut text = Unpacked::open(path)?;
            match io::copy(&mut text.by_ref().take(offset), &mut io::sink()) {
                // Whoever reads on finds it.
                Err(e) if e.kind() != ErrorKind::InvalidData => return Err(e),
                _ => {}
            }
            return Ok(Box::new(text));
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    /// The next line without its newline, and whether it had one. Where a compressed file is damaged, a line without one,
    /// and then the end.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], bool)>> {
        self.line.clear();
        if self.damaged {
            return Ok(None);
        }
        match self.reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                self.damaged = true;
                return Ok(Some((&self.line, false)));
            }
            Err(e) => return Err(Error::io("reading a segment", e)),
        }
        let whole = self.line.pop_if(|byte| *byte == b'\n').is_some();
        Ok(Some((&self.line, whole)))
    }

    /// It is compressed, and not what was written from the newest line on.
    pub(super) fn damaged(&self) -> bool {
        self.damaged
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
