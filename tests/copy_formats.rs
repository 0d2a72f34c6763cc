//! COPY in every format and with every option: pgveil over sealed columns answers as PostgreSQL does over an unsealed
//! twin, message by message and byte by byte, and what came in is sealed.

use std::time::{Duration, Instant};

use crate::support::{Pair, Site, Wire, frame, shown};

const SCHEMA: &str = "
    create table c (id int primary key, email varchar(20), name text, born date, pay numeric(8,2), n int4, ok bool,
        raw bytea, at timestamptz, js jsonb, took interval, f float8, nick text default 'nn');";

const POLICY: &str = r#"
version = 1
default_level = "internal"
[tables."public.c"]
subject = { kind = "user", key = "id" }
[tables."public.c".columns]
email = { level = "restricted", as = "varchar(20)", encrypt = "deterministic", accept_leakage = ["equality"] }
name = { level = "restricted", as = "text", encrypt = "randomized" }
born = { level = "restricted", as = "date", encrypt = "randomized" }
pay = { level = "restricted", as = "numeric(8,2)", encrypt = "randomized" }
n = { level = "restricted", as = "int4", encrypt = "randomized" }
ok = { level = "restricted", as = "bool", encrypt = "randomized" }
raw = { level = "restricted", as = "bytea", encrypt = "randomized" }
at = { level = "restricted", as = "timestamptz", encrypt = "randomized" }
js = { level = "restricted", as = "jsonb", encrypt = "randomized" }
took = { level = "restricted", as = "interval", encrypt = "randomized" }
f = { level = "restricted", as = "float8", encrypt = "randomized" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
"#;

/// COPY FROM, and its data.
const INTO: &[(&str, &str)] = &[
    (
        "copy c from stdin",
        "1\tkanarie@a\tkanarie \\\\ \\t x\t2001-02-03\t12.5\t7\tt\t\\\\xdeadbeef\t2001-02-03 04:05:06+02\t{\"kanarie\":[1,  2]}\t1 day 02:03\t0.1\ta\n\
         2\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n\
         3\t\t\tinfinity\tNaN\t-1\tno\t\t-infinity\tnull\t@ 1 mon ago\t-infinity\t\n\\.\n",
    ),
    ("copy c (id, email, name) from stdin with (format text, delimiter '|', null '')", "1|kanarie|\n2||kanarie\\||\n"),
    ("copy c (id, email, name) from stdin with (format text, delimiter '|', null '')", "1|kanarie|\n2||kanarie\n"),
    ("copy c (id, email, name) from stdin delimiter as ';' null as 'nil'", "1;nil;kanarie\\;\n2;\\nil;nil\n"),
    ("copy c (name, id) from stdin using delimiters '|'", "kanarie|1\n"),
    ("copy c (id, email, name, n) from stdin csv", "1,,\"\",\n2,\"kanarie \"\"q\"\"\",\"a\nkanarie\",\"3\"\n\\.\n"),
    ("copy c (id, email, name) from stdin csv header", "what,ever,else\n1,kanarie,b\n"),
    ("copy c (id, email, name) from stdin (format csv, header match)", "id,email,name\n1,kanarie,b\n"),
    ("copy c (id, email, name) from stdin (format csv, header match)", "id,mail,name\n1,kanarie,b\n"),
    ("copy c (id, email, name) from stdin (format csv, header match)", "id,email\n1,kanarie,b\n"),
    ("copy c (id, email, name) from stdin (header match, delimiter ',')", "id,email,name\n1,kanarie,b\n"),
    ("copy c (id, name) from stdin csv quote '''' escape '\\'", "1,'kanarie \\' \\\\ \" '\n"),
    ("copy c (id, name) from stdin (format csv, quote '|', delimiter ';', null 'x')", "1;|kanarie;||x|\n2;x\n3;|x|\n"),
    ("copy c (id, email, name) from stdin (format csv, force_not_null (email, name))", "1,,\n2,\"\",kanarie\n"),
    ("copy c (id, email, name) from stdin (format csv, force_null (email, name))", "1,\"\",kanarie\n2,,\"\"\n"),
    (
        "copy c (id, email, name, nick) from stdin (format csv, null 'nil', force_null (email, nick), force_not_null (email, name))",
        "1,\"nil\",\"nil\",nil\n2,nil,nil,\"nil\"\n3,kanarie,,\n",
    ),
    ("copy c (id, email, n) from stdin csv force not null email, n", "1,,2\n"),
    ("copy c (id, email, n) from stdin csv force not null n", "1,kanarie,\n"),
    ("copy c (id, email, n) from stdin csv null '7' force null n force not null email", "1,7,\"7\"\n2,kanarie,7\n"),
    ("copy c (id, email) from stdin (format csv, force_null (id))", "\"\",kanarie\n"),
    ("copy c (id, name) from stdin (encoding 'UTF-8', freeze false)", "1\tkanarie é\n"),
    ("copy c (id, name) from stdin encoding 'unicode'", "1\tkanarie\n"),
    ("copy c (id, name) from stdin (freeze)", "1\tkanarie\n"),
    ("begin; truncate c; copy c (id, name) from stdin (freeze); commit", "1\tkanarie\n"),
    (
        "copy c (id, name, nick) from stdin where nick = 'yes' and id > 1",
        "1\tkanarie\tyes\n2\tkanarie\tyes\n3\tkanarie\tno\n",
    ),
    ("copy c (id, name, nick) from stdin csv where id % 2 = 0", "1,kanarie,a\n2,kanarie,b\n"),
    // What PostgreSQL refuses.
    ("copy c (id, email) from stdin", "1\tkanarie, longer than twenty\n"),
    ("copy c (id, email) from stdin", "1\tkanarie             \n2\tkanarie                     \n"),
    ("copy c (id, n) from stdin", "1\tx\n"),
    ("copy c (id, n) from stdin", "1\t3000000000\n"),
    ("copy c (id, pay) from stdin", "1\t1234567\n"),
    ("copy c (id, pay) from stdin", "1\t1.005\n2\t-1.005\n3\t1e3\n"),
    ("copy c (id, born) from stdin", "1\t2001-02-30\n"),
    ("copy c (id, js) from stdin", "1\t{\n"),
    ("copy c (id, name) from stdin", "1\n"),
    ("copy c (id, name) from stdin", "1\tkanarie\tx\n"),
    ("copy c (id, name) from stdin", ""),
    ("copy c (id, name) from stdin", "\\.\n"),
    ("copy c (id, name) from stdin csv", "1,\"kanarie\n"),
    ("copy c (id, name) from stdin", "1\tkanarie\n1\tkanarie\n"),
    ("copy c (id, name) from stdin", "x\tkanarie\n"),
    ("copy c (id, name) from stdin (format csv, delimiter '||')", ""),
    ("copy c (id, name) from stdin (format csv, quote 'ab')", ""),
    ("copy c (id, name) from stdin (format csv, null 'a,b')", ""),
    ("copy c (id, name) from stdin (format csv, force_null (nick))", ""),
    ("copy c (id, name) from stdin (force_null (name))", ""),
    ("copy c (id, name) from stdin (format csv, force_quote (name))", ""),
    ("copy c (id, name) from stdin (format binary, delimiter ',')", ""),
    ("copy c (id, name) from stdin (format binary, header)", ""),
    ("copy c (id, name) from stdin (default 'x')", ""),
];

/// COPY TO, of the rows below.
const OUT: &[&str] = &[
    "copy c to stdout",
    "copy c to stdout csv",
    "copy c to stdout with csv header",
    "copy c to stdout with (header)",
    "copy c (name, id, email) to stdout (format csv, force_quote (name))",
    "copy c (name, id, email) to stdout (format csv, force_quote *)",
    "copy c (name, id) to stdout csv force quote name",
    "copy c (name, raw, js) to stdout (format csv, quote '''', escape '\\', delimiter ';', null 'nil')",
    "copy c (name, raw) to stdout (delimiter '|', null '')",
    "copy c (name) to stdout csv",
    "copy c (email) to stdout delimiter as ',' null as 'x'",
    "copy c (name) to stdout encoding 'utf8'",
    "copy c to stdout binary",
    "copy c to stdout with binary",
    "copy binary c to stdout",
    "copy c (name, id, born) to stdout (format binary)",
    "copy (select email, id, upper(nick) u, born from c order by id desc) to stdout",
    "copy (select email, name from c where email = 'kanarie@a') to stdout (format csv, header, force_quote (email))",
    "copy (select id, took, name as other from c order by id) to stdout (format binary)",
    "copy (select name from c where id < 0) to stdout binary",
    "copy (select name from c where id < 0) to stdout",
    "copy (update c set nick = 'x' where id = 2 returning id, name, raw) to stdout",
    "copy (select name, 1 / (id - 3) from c order by id) to stdout",
    "copy (select name, 1 / (id - 3) from c order by id) to stdout (format binary)",
    "copy c to stdout (format csv, force_null (name))",
    "copy c to stdout (freeze)",
];

const ROWS: &str = "insert into c values
    (1, 'kanarie@a', E'kanarie ,;|\"''\\t\\\\', '2001-02-03', 12.5, 7, true, '\\xdead005c', '2001-02-03 04:05:06.7+02', '{\"kanarie\": \"x\"}', '1 mon -1 day', 0.1, 'a,b'),
    (2, null, null, null, null, null, null, null, null, null, null, null, null),
    (3, '', '\\.', '0044-03-15 BC', 'NaN', -1, false, '', 'infinity', '[]', '0', 'NaN', ''),
    (4, 'nil', E'kanarie\\n\\r', '-infinity', -0.01, 0, true, '\\x00', '-infinity', '1', '-1.5 s', '-0', 'x')";

/// Until ReadyForQuery; asked for rows, sends `data` in pieces of that many bytes, and says what came.
fn copied(wire: &mut Wire, sql: &str, data: &[u8], piece: usize) -> Vec<String> {
    wire.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    let mut out = Vec::new();
    loop {
        let answer = wire.frame().expect("the connection stays");
        out.push(shown(&answer));
        match answer.tag {
            b'G' => {
                let pieces: Vec<u8> = data.chunks(piece).flat_map(|piece| frame(b'd', piece)).collect();
                wire.send(&pieces);
                wire.message(b'c', b"");
            }
            b'Z' => return out,
            _ => {}
        }
    }
}

fn pair(name: &str) -> Pair {
    Pair::start(Site::new(name).policy(POLICY).audit("durability = \"async\""), SCHEMA)
}

/// Runs a step on both sides.
fn same(wires: &mut [Wire; 2], sql: &str, data: &[u8], piece: usize) -> (Vec<String>, Option<String>) {
    let [veiled, direct] = wires.each_mut().map(|wire| copied(wire, sql, data, piece));
    let different = (veiled != direct).then(|| format!("{sql}\n  pgveil:     {veiled:?}\n  PostgreSQL: {direct:?}\n"));
    (direct, different)
}

const ALL: &str = "select * from c order by id";
const SEALED: &str = "select count(*) from c where name is not null and substr(name::bytea, 1, 2) <> '\\xfed1'
    or email is not null and substr(email::bytea, 1, 2) <> '\\xfed1' or n is not null and substr(n::bytea, 1, 2) <> '\\xfed1'";

#[test]
fn text_and_csv_go_in_as_into_an_unsealed_twin() {
    let pair = pair("copy_in");
    let mut wires = pair.wires();
    let (mut differing, mut taken) = (String::new(), 0);
    for (sql, data) in INTO {
        for piece in [1, 7, 1 << 20] {
            let (said, different) = same(&mut wires, sql, data.as_bytes(), piece);
            differing.extend(different);
            taken += usize::from(said.iter().any(|said| said.starts_with("C COPY")));
            differing.extend(same(&mut wires, ALL, b"", 1).1);
            if piece == 7 {
                assert_eq!(pair.site.sql(SEALED), "0", "{sql}");
            }
            differing.extend(same(&mut wires, "truncate c", b"", 1).1);
        }
    }
    assert!(differing.is_empty(), "{differing}");
    assert_eq!(taken, 3 * 24, "so many are no errors");
}

#[test]
fn copy_goes_out_as_of_an_unsealed_twin() {
    let pair = pair("copy_out");
    let mut wires = pair.wires();
    let mut differing = String::new();
    differing.extend(same(&mut wires, ROWS, b"", 1).1);
    for settings in
        ["datestyle = 'ISO, MDY'", "datestyle = 'SQL, DMY'", "intervalstyle = iso_8601", "bytea_output = escape"]
    {
        same(&mut wires, &format!("set {settings}"), b"", 1);
        for sql in OUT {
            differing.extend(same(&mut wires, sql, b"", 1).1);
        }
    }
    assert!(differing.is_empty(), "{differing}");
}

/// The payload of what `sql` copies out of the twin.
fn dumped(wire: &mut Wire, sql: &str) -> Vec<u8> {
    wire.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    wire.until_ready().into_iter().filter(|frame| frame.tag == b'd').flat_map(|frame| frame.body).collect()
}

#[test]
fn binary_goes_in_as_into_an_unsealed_twin() {
    let pair = pair("copy_binary");
    let mut wires = pair.wires();
    let mut differing = String::new();
    differing.extend(same(&mut wires, ROWS, b"", 1).1);
    let whole = dumped(&mut wires[1], "copy c to stdout (format binary)");
    let narrow = dumped(&mut wires[1], "copy (select 9, 'kanarie'::text, 5, true) to stdout (format binary)");
    let header = whole[..19].to_vec();
    let rows = |rows: &[&[u8]]| [&header, rows.concat().as_slice()].concat();
    let row = b"\0\x04\0\0\0\x04\0\0\0\x09\0\0\0\x07kanarie\0\0\0\x04\0\0\0\x05\0\0\0\x01\x01";
    let some = "copy c (id, name, n, ok) from stdin binary";
    let mut cases = vec![
        ("copy c from stdin (format binary)", whole.clone()),
        ("copy c from stdin with binary", whole.clone()),
        ("copy binary c from stdin", whole[..whole.len() - 2].to_vec()),
        (some, narrow.clone()),
        ("copy c (id, name, n, ok) from stdin (format binary) where id > 9", narrow.clone()),
        (some, rows(&[row])),
        (some, rows(&[row, b"\xff"])),
        (some, rows(&[row, b"\xff\xff", b"x"])),
        (some, rows(&[b"\0\x03\0\0\0\x04\0\0\0\x09\xff\xff\xff\xff\xff\xff\xff\xff"])),
        (some, rows(&[b"\0\0"])),
        (some, rows(&[b"\xff\xfe"])),
        (some, rows(&[&row[..row.len() - 1]])),
        (some, rows(&[b"\0\x04\xff\xff\xff\xfe"])),
        (some, Vec::new()),
        (some, header[..13].to_vec()),
        (some, b"9\tkanarie\t5\tt\n".to_vec()),
        (some, header.clone()),
    ];
    for (at, byte) in [(12, 1), (11, 0x80), (14, 1), (15, 0xff), (18, 3)] {
        let mut data = rows(&[row]);
        data[at] = byte;
        cases.push((some, data));
    }
    // A value of the wrong length: short, long, and none at all.
    for (length, value) in [(3, &[0, 0, 5][..]), (5, &[0, 0, 0, 5, 5]), (0, &[])] {
        let row = [&b"\0\x04\0\0\0\x04\0\0\0\x09\0\0\0\x07kanarie\0\0\0"[..], &[length], value, b"\0\0\0\x01\x01"];
        cases.push((some, rows(&[&row.concat()])));
    }
    let mut taken = 0;
    for (sql, data) in &cases {
        for piece in [1, 13, 1 << 20] {
            differing.extend(same(&mut wires, "truncate c", b"", 1).1);
            let (said, different) = same(&mut wires, sql, data, piece);
            differing.extend(different);
            taken += usize::from(said.iter().any(|said| said.starts_with("C COPY")));
            differing.extend(same(&mut wires, ALL, b"", 1).1);
            if piece == 13 {
                assert_eq!(pair.site.sql(SEALED), "0", "{sql}");
            }
        }
    }
    assert!(differing.is_empty(), "{differing}");
    assert_eq!(taken, 3 * 9, "so many are no errors");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_name() {
    let pair = pair("copy_refused");
    let [mut veiled, _] = pair.wires();
    for (sql, named) in [
        ("copy c from stdin (encoding 'latin1')", "ENCODING"),
        ("copy c to stdout encoding 'latin1'", "ENCODING"),
        ("copy c from stdin (on_error ignore)", "ON_ERROR"),
        ("copy c (id, email) from stdin where email = 'x'", "WHERE of COPY"),
        ("copy (select array_agg(email) from c) to stdout (format binary)", "COPY of an array"),
    ] {
        veiled.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
        let answer = veiled.until_ready();
        let words = answer[0].field(b'M').unwrap_or_default();
        assert!(answer[0].tag == b'E' && words.contains(named), "{sql}: {words}");
    }
    // A stolen envelope does not come in through a binary COPY either, not even into another column.
    assert!(copied(&mut veiled, "insert into c (id, name) values (1, 'kanarie')", b"", 1)[0].starts_with("C INSERT"));
    let envelope = hex::decode(pair.site.sql("select encode(name::bytea, 'hex') from c")).unwrap();
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x02".to_vec();
    data.extend_from_slice(&u32::try_from(envelope.len()).unwrap().to_be_bytes());
    data.extend_from_slice(&envelope);
    for column in ["raw", "name", "nick"] {
        for piece in [3, 1 << 20] {
            let said = copied(&mut veiled, &format!("copy c (id, {column}) from stdin binary"), &data, piece);
            assert!(said.iter().any(|said| said.starts_with('E')), "{column}: {said:?}");
        }
    }
    assert_eq!(pair.site.sql("select count(*) from c"), "1");
    // The people of a binary COPY are in the access log.
    dumped(&mut veiled, "copy c to stdout binary");
    let person = |event: &serde_json::Value| {
        event["access"] == "export" && event["subjects"]["known"].as_array().is_some_and(|known| known.len() == 1)
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pair.site.events().iter().any(person) {
        assert!(Instant::now() < deadline, "nobody is named: {:?}", pair.site.events());
        std::thread::sleep(Duration::from_millis(20));
    }
}
