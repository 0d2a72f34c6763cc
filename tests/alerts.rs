//! The detector, seen from outside: rule, log line, metric, event in the chain.

use std::time::Duration;

use serde_json::Value;

use crate::support::{PASSWORD, Site, connect};

const SCHEMA: &str = "
    create table patients (id int primary key, name text);
    create table visits (id int primary key, patient_id int, reason text);";
const POLICY: &str = r#"version = 1
[tables."public.patients"]
subject = { kind = "patient", key = "id" }
[tables."public.patients".columns]
id = { level = "internal" }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
[tables."public.visits"]
subject = { kind = "patient", key = "patient_id" }
[tables."public.visits".columns]
id = { level = "internal" }
patient_id = { level = "internal" }
reason = { level = "restricted", as = "text", encrypt = "randomized" }
[roles.app]
clearance = "restricted"
[roles.support]
clearance = "restricted"
[roles.analyst]
clearance = "restricted"
[detect]
exempt = ["app"]
"#;

async fn site(name: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    let patient = app.prepare("insert into patients values ($1, $2)").await.unwrap();
    let visit = app.prepare("insert into visits values ($1, $2, $3)").await.unwrap();
    for id in 1..=120_i32 {
        app.execute(&patient, &[&id, &format!("kanarie {id}")]).await.unwrap();
        app.execute(&visit, &[&id, &(id % 5), &"kanarie"]).await.unwrap();
    }
    site
}

/// Waits for an alert of that rule about that role.
async fn alert(site: &Site, rule: &str, role: &str) -> Value {
    for _ in 0..100 {
        let found = site
            .events()
            .into_iter()
            .find(|event| event["kind"] == "alert" && event["alert"]["rule"] == rule && event["actor"]["role"] == role);
        if let Some(event) = found {
            let line = site.log().lines().any(|line| line.contains(rule) && line.contains(role));
            assert!(line, "no log line about {rule}:\n{}", site.log());
            assert!(site.metric("pgveil_alerts_total", &format!("rule=\"{rule}\"")) >= 1.0);
            return event;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no alert {rule} about {role}:\n{:?}", site.events().iter().rev().take(3).collect::<Vec<_>>());
}

fn alerts(site: &Site) -> usize {
    site.events().iter().filter(|event| event["kind"] == "alert").count()
}

#[tokio::test]
async fn bulk_fires_above_a_hundred_records_and_not_at_it() {
    let site = site("bulk").await;
    let support = site.client("support").await;
    // Five patients only, so that it is records, not people, that are counted.
    support.query("select reason, patient_id from visits where id <= 100", &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(alerts(&site), 0, "a hundred are allowed");
    support.query("select reason, patient_id from visits where id = 101", &[]).await.unwrap();
    let event = alert(&site, "bulk", "support").await;
    assert_eq!((&event["alert"]["observed"], &event["alert"]["threshold"]), (&101.into(), &100.into()));
}

#[tokio::test]
async fn subjects_fires_above_fifty_people() {
    let site = site("subjects").await;
    let analyst = site.client("analyst").await;
    analyst.query("select id, name from patients where id <= 50", &[]).await.unwrap();
    analyst.query("select id, name from patients where id <= 50", &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let people = site.events().iter().filter(|e| e["alert"]["rule"] == "subjects").count();
    assert_eq!(people, 0, "fifty people, twice, are fifty people");
    analyst.query("select id, name from patients where id = 51", &[]).await.unwrap();
    let event = alert(&site, "subjects", "analyst").await;
    assert_eq!(event["alert"]["observed"], 51);
}

#[tokio::test]
async fn failures_fire_above_ten() {
    let site = site("failures").await;
    let wrong = site.url("support").replace(PASSWORD, "wrong");
    for _ in 0..11 {
        assert!(connect(&wrong).await.is_err());
    }
    alert(&site, "failures", "support").await;
}

#[tokio::test]
async fn erasures_are_logged_and_counts_by_what_they_search() {
    let site = site("erasures").await;
    let analyst = site.client("analyst").await;
    for sql in [
        "select count(*) from visits",
        "select count(*) from visits where patient_id = 3",
        "delete from visits where id <= 10",
        "delete from visits",
        "truncate patients, visits",
    ] {
        analyst.simple_query(sql).await.unwrap();
    }
    drop(analyst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let events = site.events();
    let of = |kind: &str| {
        let own = events.iter().filter(|e| e["kind"] == kind && e["actor"]["role"] == "analyst");
        own.map(|e| (e["access"].as_str().unwrap(), e["rows"].as_u64().unwrap_or(0), e["touches"].to_string()))
            .collect()
    };
    let statements: Vec<(&str, u64, String)> = of("statement");
    let shown: Vec<_> = statements.iter().map(|(access, rows, _)| (*access, *rows)).collect();
    assert_eq!(shown, [("read", 1), ("delete", 10), ("delete", 110), ("delete", 0)], "{statements:?}");
    assert!(statements[0].2.contains("patient_id") && statements[0].2.contains("searched"), "{statements:?}");
    for name in ["public.patients", "public.visits", "\"name\"", "\"reason\""] {
        assert!(statements[3].2.contains(name), "{name}: {statements:?}");
    }
    assert_eq!(of("intent").iter().filter(|(access, ..): &&(&str, u64, String)| *access == "delete").count(), 3);
}

#[tokio::test]
async fn events_say_who_did_what_to_whom() {
    let site = site("events").await;
    let support = site.client("support").await;
    support.query("select name from patients where id = $1", &[&7]).await.unwrap();
    support.query("select name from patients where id in (8, 9)", &[]).await.unwrap();
    support
        .simple_query("select name from patients /* kanarie comment */ where name = upper('kanarie')")
        .await
        .unwrap_err();
    drop(support);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let events = site.events();
    let of =
        |kind: &str| events.iter().filter(|e| e["kind"] == kind && e["actor"]["role"] == "support").collect::<Vec<_>>();
    assert_eq!((of("login").len(), of("logout").len()), (1, 1));
    assert_eq!(of("login")[0]["actor"]["auth"], "scram-sha-256");
    let statements = of("statement");
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert_eq!(statements[0]["rows"], 1);
    let touches = statements[0]["touches"].as_array().unwrap();
    let shown = |column: &str| touches.iter().find(|t| t["column"] == column).map(|t| t["shown"].as_str().unwrap());
    assert_eq!((shown("name"), shown("id")), (Some("clear"), Some("searched")), "{touches:?}");
    let one = statements[0]["subjects"]["known"].as_array().unwrap();
    assert_eq!((one.len(), one[0]["pseudonym"].as_str().unwrap().len()), (1, 32));
    assert_eq!(statements[1]["rows"], 2);
    assert!(!format!("{statements:?}").contains("(8, 9)"), "literals are cut out");
    let refused = of("refused");
    assert_eq!((refused.len(), &refused[0]["code"]), (1, &"PV011".into()), "{refused:?}");
    assert_eq!(of("intent").len(), 2);
}
