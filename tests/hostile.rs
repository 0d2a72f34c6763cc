//! Clients before and around the login, against the real thing: floods, limits, cancels, bytes one at a time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::scenario::site;
use crate::support::{Site, Wire, cluster, connect, frame, startup};

/// Copies every connection to `port`, one byte per write both ways.
fn dripping(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                to.set_nodelay(true).unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while from.read(&mut byte).is_ok_and(|n| n == 1) && to.write_all(&byte).is_ok() {}
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    address.port()
}

#[tokio::test]
async fn a_session_in_single_bytes_is_a_session() {
    let site = site("drip");
    let url = site.url("app").replace(&format!(":{}/", site.port()), &format!(":{}/", dripping(site.port())));
    let client = connect(&url).await.unwrap();
    let rows = client.query("select g, $1::text from generate_series(1, 50) g", &[&"word"]).await.unwrap();
    assert_eq!(rows.len(), 50);
    assert_eq!(rows[49].get::<_, String>(1), "word");
}

#[tokio::test]
async fn a_cancel_interrupts_its_own_statement_only() {
    let site = site("cancel");
    let (one, two) = (site.client("app").await, site.client("app").await);
    let token = one.cancel_token();
    let known: i32 = two.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let sleeping = |client: tokio_postgres::Client, seconds: &'static str| {
        tokio::spawn(async move { client.simple_query(&format!("select pg_sleep({seconds})")).await.map(|_| client) })
    };
    let (mine, other) = (sleeping(one, "30"), sleeping(two, "1.5"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Keys nobody was given are answered by closing, and interrupt nobody, though a process id is known to everybody.
    for secret in 0_u32..20 {
        let mut request = vec![0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e];
        request.extend_from_slice(&known.to_be_bytes());
        request.extend_from_slice(&secret.to_be_bytes());
        let mut wire = Wire::open(site.port());
        wire.send(&request);
        assert!(wire.frame().is_none());
    }
    let began = Instant::now();
    token.cancel_query(NoTls).await.unwrap();
    let cancelled = mine.await.unwrap().expect_err("the statement was interrupted");
    assert_eq!(cancelled.code().map(|c| c.code()), Some("57014"), "{cancelled:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let two = other.await.unwrap().expect("the other session was not");
    assert!(two.simple_query("select 1").await.is_ok());
}

/// Cancels that race with the end of what they were for, as many as `PGVEIL_CANCELS` says.
#[tokio::test(flavor = "multi_thread")]
async fn racing_cancels_never_hit_a_bystander() {
    const LATE: usize = 4;
    let cancels: usize = std::env::var("PGVEIL_CANCELS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let site = Arc::new(site("race"));
    let over = Arc::new(AtomicBool::new(false));
    let mut bystanders = Vec::new();
    for _ in 0..4 {
        let (client, over) = (site.client("app").await, over.clone());
        bystanders.push(tokio::spawn(async move {
            let mut statements = 0;
            while !over.load(Ordering::Relaxed) {
                client.simple_query("select pg_sleep(0.002)").await.expect("nobody cancelled this one");
                statements += 1;
            }
            statements
        }));
    }
    let mut victims = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let site = site.clone();
        victims.spawn(async move {
            let mut sent = 0;
            while sent < cancels / 8 {
                let client = site.client("app").await;
                let token = client.cancel_token();
                let running = AtomicBool::new(true);
                let statement = async {
                    let ran = client.simple_query("select pg_sleep(60)").await;
                    running.store(false, Ordering::Relaxed);
                    ran.expect_err("it was cancelled");
                };
                let cancelling = async {
                    while running.load(Ordering::Relaxed) {
                        token.cancel_query(NoTls).await.unwrap();
                        sent += 1;
                    }
                };
                tokio::join!(statement, cancelling);
                drop(client);
                for _ in 0..LATE {
                    token.cancel_query(NoTls).await.unwrap();
                    sent += 1;
                }
            }
        });
    }
    while let Some(ended) = victims.join_next().await {
        ended.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for bystander in bystanders {
        assert!(bystander.await.unwrap() > 0);
    }
}

/// Ten thousand sockets that say something or nothing, of which no more stay than one process may have open.
#[tokio::test]
async fn half_open_sockets_do_not_keep_a_login_out() {
    let site = Site::new("flood").listen("max_connections = 4").start();
    let mut flood = std::collections::VecDeque::new();
    for n in 0..10_000 {
        let mut wire = Wire::open(site.port());
        wire.send(&startup(&[("user", "app"), ("database", &site.database)])[..n % 9]);
        flood.push_back(wire);
        if flood.len() > 500 {
            flood.pop_front();
        }
    }
    let client = site.client("app").await;
    assert!(client.simple_query("select 1").await.is_ok());
}

#[tokio::test]
async fn the_connection_limit_is_53300_and_counted() {
    let site = Site::new("limit").listen("max_connections = 2").start();
    let (_one, two) = (site.client("app").await, site.client("app").await);
    let refused = connect(&site.url("app")).await.expect_err("all places are taken");
    assert_eq!(refused.code().map(|c| c.code()), Some("53300"), "{refused:?}");
    let (_, metrics) = crate::support::http(site.admin_port(), "/metrics").unwrap();
    assert!(metrics.contains("pgveil_refusals_total{code=\"PV007\"} 1"), "{metrics}");
    drop(two);
    for _ in 0..200 {
        if connect(&site.url("app")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn a_backend_that_dies_is_told_with_its_own_words() {
    let site = site("dies");
    let client = site.client("app").await;
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    site.sql(&format!("select pg_terminate_backend({pid})"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = client.simple_query("select 1").await.expect_err("the backend is gone");
    assert!(error.is_closed() || error.code().map(|c| c.code()) == Some("57P01"), "{error:?}");
    assert!(site.client("app").await.simple_query("select 1").await.is_ok());
}

#[test]
fn a_password_that_is_not_one_ends_the_connection() {
    let site = site("password");
    for body in [&b""[..], b"\0", b"SCRAM-SHA-1\0\0\0\0\0", &[0xff; 3000]] {
        let mut wire = Wire::open(site.port());
        wire.send(&startup(&[("user", "app"), ("database", &site.database)]));
        assert_eq!(wire.frame().map(|f| f.tag), Some(b'R'));
        wire.send(&frame(b'p', body));
        assert_eq!(wire.frame().map(|f| f.tag), Some(b'E'), "{body:?}");
        assert!(wire.frame().is_none());
    }
}

/// `psql` over the network with these connection parameters; what it printed, or its message.
fn psql(site: &Site, parameters: &str, statement: &str) -> Result<String, String> {
    let mut psql = std::process::Command::new(cluster().binaries().program("psql"));
    let output =
        psql.args(["-XAt", "-d", &format!("{}?{parameters}", site.url("app")), "-c", statement]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn clients_use_tls_as_it_is_demanded() {
    let mut site = Site::new("tls").listen("tls = { cert = \"cert.pem\", key = \"key.pem\" }").prepare();
    let [mine, other] = [(); 2].map(|()| rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap());
    site.write("cert.pem", &mine.cert.pem());
    site.write("key.pem", &mine.signing_key.serialize_pem());
    site.write("other.pem", &other.cert.pem());
    site.pgveil_ok(&["apply"]);
    site.serve();
    let ca = |name: &str| format!("sslmode=verify-full&sslrootcert={}", site.path(name).display());
    assert_eq!(psql(&site, &ca("cert.pem"), "select 'in'").as_deref(), Ok("in"));
    let wrong = psql(&site, &ca("other.pem"), "select 'in'").unwrap_err();
    assert!(wrong.contains("certificate"), "{wrong}");
    let plain = psql(&site, "sslmode=disable", "select 'in'").unwrap_err();
    assert!(plain.contains("PV003"), "{plain}");
    // What was sent in clear behind the request is not taken for what came through TLS.
    let mut smuggler = Wire::open(site.port());
    let request = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    smuggler.send(&[&request[..], &startup(&[("user", "app"), ("database", &site.database)])].concat());
    assert!(smuggler.frame().is_none());
    // The certificate is exchanged while the proxy serves; one that cannot be read changes nothing.
    site.write("cert.pem", "nothing");
    site.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    site.write("cert.pem", &mine.cert.pem());
    assert_eq!(psql(&site, &ca("cert.pem"), "select 'in'").as_deref(), Ok("in"));
    site.write("cert.pem", &other.cert.pem());
    site.write("key.pem", &other.signing_key.serialize_pem());
    site.signal("HUP");
    let renewed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        psql(&site, &ca("other.pem"), "select 'in'").is_ok()
    });
    assert!(renewed, "{}", site.log());
}

/// What crates below us log is not ours to vouch for; the site's end searches the log for the canary.
#[tokio::test]
async fn the_most_talkative_log_holds_no_values() {
    let policy = "version = 1\n[tables.\"public.t\"]\nsubject = { kind = \"person\", key = \"id\" }\n\
        [tables.\"public.t\".columns]\nid = { level = \"internal\" }\n\
        name = { level = \"restricted\", as = \"varchar(80)\", encrypt = \"deterministic\", mask = \"name\" }\n\
        [roles.app]\nclearance = \"restricted\"\n";
    let site = Site::new("talkative").schema("create table t (id int primary key, name varchar(80));").policy(policy);
    let site = site.config("[log]\nlevel = \"trace\"").start();
    let app = site.client("app").await;
    app.batch_execute("insert into t values (1, 'Ada kanarie')").await.unwrap();
    let found = app.query("select id from t where name = $1 or name = 'Bea kanarie'", &[&"Ada kanarie"]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(app.batch_execute("select upper(name) || 'kanarie' from t").await.is_err());
    drop(app);
    let mut talks = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        talks |= site.log().contains("DEBUG");
    }
    assert!(talks, "{}", site.log());
}
