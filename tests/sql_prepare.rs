//! SQL's PREPARE beside the protocol's statements: bound, described and dropped by name, they answer as those of an
//! unsealed twin, message by message.

use crate::scenario::{site, twin};
use crate::support::{Wire, frame, server_log, shown, twins};

fn describe(name: &str) -> Vec<u8> {
    frame(b'D', &[b"S", name.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Bind with text parameters to the unnamed portal, results in that format.
fn bind(name: &str, parameters: &[&str], format: u8) -> Vec<u8> {
    let mut body = [b"\0", name.as_bytes(), b"\0\0\0"].concat();
    body.extend_from_slice(&u16::try_from(parameters.len()).unwrap().to_be_bytes());
    for parameter in parameters {
        body.extend_from_slice(&u32::try_from(parameter.len()).unwrap().to_be_bytes());
        body.extend_from_slice(parameter.as_bytes());
    }
    body.extend_from_slice(&[0, 1, 0, format]);
    frame(b'B', &body)
}

fn run() -> Vec<u8> {
    frame(b'E', &[0, 0, 0, 0, 0])
}

fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn answers(wire: &mut Wire, step: &[u8]) -> String {
    wire.send(step);
    wire.until_ready().iter().map(shown).collect::<Vec<_>>().join("\n    ")
}

#[test]
fn statements_made_by_sql_are_bound_and_described_as_the_plan_of_their_text_says() {
    let site = site("sql_prepare");
    let url = twin();
    let database = url.rsplit('/').next().unwrap();
    let mut app = Wire::login(site.port(), "app", &site.database);
    let mut direct = Wire::login(twins().port(), "app", database);
    let insert = "insert into people (id, email, name, born) values (1, 'a@kanarie', 'kanarie one', '1999-02-28'), (2, 'b@kanarie', null, null)";
    let first =
        "prepare p as select id, email, name, born from people where id = $1 or email = 'b@kanarie' order by id";
    let script: Vec<Vec<u8>> = vec![
        query(insert),
        query(first),
        [describe("p"), sync()].concat(),
        [bind("p", &["1"], 0), run(), sync()].concat(),
        [bind("p", &["1"], 1), frame(b'D', b"P\0"), run(), sync()].concat(),
        query("execute p(1)"),
        query("prepare q (int) as select email, coalesce(name, 'none') as name from people where id = $1"),
        // Not described by anybody before its rows come.
        [bind("q", &["2"], 0), run(), bind("q", &["1"], 1), run(), sync()].concat(),
        // The same name means another statement, prepared by the protocol, and then by SQL again.
        query("deallocate p"),
        [bind("p", &["1"], 0), run(), sync()].concat(),
        [parse("p", "select born from people where id = $1"), describe("p"), bind("p", &["1"], 0), run(), sync()]
            .concat(),
        query("prepare p as select 1"),
        query("deallocate prepare p"),
        query("prepare p as select name, id from people where id = $1"),
        [describe("p"), bind("p", &["1"], 0), run(), sync()].concat(),
        // A rolled back transaction keeps it; an error in the text makes none.
        query("begin"),
        query("prepare r as update people set name = 'kanarie two' where id = $1 returning name, email"),
        query("rollback"),
        [describe("r"), bind("r", &["2"], 0), run(), sync()].concat(),
        query("prepare s as select no_such_column from people"),
        [bind("s", &[], 0), run(), sync()].concat(),
        // By the extended protocol, and dropped by name, by Close and altogether.
        [parse("", "prepare t as select email from people where id = $1"), bind("", &[], 0), run(), sync()].concat(),
        [describe("t"), bind("t", &["1"], 1), run(), sync()].concat(),
        [frame(b'C', b"St\0"), bind("t", &["1"], 0), run(), sync()].concat(),
        query(
            "prepare \"T x\" as select id from orders; prepare u as select email from people where id = 1; deallocate u",
        ),
        [describe("T x"), describe("u"), sync()].concat(),
        query("deallocate all"),
        [describe("p"), sync()].concat(),
        [parse("p", "select email from people where id = $1"), sync()].concat(),
        query("discard all"),
        query("prepare p as select id, name from people where id = $1"),
        [bind("p", &["1"], 0), run(), sync()].concat(),
    ];
    let mut differing = String::new();
    for (number, step) in script.iter().enumerate() {
        let (ours, theirs) = (answers(&mut app, step), answers(&mut direct, step));
        if ours != theirs {
            differing += &format!("step {number}\n  pgveil:\n    {ours}\n  PostgreSQL:\n    {theirs}\n");
        }
    }
    assert!(differing.is_empty(), "{differing}");
    // What cannot be sealed by EXECUTE is still refused by name, and leaves no statement behind.
    let refused = answers(&mut app, &query("prepare v as select id from people where email = $1"));
    assert!(refused.starts_with("E 0A000"), "{refused}");
    let unknown = answers(&mut app, &[bind("v", &["x"], 0), sync()].concat());
    assert!(unknown.starts_with("E 26000"), "{unknown}");
    // So is EXECUTE of a statement that the protocol has prepared, wherever it may stand.
    answers(&mut app, &[parse("w", "select id from people where email = $1"), sync()].concat());
    for before in
        ["", "explain ", "explain (analyze, costs off) ", "create table made as ", "explain create table made as "]
    {
        let refused = answers(&mut app, &query(&format!("{before}execute w('execute@kanarie')")));
        assert!(refused.starts_with("E 0A000"), "{before}: {refused}");
    }
    assert!(!server_log(&site.database).contains("execute@kanarie"));
}
