//! What a script is made of, and how a seed makes one.

use std::collections::HashSet;

use crate::support::{Dice, frame};

/// The tables of both sides; on one `s` is sealed.
pub const SCHEMA: &str = "
    create table u (id int primary key, v text, n int check (n < 100));
    create table secrets (id int primary key, email varchar(20), name text, n int4, nick text);";

/// What every script finds.
pub const START: &str = "
    delete from u; delete from secrets;
    insert into u select i, 'v' || i, i from generate_series(1, 5) i;
    insert into secrets values (1, 'mail 1', 'name 1', 1, 'a'), (2, 'mail 2', 'name 2', 2, null), (3, 'mail 3', null, null, 'c'),
        (4, null, '', -4, '')";

/// A message of the client.
#[derive(Clone, Debug)]
pub enum Message {
    Query(&'static str),
    Parse {
        name: &'static str,
        sql: &'static str,
        oids: Vec<u32>,
    },
    Bind {
        portal: &'static str,
        name: &'static str,
        formats: Vec<u16>,
        values: Vec<Option<Vec<u8>>>,
        results: Vec<u16>,
    },
    Describe(u8, &'static str),
    Execute(&'static str, u32),
    Close(u8, &'static str),
    Sync,
    Flush,
    CopyData(&'static [u8]),
    CopyDone,
    CopyFail,
    FunctionCall,
    Malformed(u8, &'static [u8]),
}

use Message::{
    Bind, Close, CopyData, CopyDone, CopyFail, Describe, Execute, Flush, FunctionCall, Malformed, Parse, Query, Sync,
};

impl Message {
    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Query(sql) => frame(b'Q', &text(&[sql])),
            Parse { name, sql, oids } => {
                let mut body = text(&[name, sql]);
                body.extend(count(oids.len()));
                body.extend(oids.iter().flat_map(|oid| oid.to_be_bytes()));
                frame(b'P', &body)
            }
            Bind { portal, name, formats, values, results } => {
                let mut body = text(&[portal, name]);
                body.extend(count(formats.len()));
                body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
                body.extend(count(values.len()));
                for value in values {
                    let length = value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap());
                    body.extend(length.to_be_bytes());
                    body.extend(value.as_deref().unwrap_or_default());
                }
                body.extend(count(results.len()));
                body.extend(results.iter().flat_map(|format| format.to_be_bytes()));
                frame(b'B', &body)
            }
            Describe(kind, name) => frame(b'D', &[&[*kind], &text(&[name])[..]].concat()),
            Execute(portal, rows) => frame(b'E', &[&text(&[portal])[..], &rows.to_be_bytes()].concat()),
            Close(kind, name) => frame(b'C', &[&[*kind], &text(&[name])[..]].concat()),
            Sync => frame(b'S', b""),
            Flush => frame(b'H', b""),
            CopyData(data) => frame(b'd', data),
            CopyDone => frame(b'c', b""),
            CopyFail => frame(b'f', b"no more\0"),
            // lo_close(99), text result.
            FunctionCall => frame(b'F', b"\0\0\x03\xb9\0\0\0\x01\0\0\0\x0299\0\0"),
            Malformed(tag, body) => frame(*tag, body),
        }
    }
}

fn text(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| [part.as_bytes(), b"\0"].concat()).collect()
}

fn count(n: usize) -> [u8; 2] {
    u16::try_from(n).unwrap().to_be_bytes()
}

/// Simple queries.
const QUERIES: &[&str] = &[
    "",
    ";",
    " ; ;",
    "-- nothing",
    "select 1",
    "select 1; select 'two', 3",
    "select 1;; select 1/0; select 3",
    "select 1/0",
    "select nothing",
    "selec",
    "select * from nothing",
    "select 'unterminated",
    "select * from u order by id",
    "select id, v from u where id > 2 order by id",
    "select generate_series(1, 5)",
    "values (1, null), (2, '')",
    "insert into u values (7, 'x', 1)",
    "insert into u values (1, 'again', 0)",
    "insert into u values (9, 'too much', 100)",
    "insert into u values (1, 'again', 0) on conflict (id) do update set v = excluded.v returning v",
    "update u set v = 'y' where id < 3",
    "delete from u where id = 2 returning id",
    "with d as (delete from u where id > 3 returning id) select * from d order by id",
    "begin",
    "begin; select 1",
    "begin; insert into u values (8, 'z', 1); commit",
    "begin; select 1/0; commit",
    "insert into u values (8, 'z', 1); select 1/0",
    "begin isolation level serializable read only",
    "start transaction; savepoint a",
    "commit",
    "commit and chain",
    "rollback",
    "end; begin",
    "abort; select 1",
    "savepoint a",
    "rollback to a",
    "release a",
    "declare c cursor for select id, v from u order by id",
    "declare c scroll cursor for select email, id from secrets order by id",
    "declare h cursor with hold for select name from secrets order by id",
    "begin; declare c scroll cursor for select email, id, n from secrets order by id",
    "fetch 2 from c",
    "fetch backward 1 from c",
    "fetch all from h",
    "fetch absolute 3 from c; fetch prior from c",
    "move 1 in c",
    "close c",
    "close all",
    "prepare q as select id, v from u where id = $1",
    "prepare q as select name, email from secrets where id = $1",
    "prepare r (int, text) as select $1, $2",
    "execute q(1)",
    "execute q('x')",
    "execute r(1, 'x'); execute q(2)",
    "deallocate q",
    "deallocate all",
    "discard all",
    "discard plans",
    "set datestyle = 'SQL'",
    "set intervalstyle = 'iso_8601'; select interval '1 day 2 hours'",
    "set local extra_float_digits = 0",
    "set nothing = 1",
    "show datestyle",
    "reset all",
    "set application_name = 'x'",
    "set session characteristics as transaction read only",
    "do $$ begin raise notice 'said'; end $$",
    "do $$ begin raise exception 'said'; end $$",
    "listen channel",
    "notify channel, 'said'",
    "unlisten *",
    "create temp table t (i int)",
    "create temp table t on commit drop as select 1 as i",
    "insert into t values (1)",
    "select * from t",
    "drop table t",
    "prepare transaction 'x'",
    "lock table u",
    "explain (costs off) select 1",
    "copy (select * from u order by id) to stdout",
    "copy (select 1 / (id - 3) from (select id from u order by id offset 0) o) to stdout csv",
    "copy nothing from stdin",
    "select * from secrets order by id",
    "select email, name from secrets where id = 2",
    "select email, name from secrets where id = 2; select n from secrets order by id; select 1",
    "select name from secrets order by id; select 1/0",
    "select id from secrets where email = 'mail 1'",
    "select count(*), count(distinct email) from secrets",
    "select array_agg(name order by id) from secrets",
    "select secrets.name, u.v from secrets join u using (id) order by id",
    "insert into secrets values (7, 'mail 7', 'name 7', 7, 'x')",
    "insert into secrets values (7, 'mail 7', 'name 7', 7, 'x') returning *",
    "insert into secrets values (1, 'mail 1', 'again', 7, 'x')",
    "insert into secrets values (1, 'mail 9', 'again', 7, 'x') on conflict (id) do update set name = excluded.name returning id, name",
    "insert into secrets values (7, 'longer than twenty characters', null, null, null)",
    "insert into secrets values (7, null, null, 'x', null)",
    "insert into secrets values (7, null, null, 99999999999, null)",
    "begin; insert into secrets values (7, 'mail 7', null, 7, null); commit",
    "update secrets set name = 'other' where id = 3 returning name, email",
    "update secrets set n = null; select n from secrets order by id",
    "delete from secrets where email = 'mail 2'",
    "begin; update secrets set email = 'mail 9' where id = 1; rollback",
    "copy (table secrets order by id) to stdout",
    "copy (select email, id from secrets order by id) to stdout binary",
    "copy (select name, 1 / (id - 3) from (select id, name from secrets order by id offset 0) o) to stdout",
];

/// COPY FROM, and rows for it that mostly fit.
const COPIES: &[(&str, &[&[u8]])] = &[
    ("copy u from stdin", &[b"7\tx\t1\n", b"8\ty\t2\n", b"8\ty", b"x\ty\t3\n", b"1\tagain\t1\n", b"\\.\n"]),
    ("copy u (id, v) from stdin csv", &[b"7,x\n", b"8,\"y\nz\"\n", b"9", b"9,x,y\n"]),
    (
        "copy secrets (id, email, n) from stdin",
        &[b"7\tmail 7\t1\n", b"8\t\\N\t2\n", b"9\tmail 9\t3\n", b"7\tx\tx\n", b"1\tx\t1\n"],
    ),
    ("copy secrets (id, name) from stdin csv", &[b"7,name\n", b"8,\n", b"9,\"a\nb\"\n", b"x,y\n"]),
    ("copy secrets (id, name) from stdin; select name from secrets order by id", &[b"7\tname\n", b"8\n"]),
    ("select 1; copy u from stdin; select 2", &[b"7\tx\t1\n", b"x"]),
    ("begin; copy secrets (id, email) from stdin", &[b"7\tmail\n", b"8\tlonger than twenty characters\n"]),
];

/// Statements for Parse, and what their parameters are: an integer, text.
const STATEMENTS: &[(&str, &str)] = &[
    ("", ""),
    (";", ""),
    ("select 1", ""),
    ("select 1; select 2", ""),
    ("selec", ""),
    ("select nothing", ""),
    ("select 1/0", ""),
    ("select $1::int / $2::int", "ii"),
    ("select generate_series(1, $1)", "i"),
    ("select id, v from u where id >= $1 order by id", "i"),
    ("insert into u values ($1, $2, $3)", "iti"),
    ("insert into u values ($1, $2, 1) on conflict do nothing returning *", "it"),
    ("update u set v = $1 where id = $2", "ti"),
    ("select * from secrets order by id", ""),
    ("select email, name, n from secrets where id > $1 order by id", "i"),
    ("select id, email from secrets where email = $1", "t"),
    ("select name, $1::text, n from secrets where id = $2", "ti"),
    ("insert into secrets (id, email, n) values ($1, $2, $3)", "iti"),
    ("insert into secrets (id, name) values ($1, $2) returning name, id", "it"),
    ("insert into secrets (id, email) values (7, 'mail 7')", ""),
    ("insert into secrets (id, n) values (7, 'x')", ""),
    ("update secrets set name = $1, nick = $1 where id = $2 returning name", "ti"),
    ("delete from secrets where email = $1", "t"),
    ("begin", ""),
    ("commit", ""),
    ("rollback", ""),
    ("savepoint a", ""),
    ("rollback to a", ""),
    ("declare c cursor for select email, id from secrets order by id", ""),
    ("fetch 2 from c", ""),
    ("close c", ""),
    ("prepare q as select name from secrets where id = $1", ""),
    ("execute q(2)", ""),
    ("deallocate all", ""),
    ("set datestyle = 'German'", ""),
    ("show datestyle", ""),
    ("copy secrets (id, email) from stdin", ""),
    ("copy u from stdin", ""),
    ("copy (select email, id from secrets order by id) to stdout", ""),
    ("create temp table t (i int)", ""),
    ("select * from t", ""),
    ("select now() is null, $1", "t"),
];

/// The unnamed one twice as often.
const NAMES: &[&str] = &["", "", "a", "b"];
/// Those that SQL's PREPARE makes, too: EXECUTE of a statement with sealed parameters is refused.
const USED: &[&str] = &["", "", "a", "b", "q", "r"];
const PORTALS: &[&str] = &["", "", "p", "c", "h"];
const INTEGERS: &[Option<&str>] = &[Some("0"), Some("1"), Some("2"), Some("3"), Some("7"), Some("8"), Some("x"), None];
const TEXTS: &[Option<&str>] = &[Some("mail 1"), Some("mail 2"), Some(""), Some("x"), None];
/// Of any statement or portal.
const ROWS: &[u32] = &[0, 0, 0, 1, 2, 100];

/// The script of that seed.
pub fn script(seed: u64) -> Vec<Message> {
    let mut dice = Dice(seed);
    let mut out = Vec::new();
    let phrases = 1 + dice.below(7);
    for _ in 0..phrases {
        match dice.below(10) {
            0..=2 => out.push(Query(dice.of(QUERIES))),
            3..=6 => pipeline(&mut dice, &mut out),
            7 => copy(&mut dice, &mut out),
            _ => out.push(any(&mut dice)),
        }
    }
    without_gone_cursors(without_stale_portals(out))
}

/// The unnamed portal of a simple Query that has failed stays until its transaction block ends, but its statements do
/// not (`portal->stmts` lies in MessageContext): PostgreSQL 15 reads freed memory when Execute names it, and mostly
/// crashes. So that portal is executed in the pipeline of its Bind only.
fn without_stale_portals(mut script: Vec<Message>) -> Vec<Message> {
    let mut bound = false;
    script.retain(|message| match message {
        Bind { portal: "", .. } => {
            bound = true;
            true
        }
        Query(_) | Sync | FunctionCall | Malformed(..) => {
            bound = false;
            true
        }
        Execute("", _) => bound,
        _ => true,
    });
    script
}

/// A FETCH that was prepared while its cursor was there, and is described when it is gone, ends PostgreSQL 15
/// (`FetchStatementTargetList` takes the portal for granted). So such a statement is described right after its Parse
/// only.
fn without_gone_cursors(mut script: Vec<Message>) -> Vec<Message> {
    let (mut fetching, mut newest) = (HashSet::new(), None);
    script.retain(|message| {
        let parsed = newest.take();
        match message {
            Parse { name, sql, .. } => {
                // Whether this Parse or the one before it is in force depends on errors.
                if sql.starts_with("fetch") {
                    fetching.insert(*name);
                }
                newest = Some(*name);
                true
            }
            Describe(b'S', name) => parsed == Some(*name) || !fetching.contains(name),
            _ => true,
        }
    });
    script
}

/// Parse to Sync, with parts left out now and then, or again.
fn pipeline(dice: &mut Dice, out: &mut Vec<Message>) {
    let statements = 1 + dice.below(3);
    for _ in 0..statements {
        let (sql, kinds) = dice.of(STATEMENTS);
        let (name, portal) = (dice.of(NAMES), dice.of(PORTALS));
        if !dice.one_in(8) {
            out.push(parse(dice, name, sql, kinds));
        }
        if dice.one_in(4) {
            out.push(Describe(b'S', name));
        }
        for _ in 0..[1, 1, 1, 1, 2, 0][dice.below(6)] {
            out.push(bind(dice, portal, name, kinds));
            if dice.one_in(2) {
                out.push(Describe(b'P', portal));
            }
            for _ in 0..[1, 1, 1, 2, 3, 0][dice.below(6)] {
                out.push(Execute(portal, dice.of(ROWS)));
            }
        }
        if dice.one_in(6) {
            out.push(any(dice));
        }
    }
    if !dice.one_in(6) {
        out.push(Sync);
    }
}

fn copy(dice: &mut Dice, out: &mut Vec<Message>) {
    let (sql, rows) = dice.of(COPIES);
    if dice.one_in(3) {
        let name = dice.of(NAMES);
        out.extend([parse(dice, name, sql, ""), bind(dice, "", name, ""), Execute("", 0)]);
        if dice.one_in(2) {
            out.push(Sync);
        }
    } else {
        out.push(Query(sql));
    }
    for _ in 0..dice.below(4) {
        out.push(CopyData(dice.of(rows)));
    }
    out.push(if dice.one_in(4) { CopyFail } else { CopyDone });
    if dice.one_in(2) {
        out.push(Sync);
    }
}

fn parse(dice: &mut Dice, name: &'static str, sql: &'static str, kinds: &str) -> Message {
    let oids = match dice.below(8) {
        0 => kinds.bytes().map(|kind| if kind == b'i' { 23 } else { 25 }).collect(),
        1 => kinds.bytes().map(|_| 0).collect(),
        2 if !kinds.is_empty() => vec![20],
        _ => Vec::new(),
    };
    Parse { name, sql, oids }
}

fn bind(dice: &mut Dice, portal: &'static str, name: &'static str, kinds: &str) -> Message {
    let mut values: Vec<Option<Vec<u8>>> = kinds
        .bytes()
        .map(|kind| dice.of(if kind == b'i' { INTEGERS } else { TEXTS }).map(|value| value.as_bytes().to_vec()))
        .collect();
    let mut formats = Vec::new();
    if dice.one_in(5) && kinds.starts_with('i') {
        // Four bytes for the first, text for the others.
        formats = kinds.bytes().enumerate().map(|(at, _)| u16::from(at == 0)).collect();
        values[0] = Some(dice.of(&[b"\0\0\0\x02", b"\0\0\0\x07"]).to_vec());
    }
    if dice.one_in(20) {
        values.push(None);
    }
    let results = dice.of(&[vec![], vec![], vec![0], vec![1], vec![1, 0], vec![2]]);
    Bind { portal, name, formats, values, results }
}

fn any(dice: &mut Dice) -> Message {
    match dice.below(15) {
        0 => Query(dice.of(QUERIES)),
        1 | 2 => Describe(dice.of(b"SP"), dice.of(PORTALS)),
        3 => Describe(b'S', dice.of(USED)),
        4 | 5 => Execute(dice.of(PORTALS), dice.of(ROWS)),
        6 => Close(b'S', dice.of(USED)),
        7 => Close(b'P', dice.of(PORTALS)),
        8 | 9 => Sync,
        10 => Flush,
        11 => dice.of(&[CopyDone, CopyFail, CopyData(b"")]),
        12 => FunctionCall,
        13 if dice.one_in(4) => {
            let (tag, body): (u8, &[u8]) = dice.of(&[
                (b'P', &b"x"[..]),
                (b'B', b"x"),
                (b'D', b"X\0"),
                (b'D', b"S"),
                (b'E', b"\0\0"),
                (b'C', b"X\0"),
                (b'C', b""),
                (b'Q', b"no end"),
                (b'Q', b"select '\xff'\0"),
                (b'S', b"x"),
                (b'F', b"\0"),
                (b'y', b""),
            ]);
            Malformed(tag, body)
        }
        _ => {
            let (name, portal, kinds) = (dice.of(USED), dice.of(PORTALS), dice.of(&["", "i", "it"]));
            bind(dice, portal, name, kinds)
        }
    }
}
