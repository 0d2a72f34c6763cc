//! A table with a column of every type that a lens could meet.

use tokio_postgres::Client;

use super::{column, rows, run};

/// Types of columns, and values that are hard on them.
pub(super) const COLUMNS: &[(&str, &[&str])] = &[
    ("text", &["", "a@b.c", "1985-07-23", "é\u{301}"]),
    ("text collate \"C\"", &["a@b.c"]),
    ("varchar", &["a@b.c"]),
    ("varchar(3)", &["", "a@b"]),
    ("varchar(37) collate \"POSIX\"", &["a@b"]),
    ("char(1)", &["", "x"]),
    ("char(40)", &["", " x  y "]),
    ("bpchar", &["a  "]),
    ("\"char\"", &["a"]),
    ("name", &["a"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric", &["NaN", "-Infinity", "Infinity", "-9e131071", "9e131071", "1e-16383"]),
    ("numeric(2,0)", &["-99", "99", "NaN"]),
    ("numeric(10,2)", &["-99999999.99", "99999999.99", "0.01"]),
    ("numeric(3,-2)", &["-99900", "99900"]),
    ("numeric(3,5)", &["-0.00999", "0.00999"]),
    ("float4", &["NaN", "Infinity", "3.4028235e38", "-3.4028235e38", "1e-45", "-0"]),
    ("float8", &["NaN", "-Infinity", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "-5e-324"]),
    ("bool", &["t", "f"]),
    ("date", &["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "0001-01-01", "9999-12-31"]),
    ("time", &["00:00", "24:00"]),
    ("time(3)", &["23:59:59.999"]),
    ("timetz", &["00:00+05"]),
    (
        "timestamp",
        &["infinity", "-infinity", "4714-11-24 00:00 BC", "294276-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"],
    ),
    ("timestamp(0)", &["infinity", "294276-12-31 23:59:59", "0001-01-01"]),
    ("timestamptz", &["infinity", "-infinity", "4714-11-24 00:00+00 BC", "294276-12-31 23:59:59.999999+00"]),
    ("timestamptz(3)", &["0001-01-01 00:00+00", "9999-12-31 23:59:59.999+00"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    ("json", &["{}"]),
    ("jsonb", &["[null]"]),
    ("bytea", &["\\x00ff", ""]),
    ("interval", &["178000000 years", "-1 us"]),
    ("interval day to second(3)", &["1 day"]),
    ("interval(0)", &["1 day"]),
    ("text[]", &["{a@b.c,NULL}"]),
    ("date[]", &["{infinity}"]),
    ("public.mood", &["glad"]),
    ("public.mood[]", &["{glad}"]),
    ("public.mail", &["a@b.cd"]),
    ("public.day", &["1985-07-23"]),
    ("public.pair", &["(1,x)"]),
    ("public.text", &["17"]),
    ("inet", &["127.0.0.1"]),
    ("money", &["1"]),
    ("bit(3)", &["101"]),
    ("varbit(3)", &["1"]),
    ("int4range", &["[1,2)"]),
    ("tsvector", &["a"]),
    ("point", &["(1,2)"]),
    ("oid", &["1"]),
    ("text collate public.any_case", &["Ann \\x@B.c 12345678901"]),
];

/// A table of all columns and one besides, `clear`; every value in a row with NULLs besides; the columns' names and types.
pub(super) async fn table_of_all(client: &Client) -> Vec<(String, String)> {
    // A server that was built without ICU has no collation that is not deterministic.
    let icu = column(client, "select count(*) > 0 from pg_collation where collname = 'und-x-icu'").await;
    let any_case = match icu[0].as_deref() {
        Some("t") => "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        _ => "from \"POSIX\"",
    };
    run(client, &format!("create collation public.any_case {any_case}")).await;
    run(
        client,
        "create type public.mood as enum ('sad', 'glad'); create type public.pair as (a int, b text collate \"C\"); \
         create domain public.mail as varchar(9) not null check (value like '%@%.__'); \
         create domain public.day as date check (value is not null); create domain public.text as int not null",
    )
    .await;
    run(client, "set search_path = pg_catalog").await;
    // Domains that refuse NULL: every row has their value.
    let full = |ty: &str| matches!(ty, "public.mail" | "public.day" | "public.text");
    let defined = |(i, (ty, values)): (usize, &(&str, &[&str]))| {
        let default = if full(ty) { format!(" default '{}'", values[0]) } else { String::new() };
        format!("\"Col {i}\" {ty}{default}")
    };
    let columns: Vec<String> = COLUMNS.iter().enumerate().map(defined).collect();
    run(client, &format!("create table public.v ({}, clear serial)", columns.join(", "))).await;
    run(client, "insert into public.v default values").await;
    for (i, (ty, values)) in COLUMNS.iter().enumerate() {
        for value in *values {
            run(client, &format!("insert into public.v (\"Col {i}\") values ('{value}')")).await;
        }
        assert!(!values.is_empty(), "{ty}");
    }
    let types = rows(
        client,
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'public.v'::regclass \
         and attnum > 0 and attname <> 'clear' order by attnum",
    )
    .await;
    types.into_iter().map(|mut row| (row[0].take().unwrap(), row[1].take().unwrap())).collect()
}
