//! The admin port over real sockets; what watches it names only metrics that exist.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::desk;
use crate::event::{Access, Event, EventKind};
use crate::metrics::{CATALOGUE, Kind, Outcome};
use crate::policy::rules::Rules;
use crate::secret::Key;

fn rules() -> Arc<Rules> {
    Arc::new(Rules::none(crate::detect::Thresholds::default()))
}

/// Status line and body.
async fn fetch(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_admin_port_tells_health_readiness_with_reasons_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder().unwrap();
    let meters = Arc::new(::metrics::with_local_recorder(&recorder, Meters::new));
    let settings = desk::Settings::new(dir.path());
    let (desk, thread) = desk::start(settings, Key::new([1; 32]), &[1; 16], rules, meters.clone()).unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    let facts = Arc::new(Facts::default());
    let door = Door {
        metrics: recorder.handle(),
        meters: meters.clone(),
        desk: desk.clone(),
        upstream: Upstream { host: "127.0.0.1".into(), port, timeout: Duration::from_secs(5) },
        facts: facts.clone(),
    };
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, door, async move { drop(stopped.await) }));

    assert_eq!(fetch(address, "/healthz").await, ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    let (status, body) = fetch(address, "/readyz").await;
    assert!(status.contains("503"), "{status}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["keys"]["reason"], "the keyring is not unlocked");
    assert_eq!((&body["upstream"]["ok"], &body["audit"]["ok"]), (&true.into(), &true.into()));
    facts.keys.store(true, Ordering::Release);
    facts.catalog.store(true, Ordering::Release);
    assert!(fetch(address, "/readyz").await.0.contains("200"));

    drop(upstream);
    let (status, body) = fetch(address, "/readyz").await;
    assert!(status.contains("503") && body.contains("PostgreSQL at 127.0.0.1"), "{status} {body}");

    meters.statement(Access::Read, Outcome::Ok);
    meters.added_latency_ns(30_000);
    desk.intent(Event::new(EventKind::Intent, 0)).await.unwrap();
    meters.key_created("public.users.email", 1_700_000_000);
    let (_, text) = fetch(address, "/metrics").await;
    assert!(text.contains("pgveil_statements_total{access=\"read\",outcome=\"ok\"} 1"), "{text}");
    assert!(text.contains("pgveil_added_latency_seconds_bucket{le=\"0.00005\"} 1"), "{text}");
    assert!(text.contains("pgveil_audit_up 1"), "{text}");

    assert!(thread.stop(Duration::from_secs(20)).await);
    assert!(fetch(address, "/readyz").await.1.contains("the access log cannot be written"));
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_admin_port_stays_on_this_machine() {
    assert!(bind("0.0.0.0:0".parse().unwrap()).await.is_err());
    assert!(bind("[::]:0".parse().unwrap()).await.is_err());
}

/// Every `pgveil_…` word of a text.
fn names(text: &str) -> HashSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(word).filter(|word| word.starts_with("pgveil_")).map(str::to_owned).collect()
}

#[test]
fn alert_rules_and_dashboard_name_only_metrics_that_exist() {
    let known: HashSet<String> = CATALOGUE
        .iter()
        .flat_map(|metric| match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).to_vec(),
            _ => vec![metric.name.to_owned()],
        })
        .collect();
    let docker = concat!(env!("CARGO_MANIFEST_DIR"), "/docker");
    for file in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(format!("{docker}/{file}")).unwrap();
        let used = names(&text);
        assert!(used.len() >= 10, "{file} uses {} metrics", used.len());
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(format!("{docker}/dashboard.json")).unwrap())
        .unwrap();
}
