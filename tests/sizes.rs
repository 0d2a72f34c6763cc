//! Sizes at and beyond every limit: what PostgreSQL answers, or a clean error where a limit is ours; the process lives
//! on, in bounded memory.

use std::fmt::Write as _;

use crate::support::{MIB, Memory, Pair, Site, Wire, ask, extended, query};

const SCHEMA: &str =
    "create table people (id int primary key, email varchar(80), name text, amount numeric, note text);
    create table plain (id int, note text)";

const POLICY: &str = "version = 1
[tables.\"public.people\"]
subject = { kind = \"person\", key = \"id\" }
[tables.\"public.people\".columns]
id = { level = \"internal\" }
email = { level = \"restricted\", as = \"varchar(80)\", encrypt = \"deterministic\", mask = \"email\" }
name = { level = \"restricted\", as = \"text\", encrypt = \"randomized\", mask = \"name\" }
amount = { level = \"restricted\", as = \"numeric\", encrypt = \"randomized\", mask = \"null\" }
note = { level = \"internal\" }
[roles.app]
clearance = \"restricted\"
[roles.analyst]
clearance = \"internal\"
[detect]
exempt = [\"app\", \"analyst\"]
";

fn pair(name: &str) -> Pair {
    let pair = Pair::start(Site::new(name).policy(POLICY), SCHEMA);
    let rows =
        "insert into people values (1, 'kanarie1@example.org', 'kanarie one', 1.5, 'n'), (2, 'x', 'kanarie', 2, 'm')";
    for mut wire in pair.wires() {
        assert_eq!(ask(&mut wire, &query(rows), 1).errors, [""; 0]);
    }
    pair
}

/// One question and who answers it how.
struct Case {
    name: String,
    bytes: Vec<u8>,
    readies: usize,
    /// SQLSTATEs that are our own limits'.
    ours: &'static [&'static str],
    /// Most memory while it is answered.
    peak: u64,
}

fn case(name: impl Into<String>, bytes: Vec<u8>, ours: &'static [&'static str], peak: u64) -> Case {
    Case { name: name.into(), bytes, readies: 1, ours, peak }
}

/// The same answers as the twin's, or our limit; then the same session and process answer what comes next.
fn hold(pair: &Pair, cases: Vec<Case>) {
    let pid = pair.site.process_id();
    let [mut veiled, mut direct] = pair.wires();
    let mut wrong = Vec::new();
    for case in cases {
        let memory = Memory::watch(&pair.site);
        let ours = ask(&mut veiled, &case.bytes, case.readies);
        let theirs = ask(&mut direct, &case.bytes, case.readies);
        let limited = !ours.errors.is_empty() && ours.errors.iter().all(|state| case.ours.contains(&state.as_str()));
        if ours != theirs && !limited {
            wrong.push(format!("{}:\n    PostgreSQL {theirs:?}\n    pgveil     {ours:?}", case.name));
        }
        memory.within(case.peak, &case.name);
        for wire in [&mut veiled, &mut direct] {
            assert_eq!(ask(wire, &query("select 1"), 1).tags, "TDCZ", "after {}", case.name);
        }
    }
    assert_eq!(pair.site.process_id(), pid);
    assert!(wrong.is_empty(), "{} cases are answered differently:\n  {}", wrong.len(), wrong.join("\n  "));
}

/// `$1,$2,…`
fn parameters(count: usize) -> String {
    (1..=count).fold(String::new(), |mut list, n| {
        let _ = write!(list, "{}${n}", if n > 1 { "," } else { "" });
        list
    })
}

#[test]
fn parameters_up_to_the_last_number() {
    const MOST: usize = 65_535;
    let pair = pair("parameters");
    let list = parameters(MOST);
    let words: Vec<String> = (0..MOST).map(|n| format!("word{n}")).collect();
    let values: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let array = format!("select cardinality(array[{list}]::text[])");
    let sealed = format!("select id, name from people where email in ({list}) or note = 'n'");
    let twice = format!("insert into people (id, email, note) select 3, $1, $1 where 'x' not in ({list}) and false");
    let beyond = "select $65536::text";
    hold(
        &pair,
        vec![
            case("65,535 parameters", extended(&array, &values), &[], 256 * MIB),
            case("65,535 sealed parameters", extended(&sealed, &values), &[], 512 * MIB),
            case("65,535 parameters, one of them twice", extended(&twice, &values), &["54000"], 512 * MIB),
            case("65,534 values for 65,535 parameters", extended(&sealed, &values[1..]), &[], 512 * MIB),
            case("parameter 65,536", extended(beyond, &values), &["54000"], 256 * MIB),
            case(
                "parameter 65,536 beside a sealed column",
                extended(&format!("{beyond} from people"), &values),
                &["54000"],
                256 * MIB,
            ),
            case("parameter 4,294,967,297", extended("select $4294967297::text", &values[..1]), &["54000"], 256 * MIB),
        ],
    );
}

#[test]
fn a_hundred_thousand_elements() {
    const MANY: usize = 100_000;
    let pair = pair("elements");
    let numbers: Vec<String> = (0..MANY).map(|n| n.to_string()).collect();
    let words: Vec<String> = (0..MANY).map(|n| format!("'kanarie{n}@example.org'")).collect();
    let (numbers, list) = (numbers.join(","), words.join(","));
    let array = format!("{{{}}}", list.replace('\'', ""));
    let sealed = format!("select id, name from people where email in ({list})");
    let any = format!("select id, name from people where email = any('{array}')");
    let rows: Vec<String> = (10..20_010).map(|n| format!("({n},'kanarie{n}@e.org')")).collect();
    let insert = format!("insert into people (id, email) values {}", rows.join(","));
    hold(
        &pair,
        vec![
            case("a list", query(&format!("select 5 in ({numbers})")), &[], 256 * MIB),
            case("a sealed list", query(&sealed), &[], 1024 * MIB),
            case("a sealed list, prepared", extended(&sealed, &[]), &[], 1024 * MIB),
            case("a sealed array", query(&any), &[], 512 * MIB),
            case(
                "a sealed array as parameter",
                extended("select id, name from people where email = any($1)", &[array.as_bytes()]),
                &[],
                512 * MIB,
            ),
            case("20,000 rows", query(&insert), &[], 512 * MIB),
            case("all of them", query("select email, name from people order by id"), &[], 256 * MIB),
            case("… in one array", query("select array_agg(email order by id) from people"), &[], 256 * MIB),
            case(
                "a list of nothing known",
                query(&format!("select id from people where note in ({})", list.replace("kanarie", "ente"))),
                &[],
                1024 * MIB,
            ),
        ],
    );
}

/// Expressions as deep as their text is long.
fn depths() -> Vec<(&'static str, String)> {
    const DEEP: usize = 50_000;
    let around = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    vec![
        ("additions", format!("1{}", "+1".repeat(DEEP))),
        ("concatenations", format!("'a'{}", "||'a'".repeat(DEEP))),
        ("ands", format!("true{}", " and true".repeat(DEEP))),
        ("ors of comparisons", format!("1=1{}", " or 1=1".repeat(DEEP / 4))),
        ("minuses", format!("{}1", "- ".repeat(DEEP))),
        ("nots", format!("{}true", "not ".repeat(DEEP))),
        ("powers", format!("1{}", "^1".repeat(DEEP))),
        ("casts", format!("1{}", "::int".repeat(DEEP))),
        ("casts by CAST", around("cast(", "1", " as int)", 10_000)),
        ("parentheses", around("(", "1", ")", DEEP)),
        ("CASE in CASE", around("case when true then ", "1", " end", 10_000)),
        ("CASE in its condition", around("case when ", "true", " then true end", 10_000)),
        ("branches of CASE", format!("case{} end", " when false then 1".repeat(20_000))),
        ("functions", around("abs(", "1", ")", 10_000)),
        ("COALESCE", around("coalesce(", "1", ",2)", 10_000)),
        ("subselects", around("(select ", "1", ")", 5_000)),
        ("EXISTS", around("exists(select where ", "true", ")", 5_000)),
        ("arrays", around("array[", "1", "]", 10_000)),
        ("subscripts", format!("('{{}}'::int[]){}", "[1]".repeat(DEEP))),
        ("rows", around("row(", "1", ")", 10_000)),
        ("IS NULL", format!("1{}", " is null".repeat(DEEP))),
        ("collations", format!("'a'{}", " collate \"C\"".repeat(20_000))),
        ("time zones", format!("now(){}", " at time zone 'UTC'".repeat(10_000))),
        ("fields", format!("(1){}", ".a".repeat(DEEP))),
        ("BETWEEN", around("1 between ", "1", " and 2", 10_000)),
        ("types", format!("1::{}", "_".repeat(20_000))),
        ("comments", format!("1 {}", around("/*", "", "*/", 5_000))),
        ("brackets left open", "(".repeat(DEEP)),
        ("CASE left open", "case when ".repeat(10_000)),
    ]
}

/// Whole statements of that kind.
fn chains() -> Vec<(&'static str, String)> {
    let ctes = (0..5_000).fold(String::new(), |mut list, n| {
        let _ = write!(list, ", c{n} as (select 1)");
        list
    });
    vec![
        ("unions", format!("select 1{}", " union all select 1".repeat(10_000))),
        ("unions in parentheses", format!("{}select 1{}", "(".repeat(5_000), " union select 2)".repeat(5_000))),
        ("joins", format!("select 1 from plain{}", " cross join plain p".repeat(5_000))),
        (
            "joins in parentheses",
            format!("select 1 from {}plain{}", "(".repeat(5_000), " natural join plain)".repeat(5_000)),
        ),
        ("derived tables", format!("{}select 1{}", "select 1 from (".repeat(5_000), ") s".repeat(5_000))),
        ("common table expressions", format!("with c as (select 1){ctes} select 1")),
        (
            "common table expressions in each other",
            format!("{}select 1{}", "with c as (".repeat(3_000), ") select 1".repeat(3_000)),
        ),
        ("statements", "select 1;".repeat(3_000)),
        ("EXPLAIN of EXPLAIN", format!("{}select 1", "explain ".repeat(20_000))),
        ("PREPARE of PREPARE", format!("{}select 1", "prepare p as ".repeat(10_000))),
        ("semicolons", ";".repeat(100_000)),
        ("assignments to elements", format!("update plain set id[1] = 2{}", ", id[1] = 2".repeat(20_000))),
        ("inferences", format!("insert into plain values (1) {}", "on conflict (lower(name)) ".repeat(20_000))),
    ]
}

/// The twin's own depth limit is the stack's (54001); ours comes earlier where a statement has to be read.
#[test]
fn depth_overflows_no_stack() {
    let pair = pair("depth");
    let site = &pair.site;
    let pid = site.process_id();
    // Where nothing is read it is PostgreSQL that answers.
    let plain = depths().into_iter().map(|(name, text)| case(name, query(&format!("select {text}")), &[], 512 * MIB));
    let chained = chains().into_iter().map(|(name, text)| {
        let mut case = case(name, query(&text), &[], 512 * MIB);
        case.readies = 1;
        case
    });
    hold(&pair, plain.chain(chained).collect());
    // Beside a sealed column, and for a role whose every statement is read, it is pgveil.
    for (role, to) in [("app", " from people"), ("analyst", "")] {
        let mut wire = Wire::login(site.port(), role, &site.database);
        let both = depths().into_iter().map(|(name, text)| (name, format!("select {text}{to}")));
        let chains = chains().into_iter().map(|(name, text)| (name, format!("{text}{to}")));
        for (name, text) in both.chain(chains) {
            for message in [query(&text), extended(&text, &[])] {
                let memory = Memory::watch(site);
                let said = ask(&mut wire, &message, 1);
                let clean = |state: &String| {
                    [
                        "0A000", "54000", "54001", "42601", "42P01", "42703", "42501", "42804", "42883", "42712",
                        "42809", "42704", "0AV01",
                    ]
                    .contains(&state.as_str())
                };
                assert!(said.tags.ends_with('Z') && said.errors.iter().all(clean), "{role}: {name}: {said:?}");
                memory.within(768 * MIB, name);
            }
        }
        assert_eq!(ask(&mut wire, &query("select 1"), 1).tags, "TDCZ", "{role}");
    }
    assert_eq!(site.process_id(), pid);
}

/// 131,001 digits out of a cell of a hundred bytes, and a thousand times that out of an array of such cells.
#[test]
fn a_row_that_grows_when_it_is_opened_has_a_limit() {
    let pair = pair("growth");
    let grown = "insert into people (id, amount) select 9, 1e131000";
    let shown = "select amount from people where id = 9";
    hold(&pair, vec![case("stored", query(grown), &[], 64 * MIB), case("shown", query(shown), &[], 64 * MIB)]);
    let site = Site::new("grown").policy(POLICY).schema(SCHEMA).config("[limits]\nmessage_bytes = 65536\n").start();
    let mut wire = Wire::login(site.port(), "app", &site.database);
    assert_eq!(ask(&mut wire, &query(grown), 1).tags, "CZ");
    let many = "select array_agg(amount) from people, generate_series(1, 200)";
    for sql in [shown, many, "copy people (id, amount) to stdout", "select id, amount from people; select 2"] {
        for message in [query(sql), extended(sql, &[])] {
            let memory = Memory::watch(&site);
            let said = ask(&mut wire, &message, 1);
            let refused =
                said.errors.iter().all(|state| state == "54000" || state == "42601") && !said.errors.is_empty();
            assert!(refused && !said.tags.contains('d'), "{sql}: {said:?}");
            memory.within(64 * MIB, sql);
        }
    }
    assert_eq!(ask(&mut wire, &query("select amount is null from people"), 1).tags, "TDCZ");
    // What the server itself says at such length is no message for us, and the client is told so.
    let said = ask(&mut wire, &query("select repeat('x', 70000)"), 1);
    assert_eq!((said.tags.as_str(), said.errors.as_slice()), ("TE.", &["54000".to_owned()][..]));
}
