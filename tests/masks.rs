//! The masks of lenses as SQL, against the real PostgreSQL: what the Rust masks give, for any value; of the column's own
//! type; without an error; whatever stands in the reader's search_path; keyed ones only through a lens.

mod columns;
mod keyed;

use std::sync::atomic::{AtomicU32, Ordering};

use pgveil::mask::sql::{expression as mask_expression, functions as mask_functions, key_table};
use pgveil::mask::{Mask, apply};
use pgveil::wire::types::{Format, Kind, SqlType, Style};
use pgveil::wire::value::{decode, encode};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{CANARY, Dice, PASSWORD, Site, cluster, connect};
use crate::values::SAMPLES;
use columns::{COLUMNS, table_of_all};

const STRINGS: usize = 6_000;
const ROWS: usize = 2_000;
const KEY: [u8; 32] = *b"a key of these tests of 32 bytes";

/// A database whose owner `pgveil` has installed the masks' functions.
async fn database() -> (String, Client) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("masks_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster().sql("postgres", &format!("create database {name} owner pgveil")).unwrap();
    let client = login("pgveil", &name).await;
    run(&client, "create schema pgveil; grant usage on schema pgveil to public").await;
    install(&client).await;
    (name, client)
}

async fn login(role: &str, database: &str) -> Client {
    let url = format!("postgresql://{role}:{PASSWORD}@127.0.0.1:{}/{database}", cluster().port());
    connect(&url).await.unwrap()
}

async fn install(client: &Client) {
    for statement in mask_functions() {
        run(client, &statement.sql).await;
    }
}

/// The key's table, with [`KEY`] in it, and its reader.
async fn install_key(client: &Client) {
    for statement in key_table() {
        run(client, &statement.sql).await;
    }
    let sound = "select octet_length(ipad) = 64 and octet_length(opad) = 64 and ipad <> opad \
                 and substr(ipad, 33) = decode(repeat('36', 32), 'hex') and substr(opad, 33) = decode(repeat('5c', 32), 'hex') \
                 and (select bool_and(get_byte(ipad, i) # 54 = get_byte(opad, i) # 92) from generate_series(0, 63) i) \
                 from pgveil.lens_key";
    assert_eq!(rows(client, sound).await, [[Some("t".to_owned())]], "two pads of one key that PostgreSQL drew");
    let second = "insert into pgveil.lens_key (ipad, opad) select ipad, opad from pgveil.lens_key";
    assert!(client.batch_execute(second).await.is_err(), "one row and no other");
    let [ipad, opad] = [0x36, 0x5c].map(|pad| {
        let mut block = vec![pad; 64];
        block.iter_mut().zip(KEY).for_each(|(byte, key)| *byte ^= key);
        block
    });
    let changed = client.execute("update pgveil.lens_key set ipad = $1, opad = $2", &[&ipad, &opad]).await.unwrap();
    assert_eq!(changed, 1);
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

/// Rows of text.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

async fn column(client: &Client, sql: &str) -> Vec<Option<String>> {
    rows(client, sql).await.into_iter().map(|mut row| row.swap_remove(0)).collect()
}

fn text_masks() -> Vec<Mask> {
    vec![
        Mask::Email,
        Mask::Phone,
        Mask::Name,
        Mask::Date,
        Mask::DateHidden,
        Mask::Last4,
        Mask::Partial { keep_start: 2, keep_end: 1 },
        Mask::Partial { keep_start: 0, keep_end: 0 },
        Mask::Partial { keep_start: u16::MAX, keep_end: u16::MAX },
        Mask::Fixed("it's $1 — \\ hidden".into()),
        Mask::Null,
        Mask::Remove,
        Mask::Year,
        Mask::Bucket(10.try_into().unwrap()),
        Mask::Noise(10.try_into().unwrap()),
    ]
}

fn general_masks() -> Vec<Mask> {
    let mut all = vec![Mask::Year, Mask::Month, Mask::Decade];
    all.extend([1, 2, 10, 700, u32::MAX].map(|size| Mask::Bucket(size.try_into().unwrap())));
    all
}

fn every_mask() -> Vec<Mask> {
    let mut all = [text_masks(), general_masks()].concat();
    all.extend([1, 30, u32::MAX].map(|size| Mask::Noise(size.try_into().unwrap())));
    all.extend(["17", "1999-12-31", "true", "{}", "-1 day", "12:30"].map(|text| Mask::Fixed(text.into())));
    all.push(Mask::Id);
    all
}

/// What SQL makes of texts, in one query.
async fn masked_texts(client: &Client, mask: &Mask, texts: &[String]) -> Vec<Option<String>> {
    let expression = mask_expression(mask, "text", "v", "s.t.c");
    let sql = format!("select {expression} from unnest($1::text[]) with ordinality as t (v, n) order by n");
    let rows = client.query(&sql, &[&texts]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_founding_documents_formats_in_sql() {
    let (_, client) = database().await;
    let mut seen = 0;
    for line in include_str!("vectors/masks.tsv").lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let cells: Vec<&str> = line.split('\t').collect();
        let text = |cell: &str| if cell == "\"\"" { String::new() } else { cell.to_owned() };
        let mask = match cells[0] {
            "email" => Mask::Email,
            "phone" => Mask::Phone,
            "name" => Mask::Name,
            "date" => Mask::Date,
            "date_hidden" => Mask::DateHidden,
            other => panic!("no mask {other}"),
        };
        assert_eq!(masked_texts(&client, &mask, &[text(cells[1])]).await, [Some(text(cells[2]))], "{line}");
        seen += 1;
    }
    assert_eq!(seen, 35);
}

/// Pieces that decide something in one of the masks, and every space of Unicode with its neighbours.
fn random_text(dice: &mut Dice) -> String {
    const PIECES: &[&str] = &[
        "@",
        ".",
        "-",
        ":",
        "T",
        "Z",
        "+",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u{b}",
        "\u{1c}",
        "\u{85}",
        "\u{a0}",
        "\u{1680}",
        "\u{180e}",
        "\u{2000}",
        "\u{200a}",
        "\u{200b}",
        "\u{2028}",
        "\u{202f}",
        "\u{205f}",
        "\u{3000}",
        "\u{feff}",
        "é",
        "e\u{301}",
        "李",
        "👩‍👧",
        "ß",
        "İ",
        "٣",
        "２",
        "%",
        "\\",
        "'",
        "\"",
        "$1",
        "||",
        "*",
        "a",
        "Z",
        "ann",
        "x@y.com",
        "+49 30",
        "1985-07-23",
        "20240229",
        "1900-02-29",
        "12:30",
        "T24:00",
        ".5",
        "+05:30",
        "0000",
        "\u{1}",
        "\u{10ffff}",
    ];
    let length = if dice.one_in(100) { 3_000 } else { dice.below(14) };
    let mut text = String::new();
    for _ in 0..length {
        match dice.below(4) {
            0 => text.push(char::from(b'0' + u8::try_from(dice.below(10)).unwrap())),
            1 => text.push(char::from_u32(1 + u32::try_from(dice.below(0xd000)).unwrap()).unwrap_or('x')),
            _ => text.push_str(dice.of(PIECES)),
        }
    }
    text
}

/// Nearly a date, or a date and time.
fn random_date(dice: &mut Dice) -> String {
    let dash = dice.of(&["-", "-", "", "/"]);
    let year = dice.of(&[0, 1, 1600, 1900, 1985, 2000, 2023, 2024, 9999]);
    let (month, day) = (dice.below(14), dice.below(34));
    let mut text = format!("{year:04}{dash}{month:02}{dash}{day:02}");
    if dice.one_in(2) {
        text.push_str(dice.of(&["T", " ", "t", "  "]));
        let fields = [dice.below(26), dice.below(62), dice.below(62)].map(|n| format!("{n:02}"));
        text.push_str(&fields[..dice.below(4)].join(dice.of(&[":", ":", ":", ""])));
        text.push_str(dice.of(&["", "", ".5", ".", ".123456789", ",5"]));
        text.push_str(dice.of(&["", "", "Z", "+00", "-05:30", "+0530", "+05:30:15", " UTC", " BC", "+24", "z", "\n"]));
    }
    text
}

#[tokio::test]
async fn sql_masks_any_text_as_rust_does() {
    let (_, client) = database().await;
    let mut dice = Dice(0x6d61_736b);
    let mut texts: Vec<String> = (0..STRINGS).map(|_| random_text(&mut dice)).collect();
    texts.extend((0..STRINGS).map(|_| random_date(&mut dice)));
    texts.extend((1..0x3100).filter_map(char::from_u32).map(|c| format!("a{c}b@c.{c}")));
    texts.push(String::new());
    for mask in text_masks() {
        let sql = masked_texts(&client, &mask, &texts).await;
        assert_eq!(sql.len(), texts.len());
        for (text, sql) in texts.iter().zip(sql) {
            assert_eq!(sql, apply(&mask, Kind::Text, text), "{mask:?} of {text:?}");
        }
    }
    let shown = texts.iter().filter(|t| apply(&Mask::Date, Kind::Text, t) != apply(&Mask::DateHidden, Kind::Text, t));
    assert!(shown.count() > STRINGS / 20, "the dates are too seldom dates");
}

/// Values at the ends of the types.
fn extremes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Int2 => &["-32768", "-32767", "32767", "0", "-1"],
        Kind::Int4 => &["-2147483648", "-2147483600", "2147483647", "0"],
        Kind::Int8 => &["-9223372036854775808", "-9223372036854775807", "9223372036854775807", "0", "-700", "-699"],
        Kind::Numeric => {
            &["NaN", "0", "-0.001", "9.99999999999999999999999999999999999999", "-700", "-700.0001", "1e-300"]
        }
        Kind::Float4 => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "3.4028235e38",
            "-3.4028235e38",
            "1e-45",
            "-1e-45",
            "-0",
            "-1",
            "16777217",
        ],
        Kind::Float8 => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "1.7976931348623157e308",
            "-1.7976931348623157e308",
            "5e-324",
            "-5e-324",
            "-0",
            "9007199254740991",
            "-9007199254740991",
            "9007199254740992",
            "-1",
            "1",
            "0.9999999999999999",
        ],
        Kind::Date => &[
            "infinity",
            "-infinity",
            "4714-11-24 BC",
            "0001-12-31 BC",
            "0001-01-01",
            "0009-12-31",
            "0010-01-01",
            "9999-12-31",
            "5874897-12-31",
        ],
        Kind::Timestamp | Kind::Timestamptz => &[
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00+00 BC",
            "0001-12-31 23:59:59.999999+00 BC",
            "0001-01-01 00:00:00+00",
            "0009-12-31 23:59:59+00",
            "0010-01-01 00:00:00+00",
            "9999-12-31 23:59:59.999999+00",
            "294276-12-31 23:59:59.999999+00",
            "2023-12-31 23:30:00-01",
            "2024-01-01 00:30:00+01",
        ],
        _ => &[],
    }
}

/// What the Rust mask gives, as the column's type shows it.
fn expected(mask: &Mask, ty: SqlType, text: &str) -> Option<String> {
    let masked = apply(mask, ty.kind, text)?;
    let (mut plain, mut shown) = (Vec::new(), Vec::new());
    decode(ty, Format::Text, masked.as_bytes(), &Style::default(), &mut plain).ok()?;
    encode(ty, &plain, Format::Text, &Style::default(), &mut shown).unwrap();
    Some(String::from_utf8(shown).unwrap())
}

#[tokio::test]
async fn sql_generalises_any_value_as_rust_does() {
    let (_, client) = database().await;
    run(&client, "set timezone = 'America/New_York'; set datestyle = 'SQL, DMY'; select setseed(0.25)").await;
    let more = [
        ("numeric(4,0)", "(random() - 0.5)::numeric * 19998"),
        ("numeric(3,-2)", "(random() - 0.5)::numeric * 199800"),
        ("numeric(3,5)", "(random() - 0.5)::numeric * 0.01998"),
        ("timestamp(0)", "timestamp '2000-01-01' + interval '1 day' * (random() - 0.5) * 20000"),
    ];
    for (name, sample) in SAMPLES.iter().chain(&more) {
        let ty = SqlType::parse(name).unwrap();
        let table =
            format!("create temp table v as select ({sample})::{name} as \"a - b\" from generate_series(1, {ROWS}) g");
        run(&client, &format!("drop table if exists v; {table}")).await;
        if ty.typmod == -1 {
            for extreme in extremes(ty.kind) {
                run(&client, &format!("insert into v values ('{extreme}'::{name})")).await;
            }
            if ty.kind == Kind::Numeric {
                run(&client, "insert into v select s * (10::numeric ^ e - 1) from (values (1), (-1)) a (s), (values (131070), (131071)) b (e)").await;
                run(&client, "insert into v select s * repeat('9', 131072)::numeric from (values (1), (-1)) a (s)")
                    .await;
            }
        }
        let fixed = ["17", "1999-12-31", "true", "{}", "-1 day", "12:30"].map(|text| Mask::Fixed(text.into()));
        let masks = [general_masks(), fixed.into()].concat();
        let expression = |mask| mask_expression(mask, name, "\"a - b\"", "s.t.c");
        let masked: Vec<String> = masks.iter().map(expression).collect();
        run(&client, &format!("create or replace temp view l as select \"a - b\", {} from v", names(&masked))).await;
        run(&client, "set timezone = 'UTC'; set datestyle = 'ISO'").await;
        let mut some = 0;
        for row in rows(&client, "select * from l").await {
            let Some(text) = &row[0] else { continue };
            for (mask, sql) in masks.iter().zip(&row[1..]) {
                assert_eq!(*sql, expected(mask, ty, text), "{mask:?} of {name} {}", &text[..text.len().min(80)]);
                some += usize::from(sql.is_some() && !matches!(mask, Mask::Fixed(_)));
            }
        }
        let general = matches!(ty.kind, Kind::Date | Kind::Timestamp | Kind::Timestamptz | Kind::Numeric)
            || name.starts_with("int") && ty.kind != Kind::Interval
            || name.starts_with("float");
        assert_eq!(some > ROWS / 2, general, "{name}: {some} values");
        run(&client, "drop view l; set timezone = 'America/New_York'; set datestyle = 'SQL, DMY'").await;
    }
}

/// `expression as c0, …`
fn names(expressions: &[String]) -> String {
    let named = expressions.iter().enumerate().map(|(i, e)| format!("{e} as c{i}"));
    named.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_lens_has_its_columns_types_and_never_fails() {
    let (_, client) = database().await;
    install_key(&client).await;
    let columns = table_of_all(&client).await;
    assert_eq!(columns.len(), COLUMNS.len());
    let shape = |relation: &str| {
        format!(
            "select attname || ': ' || format_type(atttypid, atttypmod) || ' ' || attcollation::regcollation \
             from pg_attribute where attrelid = '{relation}'::regclass and attnum > 0 order by attnum"
        )
    };
    let base = column(&client, &shape("public.v")).await;
    for (i, mask) in every_mask().iter().enumerate() {
        let masked: Vec<String> = columns
            .iter()
            .map(|(name, ty)| {
                let full = format!("public.v.{name}");
                format!("{} as \"{name}\"", mask_expression(mask, ty, &format!("\"{name}\""), &full))
            })
            .collect();
        let view = format!("public.l{i}");
        let sql = format!(
            "create view {view} with (security_barrier) as select {}, clear from public.v",
            masked.join(",\n ")
        );
        run(&client, &sql).await;
        assert_eq!(column(&client, &shape(&view)).await, base, "{mask:?}");
        let all = rows(&client, &format!("select * from {view} order by clear")).await;
        assert_eq!(all.len(), 1 + COLUMNS.iter().map(|(_, values)| values.len()).sum::<usize>());
        assert!(
            all[0][..COLUMNS.len()].iter().all(Option::is_none),
            "NULL stays NULL, and domains are: {mask:?} {:?}",
            all[0]
        );
        // Filters, joins and sorting find one collation.
        run(
            &client,
            &format!("select 1 from {view} l join public.v v using (\"Col 1\", \"Col 4\") order by l.\"Col 1\""),
        )
        .await;
        // What is not masked can be written, and nothing else.
        run(&client, &format!("update {view} set clear = clear")).await;
        let written = client.batch_execute(&format!("update {view} set \"Col 0\" = 'x'")).await.unwrap_err();
        assert_eq!(written.code().unwrap().code(), "0A000", "{mask:?}: {written:?}");
    }
}

#[tokio::test]
async fn masks_are_written_into_the_query() {
    let (_, client) = database().await;
    install_key(&client).await;
    let flags = "select count(*), count(*) filter (where provolatile = 'i' and proparallel = 's' and not prosecdef \
                 and proconfig is null and not proretset and prolang = (select oid from pg_language where lanname = 'sql') \
                 and prosqlbody is not null) from pg_proc where pronamespace = 'pgveil'::regnamespace";
    let counts = &rows(&client, flags).await[0];
    assert_eq!(counts[0], counts[1]);
    assert_eq!(counts[0].as_deref(), Some(&*(mask_functions().len() - 1).to_string()));
    let columns = table_of_all(&client).await;
    let mut calls = 0;
    for mask in every_mask() {
        for (name, ty) in &columns {
            let expression = mask_expression(&mask, ty, &format!("v.\"{name}\""), "public.v.c");
            calls += usize::from(expression.contains("pgveil.mask_"));
            run(
                &client,
                &format!("create view public.l with (security_barrier) as select {expression} as c from public.v"),
            )
            .await;
            let plan = column(&client, "explain (verbose, costs off) select c from public.l where c is not null").await;
            assert!(!plan.iter().flatten().any(|line| line.contains("mask_")), "{mask:?} of {ty}: {plan:#?}");
            run(&client, "drop view public.l").await;
        }
    }
    assert!(calls > 100, "{calls} calls");
}

#[tokio::test]
async fn called_by_hand_no_mask_fails() {
    let (_, client) = database().await;
    for bad in [
        "partial('abc', -1, 2147483647)",
        "partial('abc', 2147483647, -2147483648)",
        "partial('abc', null, 1)",
        "bucket(1::smallint, 0)",
        "bucket((-32768)::smallint, -9223372036854775808)",
        "bucket(-9223372036854775808, 9223372036854775807)",
        "bucket(1::numeric, 0, 1)",
        "bucket(1::float8, 0)",
        "bucket(null::int, 10)",
        "email(null)",
        "phone(null)",
        "name(null)",
        "date(null::text)",
        "date_hidden(null)",
        "year(null::date)",
    ] {
        assert_eq!(column(&client, &format!("select pgveil.mask_{bad}")).await, [None], "{bad}");
    }
    assert_eq!(
        column(&client, "select pgveil.mask_partial('abc', 2147483647, 2147483647)").await,
        [Some("***".into())]
    );
}

/// Functions, operators and types of public that fail, each a better match than PostgreSQL's own under `public` first.
const HOSTILE: &str = r#"
create function public.trap_text(text, text) returns text language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.trap_bool(text, text) returns bool language plpgsql immutable as $$begin raise 'trap'; end$$;
create operator public.|| (leftarg = text, rightarg = text, function = public.trap_text);
create operator public.~ (leftarg = text, rightarg = text, function = public.trap_bool);
create operator public.= (leftarg = text, rightarg = text, function = public.trap_bool);
create function public.trap_int(int, int) returns int language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.trap_order(int, int) returns bool language plpgsql immutable as $$begin raise 'trap'; end$$;
create operator public.+ (leftarg = int, rightarg = int, function = public.trap_int);
create operator public.- (leftarg = int, rightarg = int, function = public.trap_int);
create operator public.> (leftarg = int, rightarg = int, function = public.trap_order);
create operator public.>= (leftarg = int, rightarg = int, function = public.trap_order);
create function public.left(text, int) returns text language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.right(text, int) returns text language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.repeat(text, int) returns text language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.strpos(text, text) returns int language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.substr(text, int) returns text language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.char_length(text) returns int language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.sha256(bytea) returns bytea language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.date_trunc(text, timestamp) returns timestamp language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.timezone(text, timestamp) returns timestamptz language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.make_date(int, int, int) returns date language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.abs(numeric) returns numeric language plpgsql immutable as $$begin raise 'trap'; end$$;
create function public.mask_email(text) returns text language plpgsql immutable as $$begin raise 'trap'; end$$;
create domain public.date as int; create domain public.uuid as int; create domain public.bytea as int;
create domain public.text as int;
create table public.lens_key (ipad pg_catalog.bytea, opad pg_catalog.bytea);
"#;

#[tokio::test]
async fn what_is_planted_in_public_changes_nothing() {
    let (_, client) = database().await;
    install_key(&client).await;
    run(
        &client,
        "create table public.v (t text, u uuid, d date, z timestamptz, i int, n numeric(10,2), f float8); insert into public.v \
         values ('john.doe@example.com', gen_random_uuid(), '1985-07-23', '1985-07-23 10:20:30Z', 4711, 12.34, -5.5)",
    )
    .await;
    let kinds = ["text", "uuid", "date", "timestamp with time zone", "integer", "numeric(10,2)", "double precision"];
    let create = |name: &str| {
        let mut expressions = Vec::new();
        for mask in every_mask() {
            for (column, ty) in "tudzinf".chars().zip(kinds) {
                expressions.push(mask_expression(&mask, ty, &column.to_string(), "public.v.c"));
            }
        }
        format!("create view public.{name} as select {} from public.v", names(&expressions))
    };
    run(&client, &create("before")).await;
    let before = rows(&client, "select * from public.before").await;
    run(&client, HOSTILE).await;
    run(&client, "set search_path = public, pg_catalog").await;
    assert!(
        client.simple_query("select 'a'::pg_catalog.text || 'b'::pg_catalog.text").await.is_err(),
        "the trap is set"
    );
    assert_eq!(rows(&client, "select * from public.before").await, before);
    // Made again where the traps stand: functions and lens alike.
    install(&client).await;
    run(&client, &create("behind")).await;
    assert_eq!(rows(&client, "select * from public.behind").await, before);
    assert_eq!(rows(&client, "select * from public.before").await, before);
    assert!(before[0].iter().flatten().count() > 40, "{before:?}");
}

#[tokio::test]
async fn sealed_columns_are_generalised_by_the_proxy() {
    let site = Site::new("coarse")
        .schema(
            "create table public.people (id int primary key, born date, age int, seen timestamptz, paid numeric(9,2), \
             alias varchar(40))",
        )
        .policy(
            r#"version = 1
[tables."public.people".columns]
id = { level = "public" }
born = { level = "restricted", encrypt = "randomized", mask = "decade" }
age = { level = "restricted", encrypt = "randomized", mask = "bucket:10" }
seen = { level = "restricted", encrypt = "randomized", mask = "month" }
paid = { level = "restricted", encrypt = "randomized", mask = "bucket:50" }
alias = { level = "restricted", encrypt = "randomized", mask = "pseudonym" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "public"
"#,
        )
        .start();
    let app = site.client("app").await;
    for (id, rest) in [
        (1, "'1985-07-23', 47, '2024-03-31 23:30:00-01', 1234.56"),
        (2, "'0085-07-23 BC', -1, 'infinity', 'NaN'"),
        (3, "null, null, null, null"),
    ] {
        run(&app, &format!("insert into people values ({id}, {rest}, '{CANARY}')")).await;
    }
    let analyst = site.client("analyst").await;
    run(&analyst, "set timezone = 'UTC'").await;
    let shown = rows(&analyst, "select born, age, seen, paid from people order by id").await;
    let shown: Vec<String> =
        shown.iter().map(|row| row.iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(shown, ["1980-01-01 40 2024-04-01 00:00:00+00 1200.00", "- -10 - -", "- - - -"]);
    let binary = analyst.query("select age, alias from people order by id", &[]).await.unwrap();
    assert_eq!(binary[0].get::<_, i32>(0), 40);
    assert!(binary[0].get::<_, &str>(1).starts_with("anon_"));
    assert_eq!(binary[0].get::<_, &str>(1), binary[1].get::<_, &str>(1));
}
