//! Bytes that are no text where text belongs: what PostgreSQL says to them, said in the same class.

use crate::support::{Pair, Said, Site, Wire, ask, bind, frame, parse, query, run, startup, sync};

const SCHEMA: &str = "create table people (id int primary key, email varchar(80), name text, note text, blob bytea)";

const POLICY: &str = "version = 1
[tables.\"public.people\"]
subject = { kind = \"person\", key = \"id\" }
[tables.\"public.people\".columns]
id = { level = \"internal\" }
email = { level = \"restricted\", as = \"varchar(80)\", encrypt = \"deterministic\", mask = \"email\" }
name = { level = \"restricted\", as = \"text\", encrypt = \"randomized\", mask = \"name\" }
note = { level = \"internal\" }
blob = { level = \"restricted\", as = \"bytea\", encrypt = \"randomized\", mask = \"null\" }
[roles.app]
clearance = \"restricted\"
[roles.analyst]
clearance = \"internal\"
";

/// Not UTF-8 in each of the ways there are, and a zero byte.
const NO_TEXT: [(&str, &[u8]); 9] = [
    ("a byte that never is", b"kanarie \xff"),
    ("a continuation alone", b"kanarie \x80"),
    ("a character cut off", b"kanarie \xe2\x82"),
    ("a long form", b"kanarie \xc0\xaf"),
    ("a surrogate", b"kanarie \xed\xa0\x80"),
    ("beyond the last character", b"kanarie \xf4\x90\x80\x80"),
    ("Latin 1", b"kanarie caf\xe9"),
    ("a zero byte", b"kana\0rie"),
    ("a zero byte at the end", b"kanarie\0"),
];

/// A Bind of one value in that format.
fn bind_in(format: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    frame(b'B', &[&b"\0\0\0\x01\0"[..], &[format], &[0, 1], &length, value, &[0, 0]].concat())
}

/// COPY FROM STDIN of that data.
fn copy(sql: &str, data: &[u8]) -> Vec<u8> {
    [query(sql), frame(b'd', data), frame(b'c', b"")].concat()
}

fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    for (name, bytes) in NO_TEXT {
        let mut add = |what: &str, message: Vec<u8>| cases.push((format!("{name}: {what}"), message));
        let literal = |before: &str, after: &str| [before.as_bytes(), bytes, after.as_bytes()].concat();
        for (what, text) in [
            ("in a literal", literal("select '", "'")),
            ("in a sealed literal", literal("insert into people (id, name) values (7, '", "')")),
            ("in a search", literal("select id from people where email = '", "'")),
            ("in a name", literal("select 1 as \"", "\"")),
            ("in a protected column's place", literal("select \"", "\" from people")),
            ("in a comment", literal("select 1 /* ", " */ from people")),
        ] {
            add(&format!("Query {what}"), frame(b'Q', &[&text[..], b"\0"].concat()));
            add(&format!("Parse {what}"), [frame(b'P', &[b"\0", &text[..], b"\0\0\0"].concat()), sync()].concat());
        }
        if !bytes.contains(&0) {
            add("a statement's name", [parse(bytes, b"select 1"), bind(b"", bytes, &[]), run(b""), sync()].concat());
            add("a portal's name", [parse(b"", b"select 1"), bind(bytes, b"", &[]), run(bytes), sync()].concat());
            add("an unknown statement", [frame(b'D', &[b"S", bytes, b"\0"].concat()), sync()].concat());
            add("CopyFail", [query("copy people (id) from stdin"), frame(b'f', &[bytes, b"\0"].concat())].concat());
        }
        for (column, what) in [("note", "plain"), ("name", "sealed"), ("email", "sealed to be found")] {
            let insert = format!("insert into people (id, {column}) values (8, $1)");
            for format in [0, 1] {
                add(
                    &format!("a {what} parameter, format {format}"),
                    [parse(b"", insert.as_bytes()), bind_in(format, bytes), run(b""), sync()].concat(),
                );
                let select = format!("select id from people where email = $1 and {column} is null");
                add(
                    &format!("a parameter beside {what}, format {format}"),
                    [parse(b"", select.as_bytes()), bind_in(format, bytes), run(b""), sync()].concat(),
                );
            }
            let data = [b"9\t", bytes, b"\n"].concat();
            add(&format!("COPY text, {what}"), copy(&format!("copy people (id, {column}) from stdin"), &data));
            let data = [b"9,\"", bytes, b"\"\n"].concat();
            add(
                &format!("COPY csv, {what}"),
                copy(&format!("copy people (id, {column}) from stdin (format csv)"), &data),
            );
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            let data =
                [&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x09"[..], &length, bytes, b"\xff\xff"]
                    .concat();
            add(
                &format!("COPY binary, {what}"),
                copy(&format!("copy people (id, {column}) from stdin (format binary)"), &data),
            );
        }
        // Where bytes are bytes they are taken.
        add(
            "a sealed bytea",
            [parse(b"", b"update people set blob = $1 where id = 1"), bind_in(1, bytes), run(b""), sync()].concat(),
        );
    }
    cases
}

/// A literal that is no text in a text about something sealed is refused by us (0A000) where PostgreSQL would say 22021
/// or 42601; the class of everything else is the same.
fn alike(ours: &Said, theirs: &Said) -> bool {
    let classes = |said: &Said| said.errors.iter().map(|state| state[..2].to_owned()).collect::<Vec<_>>();
    classes(ours) == classes(theirs) && ours.tags == theirs.tags
}

#[test]
fn what_is_no_text_is_refused_as_postgresql_refuses_it() {
    let pair = Pair::start(Site::new("bytes").policy(POLICY), SCHEMA);
    let pid = pair.site.process_id();
    let [mut ours, mut theirs] = pair.wires();
    let mut wrong = Vec::new();
    let cases = cases();
    let count = cases.len();
    for (name, message) in cases {
        let answers = [&mut ours, &mut theirs].map(|wire| {
            let said = ask(wire, &[&message[..], &sync()].concat(), 2);
            ask(wire, &query("delete from people"), 1);
            said
        });
        let [pgveil, postgresql] = answers;
        if !alike(&pgveil, &postgresql) {
            wrong.push(format!(
                "{name}:\n    PostgreSQL {} {:?}\n    pgveil     {} {:?}",
                postgresql.tags, postgresql.errors, pgveil.tags, pgveil.errors
            ));
        }
    }
    assert_eq!(pair.site.process_id(), pid);
    assert!(wrong.is_empty(), "{} of {count} cases are answered differently:\n  {}", wrong.len(), wrong.join("\n  "));
}

/// A startup packet with values that are any bytes.
fn packet(parameters: &[(&str, &[u8])]) -> Vec<u8> {
    let mut packet = startup(&[]);
    packet.pop();
    for (name, value) in parameters {
        packet.extend_from_slice(&[name.as_bytes(), b"\0", value, b"\0"].concat());
    }
    packet.push(0);
    let length = u32::try_from(packet.len()).unwrap().to_be_bytes();
    packet[..4].copy_from_slice(&length);
    packet
}

/// SQLSTATE classes up to the end or the question for a password.
fn greeted(port: u16, packet: &[u8]) -> String {
    let mut wire = Wire::open(port);
    wire.send(packet);
    match wire.frame() {
        None => "silence".to_owned(),
        Some(frame) if frame.tag == b'E' => format!("E{}", &frame.field(b'C').unwrap_or_default()[..2]),
        Some(frame) => char::from(frame.tag).to_string(),
    }
}

#[test]
fn startup_parameters_that_are_no_text() {
    let pair = Pair::start(Site::new("nobody").policy(POLICY), SCHEMA);
    let (direct, twin) = pair.direct();
    for (name, bytes) in NO_TEXT.into_iter().filter(|(_, bytes)| !bytes.contains(&0)) {
        for key in ["application_name", "user", "database", "options", "search_path", "\u{fc}nknown"] {
            let answers = [(pair.site.port(), pair.site.database.as_str()), (direct, twin)].map(|(port, database)| {
                let mut parameters = vec![("user", &b"app"[..]), ("database", database.as_bytes())];
                parameters.retain(|(name, _)| *name != key);
                parameters.push((key, bytes));
                greeted(port, &packet(&parameters))
            });
            let [ours, theirs] = answers;
            // PostgreSQL asks for a password before it says that there is no such role or database; we say it at once.
            let sooner = theirs == "R" && ["user", "database"].contains(&key) && ours.starts_with('E');
            assert!(ours == theirs || sooner, "{name} in {key}: PostgreSQL {theirs}, pgveil {ours}");
        }
    }
}
