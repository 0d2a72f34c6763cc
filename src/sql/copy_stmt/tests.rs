use super::*;
use crate::sql::lex;

fn of(sql: &str) -> Option<Copy> {
    let tokens = lex(sql, 1000).unwrap();
    copy(sql, &tokens, 0..tokens.len())
}

fn list(names: &[&str]) -> Columns {
    Columns::List(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn sources_directions_and_targets() {
    let read = of("COPY Public.\"Users\" (id, \"E\") FROM STDIN").unwrap();
    assert_eq!(
        read.source,
        Source::Relation {
            name: vec!["public".into(), "Users".into()],
            tokens: 1..4,
            columns: Some(vec!["id".into(), "E".into()]),
            extent: 1..9,
        }
    );
    assert_eq!((read.direction, read.target), (Direction::From, Target::Client));
    let read = of("copy (select 1, (2)) to '/tmp/x' with csv").unwrap();
    assert_eq!(read.source, Source::Query(2..8));
    assert_eq!((read.direction, read.target), (Direction::To, Target::File));
    let read = of("copy t from program 'cat' where a > 1 and b = 'x'").unwrap();
    assert_eq!((read.target, read.filter), (Target::Program, Some(6..13)));
    assert_eq!(of("copy t to stdin").unwrap().target, Target::Client);
    assert_eq!(of("copy binary t to stdout").unwrap().options.format, CopyFormat::Binary);
    assert!(matches!(of("copy binary.t to stdout").unwrap().source, Source::Relation { name, .. } if name.len() == 2));
}

#[test]
fn defaults_follow_the_format() {
    let text = of("copy t to stdout").unwrap().options;
    assert_eq!((text.delimiter.as_str(), text.null.as_str(), text.header), ("\t", "\\N", Header::Off));
    let csv = of("copy t to stdout (format csv, quote '''')").unwrap().options;
    assert_eq!((csv.delimiter.as_str(), csv.null.as_str()), (",", ""));
    assert_eq!((csv.quote.as_str(), csv.escape.as_str()), ("'", "'"));
    assert_eq!(csv.force_quote, Columns::None);
}

#[test]
fn options_in_parentheses() {
    let sql = "copy t to stdout with (FORMAT 'csv', DELIMITER E'\\t', NULL 'x', HEADER match, QUOTE '|', ESCAPE '\\', \
               FORCE_QUOTE (a, \"B\"), FORCE_NOT_NULL (c), FORCE_NULL (d), ENCODING 'UTF8', FREEZE off, DEFAULT '\\D')";
    let options = of(sql).unwrap().options;
    assert_eq!(
        options,
        Options {
            format: CopyFormat::Csv,
            delimiter: "\t".into(),
            null: "x".into(),
            header: Header::Match,
            quote: "|".into(),
            escape: "\\".into(),
            force_quote: list(&["a", "B"]),
            force_not_null: list(&["c"]),
            force_null: list(&["d"]),
            encoding: Some("UTF8".into()),
            freeze: false,
            default: Some("\\D".into()),
            other: vec![],
        }
    );
    for (sql, header) in [
        ("copy t to stdout (header)", Header::On),
        ("copy t to stdout (header 1)", Header::On),
        ("copy t to stdout (header 'ON')", Header::On),
        ("copy t to stdout (header false)", Header::Off),
        ("copy t to stdout (header 'MATCH')", Header::Match),
    ] {
        assert_eq!(of(sql).unwrap().options.header, header, "{sql}");
    }
    assert_eq!(of("copy t to stdout (force_quote *)").unwrap().options.force_quote, Columns::All);
}

#[test]
fn options_without_parentheses() {
    let sql = "copy t (a, b) to stdout with csv header delimiter as ';' null 'n' quote '\"' escape as '~' force quote a, b \
               encoding 'latin1'";
    let options = of(sql).unwrap().options;
    assert_eq!((options.format, options.header), (CopyFormat::Csv, Header::On));
    assert_eq!((options.delimiter.as_str(), options.null.as_str(), options.escape.as_str()), (";", "n", "~"));
    assert_eq!((options.force_quote, options.encoding), (list(&["a", "b"]), Some("latin1".into())));
    let options = of("copy t from stdin csv force not null a, b force null c where x").unwrap().options;
    assert_eq!((options.force_not_null, options.force_null), (list(&["a", "b"]), list(&["c"])));
    assert_eq!(of("copy t from stdin using delimiters ';'").unwrap().options.delimiter, ";");
    assert!(of("copy t from stdin freeze").unwrap().options.freeze);
}

#[test]
fn unknown_options_are_named() {
    let other = |sql: &str| of(sql).unwrap().options.other;
    assert_eq!(
        other("copy t from stdin (on_error ignore, log_verbosity verbose, reject_limit 3, format csv)"),
        ["on_error", "reject_limit"]
    );
    assert_eq!(other("copy t from stdin (on_error stop, log_verbosity default)"), <[&str; 0]>::default());
    assert_eq!(other("copy t from stdin (on_error 'set_null')"), ["on_error"]);
    assert_eq!(
        other("copy t from stdin (format 'CSV', header maybe, force_quote a)"),
        ["format", "header", "force_quote"]
    );
}

#[test]
fn what_postgresql_refuses_is_no_copy() {
    for sql in [
        "copy",
        "copy t",
        "copy t to",
        "copy t from x",
        "copy (select 1) from stdin",
        "copy (select 1 to stdout",
        "copy t to stdout where a",
        "copy t to stdout csv bogus",
        "copy t to stdout (format csv",
        "copy t to stdout (format csv) bogus",
        "copy t () to stdout",
        "copy t to stdout ()",
        "select 1",
    ] {
        assert_eq!(of(sql), None, "{sql}");
    }
}
