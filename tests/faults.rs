//! A network that fails: single bytes, pauses, resets, silence, half-open connections, at a byte that a seed chooses, on
//! either leg. `PGVEIL_SEEDS=1000..3000` runs those seeds; a failing one is printed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::support::{CANARY, PASSWORD, Site, cluster, server_log};

const PATIENCE: Duration = Duration::from_secs(1);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Bytes arrive one by one.
    Drip,
    /// Nothing arrives for a while.
    Pause,
    /// The connection is reset.
    Reset,
    /// The sender's end is said, and nothing more is passed on.
    HalfOpen,
    /// Nothing arrives any more, and nobody says so.
    Silence,
}

/// One thing that goes wrong, in one direction, from that byte on.
#[derive(Clone, Copy, Debug)]
struct Fault {
    kind: Kind,
    towards_client: bool,
    at: usize,
}

/// A listener before a port that passes bytes on, and does to the next connection what it has been told.
struct FaultProxy {
    port: u16,
    next: Arc<Mutex<Option<Fault>>>,
}

impl FaultProxy {
    fn new(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(Mutex::new(None));
        let told = next.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let fault: Option<Fault> = told.lock().unwrap().take();
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to, towards_client) in [(&client, &server, false), (&server, &client, true)] {
                    let ends = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    ends.1.set_nodelay(true).unwrap();
                    let fault = fault.filter(|fault| fault.towards_client == towards_client);
                    std::thread::spawn(move || pass(ends.0, ends.1, fault));
                }
            }
        });
        Self { port, next }
    }

    fn break_next(&self, fault: Option<Fault>) {
        *self.next.lock().unwrap() = fault;
    }
}

/// Passes bytes on until an end or the fault.
fn pass(mut from: TcpStream, mut to: TcpStream, fault: Option<Fault>) {
    let mut chunk = [0; 4096];
    let mut passed = 0;
    let mut paused = false;
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            let struck = fault.filter(|fault| passed + rest.len() > fault.at);
            let whole = struck.map_or(rest.len(), |fault| fault.at.saturating_sub(passed));
            match struck.map(|fault| fault.kind) {
                Some(Kind::Reset) => {
                    let _ = to.write_all(&rest[..whole]);
                    for end in [&from, &to] {
                        let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
                        let _ = end.shutdown(Shutdown::Both);
                    }
                    return;
                }
                Some(Kind::HalfOpen) => {
                    let _ = to.write_all(&rest[..whole]);
                    let _ = to.shutdown(Shutdown::Write);
                    // What still comes is taken and forgotten.
                    while let Ok(1..) = from.read(&mut chunk) {}
                    return;
                }
                Some(Kind::Silence) => {
                    let _ = to.write_all(&rest[..whole]);
                    while let Ok(1..) = from.read(&mut chunk) {}
                    return;
                }
                Some(Kind::Pause) if !paused => {
                    paused = true;
                    std::thread::sleep(Duration::from_millis(60));
                }
                _ => {}
            }
            let size = if matches!(struck, Some(Fault { kind: Kind::Drip, .. })) { 1 } else { rest.len() };
            if to.write_all(&rest[..size]).is_err() {
                return;
            }
            passed += size;
            rest = &rest[size..];
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

async fn connect(site: &Site, port: u16) -> Option<Client> {
    let url = format!("postgresql://app:{PASSWORD}@127.0.0.1:{port}/{}", site.database);
    let (client, connection) = timeout(PATIENCE, tokio_postgres::connect(&url, NoTls)).await.ok()?.ok()?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Some(client)
}

/// What a client has been told for certain.
#[derive(Debug, Default)]
struct Told {
    stored: bool,
    /// Statements of which at least one opened value arrived.
    shown: usize,
}

/// A little of everything, as far as the network lets it.
async fn work(client: &Client, id: i32) -> Told {
    let mut told = Told::default();
    let (email, name) = (format!("{CANARY}{id}@example.org"), format!("{CANARY} {id}"));
    let insert = "insert into people (id, email, name) values ($1, $2, $3)";
    told.stored = matches!(timeout(PATIENCE, client.execute(insert, &[&id, &email, &name])).await, Ok(Ok(1)));
    let by_email = "select name as faulty_reader from people where email = $1";
    let all = "select email as faulty_reader, name from people order by id";
    if let Ok(Ok(rows)) = timeout(PATIENCE, client.query(by_email, &[&email])).await {
        told.shown += usize::from(!rows.is_empty());
        assert!(rows.iter().all(|row| row.get::<_, &str>(0) == name), "a value is whole or not there");
    }
    let literal = format!("begin; update people set name = '{name}' where id = {id}; rollback");
    let _ = timeout(PATIENCE, client.batch_execute(&literal)).await;
    if let Ok(Ok(rows)) = timeout(PATIENCE, client.query(all, &[])).await {
        told.shown += usize::from(!rows.is_empty());
        assert!(rows.iter().all(|row| row.get::<_, &str>(0).starts_with(CANARY)), "a value is whole or not there");
    }
    told
}

fn fault(rng: &mut StdRng) -> Fault {
    // Silence is only noticed by patience, so there is less of it.
    let kind = match rng.random_range(0..20) {
        0..=4 => Kind::Drip,
        5..=8 => Kind::Pause,
        9..=14 => Kind::Reset,
        15..=18 => Kind::HalfOpen,
        _ => Kind::Silence,
    };
    // A login is some hundreds of bytes each way, the rest a few thousand.
    let at = if rng.random_bool(0.3) { rng.random_range(0..600) } else { rng.random_range(0..6000) };
    Fault { kind, towards_client: rng.random_bool(0.5), at }
}

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("PGVEIL_SEEDS").ok();
    let range = asked.as_deref().and_then(|text| text.split_once(".."));
    range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(0..200)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_network_does_nothing_leaks_tears_or_hangs() {
    let upstream = FaultProxy::new(cluster().port());
    let site = Site::new("faults")
        .schema(include_str!("clients/schema.sql"))
        .policy(include_str!("clients/policy.toml"))
        .upstream(upstream.port)
        .start();
    let front = FaultProxy::new(site.port());
    let mut shown = 0;
    for seed in seeds() {
        let mut rng = StdRng::seed_from_u64(seed);
        let (fault, on_client_leg) = (fault(&mut rng), rng.random_bool(0.5));
        let context = format!("seed {seed}: {fault:?} on the {} leg", if on_client_leg { "client" } else { "server" });
        let id = i32::try_from(seed).unwrap();
        (if on_client_leg { &front } else { &upstream }).break_next(Some(fault));
        let mut told = Told::default();
        if let Some(client) = connect(&site, front.port).await {
            told = work(&client, id).await;
        }
        shown += told.shown;
        // A fault that nobody has met is not left for the next one.
        front.break_next(None);
        upstream.break_next(None);
        let after =
            connect(&site, front.port).await.unwrap_or_else(|| panic!("{context}: nobody can log in afterwards"));
        let count = after.query_one("select count(*) from people where id = $1", &[&id]).await.unwrap();
        assert!(!told.stored || count.get::<_, i64>(0) == 1, "{context}: what was stored is gone");
        after.execute("delete from people where id < $1 - 20", &[&id]).await.unwrap();
    }
    let text = |event: &serde_json::Value| event["text"].as_str().unwrap_or_default().contains("faulty_reader");
    let intents = site.events().iter().filter(|event| event["kind"] == "intent" && text(event)).count();
    assert!(shown > 0 && intents >= shown, "{shown} answers with rows, {intents} intents");
    assert!(site.pgveil(&["log", "verify"]).status.success());
    assert!(!server_log(&site.database).contains(CANARY));
}
