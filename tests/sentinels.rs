//! Rules about single acts, through the proxy: canaries, walks, emergencies, another policy.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;

use crate::support::{Site, keep_cluster, new_cluster};

const SCHEMA: &str = "
    create table patients (id int primary key, name text, ward text);
    create table visits (id int primary key, patient_id int, reason text);
    create view wards as select id as number, ward from patients;";
const POLICY: &str = r#"version = 1
[tables."public.patients"]
subject = { kind = "patient", key = "id" }
canaries = ["1471147114"]
[tables."public.patients".columns]
id = { level = "internal" }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
ward = { level = "internal" }
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
purpose = "care"
purposes = ["emergency"]
[roles.analyst]
clearance = "restricted"
[purposes.care]
basis = "vital"
[purposes.emergency]
basis = "vital"
break_glass = true
[detect]
exempt = ["app"]
"#;

async fn site(name: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    let patient = app.prepare("insert into patients values ($1, $2, 'a')").await.unwrap();
    let visit = app.prepare("insert into visits values ($1, $2, $3)").await.unwrap();
    for id in (1..=40_i32).chain([1471147114]) {
        app.execute(&patient, &[&id, &format!("parkiet {id}")]).await.unwrap();
        app.execute(&visit, &[&id, &id, &"parkiet"]).await.unwrap();
    }
    site
}

/// The last event that fits, once there is one.
async fn event(site: &Site, fits: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        if let Some(found) = site.events().into_iter().rev().find(&fits) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no such event:\n{:?}", site.events().iter().rev().take(4).collect::<Vec<_>>());
}

/// Canaries in the event of the statement that the role sent last, which has that fragment in its text.
async fn canaries(site: &Site, fragment: &str) -> u64 {
    let fits = |e: &Value| e["kind"] == "statement" && e["text"].as_str().is_some_and(|text| text.contains(fragment));
    event(site, fits).await["canaries"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn whatever_way_a_canary_leaves_it_is_seen_and_an_aggregate_has_none() {
    let site = site("canaries").await;
    let support = site.client("support").await;
    for (sql, fragment, rows) in [
        ("select * from patients", "* from patients", 1),
        ("select v.reason, p.id from visits v join patients p on p.id = v.patient_id", "join patients p", 1),
        ("select number from wards where ward = 'a'", "from wards", 1),
        ("select name from patients where id = 1471147114", "name from patients where", 1),
        ("copy patients to stdout", "copy patients to", 1),
        ("copy (select name, id from patients) to stdout (format csv)", "copy (select name", 1),
        ("select count(*), max(ward) from patients", "max(ward)", 0),
        ("select * from visits where patient_id < 9", "visits where patient_id", 0),
    ] {
        if sql.starts_with("copy") {
            let rows: Vec<_> = support.copy_out(sql).await.unwrap().collect().await;
            assert!(rows.iter().all(Result::is_ok), "{sql}");
        } else {
            support.simple_query(sql).await.unwrap();
        }
        assert_eq!(canaries(&site, fragment).await, rows, "{sql}");
    }
    support.query("select ward from patients where id = $1", &[&1471147114]).await.unwrap();
    assert_eq!(canaries(&site, "ward from patients where id = $1").await, 1);
    support.query("select patient_id, reason from visits where id > $1", &[&0]).await.unwrap();
    assert_eq!(canaries(&site, "reason from visits where id").await, 1, "binary");
    let mut cursor = String::from("begin; declare c cursor for select id, ward from patients order by id desc;");
    cursor.push_str("fetch 2 from c; fetch 7 from c; commit");
    support.simple_query(&cursor).await.unwrap();
    assert_eq!(canaries(&site, "fetch").await, 1);
    let fetches = |e: &&Value| e["canaries"] == 1 && e["text"].as_str().is_some_and(|text| text.contains("fetch"));
    assert_eq!(site.events().iter().filter(fetches).count(), 1, "the first two, not the next seven");
    let alert = event(&site, |e| e["kind"] == "alert" && e["alert"]["rule"] == "canary").await;
    assert_eq!((&alert["alert"]["severity"], &alert["alert"]["action"]), (&"critical".into(), &Value::Null));
    for event in site.events() {
        assert!(!event.to_string().contains("1471147114"), "{event}");
    }
}

#[tokio::test]
async fn a_table_read_row_by_row_is_a_walk() {
    let site = site("walks").await;
    let analyst = site.client("analyst").await;
    let one = analyst.prepare("select name from patients where id = $1").await.unwrap();
    for id in 1..=31_i32 {
        analyst.query(&one, &[&id]).await.unwrap();
    }
    let alert = event(&site, |e| e["kind"] == "alert" && e["alert"]["rule"] == "sequence").await;
    assert_eq!((&alert["alert"]["observed"], &alert["alert"]["severity"]), (&30.into(), &"high".into()));
    let support = site.client("support").await;
    for id in [3, 17, 4, 20, 9, 8, 31, 2] {
        support.simple_query(&format!("select id, name from patients where id = {id}")).await.unwrap();
    }
    drop(support);
    event(&site, |e| e["kind"] == "logout" && e["actor"]["role"] == "support").await;
    let walked = |e: &Value| e["actor"]["role"] == "support" && e["walk"].as_u64().is_some();
    assert!(!site.events().iter().any(walked));
}

#[tokio::test]
async fn an_emergency_and_another_policy_are_said_once() {
    let mut site = site("glass").await;
    let support = site.client("support").await;
    support.simple_query("select ward from patients where id = 1").await.unwrap();
    support.simple_query("set pgveil.purpose = 'emergency'").await.unwrap();
    for _ in 0..3 {
        support.simple_query("select name from patients where id = 1").await.unwrap();
    }
    let glass = |e: &Value| e["kind"] == "alert" && e["alert"]["rule"] == "break_glass";
    let said = event(&site, glass).await;
    assert_eq!(said["actor"]["purpose"], "emergency");
    let changed = |e: &Value| e["kind"] == "alert" && e["alert"]["rule"] == "policy_change";
    assert!(!site.events().iter().any(changed), "the first policy is no change");
    site.write("policy.toml", &format!("{POLICY}# reviewed\n"));
    let first = event(&site, changed).await;
    assert_eq!(site.events().iter().filter(|e| glass(e)).count(), 1);
    drop(support);
    site.terminate();
    site.write("policy.toml", &format!("{POLICY}# while nobody watched\n"));
    site.serve();
    event(&site, |e| changed(e) && e["at_us"] != first["at_us"]).await;
}

#[tokio::test]
async fn who_goes_past_the_proxy_is_told_once_and_its_own_sessions_are_not() {
    let site = site("bypass").await;
    let through = site.client("support").await;
    through.simple_query("select 1").await.unwrap();
    let past = site.direct("analyst").await;
    let exempt = site.direct("app").await;
    let seen = event(&site, |e| e["kind"] == "bypass").await;
    assert_eq!((&seen["actor"]["role"], &seen["actor"]["client"]), (&"analyst".into(), &"127.0.0.1".into()));
    let alert = event(&site, |e| e["kind"] == "alert" && e["alert"]["rule"] == "bypass").await;
    assert_eq!(alert["alert"]["severity"], "high");
    past.simple_query("select 1").await.unwrap();
    assert_eq!(site.events().iter().filter(|e| e["kind"] == "bypass").count(), 1, "app is exempt, support is ours");
    drop((through, exempt));
}

#[tokio::test]
async fn a_control_account_that_may_not_look_says_so_once() {
    let server: &'static _ = Box::leak(Box::new(new_cluster()));
    keep_cluster(server);
    server.sql("postgres", "revoke pg_read_all_stats from pgveil").unwrap();
    let mut site = Site::new("blind").on(server).schema(SCHEMA).policy(POLICY).start();
    let _past = site.direct("analyst").await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while site.metric("pgveil_bypass_blind", "") < 1.0 {
        assert!(std::time::Instant::now() < deadline, "{}", site.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(site.log().matches("rule bypass sees nothing").count(), 1);
    assert!(!site.events().iter().any(|e| e["kind"] == "bypass"));
    site.terminate();
    server.stop().unwrap();
}
