//! A sample of `bench/detect/` as real SQL: attacks by real connections through the proxy raise the alerts they are
//! there for, and people at work raise none.
//!
//! `PGVEIL_TEST_SEED` says which sample (`make detect SQL=1 SEED=n`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde_json::Value;

use crate::support::{CANARY, Dice, PASSWORD, Site, connect};

/// Everybody there are patients for.
const PATIENTS: usize = 1_500;

/// The last of them is a canary.
const ATTACKERS: [&str; 5] = ["detect_dump", "detect_scrape", "detect_copies", "detect_nosy", "detect_guess"];
const INNOCENT: [&str; 3] = ["detect_nurse", "detect_clerk", "detect_doctor"];

fn policy() -> String {
    let mut text = String::from(
        "version = 1
[tables.\"public.patients\"]
subject = { kind = \"patient\", key = \"id\" }
canaries = [\"1500\"]
[tables.\"public.patients\".columns]
id = { level = \"internal\" }
name = { level = \"restricted\", as = \"text\", encrypt = \"randomized\", mask = \"name\" }
[roles.app]
clearance = \"restricted\"
[detect]
exempt = [\"app\"]
",
    );
    for role in ATTACKERS.iter().chain(&INNOCENT) {
        text.push_str(&format!("[roles.{role}]\nclearance = \"restricted\"\n"));
    }
    text
}

/// Roles belong to the cluster, of which each test process has its own: this is the only test that makes these.
async fn hospital() -> Site {
    let mut site = Site::new("detect")
        .schema("create table patients (id int primary key, name text);")
        .policy(&policy())
        .prepare();
    for role in ATTACKERS.iter().chain(&INNOCENT) {
        site.sql(&format!(
            "create role {role} login password '{PASSWORD}'; grant select, update on patients to {role}"
        ));
    }
    site.pgveil_ok(&["apply"]);
    site.serve();
    let app = site.client("app").await;
    let insert = app.prepare("insert into patients values ($1, $2)").await.unwrap();
    for id in 1..=PATIENTS as i32 {
        app.execute(&insert, &[&id, &format!("{CANARY} {id}")]).await.unwrap();
    }
    site
}

/// What was raised so far about this test's roles, or an address. What goes past the proxy is not theirs.
fn raised(site: &Site) -> BTreeSet<(String, String)> {
    let of = |event: &Value| {
        let alert = event.get("alert")?;
        let role = event["actor"]["role"].as_str()?;
        let who = alert["address"].as_str().unwrap_or(role);
        let ours = role.starts_with("detect_");
        ours.then_some((who.to_owned(), alert["rule"].as_str()?.to_owned()))
    };
    site.events().iter().filter(|event| event["kind"] == "alert").filter_map(of).collect()
}

/// A working day in a minute: a list, some charts, a note, a letter run, a password mistyped.
async fn work(site: &Site, role: &str, dice: &mut Dice) {
    let wrong = site.url(role).replace(PASSWORD, "mistyped");
    for _ in 0..dice.below(4) {
        assert!(connect(&wrong).await.is_err());
    }
    let client = site.client(role).await;
    // Twelve people at most, looked at again and again.
    let first = 1 + dice.below(PATIENTS - 14) as i32;
    let list = client.query("select id, name from patients where id between $1 and $1 + 9", &[&first]).await.unwrap();
    assert_eq!(list.len(), 10);
    let chart = client.prepare("select id, name from patients where id = $1").await.unwrap();
    for _ in 0..dice.below(30) {
        let id = first + dice.of(&[0, 7, 3, 9, 1, 5, 2, 8]);
        client.query(&chart, &[&id]).await.unwrap();
    }
    client.execute("update patients set name = $2 where id = $1", &[&first, &format!("{CANARY} anew")]).await.unwrap();
    let rows = 5 + dice.below(20);
    let letters = format!("copy (select id, name from patients where id < {rows}) to stdout");
    copy(&client, &letters).await;
}

async fn copy(client: &tokio_postgres::Client, sql: &str) {
    let rows: Vec<Bytes> = client.copy_out(sql).await.unwrap().try_collect().await.unwrap();
    assert!(!rows.is_empty());
}

#[tokio::test]
async fn attacks_raise_their_alerts_and_people_at_work_none() {
    let seed = std::env::var("PGVEIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let mut dice = Dice(seed);
    let site = hospital().await;
    for role in INNOCENT {
        work(&site, role, &mut dice).await;
    }
    // A bulk dump: one statement.
    let dump = site.client("detect_dump").await;
    let most = (300 + dice.below(400)) as i32;
    let rows = dump.query("select id, name from patients where id <= $1", &[&most]).await.unwrap();
    assert_eq!(rows.len(), most as usize);
    // A scrape as an ORM does it: one person after the other, each in a statement of its own.
    let scrape = site.client("detect_scrape").await;
    let by_id = scrape.prepare("select id, name from patients where id = $1").await.unwrap();
    let first = 1 + dice.below(PATIENTS - 100) as i32;
    for id in first..first + 60 {
        assert_eq!(scrape.query(&by_id, &[&id]).await.unwrap().len(), 1);
    }
    // Nine exports, each just under what one may be.
    let copies = site.client("detect_copies").await;
    for _ in 0..9 {
        let from = dice.below(PATIENTS - 1_000);
        let sql = format!("copy (select id, name from patients where id > {from} order by id limit 999) to stdout");
        copy(&copies, &sql).await;
    }
    // A list that goes on to a canary.
    let nosy = site.client("detect_nosy").await;
    nosy.query("select id, name from patients where id > $1", &[&1_490]).await.unwrap();
    // Guesses, last: the log is in the order of what happened, so the alert about them ends what is waited for.
    let wrong = site.url("detect_guess").replace(PASSWORD, "guessed");
    for _ in 0..12 + dice.below(10) {
        assert!(connect(&wrong).await.is_err());
    }
    let expected: BTreeSet<(String, String)> = [
        ("detect_dump", "bulk"),
        ("detect_dump", "subjects"),
        ("detect_scrape", "subjects"),
        ("detect_scrape", "sequence"),
        ("detect_nosy", "canary"),
        ("detect_copies", "bulk"),
        ("detect_copies", "subjects"),
        ("detect_copies", "export"),
        ("detect_guess", "failures"),
        ("127.0.0.1", "failures"),
    ]
    .map(|(who, rule)| (who.to_owned(), rule.to_owned()))
    .into();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !raised(&site).is_superset(&expected) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(raised(&site), expected, "seed {seed}");
}
