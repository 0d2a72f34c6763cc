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

/// Types sealed so that they can be compared, and values that often meet, spelled in more than one way.
const COMPARED: &[(&str, &str)] = &[
    ("varchar(20)", "substr('Straße', 1, 4 + g % 3) || repeat(' ', g % 2) || case when g % 5 = 0 then '' else 'a' end"),
    ("int2", "(g % 17 - 8)::text"),
    ("int4", "repeat(' ', g % 3) || (g % 17 - 8)"),
    ("int8", "case when g % 2 = 0 then '0' else '' end || g % 17"),
    (
        "numeric(12,3)",
        "(array['1', '1.0', '1.000', '1e0', '-0', '0.0', '0', 'NaN', 'nan', '0.5', '.5', '5e-1', '0.5004'])[1 + g % 13]",
    ),
    ("bool", "(array['t', 'true', 'on', '1', 'f', 'no', '0'])[1 + g % 7]"),
    (
        "date",
        "(array['2020-02-29', '20200229', 'Feb 29 2020', 'infinity', '-infinity', '0044-03-15 BC', '2020-03-01'])[1 + g % 7]",
    ),
    ("time", "(array['10:00', '10:00:00.0', '10:00 AM', '100000', '24:00', '00:00', '22:00'])[1 + g % 7]"),
    (
        "timestamp",
        "(array['2020-02-29', '2020-02-29 00:00:00', '20200229T000000', 'infinity', '2020-02-29 00:00:00.000001'])[1 + g % 5]",
    ),
    (
        "timestamptz",
        "(array['2020-02-29 12:00+02', '2020-02-29 10:00Z', '2020-02-29 10:00:00+00', '-infinity', '2020-02-29 12:00'])[1 + g % 5]",
    ),
    (
        "uuid",
        "(array['6ba7b810-9dad-11d1-80b4-00c04fd430c8', '{6BA7B8109DAD11D180B400C04FD430C8}', '00000000-0000-0000-0000-000000000001'])[1 + g % 3]",
    ),
];

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

fn tables() -> String {
    let columns = |types: &[(&str, &str)]| {
        let columns = types.iter().enumerate().map(|(at, (name, _))| format!("c{at} {name}"));
        columns.collect::<Vec<_>>().join(", ")
    };
    format!(
        "create table samples (id int primary key, {}); create table modified (id int primary key, {});
         create table compared (id int primary key, {});",
        columns(SAMPLES),
        columns(MODIFIED),
        columns(COMPARED)
    )
}

fn policy() -> String {
    let mut out = "version = 1\ndefault_level = \"internal\"\n[roles.app]\nclearance = \"restricted\"\n".to_owned();
    for (table, types, mode) in [
        ("samples", SAMPLES, "\"randomized\""),
        ("modified", MODIFIED, "\"randomized\""),
        ("compared", COMPARED, "\"deterministic\", accept_leakage = [\"equality\"]"),
    ] {
        out += &format!("[tables.\"public.{table}\".columns]\n");
        for (at, (name, _)) in types.iter().enumerate() {
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

#[test]
fn equality_is_that_of_an_unsealed_twin() {
    let pair = pair("properties_equality");
    let [mut veiled, mut direct] = pair.wires();
    let (mut faults, mut equal) = (Vec::new(), 0);
    for (at, (name, expression)) in COMPARED.iter().enumerate() {
        let texts = column(&mut direct, &format!("select {expression} from generate_series(1, 120) g"));
        let rows: String = texts.iter().enumerate().map(|(number, text)| format!("{number}\t{text}\n")).collect();
        let copy = format!("copy compared (id, c{at}) from stdin");
        let both = [&mut veiled, &mut direct].map(|wire| loaded(wire, &copy, rows.as_bytes()));
        faults.extend(difference(name, both));
        for operator in ["=", "<>"] {
            let sql = format!(
                "select a.id, b.id from compared a join compared b on a.c{at} {operator} b.c{at} order by 1, 2"
            );
            let both = [&mut veiled, &mut direct].map(|wire| asked(wire, &sql));
            equal += usize::from(operator == "=") * (both[1].len() - 3 - texts.len());
            faults.extend(difference(&format!("{name} {operator}"), both));
        }
        let mut spelled = texts.clone();
        spelled.sort_unstable();
        spelled.dedup();
        for text in spelled {
            let sql = format!("select id from compared where c{at} = '{text}' order by id");
            faults.extend(difference(
                &format!("{name} = {text:?}"),
                [&mut veiled, &mut direct].map(|wire| asked(wire, &sql)),
            ));
        }
        for wire in [&mut veiled, &mut direct] {
            asked(wire, "truncate compared");
        }
    }
    assert!(equal > 1000, "only {equal} pairs are equal");
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults[..faults.len().min(20)].concat());
}
