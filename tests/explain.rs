//! `pgveil explain`, and EXPLAIN (PRIVACY) through the proxy.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{CANARY, Site, server_log};

const POLICY: &str = r#"version = 1
default_level = "internal"
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
code = { level = "restricted", as = "varchar(20)", encrypt = "deterministic" }
nick = { level = "confidential", mask = "partial:1:0" }
note = { level = "restricted", encrypt = "randomized", as = "text" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
accept_leakage = ["existence"]
[roles.analyst.rows]
"public.people" = "born > '1950-01-01'"
[roles.support]
clearance = "internal"
above = "null"
"#;

const SCHEMA: &str = "
create table people (id int primary key, email varchar(80) unique, code varchar(20), nick varchar(40), note text,
  born date);
create table open (id int primary key, word text);
create schema other;
";

fn prepared() -> Site {
    let site = Site::new("explain").schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply", "--lenses"]);
    site
}

/// Exit code and what was printed.
fn explain(site: &Site, role: &str, sql: &str) -> (i32, String) {
    let output = site.pgveil(&["explain", sql, "--as", role]);
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(!said.contains(CANARY), "{said}");
    (output.status.code().expect("a code"), said)
}

fn has(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|found| found == *line), "{line}\n in\n{said}");
    }
}

#[test]
fn each_role_is_told_what_it_gets_and_why() {
    let site = prepared();
    let sql =
        format!("select email, nick, note from people where email = '{CANARY}@example.org' and code = '{CANARY}'");
    let (code, app) = explain(&site, "app", &sql);
    assert_eq!(code, 0, "{app}");
    has(
        &app,
        &[
            "act: forwarded rewritten",
            "role app: [roles.app] (policy.toml:12), clearance restricted, above it masked; no lens needed",
            "search path: app, public",
            "  public.people.email: searched, sealed; encrypted deterministic",
            "  public.people.nick: read, clear",
            "    because level confidential (policy.toml:10), within clearance restricted of [roles.app] (policy.toml:12)",
            "  sent: select email, nick, note, \"people\".\"id\" as \"pgveil_subject\" from people where email = '\\x…'::pg_catalog.bytea and code = \
             '\\x…'::pg_catalog.bytea",
            "index: public.people.email is searched by public.people_email_key",
            "index: public.people.code is searched and no index leads with it: create index on \
             \"public\".\"people\" (\"code\");",
        ],
    );
    site.sql("create index people_code on people (code)");
    let (_, app) = explain(&site, "app", &sql);
    has(&app, &["index: public.people.code is searched by public.people_code"]);

    let (code, analyst) = explain(&site, "analyst", "select email, nick, note, born from public.people");
    assert_eq!(code, 0, "{analyst}");
    let view = "through pgveil_lens_analyst_public.people";
    has(
        &analyst,
        &[
            "role analyst: [roles.analyst] (policy.toml:14), clearance internal, above it masked; lens in force",
            "search path: analyst, pgveil_lens_analyst_public, public",
            &format!("  public.people.email: read, masked with email; encrypted deterministic; {view}"),
            &format!("  public.people.nick: read, masked with partial:1:0; {view}"),
            &format!("  public.people.note: read, null; encrypted randomized; {view}"),
            &format!("  public.people.born: read, clear; {view}"),
            "    because default_level internal (policy.toml:2), within clearance internal of [roles.analyst] \
             (policy.toml:14)",
            "  rows of public.people: only where born > '1950-01-01' (policy.toml:18)",
            "  sent: select email, nick, note, born, \"people\".\"id\" as \"pgveil_subject\" from \"pgveil_lens_analyst_public\".people",
        ],
    );

    let (_, support) = explain(&site, "support", "select nick from people");
    has(&support, &["  public.people.nick: read, null; through pgveil_lens_support_public.people"]);
    assert!(!support.contains("rows of"), "{support}");

    let (code, stranger) = explain(&site, "trusty", "select email from people");
    assert_eq!(code, 0, "{stranger}");
    assert!(stranger.contains("role trusty: no entry in the policy, so default_role (policy.toml), clearance public"));
    has(&stranger, &["  public.people.email: read, masked with email; encrypted deterministic"]);
    assert!(explain(&site, "nobody_at_all", "select 1").1.contains("note: PostgreSQL has no role nobody_at_all"));
}

#[test]
fn a_refusal_is_exit_code_1_and_wrong_usage_is_2() {
    let site = prepared();
    let (code, said) = explain(&site, "app", &format!("select id from people where note = '{CANARY}'"));
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("refused: PV011 column public.people.note is sealed (randomized)"), "{said}");
    assert!(said.contains("\nhint: ") && said.contains("statement: select id from people where note = ?"), "{said}");
    let (code, said) = explain(&site, "trusty", "select id from people where code = 'x'");
    assert!(code == 1 && said.starts_with("refused: PV01") && !said.contains("index: "), "{said}");
    assert_eq!(explain(&site, "trusty", "select nick from people").0, 1, "PV013 without a lens");
    assert_eq!(explain(&site, "app", "select word from open").1.lines().next(), Some("pass: forwarded as it is"));
    assert!(explain(&site, "app", "select * from nothing").1.starts_with("unknown: "));
    assert_eq!(explain(&site, "app", " ").0, 2);
    assert_eq!(site.pgveil(&["explain", "select 1"]).status.code(), Some(2), "no role");
    let help = String::from_utf8_lossy(&site.command(&["explain", "--help"]).output().unwrap().stdout).into_owned();
    assert!(help.contains("Examples:") && help.contains("--as"), "{help}");

    let mut child = site.command(&["explain", "-", "--as", "app", "--json"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let sql = format!("insert into people (id, email) values (1, '{CANARY}'); select 1");
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["decision"].as_str(), json["statements"].as_array().map(Vec::len)), (Some("act"), Some(2)));
    let first = &json["statements"][0];
    assert_eq!(first["columns"][1]["treatment"], "sealed", "{first}");
    assert_eq!(first["sent"], "insert into people (id, email) values (?, '\\x…'::pg_catalog.bytea)");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(CANARY));
}

#[test]
fn the_search_path_is_the_one_a_login_begins_with() {
    let site = prepared();
    let path = |role: &str| {
        let said = explain(&site, role, "select 1").1;
        said.lines().find_map(|line| line.strip_prefix("search path: ")).unwrap_or_default().to_owned()
    };
    assert_eq!(path("app"), "app, public");
    let database = site.sql("select current_database()");
    site.sql(&format!("alter role app in database {database} set search_path = other, public"));
    assert_eq!(path("app"), "other, public");
    assert_eq!(path("support"), "support, pgveil_lens_support_public, public");
}

async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            assert_eq!(row.columns()[0].name(), "PRIVACY PLAN");
            row.get(0).map(str::to_owned)
        }
        _ => None,
    };
    answer.iter().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_privacy_answers_as_a_query_and_runs_nothing() {
    let mut site = prepared();
    site.serve();
    let app = site.client("app").await;
    let insert =
        format!("insert into people values (1, '{CANARY}@x.org', '{CANARY}', 'ann', '{CANARY}', '1980-01-01')");
    app.batch_execute(&insert).await.unwrap();

    let delete = format!("explain (privacy) delete from people where email = '{CANARY}@x.org' returning note");
    let said = rows(&app, &delete).await.join("\n");
    has(&said, &["  public.people.email: searched, sealed; encrypted deterministic"]);
    assert!(said.starts_with("act: ") && !said.contains(CANARY), "{said}");
    assert_eq!(site.sql("select count(*) from people"), "1", "nothing ran");

    // A role with a row filter, which plain EXPLAIN is refused to.
    let analyst = site.client("analyst").await;
    let said = rows(&analyst, "explain (privacy) select nick from people where id = 1").await.join("\n");
    has(
        &said,
        &[
            "  rows of public.people: only where born > ? (policy.toml:18)",
            "search path: analyst, \
         pgveil_lens_analyst_public, public",
        ],
    );
    let refused = rows(&analyst, "explain (privacy) copy people from stdin").await.join("\n");
    assert!(refused.starts_with("refused: PV012"), "{refused}");
    assert!(refused.contains("public.people.id: written, refused"), "{refused}");
    assert_eq!(rows(&analyst, "explain (privacy) select 1").await[0], "pass: forwarded as it is");
    let plain = analyst.simple_query("explain select nick from people").await.expect_err("it counts hidden rows");
    assert!(plain.as_db_error().unwrap().hint().unwrap_or_default().contains("EXPLAIN (PRIVACY)"), "{plain:?}");
    for (sql, expected) in [
        ("explain (privacy, analyze) select * from people", "takes no other option"),
        ("explain (privacy)", "needs a statement"),
    ] {
        let error = analyst.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap();
        assert!(error.code().code() == "42601" && error.message().contains(expected), "{error:?}");
    }

    // Prepared, with parameters, by portal; and again.
    for _ in 0..2 {
        let prepared = app.prepare("EXPLAIN (PRIVACY) select note from people where email = $1").await.unwrap();
        assert_eq!((prepared.columns().len(), prepared.columns()[0].name()), (1, "PRIVACY PLAN"));
        let value = format!("{CANARY}@x.org");
        let found = app.query(&prepared, &[&value]).await.unwrap();
        let lines: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        assert!(lines[0].starts_with("act: ") && !lines.concat().contains(CANARY), "{lines:?}");
    }
    // A value for a sealed column is sealed here too.
    let both = "explain (privacy) select note from people where email = $1 or nick = $1 or code = any($2)";
    let prepared = app.prepare(both).await.unwrap();
    let (value, codes) = (format!("{CANARY}@x.org"), vec![CANARY.to_owned()]);
    assert_eq!(app.query(&prepared, &[&value, &codes]).await.unwrap()[0].get::<_, &str>(0), "act: forwarded rewritten");
    assert!(!server_log(&site.database).contains(CANARY), "a value for a sealed column is in the server's log");
    let unknown = rows(&app, "explain (privacy) select * from people, nothing").await;
    assert!(unknown[0].starts_with("unknown: "), "{unknown:?}");
    for sql in ["explain (privacy) select * from nothing", "explain (privacy) select * from nothing where id = $1"] {
        assert!(rows(&app, sql).await[0].starts_with("unknown: "), "{sql}");
        let prepared = app.prepare(sql).await.unwrap();
        // Of nothing protected, it goes to the server as it is.
        let value = "anything".to_owned();
        let values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            prepared.params().iter().map(|_| &value as _).collect();
        let first: String = app.query(&prepared, &values).await.unwrap()[0].get(0);
        assert!(first.starts_with("unknown: "), "{sql}: {first}");
    }
    let several = rows(&app, "begin; explain (privacy) select email from people; commit").await;
    assert!(several[0].starts_with("act: "), "{several:?}");

    site.terminate();
    let events = site.events();
    let explained: Vec<&Value> = events
        .iter()
        .filter(|e| e["text"].as_str().is_some_and(|text| text.to_lowercase().starts_with("explain (privacy) delete")))
        .collect();
    assert_eq!(explained.len(), 1, "{explained:?}");
    let of_copy = |e: &&Value| e["text"] == "explain (privacy) copy people from stdin";
    let copy = events.iter().find(of_copy).expect("a report on a refused statement is an access too");
    let shown: Vec<&str> = copy["touches"].as_array().unwrap().iter().filter_map(|t| t["shown"].as_str()).collect();
    assert!(shown.len() > 1 && shown.iter().all(|shown| *shown == "refused"), "{copy}");
    let event = explained[0];
    assert_eq!((event["access"].as_str(), event["rows"].as_u64().unwrap_or(0)), (Some("other"), 0), "{event}");
    let touches = event["touches"].as_array().unwrap();
    assert!(touches.iter().any(|touch| touch["column"] == "email" && touch["shown"] == "searched"), "{event}");
    site.assert_no_canary();
}
