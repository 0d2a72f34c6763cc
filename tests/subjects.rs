//! Whose rows were read is known although the query did not ask for them; and the client cannot tell.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Frame, Pair, Site, Wire, bind, extended, frame, parse, query, run, shown, sync};

const SCHEMA: &str = "
    create table users (id int primary key, email varchar(40), name text, note text, at timestamptz);
    create table visits (id int primary key, user_id int, reason text, cost numeric(8,2));
    create table rooms (id int primary key, label text);
    create table docs (code text primary key, body text);
    create table files (id uuid primary key, body text);
    create table bigs (id bigint primary key, body text);
    create table smalls (id smallint primary key, body text);
    create table nums (id numeric primary key, body text);
    create table anonymous (id int primary key, body text);
    create view v as select at, note from users;
    create function twice(int) returns int language sql as 'select $1 * 2';";

const POLICY: &str = r#"
version = 1
default_level = "internal"
[tables."public.users"]
subject = { kind = "user", key = "id" }
[tables."public.users".columns]
email = { level = "restricted", as = "varchar(40)", encrypt = "deterministic", accept_leakage = ["equality"] }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
[tables."public.visits"]
subject = { kind = "user", key = "user_id" }
[tables."public.visits".columns]
reason = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.docs"]
subject = { kind = "doc", key = "code" }
[tables."public.docs".columns]
body = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.files"]
subject = { kind = "file", key = "id" }
[tables."public.files".columns]
body = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.bigs"]
subject = { kind = "big", key = "id" }
[tables."public.bigs".columns]
body = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.smalls"]
subject = { kind = "small", key = "id" }
[tables."public.smalls".columns]
body = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.nums"]
subject = { kind = "num", key = "id" }
[tables."public.nums".columns]
body = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.anonymous".columns]
body = { level = "restricted", as = "text", encrypt = "randomized" }
[roles.app]
clearance = "restricted"
[roles.support]
clearance = "restricted"
[detect]
exempt = ["app", "support"]
"#;

const ROWS: &[&str] = &[
    "insert into users values (1, 'kanarie1@x', 'kanarie a', 'p', '2026-01-01'), (2, 'kanarie2@x', 'kanarie b', 'q', null), \
     (3, 'kanarie3@x', null, 'r', '2026-03-01'), (4, 'kanarie4@x', 'kanarie d', null, '2026-04-01'), (5, null, 'kanarie e', 'p', null)",
    "insert into visits values (1, 1, 'kanarie', 1.50), (2, 1, 'kanarie', 2), (3, 2, 'kanarie', null), (4, 3, null, 4), (5, 4, 'kanarie', 9)",
    "insert into rooms values (1, 'p'), (2, 'q')",
    "insert into docs values ('one', 'kanarie'), ('two', 'kanarie')",
    "insert into files values ('11111111-2222-3333-4444-555555555555', 'kanarie')",
    "insert into bigs values (5000000000, 'kanarie')",
    "insert into smalls values (-7, 'kanarie')",
    "insert into nums values (1.50, 'kanarie')",
    "insert into anonymous values (1, 'kanarie')",
];

/// Queries, and the people whose rows they return (`kind key …`). Empty: nobody can be named.
#[rustfmt::skip]
const SHAPES: &[(&str, &str)] = &[
    // One more column.
    ("select email from users", "user 1 2 3 4 5"),
    ("select name from users", "user 1 2 3 4 5"),
    ("select note from users", "user 1 2 3 4 5"),
    ("select email, name, note, at from users", "user 1 2 3 4 5"),
    ("select email from public.users", "user 1 2 3 4 5"),
    ("select email from only users", "user 1 2 3 4 5"),
    ("select u.email from users u", "user 1 2 3 4 5"),
    ("select u.email from users as u (key, email)", "user 1 2 3 4 5"),
    ("SELECT \"email\" FROM \"users\"", "user 1 2 3 4 5"),
    ("select email as id from users", "user 1 2 3 4 5"),
    ("select email as \"from\"from users", "user 1 2 3 4 5"),
    ("select email\"from\", note from users", "user 1 2 3 4 5"),
    ("select email /* , x from y */ -- from\n from users", "user 1 2 3 4 5"),
    ("select all email from users", "user 1 2 3 4 5"),
    ("select from users where note = 'p'", "user 1 5"),
    ("select all from users where note = 'p'", "user 1 5"),
    ("select 1 from users where email is not null", "user 1 2 3 4"),
    ("select null, '', 'x'::text from users where note = 'p'", "user 1 5"),
    ("select email from users where email = 'kanarie3@x'", "user 3"),
    ("select email from users where note = 'nobody'", ""),
    ("select email, note from users order by 2 desc nulls last, id limit 0", ""),
    ("select note, email from users order by 1 nulls first, id limit 2", "user 1 4"),
    ("select note as email from users order by email desc nulls last limit 1", "user 3"),
    ("select note from users order by id desc limit 2", "user 4 5"),
    ("select note from users order by id offset 3", "user 4 5"),
    ("select note from users order by id fetch first 2 rows only", "user 1 2"),
    ("select note from users order by note fetch first 1 row with ties", "user 1 5"),
    ("select note from users where id in (select user_id from visits where cost > 3)", "user 3 4"),
    ("select email from users u where exists (select from visits where user_id = u.id) order by u.id", "user 1 2 3 4"),
    ("select email from users where at = (select max(at) from users)", "user 4"),
    ("select name from users for update", "user 1 2 3 4 5"),
    ("select name from users u where id > 3 for share of u", "user 4 5"),
    ("select name, row_number() over (order by id) from users", "user 1 2 3 4 5"),
    ("select count(*) over (), sum(id) over w from users window w as (order by id)", "user 1 2 3 4 5"),
    ("select count(*) filter (where id > 2) over (partition by note), note from users order by id", "user 1 2 3 4 5"),
    ("select lower(note), twice(1), coalesce(name, null), note is distinct from 'p' from users", "user 1 2 3 4 5"),
    ("select case when id > 2 then note else 'x' end from users", "user 1 2 3 4 5"),
    ("select extract(year from at), substring(note from 1 for 1) from users", "user 1 2 3 4 5"),
    ("select generate_series(1, 2), note from users where id < 3", "user 1 2"),
    ("select array[note, 'x'], row(1, note) from users where id = any ('{1,2}')", "user 1 2"),
    ("select note, (note, id), note || 'x' from users limit 1", "user 1"),
    ("select email from users tablesample system (100) where note = 'q'", "user 2"),
    ("select reason from visits", "user 1 2 3 4"),
    ("select reason, cost from visits where cost > 1.5 order by cost", "user 1 3 4"),
    ("select u.email, r.label from users u join rooms r on r.label = u.note order by u.id", "user 1 2 5"),
    ("select u.email, r.label from users u left join rooms r on r.label = u.note order by u.id", "user 1 2 3 4 5"),
    ("select u.email, r.label from rooms r right join users u on r.label = u.note order by u.id", "user 1 2 3 4 5"),
    ("select u.email from rooms r, users u where r.label = u.note order by u.id", "user 1 2 5"),
    ("select u.note from users u natural join rooms r", "user 1 2"),
    ("select u.email, v.reason from users u join visits v on v.user_id = u.id order by v.id", "user 1 2 3 4"),
    ("select u.email, v.reason from users u left join visits v on v.user_id = u.id order by u.id, v.id", "user 1 2 3 4 5"),
    ("select u.email, v.reason from users u, visits v where v.user_id = u.id and v.cost > 3", "user 3 4"),
    ("select v.reason from visits v join (users u cross join rooms r) on u.id = v.user_id where r.id = 1 and u.note = 'p'", "user 1"),
    ("select a.body, u.email from users u join anonymous a on a.id = u.id", "user 1"),
    ("select body from docs order by code", "doc one two"),
    ("select body from docs where body is not null", "doc one two"),
    ("select body from files", "file 11111111-2222-3333-4444-555555555555"),
    ("select body from bigs", "big 5000000000"),
    ("select body from smalls", "small -7"),
    // It returns or fixes the key itself.
    ("select id, email from users", "user 1 2 3 4 5"),
    ("select * from users", "user 1 2 3 4 5"),
    ("select u.*, u.email from users u where note = 'p'", "user 1 5"),
    ("select email from users where id = 2", "user 2"),
    ("table users", "user 1 2 3 4 5"),
    // Never touched.
    ("select count(*) from users where email is not null", ""),
    ("select count(email) from users", ""),
    ("select max(note), min(note) from users", ""),
    ("select count(*), note from users group by note order by note", ""),
    ("select note from users group by id, note order by id", ""),
    ("select note from users group by note having count(*) > 1", ""),
    ("select distinct note from users order by note", ""),
    ("select distinct on (note) note, email from users order by note, id", ""),
    ("select note from users where id < 3 union all select label from rooms order by 1", ""),
    ("select note from users where id < 3 except select 'z'", ""),
    ("with c as (select email, note from users) select email from c", ""),
    ("with c as (select 1) select email from users", ""),
    ("select email from (select email from users order by id) x", ""),
    ("select email from users u, lateral (select 1) l", ""),
    ("select u.email from users u, generate_series(1, 1) g", ""),
    ("(select email from users)", ""),
    ("select at from v where note = 'q'", ""),
    ("select u.email from users u join v on v.note = u.note order by u.id", ""),
    ("select (select reason from visits where id = u.id), u.note from users u order by u.id", ""),
    ("select u.note from rooms r left join users u on r.label = u.note and u.id < 3 order by r.id", ""),
    ("select u.note from users u full join rooms r on r.label = u.note order by u.id, r.id", ""),
    ("select u.email, v.reason from users u join visits v on v.id = u.id order by u.id", ""),
    ("select a.email, b.name from users a join users b on b.id = a.id order by a.id", ""),
    ("select email, note as pgveil_subject from users order by pgveil_subject, id", ""),
    ("select note from users order by pgveil_subject", ""),
    ("select body from nums", ""),
    ("select body from anonymous", ""),
    ("explain (costs off) select note from users", ""),
];

fn describe(kind: u8, name: &[u8]) -> Vec<u8> {
    frame(b'D', &[&[kind], name, b"\0"].concat())
}

fn execute(portal: &[u8], rows: u32) -> Vec<u8> {
    frame(b'E', &[portal, b"\0", &rows.to_be_bytes()].concat())
}

fn bind_formats(portal: &[u8], statement: &[u8], codes: &[u16]) -> Vec<u8> {
    let mut body = [portal, b"\0", statement, b"\0\0\0\0\0"].concat();
    body.extend_from_slice(&u16::try_from(codes.len()).unwrap().to_be_bytes());
    codes.iter().for_each(|code| body.extend_from_slice(&code.to_be_bytes()));
    frame(b'B', &body)
}

/// The ways a query without parameters can come, with how many ReadyForQuery answer it. The last are errors.
fn ways(sql: &str, columns: usize) -> Vec<(&'static str, Vec<u8>, usize)> {
    let close = frame(b'C', b"Ss\0");
    let prepare = [parse(b"s", sql.as_bytes()), describe(b'S', b"s"), sync()].concat();
    let bound = |codes: &[u16]| [prepare.clone(), bind_formats(b"", b"s", codes), execute(b"", 0), sync()].concat();
    let mixed: Vec<u16> = (0..columns).map(|at| u16::from(at % 2 == 0)).collect();
    let portal = [parse(b"", sql.as_bytes()), bind(b"p", b"", &[]), execute(b"p", 1), describe(b'P', b"p")].concat();
    let limited = [portal, execute(b"p", 2), execute(b"p", 1), frame(b'H', b""), execute(b"p", 0), sync()].concat();
    let once = [bind_formats(b"", b"s", &[]), execute(b"", 0)].concat();
    let twice = [parse(b"s", sql.as_bytes()), once.clone(), once, close.clone(), sync()].concat();
    let mut ways = vec![
        ("simple", query(sql), 1),
        ("in a text with others", query(&format!("select 1; {sql}; select 2")), 1),
        ("extended", extended(sql, &[]), 1),
        ("prepared, text", [bound(&[0]), close.clone(), sync()].concat(), 3),
        ("prepared, binary", [bound(&[1]), close.clone(), sync()].concat(), 3),
        ("prepared, no codes", [bound(&[]), close.clone(), sync()].concat(), 3),
        ("in pieces", limited, 1),
        ("without Describe", twice, 1),
    ];
    if columns > 1 {
        ways.push(("prepared, mixed", [bound(&mixed), close.clone(), sync()].concat(), 3));
        let more = [&mixed[..], &[1]].concat();
        ways.push(("too many codes", [bound(&more), close.clone(), sync()].concat(), 3));
        let many = [&more[..], &[1]].concat();
        ways.push(("far too many codes", [bound(&many), close.clone(), sync()].concat(), 3));
    }
    if columns > 2 {
        ways.push(("too few codes", [bound(&mixed[1..]), close, sync()].concat(), 3));
    }
    ways
}

fn ask(wire: &mut Wire, bytes: &[u8], readies: usize) -> Vec<Frame> {
    wire.send(bytes);
    (0..readies).flat_map(|_| wire.until_ready()).collect()
}

fn named(wires: &mut [Wire], case: &str) {
    for wire in wires {
        ask(wire, &query(&format!("set application_name = '{case}'")), 1);
    }
}

/// Events about statements, by the application's name; waits for the one that comes last.
fn events(site: &Site, last: &str) -> HashMap<String, Vec<Value>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut of: HashMap<String, Vec<Value>> = HashMap::new();
        for event in site.events().into_iter().filter(|event| event["kind"] == "statement") {
            let case = event["actor"]["application"].as_str().unwrap_or_default().to_owned();
            of.entry(case).or_default().push(event);
        }
        if of.contains_key(last) {
            return of;
        }
        assert!(Instant::now() < deadline, "no event of {last} after a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn known(events: &[Value]) -> BTreeSet<String> {
    let all = events.iter().flat_map(|event| event["subjects"]["known"].as_array().cloned().unwrap_or_default());
    all.map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["pseudonym"].as_str().unwrap())).collect()
}

fn unknown(events: &[Value]) -> u64 {
    events.iter().map(|event| event["subjects"]["unknown_rows"].as_u64().unwrap_or(0)).sum()
}

/// `kind key` → `kind pseudonym`, as told by queries that fix the key.
fn pseudonyms(wire: &mut Wire, table: &[(&str, &str, &str, &[&str])]) -> Vec<(String, String)> {
    let mut cases = Vec::new();
    for (kind, table, column, keys) in table {
        for key in *keys {
            let case = format!("{kind} {key}");
            named(std::slice::from_mut(wire), &case);
            let frames = ask(wire, &query(&format!("select * from {table} where {column} = '{key}'")), 1);
            assert_eq!(frames.iter().filter(|frame| frame.tag == b'D').count(), 1, "{case}: {frames:?}");
            cases.push((case, (*kind).to_owned()));
        }
    }
    cases
}

const PEOPLE: &[(&str, &str, &str, &[&str])] = &[
    ("user", "users", "id", &["1", "2", "3", "4", "5"]),
    ("doc", "docs", "code", &["one", "two"]),
    ("file", "files", "id", &["11111111-2222-3333-4444-555555555555"]),
    ("big", "bigs", "id", &["5000000000"]),
    ("small", "smalls", "id", &["-7"]),
];

#[test]
fn every_way_to_ask_is_answered_as_by_the_twin_and_names_the_people() {
    let builder = Site::new("subjects").policy(POLICY).audit("durability = \"async\"");
    let pair = Pair::start(builder, SCHEMA);
    let mut wires = pair.wires();
    for sql in ROWS {
        for wire in &mut wires {
            assert_eq!(ask(wire, &query(sql), 1)[0].tag, b'C', "{sql}");
        }
    }
    pseudonyms(&mut wires[0], PEOPLE);
    let mut faults = Vec::new();
    let mut cases = Vec::new();
    for (number, (sql, people)) in SHAPES.iter().enumerate() {
        let described = ask(&mut wires[1], &query(sql), 1);
        let fields = described.iter().find(|frame| frame.tag == b'T');
        let columns = fields.map_or(0, |frame| usize::from(u16::from_be_bytes([frame.body[0], frame.body[1]])));
        for (at, (way, bytes, readies)) in ways(sql, columns).into_iter().enumerate() {
            let case = format!("case {number}.{at}");
            named(&mut wires, &case);
            let [veiled, direct] =
                wires.each_mut().map(|wire| ask(wire, &bytes, readies).iter().map(shown).collect::<Vec<_>>());
            if veiled != direct {
                faults.push(format!("{sql}\n  {way}\n  pgveil:     {veiled:?}\n  PostgreSQL: {direct:?}"));
            }
            let failed = direct.iter().any(|line| line.starts_with('E'));
            cases.push((case, *sql, way, *people, failed));
        }
    }
    named(&mut wires, "end");
    ask(&mut wires[0], &query("select id, email from users"), 1);
    let events = events(&pair.site, "end");
    let one = |case: String| known(&events[&case]).into_iter().next().unwrap_or_default();
    for (case, sql, way, people, failed) in cases {
        let found = events.get(&case).map_or(&[][..], Vec::as_slice);
        let mut words = people.split(' ');
        let kind = words.next().unwrap_or_default();
        let expected: BTreeSet<String> =
            if failed { BTreeSet::new() } else { words.map(|key| one(format!("{kind} {key}"))).collect() };
        let rows: u64 = found.iter().map(|event| event["rows"].as_u64().unwrap_or(0)).sum();
        let nobody = if expected.is_empty() { rows } else { 0 };
        if (known(found), unknown(found)) != (expected.clone(), nobody) {
            faults.push(format!("{sql}\n  {way}: {found:?}\n  expected {expected:?}"));
        }
    }
    let first = |fault: &String| fault.lines().next().map(str::to_owned);
    let number = faults.len();
    faults.dedup_by_key(|fault| first(fault));
    assert!(faults.is_empty(), "{number} faults:\n{}", faults.join("\n"));
}

/// With parameters the key is asked for too; a column that the role may not read is not.
#[test]
fn parameters_rights_and_roles_decide() {
    let mut site = Site::new("subjects_rights").schema(SCHEMA).policy(POLICY).audit("durability = \"async\"").prepare();
    site.sql("revoke all on users from support; grant select (email, note) on users to support; grant support to app");
    site.pgveil_ok(&["apply"]);
    site.serve();
    let mut app = Wire::login(site.port(), "app", &site.database);
    let mut support = Wire::login(site.port(), "support", &site.database);
    for sql in &ROWS[..2] {
        assert_eq!(ask(&mut app, &query(sql), 1)[0].tag, b'C');
    }
    pseudonyms(&mut app, &PEOPLE[..1]);
    let tags = |frames: &[Frame]| frames.iter().map(|frame| char::from(frame.tag)).collect::<String>();
    let wire = std::slice::from_mut(&mut app);
    named(wire, "parameters");
    let found = ask(&mut wire[0], &extended("select note from users where email = $1", &[b"kanarie2@x"]), 1);
    assert_eq!(tags(&found), "12TDCZ", "{found:?}");
    named(wire, "set role");
    let found = ask(&mut wire[0], &query("set role support"), 1);
    assert_eq!(tags(&found), "CZ", "{found:?}");
    let found = ask(&mut wire[0], &query("select note from users"), 1);
    assert_eq!(tags(&found), "TDDDDDCZ", "{found:?}");
    ask(&mut wire[0], &query("reset role"), 1);
    named(wire, "reset role");
    ask(&mut wire[0], &query("select note from users"), 1);
    named(std::slice::from_mut(&mut support), "rights");
    let found =
        ask(&mut support, &[parse(b"", b"select email from users"), bind(b"", b"", &[]), run(b""), sync()].concat(), 1);
    assert_eq!(tags(&found), "12TDDDDDCZ", "{found:?}");
    named(std::slice::from_mut(&mut support), "end");
    ask(&mut support, &query("select email from users"), 1);
    let events = events(&site, "end");
    let people = |case: &str| (known(&events[case]).len(), unknown(&events[case]));
    assert_eq!(known(&events["parameters"]), known(&events["user 2"]));
    assert_eq!((people("set role"), people("reset role"), people("rights")), ((0, 5), (5, 0), (0, 5)));
}

#[test]
fn queries_stay_as_they_were_asked_where_the_file_says_so() {
    let audit = "durability = \"async\"\nsubject_keys = \"as_asked\"";
    let site = Site::new("subjects_as_asked").schema(SCHEMA).policy(POLICY).audit(audit).start();
    let mut app = Wire::login(site.port(), "app", &site.database);
    for sql in &ROWS[..1] {
        assert_eq!(ask(&mut app, &query(sql), 1)[0].tag, b'C');
    }
    named(std::slice::from_mut(&mut app), "end");
    ask(&mut app, &query("select note from users"), 1);
    let events = events(&site, "end");
    assert_eq!((known(&events["end"]).len(), unknown(&events["end"])), (0, 5));
    assert!(!crate::support::server_log(&site.database).contains("pgveil_subject"));
}

const MASKED: &str = r#"
version = 1
default_level = "internal"
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
nick = { level = "confidential", mask = "partial:1:0" }
[tables."public.codes"]
subject = { kind = "code", key = "code" }
[tables."public.codes".columns]
code = { level = "confidential", mask = "null" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
accept_leakage = ["existence"]
[roles.analyst.rows]
"public.people" = "id < 3"
"#;

/// Where a view stands for the table, its own rows and rights count.
#[test]
fn a_role_with_a_lens_is_asked_for_keys_that_it_may_see() {
    let schema =
        "create table people (id int primary key, nick text); create table codes (code text primary key, n int);
        insert into people values (1, 'parkiet'), (2, 'parkiet'), (3, 'parkiet'); insert into codes values ('x', 1);";
    let builder = Site::new("subjects_lens").schema(schema).policy(MASKED).audit("durability = \"async\"");
    let mut site = builder.prepare();
    site.pgveil_ok(&["apply", "--lenses"]);
    site.serve();
    let mut analyst = Wire::login(site.port(), "analyst", &site.database);
    let mut rows = |case: &str, sql: &str| {
        named(std::slice::from_mut(&mut analyst), case);
        let frames = ask(&mut analyst, &query(sql), 1);
        frames.iter().filter(|frame| frame.tag == b'D').map(shown).collect::<Vec<_>>()
    };
    let nick = "D \\x00\\x01\\x00\\x00\\x00\\x07p******";
    assert_eq!(rows("masked", "select nick from people"), [nick, nick]);
    assert_eq!(rows("qualified", "select people.nick from public.people where nick > ''"), [nick, nick]);
    assert_eq!(rows("hidden", "select n from codes"), ["D \\x00\\x01\\x00\\x00\\x00\\x011"]);
    rows("end", "select id, nick from people");
    let events = events(&site, "end");
    let people = |case: &str| (known(&events[case]).len(), unknown(&events[case]));
    assert_eq!((people("masked"), people("qualified"), people("hidden")), ((2, 0), (2, 0), (0, 1)));
}
