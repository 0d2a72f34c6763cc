//! Names longer than PostgreSQL keeps: whatever is cut there is cut here, at the same byte; and more names than a
//! session may have.

use std::fmt::Write as _;

use crate::support::{
    CANARY, Frame, MIB, Memory, PASSWORD, Pair, Said, Site, Wire, ask, bind, frame, parse, query, run, startup, sync,
};

const LONG: usize = 63;

/// Two tables whose names are as long as names can be, one of them ending in a character of two bytes; the columns too.
fn table(last: &str) -> String {
    format!("{}{last}", "t".repeat(LONG - last.len()))
}

fn column(last: &str) -> String {
    format!("{}{last}", "c".repeat(LONG - last.len()))
}

/// What a longer spelling of the name may go on with.
const BEYOND: [&str; 4] = ["x", "é", "_the_rest_of_a_very_long_name", "\u{1f600}"];

fn pair() -> Pair {
    let (mut schema, mut policy) = (String::new(), "version = 1\n".to_owned());
    for last in ["t", "é"] {
        let (table, column) = (table(last), column(last));
        let _ = write!(schema, "create table \"{table}\" (id int primary key, \"{column}\" varchar(80));");
        let _ = write!(
            policy,
            "[tables.\"public.{table}\"]\nsubject = {{ kind = \"person\", key = \"id\" }}\n[tables.\"public.{table}\".columns]\n\
             id = {{ level = \"internal\" }}\n\"{column}\" = {{ level = \"restricted\", as = \"varchar(80)\", encrypt = \"deterministic\", mask = \"null\" }}\n"
        );
    }
    policy.push_str("[roles.app]\nclearance = \"restricted\"\n[roles.analyst]\nclearance = \"internal\"\n");
    Pair::start(Site::new("names").policy(&policy), &schema)
}

fn alike(wires: &mut [Wire; 2], what: &str, message: &[u8], readies: usize) -> Said {
    let [ours, theirs] = wires;
    let (ours, theirs) = (ask(ours, message, readies), ask(theirs, message, readies));
    assert_eq!(ours, theirs, "{what}");
    ours
}

#[test]
fn a_protected_name_is_known_in_every_spelling_that_is_cut_to_it() {
    let pair = pair();
    let mut wires = pair.wires();
    for last in ["t", "é"] {
        let (table, column) = (table(last), column(last));
        let mut id = 0;
        for beyond in BEYOND {
            let (t, c) = (format!("{table}{beyond}"), format!("{column}{beyond}"));
            let upper = |name: &str| name.to_ascii_uppercase();
            let escaped = |name: &str| {
                let units = name.chars().map(|c| format!("\\+{:06x}", u32::from(c)));
                format!("U&\"{}\"", units.collect::<String>())
            };
            let spellings = [
                (format!("\"{t}\""), format!("\"{c}\"")),
                (t.clone(), upper(&c)),
                (upper(&t), c.clone()),
                (escaped(&t), escaped(&c)),
            ];
            for (t, c) in spellings {
                id += 1;
                let value = format!("{CANARY} {last}{id}");
                let insert = format!("insert into {t} (id, {c}) values ({id}, '{value}') returning {c}");
                assert_eq!(alike(&mut wires, &insert, &query(&insert), 1).errors, [""; 0], "{insert}");
                for select in [
                    format!("select {c} from {t} where {c} = '{value}'"),
                    format!("select x.{c}, x.id from public.{t} x order by 2"),
                    format!("select {t}.{c} from {t} order by id"),
                    format!("with {c} as (select * from {t}) select * from {c} order by id"),
                    format!("select {}.{c} from {t} as {}_and_more", "a".repeat(LONG), "a".repeat(LONG)),
                    format!("copy {t} (id, {c}) to stdout"),
                ] {
                    let said = alike(&mut wires, &select, &query(&select), 1);
                    assert_eq!(said.errors, [""; 0], "{select}");
                }
            }
        }
        // One byte less is another name, and so is what PostgreSQL cuts elsewhere.
        let other = &table[..table.len() - last.len()];
        assert_eq!(
            alike(&mut wires, "a shorter name", &query(&format!("select 1 from \"{other}\"")), 1).errors,
            ["42P01"]
        );
        let stored = pair
            .site
            .sql(&format!("select count(*) from \"{table}\" where substr(\"{column}\"::bytea, 1, 2) = '\\xfed1'"));
        assert_eq!(stored, id.to_string(), "every value is sealed");
    }
    let mut analyst = Wire::login(pair.site.port(), "analyst", &pair.site.database);
    let masked = format!("select \"{}\" from \"{}\"", column("t") + "z", table("t") + "z");
    analyst.send(&query(&masked));
    let rows: Vec<Frame> = analyst.until_ready().into_iter().filter(|frame| frame.tag == b'D').collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.body == [0, 1, 0xff, 0xff, 0xff, 0xff]), "{rows:?}");
}

/// PostgreSQL compares the first 63 bytes of the names of statements and portals, wherever a character ends.
#[test]
fn statements_and_portals_are_known_by_their_first_63_bytes() {
    let pair = pair();
    let mut wires = pair.wires();
    let (table, column) = (table("t"), column("t"));
    for stem in ["s".repeat(LONG), format!("{}é", "s".repeat(LONG - 1))] {
        let name = |end: &str| [stem.as_bytes(), end.as_bytes()].concat();
        let insert = format!("insert into {table} (id, {column}) values ($1, $2)");
        let value = format!("{CANARY} named");
        let id = if stem.is_ascii() { &b"1"[..] } else { b"2" };
        let steps: [(&str, Vec<u8>); 7] = [
            ("prepared", [parse(&name("one"), insert.as_bytes()), sync()].concat()),
            ("prepared again", [parse(&name("two"), b"select 1"), sync()].concat()),
            ("run by another end", [bind(b"", &name("three"), &[id, value.as_bytes()]), run(b""), sync()].concat()),
            ("described by another end", [frame(b'D', &[b"S", &name("four")[..], b"\0"].concat()), sync()].concat()),
            ("closed by another end", [frame(b'C', &[b"S", &name("five")[..], b"\0"].concat()), sync()].concat()),
            ("run after that", [bind(b"", &name("one"), &[id, value.as_bytes()]), run(b""), sync()].concat()),
            (
                "prepared as something else",
                [parse(&name("six"), b"select 6"), bind(b"", &name("one"), &[]), run(b""), sync()].concat(),
            ),
        ];
        for (what, message) in steps {
            alike(&mut wires, what, &message, 1);
        }
        let select = format!("select {column} from {table} order by id");
        let portals: [(&str, Vec<u8>); 3] = [
            ("a portal", [parse(b"", select.as_bytes()), bind(&name("p"), b"", &[]), run(&name("q")), sync()].concat()),
            (
                "a portal twice",
                [parse(b"", select.as_bytes()), bind(&name("p"), b"", &[]), bind(&name("q"), b"", &[]), sync()]
                    .concat(),
            ),
            (
                "a portal closed by another end",
                [
                    parse(b"", select.as_bytes()),
                    bind(&name("p"), b"", &[]),
                    frame(b'C', &[b"P", &name("r")[..], b"\0"].concat()),
                    run(&name("p")),
                    sync(),
                ]
                .concat(),
            ),
        ];
        for (what, message) in portals {
            alike(&mut wires, what, &message, 1);
        }
        let cursor = format!("begin; declare \"{stem}\" cursor for {select}");
        alike(&mut wires, "a cursor", &query(&cursor), 1);
        alike(&mut wires, "a cursor by another end", &[run(&name("c")), sync()].concat(), 1);
        alike(&mut wires, "its end", &query("rollback"), 1);
        alike(&mut wires, "PREPARE", &query(&format!("prepare \"{stem}\" as {select}")), 1);
    }
    let sealed =
        pair.site.sql(&format!("select count(*) from {table} where substr({column}::bytea, 1, 2) = '\\xfed1'"));
    assert_eq!(sealed, "2");
}

/// Logins too: a longer name is that of the role and database it is cut to.
#[test]
fn roles_and_databases_are_cut_at_login() {
    let (role, database) = ("r".repeat(LONG), "d".repeat(LONG));
    let site = Site::new("cut").passthrough(&database).start();
    site.sql(&format!("create role {role} login password '{PASSWORD}'"));
    site.sql(&format!("create database {database} owner {role}"));
    for (role, database) in [
        (role.clone(), site.database.clone()),
        (format!("{role}s"), format!("{database}e")),
        (format!("{role}é"), format!("{database}{database}")),
    ] {
        let mut wire = Wire::login(site.port(), &role, &database);
        assert_eq!(ask(&mut wire, &query("select 1"), 1).tags, "TDCZ");
    }
    let logins: Vec<String> =
        site.events().iter().filter(|e| e["kind"] == "login").map(|e| e["actor"]["role"].to_string()).collect();
    assert!(logins.iter().all(|name| *name == format!("{role:?}")), "{logins:?}");
    let mut wire = Wire::open(site.port());
    wire.send(&startup(&[("user", &role[..LONG - 1]), ("database", &site.database)]));
    assert_eq!(wire.frame().map(|frame| frame.tag), Some(b'R'));
    site.sql(&format!("drop database {database} with (force)"));
}

#[test]
fn huge_names_are_kept_short_and_too_many_are_refused() {
    let site = Site::new("many").config("[limits]\nprepared_statements = 2000\n").start();
    let mut wire = Wire::login(site.port(), "app", &site.database);
    let memory = Memory::watch(&site);
    let huge = vec![b'n'; 4 << 20];
    for n in 0..20_u8 {
        let mut name = vec![b'a' + n];
        name.extend_from_slice(&huge);
        // The server takes 10,000 bytes of Describe and Execute (`PQ_SMALL_MESSAGE_LIMIT`).
        let portal = &name[..9_000];
        let message = [parse(&name, b"select 1"), bind(portal, &name, &[]), run(portal), sync()].concat();
        assert_eq!(ask(&mut wire, &message, 1).tags, "12TDCZ");
    }
    assert_eq!(
        ask(&mut wire, &[bind(b"", &[&b"b"[..], &[b'n'; 62]].concat(), &[]), run(b""), sync()].concat(), 1).tags,
        "2TDCZ"
    );
    // A hundred thousand, of which the limit allows some: each of the others is told, and costs nothing.
    for batch in 0..100 {
        let message: Vec<u8> =
            (0..1000).flat_map(|n| [parse(format!("s{batch}_{n}").as_bytes(), b"select 1"), sync()].concat()).collect();
        let said = ask(&mut wire, &message, 1000);
        let refused = said.errors.iter().filter(|state| *state == "54000").count();
        assert_eq!(refused, said.errors.len());
        let allowed = if batch == 0 {
            1000
        } else if batch == 1 {
            980
        } else {
            0
        };
        assert_eq!(refused, 1000 - allowed, "batch {batch}");
    }
    // What has no name takes no place.
    assert_eq!(
        ask(&mut wire, &[parse(b"", b"select 7"), bind(b"", b"", &[]), run(b""), sync()].concat(), 1).tags,
        "12TDCZ"
    );
    assert_eq!(ask(&mut wire, &query("deallocate all"), 1).tags, "CZ");
    assert_eq!(ask(&mut wire, &[parse(b"s", b"select 7"), sync()].concat(), 1).tags, "1Z");
    memory.within(256 * MIB, "names");
}
