use proptest::prelude::*;

use super::*;

fn kinds(sql: &str) -> Vec<(TokenKind, &str)> {
    lex(sql, 10_000).unwrap().iter().map(|token| (token.kind, token.text(sql))).collect()
}

fn texts(sql: &str) -> Vec<&str> {
    kinds(sql).into_iter().map(|(_, text)| text).collect()
}

/// Mutations of our own vectors with the tokens of PostgreSQL's scanner and the statements of its parser, which
/// `FREEZE=400 tests/oracle/run.sh` wrote; `make oracle` looks at many more.
const FROZEN: &str = include_str!("../../../tests/vectors/tokens.jsonl");

#[derive(serde::Deserialize)]
struct Frozen {
    sql: String,
    tokens: Vec<(u32, u32, String)>,
    /// As ranges of tokens; none if PostgreSQL's grammar refuses the text.
    statements: Option<Vec<std::ops::Range<usize>>>,
}

#[test]
fn tokens_and_statements_are_postgresqls() {
    let mut accepted = 0;
    for line in FROZEN.lines() {
        let Frozen { sql, tokens: theirs, statements } = serde_json::from_str(line).unwrap();
        let (mut own, mut refused) = (Vec::new(), false);
        for token in tokens(&sql) {
            match token {
                Ok(token) => own.push(token),
                Err(_) => refused = true,
            }
        }
        for (own, (start, end, kind)) in own.iter().zip(&theirs) {
            assert_eq!((own.span.start, own.span.end), (*start, *end), "{sql}");
            assert!(format!("{:?}", own.kind).starts_with(kind.as_str()), "{sql}: {kind}");
        }
        assert!(own.len() == theirs.len() || (refused && own.len() < theirs.len()), "{sql}");
        let Some(statements) = statements else { continue };
        assert!(!refused, "{sql}");
        assert_eq!(crate::sql::statements(&own, &sql), statements, "{sql}");
        accepted += 1;
    }
    assert!(accepted > 100, "{accepted} texts are too few");
}

#[test]
fn operators_are_cut_as_postgresql_cuts_them() {
    for (sql, expected) in [
        ("a<-1", vec!["a", "<", "-", "1"]),
        ("a<--1\n", vec!["a", "<"]),
        ("a@-1", vec!["a", "@-", "1"]),
        ("a=-1", vec!["a", "=", "-", "1"]),
        ("a+-+1", vec!["a", "+", "-", "+", "1"]),
        ("a*-+1", vec!["a", "*", "-", "+", "1"]),
        ("a->>'b'", vec!["a", "->>", "'b'"]),
        ("a#>>b#-c", vec!["a", "#>>", "b", "#-", "c"]),
        ("a::int", vec!["a", "::", "int"]),
        ("f(a=>1, b:=2)", vec!["f", "(", "a", "=>", "1", ",", "b", ":=", "2", ")"]),
        ("a<>b<=c>=d!=e", vec!["a", "<>", "b", "<=", "c", ">=", "d", "!=", "e"]),
        ("1+/* c */2", vec!["1", "+", "2"]),
        ("1*/*c*/-2", vec!["1", "*", "-", "2"]),
        ("1+--c\n2", vec!["1", "+", "2"]),
        ("a||-1", vec!["a", "||-", "1"]),
        ("a<=-1", vec!["a", "<=", "-", "1"]),
        ("a ?| b ?& c ? d", vec!["a", "?|", "b", "?&", "c", "?", "d"]),
        ("a->-1", vec!["a", "->", "-", "1"]),
        ("a%-1", vec!["a", "%-", "1"]),
        ("*-", vec!["*", "-"]),
        ("-", vec!["-"]),
        ("--", vec![]),
        ("x[1:2]", vec!["x", "[", "1", ":", "2", "]"]),
        ("x[:$1]", vec!["x", "[", ":", "$1", "]"]),
        ("{\\}", vec!["{", "\\", "}"]),
    ] {
        assert_eq!(texts(sql), expected, "{sql}");
    }
    assert_eq!(lex(&"#".repeat(64), 10), Err(LexError::OperatorTooLong));
    assert!(lex(&"#".repeat(63), 10).is_ok());
}

#[test]
fn numbers_end_where_postgresql_ends_them() {
    for (sql, expected) in [
        ("1. .5 1e10 1.e5 .5e-3 1E+2", vec!["1.", ".5", "1e10", "1.e5", ".5e-3", "1E+2"]),
        ("1..2", vec!["1", "..", "2"]),
        ("1...5", vec!["1", "..", ".5"]),
        ("1.5.6", vec!["1.5", ".6"]),
        ("1$1", vec!["1", "$1"]),
        ("1e+5$1", vec!["1e+5", "$1"]),
        ("a.1", vec!["a", ".1"]),
        ("1_000 0xFF 0b1 0o7 0x_1f 1_0.0_1e1_0", vec!["1_000", "0xFF", "0b1", "0o7", "0x_1f", "1_0.0_1e1_0"]),
        ("1-1", vec!["1", "-", "1"]),
    ] {
        assert_eq!(texts(sql), expected, "{sql}");
    }
    for sql in [
        "1a", "1e", "1e+", "1.a", "1e5a", "1e5$", "1.5e5$1", "0xF$", "1é", "0x", "0x_", "0b12", "0xg", "1__0", "1_",
        "1._5", "$1a", "0o8",
    ] {
        assert_eq!(lex(sql, 10), Err(LexError::TrailingJunk), "{sql}");
    }
}

#[test]
fn parameters() {
    assert_eq!(
        kinds("$1 $01 $65535")[..],
        [(TokenKind::Param(1), "$1"), (TokenKind::Param(1), "$01"), (TokenKind::Param(65535), "$65535")]
    );
    assert_eq!(lex("$65536", 9), Err(LexError::ParameterNumber));
    assert_eq!(lex("$99999999999999999999", 9), Err(LexError::ParameterNumber));
    assert_eq!(kinds("$ $")[0], (TokenKind::Punct(b'$'), "$"));
}

#[test]
fn strings_and_their_continuation() {
    use TokenKind::{BitString, DollarString, Ident, Operator, String};
    for (sql, expected) in [
        ("'a''b'", vec![(String, "'a''b'")]),
        (r"'a\' 'b'", vec![(String, r"'a\'"), (String, "'b'")]),
        (r"E'a\'b' e'\\'", vec![(String, r"E'a\'b'"), (String, r"e'\\'")]),
        ("'a'\n'b'", vec![(String, "'a'\n'b'")]),
        ("'a' -- c\n -- d\n 'b' 'c'", vec![(String, "'a' -- c\n -- d\n 'b'"), (String, "'c'")]),
        ("'a' /* \n */ 'b'", vec![(String, "'a'"), (String, "'b'")]),
        ("'a' \r 'b'", vec![(String, "'a' \r 'b'")]),
        ("'a' 'b'", vec![(String, "'a'"), (String, "'b'")]),
        ("'a'\n-'b'", vec![(String, "'a'"), (Operator, "-"), (String, "'b'")]),
        ("'a' --x", vec![(String, "'a'")]),
        ("'a'\nE'b'", vec![(String, "'a'"), (String, "E'b'")]),
        ("E'a'\n'\\''", vec![(String, "E'a'\n'\\''")]),
        ("N'x' n'y'", vec![(String, "N'x'"), (String, "n'y'")]),
        ("U&'d\\0061' u&'d!0061' UESCAPE '!'", vec![(String, "U&'d\\0061'"), (String, "u&'d!0061' UESCAPE '!'")]),
        ("u&'x' uescape/**/e'!'", vec![(String, "u&'x' uescape/**/e'!'")]),
        ("u&'x' uescaped", vec![(String, "u&'x'"), (Ident, "uescaped")]),
        ("U& 'x'", vec![(Ident, "U"), (Operator, "&"), (String, "'x'")]),
        ("B'1' x'1F' b'1''0'", vec![(BitString, "B'1'"), (BitString, "x'1F'"), (BitString, "b'1'"), (String, "'0'")]),
        ("b'1'\n'0'", vec![(BitString, "b'1'\n'0'")]),
        ("$$a'b$$", vec![(DollarString, "$$a'b$$")]),
        ("$a$ $b$ $a$", vec![(DollarString, "$a$ $b$ $a$")]),
        ("$a$$b$a$", vec![(DollarString, "$a$$b$a$")]),
        ("$é$x$é$", vec![(DollarString, "$é$x$é$")]),
        ("a$b$c", vec![(Ident, "a$b$c")]),
        ("''", vec![(String, "''")]),
    ] {
        assert_eq!(kinds(sql), expected, "{sql}");
    }
}

#[test]
fn identifiers() {
    use TokenKind::{Ident, QuotedIdent, UnicodeIdent};
    for (sql, expected) in [
        ("a é_1$ _x", vec![(Ident, "a"), (Ident, "é_1$"), (Ident, "_x")]),
        // To PostgreSQL these spaces are letters.
        ("a\u{a0}b a\u{3000}", vec![(Ident, "a\u{a0}b"), (Ident, "a\u{3000}")]),
        (r#""a""b" "c""#, vec![(QuotedIdent, r#""a""b""#), (QuotedIdent, r#""c""#)]),
        (
            r#"U&"d\0061" u&"x" uescape '!'"#,
            vec![(UnicodeIdent, r#"U&"d\0061""#), (UnicodeIdent, r#"u&"x" uescape '!'"#)],
        ),
        ("e x b n u", vec![(Ident, "e"), (Ident, "x"), (Ident, "b"), (Ident, "n"), (Ident, "u")]),
    ] {
        assert_eq!(kinds(sql), expected, "{sql}");
    }
}

#[test]
fn comments_nest() {
    assert_eq!(texts("a/* /* */ b */c"), ["a", "c"]);
    assert_eq!(texts("a/*/ */c"), ["a", "c"]);
    assert_eq!(texts("a/***/c/**/d"), ["a", "c", "d"]);
    assert_eq!(texts("a--b\rc"), ["a", "c"]);
    assert_eq!(texts("a /* -- */ b"), ["a", "b"]);
    assert_eq!(texts("a # b"), ["a", "#", "b"]);
}

#[test]
fn what_postgresql_cannot_lex() {
    for (sql, error) in [
        ("'a", LexError::UnterminatedString),
        ("'a''", LexError::UnterminatedString),
        (r"E'\", LexError::UnterminatedString),
        (r"E'\'", LexError::UnterminatedString),
        ("'a'\n'b", LexError::UnterminatedString),
        ("U&'a", LexError::UnterminatedString),
        ("b'1", LexError::UnterminatedBitString),
        ("$$a$", LexError::UnterminatedDollarString),
        ("$a$ $A$", LexError::UnterminatedDollarString),
        ("\"a", LexError::UnterminatedIdent),
        ("\"", LexError::UnterminatedIdent),
        ("\"\"", LexError::EmptyIdent),
        ("U&\"\"", LexError::EmptyIdent),
        ("/* /* */", LexError::UnterminatedComment),
        ("U&'a' UESCAPE x", LexError::Uescape),
        ("U&'a' UESCAPE", LexError::Uescape),
        ("a\0b", LexError::ZeroByte),
    ] {
        assert_eq!(lex(sql, 100), Err(error), "{sql}");
    }
    assert_eq!(lex("a b c", 2), Err(LexError::TooManyTokens));
    assert!(lex("a b", 2).is_ok());
}

/// Text out of pieces that mean something to a lexer.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "'", "''", "E'", "U&'", "U&\"", "b'", "n'", "\"", "\\", "$", "$$", "$a$", "$1", "--", "/*", "*/", "\n", "\r",
        " ", "a", "E", "é", "\u{a0}", "😀", "1", ".", "e5", "_", "0x", "+", "-", "*", "/", "<", "=", "@", ":", "::",
        ";", "(", ")", "[", "]", "uescape", "\0", "{", "select", "begin", "atomic", "end", "create", "copy", "set",
        "as", "cast(", "in(", "values(", ",",
    ]);
    prop::collection::vec(prop_oneof![9 => pieces.prop_map(str::to_owned), 1 => any::<String>()], 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn tokens_ascend_and_leave_out_only_space_and_comments(text in soup()) {
        let mut end = 0;
        for token in tokens(&text).map_while(Result::ok) {
            let (start, stop) = (token.span.start as usize, token.span.end as usize);
            prop_assert!(end <= start && start < stop);
            prop_assert_eq!(lex(&text[end..start], 1), Ok(vec![]));
            prop_assert!(!token.text(&text).is_empty());
            end = stop;
        }
        if lex(&text, 1_000).is_ok() {
            prop_assert_eq!(lex(&text[end..], 1), Ok(vec![]));
        }
    }

    #[test]
    fn nothing_built_on_tokens_panics(text in soup()) {
        let Ok(tokens) = lex(&text, 1_000) else { return Ok(()) };
        for (index, token) in tokens.iter().enumerate() {
            let _ = crate::sql::ident(&text, token);
            let _ = crate::sql::string_value(&text, token);
            let (reach, _) = crate::sql::casts::casts_around(&text, &tokens, index);
            prop_assert!(reach.contains(&index) && reach.end <= tokens.len());
            let _ = crate::sql::casts::typed_literal(&text, &tokens, index);
        }
        let _ = crate::sql::setting::set_config(&text, &tokens);
        let _ = crate::sql::shape(&text, &tokens);
        for range in crate::sql::statements(&tokens, &text) {
            prop_assert!(!range.is_empty());
            let _ = crate::sql::kind::inner(&text, &tokens, range.clone());
            let _ = crate::sql::kind::handle(&text, &tokens, range.clone());
            let _ = crate::sql::kind::created(&text, &tokens, range.clone());
            let _ = crate::sql::setting::change(&text, &tokens, range.clone());
            let _ = crate::sql::copy_stmt::copy(&text, &tokens, range.clone());
            let _ = crate::sql::parse::parse_statement(&text, &tokens, range);
        }
    }
}
