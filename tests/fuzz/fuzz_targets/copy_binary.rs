//! COPY binary rows: a split anywhere is a split nowhere, and rows nobody changed are the bytes that came.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pgveil::wire::copy::{CopyError, Layout, RowKind, Splitter};

type Rows = Vec<(RowKind, Vec<u8>, Vec<Option<Vec<u8>>>)>;

fn rows(layout: &Arc<Layout>, chunks: &[&[u8]]) -> Result<Rows, CopyError> {
    let mut splitter = Splitter::new(layout.clone(), 1 << 16);
    let mut rows = Vec::new();
    for i in 0..=chunks.len() {
        match chunks.get(i) {
            Some(chunk) => splitter.feed(chunk),
            None => splitter.finish(),
        }
        while let Some(row) = splitter.next()? {
            let mut same = Vec::new();
            row.rewrite(&[], &mut same);
            assert_eq!(same, row.raw());
            let fields = (0..row.len()).map(|i| row.field(i).map(|f| f.into_owned())).collect();
            rows.push((row.kind(), same, fields));
        }
    }
    Ok(rows)
}

fuzz_target!(|data: &[u8]| {
    let [options, cut, rest @ ..] = data else { return };
    // Most inputs get past the signature.
    let signature: &[u8] = if options & 1 == 0 { b"PGCOPY\n\xff\r\n\0\0\0" } else { b"" };
    let bytes = &[signature, rest].concat()[..];
    let layout = Arc::new(Layout::binary());
    let (head, tail) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let whole = rows(&layout, &[bytes]);
    assert_eq!(rows(&layout, &[head, tail]), whole);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(rows(&layout, &single), whole);
    if let Ok(rows) = whole {
        assert_eq!(rows.iter().flat_map(|(_, raw, _)| raw.clone()).collect::<Vec<_>>(), bytes);
    }
});
