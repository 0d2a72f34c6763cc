//! `action = "quarantine"` and `pgveil quarantine`: a login that is refused until somebody releases it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::NoTls;

use crate::support::{PASSWORD, Site, connect};

const SCHEMA: &str = "create table people (id int primary key, note text);";
const POLICY: &str = r#"version = 1
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
note = { level = "restricted", encrypt = "randomized", as = "text" }
[roles.app]
clearance = "restricted"
[roles.support]
clearance = "restricted"
[roles.analyst]
clearance = "restricted"
[detect]
exempt = ["app"]
[detect.rules.bulk]
threshold = 10
action = "quarantine"
[detect.rules.failures]
threshold = 5
action = "quarantine"
"#;
/// Nothing in these tests takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn site(name: &str, config: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).config(config).start();
    let app = site.client("app").await;
    for id in 1..=20 {
        app.execute("insert into people values ($1, 'parkiet')", &[&id]).await.unwrap();
    }
    site
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a login of that role is told; `None`: it is let in.
async fn refused(site: &Site, role: &str) -> Option<String> {
    let error = connect(&site.url(role)).await.err()?;
    let said = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    Some(format!("{} {} {}", said.code().code(), said.message(), said.hint().unwrap_or_default()))
}

async fn let_in(site: &Site, role: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(said) = refused(site, role).await {
        assert!(said.starts_with("28000 PV033"), "{said}");
        assert!(Instant::now() < deadline, "{role} is not let in again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn about(site: &Site, kind: &str, role: &str) -> Vec<Value> {
    site.events().into_iter().filter(|e| e["kind"] == kind && e["actor"]["role"] == role).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_login_is_refused_until_it_is_released_restarts_included() {
    let mut site = site("quarantine", "").await;
    let (busy, connection) = tokio_postgres::connect(&site.url("support"), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let sleeps = tokio::spawn(async move { busy.simple_query("select pg_sleep(600)").await.map(|_| ()) });
    let support = site.client("support").await;
    assert_eq!(support.query("select note from people", &[]).await.unwrap().len(), 20);
    // All its sessions end, in the server too.
    let ended = sleeps.await.unwrap().unwrap_err();
    let said = ended.as_db_error().unwrap();
    assert!(said.code().code() == "57P01" && said.message().starts_with("PV033"), "{said:?}");
    assert!(connection.await.unwrap().is_err());
    let asleep = "select count(*) from pg_stat_activity where usename = 'support' and datname = current_database()";
    until("the backends end", || site.sql(asleep) == "0").await;
    let said = refused(&site, "support").await.unwrap();
    assert!(said.starts_with("28000 PV033") && said.contains("pgveil quarantine release"), "{said}");
    assert!(refused(&site, "analyst").await.is_none());
    until("the gauge", || site.metric("pgveil_quarantined", "") >= 1.0).await;
    assert!(site.metric("pgveil_detector_actions_total", "quarantine") >= 1.0);
    assert_eq!(about(&site, "quarantined", "support").len(), 1);
    until("the attempt's event", || about(&site, "login-failed", "support").iter().any(|e| e["code"] == "PV033")).await;

    site.kill();
    site.serve();
    assert!(refused(&site, "support").await.is_some());
    let listed = site.pgveil_ok(&["quarantine", "list", "--json"]);
    let entry: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((&entry["role"], &entry["reason"]), (&"support".into(), &"rule bulk".into()));
    site.pgveil_ok(&["quarantine", "release", "support"]);
    let_in(&site, "support").await;
    until("the event", || about(&site, "released", "support").len() == 1).await;
    assert!(site.pgveil_ok(&["quarantine", "list"]).contains("no login"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_shuts_a_login_out_and_not_everybody_can_be() {
    let site = site("quarantine_cli", "[quarantine]\npath = \"shut/out.toml\"\n").await;
    std::fs::create_dir(site.path("shut")).unwrap();
    let (_client, connection) = tokio_postgres::connect(&site.url("analyst"), NoTls).await.unwrap();
    site.pgveil_ok(&["quarantine", "add", "analyst", "--reason", "laptop \"stolen\""]);
    assert!(connection.await.unwrap_err().as_db_error().unwrap().message().starts_with("PV033"));
    assert!(refused(&site, "analyst").await.is_some());
    until("the event", || about(&site, "quarantined", "analyst").len() == 1).await;
    assert!(site.pgveil_ok(&["quarantine", "add", "analyst", "--reason", "again"]).contains("already"));
    assert!(site.pgveil_ok(&["quarantine", "list"]).contains("analyst  since 20"));
    for (args, why) in [
        (&["quarantine", "add", "pgveil", "--reason", "x"][..], "own login"),
        (&["quarantine", "add", "app", "--reason", "x"], "exempt"),
        (&["quarantine", "add", "", "--reason", "x"], "no name"),
        (&["quarantine", "release", "support"], "not quarantined"),
    ] {
        let output = site.pgveil(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{args:?}: {said}");
    }
    // A file that somebody has removed or spoiled lets nobody in.
    std::fs::remove_file(site.path("shut/out.toml")).unwrap();
    until("it is written again", || site.path("shut/out.toml").exists()).await;
    assert!(refused(&site, "analyst").await.is_some());
    site.write("shut/out.toml", "spoiled");
    until("it is said", || site.log().contains("not followed")).await;
    assert!(refused(&site, "analyst").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_holds_and_is_said() {
    let site = site("quarantine_down", "[quarantine]\npath = \"nowhere/quarantine.toml\"\n").await;
    let support = site.client("support").await;
    support.query("select note from people", &[]).await.unwrap();
    let said = |e: &Value| e["alert"]["message"].as_str().is_some_and(|said| said.contains("until the proxy ends"));
    until("an alert", || about(&site, "alert", "support").iter().any(said)).await;
    assert!(refused(&site, "support").await.unwrap().starts_with("28000 PV033"));
    std::fs::create_dir(site.path("nowhere")).unwrap();
    until("it is written as soon as it can be", || site.path("nowhere/quarantine.toml").exists()).await;
    site.pgveil_ok(&["quarantine", "release", "support"]);
    let_in(&site, "support").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_passwords_shuts_nobody_out() {
    let site = site("quarantine_guess", "").await;
    let wrong = site.url("support").replace(PASSWORD, "wrong");
    for _ in 0..12 {
        connect(&wrong).await.err().unwrap();
    }
    until("the alert", || !about(&site, "alert", "support").is_empty()).await;
    assert!(refused(&site, "support").await.is_none());
    assert_eq!(site.metric("pgveil_quarantined", ""), 0.0);
    // Who has proven to be that one and goes on failing is another matter.
    let analyst = site.client("analyst").await;
    for _ in 0..7 {
        analyst.query("select * from pg_authid", &[]).await.unwrap_err();
    }
    until("the quarantine", || site.metric("pgveil_quarantined", "") >= 1.0).await;
    assert!(refused(&site, "analyst").await.is_some());
}
