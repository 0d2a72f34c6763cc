//! After the login: backpressure, intents, drain, and either side going away.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::double::*;
use crate::relay::Phase;

async fn exchange(client: &mut TcpStream, server: &mut TcpStream, text: &str) {
    client.write_all(&query(text)).await.unwrap();
    let mut seen = vec![0; query(text).len()];
    server.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, query(text));
    server.write_all(&ready()).await.unwrap();
    assert_eq!(until_ready(client).await, b"Z");
}

#[tokio::test]
async fn bytes_go_both_ways_whole_and_in_order() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (client, server) = site.login().await;
        let (mut client_in, mut client_out) = client.into_split();
        let (mut server_in, mut server_out) = server.into_split();
        // 8 MiB each way at once, more than every buffer on the way holds.
        let message: Arc<Vec<u8>> = Arc::new(query(&"x".repeat(1000)));
        let total = message.len() * 8000;
        let send = |mut to: tokio::net::tcp::OwnedWriteHalf, message: Arc<Vec<u8>>| async move {
            for _ in 0..8000 {
                to.write_all(&message).await.unwrap();
            }
            to
        };
        let up = tokio::spawn(send(client_out, message.clone()));
        let down = tokio::spawn(send(server_out, message.clone()));
        let receive = |mut from: tokio::net::tcp::OwnedReadHalf| async move {
            let mut got = vec![0; total];
            from.read_exact(&mut got).await.unwrap();
            (got, from)
        };
        let ((at_server, s), (at_client, c)) = tokio::join!(receive(server_in), receive(client_in));
        (server_in, client_in) = (s, c);
        assert!(at_server.chunks(message.len()).all(|c| c == &message[..]));
        assert!(at_client.chunks(message.len()).all(|c| c == &message[..]));
        (client_out, server_out) = (up.await.unwrap(), down.await.unwrap());
        drop((client_out, client_in));
        silence(&mut server_in).await;
        drop(server_out);
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_writer() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (client, mut server) = site.login().await;
        let block = query(&"y".repeat(60_000));
        let flood = async {
            for _ in 0..2_000 {
                server.write_all(&block).await.unwrap();
            }
        };
        // 120 MB do not fit anywhere unless somebody buffers without a bound.
        assert!(tokio::time::timeout(Duration::from_millis(500), flood).await.is_err());
        drop(client);
    }
}

#[tokio::test]
async fn what_belongs_to_an_intent_waits_for_its_receipt() {
    let site = site(false, |_| {}).await;
    let (mut client, mut server) = site.login().await;
    client.write_all(&[query("before"), query("intent"), query("after")].concat()).await.unwrap();
    let mut seen = vec![0; query("before").len()];
    server.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, query("before"));
    let early = tokio::time::timeout(Duration::from_millis(100), server.read_u8()).await;
    assert!(early.is_err(), "released before the receipt");
    // The other direction is not held.
    server.write_all(&ready()).await.unwrap();
    assert_eq!(until_ready(&mut client).await, b"Z");
    site.world.intents.lock().unwrap().pop().unwrap().send(true).unwrap();
    let mut seen = vec![0; query("intent").len() + query("after").len()];
    server.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, [query("intent"), query("after")].concat());
}

#[tokio::test]
async fn what_belongs_to_a_lost_intent_never_leaves() {
    let site = site(false, |_| {}).await;
    let (mut client, mut server) = site.login().await;
    client.write_all(&[query("before"), query("intent")].concat()).await.unwrap();
    let mut seen = vec![0; query("before").len()];
    server.read_exact(&mut seen).await.unwrap();
    site.world.intents.lock().unwrap().pop().unwrap().send(false).unwrap();
    assert_eq!(last_words(&mut client).await, "58030");
    silence(&mut server).await;
    assert_eq!(*site.world.finished.lock().unwrap(), [1]);
}

#[tokio::test]
async fn a_lost_server_is_told_between_messages() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (mut client, mut server) = site.login().await;
        exchange(&mut client, &mut server, "select 1").await;
        drop(server);
        assert_eq!(last_words(&mut client).await, "08006");
    }
}

#[tokio::test]
async fn a_server_that_said_why_it_ends_has_the_last_word() {
    let site = site(false, |_| {}).await;
    let (mut client, mut server) = site.login().await;
    // Behind another message, as when a backend terminates itself in a query.
    let mut said = query("a row");
    said.extend_from_slice(b"E\0\0\0\x27SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    server.write_all(&said).await.unwrap();
    drop(server);
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, said);
}

#[tokio::test]
async fn a_client_that_half_closes_gets_its_answers() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (mut client, mut server) = site.login().await;
        client.write_all(&query("last")).await.unwrap();
        client.shutdown().await.unwrap();
        let mut seen = Vec::new();
        server.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, query("last"));
        server.write_all(&ready()).await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, ready());
    }
}

#[tokio::test]
async fn what_was_asked_before_the_goodbye_is_answered() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (mut client, mut server) = site.login().await;
        client.write_all(&[&query("last")[..], b"X\0\0\0\x04"].concat()).await.unwrap();
        let mut seen = vec![0; query("last").len()];
        server.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, query("last"));
        server.write_all(&ready()).await.unwrap();
        drop(server);
        assert_eq!(read_message(&mut client).await.0, b'Z');
        silence(&mut client).await;
    }
}

#[tokio::test]
async fn a_drain_ends_idle_sessions_and_lets_statements_finish() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (mut idle, mut idle_server) = site.login().await;
        exchange(&mut idle, &mut idle_server, "select 1").await;
        let (mut busy, mut busy_server) = site.login().await;
        busy.write_all(&query("slow")).await.unwrap();
        let mut seen = vec![0; query("slow").len()];
        busy_server.read_exact(&mut seen).await.unwrap();
        site.drain.advance(Phase::Draining);
        assert_eq!(last_words(&mut idle).await, "57P01");
        busy_server.write_all(&ready()).await.unwrap();
        assert_eq!(read_message(&mut busy).await.0, b'Z');
        assert_eq!(last_words(&mut busy).await, "57P01");
        site.served.await.unwrap().unwrap();
        assert!(TcpStream::connect(site.address).await.is_err());
    }
}

#[tokio::test]
async fn a_drain_has_an_end() {
    for transparent in [false, true] {
        let site = site(transparent, |_| {}).await;
        let (mut busy, mut server) = site.login().await;
        busy.write_all(&query("for ever")).await.unwrap();
        server.read_u8().await.unwrap();
        site.drain.advance(Phase::Draining);
        let done = tokio::time::timeout(Duration::from_millis(100), read_message(&mut busy)).await;
        assert!(done.is_err());
        site.drain.advance(Phase::Over);
        assert_eq!(last_words(&mut busy).await, "57P01");
        site.served.await.unwrap().unwrap();
    }
}
