//! What the server would ignore does not go to it: nobody has looked for values in it. Each was a finding of
//! tests/fuzz.

use super::*;

/// Of one value, to the unnamed portal.
fn bind(statement: &str) -> Vec<u8> {
    let length = (VALUE.len() as u32).to_be_bytes();
    message(b'B', &[b"\0", statement.as_bytes(), b"\0\0\0\0\x01", &length, VALUE, b"\0\0"].concat())
}

#[test]
fn after_an_error_nothing_but_sync_is_forwarded() {
    let mut idle = Idle::new();
    idle.client(&[parse("s", "select $1")]);
    idle.server(&[error("42601")]);
    idle.client(&[bind("s"), message(b'E', b"\0\0\0\0\0"), message(b'H', b""), query("select 'kanarienvogel'")]);
    assert_eq!(tags(&idle.1.to_server), "P");
    idle.client(&[message(b'S', b"")]);
    assert_eq!(tags(&idle.1.to_server), "PS");
    idle.server(&[message(b'Z', b"I")]);
    assert_eq!(tags(&idle.1.to_client), "EZ");
    assert!(idle.0.idle());
}

#[test]
fn behind_a_refusal_nothing_but_sync_is_forwarded() {
    let mut idle = Idle::new();
    // The error of a pipeline before does not let the next one's values through.
    idle.client(&[parse("a", "select 1"), message(b'S', b""), parse("pgveil_b", "select $1"), bind("pgveil_b")]);
    idle.server(&[error("42P01")]);
    idle.client(&[bind("pgveil_b")]);
    assert!(!idle.leaked());
    idle.client(&[message(b'S', b"")]);
    assert_eq!(tags(&idle.1.to_server), "PSPS");
    idle.server(&[message(b'Z', b"I"), error("42703"), message(b'Z', b"I")]);
    assert_eq!(tags(&idle.1.to_client), "EZEZ");
    assert!(idle.0.idle());
}

#[test]
fn values_for_a_statement_nobody_knows_stay_here() {
    let mut idle = Idle::new();
    idle.client(&[bind("nobody"), message(b'S', b"")]);
    assert!(!idle.leaked());
    assert_eq!(tags(&idle.1.to_server), "BS");
    idle.server(&[error("26000"), message(b'Z', b"I")]);
    let fields = message::notice_fields(&idle.1.to_client[5..idle.1.to_client.len() - 6]).unwrap();
    assert!(fields.contains(&(b'C', b"26000")), "{fields:?}");
    let missing = b"prepared statement \"nobody\" does not exist";
    assert!(fields.iter().any(|(code, text)| *code == b'M' && text.ends_with(missing)), "{fields:?}");
    // Without values there is nothing to seal, and SQL in a function may have prepared it.
    idle.1.to_server.clear();
    let bare = message(b'B', b"\0nobody\0\0\0\0\0\0\0");
    idle.client(std::slice::from_ref(&bare));
    assert_eq!(idle.1.to_server, bare);
}

#[test]
fn rows_outside_copy_stay_here() {
    let mut idle = Idle::new();
    idle.client(&[message(b'd', VALUE), message(b'c', b""), message(b'f', b"no\0")]);
    assert!(idle.1.to_server.is_empty());
    // COPY that the server has given up.
    idle.client(&[query("copy t from stdin")]);
    idle.server(&[message(b'G', &[0, 0, 1, 0, 0])]);
    idle.client(&[message(b'd', b"1\n")]);
    idle.server(&[error("22P02"), message(b'Z', b"I")]);
    idle.client(&[message(b'd', VALUE), message(b'c', b"")]);
    assert_eq!(tags(&idle.1.to_server), "Qd");
}

#[test]
fn a_copy_with_messages_behind_it_takes_no_rows() {
    let mut idle = Idle::new();
    idle.client(&[query("copy t from stdin"), query("copy t from stdin"), message(b'd', VALUE)]);
    idle.server(&[message(b'G', &[0, 0, 1, 0, 0])]);
    idle.client(&[message(b'd', VALUE), message(b'c', b"")]);
    assert_eq!(tags(&idle.1.to_server), "QQ");
}

#[test]
fn a_flush_with_a_body_fails_its_pipeline() {
    let mut idle = Idle::new();
    idle.client(&[message(b'H', b"x")]);
    idle.server(&[error("08P01")]);
    idle.client(&[parse("", "select 1"), message(b'S', b"")]);
    assert_eq!(tags(&idle.1.to_server), "HS");
    idle.server(&[message(b'Z', b"I")]);
    assert!(idle.0.idle());
}

#[test]
fn what_the_server_ignores_during_a_copy_does_not_end_it() {
    let mut idle = Idle::new();
    let early = [query("copy t from stdin"), message(b'S', b""), message(b'H', b"x"), message(b'd', b"1\n")];
    let held = idle.client(&early);
    idle.server(&[message(b'G', &[0, 0, 1, 0, 0])]);
    idle.client(&[held.to_vec(), message(b'c', b"")]);
    assert_eq!(tags(&idle.1.to_server), "QSHdc");
    idle.server(&[message(b'C', b"COPY 1\0"), message(b'Z', b"I")]);
    assert_eq!(tags(&idle.1.to_client), "GCZ");
}

#[test]
fn a_client_waits_when_too_many_replies_are_outstanding() {
    let mut idle = Idle::new();
    let sync = message(b'S', b"");
    let left = idle.client(&vec![sync.clone(); PENDING_MAX + 10]);
    assert_eq!(left.len(), 10 * sync.len());
    idle.server(&[message(b'Z', b"I"), message(b'Z', b"I")]);
    assert_eq!(idle.client(&[left.to_vec()]).len(), 8 * sync.len());
}
