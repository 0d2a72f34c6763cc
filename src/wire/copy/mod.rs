//! COPY rows, text, CSV and binary: a stream of CopyData payloads → whole rows → the same rows with some fields replaced.
//!
//! In: payload bytes, cut anywhere. Out: rows whose fields can be read; rows re-emitted with every untouched byte as it
//! was. Never: a row boundary that PostgreSQL would see elsewhere (copyfromparse.c decides; where its versions differ,
//! the input is an error), a row longer than the caller's limit.

mod binary;
mod row;
mod split;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use row::{Rewriter, Row, put_field, put_null};
pub use split::Splitter;

use crate::error::SqlState;

/// `FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain words")]
pub enum RowFormat {
    Text,
    Csv,
    Binary,
}

/// How the rows look: the options of the COPY statement. Of the lists of fields, missing entries are false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In binary nothing else matters.
    pub format: RowFormat,
    /// One byte.
    pub delimiter: u8,
    /// The NULL string.
    pub null: Arc<str>,
    /// COPY FROM: the string that stands for a column's default.
    pub default: Option<Arc<str>>,
    /// CSV only.
    pub quote: u8,
    /// CSV only.
    pub escape: u8,
    /// The first row is column names.
    pub header: bool,
    /// CSV, COPY TO: which fields are quoted even if they need not be.
    pub force_quote: Vec<bool>,
    /// CSV, COPY FROM: where the NULL string without quotes is a value.
    pub force_not_null: Vec<bool>,
    /// CSV, COPY FROM: where the NULL string in quotes is NULL too.
    pub force_null: Vec<bool>,
    /// `\.` alone on a line ends the data (always in text; in CSV from a client to servers before 18).
    pub end_marker: bool,
}

impl Layout {
    /// PostgreSQL's defaults for the text format.
    pub fn text() -> Self {
        Self {
            format: RowFormat::Text,
            delimiter: b'\t',
            null: "\\N".into(),
            default: None,
            quote: b'"',
            escape: b'"',
            header: false,
            force_quote: Vec::new(),
            force_not_null: Vec::new(),
            force_null: Vec::new(),
            end_marker: true,
        }
    }

    /// PostgreSQL's defaults for CSV.
    pub fn csv() -> Self {
        Self { format: RowFormat::Csv, delimiter: b',', null: "".into(), ..Self::text() }
    }

    /// Binary, which has no options.
    pub fn binary() -> Self {
        Self { format: RowFormat::Binary, ..Self::text() }
    }

    /// In CSV, bytea's hex form needs no quotes as field `i`.
    fn hex_is_plain(&self, i: usize) -> bool {
        let occurs = |byte: u8| byte == b'\\' || byte.is_ascii_alphanumeric();
        let forced = self.force_quote.get(i).copied().unwrap_or(false);
        !forced && !occurs(self.delimiter) && !occurs(self.quote) && !self.null.starts_with("\\x")
    }
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// The column names; in binary the file header.
    Header,
    /// Fields.
    Data,
    /// `\.`, or binary's trailer. What follows a `\.` is ignored by the server and not returned.
    End,
}

/// The data is not rows of this layout. Never holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyError {
    /// 22P04, or 54000 for a row that is too long.
    pub sqlstate: SqlState,
    /// PostgreSQL's words.
    pub what: &'static str,
}

impl CopyError {
    pub(super) const fn bad(what: &'static str) -> Self {
        Self { sqlstate: SqlState(*b"22P04"), what }
    }
}

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for CopyError {}
