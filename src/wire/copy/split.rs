//! Where rows end (CopyReadLineText; for binary see [`super::binary`]).
//!
//! In: payload bytes, cut anywhere. Out: one [`Row`] at a time. Never: a byte scanned twice because a chunk ended.

use std::sync::Arc;

use super::row::{self, Row};
use super::{CopyError, Layout, RowFormat, RowKind, binary};
use crate::error::SqlState;

/// The newline that the first row ended with; all others must end alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Lf,
    Cr,
    CrLf,
}

const LITERAL_CR: CopyError = CopyError::bad("literal carriage return found in data");
const LITERAL_LF: CopyError = CopyError::bad("literal newline found in data");
const MARKER_STYLE: CopyError = CopyError::bad("end-of-copy marker does not match previous newline style");
const MARKER_ALONE: CopyError = CopyError::bad("end-of-copy marker is not alone on its line");
const AFTER_TRAILER: CopyError = CopyError::bad("received copy data after EOF marker");
pub(super) const TOO_LONG: CopyError =
    CopyError { sqlstate: SqlState(*b"54000"), what: "a COPY row is longer than the limit" };

/// What the scan found.
pub(super) enum Found {
    /// More bytes are needed.
    Nothing,
    /// A row: its length without and with the line end.
    Line { length: usize, whole: usize },
    /// The end marker: its length with the line end.
    Marker { whole: usize },
}

/// Cuts a stream into rows.
pub struct Splitter {
    layout: Arc<Layout>,
    row_max: usize,
    buffer: Vec<u8>,
    /// Bytes before it have been returned.
    start: usize,
    /// Bytes from `start` up to here have been scanned.
    scanned: usize,
    in_quote: bool,
    last_was_escape: bool,
    line_end: LineEnd,
    header_due: bool,
    finished: bool,
    ended: bool,
    spans: Vec<row::Span>,
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splitter")
            .field("layout", &self.layout)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl Splitter {
    /// A splitter for one COPY; rows of more than `row_max` bytes are an error (54000).
    pub fn new(layout: Arc<Layout>, row_max: usize) -> Self {
        let header_due = layout.header || layout.format == RowFormat::Binary;
        Self {
            layout,
            row_max,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            in_quote: false,
            last_was_escape: false,
            line_end: LineEnd::Unknown,
            header_due,
            finished: false,
            ended: false,
            spans: Vec::new(),
        }
    }

    /// The layout it was made with.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Bytes held that are not a whole row yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Takes the payload of one CopyData. Call [`Splitter::next`] until it has no more before feeding again.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.ended && self.layout.format != RowFormat::Binary {
            return;
        }
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// CopyDone: the last row may lack its line end.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next whole row, or `None` until more is fed.
    #[allow(clippy::should_implement_trait, reason = "a row borrows from the splitter")]
    pub fn next(&mut self) -> Result<Option<Row<'_>>, CopyError> {
        let pending = self.pending();
        if self.ended {
            return if pending > 0 && self.layout.format == RowFormat::Binary { Err(AFTER_TRAILER) } else { Ok(None) };
        }
        let found = match self.layout.format {
            RowFormat::Text => self.scan_text()?,
            RowFormat::Csv => self.scan_csv()?,
            RowFormat::Binary => self.scan_binary()?,
        };
        let (kind, length, whole) = match found {
            Found::Line { length, whole } => (RowKind::Data, length, whole),
            Found::Marker { whole } => (RowKind::End, 0, whole),
            Found::Nothing if self.finished && pending > 0 => (RowKind::Data, pending, pending),
            Found::Nothing if pending > self.row_max => return Err(TOO_LONG),
            Found::Nothing => return Ok(None),
        };
        if whole > self.row_max {
            return Err(TOO_LONG);
        }
        if self.in_quote {
            return Err(CopyError::bad("unterminated CSV quoted field"));
        }
        let kind = if kind == RowKind::Data && self.header_due { RowKind::Header } else { kind };
        self.header_due = false;
        self.ended = kind == RowKind::End;
        let start = self.start;
        self.start += whole;
        self.scanned = self.start;
        self.last_was_escape = false;
        let raw = &self.buffer[start..start + whole];
        if kind != RowKind::Data {
            self.spans.clear();
        } else if self.layout.format != RowFormat::Binary {
            self.spans.clear();
            row::find_fields(&self.layout, &raw[..length], &mut self.spans)?;
        }
        Ok(Some(Row { kind, layout: &self.layout, raw, length, spans: &self.spans }))
    }

    /// The byte at `at`: `Some(None)` at the end of all data, `None` if it has not come yet.
    fn look(&self, at: usize) -> Option<Option<u8>> {
        match self.buffer.get(at) {
            Some(&byte) => Some(Some(byte)),
            None if self.finished => Some(None),
            None => None,
        }
    }

    /// Waits at `at`, to be looked at again.
    fn wait(&mut self, at: usize) -> Found {
        self.scanned = at;
        Found::Nothing
    }

    fn scan_binary(&mut self) -> Result<Found, CopyError> {
        let bytes = &self.buffer[self.start..];
        if self.header_due {
            return binary::header(bytes, self.row_max, self.finished);
        }
        if self.scanned == self.start {
            self.spans.clear();
        }
        let mut scanned = self.scanned - self.start;
        let found = binary::tuple(bytes, self.row_max, self.finished, &mut scanned, &mut self.spans);
        self.scanned = self.start + scanned;
        found
    }

    fn scan_text(&mut self) -> Result<Found, CopyError> {
        let mut at = self.scanned;
        while let Some(skip) = memchr::memchr3(b'\n', b'\r', b'\\', &self.buffer[at..]) {
            at += skip;
            match self.buffer[at] {
                b'\\' => match self.look(at + 1) {
                    None => return Ok(self.wait(at)),
                    Some(Some(b'.')) => return self.marker(at),
                    // The byte after a backslash is data, even a newline.
                    Some(Some(_)) => at += 2,
                    Some(None) => return Err(CopyError::bad("a backslash stands at the end of the data")),
                },
                _ => return self.line(at),
            }
        }
        Ok(self.wait(self.buffer.len()))
    }

    fn scan_csv(&mut self) -> Result<Found, CopyError> {
        let (quote, escape) = (self.layout.quote, self.layout.escape);
        let escape = (escape != quote).then_some(escape);
        let mut at = self.scanned;
        while at < self.buffer.len() {
            let byte = self.buffer[at];
            // Whether `\.` or a carriage return ends something needs the bytes after it, before any state changes.
            if byte == b'\r' && self.look(at + 1).is_none() {
                return Ok(self.wait(at));
            }
            if byte == b'\\' && at == self.start && self.layout.end_marker && !self.in_quote {
                match self.csv_marker(at)? {
                    Some(found) => return Ok(found),
                    None if self.buffer.len() < at + 4 && !self.finished => return Ok(self.wait(at)),
                    None => {}
                }
            }
            if self.in_quote && Some(byte) == escape {
                self.last_was_escape = !self.last_was_escape;
            }
            if byte == quote && !self.last_was_escape {
                self.in_quote = !self.in_quote;
            }
            if Some(byte) != escape {
                self.last_was_escape = false;
            }
            if matches!(byte, b'\n' | b'\r') && !self.in_quote {
                return self.line(at);
            }
            at += 1;
        }
        Ok(self.wait(at))
    }

    /// A line ends at `at`, where a carriage return or newline stands.
    fn line(&mut self, at: usize) -> Result<Found, CopyError> {
        let length = at - self.start;
        let one = Found::Line { length, whole: length + 1 };
        if self.buffer[at] == b'\n' {
            return match self.line_end {
                LineEnd::Cr | LineEnd::CrLf => Err(LITERAL_LF),
                _ => {
                    self.line_end = LineEnd::Lf;
                    Ok(one)
                }
            };
        }
        match self.line_end {
            LineEnd::Lf => Err(LITERAL_CR),
            LineEnd::Cr => Ok(one),
            LineEnd::Unknown | LineEnd::CrLf => match self.look(at + 1) {
                None => Ok(self.wait(at)),
                Some(Some(b'\n')) => {
                    self.line_end = LineEnd::CrLf;
                    Ok(Found::Line { length, whole: length + 2 })
                }
                Some(_) if self.line_end == LineEnd::CrLf => Err(LITERAL_CR),
                Some(_) => {
                    self.line_end = LineEnd::Cr;
                    Ok(one)
                }
            },
        }
    }

    /// `\.` at `at` in text: it must be a line of its own (before 17 PostgreSQL took what stood before it as a row).
    fn marker(&mut self, at: usize) -> Result<Found, CopyError> {
        if at != self.start {
            return Err(MARKER_ALONE);
        }
        let mut end = at + 2;
        if self.line_end == LineEnd::CrLf {
            match self.look(end) {
                None => return Ok(self.wait(at)),
                Some(Some(b'\r')) => end += 1,
                Some(Some(b'\n')) => return Err(MARKER_STYLE),
                Some(_) => return Err(MARKER_ALONE),
            }
        }
        let expected = match self.line_end {
            LineEnd::Cr => b'\r',
            LineEnd::Lf | LineEnd::CrLf => b'\n',
            LineEnd::Unknown => 0,
        };
        match self.look(end) {
            None => Ok(self.wait(at)),
            Some(Some(byte @ (b'\r' | b'\n'))) if expected == 0 || byte == expected => {
                Ok(Found::Marker { whole: end + 1 - self.start })
            }
            Some(Some(b'\r' | b'\n')) => Err(MARKER_STYLE),
            Some(_) => Err(MARKER_ALONE),
        }
    }

    /// `\.` alone on a line in CSV; `None` if it is data (or not all there yet).
    fn csv_marker(&mut self, at: usize) -> Result<Option<Found>, CopyError> {
        let after = &self.buffer[at + 1..];
        Ok(match (self.line_end, after) {
            (LineEnd::CrLf, [b'.', b'\r', b'\n', ..]) => Some(Found::Marker { whole: 4 }),
            (LineEnd::CrLf, [b'.', b'\r', b'\r', ..]) => return Err(MARKER_STYLE),
            (LineEnd::CrLf, _) => None,
            (LineEnd::Lf, [b'.', b'\r', ..]) | (LineEnd::Cr, [b'.', b'\n', ..]) => return Err(MARKER_STYLE),
            (_, [b'.', b'\r' | b'\n', ..]) => Some(Found::Marker { whole: 3 }),
            _ => None,
        })
    }
}
