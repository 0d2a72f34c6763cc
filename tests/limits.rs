//! `max_rows`: rows up to the limit, then an error, and nothing of it is kept.

use futures_util::TryStreamExt;
use serde_json::Value;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::support::Site;

const POLICY: &str = r#"
version = 1
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
[roles.analyst]
clearance = "restricted"
max_rows = 10
[roles.support]
clearance = "restricted"
max_rows = 10
"#;

const SCHEMA: &str = "
create table people (id int primary key, name text, note text);
create table open (id int primary key, word text);
insert into open select n, 'word' from generate_series(1, 50) n;
create table late (id int unique deferrable initially deferred);
create function touch(int) returns int language sql as 'insert into open values ($1, ''by touch'') returning id';
";

async fn site(name: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    for id in 1..=25 {
        app.execute("insert into people values ($1, 'n', 'parkiet')", &[&id]).await.unwrap();
    }
    site
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

fn said(error: &Error) -> String {
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    format!("{} {}", error.code().code(), error.message())
}

fn crossed(outcome: &(usize, Option<String>)) -> bool {
    outcome.0 == 10
        && outcome.1.as_ref().is_some_and(|said| said.starts_with("54000 PV030") && said.contains("10 rows"))
}

async fn extended(client: &Client, sql: &str) -> (usize, Option<String>) {
    let none: [&str; 0] = [];
    let mut stream = Box::pin(client.query_raw(sql, none).await.unwrap());
    let mut rows = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => rows += 1,
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(said(&error))),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_up_to_the_limit_and_then_an_error() {
    let site = site("limits").await;
    let analyst = site.client("analyst").await;
    for sql in ["select * from people", "select name from people", "select 1 from people", "table people"] {
        assert!(crossed(&simple(&analyst, sql).await), "{sql}");
        assert!(crossed(&extended(&analyst, sql).await), "{sql}");
        let limited = format!("{sql} limit 10");
        assert_eq!(simple(&analyst, &limited).await, (10, None), "{sql}");
        assert_eq!(extended(&analyst, &limited).await, (10, None), "{sql}");
    }
    // Nothing protected, or the other role.
    assert_eq!(simple(&analyst, "select * from open").await, (50, None));
    assert_eq!(extended(&analyst, "select * from open").await, (50, None));
    let app = site.client("app").await;
    assert_eq!(simple(&app, "select * from people").await, (25, None));
    // Each statement of a text, and no prepared one is the worse for it.
    assert_eq!(simple(&analyst, "table people limit 9; table people limit 9").await, (18, None));
    let prepared = analyst.prepare("select id from people where id <= $1").await.unwrap();
    assert_eq!(analyst.query(&prepared, &[&10]).await.unwrap().len(), 10);
    assert!(said(&analyst.query(&prepared, &[&11]).await.unwrap_err()).contains("PV030"));
    assert_eq!(analyst.query(&prepared, &[&3]).await.unwrap().len(), 3);
    let events = site.events();
    let failed = |e: &&Value| e["kind"] == "statement" && e["code"] == "PV030" && e["actor"]["role"] == "analyst";
    let failed: Vec<&Value> = events.iter().filter(failed).collect();
    assert_eq!(failed.len(), 9);
    assert!(failed.iter().all(|e| e["rows"] == 10 && e["sqlstate"] == "54000"), "{failed:?}");
    assert!(events.iter().all(|e| e["actor"]["role"] != "app" || e["code"].is_null()));
    assert!(site.metric("pgveil_refusals_total", "PV030") >= 9.0, "{}", site.metrics());
    let hint = site.psql("analyst", &["-c", "table people"]);
    assert!(String::from_utf8_lossy(&hint.stderr).contains("max_rows in the policy's [roles]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_and_cursors_count_over_all_that_is_taken_from_them() {
    let site = site("limits").await;
    let mut analyst = site.client("analyst").await;
    let transaction = analyst.transaction().await.unwrap();
    let portal = transaction.bind("select * from people", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 4).await.unwrap().len(), 4);
    assert_eq!(transaction.query_portal(&portal, 4).await.unwrap().len(), 4);
    assert!(said(&transaction.query_portal(&portal, 4).await.unwrap_err()).starts_with("54000 PV030"));
    assert!(said(&transaction.query("select 1", &[]).await.unwrap_err()).starts_with("25P02"));
    transaction.rollback().await.unwrap();

    analyst.batch_execute("begin; declare c cursor for select name from people").await.unwrap();
    assert_eq!(simple(&analyst, "fetch 6 from c").await, (6, None));
    assert_eq!(extended(&analyst, "fetch 4 from c").await, (4, None));
    let (rows, error) = simple(&analyst, "fetch 1 from c").await;
    assert!(rows == 0 && error.unwrap().contains("PV030"));
    assert!(simple(&analyst, "fetch 1 from c").await.1.unwrap().starts_with("25P02"));
    analyst.batch_execute("rollback; begin; declare c cursor for select name from people").await.unwrap();
    assert!(crossed(&simple(&analyst, "fetch all from c").await), "another cursor of that name begins anew");
    analyst.batch_execute("rollback; declare h cursor with hold for table people").await.unwrap();
    assert_eq!(simple(&analyst, "fetch 8 from h").await, (8, None));
    assert_eq!(simple(&analyst, "fetch 8 from h").await.0, 2);
    analyst.batch_execute("begin; declare o cursor for table open").await.unwrap();
    assert_eq!(simple(&analyst, "fetch 30 from o").await, (30, None));
    analyst.batch_execute("commit; prepare p as table people; prepare q as table open").await.unwrap();
    assert!(crossed(&simple(&analyst, "execute p").await));
    assert_eq!(simple(&analyst, "execute q").await, (50, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_to_counts_its_rows() {
    let site = site("limits").await;
    let analyst = site.client("analyst").await;
    for sql in [
        "copy people to stdout",
        "copy people (name) to stdout (format csv, header)",
        "copy (select note from people) to stdout (format binary)",
    ] {
        let rows = analyst.copy_out(sql).await.unwrap();
        let failed = rows.try_collect::<Vec<_>>().await.unwrap_err();
        assert!(said(&failed).starts_with("54000 PV030"), "{sql}");
        let limited = "copy (select name, note from people limit 10) to stdout (format binary)";
        let rows: Vec<_> = analyst.copy_out(limited).await.unwrap().try_collect().await.unwrap();
        assert!(rows.len() >= 10);
    }
    let rows: Vec<_> = analyst.copy_out("copy open to stdout").await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.len(), 50);
    let exports = site.events();
    let exports = exports.iter().filter(|e| e["access"] == "export" && e["code"] == "PV030" && e["rows"] == 10);
    assert_eq!(exports.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_crosses_is_not_kept() {
    let site = site("limits").await;
    let analyst = site.client("analyst").await;
    let counted = || site.sql("select count(*) from people where name = 'new'");
    let insert = "insert into people select n, 'new' from generate_series(100, 120) n returning id";
    let text = format!("{insert}; select 1");
    analyst.batch_execute(&format!("prepare w as {insert}")).await.unwrap();
    for sql in [insert, &text, "update people set name = 'new' returning id", "execute w"] {
        assert!(crossed(&simple(&analyst, sql).await), "{sql}");
        assert_eq!(counted(), "0", "{sql}");
    }
    for sql in [insert, "with x as (update people set name = 'new' returning id) select * from x"] {
        assert!(crossed(&extended(&analyst, sql).await), "{sql}");
        assert_eq!(counted(), "0", "{sql}");
    }
    let copy = format!("copy ({insert}) to stdout");
    let rows = analyst.copy_out(&copy).await.unwrap().try_collect::<Vec<_>>().await;
    assert!(said(&rows.unwrap_err()).contains("PV030"));
    assert_eq!(counted(), "0");
    // By a function, too.
    assert!(crossed(&simple(&analyst, "select touch(n) from generate_series(200, 220) n").await));
    assert!(crossed(&extended(&analyst, "select touch(n) from generate_series(200, 220) n").await));
    assert_eq!(site.sql("select count(*) from open"), "50");
    // In a block the rest of it fails.
    analyst.batch_execute("begin; update people set name = 'new' where id = 1").await.unwrap();
    assert!(crossed(&simple(&analyst, "update people set name = 'new' returning id").await));
    assert!(simple(&analyst, "select 1").await.1.unwrap().starts_with("25P02"));
    analyst.batch_execute("commit").await.unwrap();
    assert_eq!(counted(), "0");
    let refused = simple(&analyst, &format!("begin; {insert}; commit")).await;
    assert!(refused.0 == 0 && refused.1.unwrap().contains("could not be undone"));
    assert_eq!(counted(), "0");
    // What stays within it is committed, and seen by others; what the commit finds is told in its place.
    let few = "insert into people select n, 'new' from generate_series(100, 109) n returning id";
    assert_eq!(simple(&analyst, few).await, (10, None));
    assert_eq!(counted(), "10");
    let deferred = "insert into late select 1 from people limit 2 returning id";
    let (_, error) = simple(&analyst, deferred).await;
    assert!(error.unwrap().starts_with("23505"));
    assert_eq!(site.sql("select count(*) from late"), "0");
    assert_eq!(simple(&analyst, "delete from people where name = 'new'").await, (0, None));
    assert_eq!(counted(), "0");
    // The application sees no transaction that it has not begun.
    let psql = site.psql("analyst", &["-A", "-t", "-c", few, "-c", "select now() = statement_timestamp()"]);
    let said = String::from_utf8_lossy(&psql.stdout).into_owned();
    assert!(psql.status.success() && said.contains("INSERT 0 10") && said.trim_end().ends_with('t'), "{said}");
}
