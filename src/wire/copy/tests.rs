//! The rules of copyfromparse.c and copyto.c, and that a split anywhere is a split nowhere.

use super::*;
use proptest::prelude::*;

type Rows = Vec<(RowKind, Vec<u8>, Vec<Option<Vec<u8>>>)>;

fn rows_of(layout: &Layout, chunks: &[&[u8]]) -> Result<Rows, CopyError> {
    let mut splitter = Splitter::new(Arc::new(layout.clone()), 10_000);
    let mut rows = Vec::new();
    let mut drain = |splitter: &mut Splitter| -> Result<(), CopyError> {
        while let Some(row) = splitter.next()? {
            let fields = (0..row.len()).map(|i| row.field(i).map(Cow::into_owned)).collect();
            rows.push((row.kind(), row.raw().to_vec(), fields));
        }
        Ok(())
    };
    for chunk in chunks {
        splitter.feed(chunk);
        drain(&mut splitter)?;
    }
    splitter.finish();
    drain(&mut splitter)?;
    Ok(rows)
}

use std::borrow::Cow;

fn fields(layout: &Layout, data: &str) -> Result<Vec<Vec<Option<String>>>, CopyError> {
    let rows = rows_of(layout, &[data.as_bytes()])?;
    let text = |f: Vec<u8>| String::from_utf8(f).unwrap();
    Ok(rows
        .into_iter()
        .filter(|r| r.0 == RowKind::Data)
        .map(|r| r.2.into_iter().map(|f| f.map(text)).collect())
        .collect())
}

fn row(fields: &[&str]) -> Vec<Option<String>> {
    fields.iter().map(|f| (*f != "NULL").then(|| (*f).to_owned())).collect()
}

fn rewritten(row: &Row<'_>, with: &[(usize, Option<&[u8]>)], out: &mut Vec<u8>) {
    let mut rewriter = row.rewriter();
    for (i, value) in with {
        rewriter.replace(*i, *value, out);
    }
    rewriter.finish(out);
}

#[test]
fn text_fields() {
    let text = Layout::text();
    assert_eq!(fields(&text, "a\t\\N\t\n").unwrap(), [row(&["a", "NULL", ""])]);
    assert_eq!(fields(&text, "\\b\\f\\n\\r\\t\\v\\\\\n").unwrap(), [row(&["\u{8}\u{c}\n\r\t\u{b}\\"])]);
    assert_eq!(fields(&text, "\\101\\x41\\x4\\q\\x\\0611\n").unwrap(), [row(&["AA\u{4}qx11"])]);
    assert_eq!(fields(&text, "a\\\tb\tc\\\nd\n").unwrap(), [row(&["a\tb", "c\nd"])]);
    assert_eq!(fields(&text, "a\r\nb\r\n").unwrap(), [row(&["a"]), row(&["b"])]);
    assert_eq!(fields(&text, "a\rb\r").unwrap(), [row(&["a"]), row(&["b"])]);
    assert_eq!(fields(&text, "a\nb").unwrap(), [row(&["a"]), row(&["b"])]);
    assert_eq!(fields(&text, "a\n\\.\nb\n").unwrap(), [row(&["a"])]);
    assert_eq!(fields(&text, "\\\\.\n").unwrap(), [row(&["\\."])]);
    for bad in ["a\nb\r", "a\rb\n", "a\r\nb\n", "a\r\nb\rc\r\n", "a\\.\n", "\\.a\n", "\\.", "a\r\n\\.\n", "a\n\\.\r"] {
        assert_eq!(fields(&text, bad).unwrap_err().sqlstate.as_str(), "22P04", "{bad:?}");
    }
}

#[test]
fn csv_fields() {
    let csv = Layout::csv();
    assert_eq!(fields(&csv, "a,,\"\",\"b\"\"c\",d\"e,f\"g\n").unwrap(), [row(&["a", "NULL", "", "b\"c", "de,fg"])]);
    assert_eq!(fields(&csv, "\"a\nb\r\",c\nd,e\n").unwrap(), [row(&["a\nb\r", "c"]), row(&["d", "e"])]);
    assert_eq!(fields(&csv, "\\N,\\\\\n").unwrap(), [row(&["\\N", "\\\\"])]);
    assert_eq!(fields(&csv, "a\n\\.\nb\n").unwrap(), [row(&["a"])]);
    assert_eq!(fields(&csv, "\\.a\n\"\\.\"\nb,\\.\n").unwrap(), [row(&["\\.a"]), row(&["\\."]), row(&["b", "\\."])]);
    let newer = Layout { end_marker: false, ..Layout::csv() };
    assert_eq!(fields(&newer, "\\.\nb\n").unwrap(), [row(&["\\."]), row(&["b"])]);
    let escape = Layout { escape: b'\\', null: "nil".into(), ..Layout::csv() };
    assert_eq!(fields(&escape, "\"a\\\"b\\\\\",nil,\"nil\",\n").unwrap(), [row(&["a\"b\\", "NULL", "nil", ""])]);
    for bad in ["a\nb\r", "\"a\n", "a\r\nb\n"] {
        assert_eq!(fields(&csv, bad).unwrap_err().sqlstate.as_str(), "22P04", "{bad:?}");
    }
}

#[test]
fn forced_nulls_and_defaults() {
    let forced = Layout { force_not_null: vec![true, false], force_null: vec![false, true, true], ..Layout::csv() };
    assert_eq!(
        fields(&forced, ",,\n\"\",\"\",\"a\"\n").unwrap(),
        [row(&["", "NULL", "NULL"]), row(&["", "NULL", "a"])]
    );
    let both = Layout { force_not_null: vec![true], force_null: vec![true], null: "nil".into(), ..Layout::csv() };
    assert_eq!(fields(&both, "nil\n\"nil\"\n\"n\"il\n").unwrap(), [row(&["nil"]), row(&["NULL"]), row(&["NULL"])]);
    // CSV only.
    let text = Layout { force_not_null: vec![true], force_null: vec![true], ..Layout::text() };
    assert_eq!(fields(&text, "\\N\n").unwrap(), [row(&["NULL"])]);
    let default = Layout { default: Some("\\D".into()), ..Layout::text() };
    assert_eq!(fields(&default, "\\D\t\\\\D\tD\n").unwrap(), [row(&["NULL", "\\D", "D"])]);
    let default = Layout { default: Some("d".into()), force_not_null: vec![true], ..Layout::csv() };
    assert_eq!(fields(&default, "d,\"d\",\n").unwrap(), [row(&["NULL", "d", "NULL"])]);
}

const BINARY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A binary COPY of these parts after the usual header.
fn binary(parts: &[&[u8]]) -> Vec<u8> {
    [BINARY, &parts.concat()].concat()
}

#[test]
fn binary_rows() {
    let read = |data: &[u8]| rows_of(&Layout::binary(), &[data]);
    let tuple = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
    let data = binary(&[tuple, b"\0\0", b"\xff\xff"]);
    let rows = read(&data).unwrap();
    let kinds: Vec<RowKind> = rows.iter().map(|row| row.0).collect();
    assert_eq!(kinds, [RowKind::Header, RowKind::Data, RowKind::Data, RowKind::End]);
    assert_eq!(rows[1].2, [Some(b"ab".to_vec()), None, Some(Vec::new())]);
    assert_eq!(rows.concat_raw(), data);
    // An extension is passed over, flags below the critical ones too; the trailer may be missing, or cut short.
    let extended = [b"PGCOPY\n\xff\r\n\0\0\0\x12\x34\0\0\0\x02xy", &tuple[..], b"\xff"].concat();
    let mut flagged = extended.clone();
    flagged[11..15].copy_from_slice(&[0, 0, 0x12, 0x34]);
    let rows = read(&flagged).unwrap();
    assert_eq!((rows[0].1.len(), rows[1].2.len(), rows[2].0), (21, 3, RowKind::End));
    assert_eq!(read(BINARY).unwrap().len(), 1);
    let critical = |flags: [u8; 4]| [&b"PGCOPY\n\xff\r\n\0"[..], &flags, b"\0\0\0\0"].concat();
    for (data, what) in [
        (Vec::new(), "COPY file signature not recognized"),
        (b"PGCOPX".to_vec(), "COPY file signature not recognized"),
        (BINARY[..10].to_vec(), "COPY file signature not recognized"),
        (BINARY[..14].to_vec(), "invalid COPY file header (missing flags)"),
        (BINARY[..18].to_vec(), "invalid COPY file header (missing length)"),
        (critical([0, 1, 0, 0]), "invalid COPY file header (WITH OIDS)"),
        (critical([0, 2, 0, 0]), "unrecognized critical flags in COPY file header"),
        (critical([0x80, 0, 0, 0]), "unrecognized critical flags in COPY file header"),
        ([&BINARY[..15], b"\xff\xff\xff\xff"].concat(), "invalid COPY file header (missing length)"),
        ([&BINARY[..15], b"\0\0\0\x05abcd"].concat(), "invalid COPY file header (wrong length)"),
        (binary(&[b"\xff\xfe"]), "row field count is negative"),
        (binary(&[b"\0\x01\xff\xff\xff\xfe"]), "invalid field size"),
        (binary(&[b"\0\x01\0\0"]), "unexpected EOF in COPY data"),
        (binary(&[b"\0\x01\0\0\0\x02a"]), "unexpected EOF in COPY data"),
        (binary(&[b"\x7f\xff"]), "unexpected EOF in COPY data"),
        (binary(&[b"\xff\xff", b"x"]), "received copy data after EOF marker"),
    ] {
        assert_eq!(read(&data), Err(CopyError::bad(what)), "{data:?}");
    }
    for long in [binary(&[b"\0\x01\x7f\xff\xff\xff"]), [&BINARY[..15], b"\x7f\xff\xff\xff"].concat()] {
        assert_eq!(read(&long).unwrap_err().sqlstate.as_str(), "54000");
    }
}

#[test]
fn header_and_limit() {
    let header = Layout { header: true, ..Layout::csv() };
    let rows = rows_of(&header, &[b"id,name\n1,a\n"]).unwrap();
    assert_eq!(rows[0].0, RowKind::Header);
    assert_eq!(rows[1].0, RowKind::Data);
    assert_eq!(rows_of(&Layout::text(), &[&[b'a'; 20_000]]).unwrap_err().sqlstate.as_str(), "54000");
}

#[test]
fn a_row_is_rewritten_field_by_field() {
    let rewrite = |layout: Layout, data: &[u8], with: &[(usize, Option<&[u8]>)]| {
        let mut splitter = Splitter::new(Arc::new(layout), 1000);
        splitter.feed(data);
        let mut out = Vec::new();
        rewritten(&splitter.next().unwrap().unwrap(), with, &mut out);
        String::from_utf8(out).unwrap()
    };
    let text = rewrite(Layout::text(), b"\\x41\tb\t\\N\r\n", &[(1, Some(b"\\x00\t")), (2, Some(b""))]);
    assert_eq!(text, "\\x41\t\\\\x00\\t\t\r\n");
    let csv = rewrite(Layout::csv(), b" \"a\" ,b,\n", &[(1, None), (2, Some(b""))]);
    assert_eq!(csv, " \"a\" ,,\"\"\n");
    let csv = rewrite(Layout { force_quote: vec![true], ..Layout::csv() }, b"a\n", &[(0, Some(b"b"))]);
    assert_eq!(csv, "\"b\"\n");
    assert_eq!(rewrite(Layout::csv(), b"a\n", &[(0, Some(b"\\."))]), "\"\\.\"\n");
    let mut splitter = Splitter::new(Arc::new(Layout::binary()), 1000);
    splitter.feed(&binary(&[b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\x01c"]));
    let mut out = Vec::new();
    while let Some(row) = splitter.next().unwrap() {
        rewritten(&row, &[(0, Some(b"xyz")), (1, Some(b"")), (2, None)], &mut out);
    }
    assert_eq!(out, binary(&[b"\0\x03\0\0\0\x03xyz\0\0\0\0\xff\xff\xff\xff"]));
    assert_eq!(rewrite(Layout::csv(), b"a,b\n", &[(0, Some(b"\\."))]), "\\.,b\n");
}

#[test]
fn hex_of_a_bytea_is_written_as_any_text_is() {
    let csv = Layout::csv();
    let odd = [
        Layout { delimiter: b'f', ..csv.clone() },
        Layout { quote: b'\\', ..csv.clone() },
        Layout { escape: b'd', ..csv.clone() },
        Layout { null: "\\xfed1".into(), ..csv.clone() },
        Layout { force_quote: vec![false, true], ..csv.clone() },
    ];
    for layout in [Layout::text(), csv].into_iter().chain(odd) {
        let data = [b"1", &[layout.delimiter][..], b"2", &[layout.delimiter], b"3\n"].concat();
        let mut splitter = Splitter::new(Arc::new(layout.clone()), 100);
        splitter.feed(&data);
        let row = splitter.next().unwrap().unwrap();
        let (mut bytes, mut text) = (bytes::BytesMut::new(), Vec::new());
        let mut rewriter = row.rewriter();
        rewriter.replace_bytea(1, &[0xfe, 0xd1], &mut bytes);
        rewriter.finish(&mut bytes);
        rewritten(&row, &[(1, Some(b"\\xfed1"))], &mut text);
        assert_eq!(bytes, text, "{layout:?}");
        assert_eq!(rows_of(&layout, &[&text]).unwrap()[0].2[1].as_deref(), Some(&b"\\xfed1"[..]), "{layout:?}");
    }
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop::sample::select(vec![
        Layout::text(),
        Layout { delimiter: b'|', null: "".into(), ..Layout::text() },
        Layout::csv(),
        Layout { escape: b'\\', ..Layout::csv() },
        Layout { quote: b'\'', delimiter: b';', null: "x".into(), end_marker: false, header: true, ..Layout::csv() },
    ])
}

proptest! {
    #[test]
    fn split_anywhere_is_split_nowhere(
        layout in layouts(),
        data in "[ab.,;|x\"'\\\\\n\r\t]{0,30}",
        cuts in prop::collection::vec(0_usize..30, 0..6),
    ) {
        let data = data.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(data.len())).collect();
        cuts.extend([0, data.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &data[w[0]..w[1]]).collect();
        let whole = rows_of(&layout, &[data]);
        prop_assert_eq!(&rows_of(&layout, &chunks), &whole);
        if let Ok(rows) = whole && rows.last().is_none_or(|r| r.0 != RowKind::End) {
            prop_assert_eq!(rows.concat_raw(), data);
        }
    }

    #[test]
    fn binary_split_anywhere_is_split_nowhere(
        tuples in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..6)), 0..4), 0..4),
        extension in prop::collection::vec(any::<u8>(), 0..4),
        trailer in any::<bool>(),
        flips in prop::collection::vec((0_usize..80, any::<u8>()), 0..2),
        length in 0_usize..90,
        cuts in prop::collection::vec(0_usize..90, 0..8),
    ) {
        let layout = Layout::binary();
        let mut data = BINARY.to_vec();
        data[18] = extension.len() as u8;
        data.extend(&extension);
        for tuple in &tuples {
            data.extend((tuple.len() as u16).to_be_bytes());
            for (i, field) in tuple.iter().enumerate() {
                match field {
                    Some(field) => put_field(&layout, i, tuple.len(), field, &mut data),
                    None => put_null(&layout, &mut data),
                }
            }
        }
        data.extend(if trailer { &b"\xff\xff"[..] } else { b"" });
        let rows = rows_of(&layout, &[&data]).unwrap();
        let fields: Vec<_> = rows.iter().filter(|row| row.0 == RowKind::Data).map(|row| row.2.clone()).collect();
        prop_assert_eq!(fields, tuples);
        for (at, byte) in flips {
            if let Some(flipped) = data.get_mut(at) {
                *flipped ^= byte;
            }
        }
        data.truncate(length.max(20));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(data.len())).collect();
        cuts.extend([0, data.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &data[w[0]..w[1]]).collect();
        let whole = rows_of(&layout, &[&data]);
        prop_assert_eq!(&rows_of(&layout, &chunks), &whole);
        let single: Vec<&[u8]> = data.chunks(1).collect();
        prop_assert_eq!(&rows_of(&layout, &single), &whole);
        if let Ok(rows) = whole {
            prop_assert_eq!(rows.concat_raw(), data);
        }
    }

    #[test]
    fn fields_survive_writing_and_reading(
        layout in layouts(),
        values in prop::collection::vec(prop::option::of("[ -~\t\r\né]{0,8}"), 1..5),
    ) {
        let layout = Layout { header: false, ..layout };
        let csv = layout.format == RowFormat::Csv;
        let mut line = Vec::new();
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                line.push(layout.delimiter);
            }
            match value {
                // COPY TO text does not protect a value that spells the NULL string.
                Some(value) if csv || **value != *layout.null => {
                    put_field(&layout, i, values.len(), value.as_bytes(), &mut line);
                }
                _ => put_null(&layout, &mut line),
            }
        }
        line.push(b'\n');
        let rows = rows_of(&layout, &[&line]).unwrap();
        prop_assert_eq!(rows.len(), 1);
        let expected: Vec<_> = values
            .iter()
            .map(|v| v.clone().filter(|v| csv || **v != *layout.null).map(String::into_bytes))
            .collect();
        prop_assert_eq!(&rows[0].2, &expected);
    }
}

trait Raw {
    fn concat_raw(&self) -> Vec<u8>;
}

impl Raw for Rows {
    fn concat_raw(&self) -> Vec<u8> {
        self.iter().flat_map(|r| r.1.clone()).collect()
    }
}
