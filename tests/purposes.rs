//! Purposes: a role reaches what the purpose that it acts for lets it reach, and PostgreSQL checks which that is.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{Frame, Site, Wire, bind, connect, parse, query, run, sync};

const POLICY: &str = r#"
version = 1
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
nick = { level = "confidential", mask = "partial:1:0" }
diagnosis = { level = "restricted", encrypt = "randomized", as = "text", mask = "fixed:hidden" }
research = { level = "internal" }
[tables."public.visits".columns]
id = { level = "internal" }
person = { level = "internal" }
[purposes.care]
basis = "vital"
[purposes.research]
basis = "public_task"
clearance = "internal"
application_name = "rstudio*"
[purposes.research.rows]
"public.people" = "research"
[purposes.research.comment]
route = "/studies/*"
[purposes.billing]
basis = "contract"
[roles.app]
clearance = "restricted"
purpose = "care"
purposes = ["research"]
accept_leakage = ["existence"]
[roles.analyst]
clearance = "restricted"
purpose = "research"
accept_leakage = ["existence"]
"#;

const SCHEMA: &str = "
create table people (id int primary key, nick varchar(40), diagnosis text, research bool not null);
create table visits (id int primary key, person int references people);
create table open (id int primary key);
insert into open values (1);
";

const CARE: &str = "1|ann-parkiet|cold\n2|bob-parkiet|flu";
const RESEARCH: &str = "2|b**********|hidden";
const PEOPLE: &str = "select id, nick, diagnosis from people order by id";

fn prepared() -> Site {
    let site = Site::new("purposes").schema(SCHEMA).policy(POLICY).prepare();
    site.sql("revoke create on schema public from app");
    site.pgveil_ok(&["apply", "--lenses"]);
    site
}

async fn site() -> Site {
    let mut site = prepared();
    site.serve();
    let app = site.client("app").await;
    app.batch_execute(
        "insert into people values (1, 'ann-parkiet', 'cold', false), (2, 'bob-parkiet', 'flu', true);
         insert into visits values (10, 1), (20, 2)",
    )
    .await
    .unwrap();
    site
}

/// Rows, or SQLSTATE and message.
async fn answer(client: &Client, sql: &str) -> String {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => {
            let db = error.as_db_error().expect("the server answers");
            return format!("{}: {}", db.code().code(), db.message());
        }
    };
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("∅"));
            Some(cells.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect::<Vec<_>>().join("\n")
}

fn url(site: &Site, role: &str, database: &str, more: &str) -> String {
    let url = site.url(role);
    let (server, _) = url.rsplit_once('/').expect("a URL names its database");
    format!("{server}/{}{database}{more}", site.database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purpose_is_claimed_without_a_change_of_code() {
    let site = site().await;
    for (how, database, more, rows, by) in [
        ("nothing", "", "", CARE, "role"),
        ("the database's name", "%40research", "", RESEARCH, "database"),
        ("the database's name, in full", "%40care", "", CARE, "database"),
        ("options", "", "?options=-c%20pgveil.purpose%3Dresearch", RESEARCH, "setting"),
        ("application_name", "", "?application_name=rstudio%202026.1", RESEARCH, "application"),
        ("another application_name", "", "?application_name=psql", CARE, "role"),
        ("the database's name before application_name", "%40care", "?application_name=rstudio", CARE, "database"),
    ] {
        let client = connect(&url(&site, "app", database, more)).await.unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(answer(&client, PEOPLE).await, rows, "{how}");
        let prepared = client.query(PEOPLE, &[]).await.unwrap();
        assert_eq!(prepared.len(), rows.lines().count(), "{how}");
        let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        drop(client);
        let purpose = if rows == CARE { "care" } else { "research" };
        let events = site.events();
        let read = events.iter().rev().find(|event| event["event"] == "statement" || event["kind"] == "statement");
        let read = read.unwrap_or_else(|| panic!("{how}: no statement of {pid} in {:?}", events.last()));
        assert_eq!((&read["actor"]["purpose"], &read["actor"]["purpose_by"]), (&purpose.into(), &by.into()), "{how}");
    }
    let analyst = site.client("analyst").await;
    assert_eq!(answer(&analyst, PEOPLE).await, RESEARCH, "a role with one purpose has no choice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_only_narrows() {
    let site = site().await;
    for (role, database, more) in [
        ("app", "%40billing", ""),
        ("app", "%40", ""),
        ("app", "%40nonsense", ""),
        ("analyst", "%40care", ""),
        ("support", "%40care", ""),
    ] {
        let error = connect(&url(&site, role, database, more)).await.expect_err("it is not its purpose");
        let said = error.as_db_error().expect("the proxy answers");
        let what = (said.code().code(), said.message().contains("may not act for the purpose"));
        assert_eq!(what, ("28000", true), "{role} {database} {more}: {said}");
    }
    for claim in ["?options=--pgveil.purpose%3Dbilling", "?options=-c%20pgveil.purpose%3Dbilling"] {
        let client = connect(&url(&site, "app", "", claim)).await.unwrap();
        assert!(answer(&client, PEOPLE).await.contains("may not act for the purpose"), "{claim}");
    }
    let app = site.client("app").await;
    app.batch_execute("set pgveil.purpose = 'billing'").await.unwrap();
    let refused = answer(&app, PEOPLE).await;
    assert!(refused.contains("app may not act for the purpose \"billing\""), "{refused}");
    assert_eq!(answer(&app, "select id from open").await, "1", "what is not protected");
    app.batch_execute("reset pgveil.purpose").await.unwrap();
    assert_eq!(answer(&app, PEOPLE).await, CARE);
    let fixed = connect(&url(&site, "app", "%40research", "")).await.unwrap();
    fixed.batch_execute("set pgveil.purpose = 'care'").await.unwrap();
    let refused = answer(&fixed, PEOPLE).await;
    assert!(refused.contains("this connection acts for research"), "{refused}");
    let commented = answer(&app, "select id from people /*pgveil.purpose='billing'*/").await;
    assert!(commented.contains("app may not act"), "{commented}");
    let analyst = site.client("analyst").await;
    analyst.batch_execute("set pgveil.purpose = 'care'").await.unwrap();
    let refused = answer(&analyst, PEOPLE).await;
    assert!(refused.contains("analyst may not act for the purpose \"care\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_follows_the_transaction() {
    let site = site().await;
    let app = site.client("app").await;
    let statement = app.prepare(PEOPLE).await.unwrap();
    for (sql, rows) in [
        ("set pgveil.purpose to research", RESEARCH),
        ("set pgveil.purpose to 'care'", CARE),
        ("select set_config('pgveil.purpose', 'research', false)", RESEARCH),
        ("discard all", CARE),
        ("begin; set local pgveil.purpose = 'research'", RESEARCH),
        ("savepoint s; set local pgveil.purpose = 'care'", CARE),
        ("rollback to s", RESEARCH),
        ("rollback", CARE),
        ("begin", CARE),
        ("set pgveil.purpose = 'research'", RESEARCH),
        ("commit", RESEARCH),
        ("reset all", CARE),
    ] {
        app.simple_query(sql).await.unwrap();
        assert_eq!(answer(&app, PEOPLE).await, rows, "{sql}");
        assert_eq!(answer(&app, "show search_path").await, "\"$user\", public", "{sql}");
    }
    // What was prepared before shows what is seen now, or has to be made again; `discard all` has dropped it here.
    assert!(app.query(&statement, &[]).await.is_err());
    app.batch_execute("create function pg_temp.counted() returns int8 language sql as 'select count(*) from people'")
        .await
        .unwrap();
    let kept = app.prepare("select id from people order by id").await.unwrap();
    assert_eq!(app.query(&kept, &[]).await.unwrap().len(), 2);
    app.batch_execute("set pgveil.purpose = 'research'").await.unwrap();
    assert_eq!(app.query(&kept, &[]).await.unwrap().len(), 1);
    assert_eq!(answer(&app, "show pgveil.purpose").await, "research");
    // An old snapshot shows the purpose of before: an error, not an empty table.
    app.batch_execute("reset pgveil.purpose").await.unwrap();
    app.batch_execute("begin isolation level repeatable read").await.unwrap();
    assert_eq!(answer(&app, "select count(*) from people").await, "2");
    app.batch_execute("set local pgveil.purpose = 'research'").await.unwrap();
    let said = answer(&app, "select count(*) from people").await;
    assert!(said.starts_with("42501: "), "{said}");
    app.batch_execute("rollback").await.unwrap();
    assert_eq!(answer(&app, "select count(*) from people").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_claims_a_purpose_in_its_comment() {
    let site = site().await;
    let app = site.client("app").await;
    let studies = format!("{PEOPLE} /*controller='s',route='%2Fstudies%2F7'*/");
    for _ in 0..2 {
        assert_eq!(answer(&app, &studies).await, RESEARCH);
        assert_eq!(answer(&app, PEOPLE).await, CARE);
        assert_eq!(answer(&app, &format!("/*pgveil.purpose='research'*/ {PEOPLE}")).await, RESEARCH);
        assert_eq!(answer(&app, &format!("{PEOPLE} /*route='%2Fpatients'*/")).await, CARE);
    }
    let (one, other) = (app.prepare(&studies).await.unwrap(), app.prepare(PEOPLE).await.unwrap());
    for _ in 0..2 {
        assert_eq!(app.query(&one, &[]).await.unwrap().len(), 1);
        assert_eq!(app.query(&other, &[]).await.unwrap().len(), 2);
    }
    // What says nothing keeps the purpose of its transaction.
    app.batch_execute("begin").await.unwrap();
    app.batch_execute("declare c cursor for select id from people /*route='/studies/7'*/").await.unwrap();
    assert_eq!(answer(&app, "fetch all from c").await, "2");
    app.batch_execute("commit").await.unwrap();
    assert_eq!(answer(&app, PEOPLE).await, CARE);
    // … and no other transaction's, however that one ends.
    let claimed = "select count(*) from people /*pgveil.purpose='research'*/";
    for (end, last) in [("commit and chain", "commit"), ("rollback; begin isolation level repeatable read", "rollback")]
    {
        app.batch_execute("begin").await.unwrap();
        assert_eq!(answer(&app, claimed).await, "1");
        app.batch_execute("savepoint s; release s").await.unwrap();
        assert_eq!(answer(&app, "select count(*) from people").await, "1", "{end}");
        app.batch_execute(end).await.unwrap();
        assert_eq!(answer(&app, "select count(*) from people").await, "2", "{end}");
        app.batch_execute(last).await.unwrap();
    }
    // A claim in a failed block is none.
    app.batch_execute("begin").await.unwrap();
    assert!(answer(&app, "select 1/0").await.starts_with("22012"));
    assert!(answer(&app, claimed).await.starts_with("25P02"));
    app.batch_execute("rollback").await.unwrap();
    assert_eq!(answer(&app, claimed).await, "1");
    assert_eq!(answer(&app, "select count(*) from people").await, "2");
}

/// The first cells of every row that comes back until so many ReadyForQuery, and SQLSTATEs.
fn said(wire: &mut Wire, message: &[u8], readies: usize) -> String {
    wire.send(message);
    let frames: Vec<Frame> = (0..readies).flat_map(|_| wire.until_ready()).collect();
    let cell = |frame: &Frame| match frame.tag {
        b'D' => Some(String::from_utf8_lossy(&frame.body[6..]).into_owned()),
        b'E' => frame.field(b'C'),
        _ => None,
    };
    frames.iter().filter_map(cell).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_has_one_purpose_and_its_neighbours_have_their_own() {
    let site = site().await;
    tokio::task::block_in_place(|| {
        let mut wire = Wire::login(site.port(), "app", &site.database);
        let (plain, research) =
            ("select count(*) from people", "select count(*) from people /*pgveil.purpose='research'*/");
        let run = |sql: &str| [parse(b"", sql.as_bytes()), bind(b"", b"", &[]), run(b"")].concat();
        let batches = |texts: &[&str]| texts.iter().map(|sql| [run(sql), sync()].concat()).collect::<Vec<_>>().concat();
        for _ in 0..5 {
            let queries = [query(research), query(plain), query(research), query(plain)].concat();
            assert_eq!(said(&mut wire, &queries, 4), "1 2 1 2");
            assert_eq!(said(&mut wire, &batches(&[plain, research, research, plain]), 4), "2 1 1 2");
        }
        let care = "select count(*) from people /*pgveil.purpose='care'*/";
        for (texts, answers) in [
            (&["begin", care][..], "2"),
            (&["commit", research], "55000"),
            (&[research, plain], "1 1"),
            (&[plain, research], "2 55000"),
            (&["set application_name = 'rstudio'", plain], "55000"),
        ] {
            let one = [texts.iter().map(|sql| run(sql)).collect::<Vec<_>>().concat(), sync()].concat();
            assert_eq!(said(&mut wire, &one, 1), answers, "{texts:?}");
        }
        assert_eq!(said(&mut wire, &query("rollback; reset application_name"), 1), "");
        assert_eq!(said(&mut wire, &query(plain), 1), "2");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_default_for_the_setting_counts() {
    let site = site().await;
    site.sql(&format!("alter role app in database {} set pgveil.purpose = 'research'", site.database));
    let app = site.client("app").await;
    assert_eq!(answer(&app, PEOPLE).await, RESEARCH);
    for sql in ["set pgveil.purpose = 'care'", "reset pgveil.purpose", "discard all"] {
        app.batch_execute(sql).await.unwrap();
        assert_eq!(answer(&app, PEOPLE).await, if sql.starts_with("set") { CARE } else { RESEARCH }, "{sql}");
    }
    site.sql(&format!("alter role app in database {} reset pgveil.purpose", site.database));
    // While the catalog is read and a purpose is written down, both are waited for, each once.
    let app = site.client("app").await;
    app.batch_execute("begin; set local pgveil.purpose = 'research'").await.unwrap();
    app.batch_execute("alter role app set geqo = on").await.unwrap();
    app.batch_execute("commit").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let count = tokio::time::timeout(std::time::Duration::from_secs(20), answer(&app, "select count(*) from people"));
    assert_eq!(count.await.expect("an answer"), "2");
    site.sql("alter role app reset geqo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_name_of_a_database_is_no_other_purpose() {
    let site = site().await;
    let long = format!("%40{}", "r".repeat(70));
    let error = connect(&url(&site, "app", &long, "")).await.expect_err("there is no such purpose");
    assert!(error.as_db_error().expect("the proxy answers").message().contains(&"r".repeat(63)));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_itself_checks_the_purpose() {
    let site = site().await;
    let lens = "pgveil_lens_app_care_public.people";
    let other = "pgveil_lens_app_research_public.people";
    let direct = site.direct("app").await;
    for sql in [
        "select * from people",
        &format!("select * from {lens}"),
        "set pgveil.purpose = 'care'; select nick from people",
    ] {
        let said = answer(&direct, sql).await;
        assert!(said.is_empty() || said.starts_with("42501"), "past the proxy, {sql}: {said}");
    }
    assert!(
        answer(&direct, "insert into pgveil.acting values (pg_backend_pid(), now(), 'care')")
            .await
            .starts_with("42501")
    );
    assert!(answer(&direct, "select pgveil.acts_for('care')").await.starts_with('f'));
    let researcher = connect(&url(&site, "app", "%40research", "")).await.unwrap();
    assert_eq!(answer(&researcher, PEOPLE).await, RESEARCH);
    for sql in [
        format!("select nick from {lens}"),
        format!("do $$ begin if (select count(*) from {lens}) > 0 then raise exception 'seen'; end if; end $$"),
        format!("select query_to_xml('select nick from {lens}', true, true, '')"),
        format!("with x as (update {lens} set nick = nick returning nick) select * from x"),
        format!("copy (select nick from {lens}) to stdout"),
        format!("select (select nick from {lens} limit 1), (select count(*) from {other})"),
    ] {
        let said = answer(&researcher, &sql).await;
        assert!(!said.contains("parkiet") && !said.contains("seen"), "{sql}: {said}");
        assert!(said.starts_with("42501") || said.starts_with("0A000"), "{sql}: {said}");
    }
    // Writes go by the purpose too.
    assert_eq!(answer(&researcher, "update people set research = true returning id").await, "2");
    let care = site.client("app").await;
    assert_eq!(answer(&care, "update people set nick = nick || '!' where id = 1 returning nick").await, "ann-parkiet!");
    let refused = answer(&researcher, "insert into people (id, research) values (3, false)").await;
    assert!(refused.starts_with("44000"), "the row would not be the purpose's: {refused}");
    assert_eq!(answer(&researcher, "insert into people (id, research) values (3, true) returning id").await, "3");
    assert_eq!(
        answer(&care, "select v.id, p.id from visits v join people p on p.id = v.person order by 1").await,
        "10|1\n20|2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_doctor_know_purposes() {
    let site = site().await;
    let explain = |more: &[&str]| {
        let output = site.pgveil(&[&["explain", "select nick from people", "--as", "app"], more].concat());
        let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        (output.status.code(), said)
    };
    let (code, said) = explain(&["--purpose", "research"]);
    assert_eq!(code, Some(0), "{said}");
    for line in [", for research, clearance internal", "nick: read, masked", "only where research"] {
        assert!(said.contains(line), "{line} in {said}");
    }
    let (_, said) = explain(&[]);
    assert!(said.contains(", for care, clearance restricted") && said.contains("nick: read, clear"), "{said}");
    let (code, said) = explain(&["--purpose", "billing"]);
    assert!(code == Some(1) && said.contains("the policy gives it: care, research"), "{said}");
    let app = connect(&url(&site, "app", "%40research", "")).await.unwrap();
    assert!(answer(&app, "explain (privacy) select nick from people").await.contains(", for research, "));
    let doctor = site.pgveil(&["doctor", "--json", "--role", &format!("app={}", site.direct_url("app"))]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("its lens for care answers with 0 rows"), "{said}");
    assert!(!said.contains("\"hole\"") || !said.contains("answers past the proxy"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_purpose_is_asked_for_once_in_a_statement() {
    let site = site().await;
    site.sql("insert into people select n, 'n', null, true from generate_series(100, 5000) n; analyze people");
    let plan = site.sql(
        "set role app; explain (costs off) select nick from pgveil_lens_app_care_public.people where id > 7 and nick = 'x'",
    );
    assert!(plan.contains("InitPlan") && plan.contains("One-Time Filter"), "{plan}");
    let app = site.client("app").await;
    assert_eq!(answer(&app, "select count(*) from people").await, "4903");
    assert_eq!(answer(&app, "select count(*) from people p join visits v on v.person = p.id").await, "2");
    let inserted =
        app.execute("insert into people (id, research) select n, true from generate_series(9000, 9999) n", &[]);
    assert_eq!(inserted.await.unwrap(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn lenses_by_purpose_come_and_go_whole() {
    let mut site = prepared();
    let before = |site: &Site| {
        site.sql("select relname, relacl from pg_class where relname in ('people', 'visits') order by 1, relacl::text")
    };
    let applied = before(&site);
    assert!(site.pgveil_ok(&["apply", "--lenses"]).contains("nothing to do"));
    // A role that loses its choice, and gets it back, has its rights all the way.
    let single = POLICY.replace("purposes = [\"research\"]", "");
    site.write("policy.toml", &single);
    site.pgveil_ok(&["apply", "--lenses"]);
    site.write("policy.toml", POLICY);
    site.pgveil_ok(&["apply", "--lenses"]);
    assert_eq!(before(&site), applied);
    site.serve();
    let app = site.client("app").await;
    app.batch_execute("insert into people values (1, 'ann', 'cold', true)").await.unwrap();
    assert_eq!(answer(&app, "update people set nick = 'anna' returning id").await, "1");
    // A policy without purposes: the session loses the choice, and what PostgreSQL has until `apply`.
    drop(app);
    site.pgveil_ok(&["apply", "--remove"]);
    let left = site.sql(
        "select count(*) from pg_class where relname = 'acting' union all select count(*) from pg_proc where proname = 'acts_for'",
    );
    assert_eq!(left.trim(), "0\n0");
}
