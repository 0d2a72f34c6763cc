//! COPY, read from its tokens: sqlparser knows neither all of its options nor a COPY whose data follows on the wire.
//!
//! In: the tokens of one statement. Out: a [`Copy`]. Never: an option passed over; what has no field here is listed by name.

use std::ops::Range;

use super::cursor::Cursor;
use super::lexer::{Token, TokenKind};

/// A COPY statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the parts of the statement")]
pub struct Copy {
    pub source: Source,
    pub direction: Direction,
    pub target: Target,
    pub options: Options,
    /// Tokens behind WHERE.
    pub filter: Option<Range<usize>>,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A relation.
    Relation {
        /// `schema.table` or `table`, unescaped and folded.
        name: Vec<String>,
        /// The name's tokens.
        tokens: Range<usize>,
        /// The listed columns; `None` if none are.
        columns: Option<Vec<String>>,
        /// Name and column list.
        extent: Range<usize>,
    },
    /// A query's tokens, without the parentheses.
    Query(Range<usize>),
}

/// Into or out of the relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain words")]
pub enum Direction {
    From,
    To,
}

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// STDIN or STDOUT, which PostgreSQL does not tell apart: the client.
    Client,
    /// A file of the server.
    File,
    /// A program on the server.
    Program,
}

/// The format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain words")]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Data.
    Off,
    /// Column names.
    On,
    /// Column names, and they must be the table's (COPY FROM).
    Match,
}

/// A column list of FORCE_QUOTE and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain words")]
pub enum Columns {
    None,
    All,
    List(Vec<String>),
}

/// COPY's options, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PostgreSQL's own words")]
pub struct Options {
    pub format: CopyFormat,
    pub delimiter: String,
    pub null: String,
    pub header: Header,
    pub quote: String,
    pub escape: String,
    pub force_quote: Columns,
    pub force_not_null: Columns,
    pub force_null: Columns,
    pub encoding: Option<String>,
    pub freeze: bool,
    /// PostgreSQL 16: the string that stands for a column's default.
    pub default: Option<String>,
    /// Options without a field here (`reject_limit`, …), and those whose value is not one of theirs or changes what
    /// happens to rows (`on_error ignore`).
    pub other: Vec<String>,
}

/// The options as written.
#[derive(Default)]
struct Written {
    format: Option<CopyFormat>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<Columns>,
    force_not_null: Option<Columns>,
    force_null: Option<Columns>,
    encoding: Option<String>,
    freeze: bool,
    default: Option<String>,
    other: Vec<String>,
}

impl Written {
    fn with_defaults(self) -> Options {
        let format = self.format.unwrap_or(CopyFormat::Text);
        let csv = format == CopyFormat::Csv;
        let quote = self.quote.unwrap_or_else(|| "\"".to_owned());
        Options {
            format,
            delimiter: self.delimiter.unwrap_or_else(|| if csv { "," } else { "\t" }.to_owned()),
            null: self.null.unwrap_or_else(|| if csv { "" } else { "\\N" }.to_owned()),
            header: self.header.unwrap_or(Header::Off),
            escape: self.escape.unwrap_or_else(|| quote.clone()),
            quote,
            force_quote: self.force_quote.unwrap_or(Columns::None),
            force_not_null: self.force_not_null.unwrap_or(Columns::None),
            force_null: self.force_null.unwrap_or(Columns::None),
            encoding: self.encoding,
            freeze: self.freeze,
            default: self.default,
            other: self.other,
        }
    }
}

/// The COPY in `tokens[range]`; `None` if it does not follow PostgreSQL's grammar (the server refuses it too).
pub fn copy(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<Copy> {
    let mut cursor = Cursor::new(sql, tokens, range);
    let mut written = Written::default();
    if !cursor.word(&["copy"]) {
        return None;
    }
    let query = cursor.peek(0)?.is_punct(b'(');
    let source = if query {
        Source::Query(cursor.group()?)
    } else {
        if cursor.is(0, "binary") && !cursor.peek(1).is_some_and(|token| token.is_punct(b'.')) {
            cursor.at += 1;
            written.format = Some(CopyFormat::Binary);
        }
        relation(&mut cursor)?
    };
    let direction = if cursor.word(&["to"]) {
        Direction::To
    } else if !query && cursor.word(&["from"]) {
        Direction::From
    } else {
        return None;
    };
    let target = target(&mut cursor)?;
    if !query && (cursor.word(&["using", "delimiters"]) || cursor.word(&["delimiters"])) {
        written.delimiter = Some(cursor.string()?);
    }
    cursor.word(&["with"]);
    if cursor.peek(0).is_some_and(|token| token.is_punct(b'(')) {
        let inside = cursor.group()?;
        generic_options(&mut Cursor::new(sql, tokens, inside), &mut written)?;
    } else {
        while !cursor.done() && !cursor.is(0, "where") {
            legacy_option(&mut cursor, &mut written)?;
        }
    }
    let mut filter = None;
    if !query && direction == Direction::From && cursor.word(&["where"]) {
        filter = Some(cursor.at..cursor.end);
        cursor.at = cursor.end;
    }
    cursor.done().then(|| Copy { source, direction, target, options: written.with_defaults(), filter })
}

fn relation(cursor: &mut Cursor<'_>) -> Option<Source> {
    let start = cursor.at;
    let name = cursor.qualified_name()?;
    let tokens = start..cursor.at;
    let columns = if cursor.peek(0)?.is_punct(b'(') { Some(column_list(cursor)?) } else { None };
    Some(Source::Relation { name, tokens, columns, extent: start..cursor.at })
}

/// `(a, b)`.
fn column_list(cursor: &mut Cursor<'_>) -> Option<Vec<String>> {
    if !cursor.punct(b'(') {
        return None;
    }
    let columns = names(cursor)?;
    cursor.punct(b')').then_some(columns)
}

/// `a, b`.
fn names(cursor: &mut Cursor<'_>) -> Option<Vec<String>> {
    let mut names = vec![cursor.name()?];
    while cursor.punct(b',') {
        names.push(cursor.name()?);
    }
    Some(names)
}

fn target(cursor: &mut Cursor<'_>) -> Option<Target> {
    if cursor.word(&["stdin"]) || cursor.word(&["stdout"]) {
        return Some(Target::Client);
    }
    let target = if cursor.word(&["program"]) { Target::Program } else { Target::File };
    let token = cursor.next()?;
    matches!(token.kind, TokenKind::String | TokenKind::DollarString).then_some(target)
}

/// `BINARY CSV DELIMITER AS ';' …`, without parentheses or commas.
fn legacy_option(cursor: &mut Cursor<'_>, written: &mut Written) -> Option<()> {
    let value = |cursor: &mut Cursor<'_>| {
        cursor.word(&["as"]);
        cursor.string()
    };
    if cursor.word(&["binary"]) {
        written.format = Some(CopyFormat::Binary);
    } else if cursor.word(&["csv"]) {
        written.format = Some(CopyFormat::Csv);
    } else if cursor.word(&["freeze"]) {
        written.freeze = true;
    } else if cursor.word(&["header"]) {
        written.header = Some(Header::On);
    } else if cursor.word(&["delimiter"]) {
        written.delimiter = Some(value(cursor)?);
    } else if cursor.word(&["null"]) {
        written.null = Some(value(cursor)?);
    } else if cursor.word(&["quote"]) {
        written.quote = Some(value(cursor)?);
    } else if cursor.word(&["escape"]) {
        written.escape = Some(value(cursor)?);
    } else if cursor.word(&["encoding"]) {
        written.encoding = Some(cursor.string()?);
    } else if cursor.word(&["force", "quote"]) {
        written.force_quote = Some(columns(cursor)?);
    } else if cursor.word(&["force", "not", "null"]) {
        written.force_not_null = Some(Columns::List(names(cursor)?));
    } else if cursor.word(&["force", "null"]) {
        written.force_null = Some(Columns::List(names(cursor)?));
    } else {
        return None;
    }
    Some(())
}

fn columns(cursor: &mut Cursor<'_>) -> Option<Columns> {
    if cursor.operator("*") { Some(Columns::All) } else { names(cursor).map(Columns::List) }
}

/// `FORMAT csv, HEADER, FORCE_QUOTE (a, b), …`.
fn generic_options(cursor: &mut Cursor<'_>, written: &mut Written) -> Option<()> {
    loop {
        let name = cursor.name()?;
        let start = cursor.at;
        while cursor.peek(0).is_some_and(|token| !token.is_punct(b',')) {
            if cursor.peek(0).is_some_and(|token| token.is_punct(b'(')) {
                cursor.group()?;
            } else {
                cursor.at += 1;
            }
        }
        let mut value = Cursor { at: start, end: cursor.at, ..*cursor };
        if generic_option(&name, &mut value, written).is_none() || !value.done() {
            written.other.push(name);
        }
        if cursor.done() {
            return Some(());
        }
        cursor.punct(b',');
    }
}

fn generic_option(name: &str, value: &mut Cursor<'_>, written: &mut Written) -> Option<()> {
    match name {
        "format" => {
            written.format = Some(match word_or_string(value)?.as_str() {
                "text" => CopyFormat::Text,
                "csv" => CopyFormat::Csv,
                "binary" => CopyFormat::Binary,
                _ => return None,
            });
        }
        "freeze" => written.freeze = boolean(value)?,
        "delimiter" => written.delimiter = Some(word_or_string(value)?),
        "null" => written.null = Some(word_or_string(value)?),
        "header" => {
            written.header = Some(if value.peek(0).is_some_and(|token| is_match(value.sql, token)) {
                value.at += 1;
                Header::Match
            } else if boolean(value)? {
                Header::On
            } else {
                Header::Off
            });
        }
        "quote" => written.quote = Some(word_or_string(value)?),
        "escape" => written.escape = Some(word_or_string(value)?),
        "force_quote" => written.force_quote = Some(listed(value)?),
        "force_not_null" => written.force_not_null = Some(listed(value)?),
        "force_null" => written.force_null = Some(listed(value)?),
        "encoding" => written.encoding = Some(word_or_string(value)?),
        "default" => written.default = Some(word_or_string(value)?),
        // What happens without them.
        "on_error" => return (word_or_string(value)? == "stop").then_some(()),
        "log_verbosity" => {
            word_or_string(value)?;
        }
        _ => return None,
    }
    Some(())
}

fn is_match(sql: &str, token: &Token) -> bool {
    token.is_word(sql, "match") || (token.kind == TokenKind::String && token.text(sql).eq_ignore_ascii_case("'match'"))
}

fn word_or_string(value: &mut Cursor<'_>) -> Option<String> {
    if let Some(string) = value.string() {
        return Some(string);
    }
    let number = value.peek(0).filter(|token| token.kind == TokenKind::Number).map(|token| token.text(value.sql));
    if let Some(number) = number {
        value.at += 1;
        return Some(number.to_owned());
    }
    value.name()
}

/// PostgreSQL's `defGetBoolean`.
fn boolean(value: &mut Cursor<'_>) -> Option<bool> {
    if value.done() {
        return Some(true);
    }
    match word_or_string(value)?.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn listed(value: &mut Cursor<'_>) -> Option<Columns> {
    if value.operator("*") { Some(Columns::All) } else { column_list(value).map(Columns::List) }
}

#[cfg(test)]
mod tests;
