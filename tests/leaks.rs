//! What a role that may not see everything, and a role that may, try in vain: found by attack, kept as tests.

use tokio_postgres::SimpleQueryMessage;

use crate::support::{CANARY, Frame, Site, Wire, frame, server_log};

const SCHEMA: &str = "
create table people (id int primary key, email varchar(100) unique, name text, note text, nick text, born date);
create table other (id int, v text);
insert into other values (1, 'v');
create schema own;
grant usage, create on schema own to analyst;
create table own.people (id int, note text);
insert into own.people values (1, 'mine');
grant select on own.people to analyst, app;
create function peek(other) returns text language sql as 'select note from public.people limit 1';
create function spy(int, int) returns text language sql as 'select note from public.people limit 1';
create operator ### (leftarg = int, rightarg = int, function = spy);
create function everybody() returns setof people language sql as 'select * from public.people';
";

const POLICY: &str = r#"
version = 1
copies = "allow"
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
email = { level = "restricted", encrypt = "deterministic", as = "varchar(100)", mask = "email" }
name = { level = "restricted", encrypt = "randomized", as = "text", mask = "name" }
born = { level = "restricted", encrypt = "randomized", as = "date", mask = "null" }
note = { level = "confidential" }
nick = { level = "internal" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
"#;

async fn site() -> Site {
    let site = Site::new("leaks").schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    let row = format!("insert into people values (1, '{CANARY}@example.org', '{CANARY}', 'hidden-note', 'n')");
    app.batch_execute(&row).await.unwrap();
    site
}

/// Rows and errors of one simple query, as text.
async fn answer(client: &tokio_postgres::Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => messages
            .iter()
            .map(|message| match message {
                SimpleQueryMessage::Row(row) => (0..row.len()).map(|i| row.get(i).unwrap_or("∅")).collect::<String>(),
                _ => String::new(),
            })
            .collect(),
        Err(error) => error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string),
    }
}

fn text(frames: &[Frame]) -> String {
    frames.iter().map(|frame| String::from_utf8_lossy(&frame.body).into_owned()).collect()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Bind of that statement to the unnamed portal, and Execute.
fn run(name: &str) -> Vec<u8> {
    let bind = [b"\0", name.as_bytes(), &[0; 7]].concat();
    [frame(b'B', &bind), frame(b'E', &[0; 5])].concat()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_column_is_not_reached_by_other_peoples_code() {
    let site = site().await;
    let analyst = site.client("analyst").await;
    for sql in [
        "select o.peek from other o",
        "select (o).peek from other o",
        "select x.peek from json_populate_record(null::other, '{}') x",
        "select (json_populate_record(null::other, '{}')).peek",
        "select ((select o from other o limit 1)).\"peek\"",
        "update other set v = v returning other.peek",
        "select 1 ### 2",
        "select peek(o) from other o",
        "select everybody()",
    ] {
        let said = answer(&analyst, sql).await;
        assert!(said.contains("PV018"), "{sql}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_column_is_not_reached_by_moving_the_search_path() {
    let site = site().await;
    let hidden = "hidden-note";
    // The text is resolved anew by the server once the path has changed.
    let analyst = site.client("analyst").await;
    for sql in ["set search_path = own, public", "prepare p as select note from people", "set search_path = public"] {
        answer(&analyst, sql).await;
    }
    let said = answer(&analyst, "execute p").await;
    assert!(!said.contains(hidden), "{said}");
    for sql in [
        "select set_config('search' || '_path', 'public', false); select note from people",
        "begin; set local search_path = own; commit; select note from people",
    ] {
        answer(&analyst, "set search_path = own").await;
        let said = answer(&analyst, sql).await;
        assert!(!said.contains(hidden), "{sql}: {said}");
    }
    // What is written schema in front is certain.
    assert_eq!(answer(&analyst, "select note from own.people").await, "mine");
    let moved = [query("set search_path = public"), query("select note from people")].concat();
    let piped =
        [parse("", "set search_path = public"), run(""), parse("", "select note from people"), run("")].concat();
    for (bytes, readies) in [(moved, 2), ([piped, frame(b'S', b"")].concat(), 1)] {
        let mut wire = Wire::login(site.port(), "analyst", &site.database);
        wire.send(&query("set search_path = own"));
        wire.until_ready();
        wire.send(&bytes);
        let said: String = (0..readies).map(|_| text(&wire.until_ready())).collect();
        assert!(!said.contains(hidden) && said.contains("PV0"), "{said}");
    }
    let mut wire = Wire::login(site.port(), "analyst", &site.database);
    wire.send(&[query("set search_path = own"), parse("s", "select note from people"), frame(b'S', b"")].concat());
    wire.until_ready();
    wire.until_ready();
    wire.send(&query("set search_path = public"));
    wire.until_ready();
    wire.send(&[run("s"), frame(b'S', b"")].concat());
    let said = text(&wire.until_ready());
    assert!(!said.contains(hidden), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_search_path_never_sends_a_value_in_clear() {
    let site = site().await;
    let insert = format!("insert into people(id, email) values (2, '{CANARY}-piped')");
    let mut wire = Wire::login(site.port(), "app", &site.database);
    wire.send(&query("set search_path = own"));
    wire.until_ready();
    // Held until the path is known: sealed.
    wire.send(&[query("set search_path = public"), query(&insert)].concat());
    wire.until_ready();
    assert!(wire.until_ready().iter().all(|frame| frame.tag != b'E'));
    // In one pipeline it cannot be known: refused.
    wire.send(&query("set search_path = own"));
    wire.until_ready();
    let moved =
        [parse("", "set search_path = public"), run(""), parse("", &insert), run(""), frame(b'S', b"")].concat();
    wire.send(&moved);
    let said = text(&wire.until_ready());
    assert!(said.contains("PV022"), "{said}");
    assert!(!server_log(&site.database).contains(CANARY));
}

/// Each of them leaves `public` in front, where `people` has sealed columns; pgveil last saw `own`.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_path_moved_by_any_statement_is_seen() {
    const MOVE: &str = "select set_config('search_path', 'public', false)";
    let site = site().await;
    site.sql(
        "create table public.by_default (v text default set_config('search_path', 'public', false), n int);
         create view public.by_view as select set_config('search_path', 'public', false) as v;
         create table public.by_trigger (n int);
         create function public.move() returns trigger language plpgsql as
           $$ begin perform set_config('search_path', 'public', false); return new; end $$;
         create trigger t before insert on public.by_trigger for each row execute function public.move();
         grant all on public.by_default, public.by_view, public.by_trigger to app",
    );
    site.client("app").await.batch_execute("select 1 from public.by_view").await.unwrap();
    let insert = format!("insert into people(id, email) values (3, '{CANARY}-moved')");
    for (before, moves) in [
        ("", "update pg_settings set setting = 'public' where name = 'search_path'".to_owned()),
        ("", format!("create temp table ctas as {MOVE}")),
        ("", "select set_config('search_path', 'public', false) into temp taken".to_owned()),
        ("", format!("explain analyze {MOVE}")),
        ("", format!("copy ({MOVE}) to stdout")),
        (&*format!("declare c cursor with hold for {MOVE}"), "fetch c".to_owned()),
        (&*format!("declare m cursor with hold for {MOVE} from generate_series(1, 9)"), "move 1 in m".to_owned()),
        (&*format!("prepare p as {MOVE}"), "execute p".to_owned()),
        ("", "insert into public.by_default(n) values (1)".to_owned()),
        ("", "select * from public.by_view".to_owned()),
        ("", "insert into public.by_trigger(n) values (1)".to_owned()),
    ] {
        let mut wire = Wire::login(site.port(), "app", &site.database);
        wire.send(&query("set search_path = own"));
        wire.until_ready();
        wire.send(&query(before));
        wire.until_ready();
        wire.send(&[query(&moves), query(&insert), query("delete from public.people where id = 3")].concat());
        let said = [text(&wire.until_ready()), text(&wire.until_ready()), text(&wire.until_ready())].concat();
        assert!(!said.contains("PV0") && said.contains("DELETE 1"), "{moves}: {said}");
        wire.send(&query("set search_path = own"));
        wire.until_ready();
        let bound = [frame(b'B', b"\0p\0\0\0\0\0\0\0"), frame(b'E', b"\0\0\0\0\0")].concat();
        let pipelined = if moves == "execute p" { bound } else { [parse("", &moves), run("")].concat() };
        wire.send(&[pipelined, parse("", &insert), run(""), frame(b'S', b"")].concat());
        let said = text(&wire.until_ready());
        assert!(said.contains("PV022") || said.contains("already exists"), "{moves}: {said}");
    }
    assert!(!server_log(&site.database).contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_pgveil_does_not_know_yet_are_not_searched() {
    let site = site().await;
    let app = site.client("app").await;
    for sql in [
        "create temp table t as select id, email from people",
        "select email into temp t from people",
        "create temp view t as select email from people",
        "create temp table t (like people)",
        "create temp table t () inherits (people)",
        "select * from everybody() where email = 'x'",
        "select (everybody()).email",
    ] {
        let said = answer(&app, sql).await;
        assert!(said.contains("PV0"), "{sql}: {said}");
    }
    let search = format!("select id from copied where email = '{CANARY}@example.org'");
    for made in ["create table copied as select id, email from people", "create table copied (like people)"] {
        let said = answer(&app, &format!("{made}; {search}")).await;
        assert!(said.contains("PV022"), "{made}: {said}");
        app.batch_execute(&format!("begin; {made}")).await.unwrap();
        let said = answer(&app, &search).await;
        assert!(said.contains("PV022"), "{made}: {said}");
        app.batch_execute("rollback").await.unwrap();
    }
    app.batch_execute("create table copied as select id, email from people").await.unwrap();
    let said = answer(&app, &search).await;
    assert!(said.contains("PV011"), "{said}");
    assert!(!server_log(&site.database).contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_is_never_read_in_a_style_that_is_changing() {
    let site = site().await;
    let mut wire = Wire::login(site.port(), "app", &site.database);
    let insert = |id: u32| format!("insert into people(id, born) values ({id}, '02/03/1990')");
    let dmy = "set datestyle = 'ISO, DMY'";
    // Held until the style is known.
    wire.send(&[query(dmy), query(&insert(2)), query("reset datestyle")].concat());
    (0..3).for_each(|_| drop(wire.until_ready()));
    wire.send(&query("begin; set local datestyle = 'ISO, DMY'"));
    wire.until_ready();
    wire.send(&[query("commit"), query(&insert(3))].concat());
    (0..2).for_each(|_| drop(wire.until_ready()));
    let app = site.client("app").await;
    let born = answer(&app, "select born from people where id in (2, 3) order by id").await;
    assert_eq!(born, "1990-03-021990-02-03");
    // A savepoint takes no setting back; going back to it may.
    for (moves, id, refused) in [("savepoint s", 6, false), ("rollback to s", 7, true)] {
        wire.send(&query("begin; set local datestyle = 'ISO, DMY'; savepoint s"));
        wire.until_ready();
        wire.send(&[parse("", moves), run(""), parse("", &insert(id)), run(""), frame(b'S', b"")].concat());
        let said = text(&wire.until_ready());
        assert_eq!(said.contains("PV022"), refused, "{moves}: {said}");
        wire.send(&query("commit"));
        wire.until_ready();
    }
    assert_eq!(answer(&app, "select born from people where id in (6, 7)").await, "1990-03-02");
    // It cannot be known: refused.
    let piped = [parse("", dmy), run(""), parse("", &insert(4)), run(""), frame(b'S', b"")].concat();
    for bytes in [query(&format!("{dmy}; {}", insert(5))), piped] {
        wire.send(&bytes);
        let said = text(&wire.until_ready());
        assert!(said.contains("PV022"), "{said}");
    }
    // What holds no dates is not held up.
    assert_eq!(answer(&app, "set timezone = 'UTC'; select nick from people where id = 1").await, "n");
}
