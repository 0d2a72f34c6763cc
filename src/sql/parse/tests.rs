use sqlparser::ast::{Expr, SelectItem, SetExpr, Value};

use super::foreign::FOREIGN;
use super::*;
use crate::sql::lex;

fn read_all(sql: &str) -> Result<Parsed, ParseRefusal> {
    parse(sql, lex(sql, 1_000_000).unwrap())
}

fn first_expr(parsed: &Parsed) -> &Expr {
    let Statement::Query(query) = &parsed.statements[0] else { panic!("not a query") };
    let SetExpr::Select(select) = query.body.as_ref() else { panic!("not a select") };
    match &select.projection[0] {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
        _ => panic!("not an expression"),
    }
}

#[test]
fn foreign_words_are_sorted_for_the_search() {
    assert!(FOREIGN.is_sorted());
    assert!(!FOREIGN.contains(&sqlparser::keywords::Keyword::SELECT));
}

#[test]
fn locations_lead_back_to_tokens_and_bytes() {
    let sql = "/* é */ select 'a'\n'b' as é, $2; select 2";
    let parsed = read_all(sql).unwrap();
    assert_eq!(parsed.statements.len(), 2);
    let Expr::Value(value) = first_expr(&parsed) else { panic!("not a value") };
    assert_eq!(value.value, Value::SingleQuotedString("ab".into()));
    let span = parsed.span_of(value.span).unwrap();
    assert_eq!(&sql[span.start as usize..span.end as usize], "'a'\n'b'");
    assert_eq!(parsed.token_at(value.span.start), Some(1));
    assert_eq!(parsed.token_at(Location { line: 0, column: 0 }), None);
    assert_eq!(parsed.token_at(Location { line: 1, column: 1 }), None);
    assert_eq!(parsed.span_of(TreeSpan::empty()), None);
}

#[test]
fn names_arrive_as_postgresql_knows_them() {
    let parsed = read_all("select Foo, U&\"b\\0061r\", \"X\"").unwrap();
    let Statement::Query(query) = &parsed.statements[0] else { panic!("not a query") };
    let SetExpr::Select(select) = query.body.as_ref() else { panic!("not a select") };
    let names: Vec<_> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => (ident.value.as_str(), ident.quote_style),
            _ => panic!("not a name"),
        })
        .collect();
    assert_eq!(names, [("foo", None), ("bar", Some('"')), ("X", Some('"'))]);
}

#[test]
fn words_of_other_databases_are_names() {
    for sql in [
        "select ſelect from t minus",
        "select top from t qualify",
        "select sample.x from sample pivot",
        "select ceil(x), floor(x) from t format",
        "select 1 as x from a semi join b on true",
        "select a\u{a0}b from t\u{3000}",
    ] {
        assert!(read_all(sql).is_ok(), "{sql}");
    }
    assert_eq!(read_all("select sort from t sort by x").err(), Some(ParseRefusal::Grammar));
}

#[test]
fn one_statement_at_a_time() {
    let sql = "select 1; frobnicate the table; select 2";
    let tokens = lex(sql, 100).unwrap();
    let ranges = statements(&tokens, sql);
    assert_eq!(ranges.len(), 3);
    assert!(matches!(*parse_statement(sql, &tokens, ranges[0].clone()).unwrap(), Statement::Query(_)));
    assert_eq!(parse_statement(sql, &tokens, ranges[1].clone()).err(), Some(ParseRefusal::Grammar));
    assert!(parse_statement(sql, &tokens, ranges[2].clone()).is_ok());
    assert_eq!(read_all(sql).err(), Some(ParseRefusal::Grammar));
    assert_eq!(parse_statement(sql, &tokens, 3..3).err(), Some(ParseRefusal::Empty));
    // A statement is read to its last token.
    assert_eq!(read_all("select 1 select 2").err(), Some(ParseRefusal::Grammar));
}

#[test]
fn refusals_name_the_reason() {
    assert_eq!(read_all("select {x}").err(), Some(ParseRefusal::Character));
    assert_eq!(read_all(r"select E'\xff'").err(), Some(ParseRefusal::Literal));
    assert_eq!(read_all("select 1..2").err(), Some(ParseRefusal::Grammar));
}

/// On a thread with the stack of a tokio worker.
fn on_a_small_stack(work: fn()) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn fifty_thousand_operators_are_read_walked_and_dropped() {
    on_a_small_stack(|| {
        for operator in ["+1", " and true", " or a = 1", "||'x'", "::text", " union all select 1", " in (1)"] {
            let sql = format!("select 1{}", operator.repeat(50_000));
            if let Ok(parsed) = read_all(&sql) {
                assert_eq!(parsed.statements.len(), 1);
            }
        }
        let sql = format!("select 1{}", "+1".repeat(50_000));
        let parsed = read_all(&sql).unwrap();
        let depth = with_stack(parsed.tokens.len(), || {
            fn depth(expr: &Expr) -> usize {
                match expr {
                    Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
                    _ => 0,
                }
            }
            depth(first_expr(&parsed))
        });
        assert_eq!(depth, 50_000);
    });
}

#[test]
fn deep_nesting_is_refused_cleanly() {
    on_a_small_stack(|| {
        for (open, close) in [
            ("(", ")"),
            ("(select ", ")"),
            ("f(", ")"),
            ("array[", "]"),
            ("not ", ""),
            ("- ", ""),
            ("case when ", " then 1 end"),
            ("cast(", " as text)"),
            ("x[", "]"),
            ("1 + (", ")"),
            ("exists (select ", ")"),
            ("a in (", ")"),
            ("row(", ")"),
            ("coalesce(", ", 1)"),
            ("interval ", ""),
        ] {
            let sql = format!("select {}1{}", open.repeat(50_000), close.repeat(50_000));
            assert!(
                matches!(read_all(&sql), Err(ParseRefusal::Nesting | ParseRefusal::Grammar | ParseRefusal::TooLong)),
                "{open}"
            );
        }
    });
}

#[test]
fn nesting_of_reasonable_depth_is_read_in_reasonable_time() {
    on_a_small_stack(|| {
        for (open, close, depth) in [
            ("(", ")", 100),
            ("(select ", ")", 60),
            ("f(", ")", 60),
            ("array[", "]", 60),
            ("case when true then ", " end", 60),
            ("cast(", " as text)", 60),
            ("coalesce(", ", 1)", 60),
            ("not ", "", 60),
        ] {
            let sql = format!("select {}1{}", open.repeat(depth), close.repeat(depth));
            let start = std::time::Instant::now();
            let read = read_all(&sql);
            eprintln!("{open} {:?} {:?}", start.elapsed(), read.as_ref().err());
            assert!(read.is_ok(), "{open}");
        }
        for (open, middle, close) in [
            ("(", "t", ")"),
            ("(select * from ", "t", ") x"),
            ("(", "t join u on true", ")"),
            ("(", "select 1", ")"),
            ("(", "t", ""),
        ] {
            for depth in [10, 15, 20, 60, 200] {
                let sql = format!("select * from {}{middle}{}", open.repeat(depth), close.repeat(depth));
                let start = std::time::Instant::now();
                let read = read_all(&sql);
                eprintln!("from {depth} {open}{middle}{close} {:?} {:?}", start.elapsed(), read.as_ref().err());
            }
        }
    });
}
