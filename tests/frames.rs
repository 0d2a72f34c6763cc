//! Malformed frames: pgveil answers in the same class as PostgreSQL (same SQLSTATEs, same fate of the connection).

use std::time::Duration;

use crate::scenario::site;
use crate::support::{Wire, cluster, frame, startup};

/// What a peer did with a case.
#[derive(Debug)]
struct Answer {
    /// SQLSTATEs of all errors, in order.
    errors: Vec<String>,
    fate: Fate,
}

impl Answer {
    /// The same class: the same errors and fate. Where PostgreSQL only writes to its log and hangs up, we may say why.
    fn like(&self, theirs: &Self) -> bool {
        let says_why =
            theirs.errors.is_empty() && matches!(self.errors.as_slice(), [only] if only == "08P01" || only == "0A000");
        self.fate == theirs.fate && (self.errors == theirs.errors || (self.fate == Fate::Closed && says_why))
    }
}

/// Where we are stricter on purpose.
const STRICTER: &[(&str, &str)] = &[
    (
        "SSLRequest of another length",
        "PostgreSQL does not look at its length; bytes after a request for encryption are never taken from before it",
    ),
    ("unknown replication word", "replication is not granted, whatever the word"),
];

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The session went on and answered the query sent after the case.
    Alive,
    /// The connection was closed.
    Closed,
    /// It waits for the rest of a message.
    Waiting,
}

/// A message whose length field lies.
fn lying(tag: u8, length: i32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A startup packet with any length and contents.
fn packet(length: i32, body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], body].concat()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Bind of unnamed statement to unnamed portal with these bytes after the two names.
fn bind(rest: &[u8]) -> Vec<u8> {
    frame(b'B', &[b"\0\0", rest].concat())
}

const PROTOCOL_3: [u8; 4] = 196_608_u32.to_be_bytes();
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];

/// Before anybody is logged in.
fn early_cases(database: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("length 0", packet(0, &[])),
        ("length 3", packet(3, &[])),
        ("length 7", packet(7, &[0, 3, 0])),
        ("negative length", packet(-1, &PROTOCOL_3)),
        ("length beyond the limit", packet(10_001, &PROTOCOL_3)),
        ("largest length", packet(i32::MAX, &PROTOCOL_3)),
        ("protocol 1.0", packet(8, &65_536_u32.to_be_bytes())),
        ("protocol 4.0", packet(9, &[0, 4, 0, 0, 0])),
        ("no terminator", packet(13, &[&PROTOCOL_3[..], b"user\0"].concat())),
        ("a key without a value", packet(14, &[&PROTOCOL_3[..], b"user\0\0"].concat())),
        ("no user", packet(9, &[&PROTOCOL_3[..], b"\0"].concat())),
        ("bytes after the terminator", packet(20, &[&PROTOCOL_3[..], b"user\0app\0\0xx"].concat())),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a query instead of a startup packet", frame(b'Q', b"select 1\0")),
        ("SSLRequest of another length", packet(9, &[4, 0xd2, 0x16, 0x2f, 0])),
        ("CancelRequest without a key", packet(8, &80_877_102_u32.to_be_bytes())),
        (
            "CancelRequest with an unknown key",
            packet(16, &[&80_877_102_u32.to_be_bytes()[..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat()),
        ),
        ("unknown replication word", startup(&[("user", "app"), ("database", database), ("replication", "maybe")])),
    ]
}

/// In a session of `app`.
fn late_cases() -> Vec<(&'static str, Vec<u8>)> {
    let unnamed = parse("", "select $1::int4");
    let with = |rest: &[u8]| [&unnamed[..], &bind(rest)].concat();
    vec![
        ("query without its zero", frame(b'Q', b"select 1")),
        ("query with two strings", frame(b'Q', b"select 1\0select 2\0")),
        ("query without a body", frame(b'Q', b"")),
        ("query that is not UTF-8", frame(b'Q', b"select '\xff\xfe'\0")),
        ("parse without counts", frame(b'P', b"\0select 1\0")),
        ("parse with fewer types than it says", frame(b'P', b"\0select 1\0\0\x02\0\0\0\x17")),
        ("parse with -1 types", frame(b'P', b"\0select 1\0\xff\xff")),
        ("parse that is not UTF-8", parse("", "select 1").iter().map(|b| if *b == b'1' { 0xff } else { *b }).collect()),
        ("parse of a name that exists", [parse("n", "select 1"), parse("n", "select 2")].concat()),
        ("parse of two statements", parse("", "select 1; select 2")),
        ("bind of an unknown statement", frame(b'B', b"\0nobody\0\0\0\0\0\0\0")),
        ("bind with too few parameters", with(&[0, 0, 0, 0, 0, 0])),
        ("bind with too many parameters", with(&[0, 0, 0, 2, 0, 0, 0, 1, b'1', 0, 0, 0, 1, b'1', 0, 0])),
        ("bind with a parameter beyond the end", with(&[0, 0, 0, 1, 0, 0, 0, 9, b'1', 0, 0])),
        ("bind with a parameter of length -2", with(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0])),
        ("bind with format 7", with(&[0, 1, 0, 7, 0, 1, 0, 0, 0, 1, b'1', 0, 0])),
        ("bind with two formats for one parameter", with(&[0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'1', 0, 0])),
        ("bind with result format 7", with(&[0, 0, 0, 1, 0, 0, 0, 1, b'1', 0, 1, 0, 7])),
        ("bind with three result formats", with(&[0, 0, 0, 1, 0, 0, 0, 1, b'1', 0, 3, 0, 0, 0, 0, 0, 0])),
        ("bind with leftovers", with(&[0, 0, 0, 1, 0, 0, 0, 1, b'1', 0, 0, 9])),
        ("bind with a binary int4 of three bytes", with(&[0, 1, 0, 1, 0, 1, 0, 0, 0, 3, 0, 0, 1, 0, 0])),
        ("describe of kind X", frame(b'D', b"X\0")),
        ("describe without a name", frame(b'D', b"S")),
        ("describe of an unknown statement", frame(b'D', b"Snobody\0")),
        ("describe of an unknown portal", frame(b'D', b"Pnobody\0")),
        ("execute without its count", frame(b'E', b"\0")),
        ("execute of an unknown portal", frame(b'E', b"nobody\0\0\0\0\0")),
        ("close of kind X", frame(b'C', b"X\0")),
        ("close of an unknown statement", frame(b'C', b"Snobody\0")),
        ("sync with a body", frame(b'S', b"x")),
        ("flush with a body", frame(b'H', b"x")),
        ("copy data outside COPY", frame(b'd', b"1\n")),
        ("copy done outside COPY", frame(b'c', b"")),
        ("copy fail outside COPY", frame(b'f', b"no\0")),
        ("password outside login", frame(b'p', b"secret\0")),
        ("unknown type z", frame(b'z', b"")),
        ("type 0", frame(0, b"")),
        ("length 3", lying(b'Q', 3, b"")),
        ("length 0", lying(b'S', 0, b"")),
        ("negative length", lying(b'Q', -1, b"select 1\0")),
        ("largest length", lying(b'Q', i32::MAX, b"select 1\0")),
        ("a gigabyte of sync", lying(b'S', 0x4000_0000, b"")),
        ("a message cut off", lying(b'Q', 100, b"select 1\0")),
    ]
}

/// Sends the case, then what makes a living session answer, and reads until that answer, the end, or silence.
fn answer(mut wire: Wire, case: &[u8], probe: &[u8]) -> Answer {
    wire.send(case);
    wire.send(probe);
    let mut errors = Vec::new();
    let mut answered = false;
    loop {
        match wire.frame_within(Duration::from_millis(700)) {
            Ok(Some(frame)) if frame.tag == b'E' => errors.push(frame.field(b'C').unwrap_or_default()),
            Ok(Some(frame)) if frame.tag == b'D' && frame.body.ends_with(b"alive") => answered = true,
            Ok(Some(frame)) if frame.tag == b'Z' && answered => return Answer { errors, fate: Fate::Alive },
            Ok(Some(_)) => {}
            Ok(None) => return Answer { errors, fate: Fate::Closed },
            Err(_) => return Answer { errors, fate: Fate::Waiting },
        }
    }
}

#[test]
fn malformed_frames_are_answered_as_postgresql_answers_them() {
    let site = site("frames");
    let (ours, theirs) = (site.port(), cluster().port());
    let probe = [frame(b'S', b""), frame(b'Q', b"select 'alive'\0")].concat();
    let mut wrong = Vec::new();
    let early = early_cases(&site.database);
    let cases = early.len() + late_cases().len();
    for (name, case) in early {
        let [pgveil, postgresql] = [ours, theirs].map(|port| answer(Wire::open(port), &case, &[]));
        let stricter = STRICTER.iter().any(|(case, _)| *case == name) && pgveil.fate == Fate::Closed;
        if !pgveil.like(&postgresql) && !stricter {
            wrong.push(format!("before login: {name}:\n    PostgreSQL {postgresql:?}\n    pgveil     {pgveil:?}"));
        }
    }
    for (name, case) in late_cases() {
        let login = |port| Wire::login(port, "app", if port == ours { &site.database } else { "postgres" });
        let [pgveil, postgresql] = [ours, theirs].map(|port| answer(login(port), &case, &probe));
        if !pgveil.like(&postgresql) {
            wrong.push(format!("in a session: {name}:\n    PostgreSQL {postgresql:?}\n    pgveil     {pgveil:?}"));
        }
    }
    assert!(cases >= 40, "{cases} cases");
    assert!(wrong.is_empty(), "{} of {cases} cases are answered differently:\n  {}", wrong.len(), wrong.join("\n  "));
}

#[test]
fn requests_for_encryption_are_answered_with_one_byte() {
    let site = site("encryption");
    for (request, name) in [(SSL_REQUEST, "SSLRequest"), (GSS_REQUEST, "GSSENCRequest")] {
        let mut wire = Wire::open(site.port());
        wire.send(&request);
        assert_eq!(wire.byte(), Some(b'N'), "{name}");
        wire.send(&request);
        assert_ne!(wire.byte(), Some(b'N'), "a second {name} is not answered");
    }
    // Bytes sent along with the request could have been injected by somebody on the way (CVE-2021-23214).
    let mut wire = Wire::open(site.port());
    wire.send(&[&SSL_REQUEST[..], &startup(&[("user", "app"), ("database", &site.database)])].concat());
    let first = wire.byte();
    assert!(matches!(first, None | Some(b'E' | b'N')), "{first:?}");
    if first == Some(b'N') {
        assert_ne!(wire.byte(), Some(b'R'), "the login that was sent too early is not taken up");
    }
}
