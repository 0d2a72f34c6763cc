//! `max_rows`: rows up to it go, then the statement fails, and so does its transaction.

use super::*;
use crate::policy::rules::ClassId;

/// `ann` sees all of the small clinic, three rows at a time.
fn clinic() -> Idle {
    let mut idle = Idle::new();
    let mut rules = Rules::clone(crate::plan::tests::fixture::rules());
    rules.class_of = HashMap::from([("ann".to_owned(), ClassId(1))]);
    rules.classes[1].max_rows = Some(3);
    idle.1.rules = Arc::new(rules);
    idle
}

/// RowDescription of one column of that table.
fn description(table: u32, attnum: u8) -> Vec<u8> {
    let rest = [&table.to_be_bytes()[..], &[0, attnum], &25_u32.to_be_bytes(), &[0xff; 6], &[0, 0]].concat();
    message(b'T', &[&b"\0\x01c\0"[..], &rest].concat())
}

fn rows(count: usize) -> Vec<u8> {
    message(b'D', b"\0\x01\0\0\0\x01x").repeat(count)
}

fn done(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// What came for the client since, as tags.
fn told(idle: &mut Idle) -> String {
    let told = tags(&idle.1.to_client);
    idle.1.to_client.clear();
    told
}

/// What went to the server since.
fn sent(idle: &mut Idle) -> Vec<u8> {
    let sent = idle.1.to_server.to_vec();
    idle.1.to_server.clear();
    sent
}

type Outcomes = Vec<(Option<String>, Option<String>, u64)>;

/// SQLSTATE, code and rows of the events of statements.
fn outcomes(idle: &mut Idle) -> Outcomes {
    let outcome = |effect: Effect| match effect {
        Effect::Event(event) if event.kind == EventKind::Statement => Some((event.sqlstate, event.code, event.rows)),
        _ => None,
    };
    std::mem::take(&mut idle.1.effects).into_iter().filter_map(outcome).collect()
}

const USERS: u32 = 100;
const NOTES: u32 = 106;

#[test]
fn rows_up_to_the_limit_go_and_then_the_statement_fails() {
    for (count, expected) in [(3, "TDDDCZ"), (4, "TDDDEZ"), (40, "TDDDEZ")] {
        // In one piece, and row by row.
        for pieces in [vec![count], vec![1; count]] {
            let mut idle = clinic();
            idle.client(&[query("select note from users")]);
            idle.server(&[description(USERS, 6)]);
            pieces.into_iter().for_each(|piece| idle.server(&[rows(piece)]));
            idle.server(&[done(&format!("SELECT {count}")), ready(b'I')]);
            assert_eq!(told(&mut idle), expected);
            let failed = count > 3;
            let outcome = (failed.then(|| "54000".to_owned()), failed.then(|| "PV030".to_owned()), 3);
            assert_eq!(outcomes(&mut idle), [outcome]);
            assert!(idle.0.idle());
        }
    }
}

#[test]
fn what_is_not_protected_is_not_counted_and_code_nobody_has_read_is() {
    for (sql, table, expected) in [
        ("select body from notes", NOTES, "TDDDDDCZ"),
        ("explain select note from users", 0, "TDDDDDCZ"),
        ("show all", 0, "TDDDDDCZ"),
        ("select audit_it()", 0, "TDDDEZ"),
        ("select 1 from users", 0, "TDDDEZ"),
    ] {
        let mut idle = clinic();
        idle.client(&[query(sql)]);
        if sql.contains("audit_it") {
            idle.server(&[done("BEGIN"), ready(b'T')]);
        }
        idle.server(&[description(table, 1), rows(5), done("SELECT 5"), ready(b'I')]);
        if sql.contains("audit_it") {
            idle.server(&[done("ROLLBACK"), ready(b'I')]);
            assert_eq!(outcomes(&mut idle), [(Some("54000".into()), Some("PV030".into()), 3)]);
        }
        assert_eq!(told(&mut idle), expected, "{sql}");
    }
}

#[test]
fn each_statement_of_a_text_counts_for_itself() {
    let mut idle = clinic();
    idle.client(&[query("select note from users; select nickname from users")]);
    idle.server(&[description(USERS, 6), rows(3), done("SELECT 3"), description(USERS, 5), rows(3), done("SELECT 3")]);
    idle.server(&[ready(b'I')]);
    assert_eq!(told(&mut idle), "TDDDCTDDDCZ");
}

#[test]
fn in_a_block_the_transaction_fails() {
    let mut idle = clinic();
    idle.client(&[query("begin")]);
    idle.server(&[done("BEGIN"), ready(b'T')]);
    idle.client(&[query("insert into users (id) select 1 returning id")]);
    told(&mut idle);
    sent(&mut idle);
    idle.server(&[description(USERS, 1), rows(4), done("INSERT 0 4"), ready(b'T')]);
    assert_eq!((told(&mut idle), tags(&sent(&mut idle))), ("TDDDE".to_owned(), "PS".to_owned()));
    idle.server(&[error("42601"), ready(b'E')]);
    assert_eq!(told(&mut idle), "Z");
}

/// `insert … returning` of so many rows where the server would commit by itself; what it then answers to our COMMIT or
/// ROLLBACK.
fn inserted(count: usize, sql: &str, answer: &[Vec<u8>]) -> (String, String, Outcomes) {
    let mut idle = clinic();
    let left = idle.client(&[query(sql), query("select 1")]);
    assert_eq!(left, query("select 1"), "it waits");
    let whole = [query("begin"), query(sql)].concat();
    assert_eq!(sent(&mut idle), whole);
    idle.server(&[done("BEGIN"), ready(b'T'), description(USERS, 1), rows(count), done("INSERT 0 4")]);
    idle.server(&[ready(b'T')]);
    let ended = String::from_utf8(sent(&mut idle)).unwrap();
    assert!(!idle.0.idle() && !tags(&idle.1.to_client).ends_with('Z'));
    idle.server(answer);
    let told = told(&mut idle);
    assert!(idle.0.idle());
    (ended[5..ended.len() - 1].to_owned(), told, outcomes(&mut idle))
}

#[test]
fn what_a_simple_query_writes_is_undone_where_the_server_would_have_committed() {
    let sql = "insert into users (id) select 1 returning id";
    let (ended, told, outcome) = inserted(4, sql, &[done("ROLLBACK"), ready(b'I')]);
    assert_eq!((ended.as_str(), told.as_str()), ("rollback", "TDDDEZ"));
    assert_eq!(outcome, [(Some("54000".into()), Some("PV030".into()), 3)]);
    let (ended, told, outcome) = inserted(3, sql, &[done("COMMIT"), ready(b'I')]);
    assert_eq!((ended.as_str(), told.as_str()), ("commit", "TDDDCZ"));
    assert_eq!(outcome, [(None, None, 3)]);
    // A deferred constraint, say: PostgreSQL, too, says so in the place of CommandComplete.
    let (_, told, outcome) = inserted(3, sql, &[error("23505"), ready(b'I')]);
    assert_eq!((told.as_str(), outcome[0].0.as_deref()), ("TDDDEZ", Some("23505")));
}

#[test]
fn an_error_of_the_server_inside_ends_that_transaction_too() {
    let mut idle = clinic();
    idle.client(&[query("delete from users returning id")]);
    sent(&mut idle);
    idle.server(&[done("BEGIN"), ready(b'T'), error("42501"), ready(b'E')]);
    assert_eq!(sent(&mut idle), query("rollback"));
    idle.server(&[done("ROLLBACK"), ready(b'I')]);
    assert_eq!(told(&mut idle), "EZ");
    assert!(idle.0.idle());
}

#[test]
fn what_could_not_be_undone_is_refused_and_what_writes_or_returns_nothing_is_as_ever() {
    for sql in
        ["begin; delete from users returning id; commit", "copy notes from stdin; delete from users returning id"]
    {
        let mut idle = clinic();
        idle.client(&[query(sql)]);
        assert!(!String::from_utf8_lossy(&sent(&mut idle)).contains("delete"), "{sql}");
        idle.server(&[error("42703"), ready(b'I')]);
        assert_eq!(told(&mut idle), "EZ");
    }
    for sql in ["delete from users", "delete from notes returning id", "select id from users", "call audit_it()"] {
        let mut idle = clinic();
        idle.client(&[query(sql)]);
        assert_eq!(sent(&mut idle), query(sql));
    }
    // Without a limit nothing is.
    let mut idle = clinic();
    Arc::get_mut(&mut idle.1.rules).unwrap().classes[1].max_rows = None;
    idle.client(&[query("delete from users returning id")]);
    assert_eq!(sent(&mut idle), query("delete from users returning id"));
    idle.server(&[description(USERS, 1), rows(9), done("DELETE 9"), ready(b'I')]);
    assert_eq!(told(&mut idle), format!("T{}CZ", "D".repeat(9)));
}

fn bind_execute(portal: &str, most: u8) -> Vec<u8> {
    let bind = message(b'B', &[portal.as_bytes(), b"\0s\0\0\0\0\0\0\0"].concat());
    [bind, execute(portal, most)].concat()
}

fn execute(portal: &str, most: u8) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, most]].concat())
}

#[test]
fn a_portal_counts_over_all_its_executes() {
    let mut idle = clinic();
    idle.client(&[query("begin")]);
    idle.server(&[done("BEGIN"), ready(b'T')]);
    idle.client(&[parse("s", "select note from users"), message(b'S', b"")]);
    idle.server(&[message(b'1', b""), message(b't', &[0, 0]), description(USERS, 6), ready(b'T')]);
    idle.client(&[bind_execute("p", 2), message(b'S', b"")]);
    told(&mut idle);
    idle.server(&[message(b'2', b""), rows(2), message(b's', b""), ready(b'T')]);
    assert_eq!(told(&mut idle), "2DDsZ");
    idle.client(&[execute("p", 2), message(b'S', b"")]);
    sent(&mut idle);
    idle.server(&[rows(2), message(b's', b""), ready(b'T')]);
    assert_eq!((told(&mut idle), tags(&sent(&mut idle))), ("DE".to_owned(), "PS".to_owned()));
    let rows = outcomes(&mut idle).into_iter().map(|(_, code, rows)| (code.is_some(), rows)).collect::<Vec<_>>();
    assert_eq!(rows, [(false, 2), (true, 1)]);
}

#[test]
fn the_commit_of_a_pipeline_that_writes_waits_for_its_rows() {
    let mut idle = clinic();
    idle.client(&[parse("s", "delete from users returning id"), bind_execute("", 0), message(b'S', b"")]);
    assert_eq!(tags(&sent(&mut idle)), "PDBEH");
    idle.server(&[message(b'1', b""), message(b't', &[0, 0]), description(USERS, 1), message(b'2', b"")]);
    idle.server(&[rows(4), done("DELETE 4")]);
    assert_eq!((told(&mut idle), tags(&sent(&mut idle))), ("12DDDE".to_owned(), "PS".to_owned()));
    idle.server(&[error("42601"), ready(b'I')]);
    assert_eq!(told(&mut idle), "Z");
}

/// What each of these FETCHes of so many rows of `table` is told.
fn fetched(declare: &str, between: &str, table: u32, counts: &[usize]) -> String {
    let mut idle = clinic();
    idle.client(&[query("begin")]);
    idle.server(&[done("BEGIN"), ready(b'T')]);
    idle.client(&[query(declare)]);
    idle.server(&[done("DECLARE CURSOR"), ready(b'T')]);
    if !between.is_empty() {
        idle.client(&[query(between)]);
        let tag = if between.starts_with("do") { "DO" } else { "CLOSE CURSOR ALL" };
        idle.server(&[done(tag), ready(b'T')]);
        if between.starts_with("do") {
            idle.server(&probe_answer()[..12]);
            idle.server(&[ready(b'T')]);
        }
    }
    told(&mut idle);
    for count in counts {
        idle.client(&[query("fetch 10 from c")]);
        idle.server(&[description(table, 6), rows(*count), done("FETCH 3"), ready(b'T')]);
        if idle.1.to_client.last() != Some(&b'T') {
            break;
        }
    }
    told(&mut idle)
}

#[test]
fn a_cursor_counts_over_all_its_fetches() {
    assert_eq!(fetched("declare c cursor for select note from users", "", USERS, &[2, 1, 1]), "TDDCZTDCZTE");
    assert_eq!(fetched("declare c cursor for select upper(note) from users", "", 0, &[2, 2]), "TDDCZTDE");
    assert_eq!(fetched("declare c cursor for select body from notes", "", NOTES, &[4, 4]), "TDDDDCZTDDDDCZ");
    // Not one that we saw being declared: each FETCH for itself.
    assert_eq!(fetched("select 1", "", 0, &[3, 3, 4]), "TDDDCZTDDDCZTDDDE");
    // What looks like a table of the policy is one; and a block may have put another cursor in its place.
    assert_eq!(fetched("declare c cursor for select body from notes", "", USERS, &[4]), "TDDDE");
    assert_eq!(fetched("declare c cursor for select body from notes", "do $$ begin end $$", 0, &[4]), "TDDDE");
    assert_eq!(fetched("declare c cursor for select body from notes", "close all", NOTES, &[4]), "TDDDE");
}

#[test]
fn copy_counts_its_rows() {
    let line = |text: &str| message(b'd', text.as_bytes());
    let began = |columns: &[u8]| message(b'H', &[&[0, 0][..], columns].concat());
    let copied = |sql: &str, lines: Vec<Vec<u8>>, columns: u8| {
        let mut idle = clinic();
        idle.client(&[query(sql)]);
        if sql.contains("audit_it") {
            idle.server(&[done("BEGIN"), ready(b'T')]);
        }
        let formats = [&[columns][..], &vec![0; usize::from(columns) * 2]].concat();
        idle.server(&[began(&formats), lines.concat(), message(b'c', b""), done("COPY 4"), ready(b'I')]);
        (told(&mut idle), outcomes(&mut idle))
    };
    let (told, events) = copied("copy (select note from users) to stdout", vec![line("x\n"); 4], 1);
    assert_eq!((told.as_str(), events[0].2), ("HdddEZ", 3));
    assert_eq!(events[0].1.as_deref(), Some("PV030"));
    let header = [line("note\n"), line("x\n"), line("x\n"), line("x\n")].to_vec();
    assert_eq!(copied("copy (select note from users) to stdout (format csv, header)", header, 1).0, "HddddcCZ");
    assert_eq!(copied("copy (select body from notes) to stdout", vec![line("x\n"); 9], 1).0, "HdddddddddcCZ");
    assert_eq!(copied("copy (select audit_it(body) from notes) to stdout", vec![line("x\n"); 4], 1).0, "HdddE");
}
