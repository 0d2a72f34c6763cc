//! Lenses: what PostgreSQL itself shows a role that may not see everything, in place of the tables.

use std::process::Command;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::scenario::{has_python, python, transcript};
use crate::support::{CANARY, PASSWORD, Site, cluster};

/// In every value of a plaintext column above clearance. (The server's log may hold it, unlike [`CANARY`].)
const PLAIN: &str = "parkiet";

const POLICY: &str = r#"
version = 1
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
nick = { level = "confidential", mask = "partial:1:0" }
note = { level = "restricted", encrypt = "randomized", as = "text" }
born = { level = "internal" }
gone = { level = "confidential", mask = "remove" }
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
refuse = ["write", "ddl", "copy_out", "functions", "do", "listen", "fast_path"]
"#;

const SCHEMA: &str = "
create table people (id int primary key, email varchar(80) unique, nick varchar(40), note text, born date, gone text,
  extra text);
create table open (id int primary key, word text);
insert into open values (1, 'spoken');
create function shout(text) returns text language sql as 'select upper($1)';
create schema other;
create table other.people (id int, word text);
insert into other.people values (7, 'elsewhere');
grant usage on schema other to public; grant select on other.people to public;
";

fn prepared() -> Site {
    let site = Site::new("lenses").schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply", "--lenses"]);
    site
}

async fn site() -> Site {
    let mut site = prepared();
    site.serve();
    let app = site.client("app").await;
    for (id, name, born) in [(1, "ann", "1980-02-03"), (2, "bob", "1990-04-05"), (3, "old", "1940-01-01")] {
        let insert = format!(
            "insert into people values ({id}, '{name}.{CANARY}@example.org', '{name}-{PLAIN}', '{CANARY}', '{born}',
             '{PLAIN}', '{PLAIN}')"
        );
        app.batch_execute(&insert).await.unwrap();
    }
    site
}

/// Rows, or SQLSTATE and message.
async fn answer(client: &Client, sql: &str) -> String {
    let rows = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => {
            let db = error.as_db_error().unwrap();
            return format!("{}: {}", db.code().code(), db.message());
        }
    };
    let rows = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("∅")).collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// What analyst gets of person 2.
fn bob() -> String {
    let stars = |count: usize| "*".repeat(count);
    let email = format!("b{}@*******.org", stars(3 + CANARY.len()));
    format!("2|{email}|b{}|∅|1990-04-05|∅", stars(3 + CANARY.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_reaches_its_lens_by_every_name_of_the_table() {
    let site = site().await;
    let analyst = site.client("analyst").await;
    for sql in [
        "select * from people where id = 2",
        "select * from public.people where id = 2",
        "select public.people.* from public.people where public.people.id = 2",
        "select p.* from \"public\" . \"people\" as p where p.id = 2",
        "select * from U&\"publi\\0063\".people where people.id = 2",
        "select * from DATABASE.public.people where id = 2",
        "table people order by id offset 1",
        "with people as (select * from people) select * from people where id = 2",
    ] {
        let sql = &sql.replace("DATABASE", &site.database);
        assert_eq!(answer(&analyst, sql).await, bob(), "{sql}");
        let row = analyst.query(sql, &[]).await.unwrap();
        assert_eq!((row.len(), row[0].get::<_, i32>(0)), (1, 2), "{sql}");
    }
    assert_eq!(answer(&analyst, "select count(*) from people").await, "2", "the filtered row does not exist");
    assert_eq!(answer(&analyst, "select nick from people where nick like 'ann-%'").await, "", "masks are compared");
    assert!(answer(&analyst, "select gone from people").await.starts_with("42703"));
    assert_eq!(answer(&analyst, "select word from open").await, "spoken", "a table without a lens");
    assert_eq!(answer(&analyst, "select * from other.people").await, "7|elsewhere", "of the same name elsewhere");
    assert!(answer(&analyst, "explain analyze select * from people").await.contains("PV018"), "it counts hidden rows");
    let shown = |event: &serde_json::Value, column: &str| {
        let touches = event["touches"].as_array().cloned().unwrap_or_default();
        let of = |touch: &&serde_json::Value| touch["column"] == column && touch["relation"] == "public.people";
        touches.iter().find(of).map(|touch| touch["shown"].as_str().unwrap_or_default().to_owned())
    };
    let events = site.events();
    let by_analyst = |e: &&serde_json::Value| e["actor"]["role"] == "analyst" && shown(e, "nick").is_some();
    let read = events.iter().find(by_analyst).expect("the lens is logged under its table's name");
    assert_eq!(["id", "email", "nick"].map(|column| shown(read, column).unwrap()), ["searched", "masked", "masked"]);
    let support = site.client("support").await;
    assert_eq!(
        answer(&support, "select id, email, nick, note from people order by 1").await,
        "1|∅|∅|∅\n2|∅|∅|∅\n3|∅|∅|∅"
    );
    let app = site.client("app").await;
    assert_eq!(answer(&app, "select extra from people where id = 2").await, PLAIN);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_path_keeps_the_lens_and_does_not_show_it() {
    let site = site().await;
    let analyst = site.client("analyst").await;
    let two = "select count(*) from people";
    assert_eq!(answer(&analyst, "show search_path").await, "\"$user\", public");
    for (set, shown) in [
        ("set search_path = public, pg_temp", "public, pg_temp"),
        ("reset search_path", "\"$user\", public"),
        ("select set_config('search_path', 'public,\"Other\"', false)", "public,\"Other\""),
        ("discard all", "\"$user\", public"),
        ("set session search_path to 'public'", "public"),
        ("reset all", "\"$user\", public"),
        ("set role none", "\"$user\", public"),
    ] {
        let _ = answer(&analyst, set).await;
        assert_eq!(answer(&analyst, two).await, "2", "{set}");
        assert_eq!(answer(&analyst, "show search_path").await, shown, "{set}");
    }
    for sql in [
        "select current_schema()",
        "select current_schema",
        "select pg_catalog.current_schema() as x, 1 as \"current_schema\"",
    ] {
        let said = answer(&analyst, sql).await;
        assert!(said.starts_with("public"), "{sql}: {said}");
    }
    let row = analyst.query_one("select current_schema(), 1", &[]).await.unwrap();
    assert_eq!((row.columns()[0].name(), row.get::<_, &str>(0)), ("current_schema", "public"));
    analyst.batch_execute("set search_path = other, public").await.unwrap();
    assert_eq!(answer(&analyst, "select word from people").await, "elsewhere", "what stands before is before");
    analyst.batch_execute("set search_path = public, other").await.unwrap();
    for end in ["commit", "rollback"] {
        analyst.batch_execute("begin").await.unwrap();
        assert_eq!(answer(&analyst, two).await, "2");
        analyst.batch_execute("savepoint s; set local search_path = other").await.unwrap();
        assert_eq!(answer(&analyst, "select word from people").await, "elsewhere");
        assert_eq!(answer(&analyst, "show search_path").await, "other");
        analyst.batch_execute("rollback to s").await.unwrap();
        assert_eq!(answer(&analyst, two).await, "2");
        analyst.batch_execute("set local search_path = public").await.unwrap();
        assert_eq!(answer(&analyst, two).await, "2");
        analyst.batch_execute(end).await.unwrap();
        assert_eq!(answer(&analyst, two).await, "2", "{end}");
        assert_eq!(answer(&analyst, "show search_path").await, "public, other", "{end}");
    }
    // A statement prepared before means the same after.
    let prepared = analyst.prepare("select count(*) from people").await.unwrap();
    analyst.batch_execute("set search_path = other, public").await.unwrap();
    assert_eq!(analyst.query_one(&prepared, &[]).await.unwrap().get::<_, i64>(0), 1);
    analyst.batch_execute("set search_path = public").await.unwrap();
    assert_eq!(analyst.query_one(&prepared, &[]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lens_is_written_through_where_its_columns_are_the_tables() {
    let site = site().await;
    let analyst = site.client("analyst").await;
    let insert = "insert into public.people (id, born) values (4, '1970-01-01') returning id, nick, born";
    assert_eq!(answer(&analyst, insert).await, "4|∅|1970-01-01");
    let upsert = "insert into people (id, born) values (4, '1971-01-01') on conflict (id) do update set born = excluded.born returning born";
    assert!(answer(&analyst, upsert).await.contains("PV013"), "it would reach hidden rows");
    let again =
        "insert into people as p (id, born) values (4, '1971-01-01') on conflict (id) do nothing returning p.id";
    assert_eq!(answer(&analyst, again).await, "");
    for returned in ["public.people.id", "public.people.*", "(public.people.id)", "people.id"] {
        let insert = format!("insert into public.people (id, born) values (6, '1990-01-01') returning {returned}");
        assert!(answer(&analyst, &insert).await.starts_with('6'), "{returned}");
        assert_eq!(answer(&analyst, "delete from people where id = 6").await, "");
    }
    let two = "with x as (insert into open values (6, 'w') on conflict (id) do update set word = 'w' returning id)
        insert into people (id, born) select id, '1990-01-01' from x returning people.id";
    assert_eq!(answer(&analyst, two).await, "6", "another table's ON CONFLICT");
    assert_eq!(answer(&analyst, "delete from people where id = 6").await, "");
    let hidden = "insert into people (id, born) values (5, '1920-01-01')";
    assert!(answer(&analyst, hidden).await.starts_with("44000"), "WITH CHECK OPTION");
    assert!(answer(&analyst, "update people set nick = 'x' where id = 4").await.starts_with("0A000"), "masked");
    assert_eq!(answer(&analyst, "update public.people set born = '1972-01-01' where id = 4").await, "");
    assert_eq!(answer(&analyst, "delete from people where id in (3, 4)").await, "");
    assert_eq!(site.sql("select count(*) from people"), "3", "the filtered row is out of reach");
    assert!(answer(&analyst, "copy people (id, born) from stdin").await.contains("PV013"));
    assert!(answer(&analyst, "truncate people").await.starts_with("42"), "not a table");
    // In the place of COPY of a table.
    for copy in ["copy people to stdout", "copy public.people (id, born, nick) to stdout (format csv, header)"] {
        let rows = analyst.copy_out(copy).await.unwrap();
        let rows: Vec<_> = futures_util::TryStreamExt::try_collect(rows).await.unwrap();
        let text = rows.iter().map(|row: &bytes::Bytes| String::from_utf8_lossy(row)).collect::<String>();
        assert!(text.contains("1990-04-05") && !text.contains("1940") && text.contains("b***"), "{copy}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_refuses_is_refused_in_every_form() {
    let site = site().await;
    let support = site.client("support").await;
    for sql in [
        "insert into open values (2, 'x')",
        "with x as (delete from open returning *) select * from x",
        "copy (update open set word = 'x' returning *) to stdout",
        "copy open from stdin",
        "copy open to stdout",
        "truncate open",
        "create table made (a int)",
        "select 1 as a into made",
        "drop table open",
        "do $$ begin end $$",
        "call nothing()",
        "select shout(word) from open",
        "explain insert into open values (2, 'x')",
        "prepare p as delete from open",
        "declare c cursor for select shout('x')",
        "listen x",
        "select pg_notify('x', 'y')",
        "select 1; notify x",
    ] {
        let said = answer(&support, sql).await;
        assert!(said.starts_with("42501: PV018") && said.contains("not available"), "{sql}: {said}");
        let prepared = support.prepare(sql).await;
        assert!(prepared.is_err(), "{sql}");
    }
    assert_eq!(answer(&support, "begin; select word from open; commit").await, "spoken");
    let app = site.client("app").await;
    assert_eq!(answer(&app, "select shout(word) from open").await, "SPOKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn orms_and_psql_work_as_a_masked_role_unchanged() {
    if !has_python("lenses::orms_and_psql_work_as_a_masked_role_unchanged") {
        return;
    }
    let site = site().await;
    let said = transcript("a masked role", &mut python("masked_orms.py", &site.url("analyst"), &[]));
    assert!(said.trim_end().ends_with("done") && !said.contains(PLAIN), "{said}");
    let words = [
        "-A",
        "-t",
        "-c",
        "\\d people",
        "-c",
        "select nick, gone from public.people where id = 2",
        "-c",
        "\\dv people",
    ];
    let output = site.psql("analyst", &words);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("nick|character varying(40)") && said.contains("|people|view|pgveil_lens"), "{said}");
    assert!(said.contains("column \"gone\" does not exist") && !said.contains(PLAIN), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_proxy_there_is_the_lens_and_nothing_else() {
    let site = site().await;
    let direct = site.direct("analyst").await;
    for sql in [
        "select id from public.people",
        "select count(*) from people",
        "update people set born = now()",
        "select query_to_xml('select * from public.people', true, true, '')",
        "do $$ begin perform * from public.people; end $$",
        "select ipad from pgveil.lens_key",
        "copy people to stdout",
    ] {
        let said = answer(&direct, sql).await;
        assert!(said.starts_with("42501"), "{sql}: {said}");
    }
    let lens = answer(&direct, "select * from pgveil_lens_analyst_public.people where id = 2").await;
    assert!(lens.contains("|\\xfed101") && !lens.contains(CANARY) && !lens.contains(PLAIN), "{lens}");
    assert_eq!(
        answer(&direct, "select most_common_vals from pg_stats where tablename = 'people' and schemaname = 'public'")
            .await,
        ""
    );
}

/// What pg_dump says of the schema, sorted: rights are a set, and pg_dump ≥ 15.14 writes a random \\restrict key.
fn dump(site: &Site) -> Vec<String> {
    let mut dump = Command::new(cluster().binaries().program("pg_dump"));
    let output = dump.args(["-s", "-d", &site.direct_url("pgveil")]).output().expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_a_dry_run_prints_does_the_same_by_psql() {
    let [printed, applied] = [(); 2].map(|()| Site::new("printed").schema(SCHEMA).policy(POLICY).prepare());
    let script = printed.pgveil_ok(&["apply", "--lenses", "--dry-run"]);
    // As the owner of the database, who is no superuser.
    cluster().sql_as("pgveil", PASSWORD, &printed.database, &script).unwrap();
    applied.pgveil_ok(&["apply", "--lenses"]);
    assert_eq!(dump(&printed), dump(&applied));
    // A lens of columns that are sealed later.
    let sealed = "note = { level = \"restricted\", encrypt = \"randomized\", as = \"text\" }";
    let plain = POLICY.replace(sealed, "note = { level = \"confidential\" }");
    let [printed, applied] = [(); 2].map(|()| {
        let site = Site::new("later").schema(SCHEMA).policy(&plain).prepare();
        site.pgveil_ok(&["apply", "--lenses"]);
        site.write("policy.toml", POLICY);
        site
    });
    let script = printed.pgveil_ok(&["apply", "--dry-run"]);
    cluster().sql_as("pgveil", PASSWORD, &printed.database, &script).unwrap();
    applied.pgveil_ok(&["apply"]);
    assert_eq!(dump(&printed), dump(&applied));
    assert!(applied.pgveil_ok(&["apply"]).contains("nothing to do"));
}

#[test]
fn apply_changes_nothing_twice_and_remove_leaves_what_was_there() {
    let site = Site::new("removed").schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply"]);
    site.write("policy.toml", &POLICY.replace("accept_leakage", "# accept_leakage"));
    let refused = site.pgveil(&["apply", "--lenses"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("by INSERT, UPDATE, DELETE it could learn") && said.contains("accept_leakage"), "{said}");
    site.write("policy.toml", POLICY);
    site.sql("grant select (id, nick), update (born) on people to trusty; grant references on people to analyst with grant option");
    let before = dump(&site);
    let dry = site.pgveil_ok(&["apply", "--lenses", "--dry-run"]);
    assert!(dry.contains("with (security_barrier = true)"), "{dry}");
    assert_eq!(dump(&site), before, "a dry run changes nothing");
    site.pgveil_ok(&["apply", "--lenses"]);
    assert!(dump(&site).join("\n").contains("pgveil_lens_analyst_public"));
    for again in [&["apply", "--lenses"][..], &["apply"], &["apply", "--lenses", "--dry-run"]] {
        let said = site.pgveil_ok(again);
        assert!(said.contains("nothing to do"), "{again:?}: {said}");
    }
    let diff = |site: &Site| {
        let output = site.pgveil(&["diff", "--lenses"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(diff(&site), (Some(0), "the database is what the policy says\n".to_owned()));
    // What somebody has made of a lens is named, and not dropped.
    site.write("policy.toml", &POLICY.replace("mask = \"partial:1:0\"", "mask = \"null\""));
    site.sql("create view other.mine as select nick from pgveil_lens_analyst_public.people; alter view other.mine owner to analyst");
    let refused = site.pgveil(&["apply"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("other.mine, a view of analyst, is made of the lens") && said.contains("drop view other.mine;"),
        "{said}"
    );
    site.sql("drop view other.mine");
    site.write("policy.toml", POLICY);
    // A change of the policy is a change of the lens, and rights stay.
    site.write("policy.toml", &POLICY.replace("mask = \"partial:1:0\"", "mask = \"null\""));
    let (code, said) = diff(&site);
    assert!(said.contains("- drop view \"pgveil_lens_analyst_public\".\"people\"\n"), "{said}");
    assert!(
        code == Some(1) && said.contains("+ create view") && said.contains(" to take away, 0 to change, 0 in the way")
    );
    let elsewhere = site.pgveil(&["diff", "--config", "nowhere.toml"]);
    assert_eq!(elsewhere.status.code(), Some(2));
    let said = site.pgveil_ok(&["apply"]);
    assert!(said.contains("the lens of public.people changes, [roles.analyst]"), "{said}");
    assert!(site.pgveil_ok(&["apply"]).contains("nothing to do"));
    let rights =
        "select table_schema, string_agg(privilege_type, ',' order by privilege_type) from information_schema.table_privileges
        where grantee = 'analyst' and table_schema like 'pgveil_lens%' group by 1 order by 1";
    let lens = "pgveil_lens_analyst_public";
    assert_eq!(site.sql(rights), format!("{lens}\tDELETE,SELECT,UPDATE\n{lens}_insert\tINSERT,SELECT"));
    // Rights to INSERT and to UPDATE never meet on one view.
    site.sql(&format!("grant insert on {lens}.people to analyst"));
    assert!(diff(&site).1.contains(&format!("- revoke INSERT on \"{lens}\".\"people\" from \"analyst\"")));
    site.pgveil_ok(&["apply"]);
    assert!(site.sql(rights).starts_with(&format!("{lens}\tDELETE,SELECT,UPDATE\n")));
    site.write("policy.toml", POLICY);
    site.pgveil_ok(&["apply", "--remove"]);
    assert_eq!(dump(&site), before);
    assert!(site.pgveil_ok(&["apply", "--remove"]).contains("nothing to do"));
}

#[test]
fn a_condition_gives_no_right_to_what_it_reads() {
    let policy = r#"
version = 1
default_level = "internal"
[tables."public.people".columns]
id = { level = "internal" }
[tables."public.open".columns]
id = { level = "internal" }
[tables."public.parts".columns]
id = { level = "internal" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
accept_leakage = ["existence"]
[roles.analyst.rows]
"public.people" = "exists (select from public.open o where o.id = t.id)"
"public.open" = "id > 0"
"public.parts" = "id > 0"
"#;
    let parts = "create table parts (id int) partition by range (id); create table part1 partition of parts for values from (0) to (9);";
    let site = Site::new("conditions").schema(&format!("{SCHEMA}{parts}")).policy(policy).prepare();
    site.sql("revoke all on open, part1 from analyst");
    site.pgveil_ok(&["apply", "--lenses"]);
    let rights = "select table_schema, table_name, string_agg(privilege_type, ',' order by privilege_type)
        from information_schema.table_privileges where grantee = 'analyst' and table_schema like 'pgveil%' group by 1, 2 order by 1, 2";
    let given = site.sql(rights);
    assert!(given.contains("\tpeople\t") && !given.contains("\topen\t") && !given.contains("\tpart1\t"), "{given}");
    assert!(site.pgveil_ok(&["apply", "--lenses"]).contains("nothing to do"));
    assert_eq!(site.sql(rights), given);
    // A table that is gone gets nothing back, and is in nobody's way.
    site.write(
        "policy.toml",
        &policy
            .replace("[tables.\"public.parts\".columns]\nid = { level = \"internal\" }\n", "")
            .replace("\"public.parts\" = \"id > 0\"\n", ""),
    );
    site.sql("drop table parts cascade");
    site.pgveil_ok(&["apply", "--remove"]);
    assert_eq!(site.sql("select count(*) from information_schema.table_privileges where grantee = 'analyst' and table_name = 'people' and table_schema = 'public'"), "7");
}
