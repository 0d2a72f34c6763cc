//! Binds that are refused fail in the server where the server itself would find fault; what SQL made is described
//! before its rows come.

use super::*;
use crate::plan::Target;
use crate::policy::rules::ClassId;
use crate::wire::types::Format;

/// `ann` sees all of the small clinic.
fn clinic() -> Idle {
    let mut idle = Idle::new();
    let mut rules = Rules::clone(crate::plan::tests::fixture::rules());
    rules.class_of = HashMap::from([("ann".to_owned(), ClassId(1))]);
    idle.1.rules = Arc::new(rules);
    let columns = [(2, "public.users.full_name"), (8, "public.accounts.pin"), (9, "public.accounts.balance")];
    idle.1.keyring = Keyring::for_tests(&[7; 32], "app", &columns).unwrap();
    idle
}

/// With statement `s` of an integer, a sealed integer and a sealed numeric.
fn inserting() -> Idle {
    let mut idle = clinic();
    idle.client(&[parse("s", "insert into accounts (id, pin, balance) values ($1, $2, $3)"), message(b'S', b"")]);
    let oids = [25_u32, 17, 17].iter().flat_map(|oid| oid.to_be_bytes());
    let described = message(b't', &[0, 3].into_iter().chain(oids).collect::<Vec<u8>>());
    idle.server(&[message(b'1', b""), described, message(b'n', b""), message(b'Z', b"I")]);
    idle.1.to_client.clear();
    idle.1.to_server.clear();
    idle
}

fn bind(codes: &[u8], values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = b"p\0s\0".to_vec();
    body.extend([&[0, codes.len() as u8][..], &codes.iter().flat_map(|c| [0, *c]).collect::<Vec<u8>>()].concat());
    body.extend([0, values.len() as u8]);
    for value in values {
        body.extend(value.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default());
    }
    body.extend([0, 1, 0, 1]);
    message(b'B', &body)
}

fn sqlstates(idle: &Idle) -> Vec<String> {
    let (mut at, mut found) = (0, Vec::new());
    while let Ok(Some((tag, size))) = frame::peek(&idle.1.to_client[at..], 1 << 20) {
        if tag == b'E' {
            let fields = message::notice_fields(&idle.1.to_client[at + 5..at + size]).unwrap();
            let code = fields.iter().find(|(code, _)| *code == b'C').unwrap().1;
            found.push(String::from_utf8_lossy(code).into_owned());
        }
        at += size;
    }
    found
}

fn refusals(idle: &Idle) -> usize {
    let refused = |effect: &&Effect| matches!(effect, Effect::Event(event) if event.kind == EventKind::Refused);
    idle.1.effects.iter().filter(refused).count()
}

#[test]
fn a_bad_value_is_replaced_by_one_of_no_type_behind_the_plain_ones_before_it() {
    for codes in [&[][..], &[1, 0, 0]] {
        let mut idle = inserting();
        idle.client(&[bind(codes, &[Some(b"1234"), Some(VALUE), Some(VALUE)]), message(b'S', b"")]);
        assert!(!idle.leaked());
        let first = codes.first().copied().unwrap_or(0);
        let mut failing = bind(&[first, 0, 0], &[Some(b"1234"), Some(&[0xff]), None]);
        failing.extend(message(b'S', b""));
        assert_eq!(idle.1.to_server, failing);
        // The server gets as far as that value.
        idle.server(&[error("22021"), message(b'Z', b"I")]);
        assert_eq!(sqlstates(&idle), ["22P02"]);
        assert!(idle.0.idle());
    }
}

#[test]
fn what_the_server_finds_before_a_bad_value_is_its_own_to_say() {
    // No such statement, as many portals, a transaction that has failed, a plain value that does not fit.
    for sqlstate in ["26000", "42P03", "25P02", "08P01"] {
        let mut idle = inserting();
        idle.client(&[bind(&[], &[Some(b"x"), Some(VALUE), None])]);
        idle.server(&[error(sqlstate)]);
        assert_eq!(sqlstates(&idle), [sqlstate]);
        // It was refused where the server, too, would have refused any value.
        assert_eq!(refusals(&idle), usize::from(sqlstate == "25P02"), "{sqlstate}");
    }
}

#[test]
fn whether_the_transaction_has_failed_is_the_servers_to_say() {
    for (sqlstate, told) in [("25P02", "25P02"), ("42703", "22P02")] {
        let mut idle = inserting();
        idle.client(&[query("begin"), query("select 1/0")]);
        let failed = [error("22012"), message(b'Z', b"E")].concat();
        idle.server(&[message(b'C', b"BEGIN\0"), message(b'Z', b"T"), failed]);
        idle.1.to_client.clear();
        // A ROLLBACK in the same pipeline may have ended it.
        let bad = "insert into accounts (pin) values ('kanarienvogel')";
        idle.client(&[parse("", bad), message(b'S', b"")]);
        idle.server(&[error(sqlstate), message(b'Z', b"E")]);
        idle.client(&[query(bad)]);
        idle.server(&[error(sqlstate), message(b'Z', b"E")]);
        assert!(!idle.leaked());
        assert_eq!(sqlstates(&idle), [told, told]);
        assert_eq!(refusals(&idle), 2);
    }
}

#[test]
fn a_sealed_value_before_the_bad_one_is_not_sent() {
    let mut idle = inserting();
    idle.client(&[bind(&[], &[Some(b"1"), Some(b"4321"), Some(VALUE)])]);
    assert_eq!(idle.1.to_server, bind(&[0, 0, 0], &[Some(b"1"), None, Some(&[0xff])]));
}

#[test]
fn a_format_that_is_none_is_the_servers_to_refuse() {
    let mut idle = inserting();
    idle.client(&[bind(&[0, 7, 0], &[Some(b"1"), Some(VALUE), None])]);
    assert_eq!(idle.1.to_server, bind(&[0, 7, 0], &[Some(b"1"), Some(&[0xff]), None]));
    idle.server(&[error("22023")]);
    assert_eq!(sqlstates(&idle), ["22023"]);
}

#[test]
fn miscounted_values_stay_here() {
    for sqlstate in ["08P01", "26000"] {
        for (codes, values) in [(&[][..], &[Some(VALUE); 2][..]), (&[0, 0], &[Some(VALUE); 3])] {
            let mut idle = inserting();
            idle.client(&[bind(codes, values)]);
            assert_eq!(idle.1.to_server, message(b'B', b"p\0s\0\0\0\0\0\0\0"));
            idle.server(&[error(sqlstate)]);
            assert_eq!(sqlstates(&idle), [sqlstate]);
        }
    }
}

#[test]
fn a_refused_bind_that_the_server_takes_ends_the_connection() {
    let mut idle = inserting();
    idle.client(&[bind(&[], &[Some(b"1"), Some(VALUE), None])]);
    let taken = message(b'2', b"");
    assert!(idle.0.server(&mut BytesMut::from(&taken[..]), &mut idle.1.cx()).is_err());
}

/// RowDescription of `users.full_name`.
fn description() -> Vec<u8> {
    let mut body = b"\0\x01full_name\0".to_vec();
    body.extend([&100_u32.to_be_bytes()[..], &[0, 3], &17_u32.to_be_bytes(), &[0xff; 6], &[0, 0]].concat());
    message(b'T', &body)
}

/// DataRow of that column, as a server sends it in text.
fn row(idle: &mut Idle, value: &str) -> Vec<u8> {
    let target = Target::stored(idle.1.rules.sealed[&(100, 3)].clone());
    let (mut plain, mut cell) = (Vec::new(), Vec::new());
    let style = Style::default();
    let mut sealer =
        write::Sealer { keyring: &idle.1.keyring, entropy: &mut idle.1.entropy, style: &style, plain: &mut plain };
    sealer.value(&target, 0, Format::Text, value.as_bytes(), &mut cell).unwrap();
    let text = format!("\\x{}", hex::encode(cell));
    message(b'D', &[&[0, 1], &(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat())
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"].concat())
}

#[test]
fn rows_of_a_cursor_that_sql_made_are_described_for_us_and_open() {
    let mut idle = clinic();
    for _ in 0..2 {
        idle.client(&[execute("h"), message(b'H', b"")]);
        assert_eq!(tags(&idle.1.to_server), "DEH");
        let opened = [&[0, 1, 0, 0, 0, 13], VALUE].concat();
        let row = row(&mut idle, "kanarienvogel");
        idle.server(&[description(), row, message(b's', b"")]);
        assert_eq!(idle.1.to_client[..], [message(b'D', &opened), message(b's', b"")].concat());
        idle.1.to_client.clear();
        idle.1.to_server.clear();
    }
    // Whatever the name stands for by then.
    idle.client(&[execute("h"), message(b'S', b"")]);
    idle.server(&[message(b'n', b""), message(b'C', b"CALL\0"), message(b'Z', b"I")]);
    assert_eq!(tags(&idle.1.to_client), "CZ");
    assert!(idle.0.idle());
}

#[test]
fn a_portal_that_is_not_there_is_missed_once() {
    let mut idle = clinic();
    idle.client(&[execute("h"), message(b'S', b"")]);
    idle.server(&[error("34000"), message(b'Z', b"I")]);
    assert_eq!((tags(&idle.1.to_client), sqlstates(&idle)), ("EZ".to_owned(), vec!["34000".to_owned()]));
    assert!(idle.0.idle());
}

#[test]
fn the_rows_of_a_cursor_do_not_keep_the_end_of_a_copy_waiting() {
    // The server sits on its answer until Sync, so that nothing may be held for it before.
    let mut idle = clinic();
    let left = idle.client(&[execute("h"), message(b'f', b"no\0"), message(b'S', b"")]);
    assert!(left.is_empty());
    assert_eq!(tags(&idle.1.to_server), "DES");
}
