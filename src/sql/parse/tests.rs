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
        for operator in [" and true", "||'x'", "::text", " union all select 1", " in (1)"] {
            let sql = format!("select 1{}", operator.repeat(10_000));
            if let Ok(parsed) = read_all(&sql) {
                assert_eq!(parsed.statements.len(), 1, "{operator}");
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

/// Patterns for which a backtracking parser needs time exponential in the depth.
#[test]
fn nesting_of_reasonable_depth_is_read() {
    on_a_small_stack(|| {
        for (before, open, middle, close, depth) in [
            ("select ", "(", "1", ")", 200),
            ("select ", "(select ", "1", ")", 100),
            ("select ", "f(", "1", ")", 100),
            ("select ", "array[", "1", "]", 100),
            ("select ", "case when true then ", "1", " end", 100),
            ("select ", "cast(", "1", " as text)", 100),
            ("select ", "coalesce(", "1", ", 1)", 100),
            ("select ", "not ", "1", "", 100),
            ("select ", "a in (", "1", ")", 100),
            ("select * from ", "(select * from ", "t", ") x", 100),
            ("select * from ", "(", "t join u on true", ")", 100),
            ("", "(", "select 1", ")", 100),
        ] {
            let sql = format!("{before}{}{middle}{}", open.repeat(depth), close.repeat(depth));
            assert!(read_all(&sql).is_ok(), "{before}{open}");
        }
    });
}

#[test]
fn spellings_that_sqlparser_lacks() {
    for (sql, same_as) in [
        ("table t", "select * from t"),
        ("insert into t table u", "insert into t select * from u"),
        ("select a from only (t) where b", "select a from t where b"),
        ("select a from u join only t on true, only v", "select a from u join t on true, v"),
        ("update only t set a = 1", "update t set a = 1"),
        ("delete from only (t)", "delete from t"),
        ("select a from t fetch first row only", "select a from t fetch first row only"),
        ("select a from t where b isnull", "select a from t where b is null"),
        ("select a between symmetric 1 and 2", "select a between 1 and 2"),
        ("select a from t for no key update", "select a from t for update"),
        ("select a from t for key share", "select a from t for share"),
        ("insert into t overriding system value values (1)", "insert into t values (1)"),
        ("select f(a, variadic b)", "select f(a, b)"),
        ("delete from t where current of c", "delete from t where true"),
        (
            "insert into t values (1) on conflict (a) where b do nothing",
            "insert into t values (1) on conflict (a, b) do nothing",
        ),
        (
            "insert into t values (1) on conflict (lower(a), b) do nothing",
            "insert into t values (1) on conflict (a, b) do nothing",
        ),
        (
            "insert into t values (1) on conflict (a collate \"C\") where b do update set a = b",
            "insert into t values (1) on conflict (a, b) do update set a = b",
        ),
        (
            "select sum(a) over (order by b range between '1 day'::interval preceding and '2'::text following)",
            "select sum(a) over (order by b range between ('1 day'::interval) preceding and ('2'::text) following)",
        ),
        (
            "merge into t using u on t.a = u.a when not matched then insert default values",
            "merge into t using u on t.a = u.a when not matched then insert values (default)",
        ),
        (
            "select a from t order by lower(b)::c::text collate \"C\" desc",
            "select a from t order by lower(b) collate \"C\"::c::text desc",
        ),
        ("select a::text collate s.d = b from t", "select a collate s.d::text = b from t"),
        ("create view v as table t", "create view v as select * from t"),
        ("update t set a[1] = 2, b[1:2][3] = c[4], d = 5", "update t set a = 2, b = c[4], d = 5"),
        ("update t set (a[1], b) = (1, 2)", "update t set (a, b) = (1, 2)"),
        (
            "update t set a = b[1] where c[2] = 3 and (d[4], e) = (1, 2)",
            "update t set a = b[1] where c[2] = 3 and (d[4], e) = (1, 2)",
        ),
        ("insert into t select f(b[1], c[2])", "insert into t select f(b[1], c[2])"),
        ("insert into s.t as x (a[1], b[1:2], c) values (d[1], 2)", "insert into s.t as x (a, b, c) values (d[1], 2)"),
        ("insert into s.t (a[1], b[1:2], c) values (d[1], 2)", "insert into s.t (a, b, c) values (d[1], 2)"),
        (
            "merge into t using u on t.a = u.a when matched then update set a[1] = b[2]",
            "merge into t using u on t.a = u.a when matched then update set a = b[2]",
        ),
        (
            "insert into t values (1) on conflict (a) do update set a[1] = 2",
            "insert into t values (1) on conflict (a) do update set a = 2",
        ),
    ] {
        let read = read_all(sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
        assert_eq!(read.statements[0].to_string(), read_all(same_as).unwrap().statements[0].to_string(), "{sql}");
    }
    let sql = "select b.isnull, a as only, b.table from t";
    assert!(read_all(sql).unwrap().statements[0].to_string().contains("b.isnull, a AS only, b.table"));
}

#[test]
fn a_constant_is_no_alias() {
    for sql in [
        "select citext 'x'",
        "select \"T\" 'x'",
        "select a.date 'x'",
        "select f(1) 'x'",
        "select a as 'x'",
        "select 1 'x'",
    ] {
        assert_eq!(read_all(sql).err(), Some(ParseRefusal::Grammar), "{sql}");
    }
    for sql in ["select date 'x', varchar(3) 'x', double precision 'x'", "select a from t where a operator(s.=) 'x'"] {
        assert!(read_all(sql).is_ok(), "{sql}");
    }
}
