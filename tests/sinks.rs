//! Alerts on their way out: to servers in this file that are slow, wrong, gone or as they should be.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::Sha256;

use crate::support::Site;

const SECRET: &str = "9f1c2b7a4e5d-hook";
const SCHEMA: &str = "create table visits (id int primary key, reason text)";
const POLICY: &str = r#"version = 1
[tables."public.visits".columns]
id = { level = "internal" }
reason = { level = "restricted", as = "text", encrypt = "randomized" }
[roles.app]
clearance = "restricted"
[roles.support]
clearance = "restricted"
[roles.analyst]
clearance = "restricted"
[detect]
bulk_records = 2
"#;

/// An authority, and a server's certificate by it for 127.0.0.1.
fn authority() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (ca, Arc::new(config))
}

#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that answers with whatever status it is told; with 0 it never answers.
struct Hook {
    port: u16,
    status: Arc<AtomicU16>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Hook {
    fn start(tls: Option<Arc<ServerConfig>>, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hook = Self { port, status: Arc::new(AtomicU16::new(status)), seen: Arc::default() };
        let (status, seen) = (hook.status.clone(), hook.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, status, seen) = (tls.clone(), status.clone(), seen.clone());
                std::thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(connection, stream), &status, &seen)
                    }
                    None => serve(stream, &status, &seen),
                });
            }
        });
        hook
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has seen that many requests.
    fn wait(&self, count: usize, site: &Site) -> Vec<Seen> {
        until(site, &format!("{count} requests"), || Some(self.seen()).filter(|seen| seen.len() >= count))
    }
}

/// `None` when the other side is not as it should be.
fn serve(stream: impl Read + Write, status: &AtomicU16, seen: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    let answer = status.load(Ordering::SeqCst);
    seen.lock().unwrap().push(Seen { line, headers, body: String::from_utf8(body).ok()? });
    if answer == 0 {
        // Until the other side has had enough.
        let _ = stream.read(&mut [0]);
        return None;
    }
    let location = if answer == 307 { "Location: https://127.0.0.1:1/elsewhere\r\n" } else { "" };
    write!(stream.get_mut(), "HTTP/1.1 {answer} So\r\n{location}Content-Length: 2\r\n\r\nok").ok()?;
    stream.get_mut().flush().ok()
}

fn until<T>(site: &Site, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A proxy with these sinks. `ca.pem` and `secret` are in its folder.
fn site(name: &str, ca: &str, sinks: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).config(sinks).prepare();
    site.write("ca.pem", ca);
    site.write("secret", SECRET);
    std::fs::set_permissions(site.path("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    site.pgveil_ok(&["apply"]);
    site
}

fn webhook(hook: &Hook, more: &str) -> String {
    let url = format!("url = \"https://127.0.0.1:{}/in?x=1\"\nca = \"ca.pem\"\nsecret_file = \"secret\"\n", hook.port);
    format!("[[alerts.sinks]]\nkind = \"webhook\"\n{url}{more}\n")
}

/// Three rows are one more than are allowed.
async fn bulk(site: &Site, role: &str) {
    let client = site.client(role).await;
    client
        .simple_query("insert into visits values (1, 'kanarie'), (2, 'kanarie'), (3, 'kanarie') on conflict do nothing")
        .await
        .unwrap();
    client.query("select reason from visits", &[]).await.unwrap();
}

fn roles(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.json()["role"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_tried_again_and_after_a_restart_sent_what_is_missing() {
    let (ca, tls) = authority();
    let hook = Hook::start(Some(tls), 500);
    let mut site = site("sinks_hook", &ca, &webhook(&hook, "min_severity = \"medium\""));
    site.serve();
    bulk(&site, "support").await;
    hook.wait(1, &site);
    hook.answers(204);
    let seen = hook.wait(2, &site);
    assert_eq!(seen[0].body, seen[1].body, "a repetition says the same");
    let message = seen[1].json();
    let text = |name: &str| message[name].as_str().unwrap_or_else(|| panic!("{name}: {message}")).to_owned();
    assert_eq!(
        (text("type"), text("rule"), text("role")),
        ("bulk_data_access".into(), "bulk".into(), "support".into())
    );
    assert_eq!((&message["observed"], &message["threshold"]), (&3.into(), &2.into()));
    assert_eq!(text("instance"), format!("127.0.0.1:{}", site.port()));
    for Seen { line, headers, body } in &seen {
        assert_eq!(line, "POST /in?x=1 HTTP/1.1\r\n");
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.{body}", headers["x-pgveil-timestamp"]).as_bytes());
        let expected = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        assert_eq!(headers["x-pgveil-signature"], expected);
        assert_eq!(headers["idempotency-key"], text("id"));
        assert!(text("id").starts_with(&text("deployment")), "{message}");
    }
    until(&site, "delivery counted", || (site.metric("pgveil_sink_delivered_total", "webhook") == 1.0).then_some(()));
    assert_eq!(site.metric("pgveil_sink_up", "webhook"), 1.0);
    assert!(site.metric("pgveil_sink_errors_total", "webhook") >= 1.0);

    hook.answers(503);
    bulk(&site, "analyst").await;
    hook.wait(3, &site);
    site.kill();
    hook.answers(200);
    let before = hook.seen().len();
    site.serve();
    bulk(&site, "app").await;
    let seen = hook.wait(before + 2, &site);
    assert_eq!(roles(&seen[before..]), ["analyst", "app"]);
    until(&site, "a cursor", || {
        let told = std::fs::read_to_string(site.audit_dir().join("sinks/webhook.json")).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        (told["seen"].as_u64() >= seen.last().unwrap().json()["seq"].as_u64()).then_some(())
    });
    site.pgveil_ok(&["log", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sink_holds_up_no_other_and_is_itself_an_alert() {
    let (ca, tls) = authority();
    let (slow, manager) = (Hook::start(Some(tls), 0), Hook::start(None, 200));
    let sinks = format!(
        "{}[[alerts.sinks]]\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{}/am/\"\n\
         [[alerts.sinks]]\nkind = \"log\"\npath = \"alerts.jsonl\"\n",
        webhook(&slow, "name = \"slow\"\ntimeout_s = 1"),
        manager.port
    );
    let mut site = site("sinks_slow", &ca, &sinks);
    site.serve();
    bulk(&site, "support").await;
    let seen = manager.wait(2, &site);
    assert_eq!(seen[0].line, "POST /am/api/v2/alerts HTTP/1.1\r\n");
    let labels = |at: usize| seen[at].json()[0]["labels"].clone();
    assert_eq!((&labels(0)["alertname"], &labels(0)["rule"]), (&"PgveilPrivacyAlert".into(), &"bulk".into()));
    assert_eq!((&labels(0)["role"], &labels(0)["database"]), (&"support".into(), &site.database.clone().into()));
    assert_eq!((&labels(1)["rule"], &labels(1)["severity"]), (&"sink".into(), &"high".into()));
    assert!(seen[1].json()[0]["annotations"]["description"].as_str().unwrap().contains("sink slow (webhook)"));
    assert_eq!(site.metric("pgveil_sink_up", "\"slow\""), 0.0);
    assert_eq!(site.metric("pgveil_sink_up", "\"alertmanager\""), 1.0);
    assert!(site.metric("pgveil_sink_errors_total", "\"slow\"") >= 3.0);

    slow.answers(200);
    until(&site, "recovery", || (site.metric("pgveil_sink_up", "\"slow\"") == 1.0).then_some(()));
    let told = slow.seen();
    assert!(told.iter().all(|seen| seen.json()["rule"] == "bulk"), "it is not told of itself: {told:?}");
    let alerts = site.events().iter().filter(|event| event["alert"]["rule"] == "sink").count();
    assert_eq!(alerts, 1, "one for each outage");
    let lines = std::fs::read_to_string(site.path("alerts.jsonl")).unwrap();
    let rules: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["rule"].clone()).collect();
    assert_eq!(rules, ["bulk", "sink"]);
}

#[test]
fn a_redirect_is_not_followed_a_stranger_not_trusted_and_nothing_goes_out_in_clear() {
    let (ca, tls) = authority();
    let hook = Hook::start(Some(tls), 307);
    let site = site("sinks_no", &ca, &webhook(&hook, ""));
    let test = |wanted: &str| {
        let output = site.pgveil(&["alerts", "test"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{said}{}", String::from_utf8_lossy(&output.stderr));
    };
    test("answered 307: redirects are not followed");
    assert_eq!(hook.seen().len(), 1);
    hook.answers(200);
    assert!(site.pgveil_ok(&["alerts", "test", "--sink", "webhook"]).contains("webhook (webhook): taken"));
    assert_eq!(hook.seen()[1].json()["type"], "test");
    site.write("ca.pem", &authority().0);
    test("FAILED: TLS: ");
    std::fs::set_permissions(site.path("secret"), PermissionsExt::from_mode(0o644)).unwrap();
    test("secret");
    assert!(!site.pgveil(&["check", "--offline"]).status.success());
    assert_eq!(hook.seen().len(), 2);

    let text = std::fs::read_to_string(site.path("pgveil.toml")).unwrap();
    site.write("pgveil.toml", &text.replace("https://127.0.0.1", "http://192.0.2.1"));
    let output = site.pgveil(&["check", "--offline"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("would cross the network in clear"), "{said}");
}

/// A mail server that takes one mail; what it was told.
fn mail_server(tls: Option<Arc<ServerConfig>>) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut text = String::new();
            let _ = greet(stream, tls.clone(), &mut text);
            let _ = told.send(text);
        }
    });
    (port, seen)
}

fn greet(mut stream: TcpStream, tls: Option<Arc<ServerConfig>>, text: &mut String) -> std::io::Result<()> {
    stream.write_all(b"220 test\r\n")?;
    let Some(config) = tls else { return talk(stream, "250 test\r\n", text) };
    if talk(stream.try_clone()?, "250-test\r\n250 STARTTLS\r\n", text).is_ok() {
        talk(StreamOwned::new(ServerConnection::new(config).unwrap(), stream), "250 test\r\n", text)?;
    }
    Ok(())
}

/// Until STARTTLS or QUIT.
fn talk(stream: impl Read + Write, hello: &str, text: &mut String) -> std::io::Result<()> {
    // One byte at a time: what follows STARTTLS is not ours.
    let mut stream = BufReader::with_capacity(1, stream);
    let mut mail = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.push_str(&line);
        let command = line.trim_end().to_ascii_uppercase();
        let answer = match (mail, command.as_str()) {
            (true, ".") => "250 taken\r\n",
            (true, _) => continue,
            (_, "DATA") => "354 go on\r\n",
            (_, "STARTTLS") => "220 go on\r\n",
            (_, "QUIT") => "221 bye\r\n",
            (_, other) if other.starts_with("EHLO") => hello,
            _ => "250 ok\r\n",
        };
        mail = command == "DATA" && !mail;
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
        match command.as_str() {
            "STARTTLS" => return Ok(()),
            "QUIT" => return Ok(()),
            _ => {}
        }
    }
}

fn mail(port: u16, more: &str) -> String {
    format!(
        "[[alerts.sinks]]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nfrom = \"pgveil@hospital.example\"\n\
         to = [\"Security <security@hospital.example>\", \"dpo@hospital.example\"]\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_has_the_founding_subject_and_goes_out_under_tls_only() {
    let (ca, tls) = authority();
    let (port, seen) = mail_server(Some(tls));
    let mut site = site("sinks_mail", &ca, &mail(port, "ca = \"ca.pem\""));
    site.serve();
    bulk(&site, "support").await;
    let told = seen.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|e| panic!("{e}: {}", site.log()));
    let (clear, mail) = told.split_once("STARTTLS").unwrap();
    assert!(!clear.contains("MAIL"), "{told}");
    for wanted in [
        "MAIL FROM:<pgveil@hospital.example>",
        "RCPT TO:<security@hospital.example>",
        "RCPT TO:<dpo@hospital.example>",
        "\r\nSubject: Privacy Alert: bulk_data_access\r\n",
        "\r\nX-Priority: 1 (Highest)\r\n",
        "\r\nMessage-ID: <",
        "role       support",
    ] {
        assert!(mail.contains(wanted), "{wanted} is not in\n{mail}");
    }
    until(&site, "delivery counted", || (site.metric("pgveil_sink_delivered_total", "smtp") == 1.0).then_some(()));
}

#[test]
fn no_mail_goes_to_a_server_without_tls() {
    let (port, seen) = mail_server(None);
    let site = site("sinks_clear", &authority().0, &mail(port, "ca = \"ca.pem\""));
    let output = site.pgveil(&["alerts", "test", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success() && said["ok"] == false, "{said}");
    let told = seen.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(told.starts_with("EHLO") && !told.contains("MAIL"), "{told}");
    let text = std::fs::read_to_string(site.path("pgveil.toml")).unwrap();
    site.write("pgveil.toml", &text.replace("ca = \"ca.pem\"", "tls = \"none\""));
    site.pgveil_ok(&["alerts", "test"]);
    assert!(seen.recv_timeout(Duration::from_secs(30)).unwrap().contains("Subject: Privacy Alert: test"));
}
