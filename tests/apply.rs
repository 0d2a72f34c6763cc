//! `pgveil apply` and `pgveil check` against a real server.

use pgveil::demo::cluster::Cluster;

use crate::support::{CANARY, PASSWORD, Site, cluster};

const SCHEMA: &str = "
    create table people (id bigint primary key, email varchar(320) not null unique, name text, nick text);
    create table logins (id bigint primary key, email varchar(320) references people (email) on delete cascade, at timestamptz);
    create table notes (id bigint primary key, body text);
    create table parted (id bigint, secret text, k int) partition by list (k);
    create table parted_1 partition of parted for values in (1);
    insert into notes values (1, 'written before');";

const POLICY: &str = "version = 1
[tables.\"public.people\"]
subject = { kind = \"person\", key = \"id\" }
[tables.\"public.people\".columns]
id = { level = \"internal\" }
email = { level = \"restricted\", as = \"varchar(320)\", encrypt = \"deterministic\", mask = \"email\" }
name = { level = \"restricted\", as = \"text\", encrypt = \"randomized\", mask = \"name\" }
nick = { level = \"internal\" }
[tables.\"public.logins\".columns]
id = { level = \"internal\" }
email = { level = \"restricted\", encrypt = \"deterministic\", same_as = \"public.people.email\" }
at = { level = \"internal\" }
[tables.\"public.parted\".columns]
id = { level = \"internal\" }
secret = { level = \"restricted\", encrypt = \"randomized\" }
k = { level = \"internal\" }
[roles.app]
clearance = \"restricted\"
[roles.analyst]
clearance = \"public\"
";

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn apply_seals_empty_tables_once_and_keeps_their_constraints() {
    let site = Site::new("apply").schema(SCHEMA).policy(POLICY).prepare();
    let dry = site.pgveil_ok(&["apply", "--dry-run"]);
    assert!(dry.contains("alter column \"email\" type pgveil.sealed_varchar"), "{dry}");
    assert_eq!(site.sql("select to_regnamespace('pgveil') is null"), "t", "a dry run changes nothing");
    let listed = site.pgveil_ok(&["keys", "list", "--json"]);
    assert!(!listed.contains("people"), "not even the keyring: {listed}");

    let first = site.pgveil_ok(&["apply"]);
    assert!(first.contains("public.people: email, name become sealed"), "{first}");
    assert!(first.contains("public.people.email has column id"), "{first}");
    let types = "select string_agg(attrelid::regclass || '.' || attname || ' ' || atttypid::regtype, ',' order by attrelid::regclass::text, attname)
        from pg_attribute join pg_class c on c.oid = attrelid where atttypid::regtype::text like '%sealed%' and attnum > 0 and relkind in ('r', 'p') and relname <> 'columns'";
    assert_eq!(
        site.sql(types),
        "logins.email pgveil.sealed_varchar,parted.secret pgveil.sealed_text,parted_1.secret pgveil.sealed_text,\
         people.email pgveil.sealed_varchar,people.name pgveil.sealed_text"
    );
    assert_eq!(
        site.sql(
            "select string_agg(conname || ':' || contype::text, ',' order by conname) from pg_constraint
                  where conrelid in ('people'::regclass, 'logins'::regclass) and contype <> 'n'"
        ),
        "logins_email_fkey:f,logins_pkey:p,people_email_key:u,people_pkey:p"
    );
    assert_eq!(site.sql("select confdeltype from pg_constraint where conname = 'logins_email_fkey'"), "c");
    assert_eq!(
        site.sql("select attnotnull from pg_attribute where attrelid = 'people'::regclass and attname = 'email'"),
        "t"
    );
    assert_eq!(
        site.sql("select string_agg(column_name || ' ' || as_type || ' ' || mode, ',' order by relation::text, attnum) from pgveil.columns"),
        "email character varying(320) deterministic,secret text randomized,\
         email character varying(320) deterministic,name text randomized"
    );
    assert_eq!(site.sql("select count(distinct column_id) from pgveil.columns"), "3", "the two emails share one id");

    let second = site.pgveil_ok(&["apply"]);
    assert!(second.contains("nothing to do"), "{second}");
    assert_eq!(site.pgveil_ok(&["keys", "list", "--json"]).matches("people.email").count(), 1);
}

#[test]
fn plaintext_cannot_get_into_a_sealed_column_by_any_path() {
    let site = Site::new("wall").schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply"]);
    for bad in
        ["'plain'", "'\\xfed101'", "convert_to('some longer plaintext value, longer than an envelope is', 'UTF8')"]
    {
        let sql = format!("insert into people values (1, {bad}, null, null)");
        let refused = cluster().sql_as("pgveil", PASSWORD, &site.database, &sql).unwrap_err().to_string();
        assert!(refused.contains("violates check constraint \"sealed\""), "{refused}");
    }
}

#[test]
fn tables_with_rows_wait_and_obstacles_are_listed_while_the_rest_is_sealed() {
    let policy = format!(
        "{POLICY}[tables.\"public.notes\".columns]\nid = {{ level = \"internal\" }}\n\
         body = {{ level = \"restricted\", encrypt = \"randomized\" }}\n"
    );
    let schema = format!(
        "{SCHEMA} create view shout as select upper(name) as loud from people;
        alter table parted alter secret set default 'x'; create index on people (lower(name));"
    );
    let site = Site::new("obstacles").schema(&schema).policy(&policy).prepare();
    let run = site.pgveil(&["apply"]);
    let said = text(&run);
    assert_eq!(run.status.code(), Some(1), "{said}");
    for expected in [
        "public.notes.body",
        "pgveil seal",
        "public.people.name cannot be sealed: view public.shout depends on it",
        "public.people.name cannot be sealed: the index people_lower_idx has an expression",
        "public.parted.secret cannot be sealed: default value for column secret of table public.parted depends on it",
        "done: 2 columns sealed",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    assert!(!said.contains(CANARY));
    assert_eq!(site.sql("select body from notes"), "written before", "rows are left as they are");
    assert_eq!(
        site.sql(
            "select atttypid::regtype from pg_attribute where attrelid = 'people'::regclass and attname = 'email'"
        ),
        "pgveil.sealed_varchar"
    );
    site.sql("update notes set body = null");
}

#[test]
fn a_role_that_can_go_around_its_lens_is_named_and_nothing_is_changed() {
    let site = Site::new("around").schema(SCHEMA).policy(POLICY).prepare();
    let told = site.pgveil_ok(&["apply"]);
    assert!(told.contains("pgveil apply --lenses"), "{told}");
    let direct = |sql: &str| cluster().sql_as("analyst", PASSWORD, &site.database, sql);
    assert!(direct("select nick from people").is_ok(), "told, not changed");
    site.sql("grant select on people to public");
    let refused = site.pgveil(&["apply", "--lenses"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("nothing was changed") && said.contains("analyst") && said.contains("PUBLIC"), "{said}");
    assert!(direct("select nick from people").is_ok(), "nothing was changed");
    assert_eq!(site.sql("select count(*) from pg_namespace where nspname like 'pgveil_lens%'"), "0");
    site.sql("revoke select on people from public");
    site.pgveil_ok(&["apply", "--lenses"]);
    assert!(direct("select nick from people").unwrap_err().to_string().contains("permission denied"));
    assert!(direct("select email from pgveil_lens_analyst_public.people").is_ok(), "sealed columns are envelopes");
    assert!(site.pgveil_ok(&["apply"]).contains("nothing to do"));
}

#[tokio::test]
async fn a_column_sealed_while_the_proxy_serves_works_at_once() {
    let site = Site::new("live").schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    app.execute("insert into people values ($1, $2, $3, null)", &[&1i64, &"kanarie@x.org", &"kanarie"]).await.unwrap();
    let sql = "set search_path = public; create table later (id int primary key, word text); grant all on later to app";
    cluster().sql_as("pgveil", PASSWORD, &site.database, sql).unwrap();
    let later = "[tables.\"public.later\".columns]\nid = { level = \"internal\" }\n\
                 word = { level = \"restricted\", encrypt = \"randomized\" }\n";
    site.write("policy.toml", &format!("{POLICY}{later}"));
    site.pgveil_ok(&["apply"]);
    let mut last = String::new();
    for _ in 0..400 {
        match app.execute("insert into later values (1, $1)", &[&"kanarie"]).await {
            Ok(_) => {
                let row = app.query_one("select word from later", &[]).await.unwrap();
                assert_eq!(row.get::<_, &str>(0), "kanarie");
                assert_eq!(site.sql("select substr(word, 1, 3) from later"), "\\xfed101");
                return;
            }
            Err(error) => last = format!("{error:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never sealed: {last}\n{}", site.log());
}

#[test]
fn check_says_every_problem_and_what_is_revealed() {
    let site = Site::new("check").schema(SCHEMA).policy(POLICY).prepare();
    let before = site.pgveil(&["check"]);
    let said = text(&before);
    assert!(before.status.success(), "{said}");
    assert!(said.contains("public.people.email is not sealed yet: run `pgveil apply`"), "{said}");
    assert!(said.contains("public.people.email: deterministic: also reveals which rows have the same value"), "{said}");
    site.pgveil_ok(&["apply"]);
    let after = site.pgveil_ok(&["check"]);
    assert!(
        !after.contains("not sealed yet") && after.contains("pgveil.toml: OK: 3 tables, 4 encrypted columns, 2 roles"),
        "{after}"
    );

    site.write("policy.toml", &POLICY.replace("nick =", "nikc =").replace("varchar(320)", "varchar(99)"));
    let wrong = site.pgveil(&["check"]);
    let said = text(&wrong);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said.contains("policy.toml:8: public.people has no column nikc\n  help: did you mean `nick`?"), "{said}");
    assert!(
        said.contains("public.people.email is character varying(320) in the database, not character varying(99)"),
        "{said}"
    );
    assert!(said.contains("2 problems"), "{said}");
    let json = site.pgveil(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"].as_array().unwrap().len(), 2);
    assert_eq!(site.pgveil(&["check", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn a_renamed_column_keeps_its_id_and_its_cells() {
    let site = Site::new("rename").schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply"]);
    let id =
        site.sql("select column_id from pgveil.columns where relation = 'people'::regclass and column_name = 'email'");
    site.sql("alter table people rename email to mail");
    let lost = site.pgveil(&["check"]);
    assert!(text(&lost).contains("public.people has no column email"), "{}", text(&lost));
    let renamed = POLICY
        .replace(
            "email = { level = \"restricted\", as",
            "mail = { was = \"public.people.email\", level = \"restricted\", as",
        )
        .replace("same_as = \"public.people.email\"", "same_as = \"public.people.mail\"");
    site.write("policy.toml", &renamed);
    site.pgveil_ok(&["check"]);
    let dry = site.pgveil_ok(&["apply", "--dry-run"]);
    assert!(dry.contains("public.people.mail is recorded"), "{dry}");
    site.pgveil_ok(&["apply"]);
    assert_eq!(
        site.sql("select column_id from pgveil.columns where relation = 'people'::regclass and column_name = 'mail'"),
        id
    );
    site.write("policy.toml", &renamed.replace("was = \"public.people.email\", ", ""));
    assert!(site.pgveil_ok(&["apply"]).contains("nothing to do"), "the keyring has the new name now");
}

#[test]
fn a_superuser_gets_the_event_trigger_that_wakes_the_proxies() {
    let site = Site::new("trigger").schema(SCHEMA).policy(POLICY).prepare();
    let config = std::fs::read_to_string(site.path("pgveil.toml")).unwrap();
    let own = format!("pgveil:{PASSWORD}@");
    site.write("pgveil.toml", &config.replace(&own, &format!("postgres:{}@", cluster().password())));
    site.pgveil_ok(&["apply"]);
    assert_eq!(site.sql("select evtenabled from pg_event_trigger where evtname = 'pgveil_catalog'"), "O");
    assert!(site.pgveil_ok(&["apply"]).contains("nothing to do"));
    // It runs with everybody's DDL, so it must not fail for roles without rights on schema pgveil.
    cluster()
        .sql_as("app", PASSWORD, &site.database, "create table public.mine (a int); drop table public.mine")
        .unwrap();
}

#[test]
fn the_event_trigger_leaves_two_phase_commit_of_definitions_alone() {
    let site = Site::new("prepared").schema(SCHEMA).policy(POLICY).prepare();
    let config = std::fs::read_to_string(site.path("pgveil.toml")).unwrap();
    let own = format!("pgveil:{PASSWORD}@");
    site.write("pgveil.toml", &config.replace(&own, &format!("postgres:{}@", cluster().password())));
    let ddl = site.pgveil_ok(&["apply", "--dry-run"]);
    let trigger: String = ddl.lines().filter(|line| line.contains("notify_catalog")).collect();
    assert!(trigger.contains("create event trigger"), "{ddl}");
    let hba = "host all all 127.0.0.1/32 scram-sha-256\n";
    let cluster = Cluster::start(cluster().binaries(), "max_prepared_transactions = 2", hba).unwrap();
    for sql in [
        "create schema pgveil",
        &trigger,
        "begin; create table made (id int); prepare transaction 'p'",
        "commit prepared 'p'",
        "select id from made",
    ] {
        cluster.sql("postgres", sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
