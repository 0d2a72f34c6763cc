//! The admin console, as operators use it: psql and a driver, every command, and who may give it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{PASSWORD, Site, SiteBuilder, Wire, cluster, connect, query};

const CONSOLE: &str = "[console]\nroles = [\"app\"]\nread_only_roles = [\"analyst\"]\n";

const POLICY: &str = r#"version = 1
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "restricted"
"#;

fn builder(name: &str) -> SiteBuilder {
    Site::new(name).schema("create table people (id int primary key, name text);").policy(POLICY).config(CONSOLE)
}

fn site(name: &str) -> Site {
    builder(name).start()
}

fn url(site: &Site, role: &str) -> String {
    format!("postgresql://{role}:{PASSWORD}@127.0.0.1:{}/pgveil", site.port())
}

fn psql(site: &Site, role: &str, command: &str) -> Output {
    let mut psql = Command::new(cluster().binaries().program("psql"));
    psql.args(["-X", "-A", "-F", "|", "-d", &url(site, role), "-c", command]).stdin(Stdio::null());
    psql.output().expect("psql runs")
}

/// What psql printed of a command that works, line by line, without the row count.
fn lines(site: &Site, role: &str, command: &str) -> Vec<String> {
    let output = psql(site, role, command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('(')).map(str::to_owned).collect()
}

fn error(site: &Site, role: &str, command: &str) -> String {
    let output = psql(site, role, command);
    assert!(!output.status.success(), "{role}: {command}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The value in the row whose first column is that.
fn value(lines: &[String], name: &str) -> String {
    let found = lines.iter().find_map(|line| line.strip_prefix(&format!("{name}|")));
    found.unwrap_or_else(|| panic!("no {name} in {lines:#?}")).to_owned()
}

fn state(site: &Site, role: &str, database: &str) -> String {
    let of = format!("|{role}|{database}|");
    let sessions = lines(site, "analyst", "show sessions");
    let found = sessions.iter().find(|line| line.contains(&of)).unwrap_or_else(|| panic!("{of}: {sessions:#?}"));
    found.split('|').nth(6).unwrap().to_owned()
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_show_has_its_columns() {
    let site = site("shows");
    let app = site.client("app").await;
    app.execute("insert into people values (1, $1)", &[&"Ann kanarie"]).await.unwrap();
    for (command, columns) in [
        ("show help", "command|what"),
        ("SHOW STATS;", "metric|labels|value"),
        ("show sessions", "session|role|database|client|application|tls|state|since|age_s"),
        ("show rules", "relation|column|level|encrypt|column_id|mask|subject"),
        ("show policy", "rules_version|mode|database|tables|sealed_columns|roles|sound|catalog_read"),
        ("show keys", "column_id|database|column|mode|keys|newest_key|created|age_days|retired"),
        ("show audit", "name|value"),
        ("show config", "name|value"),
        ("show version", "version"),
    ] {
        for role in ["app", "analyst"] {
            let shown = lines(&site, role, command);
            assert_eq!(shown[0], columns, "{command}");
            assert!(shown.len() > 1, "{command} is empty");
        }
    }
    let rules = lines(&site, "analyst", "show rules");
    assert_eq!(rules[1], "public.people|id|internal||||person");
    assert!(rules[2].starts_with("public.people|name|restricted|randomized|"), "{rules:?}");
    let keys = lines(&site, "analyst", "show keys");
    assert!(keys[1].contains(&format!("|{}|public.people.name|randomized|1|", site.database)), "{keys:?}");
    let config = lines(&site, "analyst", "show config");
    assert_eq!(value(&config, "console.roles"), "app");
    assert_eq!(value(&config, "control.user"), "pgveil");
    assert!(!config.concat().contains(PASSWORD) && !config.concat().contains("correct horse"), "{config:?}");
    assert_eq!(value(&lines(&site, "app", "show audit"), "writable"), "yes");
    let stats = lines(&site, "app", "show stats");
    assert!(stats.iter().any(|line| line.starts_with("pgveil_rows_total|treatment=\"written\"|1")), "{stats:?}");
    assert!(!stats.concat().contains("kanarie"));
    assert_eq!(lines(&site, "app", "show version")[1], concat!("pgveil ", env!("CARGO_PKG_VERSION")));
    assert_eq!(state(&site, "app", &site.database), "idle");
    assert_eq!(state(&site, "analyst", "pgveil"), "console");
}

#[test]
fn only_roles_that_are_named_and_proven_may_come() {
    let site = builder("whocomes").listen("allow_trust = true\n").start();
    assert!(error(&site, "support", "show version").contains("PV040"));
    let wrong = url(&site, "app").replace(PASSWORD, "wrong");
    let mut command = Command::new(cluster().binaries().program("psql"));
    let output = command.args(["-X", "-d", &wrong, "-c", "show version"]).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("password authentication failed"), "{output:?}");
    // A login that proves nothing does for a database, and not here.
    assert!(site.psql("trusty", &["-c", "select 1"]).status.success());
    assert!(error(&site, "trusty", "show version").contains("PV004"));
    let read_only = error(&site, "analyst", "reload");
    assert!(read_only.contains("PV040") && read_only.contains("[console] roles"), "{read_only}");
    for command in ["pause", "resume", "RELOAD;"] {
        assert!(error(&site, "analyst", command).contains("PV040"), "{command}");
    }
    let all = site.events();
    let failed = |code: &str| all.iter().filter(|e| e["kind"] == "login-failed" && e["code"] == code).count();
    assert_eq!((failed("PV040"), failed("PV004")), (1, 1), "support and trusty");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_has_seats_when_all_are_taken() {
    let site = builder("seats").listen("max_connections = 1\n").start();
    let only = site.client("app").await;
    let refused = connect(&site.url("app")).await.unwrap_err();
    assert!(format!("{refused:?}").contains("PV007"), "{refused:?}");
    let consoles = [0; 4].map(|_| Wire::login(site.port(), "analyst", "pgveil"));
    assert!(error(&site, "app", "show version").contains("PV007"), "they are bounded as well");
    drop(consoles);
    until("their seats are free", || psql(&site, "app", "show sessions").status.success());
    assert!(connect(&site.url("app")).await.is_err(), "and are the console's");
    drop(only);
}

#[test]
fn a_login_without_a_password_is_not_enough_even_for_a_named_role() {
    let named = "[console]\nroles = [\"trusty\"]\n";
    let site = Site::new("trusting").listen("allow_trust = true\n").config(named).start();
    assert!(site.psql("trusty", &["-c", "select 1"]).status.success());
    assert!(error(&site, "trusty", "show version").contains("PV004"));
}

#[test]
fn without_the_section_there_is_no_console() {
    let site = Site::new("noconsole").start();
    assert!(error(&site, "app", "show version").contains("PV006"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_in_the_access_log() {
    let site = site("recorded");
    lines(&site, "app", "Show   Version ;");
    error(&site, "analyst", "reload");
    // What is typed and is no command stays out of log, metrics and access log: the site looks for it when it ends.
    error(&site, "app", "select 'kanarie'");
    let console: Vec<_> = site.events().into_iter().filter(|event| event["kind"] == "console").collect();
    let told = |event: &serde_json::Value, field: &str| event[field].as_str().unwrap_or("-").to_owned();
    let seen: Vec<_> = console
        .iter()
        .map(|event| {
            let role = event["actor"]["role"].as_str().unwrap();
            format!("{role} {} {} {}", told(event, "code"), told(event, "sqlstate"), told(event, "note"))
        })
        .collect();
    let expected = [
        "app - - SHOW VERSION",
        "analyst PV040 42501 role \"analyst\" may not give RELOAD",
        "app PV041 42601 this is no command of the console, which knows no SQL",
    ];
    assert_eq!(seen, expected);
    assert!(console.iter().all(|event| event["connection"].as_u64().unwrap_or(0) > 0));
    assert!(console.iter().all(|event| event["actor"]["database"] == "pgveil"));
    let tail = site.pgveil_ok(&["log", "tail", "-n", "100"]);
    assert!(tail.contains("console") && tail.contains("SHOW VERSION"), "{tail}");
}

#[test]
fn what_is_no_command_fails_cleanly() {
    let site = site("nocommand");
    for (typed, said) in [("\\d", "PV041"), ("show everything", "SHOW does not know this"), ("reload now", "follows")] {
        assert!(error(&site, "app", typed).contains(said), "{typed}");
    }
    // psql goes on after an error, and the session with it.
    let output = psql(&site, "app", "show version");
    assert!(output.status.success());
    let mut psql = Command::new(cluster().binaries().program("psql"));
    let both = ["-X", "-A", "-t", "-d", &url(&site, "app"), "-c", "\\d", "-c", "show version"];
    let output = psql.args(both).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("pgveil "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_uses_the_simple_protocol_and_is_told_so() {
    let site = site("driver");
    let client = connect(&url(&site, "app")).await.unwrap();
    let refused = client.query("show version", &[]).await.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!((refused.code().code(), refused.message().contains("simple query protocol")), ("0A000", true));
    for _ in 0..3 {
        let answer = client.simple_query("show version").await.unwrap();
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get("version").map(str::to_owned),
            _ => None,
        });
        assert_eq!(row.as_deref(), Some(concat!("pgveil ", env!("CARGO_PKG_VERSION"))));
    }
    assert_eq!(client.simple_query("").await.unwrap().len(), 1, "an empty query has an empty answer");
    let backends =
        site.sql("select count(*) from pg_stat_activity where usename = 'app' and datname = current_database()");
    assert_eq!(backends.trim(), "0", "the console keeps no backend");
}

#[test]
fn hostile_messages_end_the_console_only() {
    let site = site("hostileconsole");
    for message in [&b"Q\0\0\0\x02"[..], b"Q\x7f\0\0\0", b"z\0\0\0\x04", b"p\0\0\0\x04"] {
        let mut wire = Wire::login(site.port(), "app", "pgveil");
        wire.send(message);
        let last = std::iter::from_fn(|| wire.frame()).last().expect("a last word");
        assert_eq!((last.tag, last.field(b'S').as_deref()), (b'E', Some("FATAL")), "{message:?}");
    }
    let mut wire = Wire::login(site.port(), "app", "pgveil");
    // Not UTF-8; unterminated; extended and COPY messages; what is skipped until Sync.
    wire.send(b"Q\0\0\0\x06\xff\0");
    assert_eq!(wire.until_ready()[0].field(b'C').as_deref(), Some("08P01"));
    wire.send(b"Q\0\0\0\x06ab");
    assert_eq!(wire.until_ready()[0].field(b'C').as_deref(), Some("08P01"));
    wire.send(&[&b"d\0\0\0\x04H\0\0\0\x04P\0\0\0\x04B\0\0\0\x04"[..], &query("reload"), b"S\0\0\0\x04"].concat());
    let answers = wire.until_ready();
    assert_eq!(answers.iter().map(|frame| frame.tag).collect::<Vec<_>>(), b"EZ");
    wire.send(&[query("show version"), query(" ; "), b"F\0\0\0\x04".to_vec()].concat());
    let tags = |frames: Vec<crate::support::Frame>| frames.iter().map(|frame| frame.tag).collect::<Vec<_>>();
    assert_eq!(tags(wire.until_ready()), b"TDCZ");
    assert_eq!(tags(wire.until_ready()), b"IZ");
    assert_eq!(tags(wire.until_ready()), b"EZ");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_reads_the_policy_anew() {
    let site = site("reloads");
    let version = || value(&lines(&site, "app", "show policy"), "1");
    assert!(version().starts_with("enforce|"));
    site.write("policy.toml", &format!("{POLICY}\n[roles.support]\nclearance = \"internal\"\n"));
    assert_eq!(lines(&site, "app", "reload"), ["RELOAD"]);
    until("the new policy is in force", || {
        lines(&site, "app", "show policy")[1].split('|').nth(5).is_some_and(|roles| roles == "3")
    });
}

async fn held(client: &Client, sql: &str) -> bool {
    tokio::time::timeout(Duration::from_millis(300), client.simple_query(sql)).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lets_transactions_end_and_holds_what_is_new() {
    let site = site("pauses");
    let (busy, other) = (site.client("app").await, site.client("analyst").await);
    let console = connect(&url(&site, "app")).await.unwrap();
    busy.batch_execute("begin; select 1").await.unwrap();
    until("it is in its transaction", || state(&site, "app", &site.database) == "busy");
    let pausing = tokio::spawn(async move { console.simple_query("pause").await.map(|_| console) });
    until("the idle one holds", || state(&site, "analyst", &site.database) == "held");
    assert!(!pausing.is_finished(), "a transaction is open");
    // What it does inside its transaction goes on.
    busy.batch_execute("select 2").await.unwrap();
    assert!(!pausing.is_finished(), "a transaction is open");
    busy.batch_execute("commit").await.unwrap();
    let console = pausing.await.unwrap().unwrap();
    assert_eq!(state(&site, "app", &site.database), "held");
    let waiting = tokio::spawn(async move { other.simple_query("select 3").await.map(|_| other) });
    assert!(held(&busy, "select 4").await);
    assert!(!waiting.is_finished());
    assert_eq!(site.metric("pgveil_paused", ""), 1.0);
    // Whoever logs in meanwhile waits as well, and the console does not.
    let late = site.client("analyst").await;
    assert!(held(&late, "select 5").await);
    console.simple_query("resume").await.unwrap();
    let other = waiting.await.unwrap().unwrap();
    other.simple_query("select 6").await.unwrap();
    late.simple_query("select 7").await.unwrap();
    busy.simple_query("select 8").await.unwrap();
    assert_eq!(site.metric("pgveil_paused", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_that_left_has_asked_during_a_pause_does_not_begin() {
    let site = builder("left").listen("drain_timeout_s = 1\n").start();
    let mut gone = Wire::login(site.port(), "app", &site.database);
    lines(&site, "app", "pause");
    gone.send(&query("insert into people values (1, 'Ann kanarie')"));
    drop(gone);
    until("it is gone", || {
        let of = format!("|app|{}|", site.database);
        !lines(&site, "analyst", "show sessions").iter().any(|line| line.contains(&of))
    });
    lines(&site, "app", "resume");
    assert_eq!(site.sql("select count(*) from people").trim(), "0");
    // A transaction that does not end: the pause says so, and holds.
    let open = site.client("app").await;
    open.batch_execute("begin").await.unwrap();
    let said = error(&site, "app", "pause");
    assert!(said.contains("1 sessions are still") && said.contains("RESUME"), "{said}");
    open.batch_execute("select 1; commit").await.unwrap();
    assert!(held(&open, "select 1").await);
}

#[test]
fn a_drain_ends_what_is_held_and_the_console() {
    let mut site = builder("drained").listen("drain_timeout_s = 20\n").start();
    let mut asks = Wire::login(site.port(), "app", &site.database);
    let mut console = Wire::login(site.port(), "app", "pgveil");
    console.send(&query("pause"));
    assert_eq!(console.until_ready()[0].tag, b'C');
    asks.send(&query("select 1"));
    site.signal("TERM");
    for wire in [&mut asks, &mut console] {
        let last = std::iter::from_fn(|| wire.frame()).last().expect("a last word");
        assert_eq!((last.tag, last.field(b'C').as_deref()), (b'E', Some("57P01")));
    }
    assert_eq!(site.wait_exit(20), Some(0));
}
