//! Any text: tokens ascend, between them stands nothing but space and comment, and nothing built on them panics.

use std::collections::HashSet;

use pgveil::sql::parse::{parse_statement, span_of};
use pgveil::sql::{Token, ident, lex, mentions, shape, splice, statements, string_value};
use pgveil::sql::{casts, comment, copy_stmt, kind, setting};

/// One input.
pub fn run(data: &[u8]) {
    let sql = super::text(data);
    assert!(comment::tags(sql).len() <= 64);
    let Ok(tokens) = lex(sql, 10_000) else { return };
    let mut end = 0;
    for token in &tokens {
        let (start, stop) = (token.span.start as usize, token.span.end as usize);
        assert!(end <= start && start < stop && sql.is_char_boundary(start) && sql.is_char_boundary(stop));
        assert_eq!(lex(&sql[end..start], 1), Ok(vec![]));
        end = stop;
        let _ = ident(sql, token);
        let _ = string_value(sql, token);
    }
    assert_eq!(lex(&sql[end..], 1), Ok(vec![]));
    mentions(sql, &tokens, &HashSet::from(["users".to_owned()]));
    setting::set_config(sql, &tokens);
    assert!(shape(sql, &tokens).text.chars().count() <= 2_000);
    for range in statements(&tokens, sql) {
        per_statement(sql, &tokens, range);
    }
    let edits: Vec<_> = tokens.iter().map(|token| (token.span, token.text(sql))).collect();
    let mut out = Vec::new();
    splice(sql, &edits, &mut out).expect("tokens ascend");
}

fn per_statement(sql: &str, tokens: &[Token], range: std::ops::Range<usize>) {
    kind::inner(sql, tokens, range.clone());
    kind::handle(sql, tokens, range.clone());
    kind::created(sql, tokens, range.clone());
    setting::change(sql, tokens, range.clone());
    copy_stmt::copy(sql, tokens, range.clone());
    for index in range.clone() {
        let (reach, _) = casts::casts_around(sql, tokens, index);
        assert!(reach.contains(&index) && reach.end <= tokens.len());
        casts::typed_literal(sql, tokens, index);
    }
    if let Ok(tree) = parse_statement(sql, tokens, range) {
        let _ = span_of(sqlparser::ast::Spanned::span(&*tree));
    }
}
