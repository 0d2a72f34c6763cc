//! Which trace a statement belongs to, as the access log has it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Site;

const SCHEMA: &str = "create table people (id int primary key, name text);";
const POLICY: &str = r#"version = 1
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
[roles.app]
clearance = "restricted"
[detect]
subjects = 1
"#;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The events once one of that kind is among them.
async fn until(site: &Site, kind: &str) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let events = site.events();
        if events.iter().any(|event| event["kind"] == kind) {
            return events;
        }
        assert!(Instant::now() < deadline, "no event {kind} after a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_trace_of_a_statement_is_in_its_events_and_alerts() {
    let site = Site::new("traces").schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    app.batch_execute("insert into people values (1, 'kanarie'), (2, 'kanarie')").await.unwrap();
    let tag = |trace: &str| format!("/*action='x',traceparent='00-{trace}-00f067aa0ba902b7-01'*/");
    app.query(&format!("select name from people {}", tag(&TRACE.replace('4', "5"))), &[]).await.unwrap();
    app.simple_query(&format!("select name from people where id = 1 {}", tag(TRACE))).await.unwrap();
    app.simple_query(&format!("select name from people where id = 2 {}", tag(&TRACE.to_uppercase()))).await.unwrap();
    let refused = format!("select length(name) from people {}", tag(TRACE));
    app.simple_query(&refused).await.unwrap_err();
    app.query(&refused, &[]).await.unwrap_err();
    drop(app);
    let events = until(&site, "logout").await;
    let of = |kind: &str| -> Vec<Option<&str>> {
        let reads = |event: &&Value| event["kind"] == kind && event["access"] != "write";
        events.iter().filter(reads).map(|event| event["trace"].as_str()).collect()
    };
    let other = TRACE.replace('4', "5");
    assert_eq!(of("statement"), [Some(other.as_str()), Some(TRACE), None]);
    assert_eq!(of("intent"), of("statement"));
    assert_eq!(of("refused"), [Some(TRACE); 2]);
    let alerts: Vec<&Value> = events.iter().filter(|event| event["kind"] == "alert").collect();
    assert_eq!(alerts[0]["trace"], other.as_str(), "{alerts:?}");
    assert!(site.log().lines().any(|line| line.contains("subjects") && line.contains(&other)), "{}", site.log());
}
