//! Random values of every type through pgveil: text and binary, COPY and rows, arrays, type modifiers and equality are
//! byte for byte those of an unsealed twin, under random settings. `PGVEIL_TEST_VALUES` says how many of each type.

use std::time::Duration;

use crate::support::{Pair, Site, Wire, frame, shown};
use crate::values::SAMPLES;

const VALUES: usize = 300;

/// Types whose modifiers change or refuse values, and an expression over `g` that makes their texts.
const MODIFIED: &[(&str, &str)] = &[
    ("varchar(5)", "repeat(chr(97 + g % 3), g % 8) || repeat(' ', g % 4)"),
    ("numeric(6,2)", "((random() - 0.5) * 10 ^ (random() * 6))::numeric::text"),
    ("numeric(3,-2)", "((random() - 0.5) * 10 ^ (random() * 7))::numeric::text"),
    ("numeric(5,5)", "((random() - 0.5) * 10 ^ (random() * 2 - 1))::numeric::text"),
    ("timestamp(3)", "(timestamp '1999-12-31 23:59:59' + random() * interval '2 s')::text"),
    ("timestamptz(0)", "(timestamptz '1999-12-31 23:59:59Z' + random() * interval '2 s')::text"),
    ("time(2)", "(time '12:00' + random() * interval '10 s')::text"),
    ("interval(1)", "(random() * interval '3 days')::text"),
];

/// Types sealed so that they can be compared; values that often meet, spelled in more than one way, over `g`; and random
/// ones `r`, in the spelling `s` of seven.
const COMPARED: &[(&str, &str, &str)] = &[
    (
        "varchar(20)",
        "substr('Straße', 1, 4 + g % 3) || repeat(' ', g % 2) || case when g % 5 = 0 then '' else 'a' end",
        "translate(r::text, '0123456789', 'aAäßéE %_x') || repeat(' ', s % 3)",
    ),
    ("int2", "(g % 17 - 8)::text", INTEGER),
    ("int4", "repeat(' ', g % 3) || (g % 17 - 8)", INTEGER),
    ("int8", "case when g % 2 = 0 then '0' else '' end || g % 17", INTEGER),
    (
        "numeric(12,3)",
        "(array['1', '1.0', '1.000', '1e0', '-0', '0.0', '0', 'NaN', 'nan', '0.5', '.5', '5e-1', '0.5004'])[1 + g % 13]",
        "case when r % 37 = 0 then 'NaN' else (array[(r / 8.0)::text, round(r / 8.0, 6)::text, (r * 125) || 'e-3',
          round(r / 80.0, 9) || 'E1', (r / 8.0 + 0.0004)::text, ltrim((r / 8.0)::text, '0') || '0', '+' || r / 8.0])[1 + s] end",
    ),
    ("bool", "(array['t', 'true', 'on', '1', 'f', 'no', '0'])[1 + g % 7]", "(array['T', 'yes', 'of', 'FALSE', 'n', 'y', ' 1 '])[1 + s]"),
    (
        "date",
        "(array['2020-02-29', '20200229', 'Feb 29 2020', 'infinity', '-infinity', '0044-03-15 BC', '2020-03-01'])[1 + g % 7]",
        "to_char(date '0001-12-30 BC' + r * 400, (array['YYYY-MM-DD BC', 'Mon DD, YYYY AD', 'DD FMMonth YYYY BC', '\"J\"J',
          'YYYY.DDD BC', 'MM/DD/YYYY AD', 'FMDay DD Mon YYYY BC'])[1 + s])",
    ),
    (
        "time",
        "(array['10:00', '10:00:00.0', '10:00 AM', '100000', '24:00', '00:00', '22:00'])[1 + g % 7]",
        "to_char(time '00:00' + r * interval '31.25 s', (array['HH24:MI:SS.US', 'HH12:MI:SS.MS AM', 'HH24MISS.US',
          '\"T\"HH24:MI:SS.US', 'HH12:MI:SS.US PM', 'HH24:MI:SS.US\"0004\"', 'FMHH24:MI:SS.MS'])[1 + s])",
    ),
    (
        "timestamp",
        "(array['2020-02-29', '2020-02-29 00:00:00', '20200229T000000', 'infinity', '2020-02-29 00:00:00.000001'])[1 + g % 5]",
        "to_char(timestamp '1999-12-31 23:55' + r * interval '0.5 s', (array['YYYY-MM-DD HH24:MI:SS.US', 'YYYYMMDD\"T\"HH24MISS.US',
          'Mon DD HH24:MI:SS.MS YYYY', 'YYYY-MM-DD HH12:MI:SS.MS AM', 'DD FMMonth YYYY HH24:MI:SS.US', 'YYYY.DDD HH24:MI:SS.MS',
          'YYYY-MM-DD HH24:MI:SS.US\"0004\"'])[1 + s])",
    ),
    (
        "timestamptz",
        "(array['2020-02-29 12:00+02', '2020-02-29 10:00Z', '2020-02-29 10:00:00+00', '-infinity', '2020-02-29 12:00'])[1 + g % 5]",
        "to_char(timestamp '2019-10-27 00:30' + r * interval '450 s' + (array[330, -210, 0, 60, 0, 845, -480])[1 + s] * interval '1 min',
          'YYYY-MM-DD HH24:MI:SS.US') || (array['+05:30', ' -0330', 'Z', ' CET', ' UTC', '+14:05', ' PST'])[1 + s]",
    ),
    (
        "uuid",
        "(array['6ba7b810-9dad-11d1-80b4-00c04fd430c8', '{6BA7B8109DAD11D180B400C04FD430C8}', '00000000-0000-0000-0000-000000000001'])[1 + g % 3]",
        "(array[md5(r::text), md5(r::text)::uuid::text, '{' || upper(md5(r::text)) || '}', upper(md5(r::text)::uuid::text),
          regexp_replace(md5(r::text), '(....)(?=.)', '\\1-', 'g'), '{' || md5(r::text)::uuid || '}', md5(r::text)])[1 + s]",
    ),
];

const INTEGER: &str = "(array[r::text, ' ' || r, r || '  ', '000' || r, '+' || r, '-' || r, ' -0' || r])[1 + s]";

const STYLES: &[&[&str]] = &[
    &[
        "datestyle = 'ISO, MDY'",
        "datestyle = 'ISO, DMY'",
        "datestyle = 'SQL, DMY'",
        "datestyle = 'SQL, MDY'",
        "datestyle = 'Postgres, MDY'",
        "datestyle = 'Postgres, DMY'",
        "datestyle = 'German'",
        "datestyle = 'ISO, YMD'",
    ],
    &[
        "intervalstyle = postgres",
        "intervalstyle = postgres_verbose",
        "intervalstyle = sql_standard",
        "intervalstyle = iso_8601",
    ],
    &[
        "timezone = 'UTC'",
        "timezone = 'Europe/Berlin'",
        "timezone = 'America/New_York'",
        "timezone = 'Asia/Kolkata'",
        "timezone = 'Australia/Lord_Howe'",
    ],
    &["bytea_output = hex", "bytea_output = escape"],
    &[
        "extra_float_digits = 1",
        "extra_float_digits = 3",
        "extra_float_digits = 0",
        "extra_float_digits = -3",
        "extra_float_digits = -15",
    ],
];

fn count() -> usize {
    std::env::var("PGVEIL_TEST_VALUES").map_or(VALUES, |text| text.parse().expect("a number"))
}

/// Of the three tables' columns.
fn types() -> [Vec<&'static str>; 3] {
    [
        SAMPLES.iter().map(|(name, _)| *name).collect(),
        MODIFIED.iter().map(|(name, _)| *name).collect(),
        COMPARED.iter().map(|(name, ..)| *name).collect(),
    ]
}

fn tables() -> String {
    let columns = |types: &[&str]| {
        let columns = types.iter().enumerate().map(|(at, name)| format!("c{at} {name}"));
        columns.collect::<Vec<_>>().join(", ")
    };
    let [samples, modified, compared] = types();
    format!(
        "create table samples (id int primary key, {}); create table modified (id int primary key, {});
         create table compared (id int primary key, {});",
        columns(&samples),
        columns(&modified),
        columns(&compared)
    )
}

fn policy() -> String {
    let [samples, modified, compared] = types();
    let mut out = "version = 1\ndefault_level = \"internal\"\n[roles.app]\nclearance = \"restricted\"\n".to_owned();
    for (table, types, mode) in [
        ("samples", samples, "\"randomized\""),
        ("modified", modified, "\"randomized\""),
        ("compared", compared, "\"deterministic\", accept_leakage = [\"equality\"]"),
    ] {
        out += &format!("[tables.\"public.{table}\".columns]\n");
        for (at, name) in types.iter().enumerate() {
            out += &format!("c{at} = {{ level = \"restricted\", as = \"{name}\", encrypt = {mode} }}\n");
        }
    }
    out
}

fn pair(name: &str) -> Pair {
    Pair::start(Site::new(name).policy(&policy()).audit("durability = \"async\""), &tables())
}

/// What one end says to a query.
fn asked(wire: &mut Wire, sql: &str) -> Vec<String> {
    wire.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    wire.until_ready().iter().map(shown).collect()
}

/// The rows of one column's text, from the twin.
fn column(wire: &mut Wire, sql: &str) -> Vec<String> {
    wire.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    let rows = wire.until_ready();
    let cell = |body: &[u8]| String::from_utf8(body[6..].to_vec()).expect("text");
    assert!(rows.iter().all(|frame| frame.tag != b'E'), "{sql}: {rows:?}");
    rows.iter().filter(|frame| frame.tag == b'D').map(|frame| cell(&frame.body)).collect()
}

fn dumped(wire: &mut Wire, sql: &str) -> Vec<u8> {
    wire.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    let frames = wire.until_ready();
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{sql}: {frames:?}");
    frames.into_iter().filter(|frame| frame.tag == b'd').flat_map(|frame| frame.body).collect()
}

fn loaded(wire: &mut Wire, sql: &str, data: &[u8]) -> Vec<String> {
    wire.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    data.chunks(60_000).for_each(|chunk| wire.message(b'd', chunk));
    wire.message(b'c', b"");
    let mut said = Vec::new();
    while said.last().is_none_or(|last: &String| !last.starts_with('Z')) {
        let frame = wire.frame_within(Duration::from_secs(120)).expect("an answer").expect("the connection stays");
        said.push(shown(&frame));
    }
    said
}

/// All of a column by Bind, in that format.
fn bound(wire: &mut Wire, sql: &str, format: u8) -> Vec<String> {
    let parse = frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    let bind = frame(b'B', &[0, 0, 0, 0, 0, 0, 0, 1, 0, format]);
    wire.send(&[parse, bind, frame(b'D', b"P\0"), frame(b'E', &[0; 5]), frame(b'S', b"")].concat());
    wire.until_ready().iter().map(shown).collect()
}

/// The first of two lists' differences.
fn difference(what: &str, [ours, theirs]: [Vec<String>; 2]) -> Option<String> {
    let at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at))?;
    Some(format!("{what}\n  pgveil:     {:?}\n  PostgreSQL: {:?}\n", ours.get(at), theirs.get(at)))
}

/// The settings of a round.
fn settings(round: usize) -> String {
    let mut seed = round as u64 + 1;
    let mut pick = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let mut settings: String = STYLES.iter().map(|all| format!("set {};", all[pick(all.len())])).collect();
    if round.is_multiple_of(3) {
        // What is printed can be read again.
        settings += "set datestyle = 'ISO, DMY'; set extra_float_digits = 1;";
    }
    settings
}

fn split(data: &[u8]) -> Vec<String> {
    data.split(|byte| *byte == b'\n').map(|line| line.escape_ascii().to_string()).collect()
}

#[test]
fn values_come_back_as_from_an_unsealed_twin() {
    let pair = pair("properties");
    let [mut veiled, mut direct] = pair.wires();
    let (count, mut faults) = (count(), Vec::new());
    let list: Vec<&str> = SAMPLES.iter().map(|(_, expression)| *expression).collect();
    let fill = format!(
        "select setseed(0.25); insert into samples select g, {} from generate_series(1, {count}) g",
        list.join(", ")
    );
    assert!(asked(&mut direct, &fill).iter().all(|said| !said.starts_with('E')), "the twin makes its values");
    let data = dumped(&mut direct, "copy (select * from samples order by id) to stdout (format binary)");
    let said = loaded(&mut veiled, "copy samples from stdin (format binary)", &data);
    assert!(said.contains(&format!("C COPY {count}\\x00")), "{said:?}");
    let rounds = if count > VALUES { 4 } else { 3 };
    for round in 0..rounds {
        let settings = settings(round);
        for wire in [&mut veiled, &mut direct] {
            asked(wire, &settings);
        }
        for (at, (name, _)) in SAMPLES.iter().enumerate() {
            let what = format!("{name}, {settings}");
            for format in ["text", "csv", "binary"] {
                let sql = format!("copy (select c{at} from samples order by id) to stdout (format {format})");
                let both = [&mut veiled, &mut direct].map(|wire| dumped(wire, &sql));
                if both[0] != both[1] {
                    faults.extend(difference(&format!("{what} {format}"), both.map(|data| split(&data))));
                }
            }
            for format in [0, 1] {
                let sql = format!("select c{at}, id from samples order by id");
                faults.extend(difference(&what, [&mut veiled, &mut direct].map(|wire| bound(wire, &sql, format))));
                let sql = format!("select array_agg(c{at} order by id) from samples where id <= 60");
                faults.extend(difference(&what, [&mut veiled, &mut direct].map(|wire| bound(wire, &sql, format))));
            }
        }
        // What was printed is read again, by both.
        if settings.contains("ISO") {
            let text = dumped(&mut direct, "copy (select * from samples order by id) to stdout");
            for wire in [&mut veiled, &mut direct] {
                asked(wire, "truncate samples");
            }
            let both = [&mut veiled, &mut direct].map(|wire| loaded(wire, "copy samples from stdin", &text));
            faults.extend(difference(&format!("read again, {settings}"), both));
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults[..faults.len().min(20)].concat());
}

#[test]
fn modifiers_change_and_refuse_as_in_an_unsealed_twin() {
    let pair = pair("properties_modified");
    let [mut veiled, mut direct] = pair.wires();
    let (count, mut faults) = (count(), Vec::new());
    for (at, (name, expression)) in MODIFIED.iter().enumerate() {
        let texts = column(&mut direct, &format!("select {expression} from generate_series(1, {count}) g"));
        for (number, text) in texts.iter().enumerate() {
            let sql = format!("insert into modified (id, c{at}) values ({number}, '{text}')");
            let both = [&mut veiled, &mut direct].map(|wire| asked(wire, &sql));
            faults.extend(difference(&format!("{name} {text:?}"), both));
        }
        let sql = format!("select id, c{at} from modified order by id");
        for format in [0, 1] {
            faults.extend(difference(name, [&mut veiled, &mut direct].map(|wire| bound(wire, &sql, format))));
        }
        for wire in [&mut veiled, &mut direct] {
            asked(wire, "truncate modified");
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults[..faults.len().min(20)].concat());
}

/// All of these by Bind as a parameter of no declared type, each looked for in one pipeline.
fn searched(wire: &mut Wire, sql: &str, texts: &[String]) -> Vec<String> {
    let mut messages = frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    for text in texts {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        let value = [&[0, 0, 0, 0, 0, 1][..], &length, text.as_bytes(), &[0, 0]].concat();
        messages.extend([frame(b'B', &value), frame(b'E', &[0; 5])].concat());
    }
    messages.extend(frame(b'S', b""));
    wire.send(&messages);
    wire.until_ready().iter().map(shown).collect()
}

/// Rows of each type: their pairs are compared, as many as the square of it.
const COMPARED_MIN: usize = 120;
const COMPARED_MAX: usize = 2_000;

#[test]
fn equality_is_that_of_an_unsealed_twin() {
    let pair = pair("properties_equality");
    let [mut veiled, mut direct] = pair.wires();
    let rows = count().clamp(COMPARED_MIN, COMPARED_MAX);
    let (mut faults, mut equal) = (Vec::new(), 0);
    for (at, (name, met, random)) in COMPARED.iter().enumerate() {
        // Every random value about four times, in one spelling or another.
        let sql = format!(
            "select setseed(0.{at}); select {met} from generate_series(1, {COMPARED_MIN}) g; select {random} from
             (select (random() * {rows} / 4)::int r, (random() * 6)::int s from generate_series(1, {rows}) g) dice"
        );
        let texts = column(&mut direct, &sql).split_off(1);
        let data: String = texts.iter().enumerate().map(|(number, text)| format!("{number}\t{text}\n")).collect();
        let copy = format!("copy compared (id, c{at}) from stdin");
        let both = [&mut veiled, &mut direct].map(|wire| loaded(wire, &copy, data.as_bytes()));
        assert_eq!(both[1][1], format!("C COPY {}\\x00", texts.len()), "{name}");
        faults.extend(difference(name, both));
        // Each row's equals: how many, and which as far as two sums tell.
        for operator in ["=", "<>"] {
            let sql = format!(
                "select a.id, count(*), sum(b.id), sum(b.id::int8 * b.id * (b.id % 7)) from compared a join compared b
                 on a.c{at} {operator} b.c{at} group by a.id order by 1"
            );
            let both = [&mut veiled, &mut direct].map(|wire| asked(wire, &sql));
            faults.extend(difference(&format!("{name} {operator}"), both));
        }
        let pairs = format!("select count(*) from compared a join compared b on a.c{at} = b.c{at} and a.id <> b.id");
        equal += column(&mut direct, &pairs)[0].parse::<usize>().expect("a count");
        let mut spelled = texts.clone();
        spelled.sort_unstable();
        spelled.dedup();
        let sql = |text: &str| format!("select id from compared where c{at} = {text} order by id");
        let both = [&mut veiled, &mut direct].map(|wire| searched(wire, &sql("$1"), &spelled));
        faults.extend(difference(&format!("{name} = $1"), both));
        for text in spelled.iter().step_by(spelled.len().div_ceil(200)) {
            let both = [&mut veiled, &mut direct].map(|wire| asked(wire, &sql(&format!("'{text}'"))));
            faults.extend(difference(&format!("{name} = {text:?}"), both));
        }
        for wire in [&mut veiled, &mut direct] {
            asked(wire, "truncate compared");
        }
    }
    assert!(equal > 10 * rows, "only {equal} pairs are equal");
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults[..faults.len().min(20)].concat());
}
