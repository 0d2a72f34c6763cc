//! `action = "stop"`: not one row past the threshold leaves, whatever it is asked by and by however many sessions.

use std::time::Duration;

use futures_util::TryStreamExt;
use serde_json::Value;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::support::{PASSWORD, Site};

const SCHEMA: &str = "
create table people (id int primary key, name text, note text);
create table open (id int primary key, word text);
insert into open select n, 'word' from generate_series(1, 50) n;
";
const POLICY: &str = r#"version = 1
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
name = { level = "internal" }
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
/// The threshold in these tests.
const MOST: usize = 20;

/// A site where each of so many logins, `who(&site, n)`, has windows of its own.
async fn site(name: &str, rules: &str, logins: usize) -> Site {
    let mut site = Site::new(name).schema(SCHEMA).prepare();
    let roles: Vec<String> = (0..logins).map(|n| who(&site, n)).collect();
    let entries: String = roles.iter().map(|role| format!("[roles.{role}]\nclearance = \"restricted\"\n")).collect();
    for role in &roles {
        site.sql(&format!("create role {role} login password '{PASSWORD}'; grant all on people, open to {role}"));
    }
    site.write("policy.toml", &format!("{POLICY}{rules}{entries}"));
    site.pgveil_ok(&["apply"]);
    site.serve();
    let app = site.client("app").await;
    for id in 1..=40 {
        app.execute("insert into people values ($1, 'n', 'parkiet')", &[&id]).await.unwrap();
    }
    site
}

fn who(site: &Site, n: usize) -> String {
    format!("{}_{n}", site.database)
}

const BULK: &str = "[detect.rules.bulk]\naction = \"stop\"\nthreshold = 20\n";

fn said(error: &Error) -> String {
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    format!("{} {}", error.code().code(), error.message())
}

/// Rows that came, and the error behind them.
async fn simple(client: &Client, sql: &str) -> (usize, Option<String>) {
    let mut rows = 0;
    let mut stream = Box::pin(client.simple_query_raw(sql).await.unwrap());
    loop {
        match stream.try_next().await {
            Ok(Some(SimpleQueryMessage::Row(_))) => rows += 1,
            Ok(Some(_)) => {}
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(said(&error))),
        }
    }
}

async fn extended(client: &Client, sql: &str) -> (usize, Option<String>) {
    let none: [&str; 0] = [];
    let mut stream = match client.query_raw(sql, none).await {
        Ok(stream) => Box::pin(stream),
        Err(error) => return (0, Some(said(&error))),
    };
    let mut rows = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => rows += 1,
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(said(&error))),
        }
    }
}

/// Rows of a COPY in text form: lines.
async fn copied(client: &Client, sql: &str) -> (usize, Option<String>) {
    let mut stream = Box::pin(client.copy_out(sql).await.unwrap());
    let mut rows = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(bytes)) => rows += bytes.iter().filter(|byte| **byte == b'\n').count(),
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(said(&error))),
        }
    }
}

fn stopped(rule: &str, outcome: &(usize, Option<String>), rows: usize) -> bool {
    let words = format!("42501 PV010 the breach detector's rule {rule} stopped this statement");
    outcome.0 == rows && outcome.1.as_ref().is_some_and(|said| said.starts_with(&words))
}

/// Waits for an alert of that rule about that role.
async fn alert(site: &Site, rule: &str, role: &str) -> Value {
    for _ in 0..200 {
        let is = |e: &Value| e["kind"] == "alert" && e["alert"]["rule"] == rule && e["actor"]["role"] == role;
        if let Some(event) = site.events().into_iter().find(is) {
            return event;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no alert {rule} about {role}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_past_the_threshold_by_whatever_is_asked() {
    let statements = [
        "select * from people",
        "select name from people",
        "select 1 from people",
        "table people",
        "update people set name = 'm' returning id",
    ];
    let site = site("stop_select", BULK, 2 * statements.len()).await;
    for (n, sql) in statements.iter().enumerate() {
        for (role, form) in [(who(&site, 2 * n), "simple"), (who(&site, 2 * n + 1), "extended")] {
            let client = site.client(&role).await;
            let outcome = if form == "simple" { simple(&client, sql).await } else { extended(&client, sql).await };
            assert!(stopped("bulk", &outcome, MOST), "{form} {sql}: {outcome:?}");
            // Nothing is left, for another session either; what is not protected goes, and what returns nothing.
            let other = site.client(&role).await;
            assert!(stopped("bulk", &simple(&other, "select id from people where id = 1").await, 0), "{sql}");
            assert!(stopped("bulk", &extended(&other, "select id from people where id = 1").await, 0), "{sql}");
            assert_eq!(simple(&other, "select * from open").await, (50, None));
            assert_eq!(simple(&other, "select name from people where id = 0").await, (0, None));
            assert_eq!(simple(&other, "update people set note = 'parkiet' where id = 1").await, (0, None));
            let found = alert(&site, "bulk", &role).await;
            assert_eq!(found["alert"]["action"], "stop");
            assert_eq!((&found["alert"]["observed"], &found["alert"]["threshold"]), (&20.into(), &20.into()));
        }
    }
    assert_eq!(site.sql("select count(*) from people where name = 'm'"), "0", "what was stopped is not kept");
    let app = site.client("app").await;
    assert_eq!(simple(&app, "table people").await, (40, None), "an exempt role is not stopped");
    let events = site.events();
    let ended = |e: &&Value| e["kind"] == "statement" && e["code"] == "PV010" && e["rows"] == MOST;
    assert_eq!(events.iter().filter(ended).count(), 2 * statements.len());
    assert!(events.iter().filter(ended).all(|e| e["note"] == "stopped by rule bulk" && e["sqlstate"] == "42501"));
    assert!(site.metric("pgveil_refusals_total", "PV010") >= 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_cursors_and_prepared_statements_count_together() {
    let site = site("stop_portal", BULK, 3).await;
    let mut client = site.client(&who(&site, 0)).await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("select * from people", &[]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(transaction.query_portal(&portal, 8).await.unwrap().len(), 8);
    }
    let other = site.client(&who(&site, 0)).await;
    assert_eq!(simple(&other, "select note from people limit 3").await, (3, None));
    assert!(said(&transaction.query_portal(&portal, 8).await.unwrap_err()).starts_with("42501 PV010"));
    assert!(said(&transaction.query("select 1", &[]).await.unwrap_err()).starts_with("25P02"));
    transaction.rollback().await.unwrap();

    let client = site.client(&who(&site, 1)).await;
    client.batch_execute("begin; declare c cursor for select name from people").await.unwrap();
    assert_eq!(simple(&client, "fetch 12 from c").await, (12, None));
    assert_eq!(extended(&client, "fetch 4 from c").await, (4, None));
    assert!(stopped("bulk", &simple(&client, "fetch 12 from c").await, 4));
    client.batch_execute("rollback; prepare p as select name from people limit 1").await.unwrap();
    assert!(stopped("bulk", &simple(&client, "execute p").await, 0));
    let found = alert(&site, "bulk", &who(&site, 1)).await;
    assert_eq!(found["alert"]["threshold"], 20);

    let client = site.client(&who(&site, 2)).await;
    let prepared = client.prepare("select id, note from people where id <= $1").await.unwrap();
    assert_eq!(client.query(&prepared, &[&15]).await.unwrap().len(), 15);
    assert!(said(&client.query(&prepared, &[&6]).await.unwrap_err()).starts_with("42501 PV010"));
    let two = simple(&site.client(&who(&site, 2)).await, "table people limit 2; table people limit 2").await;
    assert!(stopped("bulk", &two, 0), "the five before the sixth had gone: {two:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_stops_in_text_and_binary() {
    let rules = "[detect.rules.export]\naction = \"stop\"\nthreshold = 20\n";
    let site = site("stop_copy", &format!("{BULK}{rules}"), 4).await;
    let copies =
        ["copy people to stdout", "copy people (name) to stdout (format csv)", "copy (select 1 from people) to stdout"];
    for (n, sql) in copies.iter().enumerate() {
        let client = site.client(&who(&site, n)).await;
        let outcome = copied(&client, sql).await;
        assert!(stopped("bulk", &outcome, MOST), "{sql}: {outcome:?}");
        assert!(stopped("bulk", &copied(&client, "copy (select note from people limit 1) to stdout").await, 0));
    }
    let client = site.client(&who(&site, 3)).await;
    let sql = "copy (select name, note from people) to stdout (format binary)";
    let mut stream = Box::pin(client.copy_out(sql).await.unwrap());
    let (mut tuples, mut error) = (0, None);
    loop {
        match stream.try_next().await {
            // Two fields to a tuple; the first message has the 19 bytes of the header in front.
            Ok(Some(bytes)) => tuples += usize::from(bytes.starts_with(b"PGCOPY") || bytes.starts_with(&[0, 2])),
            Ok(None) => break,
            Err(found) => {
                error = Some(said(&found));
                break;
            }
        }
    }
    assert_eq!(tuples, MOST);
    assert!(error.is_some_and(|error| error.starts_with("42501 PV010")));
    let exported = site.events();
    assert!(
        exported
            .iter()
            .filter(|e| e["access"] == "export" && e["code"] == "PV010")
            .all(|e| e["rows"].as_u64() <= Some(20))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_export_rule_stops_by_copy_over_all_and_by_a_read_that_large() {
    let site = site("stop_export", "[detect.rules.export]\naction = \"stop\"\nthreshold = 20\n", 2).await;
    let client = site.client(&who(&site, 0)).await;
    assert_eq!(copied(&client, "copy (select name from people limit 15) to stdout").await, (15, None));
    assert!(stopped("export", &copied(&client, "copy people to stdout").await, 5));
    alert(&site, "export", &who(&site, 0)).await;
    let client = site.client(&who(&site, 1)).await;
    for _ in 0..3 {
        assert_eq!(simple(&client, "table people limit 20").await, (20, None), "reads of that size are none");
    }
    assert!(stopped("export", &extended(&client, "table people").await, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subjects_rule_stops_before_another_person_is_seen() {
    let rules = "[detect.rules.subjects]\naction = \"stop\"\nthreshold = 20\n";
    let site = site("stop_people", rules, 3).await;
    let client = site.client(&who(&site, 0)).await;
    for _ in 0..3 {
        assert_eq!(simple(&client, "select id, note from people where id <= 20 order by id").await, (20, None));
    }
    assert!(stopped("subjects", &simple(&client, "select id, note from people order by id").await, 20));
    assert!(stopped("subjects", &extended(&client, "select id, note from people order by id desc").await, 0));
    assert_eq!(alert(&site, "subjects", &who(&site, 0)).await["alert"]["observed"], 20);
    // Named by parameters and literals, one after the other, without the key in the result.
    let client = site.client(&who(&site, 1)).await;
    let by_key = client.prepare("select note from people where id = $1").await.unwrap();
    for id in 1..=40 {
        let found = client.query(&by_key, &[&id]).await;
        assert_eq!(found.is_ok(), id <= 20, "{id}");
    }
    assert_eq!(simple(&client, "select note from people where id = 20").await, (1, None));
    assert!(stopped("subjects", &simple(&client, "select note from people where id = 21").await, 0));
    let client = site.client(&who(&site, 2)).await;
    let outcome = copied(&client, "copy (select id, note from people order by id) to stdout").await;
    assert!(stopped("subjects", &outcome, 20), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_at_the_same_time_share_what_is_left() {
    let site = site("stop_race", BULK, 3).await;
    for n in 0..3 {
        let role = who(&site, n);
        let mut asking = Vec::new();
        for _ in 0..4 {
            let client = site.client(&role).await;
            asking.push(tokio::spawn(async move {
                let mut rows = 0;
                for _ in 0..10 {
                    rows += simple(&client, "select id, note from people limit 3").await.0;
                }
                rows
            }));
        }
        let mut rows = 0;
        for asked in asking {
            rows += asked.await.unwrap();
        }
        assert_eq!(rows, MOST, "all together, to the row");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_row() {
    let mut site = site("stop_restart", BULK, 2).await;
    let (role, cut) = (who(&site, 0), who(&site, 1));
    assert_eq!(simple(&site.client(&role).await, "select note from people limit 12").await, (12, None));
    let in_block = site.client(&cut).await;
    in_block.batch_execute("begin; declare c cursor for select note from people").await.unwrap();
    assert_eq!(simple(&in_block, "fetch 7 from c").await, (7, None));
    site.terminate();
    site.serve();
    assert!(stopped("bulk", &simple(&site.client(&role).await, "select note from people").await, 8));
    assert!(stopped("bulk", &simple(&site.client(&cut).await, "select note from people").await, 13));
    site.kill();
    site.serve();
    assert!(stopped("bulk", &simple(&site.client(&role).await, "select note from people").await, 0));
}
