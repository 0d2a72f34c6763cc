//! `mode = "observe"`: plaintext is what PostgreSQL says, byte for byte; what is sealed stays sealed; the log has what
//! enforcing would do, and `pgveil report observe` adds it up.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use crate::support::{CANARY, Frame, Site, Wire, cluster, frame};

/// In every value of a plaintext column above clearance.
const PLAIN: &str = "parkiet";

/// `MODE` is a line.
const POLICY: &str = r#"
version = 1
MODE
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
nick = { level = "confidential", mask = "partial:1:0" }
born = { level = "internal" }
gone = { level = "confidential", mask = "remove" }
[tables."public.visits".columns]
id = { level = "internal" }
word = { level = "confidential" }
[tables."public.waiting".columns]
id = { level = "internal" }
word = { level = "restricted", as = "varchar(20)", encrypt = "deterministic" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
[roles.analyst.rows]
"public.people" = "born > '1950-01-01'"
[roles.support]
clearance = "internal"
above = "null"
refuse = ["listen", "write"]
"#;

const SCHEMA: &str = "
create table people (id int primary key, email varchar(80) unique, nick varchar(40), born date, gone text);
create table visits (id int primary key, word text unique);
create table waiting (id int, word varchar(20));
insert into waiting values (1, 'parkiet-w');
insert into visits values (1, 'parkiet-v');
create function shout(text) returns text language sql as 'select upper($1)';
create view nicks as select id, nick from people;
grant select on nicks to analyst;
";

fn policy(mode: &str) -> String {
    POLICY.replace("MODE", mode)
}

const OBSERVE: &str = "mode = \"observe\"";

async fn site() -> Site {
    served(&policy(OBSERVE)).await
}

async fn served(policy: &str) -> Site {
    let mut site = Site::new("observe").schema(SCHEMA).policy(policy).prepare();
    let applied = site.pgveil(&["apply"]);
    assert_eq!(applied.status.code(), Some(1), "a column waits: {applied:?}");
    site.serve();
    let app = site.client("app").await;
    for (id, name, born) in [(1, "ann", "1980-02-03"), (2, "bob", "1990-04-05"), (3, "old", "1940-01-01")] {
        let insert = format!(
            "insert into people values ({id}, '{name}.{CANARY}@example.org', '{name}-{PLAIN}', '{born}', '{PLAIN}')"
        );
        app.batch_execute(&insert).await.unwrap();
    }
    site
}

/// Everything that comes back to a Query.
fn asked(wire: &mut Wire, sql: &str) -> Vec<Frame> {
    wire.send(&frame(b'Q', &[sql.as_bytes(), b"\0"].concat()));
    wire.until_ready()
}

/// Through pgveil, and past it.
fn wires(site: &Site, role: &str) -> [Wire; 2] {
    [site.port(), cluster().port()].map(|port| Wire::login(port, role, &site.database))
}

fn text(frames: &[Frame]) -> String {
    frames.iter().map(|frame| format!("{frame:?}")).collect()
}

/// The events of statements whose text begins like this, once there are so many: an event may come after the answer.
fn of(site: &Site, text: &str, count: usize) -> Vec<Value> {
    let begins = |event: &Value| event["text"].as_str().is_some_and(|found| found.starts_with(text));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut events = site.events();
        events.retain(|event| begins(event) && event["kind"] == "statement");
        if events.len() >= count {
            return events;
        }
        assert!(Instant::now() < deadline, "{count} events of {text}: {events:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_comes_as_from_postgresql_and_the_log_says_what_would_be() {
    let site = site().await;
    let [mut veiled, mut direct] = wires(&site, "analyst");
    let masked =
        |becomes: &str| serde_json::json!([{ "relation": "public.people", "column": "nick", "becomes": becomes }]);
    let filtered = serde_json::json!(["public.people"]);
    // Statement, code, and whether only until the lens is there.
    let mut before: Vec<&str> = Vec::new();
    for (sql, code, until_lens) in [
        ("select id, nick from people order by id", "PV013", true),
        ("select gone, nick from people where nick like 'ann%'", "PV013", true),
        ("select count(*) from people", "PV013", true),
        ("select nick from nicks order by 1", "PV013", false),
        ("explain (costs off) select id from people where born > '1930-01-01'", "PV018", false),
        ("select shout(word) from visits", "PV018", true),
        ("select upper(word) from visits natural join (values (1)) x(id)", "PV013", true),
        ("insert into visits values (2, 'parkiet-v')", "PV013", true),
        ("insert into visits values (1, 'parkiet-x')", "PV013", true),
        ("select word, id from waiting", "PV026", false),
        ("copy visits to stdout", "PV013", true),
        ("update people set nick = nick where id = 1 returning born", "PV013", true),
        ("select waiting, id, pg_catalog.pg_get_userbyid(10) from waiting", "PV026", false),
        ("do $$ begin perform word from public.visits; end $$", "PV014", false),
        ("do $$ begin perform 1; end $$", "PV018", true),
        ("select * from pg_stats where tablename = 'none'", "PV018", true),
    ] {
        let (through, past) = (asked(&mut veiled, sql), asked(&mut direct, sql));
        assert_eq!(text(&through), text(&past), "{sql}");
        let begin = &sql[..sql.find(['\'', '(', '$']).unwrap_or(sql.len()).min(20)];
        before.push(begin);
        let found = of(&site, begin, before.iter().filter(|other| **other == begin).count());
        let would = &found.last().unwrap()["would"];
        let ends = would["until_lens"].as_bool().unwrap_or_default();
        assert_eq!((would["refused"].as_str(), ends), (Some(code), until_lens), "{sql}: {would}");
        assert!(would["hint"].is_string(), "{would}");
    }
    let first = &of(&site, "select id, nick from people", 1)[0];
    assert_eq!((&first["would"]["columns"], &first["would"]["filtered"]), (&masked("masked"), &filtered), "{first}");
    assert_eq!(first["touches"][1]["shown"], "clear", "{first}");
    let gone = &of(&site, "select gone", 1)[0];
    let becomes: Vec<&Value> = gone["would"]["columns"].as_array().unwrap().iter().map(|c| &c["becomes"]).collect();
    assert_eq!(becomes, ["masked", "gone"], "{gone}");
    assert_eq!(of(&site, "select count(*)", 1)[0]["would"]["filtered"], filtered);
    assert_eq!(of(&site, "update people", 1)[0]["would"]["columns"], {
        let mut both = masked("masked");
        both.as_array_mut().unwrap().extend(masked("unwritable").as_array().unwrap().clone());
        both
    });
    // Errors quote the value, as PostgreSQL's do, and the log says that they would not.
    let failed = of(&site, "insert into visits", 2);
    assert!(failed.len() == 2 && failed.iter().all(|e| e["would"]["redacted"] == true), "{failed:?}");
    let said = asked(&mut veiled, "insert into visits values (3, 'parkiet-v')");
    let detail = said.iter().find(|f| f.tag == b'E').and_then(|f| f.field(b'D')).unwrap_or_default();
    assert!(detail.contains("(parkiet-v)"), "{detail}");
    // What enforcing would not change is an event without a word of it.
    assert_eq!(text(&asked(&mut veiled, "select id from visits")), text(&asked(&mut direct, "select id from visits")));
    let same = &of(&site, "select id from visits", 1)[0];
    assert!(same["observed"] == true && same["would"].is_null(), "{same}");
    // A refusal of `refuse = […]`, which no lens ends, in each message of the extended protocol.
    let support = site.client("support").await;
    let prepared = support.prepare("select id, nick from people where id = $1").await.unwrap();
    assert_eq!(support.query(&prepared, &[&2]).await.unwrap()[0].get::<_, String>(1), format!("bob-{PLAIN}"));
    support.batch_execute("listen something").await.unwrap();
    let nick = &of(&site, "select id, nick from people where", 1)[0];
    assert_eq!((&nick["would"]["columns"], nick["would"]["filtered"].is_null()), (&masked("null"), true), "{nick}");
    let listen = &of(&site, "listen", 1)[0]["would"];
    assert!(listen["refused"] == "PV018" && listen["hint"].as_str().unwrap().contains("refuse = [\"listen\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_refuses_for_itself_goes_on_too() {
    let site = site().await;
    let [mut veiled, mut direct] = wires(&site, "app");
    for sql in [
        "set search_path = public; select word from visits",
        "create temp table visits (id int)",
        "select count(*) from visits",
        "drop table pg_temp.visits",
        "begin; create table copied as select nick from people; rollback",
    ] {
        assert_eq!(text(&asked(&mut veiled, sql)), text(&asked(&mut direct, sql)), "{sql}");
    }
    for (text, code) in
        [("select word from visits", "PV022"), ("create temp table visits", "PV020"), ("create table copied", "PV031")]
    {
        assert_eq!(of(&site, text, 1)[0]["would"]["refused"], code, "{text}");
    }
    let said = text(&asked(&mut veiled, "create temp table people (id int)"));
    assert!(said.contains("PV020"), "{said}");
    // lo_creat(-1), which a role that may not see everything is refused.
    let [mut veiled, _] = wires(&site, "analyst");
    let body = [&957u32.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 2], b"-1", &[0, 0]].concat();
    veiled.send(&frame(b'F', &body));
    let answer = veiled.until_ready();
    assert!(answer.iter().any(|frame| frame.tag == b'V'), "{answer:?}");
    let call = of(&site, "(function-call message)", 1);
    assert_eq!((call.len(), &call[0]["would"]["refused"]), (1, &Value::from("PV024")));
}

/// In place of what [`POLICY`] says of support.
const PURPOSES: &str = r#"
[purposes.care]
basis = "vital"
[purposes.research]
basis = "public_task"
clearance = "internal"
[purposes.research.rows]
"public.people" = "id > 1"
[roles.support]
clearance = "restricted"
purpose = "care"
purposes = ["research"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_purpose_narrows_what_is_sealed_and_would_narrow_the_rest() {
    let policy = policy(OBSERVE);
    let (before, _) = policy.split_once("[roles.support]").unwrap();
    let site = served(&[before, PURPOSES].concat()).await;
    let support = site.client("support").await;
    let sql = "select nick, email from people where id = 1";
    let told = |rows: &[SimpleQueryMessage]| match rows.iter().find(|m| matches!(m, SimpleQueryMessage::Row(_))) {
        Some(SimpleQueryMessage::Row(row)) => [0, 1].map(|at| row.get(at).unwrap_or_default().to_owned()),
        _ => panic!("{rows:?}"),
    };
    let nick = format!("ann-{PLAIN}");
    let care = told(&support.simple_query(sql).await.unwrap());
    assert_eq!(care, [nick.clone(), format!("ann.{CANARY}@example.org")]);
    let claimed = format!("/*pgveil.purpose='research'*/ {sql}");
    let research = told(&support.simple_query(&claimed).await.unwrap());
    assert_eq!(research, [nick, format!("a{}@*******.org", "*".repeat(3 + CANARY.len()))]);
    let events = of(&site, "select nick, email", 2);
    let told = |e: &Value| (e["actor"]["purpose"].clone(), e["would"]["columns"][0]["becomes"].clone());
    assert_eq!(told(&events[0]), (Value::from("care"), Value::Null), "{}", events[0]);
    assert_eq!(told(&events[1]), (Value::from("research"), Value::from("masked")), "{}", events[1]);
    assert_eq!(events[1]["would"]["filtered"], serde_json::json!(["public.people"]));
    // A purpose that it does not have is refused where something sealed is named.
    support.batch_execute("set pgveil.purpose = 'billing'").await.unwrap();
    support.batch_execute("select word from visits").await.unwrap();
    assert_eq!(of(&site, "select word from visits", 1)[0]["would"]["refused"], "PV032");
    let refused = support.batch_execute("select id from people").await.expect_err("a false claim");
    assert!(refused.as_db_error().unwrap().message().starts_with("PV032"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_rows_holds_what_is_sealed_only() {
    let roles = "[roles.app]\nclearance = \"restricted\"\n";
    let site = served(&policy(OBSERVE).replace(roles, &format!("{roles}max_rows = 2\n"))).await;
    let [mut veiled, mut direct] = wires(&site, "app");
    let few = "select nick from people order by id limit 2";
    for sql in ["select nick from people order by id", "copy people (nick) to stdout", few] {
        assert_eq!(text(&asked(&mut veiled, sql)), text(&asked(&mut direct, sql)), "{sql}");
    }
    for text in ["select nick from people order by id", "copy people"] {
        assert_eq!(of(&site, text, 1)[0]["would"]["refused"], "PV030", "{text}");
    }
    assert!(of(&site, few.trim_end_matches('2'), 1)[0]["would"].is_null());
    for sql in ["select email from people", "copy people (email) to stdout"] {
        let said = text(&asked(&mut veiled, sql));
        assert!(said.contains("PV030"), "{sql}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_stays_sealed() {
    let mut site = site().await;
    let analyst = site.client("analyst").await;
    let email = format!("b{}@*******.org", "*".repeat(3 + CANARY.len()));
    let rows = analyst.query("select email, nick from people where id = 2", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, String>(0), email);
    assert_eq!(rows[0].get::<_, String>(1), format!("bob-{PLAIN}"));
    let error = |sql: &'static str| {
        let analyst = &analyst;
        async move { analyst.batch_execute(sql).await.expect_err(sql).as_db_error().unwrap().message().to_owned() }
    };
    for (sql, code) in [
        ("select id from people where email = 'x@example.org'", "PV012"),
        ("insert into people (id, email) values (9, 'x@example.org')", "PV012"),
        ("select upper(email) from people", "PV011"),
        ("select p from people p", "PV011"),
        ("do $$ begin perform email from public.people; end $$", "PV014"),
        ("create temp table people (id int)", "PV020"),
        ("set standard_conforming_strings = off", "PV019"),
    ] {
        assert!(error(sql).await.starts_with(code), "{sql}: {}", error(sql).await);
    }
    let app = site.client("app").await;
    let stored = format!("new.{CANARY}@example.org");
    app.execute("insert into people (id, email) values (8, $1)", &[&stored]).await.unwrap();
    let found = app.query("select id from people where email = $1", &[&stored]).await.unwrap();
    assert_eq!(found[0].get::<_, i32>(0), 8);
    assert!(!site.sql("select email::text from people").contains(CANARY));
    site.terminate();
    let events = site.events();
    let refused = events.iter().filter(|e| e["kind"] == "refused" && e["observed"] == true).count();
    assert!(refused >= 5, "{refused}");
    site.assert_no_canary();
}

/// Waits until the proxy has read the policy again.
fn reload(site: &Site, text: &str) {
    let version = site.metric("pgveil_rules_version", "");
    site.write("policy.toml", text);
    site.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(20);
    while site.metric("pgveil_rules_version", "") <= version {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_enforces_again_does_so_on_connections_that_are_open() {
    let site = site().await;
    assert_eq!(site.metric("pgveil_observing", ""), 1.0);
    let said = site.log();
    assert!(said.contains("OBSERVING, NOT ENFORCING") && said.contains("policy.toml:3"), "{said}");
    let (analyst, app) = (site.client("analyst").await, site.client("app").await);
    let made = analyst.prepare("select nick from people where id = $1").await.unwrap();
    let free = analyst.prepare("select born from people where id = $1").await.unwrap();
    let apps = app.prepare("select nick from people where id = $1").await.unwrap();
    assert_eq!(analyst.query(&made, &[&1]).await.unwrap()[0].get::<_, String>(0), format!("ann-{PLAIN}"));
    assert_eq!(analyst.query(&free, &[&1]).await.unwrap().len(), 1);
    // What was prepared before a change is noted as it is decided after it.
    app.query(&apps, &[&1]).await.unwrap();
    let roles = "[roles.app]\nclearance = \"restricted\"\n";
    assert!(POLICY.contains(roles));
    reload(&site, &policy(OBSERVE).replace(roles, &format!("{roles}refuse = [\"read\"]\n")));
    app.query(&apps, &[&1]).await.unwrap();
    let mut asked = of(&site, "select nick from people where id", 3);
    asked.retain(|event| event["actor"]["role"] == "app");
    let refused: Vec<_> = asked.iter().map(|event| event["would"]["refused"].as_str()).collect();
    assert_eq!(refused, [None, Some("PV018")]);
    reload(&site, &policy("mode = \"enforce\""));
    for statement in [&made, &free] {
        let error = analyst.query(statement, &[&1]).await.expect_err("it is enforced");
        assert!(error.as_db_error().unwrap().message().starts_with("PV013"), "{error:?}");
    }
    let again = analyst.simple_query("select nick from people").await.expect_err("it is enforced");
    assert!(again.as_db_error().unwrap().message().starts_with("PV013"));
    assert_eq!(app.query(&apps, &[&1]).await.unwrap()[0].get::<_, String>(0), format!("ann-{PLAIN}"));
    assert_eq!(site.metric("pgveil_observing", ""), 0.0);
    let asked = of(&site, "select nick from people where id", 4);
    let enforced = asked.iter().rev().find(|event| event["actor"]["role"] == "app").unwrap();
    assert!(enforced["observed"].is_null() && enforced["would"].is_null(), "{enforced}");
    // With its lens there, it gets masks; and observing does not take the lens away, for PostgreSQL holds it.
    let accepts =
        |mode: &str| policy(mode).replace("[roles.analyst]\n", "[roles.analyst]\naccept_leakage = [\"existence\"]\n");
    site.sql("drop view nicks");
    site.write("policy.toml", &accepts(""));
    let applied = site.pgveil(&["apply", "--lenses"]);
    assert!(String::from_utf8_lossy(&applied.stdout).contains("done: "), "{applied:?}");
    reload(&site, &accepts(""));
    let lensed = |rows: &[SimpleQueryMessage]| match rows.get(1).or(rows.first()) {
        Some(SimpleQueryMessage::Row(row)) => row.get(0).unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    };
    let nick = "select nick from people where id = 1";
    let deadline = Instant::now() + Duration::from_secs(20);
    let masked = format!("a{}", "*".repeat(3 + PLAIN.len()));
    loop {
        match analyst.simple_query(nick).await {
            Ok(rows) if lensed(&rows) == masked => break,
            other => assert!(Instant::now() < deadline, "{other:?}\n{}", site.log()),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    reload(&site, &accepts(OBSERVE));
    assert_eq!(lensed(&analyst.simple_query(nick).await.unwrap()), masked);
    // It is said after the policy has taken effect.
    let held = "[roles.analyst]: its lens is in the database, so PostgreSQL holds it";
    while !site.log().contains(held) {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_lists_what_would_change_by_role_and_shape() {
    let mut site = site().await;
    let empty = site.pgveil_ok(&["report", "observe", "--since", "2199-01-01T00:00:00Z"]);
    assert!(empty.starts_with("audit holds no statement that was made under mode = \"observe\" since 2199"), "{empty}");
    let (analyst, support) = (site.client("analyst").await, site.client("support").await);
    for id in 1..=3 {
        let sql = format!("select id, nick from people where id = {id} and nick <> 'parkiet'");
        analyst.simple_query(&sql).await.unwrap();
    }
    analyst.simple_query("select shout(word) from visits").await.unwrap();
    analyst.simple_query("select id from visits").await.unwrap();
    support.batch_execute("listen something").await.unwrap();
    site.terminate();
    let said = site.pgveil_ok(&["report", "observe", "--since", "P1D"]);
    assert_eq!(said, site.pgveil_ok(&["report", "observe", "--since", "P1D"]), "the same each time");
    assert!(!said.contains(PLAIN) && !said.contains(CANARY), "{said}");
    // Times and fingerprints differ.
    let plain = |line: &str| match line.split_once(", ") {
        Some((head, _)) if head.ends_with("times") || head.ends_with("once") => head.to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = said.lines().map(plain).collect();
    let head = ["analyst: 3 times", "  select id, nick from people where id = ? and nick <> ?"];
    let expected = [
        "  masked: public.people.nick",
        "  rows filtered: public.people",
        "  until the role's lens is in the database, refused: PV013 A plaintext column above the role's clearance.",
        "    way out: pgveil apply --lenses",
        "",
    ];
    assert_eq!(lines[..7], [&head[..], &expected[..]].concat(), "{said}");
    for part in [
        "analyst: once\n  select shout(word) from visits\n  null: public.visits.word\n  until the role's lens",
        "support: once\n  listen something\n  refused: PV018 This statement or function",
        "    way out: The policy says so: refuse = [\"listen\"] in [roles.support].",
        "4 of 5 statements of analyst would change\nnothing would change: 0 of 3 statements of app\n\
         1 of 1 statements of support would change\n5 of 9 statements would change",
    ] {
        assert!(lines.join("\n").contains(part), "{part}\n in\n{said}");
    }
    let json: Value = serde_json::from_str(&site.pgveil_ok(&["report", "observe", "--json"])).unwrap();
    assert_eq!((json["shapes"][0]["count"].as_u64(), json["left_out"].as_u64()), (Some(3), Some(0)));
    assert_eq!(json["shapes"][0]["refused"]["code"], "PV013", "{json}");
    assert!(json["since"].is_null() && json["totals"][0]["changed"] == 4, "{json}");
    assert_eq!(site.pgveil(&["report", "observe", "--since", "soon"]).status.code(), Some(2));
    let tail = site.pgveil_ok(&["log", "tail", "-n", "100"]);
    assert!(tail.contains("would: refused PV013 until its lens is there; masked: public.people.nick; rows"), "{tail}");
    site.pgveil_ok(&["log", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_doctor_and_explain_say_that_nothing_is_enforced() {
    let site = site().await;
    for args in [&["check"][..], &["check", "--offline"]] {
        let said = site.pgveil_ok(args);
        assert!(said.contains("warning: OBSERVING, NOT ENFORCING: mode = \"observe\" (policy.toml:3)"), "{said}");
    }
    let doctor = site.pgveil(&["doctor", "--json"]);
    let json: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let hole = json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "mode").expect("a check");
    assert!(hole["severity"] == "hole" && doctor.status.code() == Some(1), "{hole}");
    let line = "observed, not enforced: mode = \"observe\" (policy.toml:3); only what concerns sealed columns is done";
    let explain = site.pgveil(&["explain", "select nick from people", "--as", "analyst"]);
    let said = String::from_utf8_lossy(&explain.stdout);
    assert!(said.starts_with("refused: PV013") && said.lines().any(|found| found == line), "{said}");
    let analyst = site.client("analyst").await;
    let said = analyst.query("explain (privacy) select nick from people where id = $1", &[&"x"]).await.unwrap();
    let lines: Vec<&str> = said.iter().map(|row| row.get(0)).collect();
    assert!(lines[0].starts_with("refused: PV013") && lines.contains(&line), "{lines:?}");
}
