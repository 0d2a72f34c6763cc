//! One-dimensional arrays, text and binary: split into elements, join elements.
//!
//! In: an array as a peer sends it. Out: its elements, borrowed where they stand as they are; an array as PostgreSQL
//! would send it. Never: more than one dimension, a bound prefix (`[0:1]={…}`), more elements than the caller's limit.

use std::borrow::Cow;

use super::types::Format;
use super::value::ValueError;

/// Most elements in one array; a message's size is limited elsewhere.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Elements in order, each in the array's own format; `None` is NULL.
pub type Elements<'a> = Vec<Option<Cow<'a, [u8]>>>;

const MALFORMED: ValueError = ValueError::syntax("malformed array literal");
const DIMENSIONS: ValueError =
    ValueError::new(b"0A000", "arrays of sealed values have one dimension and no explicit bounds");
const TOO_MANY: ValueError = ValueError::new(b"54000", "the array has too many elements");
const TOO_LONG: ValueError = ValueError::new(b"54000", "the array would be too long for one message");
const BAD_BINARY: ValueError = ValueError::binary("incorrect binary data format");

/// Splits an array of at most [`ELEMENTS_MAX`] elements.
pub fn split(bytes: &[u8], format: Format) -> Result<Elements<'_>, ValueError> {
    match format {
        Format::Text => split_text(bytes, ELEMENTS_MAX),
        Format::Binary => split_binary(bytes, ELEMENTS_MAX),
    }
}

/// Appends an array of `elements`, each already in `format`; `element_oid` goes into a binary array's header.
pub fn join<T: AsRef<[u8]>>(
    elements: &[Option<T>],
    element_oid: u32,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let elements = elements.iter().map(|e| e.as_ref().map(AsRef::as_ref));
    match format {
        Format::Text => {
            join_text(elements, out);
            Ok(())
        }
        Format::Binary => join_binary(element_oid, elements, out),
    }
}

/// array_recv: i32 dimensions, i32 has-null flag, u32 element type, per dimension i32 length and lower bound, then
/// the elements, each i32 length (−1 NULL) and bytes.
fn split_binary(bytes: &[u8], limit: usize) -> Result<Elements<'_>, ValueError> {
    let mut rest = bytes;
    let dimensions = take_i32(&mut rest)?;
    let flags = take_i32(&mut rest)?;
    // The element type is the caller's: it declared the parameter or was told the column.
    take_i32(&mut rest)?;
    if !matches!(flags, 0 | 1) {
        return Err(BAD_BINARY);
    }
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = usize::try_from(take_i32(&mut rest)?).map_err(|_| BAD_BINARY)?;
            take_i32(&mut rest)?;
            count
        }
        _ => return Err(DIMENSIONS),
    };
    if count > limit {
        return Err(TOO_MANY);
    }
    // Every element needs four bytes, so a lying count allocates nothing.
    if count > rest.len() / 4 {
        return Err(BAD_BINARY);
    }
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        elements.push(match take_i32(&mut rest)? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| BAD_BINARY)?;
                let (element, after) = rest.split_at_checked(length).ok_or(BAD_BINARY)?;
                rest = after;
                Some(Cow::Borrowed(element))
            }
        });
    }
    if rest.is_empty() { Ok(elements) } else { Err(BAD_BINARY) }
}

fn take_i32(rest: &mut &[u8]) -> Result<i32, ValueError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(BAD_BINARY)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

fn join_binary<'a>(
    element_oid: u32,
    elements: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let count = i32::try_from(elements.len()).map_err(|_| TOO_LONG)?;
    let has_null = i32::from(elements.clone().any(|e| e.is_none()));
    out.extend_from_slice(&i32::from(count > 0).to_be_bytes());
    out.extend_from_slice(&has_null.to_be_bytes());
    out.extend_from_slice(&element_oid.to_be_bytes());
    if count > 0 {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
    }
    for element in elements {
        match element {
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(bytes) => {
                out.extend_from_slice(&i32::try_from(bytes.len()).map_err(|_| TOO_LONG)?.to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }
    Ok(())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// array_in for the delimiter `,`.
fn split_text(bytes: &[u8], limit: usize) -> Result<Elements<'_>, ValueError> {
    let mut rest = bytes;
    skip_space(&mut rest);
    match rest.first() {
        Some(b'{') => rest = &rest[1..],
        Some(b'[') => return Err(DIMENSIONS),
        _ => return Err(MALFORMED),
    }
    let mut elements = Vec::new();
    skip_space(&mut rest);
    if rest.first() == Some(&b'}') {
        rest = &rest[1..];
    } else {
        loop {
            if elements.len() == limit {
                return Err(TOO_MANY);
            }
            elements.push(text_element(&mut rest)?);
            match rest.first() {
                Some(b',') => rest = &rest[1..],
                Some(b'}') => {
                    rest = &rest[1..];
                    break;
                }
                _ => return Err(MALFORMED),
            }
        }
    }
    skip_space(&mut rest);
    if rest.is_empty() { Ok(elements) } else { Err(MALFORMED) }
}

fn skip_space(rest: &mut &[u8]) {
    let length = rest.iter().take_while(|&&b| is_space(b)).count();
    *rest = &rest[length..];
}

/// One element and the space around it; the delimiter or brace after it is left.
fn text_element<'a>(rest: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, ValueError> {
    skip_space(rest);
    match rest.first() {
        Some(b'"') => {
            *rest = &rest[1..];
            let element = quoted_element(rest)?;
            skip_space(rest);
            Ok(Some(element))
        }
        Some(b'{') => Err(DIMENSIONS),
        _ => bare_element(rest),
    }
}

fn quoted_element<'a>(rest: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, ValueError> {
    let plain = memchr::memchr2(b'"', b'\\', rest).ok_or(MALFORMED)?;
    if rest[plain] == b'"' {
        let element = &rest[..plain];
        *rest = &rest[plain + 1..];
        return Ok(Cow::Borrowed(element));
    }
    let mut element = Vec::new();
    loop {
        let plain = memchr::memchr2(b'"', b'\\', rest).ok_or(MALFORMED)?;
        element.extend_from_slice(&rest[..plain]);
        if rest[plain] == b'"' {
            *rest = &rest[plain + 1..];
            return Ok(Cow::Owned(element));
        }
        element.push(*rest.get(plain + 1).ok_or(MALFORMED)?);
        *rest = &rest[plain + 2..];
    }
}

fn bare_element<'a>(rest: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, ValueError> {
    let all: &'a [u8] = rest;
    let (mut at, mut escaped) = (0, false);
    // Trailing space is cut, but not behind an escape.
    let mut kept = 0;
    let mut element = Vec::new();
    let mut kept_decoded = 0;
    loop {
        match all.get(at) {
            None | Some(b'"' | b'{') => return Err(MALFORMED),
            Some(b',' | b'}') => break,
            Some(b'\\') => {
                element.push(*all.get(at + 1).ok_or(MALFORMED)?);
                escaped = true;
                at += 2;
                (kept, kept_decoded) = (at, element.len());
            }
            Some(&byte) => {
                element.push(byte);
                at += 1;
                if !is_space(byte) {
                    (kept, kept_decoded) = (at, element.len());
                }
            }
        }
    }
    *rest = &all[at..];
    if kept == 0 {
        return Err(MALFORMED);
    }
    if escaped {
        element.truncate(kept_decoded);
        return Ok(Some(Cow::Owned(element)));
    }
    let element = &all[..kept];
    Ok(if element.eq_ignore_ascii_case(b"null") { None } else { Some(Cow::Borrowed(element)) })
}

/// array_out: quoted where it is empty, spells NULL, or holds a quote, backslash, brace, comma or space.
fn join_text<'a>(elements: impl Iterator<Item = Option<&'a [u8]>>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, element) in elements.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let Some(element) = element else {
            out.extend_from_slice(b"NULL");
            continue;
        };
        let special = |&b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || is_space(b);
        if element.is_empty() || element.eq_ignore_ascii_case(b"null") || element.iter().any(special) {
            out.push(b'"');
            for &byte in element {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(element);
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Result<Vec<Option<String>>, ValueError> {
        let elements = split(text.as_bytes(), Format::Text)?;
        Ok(elements.into_iter().map(|e| e.map(|e| String::from_utf8(e.into_owned()).unwrap())).collect())
    }

    #[test]
    fn text_arrays_are_read_as_array_in_reads_them() {
        let some = |words: &[&str]| words.iter().map(|w| Some((*w).to_owned())).collect::<Vec<_>>();
        assert_eq!(texts("{}").unwrap(), []);
        assert_eq!(texts(" { } ").unwrap(), []);
        assert_eq!(texts("{a, b c ,\"\",\" x\"}").unwrap(), some(&["a", "b c", "", " x"]));
        assert_eq!(texts(r#"{"a\"b\\c",\,\ ,a\ b}"#).unwrap(), some(&["a\"b\\c", ", ", "a b"]));
        assert_eq!(
            texts("{NULL,null,\"NULL\",\\NULL}").unwrap(),
            [None, None, Some("NULL".into()), Some("NULL".into())]
        );
        for bad in ["", "a", "{", "{a", "{a,}", "{,a}", "{a}b", "{a\"b\"}", "{\"a\"b}", "{\"a}", "{a\\", "{a{b}}"] {
            assert_eq!(texts(bad).unwrap_err().sqlstate.as_str(), "22P02", "{bad}");
        }
        for refused in ["{{a}}", "[0:1]={a,b}"] {
            assert_eq!(texts(refused).unwrap_err().sqlstate.as_str(), "0A000", "{refused}");
        }
        assert_eq!(split_text(b"{a,b}", 1).unwrap_err().sqlstate.as_str(), "54000");
    }

    #[test]
    fn a_binary_array_that_lies_about_its_length_is_an_error() {
        let mut bytes = Vec::new();
        join(&[Some(&b"ab"[..]), None], 17, Format::Binary, &mut bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(split(&bytes[..cut], Format::Binary).is_err(), "{cut}");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert!(split(&long, Format::Binary).is_err());
        bytes[12..16].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(split(&bytes, Format::Binary).is_err());
    }

    proptest! {
        #[test]
        fn what_is_joined_splits_again(elements in prop::collection::vec(prop::option::of("[ -~é\\t]{0,6}"), 0..6)) {
            let parts: Vec<_> = elements.iter().map(|e| e.as_ref().map(String::as_bytes)).collect();
            for format in [Format::Text, Format::Binary] {
                let mut joined = Vec::new();
                join(&parts, 25, format, &mut joined).unwrap();
                let again = split(&joined, format).unwrap();
                prop_assert_eq!(again.iter().map(|e| e.as_deref()).collect::<Vec<_>>(), parts.clone());
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&bytes, Format::Text);
            let _ = split(&bytes, Format::Binary);
        }
    }
}
