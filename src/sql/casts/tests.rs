use super::*;
use crate::sql::lex;

fn text<'a>(sql: &'a str, tokens: &[Token], range: &Range<usize>) -> &'a str {
    let span = bytes_of(tokens, range).unwrap();
    &sql[span.start as usize..span.end as usize]
}

#[test]
fn types_reach_as_far_as_the_grammar_reads_them() {
    for (sql, reach, schema, name, array) in [
        ("text, b", "text", None, "text", false),
        ("Text from", "Text", None, "text", false),
        ("varchar(10) from", "varchar(10)", Some("pg_catalog"), "varchar", false),
        ("character varying (10) x", "character varying (10)", Some("pg_catalog"), "varchar", false),
        ("national character(3)", "national character(3)", Some("pg_catalog"), "bpchar", false),
        ("char x", "char", Some("pg_catalog"), "bpchar", false),
        ("\"char\" x", "\"char\"", None, "char", false),
        ("timestamp(3) with time zone at", "timestamp(3) with time zone", Some("pg_catalog"), "timestamptz", false),
        ("timestamp without time zone", "timestamp without time zone", Some("pg_catalog"), "timestamp", false),
        ("time with ordinality", "time", Some("pg_catalog"), "time", false),
        ("timestamptz at time zone", "timestamptz", None, "timestamptz", false),
        ("double precision) + 1", "double precision", Some("pg_catalog"), "float8", false),
        ("float(24)", "float(24)", Some("pg_catalog"), "float4", false),
        ("float(25)", "float(25)", Some("pg_catalog"), "float8", false),
        ("numeric(10,2)[]", "numeric(10,2)[]", Some("pg_catalog"), "numeric", true),
        ("int[3][] x", "int[3][]", Some("pg_catalog"), "int4", true),
        ("int array[3] x", "int array[3]", Some("pg_catalog"), "int4", true),
        ("\"Q\".\"t\" x", "\"Q\".\"t\"", Some("Q"), "t", false),
        ("pg_catalog.int4 x", "pg_catalog.int4", Some("pg_catalog"), "int4", false),
        ("bit varying(3)", "bit varying(3)", Some("pg_catalog"), "varbit", false),
        ("interval day to second(3) x", "interval day to second(3)", Some("pg_catalog"), "interval", false),
        ("interval x", "interval", Some("pg_catalog"), "interval", false),
        ("text[i]", "text", None, "text", false),
        ("text[1:2]", "text", None, "text", false),
        ("uuid", "uuid", None, "uuid", false),
    ] {
        let tokens = lex(sql, 100).unwrap();
        let found = type_at(sql, &tokens, 0).unwrap();
        let is = (text(sql, &tokens, &found.range), found.schema.as_deref(), found.name.as_str(), found.array);
        assert_eq!(is, (reach, schema, name, array), "{sql}");
    }
    for sql in ["select", "1", "'x'", "(int)", ""] {
        assert_eq!(type_at(sql, &lex(sql, 100).unwrap(), 0), None, "{sql}");
    }
}

/// The first constant or parameter.
fn constant(tokens: &[Token]) -> usize {
    tokens.iter().position(|token| matches!(token.kind, TokenKind::String | TokenKind::Param(_))).unwrap()
}

#[test]
fn casts_are_found_from_inside_to_outside() {
    for (sql, reach, types) in [
        ("select $1::varchar, 2", "$1::varchar", vec!["varchar"]),
        ("select 'x'::text::varchar(3) from t", "'x'::text::varchar(3)", vec!["text", "varchar"]),
        ("select cast($1 as character varying(10))", "cast($1 as character varying(10))", vec!["varchar"]),
        ("select CAST('x'::text AS date)::text", "CAST('x'::text AS date)::text", vec!["text", "date", "text"]),
        ("select (($1))::int4", "(($1))::int4", vec!["int4"]),
        ("where a = ($1)::text", "($1)::text", vec!["text"]),
        ("where a = f($1)::text", "$1", vec![]),
        ("where a in ($1)", "$1", vec![]),
        ("values ($1)", "$1", vec![]),
        ("where a = any($1::text[])", "$1::text[]", vec!["text"]),
        ("select $1::\"q\".\"t\"[] x", "$1::\"q\".\"t\"[]", vec!["t"]),
        (
            "select 'x' :: timestamp with time zone at time zone 'y'",
            "'x' :: timestamp with time zone",
            vec!["timestamptz"],
        ),
        ("select - $1::int", "$1::int", vec!["int4"]),
        ("select ($1, 2)", "$1", vec![]),
        ("select (select $1)::text", "$1", vec![]),
        ("$1", "$1", vec![]),
        ("select xcast($1 as text)", "$1", vec![]),
        ("select not ($1)::bool", "($1)::bool", vec!["bool"]),
    ] {
        let tokens = lex(sql, 100).unwrap();
        let (range, found) = casts_around(sql, &tokens, constant(&tokens));
        let names: Vec<_> = found.iter().map(|name| name.name.as_str()).collect();
        assert_eq!((text(sql, &tokens, &range), names), (reach, types), "{sql}");
    }
}

#[test]
fn typed_constants() {
    for (sql, reach, name) in [
        ("select date '2020-01-01'", "date '2020-01-01'", "date"),
        ("where a = timestamp(3) with time zone 'x'", "timestamp(3) with time zone 'x'", "timestamptz"),
        ("where a like character varying 'x'", "character varying 'x'", "varchar"),
        ("values (1, double precision '1')", "double precision '1'", "float8"),
        ("select pg_catalog.date 'x'", "pg_catalog.date 'x'", "date"),
        ("select interval '1' day", "interval '1'", "interval"),
        ("date 'x'", "date 'x'", "date"),
    ] {
        let tokens = lex(sql, 100).unwrap();
        let found = typed_literal(sql, &tokens, constant(&tokens)).unwrap();
        assert_eq!((text(sql, &tokens, &found.range), found.to.name.as_str()), (reach, name), "{sql}");
    }
    for sql in ["select 'x'", "where a = 'x'", "where a like 'x'", "values ('x')"] {
        let tokens = lex(sql, 100).unwrap();
        assert_eq!(typed_literal(sql, &tokens, constant(&tokens)), None, "{sql}");
    }
}
