//! The harness itself: what other tests stand on.

use crate::support::{Wire, cluster, server_log};

#[test]
fn the_raw_connection_logs_in_and_asks() {
    let mut wire = Wire::login(cluster().port(), "app", "postgres");
    wire.message(b'Q', b"select 'a' as b\0");
    let tags: Vec<u8> = wire.until_ready().iter().map(|f| f.tag).collect();
    assert_eq!(tags, b"TDCZ");
}

#[test]
fn the_server_logs_every_statement() {
    cluster().sql("template1", "select 'one\n\ttwo' as harness").unwrap();
    let log = server_log("template1");
    assert!(log.contains("as harness") && log.contains("two"), "{log}");
    assert!(!server_log("nobody").contains("harness"));
}
