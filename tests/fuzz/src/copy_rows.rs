//! COPY rows, text, csv and binary: a split anywhere is a split nowhere, rows nobody changed are the bytes that came, and a row
//! whose fields were all written anew says the same.

use std::sync::Arc;

use pgveil::wire::copy::{CopyError, Layout, RowFormat, RowKind, Splitter};

type Fields = Vec<Option<Vec<u8>>>;

/// Longest row, in bytes: short enough for inputs to reach it.
const ROW_MAX: usize = 512;

#[derive(Debug, PartialEq)]
struct Seen {
    kind: RowKind,
    raw: Vec<u8>,
    fields: Fields,
    /// The row with every field replaced by its own value.
    rewritten: Vec<u8>,
}

/// What came before the first error, and that error.
fn rows(layout: &Arc<Layout>, chunks: &[&[u8]]) -> (Vec<Seen>, Option<CopyError>) {
    let mut splitter = Splitter::new(layout.clone(), ROW_MAX);
    let mut rows = Vec::new();
    for i in 0..=chunks.len() {
        match chunks.get(i) {
            Some(chunk) => splitter.feed(chunk),
            None => splitter.finish(),
        }
        loop {
            let row = match splitter.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) => return (rows, Some(error)),
            };
            let mut same = Vec::new();
            row.rewriter().finish(&mut same);
            assert_eq!(same, row.raw());
            let fields: Fields = (0..row.len()).map(|i| row.field(i).map(|f| f.into_owned())).collect();
            let (mut rewritten, mut rewriter) = (Vec::new(), row.rewriter());
            for (i, field) in fields.iter().enumerate() {
                rewriter.replace(i, field.as_deref(), &mut rewritten);
            }
            rewriter.finish(&mut rewritten);
            rows.push(Seen { kind: row.kind(), raw: same, fields, rewritten });
        }
        let longest = chunks.iter().map(|chunk| chunk.len()).max().unwrap_or(0);
        assert!(splitter.pending() <= ROW_MAX + longest, "held without bound");
    }
    (rows, None)
}

/// Bits: 0 header, 1 end marker, 2 another escape, 3 another NULL and delimiter, 4–5 format, 6 FORCE_NULL, 7 FORCE_NOT_NULL.
fn layout(options: u8) -> Layout {
    let mut layout = match options >> 4 & 3 {
        0 => Layout::text(),
        1 => Layout::csv(),
        _ => return Layout::binary(),
    };
    let csv = layout.format == RowFormat::Csv;
    layout.header = options & 1 != 0;
    layout.end_marker = options & 2 != 0 || !csv;
    if options & 4 != 0 {
        layout.escape = b'\\';
    }
    if options & 8 != 0 {
        layout.null = "x".into();
        layout.delimiter = b'|';
    }
    match options >> 6 {
        1 if csv => layout.force_null = vec![true; 3],
        2 if csv => layout.force_not_null = vec![true; 3],
        _ => {}
    }
    layout
}

/// One input: options, where it is cut, the stream.
pub fn run(data: &[u8]) {
    let [options, cut, bytes @ ..] = data else { return };
    // Most binary inputs get past the signature.
    let signed = [&b"PGCOPY\n\xff\r\n\0\0\0"[..], bytes].concat();
    let bytes = if options >> 4 & 3 == 3 { &signed } else { bytes };
    let layout = Arc::new(layout(*options));
    let (whole, error) = rows(&layout, &[bytes]);
    let (head, tail) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for pieces in [&[head, tail][..], &single] {
        let (other, other_error) = rows(&layout, pieces);
        assert_eq!(other, whole);
        // What is wrong at the end of a row that is too long is seen only when all of it is there at once.
        let too_long = [other_error, error].into_iter().flatten().any(|error| error.sqlstate.0 == *b"54000");
        assert!(other_error == error || (too_long && other_error.is_some() && error.is_some()));
    }
    let all = layout.format == RowFormat::Binary || whole.last().is_none_or(|row| row.kind != RowKind::End);
    if error.is_none() && all {
        assert_eq!(whole.iter().flat_map(|row| row.raw.clone()).collect::<Vec<_>>(), bytes);
    }
    whole.iter().filter(|row| row.kind == RowKind::Data).for_each(|row| means_the_same(&layout, row));
}

/// A row written anew is one row of the same fields. In text a value that looks like NULL is NULL when it is read again,
/// as it is with PostgreSQL's own COPY TO; and no bytes at all are no row.
fn means_the_same(layout: &Arc<Layout>, row: &Seen) {
    let text = layout.format == RowFormat::Text;
    let ambiguous = text && row.fields.iter().flatten().any(|value| *value == *layout.null.as_bytes());
    if row.rewritten.is_empty() || ambiguous {
        return;
    }
    let layout = Arc::new(Layout { header: false, end_marker: false, ..Layout::clone(layout) });
    let mut splitter = Splitter::new(layout.clone(), 1 << 16);
    if layout.format == RowFormat::Binary {
        splitter.feed(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        assert!(splitter.next().is_ok_and(|row| row.is_some_and(|row| row.kind() == RowKind::Header)));
    }
    splitter.feed(&row.rewritten);
    splitter.finish();
    let again = splitter.next().expect("what was written is read").expect("it is a row");
    let fields: Fields = (0..again.len()).map(|i| again.field(i).map(|f| f.into_owned())).collect();
    assert_eq!(fields, row.fields);
    assert_eq!(again.raw(), row.rewritten);
}
