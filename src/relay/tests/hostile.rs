//! Before the login: what a client may send that is not a startup.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls_pki_types as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::double::*;
use crate::relay::{ClientTls, ServerFiles, ServerTls, Verify};
use crate::wire::startup::{CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST};

fn request(code: u32) -> Vec<u8> {
    [8u32.to_be_bytes(), code.to_be_bytes()].concat()
}

fn cancel(pid: u32, secret: [u8; 4]) -> Vec<u8> {
    [&16u32.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), &pid.to_be_bytes(), &secret].concat()
}

struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self, required: bool) -> Arc<ServerTls> {
        let files = ServerFiles {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            client_ca: None,
            certificate_optional: false,
        };
        Arc::new(ServerTls::load(files, required).unwrap())
    }

    fn connector(&self, verify: Verify, alpn: bool) -> TlsConnector {
        let tls = ClientTls::new("localhost", verify, Some(&self.path("cert.pem"))).unwrap();
        let mut config = (*tls.config()).clone();
        if !alpn {
            config.alpn_protocols.clear();
        }
        TlsConnector::from(Arc::new(config))
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn what_is_not_a_startup_packet_is_closed_without_a_word() {
    let site = site(false, |_| {}).await;
    let garbage: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 0],
        &[0, 0, 0, 7, 0, 3, 0],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        &[0x16, 3, 1, 0, 200],
        &cancel(1, [0; 4])[..15],
    ];
    for bytes in garbage {
        let mut client = site.dial().await;
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        silence(&mut client).await;
    }
    let mut client = site.dial().await;
    client.write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 1]).await.unwrap();
    assert_eq!(last_words(&mut client).await, "08P01");
    let mut client = site.dial().await;
    client.write_all(&[0, 0, 0, 8, 0, 2, 0, 0]).await.unwrap();
    assert_eq!(last_words(&mut client).await, "0A000");
}

#[tokio::test]
async fn a_startup_in_single_bytes_logs_in() {
    let site = site(false, |_| {}).await;
    let mut client = site.dial().await;
    client.set_nodelay(true).unwrap();
    for byte in request(SSL_REQUEST) {
        client.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    for byte in request(GSSENC_REQUEST) {
        client.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    for byte in startup() {
        client.write_all(&[byte]).await.unwrap();
    }
    let _server = site.let_in().await;
    assert_eq!(until_ready(&mut client).await, b"RKZ");
}

#[tokio::test]
async fn a_slow_startup_runs_into_the_deadline() {
    let site = site(false, |s| s.startup_timeout = Duration::from_millis(200)).await;
    let mut slow = site.dial().await;
    slow.write_all(&startup()[..6]).await.unwrap();
    silence(&mut slow).await;
    // The server never answers the startup: the same deadline covers the login.
    let mut stuck = site.dial().await;
    stuck.write_all(&startup()).await.unwrap();
    silence(&mut stuck).await;
    assert_eq!(site.world.finished.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn requests_for_encryption_come_once_and_alone() {
    let site = site(false, |_| {}).await;
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut twice = site.dial().await;
        twice.write_all(&request(code)).await.unwrap();
        assert_eq!(twice.read_u8().await.unwrap(), b'N');
        twice.write_all(&request(code)).await.unwrap();
        assert_eq!(last_words(&mut twice).await, "0A000");
        let mut more = site.dial().await;
        more.write_all(&[request(code), startup()].concat()).await.unwrap();
        silence(&mut more).await;
    }
}

#[tokio::test]
async fn tls_is_negotiated_direct_or_refused() {
    let certificates = Certificates::new();
    let site = site(false, |s| s.tls = Some(certificates.server(true))).await;

    let mut plain = site.dial().await;
    plain.write_all(&startup()).await.unwrap();
    assert_eq!(last_words(&mut plain).await, "28000");

    let mut smuggler = site.dial().await;
    smuggler.write_all(&[request(SSL_REQUEST), startup()].concat()).await.unwrap();
    silence(&mut smuggler).await;

    for alpn in [true, false] {
        let mut asked = site.dial().await;
        asked.write_all(&request(SSL_REQUEST)).await.unwrap();
        assert_eq!(asked.read_u8().await.unwrap(), b'S');
        let mut asked = certificates.connector(Verify::Full, alpn).connect(localhost(), asked).await.unwrap();
        asked.write_all(&startup()).await.unwrap();
        let _server = site.let_in().await;
        assert_eq!(until_ready(&mut asked).await, b"RKZ");
    }

    let connector = certificates.connector(Verify::Full, true);
    let mut direct = connector.connect(localhost(), site.dial().await).await.unwrap();
    direct.write_all(&startup()).await.unwrap();
    let _server = site.let_in().await;
    assert_eq!(until_ready(&mut direct).await, b"RKZ");

    let connector = certificates.connector(Verify::Full, false);
    if let Ok(mut nameless) = connector.connect(localhost(), site.dial().await).await {
        let _ = nameless.write_all(&startup()).await;
        silence(&mut nameless).await;
    }
}

#[tokio::test]
async fn plaintext_instead_of_a_handshake_is_closed() {
    let certificates = Certificates::new();
    let site = site(false, |s| s.tls = Some(certificates.server(false))).await;
    let mut client = site.dial().await;
    client.write_all(&request(SSL_REQUEST)).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'S');
    client.write_all(&startup()).await.unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    // A TLS alert at most; nothing of PostgreSQL's protocol, and the server never hears of it.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
}

#[tokio::test]
async fn a_cancel_reaches_its_own_backend_or_nobody() {
    let site = site(false, |_| {}).await;
    let (_client, _server) = site.login().await;
    for (pid, secret) in [(4242, [0; 4]), (77, THEIRS), (1, OURS)] {
        let mut stranger = site.dial().await;
        stranger.write_all(&cancel(pid, secret)).await.unwrap();
        silence(&mut stranger).await;
    }
    let mut friend = site.dial().await;
    friend.write_all(&cancel(4242, OURS)).await.unwrap();
    // The first connection that arrives at the server is the friend's: the others were not forwarded.
    let (mut at_server, _) = site.server.accept().await.unwrap();
    assert_eq!(read_packet(&mut at_server).await, cancel(77, THEIRS));
    drop(at_server);
    silence(&mut friend).await;
}

#[tokio::test]
async fn half_open_sockets_do_not_keep_a_login_out() {
    let site = site(false, |s| s.strangers_max = 3).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(site.dial().await);
    }
    let (_client, _server) = site.login().await;
    silence(&mut idle[0]).await;
}

#[tokio::test]
async fn the_connection_limit_is_told_before_the_login() {
    let site = site(false, |s| s.sessions_max = 1).await;
    let (client, server) = site.login().await;
    let mut second = site.dial().await;
    second.write_all(&startup()).await.unwrap();
    assert_eq!(last_words(&mut second).await, "53300");
    drop((client, server));
    // The place is free again once both legs have ended.
    loop {
        let mut third = site.dial().await;
        third.write_all(&startup()).await.unwrap();
        let server = tokio::time::timeout(Duration::from_millis(200), site.let_in()).await;
        if server.is_ok() {
            assert_eq!(until_ready(&mut third).await, b"RKZ");
            break;
        }
    }
}

#[tokio::test]
async fn an_upstream_without_tls_or_with_too_much_of_it_is_refused() {
    let certificates = Certificates::new();
    let ca = certificates.path("cert.pem");
    let site = site(false, |s| {
        s.upstream.tls = Some(ClientTls::new("localhost", Verify::Full, Some(&ca)).unwrap());
    })
    .await;
    let single = (0..=255_u8).filter(|byte| *byte != b'S').map(|byte| vec![byte]);
    let after = (0..=255_u8).step_by(5).map(|byte| vec![b'S', byte]);
    let longer = [&b""[..], b"SS", b"NS", b"S\x16\x03\x03\0\x02", b"E\0\0\0\x09SFATAL", &[0; 4096], &[0xff; 4096]];
    for answer in single.chain(after).chain(longer.map(<[u8]>::to_vec)) {
        let mut client = site.dial().await;
        client.write_all(&startup()).await.unwrap();
        let (mut server, _) = site.server.accept().await.unwrap();
        assert_eq!(read_packet(&mut server).await, request(SSL_REQUEST));
        server.write_all(&answer).await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(last_words(&mut client).await, "57P03", "{answer:?}");
    }
    // What follows the answer later, in clear, is taken for a handshake, which it is not.
    for byte in [0, b'R', b'S', 0x15, 0x17, 0xff] {
        let mut client = site.dial().await;
        client.write_all(&startup()).await.unwrap();
        let (mut server, _) = site.server.accept().await.unwrap();
        read_packet(&mut server).await;
        server.write_all(b"S").await.unwrap();
        let mut hello = [0; 3];
        server.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello[..2], [0x16, 3], "a TLS handshake begins, and no startup packet goes in clear");
        server.write_all(&[byte; 64]).await.unwrap();
        assert_eq!(last_words(&mut client).await, "57P03", "{byte}");
    }
}

/// With TLS on offer, and without: any first bytes, at once or in two pieces around an answer.
#[tokio::test]
async fn any_bytes_before_tls_are_dropped_or_refused() {
    let certificates = Certificates::new();
    for tls in [None, Some(certificates.server(false))] {
        let site = site(false, |s| s.tls = tls.clone()).await;
        for byte in 0..=255_u8 {
            let mut client = site.dial().await;
            let _ = client.write_all(&[byte; 64]).await;
            let _ = client.shutdown().await;
            let mut said = Vec::new();
            let _ = client.read_to_end(&mut said).await;
            // Nothing, a FATAL error, or a TLS alert.
            assert!(matches!(said.first(), None | Some(b'E' | 0x15)), "{byte}: {said:?}");
        }
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            for extra in [&[0][..], &startup(), &request(SSL_REQUEST), &request(GSSENC_REQUEST), &cancel(1, [0; 4])] {
                for cut in [1, 4, 7, 8] {
                    let mut client = site.dial().await;
                    client.set_nodelay(true).unwrap();
                    let bytes = [&request(code)[..], extra].concat();
                    let _ = client.write_all(&bytes[..cut]).await;
                    tokio::task::yield_now().await;
                    let _ = client.write_all(&bytes[cut..]).await;
                    let _ = client.shutdown().await;
                    let mut said = Vec::new();
                    let _ = client.read_to_end(&mut said).await;
                    // If the request was answered before the rest came, the rest is a handshake, a packet of its own, or
                    // a second request; the server hears of none, or of a whole startup packet in clear.
                    let answered = matches!(said.first(), Some(b'S' | b'N'));
                    let rest = if answered { &said[1..] } else { &said[..] };
                    assert!(matches!(rest.first(), None | Some(b'E' | 0x15 | b'N' | b'S')), "{code} {cut}: {said:?}");
                    assert!(answered || said.is_empty() || said[0] == b'E', "{code} {cut}: {said:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_upstream_certificate_is_checked_as_configured() {
    let certificates = Certificates::new();
    let other = Certificates::new();
    let cases = [
        ("localhost", Verify::Full, &certificates, true),
        ("db.example", Verify::Full, &certificates, false),
        ("db.example", Verify::Authority, &certificates, true),
        ("localhost", Verify::Full, &other, false),
        ("localhost", Verify::Authority, &other, false),
        ("db.example", Verify::Nothing, &certificates, true),
        ("db.example", Verify::Nothing, &other, false),
    ];
    for (host, verify, ca, good) in cases {
        let ca = ca.path("cert.pem");
        let site = site(false, |s| s.upstream.tls = Some(ClientTls::new(host, verify, Some(&ca)).unwrap())).await;
        let mut client = site.dial().await;
        client.write_all(&startup()).await.unwrap();
        let (mut server, _) = site.server.accept().await.unwrap();
        read_packet(&mut server).await;
        server.write_all(b"S").await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(certificates.server(true).identity().config.clone());
        match acceptor.accept(server).await {
            Ok(mut server) if good => {
                let mut first = vec![0; startup().len()];
                server.read_exact(&mut first).await.unwrap();
                assert_eq!(first, startup());
            }
            Ok(_) | Err(_) => assert_eq!((last_words(&mut client).await, good), ("57P03".into(), false)),
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_told_quickly() {
    let site = site(false, |s| s.upstream.port = 1).await;
    let mut client: TcpStream = site.dial().await;
    client.write_all(&startup()).await.unwrap();
    assert_eq!(last_words(&mut client).await, "57P03");
}
