//! Splicing: the client's text with some spans replaced, and nothing else changed.
//!
//! In: text and edits in ascending order. Out: the new text. Never: an edit that melts into what stands beside it.

use super::Span;

/// Edits that do not belong to the text: a defect of whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("edits overlap, descend, or leave the text")]
pub struct SpliceError;

/// Appends `text` to `out` with every edit's span replaced by its bytes.
///
/// A space is put around a replacement where its first or last byte would otherwise continue the word beside it:
/// `select 'x'from t` with `'x'` replaced by `'\x…'::bytea`.
pub fn splice<B: AsRef<[u8]>>(text: &str, edits: &[(Span, B)], out: &mut Vec<u8>) -> Result<(), SpliceError> {
    let text = text.as_bytes();
    let from = out.len();
    let mut at = 0;
    for (span, with) in edits {
        let (start, end) = (span.start as usize, span.end as usize);
        if end < start || end > text.len() {
            return Err(SpliceError);
        }
        append(out, from, text.get(at..start).ok_or(SpliceError)?);
        append(out, from, with.as_ref());
        at = end;
    }
    append(out, from, &text[at..]);
    Ok(())
}

/// `from`: where this splice's own output begins.
fn append(out: &mut Vec<u8>, from: usize, part: &[u8]) {
    if out.len() > from && melts(out.last(), part.first()) {
        out.push(b' ');
    }
    out.extend_from_slice(part);
}

/// Whether two bytes side by side belong to one word.
fn melts(left: Option<&u8>, right: Option<&u8>) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80;
    left.is_some_and(word) && right.is_some_and(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spliced(text: &str, edits: &[(Span, &str)]) -> Result<String, SpliceError> {
        let mut out = Vec::new();
        splice(text, edits, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn span(start: u32, end: u32) -> Span {
        Span { start, end }
    }

    #[test]
    fn spans_are_replaced_and_nothing_else() {
        assert_eq!(spliced("select 'x' from t", &[(span(7, 10), "'y'::bytea")]).unwrap(), "select 'y'::bytea from t");
        assert_eq!(spliced("ab", &[]).unwrap(), "ab");
        assert_eq!(spliced("ab", &[(span(0, 1), ""), (span(1, 2), "c")]).unwrap(), "c");
        assert_eq!(spliced("(a)", &[(span(3, 3), "!")]).unwrap(), "(a)!");
    }

    #[test]
    fn words_do_not_melt() {
        assert_eq!(spliced("select 'x'from t", &[(span(7, 10), "'y'::bytea")]).unwrap(), "select 'y'::bytea from t");
        assert_eq!(spliced("like'x'", &[(span(4, 7), "E'y'")]).unwrap(), "like E'y'");
        assert_eq!(spliced("like'x'", &[(span(4, 7), "'y'")]).unwrap(), "like'y'");
    }

    #[test]
    fn wrong_edits_are_errors() {
        for edits in [vec![(span(1, 9), "")], vec![(span(2, 1), "")], vec![(span(1, 2), ""), (span(0, 1), "")]] {
            assert_eq!(spliced("abc", &edits), Err(SpliceError));
        }
    }

    proptest! {
        #[test]
        fn output_differs_only_within_spans(
            parts in prop::collection::vec(("[ -~é]{0,12}", prop::option::of("[ -~]{0,12}")), 0..8),
        ) {
            let mut text = String::new();
            let mut edits = Vec::new();
            for (part, with) in &parts {
                let start = text.len() as u32;
                text.push_str(part);
                if let Some(with) = with {
                    edits.push((span(start, text.len() as u32), with.as_str()));
                }
            }
            let out = spliced(&text, &edits).unwrap();
            let mut rest = out.as_str();
            for (part, with) in &parts {
                let part = with.as_ref().unwrap_or(part).as_str();
                let unspaced = if rest.starts_with(part) { rest } else { rest.strip_prefix(' ').unwrap() };
                prop_assert!(unspaced.starts_with(part));
                rest = &unspaced[part.len()..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
