//! The guard lexer against PostgreSQL itself.
//!
//! PostgreSQL says where its first token ends: a text that begins with a token no statement begins with is answered by
//! `syntax error at or near "TOKEN"`. So every token of a random text is checked by sending the text from that token on;
//! string values and names are checked by selecting them.

use pgveil::sql::lexer::{LexError, Token, TokenKind, tokens};
use pgveil::sql::parse::parse_statement;
use pgveil::sql::{Kind, ident, kind, lex, statements, string_value};

use crate::support::{Frame, Wire, cluster};

/// What random texts are made of.
const PIECES: &[&str] = &[
    "'",
    "'",
    "''",
    "'a'",
    "\\",
    "\\'",
    "\n",
    "\r",
    " ",
    " ",
    "\t",
    "\u{c}",
    "--",
    "-- a",
    "/*",
    "*/",
    "/* a */",
    "E'",
    "e'",
    "E'a'",
    "u&'",
    "U&'a'",
    "U&\"",
    "U&\"a\"",
    "\"",
    "\"\"",
    "\"a\"",
    "$$",
    "$a$",
    "$é$",
    "$",
    "$1",
    "$2a",
    "1",
    "1.5",
    "1.",
    ".5",
    ".",
    "..",
    "1e",
    "1e5",
    "1e+",
    "e",
    "x'",
    "X'1F'",
    "b'",
    "B'1'",
    "n'",
    "N'a'",
    "0",
    "0x",
    "_",
    "é",
    "\u{a0}",
    "\u{3000}",
    "😀",
    "a",
    "A",
    "+",
    "-",
    "*",
    "/",
    "<",
    ">",
    "=",
    "=>",
    "<=",
    "~",
    "!",
    "!=",
    "@",
    "#",
    "%",
    "^",
    "&",
    "|",
    "`",
    "?",
    ":",
    "::",
    ":=",
    ",",
    ";",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\0061",
    "\\+000061",
    "\\u00e9",
    "\\ud83d",
    "\\ude00",
    "\\U0001F600",
    "\\101",
    "\\xff",
    "\\x41",
    "\\303\\251",
    "\\0",
    "\\n",
    "uescape '!'",
    " UESCAPE E'\\\\'",
    "uescape",
    "!0061",
    "'\n'",
    "'\n-- a\n'",
    "' '",
];

/// A small generator with a fixed seed: the same texts in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

struct Server {
    wire: Wire,
    version: u32,
}

impl Server {
    fn ask(&mut self, sql: &str) -> Vec<Frame> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.wire.message(b'Q', &body);
        self.wire.until_ready()
    }

    /// The error's SQLSTATE and message.
    fn error(&mut self, sql: &str) -> Option<(String, String)> {
        let frames = self.ask(sql);
        let error = frames.iter().find(|frame| frame.tag == b'E')?;
        Some((error.field(b'C').unwrap(), error.field(b'M').unwrap()))
    }

    /// The only cell of the only row.
    fn cell(&mut self, sql: &str) -> Option<String> {
        let frames = self.ask(sql);
        let row = frames.iter().find(|frame| frame.tag == b'D')?;
        Some(String::from_utf8(row.body[6..].to_vec()).unwrap())
    }

    /// The only field's name.
    fn field(&mut self, sql: &str) -> Option<String> {
        let frames = self.ask(sql);
        let description = frames.iter().find(|frame| frame.tag == b'T')?;
        let name = description.body[2..].split(|byte| *byte == 0).next()?;
        Some(String::from_utf8(name.to_vec()).unwrap())
    }
}

fn server() -> Server {
    let mut server = Server { wire: Wire::login(cluster().port(), "app", "postgres"), version: 0 };
    server.ask("set client_min_messages = error");
    server.version = server.cell("show server_version_num").unwrap().parse::<u32>().unwrap() / 10_000;
    server
}

#[test]
fn tokens_names_and_values_are_postgresqls() {
    let mut server = server();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut checked = 0;
    for _ in 0..2_500 {
        let text: String = (0..1 + dice.roll(10)).map(|_| PIECES[dice.roll(PIECES.len())]).collect();
        let mut end = 0;
        for token in tokens(&text) {
            match token {
                Ok(token) => {
                    check_token(&mut server, &text, &token);
                    end = token.span.end as usize;
                    checked += 1;
                }
                Err(error) => check_error(&mut server, &text[end..], error),
            }
        }
    }
    assert!(checked > 5_000, "{checked} tokens are too few to mean anything");
}

fn check_token(server: &mut Server, text: &str, token: &Token) {
    let own = token.text(text);
    let national = token.kind == TokenKind::String && own.starts_with(['n', 'N']);
    let unicode = own.starts_with("u&") || own.starts_with("U&");
    // Behind U&'…' the next token is read, for UESCAPE, before the error is found; that one may be the wrong one.
    let rest = if unicode { own } else { &text[token.span.start as usize..] };
    match token.kind {
        // A statement can begin with `(`, and `;` is an empty one.
        TokenKind::Punct(b'(' | b';') => return,
        // Read the way of version 16.
        TokenKind::Number if server.version < 16 && own.contains(['_', 'x', 'o', 'b']) => return,
        _ => {}
    }
    let (state, message) = server.error(rest).unwrap_or_else(|| panic!("PostgreSQL accepts {rest:?}"));
    let near = message.split_once("at or near \"").map(|(_, near)| near.strip_suffix('"').unwrap_or(near));
    if state != "42601" || !message.starts_with("syntax error") {
        // PostgreSQL decodes while it lexes.
        assert!(matches!(token.kind, TokenKind::String), "{rest:?}: {message}");
        assert!(string_value(text, token).is_err(), "{rest:?}: {message}");
        return;
    }
    // N'…' is two tokens there.
    if national {
        assert_eq!(near, Some(&own[..1]), "{rest:?}");
    } else if unicode {
        assert!(near.is_some_and(|near| own.starts_with(near)), "{rest:?}: {message}");
    } else {
        assert_eq!(near, Some(own), "{rest:?}: {message}");
    }
    match token.kind {
        TokenKind::String | TokenKind::DollarString => check_value(server, text, token),
        TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {
            let name = server.field(&format!("select 1 as {own}"));
            assert_eq!(name.as_deref(), Some(&*ident(text, token)), "{own:?}");
        }
        _ => {}
    }
}

fn check_value(server: &mut Server, text: &str, token: &Token) {
    let own = token.text(text);
    // The length byte by byte: `bpchar`, which N'…' is, shows its trailing spaces all the same.
    let theirs = server.cell(&format!("select {own}"));
    match string_value(text, token) {
        Ok(ours) => assert_eq!(theirs.as_deref(), Some(&*ours), "{own:?}"),
        // E'\v' has two meanings, so it has none here.
        Err(_) => assert!(theirs.is_none() || own.contains("\\v"), "{own:?} is {theirs:?}"),
    }
}

fn check_error(server: &mut Server, rest: &str, error: LexError) {
    if error == LexError::ParameterNumber {
        return;
    }
    let (_, message) = server.error(rest).unwrap_or_else(|| panic!("PostgreSQL accepts {rest:?}"));
    let expected: &[&str] = match error {
        // Of N'… the N alone is already an error there.
        LexError::UnterminatedString => &[
            "unterminated quoted string",
            "invalid Unicode",
            "invalid byte sequence",
            "syntax error at or near \"n\"",
            "syntax error at or near \"N\"",
        ],
        LexError::UnterminatedBitString => &["unterminated bit string", "unterminated hexadecimal string"],
        LexError::UnterminatedDollarString => &["unterminated dollar-quoted string"],
        LexError::UnterminatedIdent => &["unterminated quoted identifier"],
        LexError::UnterminatedComment => &["unterminated /* comment"],
        LexError::EmptyIdent => &["zero-length delimited identifier"],
        LexError::TrailingJunk => &["trailing junk after"],
        LexError::OperatorTooLong => &["operator too long"],
        // Behind U&"…" the next token is read first, and may be the one complained of.
        LexError::Uescape | LexError::Escape => &[""],
        other => panic!("{other} has no counterpart: {rest:?}"),
    };
    assert!(expected.iter().any(|start| message.starts_with(start)), "{rest:?}: {error}, but {message}");
}

/// One statement per line, all of them PostgreSQL's grammar; `¶` stands for a newline. Those that begin with `!` are beyond
/// sqlparser: when one of them becomes readable, the mark goes.
const STATEMENTS: &str = include_str!("vectors/statements.sql");

#[test]
fn statements_are_read_or_known_to_be_unreadable() {
    let mut server = server();
    let mut wrong = Vec::new();
    for line in STATEMENTS.lines() {
        let readable = !line.starts_with('!');
        let sql = line.trim_start_matches('!').trim_start().replace('¶', "\n");
        // A Parse message runs the grammar and nothing else of a statement that is not a query.
        let mut body = vec![0];
        body.extend_from_slice(sql.as_bytes());
        body.extend_from_slice(&[0, 0, 0]);
        server.wire.message(b'P', &body);
        server.wire.message(b'S', &[]);
        let frames = server.wire.until_ready();
        let refused = frames.iter().any(|frame| frame.tag == b'E' && frame.field(b'C').as_deref() == Some("42601"));
        if refused && !line.ends_with("-- 16") {
            wrong.push(format!("PostgreSQL refuses: {line}"));
        }
        let tokens = lex(&sql, 10_000).unwrap();
        for range in statements(&tokens, &sql) {
            match parse_statement(&sql, &tokens, range.clone()) {
                Ok(_) if !readable => wrong.push(format!("can be read after all: {line}")),
                Err(refusal) if readable => wrong.push(format!("{refusal}: {line}")),
                Ok(tree) => wrong
                    .extend(lost(&sql, &tokens[range], &format!("{:?}", *tree)).map(|what| format!("{what}: {line}"))),
                Err(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// In a query or data change, every string and parameter must stand in the tree as a value: none dropped, none read as a
/// name. (Numbers also stand in `varchar(10)`.)
fn lost(sql: &str, tokens: &[Token], tree: &str) -> Option<String> {
    let kind = kind(sql, tokens, 0..tokens.len());
    if !matches!(kind, Kind::Query | Kind::With | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge) {
        return None;
    }
    let mut values = tokens.iter().filter(|token| {
        matches!(token.kind, TokenKind::String | TokenKind::DollarString | TokenKind::BitString | TokenKind::Param(_))
    });
    let missing = values.find(|token| {
        let (start, end) = (token.span.start + 1, token.span.end + 1);
        !tree.contains(&format!("span: Span(Location(1,{start})..Location(1,{end})) }}"))
    });
    let name = tree.contains("quote_style: Some('\\'')").then(|| "a constant was read as a name".to_owned());
    missing.map(|token| format!("the tree has lost {}", token.text(sql))).or(name)
}

/// PostgreSQL answers each statement of a text with one CommandComplete.
#[test]
fn statements_are_split_as_postgresql_splits_them() {
    let mut server = server();
    let body = "create function pg_temp.f() returns int language sql begin atomic select 1; select case when true then 1 end; \
                select 2 as end; end";
    let rule = "create temp table t (a int); create rule r as on insert to t do also (select 1; select 2)";
    for text in [
        "select 1; select ';' ;; -- ;\n select $$;$$ /* ; */",
        &format!("begin; {body}; select 1; rollback"),
        &format!("begin; {rule}; select 1; rollback;"),
        "begin; create function pg_temp.g() returns void language sql begin atomic end; end",
        "begin; select 1 as begin, 2 as atomic; end",
        "prepare p as select 1; execute p; deallocate p",
    ] {
        let frames = server.ask(text);
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{text}: {frames:?}");
        let complete = frames.iter().filter(|frame| frame.tag == b'C').count();
        let tokens = lex(text, 1_000).unwrap();
        assert_eq!(statements(&tokens, text).len(), complete, "{text}");
    }
}
