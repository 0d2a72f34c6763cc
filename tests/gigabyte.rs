//! The longest message PostgreSQL takes, of a length of one GiB less two, in a database that passes through; as long as
//! `PGVEIL_TEST_MIB` says in one that is protected (`make gigabyte`).

use crate::support::{MIB, Memory, Site, Wire, ask, frame, parse, query, run, sync};

/// `PQ_LARGE_MESSAGE_LIMIT`: `MaxAllocSize` less one, which is one GiB less two.
const LENGTH_MAX: usize = 0x3fff_fffe;

const POLICY: &str = "version = 1
[tables.\"public.people\".columns]
id = { level = \"internal\" }
name = { level = \"restricted\", as = \"text\", encrypt = \"randomized\", mask = \"name\" }
[roles.app]
clearance = \"restricted\"
";

/// Sends a message of that length without having it: `first`, then `filling`.
fn stream(wire: &mut Wire, tag: u8, length: usize, first: &[u8], filling: u8, last: &[u8]) {
    let mut head = vec![tag];
    head.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    head.extend_from_slice(first);
    wire.send(&head);
    let chunk = vec![filling; 1 << 20];
    let mut left = length - 4 - first.len() - last.len();
    while left > 0 {
        let now = left.min(chunk.len());
        wire.send(&chunk[..now]);
        left -= now;
    }
    wire.send(last);
}

/// The server's log is not to hold what is sent here.
fn site(name: &str) -> Site {
    let site = Site::new(name).schema("create table people (id int primary key, name text)").policy(POLICY).start();
    for setting in ["log_statement = 'none'", "log_min_duration_statement = -1", "log_min_error_statement = 'panic'"] {
        site.sql(&format!("alter database {} set {setting}", site.database));
    }
    site
}

/// After an error the server reads whatever comes before the Sync, and forgets it.
fn ignored(wire: &mut Wire, length: usize) {
    wire.send(&parse(b"", b"nonsense"));
    stream(wire, b'B', length, b"\0\0\0\0\0\x01", 0, b"");
    let said = ask(wire, &sync(), 1);
    assert_eq!((said.tags.as_str(), said.errors.as_slice()), ("EZ", &["42601".to_owned()][..]));
}

#[test]
fn a_gigabyte_passes_through_in_a_few_megabytes() {
    let site = Site::new("gigabyte").passthrough("postgres").start();
    let mut wire = Wire::login(site.port(), "app", "postgres");
    let memory = Memory::watch(&site);
    ignored(&mut wire, LENGTH_MAX);
    memory.within(32 * MIB, "a gigabyte");
    assert_eq!(ask(&mut wire, &query("select 1"), 1).tags, "TDCZ");
}

/// A length is a claim: memory is taken for what has come.
#[test]
fn a_gigabyte_that_is_only_announced_costs_nothing() {
    let site = site("announced");
    let memory = Memory::watch(&site);
    let wires: Vec<Wire> = (0..20)
        .map(|n| {
            let mut wire = Wire::login(site.port(), "app", &site.database);
            wire.send(&[&[b"QPBd"[n % 4]][..], &0x3fff_fffe_u32.to_be_bytes(), b"select"].concat());
            wire
        })
        .collect();
    let mut other = Wire::login(site.port(), "app", &site.database);
    assert_eq!(ask(&mut other, &query("select 1"), 1).tags, "TDCZ");
    memory.within(64 * MIB, "announcements");
    drop(wires);
}

#[test]
fn a_huge_message_about_something_sealed_is_answered_within_a_few_times_its_size() {
    let asked = std::env::var("PGVEIL_TEST_MIB").ok().and_then(|mib| mib.parse::<usize>().ok());
    let length = asked.map_or(8 << 20, |mib| (mib << 20).min(LENGTH_MAX));
    let peak = 6 * length as u64 + 64 * MIB;
    let site = site("huge");
    let mut wire = Wire::login(site.port(), "app", &site.database);
    let mut trial = |what: &str, states: [&[&str]; 2], work: &mut dyn FnMut(&mut Wire) -> Vec<String>| {
        let memory = Memory::watch(&site);
        let errors = work(&mut wire);
        assert!(states.iter().any(|allowed| errors == *allowed), "{what}: {errors:?}");
        memory.within(peak, what);
        assert_eq!(ask(&mut wire, &query("select 1"), 1).tags, "TDCZ", "after {what}");
    };
    trial("a Bind that is skipped", [&[], &[]], &mut |wire| {
        ignored(wire, length);
        Vec::new()
    });
    trial("a Query of spaces", [&[], &[]], &mut |wire| {
        stream(wire, b'Q', length, b"select name from people", b' ', b"\0");
        ask(wire, b"", 1).errors
    });
    // Once it is sealed it is longer, and at the top of what fits, too long; a literal is, in hexadecimal, twice as long.
    trial("a sealed parameter", [&[], &["54000"]], &mut |wire| {
        wire.send(&parse(b"", b"insert into people (id, name) values (1, $1)"));
        let first = b"\0\0\0\0\0\x01";
        let value = length - 4 - first.len() - 4 - 2;
        stream(wire, b'B', length, &[&first[..], &u32::try_from(value).unwrap().to_be_bytes()].concat(), b'k', &[0, 0]);
        ask(wire, &[run(b""), sync()].concat(), 1).errors
    });
    trial("a sealed literal", [&[], &["54000"]], &mut |wire| {
        stream(wire, b'Q', length, b"insert into people (id, name) values (2, '", b'k', b"')\0");
        ask(wire, b"", 1).errors
    });
    trial("a sealed row of COPY", [&[], &["54000"]], &mut |wire| {
        wire.send(&query("copy people (id, name) from stdin"));
        stream(wire, b'd', length, b"3\t", b'k', b"\n");
        ask(wire, &frame(b'c', b""), 1).errors
    });
    trial("what came of it", [&[], &["54000"]], &mut |wire| ask(wire, &query("select name from people"), 1).errors);
}
