//! What follows an alert: `throttle` and `kill`. (`stop` and `quarantine` have files of their own.)

use std::time::{Duration, Instant};

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
"#;
/// Nothing in these tests takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn site(name: &str, rule: &str) -> Site {
    let policy = format!("{POLICY}{rule}");
    let site = Site::new(name).schema(SCHEMA).listen("drain_timeout_s = 1").policy(&policy).start();
    let app = site.client("app").await;
    for id in 1..=60 {
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

fn throttle(rate: u32) -> String {
    format!("[detect.rules.bulk]\nthreshold = 10\naction = \"throttle\"\nrows_per_second = {rate}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_actor_gets_its_rows_at_that_rate_and_others_at_theirs() {
    let site = site("throttle", &throttle(20)).await;
    let support = site.client("support").await;
    assert_eq!(support.query("select note from people limit 15", &[]).await.unwrap().len(), 15);
    until("an alert", || site.metric("pgveil_detector_actions_total", "throttle") >= 1.0).await;
    // 60 rows, of which a second's worth, 20, may have gathered: a faster machine cannot make the others come sooner.
    let began = Instant::now();
    assert_eq!(support.query("select note from people", &[]).await.unwrap().len(), 60);
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    let copied = site.psql("support", &["-c", "copy people to stdout"]);
    assert!(copied.status.success() && copied.stdout.iter().filter(|byte| **byte == b'\n').count() == 60);
    assert!(began.elapsed() >= Duration::from_millis(4_900), "another session, by COPY: {:?}", began.elapsed());
    // What is not protected waits for nobody.
    assert_eq!(support.query("select generate_series(1, 10000)", &[]).await.unwrap().len(), 10_000);
    let alerts = site.events();
    let alert = alerts.iter().find(|e| e["kind"] == "alert").unwrap();
    assert_eq!(alert["alert"]["action"]["throttle"]["rows_per_s"], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_cancelled_and_drained_and_keeps_nobody_waiting() {
    let mut site = site("throttle_long", &throttle(1)).await;
    let support = site.client("support").await;
    support.query("select note from people limit 15", &[]).await.unwrap();
    until("an alert", || site.metric("pgveil_detector_actions_total", "throttle") >= 1.0).await;
    // A minute's worth.
    let cancel = support.cancel_token();
    let began = Instant::now();
    let waits = tokio::spawn(async move { (support.query("select note from people", &[]).await, support) });
    let analyst = site.client("analyst").await;
    assert_eq!(analyst.query("select note from people limit 10", &[]).await.unwrap().len(), 10);
    cancel.cancel_query(NoTls).await.unwrap();
    let (outcome, support) = waits.await.unwrap();
    assert_eq!(outcome.unwrap_err().code().unwrap().code(), "57014");
    assert!(began.elapsed() < Duration::from_secs(40), "the rows were not waited for");
    assert_eq!(support.query("select 1", &[]).await.unwrap().len(), 1, "the session goes on");
    let waits = tokio::spawn(async move { support.query("select note from people", &[]).await });
    until("a statement that waits", || site.sql(RUNNING) != "0").await;
    let began = Instant::now();
    assert_eq!(site.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(40), "a drain waits for its deadline and not for rows");
    assert!(waits.await.unwrap().is_err());
}

/// Sessions of `support` in PostgreSQL.
const RUNNING: &str =
    "select count(*) from pg_stat_activity where usename = 'support' and datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn kill_ends_the_session_that_gave_cause_and_no_other() {
    let site = site("kill", "[detect.rules.bulk]\nthreshold = 10\naction = \"kill\"\n").await;
    let (client, connection) = tokio_postgres::connect(&site.url("support"), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let other = site.client("support").await;
    // By the simple protocol, behind which the client sends nothing more that could be answered by the end.
    client.simple_query("select note from people limit 15").await.unwrap();
    let ended = connection.await.unwrap().unwrap_err();
    let said = ended.as_db_error().unwrap();
    assert_eq!((said.severity(), said.code().code()), ("FATAL", "57P01"));
    assert!(said.message().starts_with("PV034"), "{}", said.message());
    assert_eq!(other.query("select 1", &[]).await.unwrap().len(), 1);
    let killed = |e: &serde_json::Value| e["kind"] == "killed" && e["actor"]["role"] == "support";
    until("an event", || site.events().iter().any(killed)).await;
    assert!(site.metric("pgveil_detector_actions_total", "kill") >= 1.0);
    assert!(connect(&site.url("support")).await.is_ok(), "it may come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_session_leaves_nothing_running_in_the_server() {
    let rule = "[detect.rules.failures]\nthreshold = 1\naction = \"kill\"\n";
    let site = site("kill_running", rule).await;
    let (client, connection) = tokio_postgres::connect(&site.url("support"), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let client = std::sync::Arc::new(client);
    // Both in one pipeline: the second runs while the first two give cause.
    for _ in 0..2 {
        client.simple_query("select * from pg_authid").await.unwrap_err();
    }
    let sleeps = tokio::spawn({
        let client = client.clone();
        async move { client.simple_query("select pg_sleep(600)").await.map(|_| ()) }
    });
    assert!(connection.await.unwrap().is_err());
    assert!(sleeps.await.unwrap().is_err());
    until("the backend ends", || site.sql(RUNNING) == "0").await;
    let wrong = site.url("support").replace(PASSWORD, "wrong");
    for _ in 0..4 {
        connect(&wrong).await.err().unwrap();
    }
    assert!(connect(&site.url("support")).await.is_ok());
}
