//! `pgveil log who-saw` and the tables behind it: whose data was read, by whom, how, and what the log does not know.

use std::time::Duration;

use serde_json::Value;

use crate::support::{CANARY, Site};

const SCHEMA: &str = include_str!("clients/schema.sql");
const POLICY: &str = include_str!("clients/policy.toml");

async fn site(name: &str, config: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).config(config).start();
    let app = site.client("app").await;
    for n in 1..=3 {
        let insert = "insert into people (id, email, name) values ($1, $2, $3)";
        app.execute(insert, &[&n, &format!("p{n}.{CANARY}@example.org"), &format!("P{n} {CANARY}")]).await.unwrap();
    }
    // By literal, by parameter, as one of several; as somebody else, masked; by nobody's key.
    app.simple_query("select name from people where id = 1").await.unwrap();
    app.query("select name from people where id = $1", &[&1]).await.unwrap();
    app.query("select id, email from people order by id", &[]).await.unwrap();
    app.query("select name from people where id = $1", &[&2]).await.unwrap();
    app.query("select distinct email from people", &[]).await.unwrap();
    let analyst = site.client("analyst").await;
    analyst.query("select id, name from people where id = 1", &[]).await.unwrap();
    site
}

fn json(site: &Site, arguments: &[&str]) -> Value {
    let all = [&["log", "who-saw", "--json"], arguments].concat();
    serde_json::from_str(&site.pgveil_ok(&all)).unwrap()
}

/// Role, access, rows, number of people, how name or e-mail was shown; newest first.
fn told(answer: &Value) -> Vec<String> {
    let one = |access: &Value| {
        let touches = access["touches"].as_array().unwrap();
        let column = touches.iter().find(|touch| touch["column"] != "id").unwrap();
        let word = |value: &Value| value.to_string().replace('"', "");
        let parts = [&access["actor"]["role"], &access["access"], &access["rows"], &access["people"], &column["shown"]];
        parts.map(word).join(" ")
    };
    answer["accesses"].as_array().unwrap().iter().map(one).collect()
}

const FIRST: [&str; 5] = [
    "analyst read 1 1 masked",
    "app read 3 3 clear",
    "app read 1 1 clear",
    "app read 1 1 clear",
    "app write 1 1 written",
];

#[tokio::test]
async fn the_log_itself_says_who_saw_somebody() {
    let site = site("who_local", "").await;
    let found = json(&site, &["--subject", "person:1"]);
    assert_eq!(told(&found), FIRST);
    assert_eq!(
        (&found["total"], &found["unknown"]["events"], &found["unknown"]["rows"]),
        (&5.into(), &1.into(), &3.into())
    );
    assert_eq!(told(&json(&site, &["--subject", "person:1", "--limit", "2"])), FIRST[..2]);
    assert_eq!(json(&site, &["--subject", "person:1", "--limit", "2"])["total"], 5);
    assert_eq!(json(&site, &["--subject", "person:1", "--since", "2100-01-01"])["total"], 0);
    assert_eq!(json(&site, &["--subject", "person:99", "--since", "P1D"])["total"], 0);
    let text = site.pgveil_ok(&["log", "who-saw", "--subject", "person:2"]);
    assert!(text.contains("person:2: 3 accesses recorded") && text.contains("clear: public.people.name"), "{text}");
    assert!(text.contains("not known whose: 1 statements on such tables with 3 rows"), "{text}");
    let wrong = site.pgveil(&["log", "who-saw", "--subject", "user:1"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(1) && said.contains("it has: order, person"), "{said}");
    assert_eq!(site.pgveil(&["log", "who-saw", "--subject", "person"]).status.code(), Some(2));
}

#[tokio::test]
async fn postgresql_says_the_same_as_the_log() {
    let mut site = site("who_copied", "[store]\nship = true\n").await;
    site.terminate();
    let dir = site.audit_dir();
    let local = json(&site, &["--subject", "person:1", "--dir", dir.to_str().unwrap()]);
    site.serve();
    let mut copied = Value::Null;
    for _ in 0..600 {
        copied = json(&site, &["--subject", "person:1"]);
        if copied["total"] == local["total"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((copied["from"].as_str(), told(&copied)), (Some("PostgreSQL"), FIRST.map(str::to_owned).to_vec()));
    for (copied, local) in copied["accesses"].as_array().unwrap().iter().zip(local["accesses"].as_array().unwrap()) {
        let (mut copied, mut local) = (copied.clone(), local.clone());
        (copied["log"], local["log"]) = (0.into(), 0.into());
        assert_eq!(copied, local);
    }
    for field in ["total", "unknown", "begins", "missing"] {
        assert_eq!(copied[field], local[field], "{field}");
    }
    let view = "select accessor_id || ' ' || access_type || ' ' || coalesce(data_type, '-') from pgveil.data_access_logs
        where user_id = (select pseudonym from pgveil.access_subjects group by 1 having count(*) = 5) order by timestamp";
    let rows: Vec<String> = site.sql(view).lines().map(str::to_owned).collect();
    assert_eq!(rows, ["app write pii", "app read pii", "app read pii", "app read pii", "analyst read pii"]);
    let early = json(&site, &["--subject", "person:1", "--since", "2100-01-01"]);
    assert_eq!((&early["total"], &early["unknown"]["events"]), (&0.into(), &0.into()));
    site.sql("drop table pgveil.schema_version");
    let wrong = site.pgveil(&["log", "who-saw", "--subject", "person:1"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("pgveil apply") && said.contains("--dir"), "{said}");
}

#[tokio::test]
async fn a_statement_without_an_outcome_is_not_kept_quiet() {
    let mut site = site("who_died", "[store]\nship = true\n").await;
    let app = site.client("app").await;
    // The intent is on the device, its outcome is not: the proxy dies while the client reads.
    let dying = tokio::spawn(async move { app.simple_query("select name, pg_sleep(30) from people").await });
    let mut recorded = false;
    for _ in 0..600 {
        recorded = site.sql("select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()") != "0";
        if recorded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(recorded, "the statement runs");
    site.kill();
    let _ = dying.await;
    site.serve();
    let dir = site.audit_dir();
    let local = json(&site, &["--subject", "person:1", "--dir", dir.to_str().unwrap()]);
    for _ in 0..600 {
        let copied = json(&site, &["--subject", "person:1"]);
        if copied["unfinished"] == local["unfinished"] && copied["total"] == local["total"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{local}");
}
