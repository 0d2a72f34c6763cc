//! SET, RESET, DISCARD and `set_config`: which settings a statement changes.
//!
//! In: tokens. Out: names of settings in lower case, and their values as PostgreSQL would store them. Never: a guess; what
//! does not follow the grammar is [`Change::Unknown`].

use std::ops::Range;

use super::cursor::Cursor;
use super::kind::{Kind, kind};
use super::lexer::{Token, TokenKind};
use super::name::ident;

/// What happens to settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// SET.
    Set {
        /// Lower case. SET NAMES is `client_encoding`, SET SCHEMA `search_path`, SET TIME ZONE `timezone`, SET ROLE `role`,
        /// SET SESSION AUTHORIZATION `session_authorization`, SET XML OPTION `xmloption`.
        name: String,
        /// SET LOCAL.
        local: bool,
        /// What to.
        value: Value,
    },
    /// RESET name.
    Reset(String),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL: also closes cursors, drops temporary tables, prepared statements.
    DiscardAll,
    /// DISCARD PLANS, SEQUENCES, TEMP.
    Discard,
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS, SET CONSTRAINTS, RESET TRANSACTION ISOLATION LEVEL.
    Transaction,
    /// Not PostgreSQL's grammar; the server will refuse it.
    Unknown,
}

/// The right side of SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// TO DEFAULT, and for LOCAL time zone.
    Default,
    /// FROM CURRENT: as it is now.
    Current,
    /// One or more items, strings decoded, words folded.
    List(Vec<String>),
}

/// What a SET, RESET or DISCARD does; `None` for other statements.
pub fn change(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<Change> {
    let kind = kind(sql, tokens, range.clone());
    let mut cursor = Cursor::new(sql, tokens, range);
    cursor.at += 1;
    let change = match kind {
        Kind::Set => set(&mut cursor),
        Kind::SetTransaction | Kind::SetConstraints => return Some(Change::Transaction),
        Kind::Reset => reset(&mut cursor),
        Kind::Discard => discard(&mut cursor),
        _ => return None,
    };
    Some(change.filter(|_| cursor.done()).unwrap_or(Change::Unknown))
}

fn variable(cursor: &mut Cursor<'_>) -> Option<String> {
    Some(cursor.qualified_name()?.join(".").to_ascii_lowercase())
}

/// Whether the word ahead is a variable's name rather than a keyword of SET: `=`, TO, FROM CURRENT or a dot follows it.
fn names_variable(cursor: &Cursor<'_>) -> bool {
    cursor.is(1, "to")
        || (cursor.is(1, "from") && cursor.is(2, "current"))
        || cursor.peek(1).is_some_and(|token| token.is_operator(cursor.sql, "=") || token.is_punct(b'.'))
}

fn set(cursor: &mut Cursor<'_>) -> Option<Change> {
    let mut local = false;
    if !names_variable(cursor) {
        local = cursor.word(&["local"]);
        let authorization = cursor.is(0, "session") && cursor.is(1, "authorization") && !cursor.is(2, "to");
        if !local && !authorization {
            cursor.word(&["session"]);
        }
    }
    let of = |name: &str, value| Some(Change::Set { name: name.to_owned(), local, value });
    if !names_variable(cursor) {
        if cursor.word(&["time", "zone"]) {
            return of("timezone", time_zone(cursor)?);
        }
        if cursor.word(&["schema"]) {
            return of("search_path", Value::List(vec![cursor.string()?]));
        }
        if cursor.word(&["names"]) {
            let value = if cursor.done() || cursor.word(&["default"]) { Value::Default } else { one(cursor)? };
            return of("client_encoding", value);
        }
        if cursor.word(&["role"]) {
            return of("role", one(cursor)?);
        }
        if cursor.word(&["session", "authorization"]) {
            let value = if cursor.word(&["default"]) { Value::Default } else { one(cursor)? };
            return of("session_authorization", value);
        }
        if cursor.word(&["xml", "option"]) {
            let option = cursor.name()?.to_ascii_uppercase();
            return of("xmloption", Value::List(vec![option]));
        }
    }
    let name = variable(cursor)?;
    if cursor.word(&["from", "current"]) {
        return of(&name, Value::Current);
    }
    if !cursor.word(&["to"]) && !cursor.operator("=") {
        return None;
    }
    if cursor.word(&["default"]) {
        return of(&name, Value::Default);
    }
    let mut items = vec![item(cursor)?];
    while cursor.punct(b',') {
        items.push(item(cursor)?);
    }
    of(&name, Value::List(items))
}

fn one(cursor: &mut Cursor<'_>) -> Option<Value> {
    Some(Value::List(vec![item(cursor)?]))
}

/// A string, a word, or a number with its sign.
fn item(cursor: &mut Cursor<'_>) -> Option<String> {
    if let Some(value) = cursor.string() {
        return Some(value);
    }
    let sign = if cursor.operator("-") { "-" } else { "" };
    let signed = cursor.operator("+") || !sign.is_empty();
    let token = cursor.peek(0)?;
    match token.kind {
        TokenKind::Number => {
            cursor.at += 1;
            Some(format!("{sign}{}", token.text(cursor.sql)))
        }
        _ if signed => None,
        _ => cursor.name(),
    }
}

/// Also `LOCAL`, and an interval, which is kept as its string.
fn time_zone(cursor: &mut Cursor<'_>) -> Option<Value> {
    if cursor.word(&["default"]) || cursor.word(&["local"]) {
        return Some(Value::Default);
    }
    if !cursor.word(&["interval"]) {
        return one(cursor);
    }
    if cursor.peek(0).is_some_and(|token| token.is_punct(b'(')) {
        cursor.group()?;
    }
    let value = cursor.string()?;
    while cursor.name().is_some() {}
    Some(Value::List(vec![value]))
}

fn reset(cursor: &mut Cursor<'_>) -> Option<Change> {
    if cursor.word(&["time", "zone"]) {
        return Some(Change::Reset("timezone".to_owned()));
    }
    if cursor.word(&["session", "authorization"]) {
        return Some(Change::Reset("session_authorization".to_owned()));
    }
    if cursor.word(&["transaction", "isolation", "level"]) {
        return Some(Change::Transaction);
    }
    if cursor.word(&["all"]) {
        return Some(Change::ResetAll);
    }
    variable(cursor).map(Change::Reset)
}

fn discard(cursor: &mut Cursor<'_>) -> Option<Change> {
    if cursor.word(&["all"]) {
        return Some(Change::DiscardAll);
    }
    let known = ["plans", "sequences", "temp", "temporary"].iter().any(|word| cursor.word(&[word]));
    known.then_some(Change::Discard)
}

/// The settings named by the `set_config(…)` calls among `tokens`, in lower case; `None` for a call whose first argument is
/// not a plain constant.
pub fn set_config(sql: &str, tokens: &[Token]) -> Vec<Option<String>> {
    let calls = tokens.windows(2).enumerate().filter(|(_, pair)| {
        let named = matches!(pair[0].kind, TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent);
        named && pair[1].is_punct(b'(') && ident(sql, &pair[0]) == "set_config"
    });
    calls
        .map(|(index, _)| {
            let mut cursor = Cursor::new(sql, tokens, index + 2..tokens.len());
            cursor.string().filter(|_| cursor.punct(b',')).map(|name| name.to_ascii_lowercase())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex;

    fn of(sql: &str) -> Option<Change> {
        let tokens = lex(sql, 100).unwrap();
        change(sql, &tokens, 0..tokens.len())
    }

    fn list(name: &str, local: bool, items: &[&str]) -> Option<Change> {
        let value = Value::List(items.iter().map(|&item| item.to_owned()).collect());
        Some(Change::Set { name: name.to_owned(), local, value })
    }

    fn default(name: &str) -> Option<Change> {
        Some(Change::Set { name: name.to_owned(), local: false, value: Value::Default })
    }

    #[test]
    fn set_in_all_its_forms() {
        for (sql, expected) in [
            ("set Search_Path = a, \"B\", 'C'", list("search_path", false, &["a", "B", "C"])),
            ("set local search_path to a", list("search_path", true, &["a"])),
            ("set session x.Y to -1", list("x.y", false, &["-1"])),
            ("set x = +1.5", list("x", false, &["1.5"])),
            ("set x = on", list("x", false, &["on"])),
            ("set \"Client_Encoding\" = 'latin1'", list("client_encoding", false, &["latin1"])),
            ("set names 'LATIN1'", list("client_encoding", false, &["LATIN1"])),
            ("set names", default("client_encoding")),
            ("set names default", default("client_encoding")),
            ("set client_encoding to default", default("client_encoding")),
            ("set schema 'x'", list("search_path", false, &["x"])),
            ("set time zone 'UTC'", list("timezone", false, &["UTC"])),
            ("set time zone local", default("timezone")),
            ("set time zone interval '1' hour to minute", list("timezone", false, &["1"])),
            ("set local time zone -5", list("timezone", true, &["-5"])),
            ("set role none", list("role", false, &["none"])),
            ("set local role 'X'", list("role", true, &["X"])),
            ("set role = x", list("role", false, &["x"])),
            ("set session authorization x", list("session_authorization", false, &["x"])),
            ("set session session authorization default", default("session_authorization")),
            ("set local session authorization x", list("session_authorization", true, &["x"])),
            ("set session = 1", list("session", false, &["1"])),
            ("set x = U&'\\0061'", list("x", false, &["a"])),
            ("set x = ", Some(Change::Unknown)),
            ("set x y", Some(Change::Unknown)),
            ("set x = 1 2", Some(Change::Unknown)),
            ("set", Some(Change::Unknown)),
            ("set xml option document", list("xmloption", false, &["DOCUMENT"])),
            ("set transaction read only", Some(Change::Transaction)),
            ("reset all", Some(Change::ResetAll)),
            ("reset Search_path", Some(Change::Reset("search_path".into()))),
            ("reset time zone", Some(Change::Reset("timezone".into()))),
            ("reset session authorization", Some(Change::Reset("session_authorization".into()))),
            ("discard all", Some(Change::DiscardAll)),
            ("discard temp", Some(Change::Discard)),
            ("discard x", Some(Change::Unknown)),
            ("select 1", None),
        ] {
            assert_eq!(of(sql), expected, "{sql}");
        }
        let current = Change::Set { name: "x".into(), local: false, value: Value::Current };
        assert_eq!(of("set x from current"), Some(current));
    }

    #[test]
    fn set_config_calls() {
        let of = |sql: &str| set_config(sql, &lex(sql, 100).unwrap());
        assert_eq!(of("select set_config('Search_Path', 'a', false)"), [Some("search_path".to_owned())]);
        assert_eq!(
            of("select pg_catalog.\"set_config\"($1, 'a', false), set_config('a'||'b', '', true)"),
            [None, None]
        );
        assert_eq!(of("select U&\"set\\005fconfig\"(E'\\x61', 'a', false)"), [Some("a".to_owned())]);
        assert_eq!(of("select set_config from t"), []);
    }
}
