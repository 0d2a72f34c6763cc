//! Definitions through the proxy that would leave an unprotected copy behind.

use tokio_postgres::Client;

use crate::support::Site;

const POLICY: &str = r#"
version = 1
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "public" }
nick = { level = "confidential", mask = "fixed:hidden" }
note = { level = "restricted", encrypt = "randomized", as = "text" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
"#;

const SCHEMA: &str = "
create table people (id int primary key, nick text, note text);
create table open (id int primary key, word text);
create schema lab;
grant create, usage on schema lab to app, analyst, support;
";

async fn site(policy: &str, lenses: bool) -> Site {
    let mut site = Site::new("drift").schema(SCHEMA).policy(policy).prepare();
    site.pgveil_ok(if lenses { &["apply", "--lenses"] } else { &["apply"] });
    site.serve();
    let app = site.client("app").await;
    app.batch_execute("insert into people values (1, 'parkiet', 'kanarie')").await.unwrap();
    site
}

async fn refused(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let said = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    format!("{} {}", said.code().code(), said.message())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_protected_plaintext_column_is_refused() {
    let site = site(POLICY, false).await;
    let app = site.client("app").await;
    for sql in [
        "create table kept as select nick from people",
        "create unlogged table lab.kept as table people",
        "select id, nick into kept from people",
        "explain analyze select nick into kept from people",
        "prepare p as select nick from people; create table kept as execute p",
    ] {
        if let Some((prepare, create)) = sql.split_once("; ") {
            app.batch_execute(prepare).await.unwrap();
            assert!(refused(&app, create).await.starts_with("42501 PV031 public.people.nick is hidden"), "{sql}");
            continue;
        }
        assert!(refused(&app, sql).await.starts_with("42501 PV031 public.people.nick is hidden"), "{sql}");
        assert!(app.execute(sql, &[]).await.is_err(), "{sql}");
    }
    assert_eq!(site.sql("select to_regclass('kept') is null and to_regclass('lab.kept') is null").trim(), "t");
    // What is sealed stays so, what is temporary goes, what nobody protects is nobody's business.
    app.batch_execute("create table kept as select id, note from people").await.unwrap();
    let ty = "select atttypid::regtype from pg_attribute where attrelid = 'kept'::regclass and attname = 'note'";
    assert_eq!(site.sql(ty).trim(), "pgveil.sealed_text");
    app.batch_execute("create temp table t as select id, nick from people").await.unwrap();
    app.batch_execute("create table lab.words as table open; select word into lab.more from open").await.unwrap();
    app.batch_execute("prepare q as select id from people; create table lab.ids as execute q").await.unwrap();
    // Views follow their tables, materialised ones too.
    app.batch_execute("create materialized view lab.mv as select nick from people").await.unwrap();
    site.sql("grant select on lab.mv to analyst");
    let analyst = site.client("analyst").await;
    let hidden = refused(&analyst, "select nick from lab.mv").await;
    assert!(hidden.contains("PV013"), "{hidden}");
    // The way out.
    app.batch_execute("create table lab.listed (id int, nick text)").await.unwrap();
    site.write(
        "policy.toml",
        &POLICY.replace(
            "[roles.app]",
            "[tables.\"lab.listed\".columns]\nid = { level = \"public\" }\n\
        nick = { level = \"confidential\" }\n[roles.app]",
        ),
    );
    site.pgveil_ok(&["check", "--against", &site.direct_url("pgveil")]);
    app.batch_execute("insert into lab.listed select id, nick from people").await.unwrap();
    let events = site.events();
    let refusals = events.iter().filter(|e| e["kind"] == "refused" && e["code"] == "PV031");
    let touched = |e: &serde_json::Value| e["touches"].to_string().contains("nick");
    assert!(refusals.filter(|e| touched(e)).count() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_through_a_lens_is_of_masks() {
    let site = site(POLICY, true).await;
    let analyst = site.client("analyst").await;
    analyst.batch_execute("create table lab.masked as select id, nick from people").await.unwrap();
    assert_eq!(site.sql("select nick from lab.masked").trim(), "hidden");
    analyst.batch_execute("select nick into lab.into_masked from public.people").await.unwrap();
    assert_eq!(site.sql("select nick from lab.into_masked").trim(), "hidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_policy_allows_copies_the_log_and_the_doctor_tell_of_them() {
    let policy = POLICY.replace("version = 1", "version = 1\ncopies = \"allow\"");
    let site = site(&policy, false).await;
    let app = site.client("app").await;
    app.batch_execute("create table lab.kept as select id, nick as other from people").await.unwrap();
    app.batch_execute("create table lab.same as select nick from people").await.unwrap();
    assert_eq!(site.sql("select nick from lab.same").trim(), "parkiet");
    let events = site.events();
    let notes: Vec<_> = events.iter().filter_map(|e| e["note"].as_str()).filter(|note| note.contains("copy")).collect();
    assert_eq!(notes, ["made an unprotected copy of public.people.nick"; 2]);
    let doctor = site.pgveil(&["doctor", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let copies = said["checks"].as_array().unwrap().iter().filter(|check| check["check"] == "copies");
    let copies: Vec<_> = copies.map(|check| (check["table"].to_string(), check["message"].to_string())).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(copies[0].0.contains("lab.same") && copies[0].1.contains("may be a copy"), "{copies:?}");
    let checked = site.pgveil_ok(&["check"]);
    assert!(checked.contains("hides it from nobody"), "{checked}");
}
