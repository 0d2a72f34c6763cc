//! Users' code that a statement runs without naming it: for a role that may not see everything it is refused, by the
//! catalog. Every attack is first shown to work past the proxy.

use std::time::{Duration, Instant};

use crate::support::{Frame, PASSWORD, Site, Wire, cluster, frame};

/// What the code below shows, and the analyst may not see.
const HIDDEN: &str = "hidden-note";

const TABLES: &str = "
create table people (id int primary key, email varchar(100), note text, nick text);
create table other (id int, v text);
insert into other values (1, 'v');
create table plain (id int primary key, v text, changed timestamptz);
create view v_plain as select v from other;
";

const POLICY: &str = r#"
version = 1
[levels.confidential]
encryption_required = false
[tables."public.people".columns]
id = { level = "internal" }
email = { level = "restricted", encrypt = "deterministic", mask = "email" }
note = { level = "confidential" }
nick = { level = "internal" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
"#;

/// `SEC` becomes nothing or SECURITY DEFINER. The code reads the note as its owner or as whoever calls.
const CODE: &str = "
insert into people (id, note, nick) values (1, 'hidden-note', 'n');
create function leak() returns text language sql SEC as 'select note from public.people limit 1';
create function leak_id(int) returns text language plpgsql immutable SEC as 'begin return leak(); end';
create function leaks(text) returns bool language plpgsql SEC as 'begin raise notice ''%'', leak(); return true; end';
create function fresh(int) returns int language plpgsql immutable SEC
  as 'begin raise notice ''%'', leak(); return $1; end';
create function fill() returns trigger language plpgsql SEC as 'begin new.v := leak(); return new; end';
create function tell() returns trigger language plpgsql SEC as 'begin raise notice ''%'', leak(); return old; end';
create function pick(text, text) returns text language sql SEC as 'select public.leak()';
create type mood as enum ('calm');
create function mood_text(mood) returns text language sql SEC as 'select public.leak()';
create cast (mood as text) with function mood_text(mood);
create type size as enum ('big');
create function size_jsonb(size) returns jsonb language sql SEC as 'select to_jsonb(public.leak())';
create cast (size as jsonb) with function size_jsonb(size) as implicit;
create type kind as enum ('odd');
create function kind_text(kind) returns text language sql SEC as 'select public.leak()';
create cast (kind as text) with function kind_text(kind) as assignment;
create table moods (m mood, s size, k kind);
insert into moods values ('calm', 'big', 'odd');
create domain word as text check (leaks(value));
create table words (w word);
create type phrase as (w word);
create table pairs_of (p phrase);
create type pair as (a int, b int);
create function pair_cmp(pair, pair) returns int language plpgsql immutable SEC
  as 'begin raise notice ''%'', leak(); return 0; end';
create function pair_lt(pair, pair) returns bool language plpgsql immutable as 'begin return false; end';
create operator <## (leftarg = pair, rightarg = pair, function = pair_lt);
create operator <=## (leftarg = pair, rightarg = pair, function = pair_lt);
create operator =## (leftarg = pair, rightarg = pair, function = pair_lt);
create operator >=## (leftarg = pair, rightarg = pair, function = pair_lt);
create operator >## (leftarg = pair, rightarg = pair, function = pair_lt);
create operator class pair_ops default for type pair using btree as operator 1 <##, operator 2 <=##,
  operator 3 =##, operator 4 >=##, operator 5 >##, function 1 pair_cmp(pair, pair);
create table pairs (p pair);
insert into pairs values ((1, 2)), ((2, 3));
create table defaults (id int, v text default leak());
create table generated (id int, v text generated always as (leak_id(id)) stored);
create table checked (id int, v text check (leaks(v)));
create table filled (id int primary key, v text);
create trigger f before insert or update on filled for each row execute function fill();
insert into filled values (7, '');
create view over_filled as select id, v from filled;
create table ruled (id int);
create rule r as on insert to ruled do also select leak();
create table ruled_bare (id int);
create rule r as on insert to ruled_bare do also select note from people;
create table ruled_row (id int);
create rule r as on insert to ruled_row do also select p from people p;
create view v1 as select leak() as v;
create view v2 as select * from v1;
create materialized view m1 as select leak() as v;
create operator ### (leftarg = text, rightarg = text, function = pick);
create view v_operator as select v ### 'x' as v from other;
create aggregate last_of (text) (sfunc = pick, stype = text);
create view v_aggregate as select last_of(v) as v from other;
create view v_xml as select query_to_xml('select note from people', true, true, '') as x;
create view v_case as select case when leaks('x') then 1 end as one;
create table policed (id int, v text);
insert into policed values (1, 'x');
alter table policed enable row level security;
create policy p on policed using (leaks(v));
create view v_policed as select * from v_plain where exists (select from policed);
grant select on v_policed to public;
alter view v_policed owner to analyst;
create table indexed (id int);
create index on indexed (fresh(id));
create table partial (id int);
create index on partial (id) where fresh(id) > 0;
create table planned (id int);
create index on planned (id) where fresh(1) > 0;
create table parent (id int primary key);
create table child (id int references parent on delete cascade);
create trigger t after delete on child for each row execute function tell();
insert into parent values (1), (2), (3);
insert into child values (1), (2), (3);
create table parted (id int, v text) partition by range (id);
create table parted_1 partition of parted for values from (1) to (9);
create trigger f before insert on parted_1 for each row execute function fill();
create view instead as select 1 as id;
create trigger i instead of insert on instead for each row execute function tell();
create table emptied (id int);
create trigger e before truncate on emptied for each statement execute function tell();
create table rowed (id int, v text);
create function row_fits(rowed) returns bool language plpgsql immutable SEC as 'begin return leaks(''x''); end';
alter table rowed add check (row_fits(rowed));
create schema shy;
create view shy.view_of as select leak() as v;
grant usage on schema shy to public;
grant select on shy.view_of to public;
create table keyed (id int) partition by range (fresh(id));
create table keyed_1 partition of keyed for values from (1) to (9);
grant all on all tables in schema public to app, analyst;
grant create on schema public to analyst;
";

/// What shows the note to an analyst who is not stopped.
const ATTACKS: &[&str] = &[
    "select m::text from moods",
    "select cast(m as text) from moods",
    "select 'calm'::mood::text",
    "select mood 'calm'::text",
    "select ('{calm}'::_mood)[1]::text",
    "select jsonb_pretty(s) from moods",
    "insert into other select 2, k from moods returning v",
    "with w as (insert into other select 3, k from moods returning v) select * from w",
    "update other set v = k from moods returning other.v",
    "select 'x'::word",
    "select 'x'::\"word\"",
    "select U&'x'::U&\"w\\006frd\"",
    "select word('x')",
    "select word 'x'",
    "select ('x'::text).word",
    "select v.word from unnest(array['x'::text]) v",
    "select array['x']::word[]",
    "select * from json_to_record('{\"a\":\"x\"}') as t(a word)",
    "select json_populate_record(null::words, '{\"w\":\"x\"}')",
    "select jsonb_populate_record(null::pairs_of, '{\"p\":{\"w\":\"x\"}}')",
    "select row('x')::phrase",
    "select * from xmltable('/a' passing xml '<a>x</a>' columns v word path '.')",
    "insert into words values ('x')",
    "select domain_in('x'::cstring, 'word'::regtype::oid, -1)",
    "select array_in('{x}'::cstring, 'word'::regtype::oid, -1)",
    "select record_in('(x)'::cstring, to_regtype('phrase')::oid, -1)",
    "select * from pairs order by p",
    "select p from pairs group by p",
    "select min(p::text) from (select distinct p from pairs) s",
    "insert into defaults values (1) returning v",
    "insert into defaults (id) select 1 returning *",
    "with w as (insert into defaults values (1) returning v) select v from w",
    "explain (analyze, verbose) insert into checked values (1, 'x')",
    "insert into generated values (1) returning v",
    "insert into checked values (1, 'x')",
    "insert into filled values (1, 'mine') returning v",
    "insert into filled values (7, 'mine') on conflict (id) do update set v = 'x' returning v",
    "update filled set v = 'x' returning v",
    "insert into over_filled values (2, 'mine') returning v",
    "merge into filled f using (values (9)) s(id) on f.id = s.id when not matched then insert values (9, 'x'); \
     select v from filled where id = 9",
    "insert into ruled values (1)",
    "insert into ruled_bare values (1)",
    "insert into ruled_row values (1)",
    "select ('select to_tsvector(''simple'', note) from people'::text).ts_stat",
    "select q.ts_stat from unnest(array['select to_tsvector(''simple'', note) from people']) q",
    "select * from v1",
    "select v from v2",
    "table v2",
    "select (select v from v2)",
    "select 1 where exists (with w as (select v from v2) select from w where v::int = 1)",
    "select v2::text from v2",
    "select v from m1",
    "select v from v_operator",
    "select v from v_aggregate",
    "select x from v_xml",
    "select one from v_case",
    "copy (select * from v2) to stdout",
    "begin; declare c cursor for select * from v2; fetch all from c; commit",
    "prepare p as select * from v2; execute p",
    "create table mine as select v from v2; select * from mine",
    "select v into mine from v2; select * from mine",
    "create table mine (like defaults including all); insert into mine (id) values (1) returning v",
    "create table mine (v word); insert into mine values ('x')",
    "create table mine (v text default leak()); insert into mine default values returning v",
    "create table mine (v text); insert into mine values ('x'); alter table mine alter v type word",
    "create table mine (v text); alter table mine add check (leaks(v)); insert into mine values ('x')",
    "create table mine (m mood); insert into mine values ('calm'); alter table mine alter m type text using m::text; \
     select * from mine",
    "create table mine (id int); create index on mine (fresh(id)); insert into mine values (1)",
    "select * from policed",
    "select v from v_policed",
    "insert into indexed values (1)",
    "insert into partial values (1)",
    "select * from planned where id = 1",
    "delete from parent where id = 1",
    "insert into parted values (1, 'x') returning v",
    "insert into parted_1 values (1, 'x') returning v",
    "insert into keyed values (1)",
    "insert into instead values (1)",
    "truncate emptied",
    "insert into rowed values (1, 'x')",
    "select v from shy.view_of",
    "set search_path = shy; select v from view_of",
    "select set_config('search_path', 'shy', true); select v from view_of",
    "select * from rows from (json_to_record('{\"a\":\"x\"}') as (a word)) t",
    "select xmlserialize(content '<a/>' as word)",
    "with recursive r as (select v from v1 union select v from r) select * from r",
    "create function mine() returns text language sql as 'select note from public.people'; select mine()",
    "create view mine as select leak() as v; select * from mine",
    "create domain mine as text check (leaks(value)); select 'x'::mine",
    "create table mine (v text); create trigger t before insert on mine for each row execute function fill(); \
     insert into mine values ('x') returning v",
    "do 'begin raise notice ''%'', leak(); end'",
];

/// What an analyst does all day.
const HARMLESS: &[&str] = &[
    "select id, nick from people",
    "select id, v from other",
    "select * from v_plain",
    "select id from filled where v is not null for update",
    "select count(*) from checked",
    "insert into other values (5, 'mine') returning v",
    "create temp table mine as select id, nick from people; select * from mine; drop table mine",
    "select now()::date, 'a'::varchar(3), array_agg(id) from other group by v order by 1",
    "copy (select id, nick from people) to stdout",
];

async fn site(security: &str, policy: &str) -> Site {
    let site = Site::new("users_code").schema(TABLES).policy(policy).start();
    site.sql(&CODE.replace("SEC", security));
    settle(&site);
    site
}

/// Waits until the proxy has seen the catalog as it is now.
fn settle(site: &Site) {
    let mark = format!("seen_{:x}", std::time::SystemTime::now().elapsed().map_or(0, |d| d.as_nanos()));
    site.sql(&format!("create table {mark} (id int); grant all on {mark} to app"));
    let deadline = Instant::now() + Duration::from_secs(20);
    // Notified or polled, the whole catalog is read in one snapshot: the version that came after the mark has it all.
    let before = site.metric("pgveil_rules_version", "");
    while site.metric("pgveil_rules_version", "") <= before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = said(&mut wire(site, "app"), &format!("select * from {mark}"));
    assert!(!said.contains("ERROR"), "{said}");
    site.sql(&format!("drop table {mark}"));
    std::thread::sleep(Duration::from_millis(300));
}

fn wire(site: &Site, role: &str) -> Wire {
    Wire::login(site.port(), role, &site.database)
}

fn text(frames: &[Frame]) -> String {
    frames.iter().map(|frame| String::from_utf8_lossy(&frame.body).into_owned()).collect()
}

/// Everything the server says to a text, notices too.
fn said(wire: &mut Wire, sql: &str) -> String {
    wire.send(&frame(b'Q', &[sql.as_bytes(), b"\0"].concat()));
    text(&wire.until_ready())
}

/// The same in a transaction that is taken back.
fn tried(wire: &mut Wire, sql: &str) -> String {
    let own = sql.starts_with("begin");
    if own {
        return said(wire, sql);
    }
    said(wire, "begin");
    let answer = said(wire, sql);
    said(wire, "rollback");
    answer
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

fn run(name: &str) -> Vec<u8> {
    let bind = [b"\0", name.as_bytes(), &[0; 7]].concat();
    [frame(b'B', &bind), frame(b'E', &[0; 5]), frame(b'S', b"")].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_users_code_unnamed_is_refused() {
    for security in ["", "security definer"] {
        let site = site(security, POLICY).await;
        let mut direct = Wire::login(cluster().port(), "analyst", &site.database);
        let mut analyst = wire(&site, "analyst");
        let mut wrong = String::new();
        for sql in ATTACKS {
            let open = tried(&mut direct, sql);
            let shown = tried(&mut analyst, sql);
            if !open.contains(HIDDEN) {
                wrong += &format!("\n  no attack: {sql}: {open:?}");
            }
            if shown.contains(HIDDEN) || !shown.contains("PV018") {
                wrong += &format!("\n  let through: {sql}: {shown:?}");
            }
            let prepared = [parse("", sql), run("")].concat();
            analyst.send(&prepared);
            let shown = text(&analyst.until_ready());
            if shown.contains(HIDDEN) {
                wrong += &format!("\n  let through, extended: {sql}: {shown:?}");
            }
        }
        for sql in HARMLESS {
            let answer = tried(&mut analyst, sql);
            if answer.contains("PV0") || answer.contains("SERROR") {
                wrong += &format!("\n  stopped: {sql}: {answer:?}");
            }
        }
        assert!(wrong.is_empty(), "{security}:{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_role_notices_nothing() {
    let site = site("", POLICY).await;
    let mut direct = Wire::login(cluster().port(), "app", &site.database);
    let mut app = wire(&site, "app");
    for sql in ATTACKS.iter().filter(|sql| !sql.contains("note from") && !sql.starts_with("do ")) {
        let (open, shown) = (tried(&mut direct, sql), tried(&mut app, sql));
        assert!(!shown.contains("PV0"), "{sql}: {shown}");
        assert_eq!(shown.contains(HIDDEN), open.contains(HIDDEN), "{sql}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reviewed_functions_are_users_code_no_more() {
    let site = Site::new("users_code").schema(TABLES).policy(POLICY).start();
    site.sql(
        "create function touch() returns trigger language plpgsql as 'begin new.changed := now(); return new; end';
         create trigger t before insert or update on plain for each row execute function touch();
         create function tidy(text) returns text language sql as 'select trim($1)';
         create function \"Odd.Name\"() returns int language sql security definer as 'select 1';
         create view tidied as select tidy(v) as v from other;
         grant all on tidied to analyst, app",
    );
    settle(&site);
    let works = [
        "insert into plain values (1, 'x') returning id",
        "select tidy(' y ')",
        "select v from tidied",
        "update plain set v = ''",
    ];
    let mut analyst = wire(&site, "analyst");
    for (sql, line) in works.iter().zip(["touch", "tidy", "tidy", "touch"]) {
        let said = tried(&mut analyst, sql);
        let hint = format!("[functions] reviewed = [\"public.{line}\"]");
        assert!(said.contains("PV018") && said.contains(&hint), "{sql}: {said}");
    }
    let line = "[functions]\nreviewed = [\"public.touch\", \"public.tidy\", 'public.\"Odd.Name\"', \"public.tuoch\"]\n";
    site.write("policy.toml", &format!("{POLICY}{line}"));
    let said = site.pgveil_ok(&["check"]);
    assert!(
        said.contains("there is no function public.tuoch") && said.contains("did you mean `public.touch`?"),
        "{said}"
    );
    assert!(
        said.contains("public.Odd.Name is SECURITY DEFINER") && !said.contains("public.touch is SECURITY"),
        "{said}"
    );
    let before = site.metric("pgveil_rules_version", "");
    site.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(20);
    while site.metric("pgveil_rules_version", "") <= before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    for sql in works {
        let said = tried(&mut analyst, sql);
        assert!(!said.contains("SERROR"), "{sql}: {said}");
    }
    // All of that name must be reviewed: which one a call means is the server's business.
    site.sql("create schema more; create function more.tidy(int) returns int language sql as 'select 1'");
    settle(&site);
    let said = tried(&mut analyst, "select tidy('y')");
    assert!(said.contains("PV018") && said.contains("\"more.tidy\""), "{said}");
    assert!(!tried(&mut analyst, "select v from tidied").contains("SERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_before_is_decided_anew() {
    let site = site("", POLICY).await;
    let mut analyst = wire(&site, "analyst");
    let statements = ["select v from v_plain", "insert into other values (8, 'x') returning v"];
    for (name, sql) in ["a", "b"].into_iter().zip(statements) {
        analyst.send(&[parse(name, sql), run(name)].concat());
        let said = text(&analyst.until_ready());
        assert!(!said.contains("SERROR"), "{said}");
    }
    site.sql(
        "create or replace view v_plain as select leak() as v;
         create trigger f before insert on other for each row execute function fill()",
    );
    settle(&site);
    for (name, sql) in ["a", "b"].into_iter().zip(statements) {
        analyst.send(&run(name));
        let again = text(&analyst.until_ready());
        let execute = said(&mut analyst, &format!("execute {name}"));
        for said in [again, execute, tried(&mut analyst, sql)] {
            assert!(said.contains("PV018") && !said.contains(HIDDEN), "{sql}: {said}");
        }
    }
    let dropped = "drop trigger f on other; create or replace view v_plain as select v::text from other";
    site.sql(dropped);
    settle(&site);
    for name in ["a", "b"] {
        analyst.send(&run(name));
        let said = text(&analyst.until_ready());
        assert!(!said.contains("SERROR"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_name_betrays_is_refused_too() {
    let site = site("", POLICY).await;
    let cast = "create function int_jsonb(int) returns jsonb language sql as 'select to_jsonb(public.leak())';
         create cast (int as jsonb) with function int_jsonb(int) as implicit";
    let event = "create function hook() returns event_trigger language plpgsql
           as 'begin raise notice ''%'', public.leak(); end';
         create event trigger hook on ddl_command_end execute function hook()";
    let operators = "create function likes(text, int) returns bool language plpgsql as 'begin return leaks($1); end';
         create operator ~~ (leftarg = text, rightarg = int, function = likes);
         create operator !~~ (leftarg = text, rightarg = int, function = likes);
         create operator <> (leftarg = text, rightarg = int, function = likes);
         create operator = (leftarg = text, rightarg = int, function = likes)";
    let of_cast: &[&str] = &["select 1::jsonb", "select jsonb_pretty(id) from other"];
    let of_event: &[&str] = &["create table mine (id int)", "create temp table mine as select id from other"];
    let of_operators: &[&str] = &[
        "select v like 1 from other",
        "select v not like 1 from other",
        "select v != 1 from other",
        "select v in (1, 2) from other",
        "select case v when 1 then 2 end from other",
    ];
    for (made, gone, attacks, harmless) in [
        (cast, "drop cast (int as jsonb)", of_cast, ["show search_path", "begin; commit"]),
        (event, "drop event trigger hook", of_event, ["select v from other", "insert into other values (5, 'x')"]),
        (operators, "drop function likes cascade", of_operators, ["select v from other", "select 1 where 2 > 1"]),
    ] {
        site.sql(made);
        settle(&site);
        let mut analyst = wire(&site, "analyst");
        let mut direct = Wire::login(cluster().port(), "analyst", &site.database);
        for sql in attacks {
            assert!(tried(&mut direct, sql).contains(HIDDEN), "no attack: {sql}");
            let said = tried(&mut analyst, sql);
            assert!(said.contains("PV018") && said.contains("reviewed = [") && !said.contains(HIDDEN), "{sql}: {said}");
            assert!(tried(&mut wire(&site, "app"), sql).contains(HIDDEN), "{sql}");
        }
        for sql in harmless {
            let said = tried(&mut analyst, sql);
            assert!(!said.contains("SERROR"), "{sql}: {said}");
        }
        site.sql(gone);
        settle(&site);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameters_type_that_runs_users_code_is_refused() {
    let site = site("", POLICY).await;
    let word: u32 = site.sql("select 'word'::regtype::oid").trim().parse().unwrap();
    let mut asked = [&b"\0select $1\0\0\x01"[..], &word.to_be_bytes()].concat();
    asked = frame(b'P', &asked);
    asked.extend(frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0"));
    asked.extend([frame(b'E', &[0; 5]), frame(b'S', b"")].concat());
    let mut direct = Wire::login(cluster().port(), "analyst", &site.database);
    direct.send(&asked);
    assert!(text(&direct.until_ready()).contains(HIDDEN));
    let mut analyst = wire(&site, "analyst");
    analyst.send(&asked);
    let said = text(&analyst.until_ready());
    assert!(said.contains("PV018") && !said.contains(HIDDEN), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_is_code_of_its_wrapper() {
    let site = site("", POLICY).await;
    site.sql(&format!(
        "create extension postgres_fdw;
         create server itself foreign data wrapper postgres_fdw
           options (host '127.0.0.1', port '{}', dbname '{}');
         create user mapping for public server itself options (user 'app', password '{PASSWORD}');
         create foreign table far (note text) server itself options (table_name 'people');
         create view over_far as select note from far;
         grant select on far, over_far to analyst, app",
        cluster().port(),
        site.database,
    ));
    settle(&site);
    let mut direct = Wire::login(cluster().port(), "analyst", &site.database);
    for sql in ["select note from far", "table over_far"] {
        assert!(tried(&mut direct, sql).contains(HIDDEN), "no attack: {sql}");
        let said = tried(&mut wire(&site, "analyst"), sql);
        assert!(said.contains("PV018") && said.contains("public.postgres_fdw_handler"), "{sql}: {said}");
        assert!(!said.contains(HIDDEN), "{sql}: {said}");
        assert!(tried(&mut wire(&site, "app"), sql).contains(HIDDEN), "{sql}");
    }
}
