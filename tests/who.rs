//! Which trace a statement belongs to, and who is behind a login that several people share, as the access log has it.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::Value;
use tokio_postgres::Client;

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

/// What an application says of a person, for a minute from now.
fn token(site: &Site, key: u8, person: &str, more: &str) -> String {
    let key = SigningKey::from_bytes(&[key; 32]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = format!("{{\"sub\":\"{person}\",\"aud\":\"{}\",\"exp\":{}{more}}}", site.database, now + 60);
    let header = URL_SAFE_NO_PAD.encode("{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"portal\"}");
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes()))
}

fn vouching(name: &str) -> Site {
    let key = STANDARD.encode(SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes());
    let policy = POLICY.replace(
        "[detect]",
        &format!(
            "vouches = true\n[roles.support]\nclearance = \"restricted\"\nvouches = true\npersons = \"clear\"\n\
             [roles.analyst]\nclearance = \"restricted\"\n[vouchers.portal]\npublic_key = \"{key}\"\n[detect]"
        ),
    );
    Site::new(name).schema(SCHEMA).policy(&policy).start()
}

async fn code(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.as_db_error().expect("the server says why").code().code().to_owned(),
    }
}

#[tokio::test]
async fn a_person_behind_a_shared_login_is_vouched_for_or_only_asserted() {
    let site = vouching("who");
    let (app, support) = (site.client("app").await, site.client("support").await);
    app.batch_execute("insert into people values (1, 'kanarie'), (2, 'kanarie')").await.unwrap();
    let set = |person: &str| format!("set pgveil.actor = '{}'", token(&site, 7, person, ""));
    let read = "select name from people where id = 1";
    let tagged = |person: &str| format!("{read} /*pgveil='{}'*/", token(&site, 7, person, ""));
    for sql in [
        set("ann"),
        read.to_owned(),
        tagged("ann"),
        "reset pgveil.actor".to_owned(),
        tagged("bob"),
        read.to_owned(),
        format!("{read} /*user_id='ann'*/"),
        "begin".to_owned(),
        set("bob").replace("set ", "set local "),
        read.to_owned(),
        "commit".to_owned(),
        read.to_owned(),
    ] {
        assert_eq!(code(&app, &sql).await, "ok", "{sql}");
    }
    let name: String = app.query_one(&tagged("ann"), &[]).await.unwrap().get(0);
    assert_eq!(name, "kanarie");
    assert_eq!(code(&support, &set("Ann Example")).await, "ok");
    assert_eq!(code(&support, read).await, "ok");
    drop((app, support));
    let deadline = Instant::now() + Duration::from_secs(60);
    let events = loop {
        let events = until(&site, "logout").await;
        if events.iter().filter(|event| event["kind"] == "logout").count() == 2 {
            break events;
        }
        assert!(Instant::now() < deadline, "no second logout after a minute");
    };
    let reads = |role: &str| -> Vec<(String, String)> {
        let of = |event: &&Value| {
            event["kind"] == "statement" && event["access"] == "read" && event["actor"]["role"] == role
        };
        let said = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let person = |event: &Value| (said(&event["actor"]["person"]), said(&event["actor"]["person_by"]));
        events.iter().filter(of).map(person).collect()
    };
    let app = reads("app");
    let by: Vec<&str> = app.iter().map(|(_, by)| by.as_str()).collect();
    assert_eq!(by, ["vouched", "vouched", "vouched", "", "asserted", "vouched", "", "vouched"], "{app:?}");
    let names: Vec<&str> = app.iter().map(|(person, _)| person.as_str()).collect();
    let (ann, bob) = (names[0], names[2]);
    assert_eq!(names, [ann, ann, bob, "", ann, bob, "", ann]);
    assert!(ann != bob && ann.len() == 32, "{ann} {bob}");
    assert_eq!(reads("support"), [("Ann Example".to_owned(), "vouched".to_owned())]);
}

#[tokio::test]
async fn a_claim_that_does_not_hold_gives_nothing_protected() {
    let site = vouching("who_denied");
    let (app, analyst) = (site.client("app").await, site.client("analyst").await);
    let read = "select name from people where id = 1";
    let bad = [
        token(&site, 8, "ann", ""),
        token(&site, 7, "ann", "").replace('.', ","),
        token(&site, 7, "ann", ",\"purpose\":\"care\""),
        token(&site, 7, "ann", ",\"nbf\":99999999999"),
        token(&site, 7, "ann", "").replacen("ey", "ez", 1),
    ];
    for bad in &bad {
        assert_eq!(code(&app, &format!("set pgveil.actor = '{bad}'")).await, "ok", "a setting is a text");
        assert_eq!(code(&app, "select 1").await, "ok");
        assert_eq!(code(&app, read).await, "42501", "{bad}");
        assert_eq!(app.query(read, &[]).await.unwrap_err().code().unwrap().code(), "42501", "{bad}");
        assert_eq!(code(&app, "reset pgveil.actor").await, "ok");
        assert_eq!(code(&app, &format!("{read} /*pgveil='{bad}'*/")).await, "42501", "{bad}");
    }
    let good = |person: &str| token(&site, 7, person, "");
    assert_eq!(code(&analyst, &format!("{read} /*pgveil='{}'*/", good("ann"))).await, "42501", "it may not vouch");
    assert_eq!(code(&app, &format!("set pgveil.actor = '{}'; {read}", good("ann"))).await, "55000", "in one text");
    assert_eq!(code(&app, &format!("set pgveil.actor = '{}'", good("ann"))).await, "ok");
    assert_eq!(code(&app, &format!("{read} /*pgveil='{}'*/", good("bob"))).await, "42501", "two persons");
    assert_eq!(code(&app, read).await, "ok");
    drop((app, analyst));
    let events = until(&site, "logout").await;
    let refused = events.iter().filter(|event| event["code"] == "PV038").count();
    assert_eq!(refused, 3 * bad.len() + 2, "{events:?}");
}

#[tokio::test]
async fn windows_count_by_the_person_who_is_vouched_for() {
    let site = vouching("who_counts");
    let app = site.client("app").await;
    app.batch_execute("insert into people values (1, 'kanarie'), (2, 'kanarie')").await.unwrap();
    let read = |person: &str, id: u8| {
        format!("select name from people where id = {id} /*pgveil='{}'*/", token(&site, 7, person, ""))
    };
    for sql in [read("ann", 1), read("bob", 2), read("ann", 1)] {
        app.simple_query(&sql).await.unwrap();
    }
    assert_eq!(code(&app, &format!("{} /*user_id='ann'*/", "select name from people where id = 1")).await, "ok");
    drop(app);
    let quiet = until(&site, "logout").await;
    assert!(quiet.iter().all(|event| event["kind"] != "alert"), "one of two people each: {quiet:?}");
    let app = site.client("app").await;
    app.simple_query(&read("bob", 1)).await.unwrap();
    let events = until(&site, "alert").await;
    let alert = events.iter().find(|event| event["kind"] == "alert").unwrap();
    let bob = |event: &&Value| event["kind"] == "statement" && event["actor"]["person"] == alert["actor"]["person"];
    assert_eq!(events.iter().filter(bob).count(), 2, "{alert:?}");
}
