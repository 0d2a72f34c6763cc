//! `pgveil doctor`: a clean site has no hole; each damage is found by name, and gone after what it prints is done.

use std::process::Command;

use serde_json::Value;

use crate::support::{CANARY, Site};

/// In every value of a plaintext column above clearance. (The server's log may hold it, unlike [`CANARY`].)
const PLAIN: &str = "parkiet";

const POLICY: &str = r#"
version = 1
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
nick = { level = "confidential", mask = "partial:1:0" }
note = { level = "restricted", encrypt = "randomized", as = "text" }
born = { level = "internal" }
gone = { level = "confidential", mask = "remove" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
accept_leakage = ["existence"]
[roles.analyst.rows]
"public.people" = "born > '1950-01-01'"
[roles.support]
clearance = "internal"
above = "null"
"#;

const SCHEMA: &str = "
create table people (id int primary key, email varchar(80) unique, nick varchar(40), note text, born date, gone text);
create table open (id int primary key, word text);
";

/// With three people, and no stranger.
async fn site(name: &str) -> Site {
    let mut site = Site::new(name).schema(SCHEMA).policy(POLICY).prepare();
    site.sql("revoke all on people from trusty");
    site.pgveil_ok(&["apply", "--lenses"]);
    site.serve();
    let app = site.client("app").await;
    for (id, name, born) in [(1, "ann", "1980-02-03"), (2, "bob", "1990-04-05"), (3, "old", "1940-01-01")] {
        let insert = format!(
            "insert into people values ({id}, '{name}.{CANARY}@example.org', '{name}-{PLAIN}', '{CANARY}', '{born}', '{PLAIN}')"
        );
        app.batch_execute(&insert).await.unwrap();
    }
    site.terminate();
    site
}

/// Exit code and report; nobody's data is in it, in either form.
fn doctor(site: &Site, args: &[&str]) -> (i32, Value) {
    let output = site.pgveil(&[&["doctor", "--json"], args].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = [&*said, &*String::from_utf8_lossy(&output.stderr)].concat();
    assert!(!all.contains(CANARY) && !all.contains(PLAIN) && !all.contains("example.org"), "{all}");
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {all}"));
    let code = output.status.code().unwrap();
    let holes = report["checks"].as_array().unwrap().iter().filter(|check| check["severity"] == "hole").count();
    assert_eq!(report["holes"], holes, "{report}");
    assert_eq!((report["ok"] == true, code), (holes == 0, i32::from(holes > 0)), "{report}");
    (code, report)
}

/// The checks of that name that are not fine.
fn wrong(report: &Value, name: &str, severity: &str) -> Vec<Value> {
    let of = |check: &&Value| check["check"] == name && check["severity"] == severity;
    report["checks"].as_array().unwrap().iter().filter(of).cloned().collect()
}

fn holes(report: &Value) -> Vec<String> {
    let holes = report["checks"].as_array().unwrap().iter().filter(|check| check["severity"] == "hole");
    holes.map(|check| format!("{}: {}", check["check"], check["message"])).collect()
}

/// Does what the doctor says.
fn follow(site: &Site, check: &Value) {
    let steps = check["way_out"].as_array().unwrap_or_else(|| panic!("no way out: {check}"));
    for step in steps {
        if let Some(sql) = step["sql"].as_str() {
            site.sql(sql);
        } else if let Some(command) = step["run"].as_str() {
            match command.strip_prefix("pgveil ") {
                Some(rest) => drop(site.pgveil_ok(&rest.split(' ').collect::<Vec<_>>())),
                None => {
                    let mut shell = Command::new("sh");
                    assert!(shell.current_dir(site.path("")).args(["-c", command]).status().unwrap().success());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_site_has_no_hole() {
    let site = site("sound").await;
    let role = format!("analyst={}", site.direct_url("analyst"));
    let other = format!("app={}", site.direct_url("app"));
    let (code, report) = doctor(&site, &["--role", &role, "--role", &other, "--full"]);
    assert_eq!(code, 0, "{:?}", holes(&report));
    let fine = |name: &str| !wrong(&report, name, "ok").is_empty();
    for name in [
        "policy",
        "keyring",
        "catalog",
        "schema",
        "domain",
        "sealed",
        "envelopes",
        "column_id",
        "opens",
        "recorded",
        "index",
        "lens",
        "readable",
        "ways",
        "strangers",
        "superusers",
        "tls_clients",
        "tls_upstream",
        "tls_control",
        "tls_agreed",
        "clock",
        "access_log",
        "disk",
        "log_verify",
        "as_role",
    ] {
        assert!(fine(name), "{name}: {report:#}");
    }
    assert_eq!(wrong(&report, "unclassified", "warning")[0]["table"], "public.open");
    let nick = wrong(&report, "readable", "ok").into_iter().find(|check| check["column"] == "nick").unwrap();
    assert_eq!(nick["message"], "clear: app; by its lens: analyst, support");
    for check in report["checks"].as_array().unwrap() {
        assert!(check["check"].is_string() && check["message"].is_string() && check["severity"].is_string(), "{check}");
    }
    // What the control account may not read is a warning with what to grant.
    let hba = wrong(&report, "hba", "warning");
    assert_eq!(hba.len(), 1, "{report:#}");
    follow(&site, &hba[0]);
    let (_, report) = doctor(&site, &[]);
    assert!(!report.to_string().contains("may not read pg_hba"), "{report:#}");
    let said = site.pgveil_ok(&["doctor"]);
    assert!(
        said.contains("public.people\n") && said.contains("✓ nick: clear: app") && said.contains("\nno hole ("),
        "{said}"
    );
    for wrong in [
        &["doctor", "--role", "analyst"][..],
        &["doctor", "--role", "app=postgresql://x:geheim@h/d"],
        &["doctor", "--what"],
    ] {
        let output = site.pgveil(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// Damage as a superuser, the check that finds it, how severe; what doctor prints repairs it.
const REPAIRED: &[(&str, &str, &str)] = &[
    ("delete from pgveil.columns where column_name = 'note'", "recorded", "warning"),
    ("update pgveil.columns set column_id = 77 where column_name = 'email'", "recorded", "hole"),
    ("grant select (nick) on people to analyst", "way_read_column", "hole"),
    ("grant select on people to support", "way_read", "hole"),
    ("grant select on people to public", "way_read", "hole"),
    ("grant update on people to analyst", "way_write", "hole"),
    (
        "create function counted() returns bigint language sql security definer as 'select count(*) from public.people'",
        "way_definer_function",
        "hole",
    ),
    ("create view nicks as select nick from people; grant select on nicks to analyst", "way_view", "hole"),
    (
        "create or replace view pgveil_lens_analyst_public.people with (security_barrier, check_option = cascaded) as
         select id, email, nick, note, born from public.people where born > '1950-01-01'",
        "lens",
        "hole",
    ),
    ("alter view pgveil_lens_analyst_public.people set (security_barrier = false)", "lens", "hole"),
    ("alter view pgveil_lens_support_public.people owner to pgveil", "lens", "hole"),
    ("comment on view pgveil_lens_support_public.people is 'mine'", "lens", "warning"),
    ("drop view pgveil_lens_analyst_public.people", "lens", "warning"),
    ("drop view pgveil_lens_analyst_public.people; grant select on people to analyst", "lens", "hole"),
    ("alter table people drop constraint people_email_key", "index", "warning"),
    (
        "do $$ declare d text := (select pg_get_constraintdef(oid) from pg_constraint where conname = 'sealed'
           and contypid = 'pgveil.sealed_text'::regtype); begin alter domain pgveil.sealed_text drop constraint sealed;
         execute 'alter domain pgveil.sealed_text add constraint sealed ' || d || ' not valid'; end $$",
        "domain",
        "hole",
    ),
    (
        "alter domain pgveil.sealed_varchar drop constraint sealed;
         alter domain pgveil.sealed_varchar add constraint sealed check (value is not null or true)",
        "domain",
        "hole",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_by_name_and_repaired_by_what_is_printed() {
    let site = site("damaged").await;
    for (damage, name, severity) in REPAIRED {
        site.sql(damage);
        let (_, report) = doctor(&site, &[]);
        let found = wrong(&report, name, severity);
        assert!(!found.is_empty(), "{damage}: {report:#}");
        found.iter().for_each(|check| follow(&site, check));
        if damage.contains("nicks") {
            site.sql("drop view nicks");
        }
        let (code, report) = doctor(&site, &[]);
        let left = [wrong(&report, name, "hole"), wrong(&report, name, "warning")].concat();
        assert!(left.is_empty() && code == 0, "{damage}: {left:?} {:?}", holes(&report));
    }
    assert_eq!(
        site.sql(
            "select string_agg(privilege_type, ',' order by privilege_type) from information_schema.table_privileges
            where grantee = 'support' and table_schema = 'pgveil_lens_support_public'"
        ),
        "DELETE,INSERT,SELECT,UPDATE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_looked_at() {
    let site = site("stored").await;
    let (code, _) = doctor(&site, &[]);
    assert_eq!(code, 0);
    let select = |check: &Value| check["way_out"][0]["sql"].as_str().unwrap().to_owned();
    let empty = |column: &str, select: &str| {
        site.sql(&format!("update people set {column} = null where ctid in ({select})"));
    };
    // Plaintext.
    site.sql("alter domain pgveil.sealed_text drop constraint sealed; update people set note = 'plainly' where id = 2");
    let (_, report) = doctor(&site, &[]);
    let found = wrong(&report, "envelopes", "hole");
    assert_eq!((found.len(), found[0]["column"].as_str()), (1, Some("note")), "{report:#}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("1 row of 3 hold"), "{}", found[0]);
    let domain = wrong(&report, "domain", "hole");
    assert_eq!(domain.len(), 1);
    empty("note", &select(&found[0]));
    follow(&site, &domain[0]);
    assert_eq!(doctor(&site, &[]).0, 0);
    // An envelope of another column.
    site.sql("update people set note = email::bytea where id = 1");
    let (_, report) = doctor(&site, &[]);
    let found = wrong(&report, "column_id", "hole");
    assert_eq!((found.len(), found[0]["column"].as_str()), (1, Some("note")), "{report:#}");
    empty("note", &select(&found[0]));
    // One with a flipped bit.
    site.sql("update people set email = set_byte(email::bytea, 50, get_byte(email::bytea, 50) # 1) where id = 3");
    let (_, report) = doctor(&site, &[]);
    let found = wrong(&report, "opens", "hole");
    assert_eq!((found.len(), found[0]["column"].as_str()), (1, Some("email")), "{report:#}");
    site.sql("delete from people where id = 3");
    assert_eq!(doctor(&site, &[]).0, 0);
    // A column that the policy encrypts and the database does not.
    site.write("policy.toml", &POLICY.replace("nick = {", "nick = { as = \"varchar(40)\", encrypt = \"randomized\","));
    let (_, report) = doctor(&site, &[]);
    let found = wrong(&report, "sealed", "hole");
    assert_eq!((found.len(), found[0]["column"].as_str()), (1, Some("nick")), "{report:#}");
    // A policy that does not load, and one that names what is not there.
    site.write("policy.toml", &POLICY.replace("clearance = \"restricted\"", "clearance = \"all\""));
    assert_eq!(wrong(&doctor(&site, &[]).1, "policy", "hole").len(), 1);
    site.write("policy.toml", &POLICY.replace("born = {", "burn = {"));
    assert_eq!(wrong(&doctor(&site, &[]).1, "catalog", "hole").len(), 1);
    site.write("policy.toml", POLICY);
    // A table the control account may not read.
    site.sql("alter table people owner to postgres; revoke all on people from pgveil, pgveil_lens");
    let (_, report) = doctor(&site, &[]);
    let found = wrong(&report, "envelopes", "warning");
    assert_eq!(found.len(), 1, "{report:#}");
    follow(&site, &found[0]);
    assert!(wrong(&doctor(&site, &[]).1, "envelopes", "warning").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_keys_and_tables_that_nobody_decided_about() {
    let site = site("undecided").await;
    let role = format!("analyst={}", site.direct_url("analyst"));
    site.sql("grant select (id, gone) on people to analyst");
    let (_, report) = doctor(&site, &["--role", &role]);
    let seen = wrong(&report, "as_role", "hole");
    let columns: Vec<&str> = seen.iter().map(|check| check["column"].as_str().unwrap()).collect();
    assert_eq!(columns, ["id", "gone"], "rows are hidden from it, so no column may answer: {report:#}");
    assert_eq!(seen[1]["message"], "analyst reads the table past the proxy: 3 rows, 3 of them with a value here");
    site.sql("revoke select (id, gone) on people from analyst");
    let (code, report) = doctor(&site, &["--role", &role]);
    assert!(code == 0 && wrong(&report, "as_role", "hole").is_empty(), "{:?}", holes(&report));
    // A login that no policy knows.
    site.sql("grant select on people to trusty");
    let (code, report) = doctor(&site, &[]);
    let strangers = wrong(&report, "strangers", "warning");
    assert!(code == 0 && strangers[0]["message"].as_str().unwrap().ends_with(": trusty"), "{report:#}");
    site.sql("revoke select on people from trusty");
    // A table that no policy knows.
    site.sql("create table customers (id int, \"homeAddress\" text, iban text, amount int)");
    let (_, report) = doctor(&site, &[]);
    let tables = wrong(&report, "unclassified", "warning");
    let customers = tables.iter().find(|check| check["table"] == "public.customers").unwrap();
    assert!(customers["message"].as_str().unwrap().ends_with("personal data: homeAddress, iban"), "{customers}");
    // The access log.
    let mut chmod = Command::new("chmod");
    assert!(chmod.arg("755").arg(site.audit_dir()).status().unwrap().success());
    let (_, report) = doctor(&site, &[]);
    let open = wrong(&report, "access_log", "warning");
    follow(&site, &open[0]);
    assert!(wrong(&doctor(&site, &[]).1, "access_log", "warning").is_empty());
    let segment = std::fs::read_dir(site.audit_dir()).unwrap().flatten().map(|entry| entry.path());
    let segment = segment.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).min().unwrap();
    let before = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, before.replacen("\"role\":\"app\"", "\"role\":\"apq\"", 1)).unwrap();
    assert_eq!(wrong(&doctor(&site, &[]).1, "log_verify", "hole").len(), 1);
    std::fs::write(&segment, before).unwrap();
    // Another keyring, and another passphrase.
    let (ring, kept) = (site.path("keyring.toml"), site.path("kept.toml"));
    std::fs::rename(&ring, &kept).unwrap();
    site.pgveil_ok(&["keys", "init"]);
    let found = wrong(&doctor(&site, &[]).1, "keyring", "hole");
    let columns: Vec<&str> = found.iter().map(|check| check["column"].as_str().unwrap()).collect();
    assert_eq!(columns, ["email", "note"]);
    std::fs::rename(&kept, &ring).unwrap();
    site.write("passphrase", "another horse, another battery 9d");
    let (_, report) = doctor(&site, &[]);
    assert_eq!(wrong(&report, "keyring", "hole").len(), 1);
    assert!(!wrong(&report, "envelopes", "ok").is_empty(), "everything else is still looked at");
}

const PARTITIONED: &str = "
create table visits (id int, day date, email varchar(80), word text, primary key (id, day)) partition by range (day);
create table visits_old partition of visits for values from ('2000-01-01') to ('2020-01-01');
create table visits_new partition of visits for values from ('2020-01-01') to ('2040-01-01');
";

const VISITS: &str = r#"
version = 1
[levels.confidential]
encryption_required = false
[tables."public.visits".columns]
id = { level = "internal" }
day = { level = "internal" }
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
word = { level = "confidential", mask = "pseudonym" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_looked_at_each() {
    let mut site = Site::new("partitioned").schema(PARTITIONED).policy(VISITS).prepare();
    site.sql("revoke all on visits, visits_old, visits_new from analyst, trusty, support");
    site.sql("grant select on visits to analyst");
    site.pgveil_ok(&["apply", "--lenses"]);
    site.serve();
    let app = site.client("app").await;
    for day in ["2010-01-01", "2030-01-01"] {
        let sql = format!("insert into visits values (1, '{day}', '{CANARY}@example.org', '{PLAIN}')");
        app.batch_execute(&sql).await.unwrap();
    }
    site.terminate();
    let role = format!("analyst={}", site.direct_url("analyst"));
    let (code, report) = doctor(&site, &["--role", &role]);
    assert_eq!(code, 0, "{:?}", holes(&report));
    let cells: Vec<Value> = wrong(&report, "envelopes", "ok");
    let tables: Vec<&str> = cells.iter().map(|check| check["table"].as_str().unwrap()).collect();
    assert_eq!(tables, ["public.visits_new", "public.visits_old"], "{report:#}");
    // An index on the parent is one on each partition.
    let missing = wrong(&report, "index", "warning");
    let parent = missing.iter().find(|check| check["table"] == "public.visits").unwrap();
    follow(&site, parent);
    let (_, report) = doctor(&site, &[]);
    assert!(
        wrong(&report, "index", "warning").is_empty() && wrong(&report, "recorded", "warning").is_empty(),
        "{report:#}"
    );
    // A partition granted is the table granted.
    site.sql("grant select on visits_old to analyst");
    let (code, report) = doctor(&site, &["--role", &role]);
    let seen = wrong(&report, "as_role", "hole");
    assert!(code == 1 && !wrong(&report, "way_read", "hole").is_empty(), "{:?}", holes(&report));
    assert_eq!(seen.iter().map(|check| check["table"].as_str().unwrap()).collect::<Vec<_>>(), ["public.visits_old"]);
}

#[test]
fn without_a_database_nothing_is_proved() {
    let site = Site::new("unreached").prepare();
    let config = std::fs::read_to_string(site.path("pgveil.toml")).unwrap();
    let (head, rest) = config.split_once("[control]").unwrap();
    let port = rest.split_once("@127.0.0.1:").unwrap().1.split_once('/').unwrap().0;
    site.write("pgveil.toml", &format!("{head}[control]{}", rest.replacen(&format!(":{port}/"), ":1/", 1)));
    let (code, report) = doctor(&site, &[]);
    assert_eq!((code, wrong(&report, "control", "hole").len()), (1, 1), "{report:#}");
}
