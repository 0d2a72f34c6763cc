//! Tags in a comment around a statement, as sqlcommenter writes them: `/*route='/reports',framework='rails'*/`.
//!
//! In: SQL text. Out: keys and values, decoded. Never: a decision; whoever writes the text writes the tags.

use crate::event::Trace;

/// Longest comment that is read, in bytes.
const BYTES_MAX: usize = 4_096;

/// Most tags that are read of one comment.
const TAGS_MAX: usize = 64;

/// The tags of the comment that ends the text, or else of the one that begins it (<https://google.github.io/sqlcommenter/spec/>).
pub fn tags(sql: &str) -> Vec<(String, String)> {
    let text = sql.trim_matches(|c: char| c.is_ascii_whitespace() || c == ';');
    let last = text.strip_suffix("*/").and_then(|text| Some(&text[text.rfind("/*")? + 2..]));
    let first = || text.strip_prefix("/*").and_then(|text| Some(&text[..text.find("*/")?]));
    let found = last.map(read).unwrap_or_default();
    if found.is_empty() { first().map(read).unwrap_or_default() } else { found }
}

/// The trace that the tag `traceparent` names. Whoever writes the text writes the tag, so only its exact form counts.
pub fn trace(sql: &str) -> Option<Trace> {
    if !sql.contains("*/") {
        return None;
    }
    tags(sql).iter().find(|(key, _)| key == "traceparent").and_then(|(_, value)| Trace::of_traceparent(value))
}

fn read(comment: &str) -> Vec<(String, String)> {
    if comment.len() > BYTES_MAX {
        return Vec::new();
    }
    let mut tags = Vec::new();
    let mut rest = comment;
    while let Some((key, after)) = rest.split_once("='") {
        let mut end = None;
        let mut escaped = false;
        for (at, byte) in after.bytes().enumerate() {
            match byte {
                b'\'' if !escaped => {
                    end = Some(at);
                    break;
                }
                _ => escaped = byte == b'\\' && !escaped,
            }
        }
        let (Some(end), true) = (end, tags.len() < TAGS_MAX) else { break };
        let key = key.trim_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        tags.push((decoded(key), decoded(&after[..end])));
        rest = &after[end + 1..];
    }
    tags
}

/// Without backslashes before quotes, and `%41` as `A`. What does not decode stays as it is.
fn decoded(text: &str) -> String {
    let text = text.replace("\\'", "'");
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sql: &str) -> String {
        tags(sql).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_trace_is_read_of_its_tag_only() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let shown = |sql: &str| trace(sql).map(|trace| trace.to_string());
        let id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
        assert_eq!(shown(&format!("select 1 /*db='x',traceparent='{parent}'*/")), id);
        assert_eq!(shown(&format!("select 1 /*tracestate='{parent}'*/")), None);
        assert_eq!(shown(&format!("select 1 /*traceparent='{parent}x'*/")), None);
        assert_eq!(shown("select 1"), None);
    }

    #[test]
    fn tags_are_read_as_they_are_written() {
        assert_eq!(
            shown("select 1 /*route='%2Freports%2F:id',db_driver='psycopg'*/"),
            "route=/reports/:id db_driver=psycopg"
        );
        assert_eq!(shown("select 1 /*a='b', c='it\\'s'*/ ;\n"), "a=b c=it's");
        assert_eq!(shown("/*a='b'*/ select 1"), "a=b");
        assert_eq!(shown("/*a='b'*/ select 1 /* plain */"), "a=b");
        assert_eq!(shown("select '/*' || x"), "");
        assert_eq!(shown("select 1 /*a='unclosed*/"), "");
        assert_eq!(shown("select 1 /*a='%zz%4',b='%ff'*/"), "a=%zz%4 b=%ff");
        assert_eq!(shown(&format!("select 1 /*a='{}'*/", "x".repeat(5_000))), "");
    }
}
