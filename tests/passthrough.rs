//! A database listed in `[databases] passthrough`: PostgreSQL's own tools cannot tell pgveil from PostgreSQL.

use std::process::{Command, Output, Stdio};

use crate::support::{PASSWORD, Site, cluster};

/// Creates the databases, owned by `app`, and a site that passes them through.
fn site(name: &str, databases: &[String]) -> Site {
    let mut builder = Site::new(name);
    for database in databases {
        cluster().sql("postgres", &format!("create database {database} owner app")).unwrap();
        builder = builder.passthrough(database);
    }
    let mut site = builder.prepare();
    site.serve();
    site
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}_{n}")).collect()
}

/// One of PostgreSQL's programs, pointed at a port by environment variables as its users do.
fn tool(name: &str, port: u16, args: &[&str]) -> Output {
    let mut command = Command::new(cluster().binaries().program(name));
    command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", "app").env("PGPASSWORD", PASSWORD);
    command.env("LC_ALL", "C").args(args).stdin(Stdio::null()).output().expect("the tool runs")
}

fn done(name: &str, port: u16, args: &[&str]) -> String {
    let output = tool(name, port, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {args:?}: {said}");
    String::from_utf8(output.stdout).expect("tools print UTF-8")
}

/// A plain dump without the random key newer versions print into it.
fn dump(port: u16, database: &str) -> String {
    let text = done("pg_dump", port, &[database]);
    text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")).fold(
        String::new(),
        |mut out, line| {
            out.push_str(line);
            out.push('\n');
            out
        },
    )
}

/// Fingerprints of pgbench's tables; the history's timestamps differ between any two runs.
fn fingerprint(database: &str) -> String {
    let sum = "select md5(string_agg(x::text, '|' order by x::text)) from (select * from {} limit 100000) x";
    let mut out = String::new();
    for table in ["pgbench_accounts", "pgbench_branches", "pgbench_tellers"] {
        out.push_str(&cluster().sql(database, &sum.replace("{}", table)).unwrap());
        out.push('\n');
    }
    let history = "select count(*), sum(delta), sum(aid) from pgbench_history";
    out + &cluster().sql(database, history).unwrap()
}

#[test]
fn pgbench_in_every_mode() {
    let databases = names("pgbench", 2);
    let site = site("pgbench_site", &databases);
    for (port, database) in [(site.port(), &databases[0]), (cluster().port(), &databases[1])] {
        done("pgbench", port, &["-i", "-q", "-s", "1", database]);
        for mode in ["simple", "extended", "prepared"] {
            for script in ["tpcb-like", "simple-update", "select-only"] {
                let args = ["-n", "-M", mode, "-b", script, "-t", "20", "--random-seed=7", database.as_str()];
                let said = done("pgbench", port, &args);
                assert!(said.contains("number of transactions actually processed: 20/20"), "{mode} {script}: {said}");
            }
            // Eight clients, a new connection for every transaction; read only, so both sides stay the same.
            done("pgbench", port, &["-n", "-M", mode, "-S", "-C", "-c", "8", "-t", "5", database]);
        }
    }
    assert_eq!(fingerprint(&databases[0]), fingerprint(&databases[1]));
}

const OBJECTS: &str = "
    create schema s; create type s.mood as enum ('sad', 'ok'); create domain s.positive as int check (value > 0);
    create table s.parent (id serial primary key, t text not null default 'x', m s.mood, p s.positive, b bytea);
    create table s.child (id int references s.parent on delete cascade, j jsonb, a int[], n numeric(10,2));
    create index on s.child using gin (j); create view s.v as select id, upper(t) as u from s.parent;
    create function s.f(int) returns int language sql as 'select $1 + 1';
    create materialized view s.mv as select count(*) from s.parent;
    create sequence s.q start 10; comment on table s.parent is 'a ''comment''';
    insert into s.parent (t, m, p, b) select 'Zoë ' || i, 'ok', i, decode(md5(i::text), 'hex') from generate_series(1, 500) i;
    insert into s.parent (b) values ('\\xfed101112233'), ('\\xfed1');
    insert into s.child select id, jsonb_build_object('k', t), array[id, null], id / 3.0 from s.parent;
    refresh materialized view s.mv;";

#[test]
fn psql_meta_commands() {
    let databases = names("psqlmeta", 1);
    let site = site("psql_site", &databases);
    cluster().sql_as("app", PASSWORD, &databases[0], OBJECTS).unwrap();
    let commands = [
        "\\d",
        "\\d+",
        "\\d s.*",
        "\\d+ s.parent",
        "\\d+ s.v",
        "\\dt+ s.*",
        "\\di+ s.*",
        "\\ds s.*",
        "\\dv s.*",
        "\\dm s.*",
        "\\dn+",
        "\\df+ s.*",
        "\\dT+ s.*",
        "\\dD s.*",
        "\\du",
        "\\dp s.*",
        "\\ddp",
        "\\dx",
        "\\dy",
        "\\l",
        "\\sf s.f",
        "\\sv s.v",
        "\\db",
        "\\dO",
        "\\dc",
        "\\dC",
        "\\dF",
        "\\do s.*",
        "\\dA",
        "\\encoding",
        "\\z s.*",
        "select * from s.parent order by id limit 20 \\g",
        "select 1 as a \\gset\n\\echo :a",
        "select 1, now() \\gdesc",
        "select id, m, t from s.parent where id < 3 \\crosstabview",
        "select 'select 41 + 1 as n' \\gexec",
        "select 1/0;\n\\errverbose",
        "\\copy (select * from s.child order by id) to stdout",
        "\\x\nselect * from s.child limit 1;",
        "begin; declare c cursor for select id from s.parent order by id; fetch 3 from c; close c; commit;",
        "listen x; notify x, 'payload';",
        "\\timing off\nselect 1 \\; select 2;",
        "\\set FETCH_COUNT 100\nselect b from s.parent;",
    ];
    for command in commands {
        let said = [site.port(), cluster().port()].map(|port| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), command).unwrap();
            let path = file.path().to_str().unwrap().to_owned();
            let output = tool("psql", port, &["-X", "-d", &databases[0], "-f", &path]);
            let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
            // The temporary file's name and backends' process ids differ between any two runs.
            let said = said.replace(&path, "FILE");
            said.split(" from server process with PID ").next().unwrap_or_default().to_owned()
        });
        assert_eq!(said[0], said[1], "{command}");
        assert!(!said[0].trim().is_empty(), "{command} printed nothing");
    }
}

#[test]
fn dump_and_restore_round_trip() {
    let databases = names("dumprestore", 3);
    let site = site("dump_site", &databases);
    cluster().sql_as("app", PASSWORD, &databases[0], OBJECTS).unwrap();
    let direct = dump(cluster().port(), &databases[0]);
    assert!(direct.contains("fed101112233"));
    assert_eq!(dump(site.port(), &databases[0]), direct, "a dump through pgveil is the dump past it");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let archive = file("archive");
    done("pg_dump", site.port(), &["-Fc", "-f", &archive, &databases[0]]);
    done("pg_restore", site.port(), &["--exit-on-error", "-d", &databases[1], &archive]);
    assert_eq!(dump(cluster().port(), &databases[1]), direct, "what was restored through pgveil is what was dumped");
    // In parallel: four connections with one exported snapshot.
    let directory = file("directory");
    done("pg_dump", site.port(), &["-Fd", "-j", "4", "-f", &directory, &databases[0]]);
    done("pg_restore", site.port(), &["--exit-on-error", "-j", "4", "-d", &databases[2], &directory]);
    assert_eq!(dump(cluster().port(), &databases[2]), direct);
}

#[test]
fn other_databases_are_not_served() {
    let site = site("notserved", &[]);
    let output = tool("psql", site.port(), &["-X", "-d", "template1", "-c", "select 1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("PV006"), "{said}");
}
