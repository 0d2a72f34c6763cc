//! One scenario, five clients (`tests/clients/scenario.md`): sealed columns through pgveil answer as an unsealed twin.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{PASSWORD, Site, cluster, repository, skip, target_dir, twins};

pub const SCHEMA: &str = include_str!("clients/schema.sql");
pub const POLICY: &str = include_str!("clients/policy.toml");

/// The sealed site all tests of one driver use.
pub fn site(name: &str) -> Site {
    Site::new(name).schema(SCHEMA).policy(POLICY).start()
}

/// A database with the same tables that no pgveil has ever seen; its connection string as `app`.
pub fn twin() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let database = format!("twin_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let cluster = twins();
    cluster.sql("postgres", &format!("create database {database} owner app")).unwrap();
    cluster.sql_as("app", PASSWORD, &database, SCHEMA).unwrap();
    format!("postgresql://app:{PASSWORD}@127.0.0.1:{}/{database}", cluster.port())
}

/// Runs the client against both and compares what it printed.
fn alike(name: &str, run: impl Fn(&str) -> Command) {
    let expected = transcript("PostgreSQL itself", &mut run(&twin()));
    let site = site(name);
    let sealed = transcript("pgveil", &mut run(&site.url("app")));
    if expected != sealed {
        let pairs = expected.lines().zip(sealed.lines()).enumerate();
        let differing = pairs.filter(|(_, (a, b))| a != b).take(12);
        let shown: String = differing.map(|(n, (a, b))| format!("{}: {a}\n{}: {b}\n", n + 1, " ".repeat(3))).collect();
        let lengths = (expected.lines().count(), sealed.lines().count());
        panic!("{name}: pgveil's answers differ from PostgreSQL's (lines: {lengths:?})\n{shown}");
    }
    let envelopes = site.sql("select count(*) from people where substr(email::bytea, 1, 2) = '\\xfed1'");
    assert_eq!(envelopes, site.sql("select count(*) from people"), "{name}: every email on disk is an envelope");
}

pub fn transcript(target: &str, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the client starts");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "against {target}: {status}\n{out}\n{err}");
    // psql prints errors on stderr, each with its line; the order among themselves is kept.
    format!("{out}\n{err}")
}

fn client_script(name: &str) -> std::path::PathBuf {
    repository().join("tests/clients").join(name)
}

pub fn python(script: &'static str, url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(target_dir().join("clients/venv/bin/python"));
    command.arg(client_script(script)).arg(url).args(args).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

pub fn has_python(test: &str) -> bool {
    let program = target_dir().join("clients/venv/bin/python");
    let ready = Command::new(program).args(["-c", "import psycopg, asyncpg, sqlalchemy, django"]).output();
    let ready = ready.is_ok_and(|output| output.status.success());
    if !ready {
        skip(test, "psycopg, asyncpg, SQLAlchemy and Django are not in target/clients/venv (see .ci/needs)");
    }
    ready
}

#[test]
fn psql() {
    alike("psql", |url| {
        let mut command = Command::new(cluster().binaries().program("psql"));
        command.args(["-X", "-q", "-d", url, "-f"]).arg(client_script("scenario.sql"));
        command
    });
}

#[test]
fn psycopg_text() {
    if has_python("scenario::psycopg_text") {
        alike("psycopg_text", |url| python("psycopg_scenario.py", url, &["text"]));
    }
}

#[test]
fn psycopg_binary() {
    if has_python("scenario::psycopg_binary") {
        alike("psycopg_binary", |url| python("psycopg_scenario.py", url, &["binary"]));
    }
}

#[test]
fn asyncpg() {
    if has_python("scenario::asyncpg") {
        alike("asyncpg", |url| python("asyncpg_scenario.py", url, &[]));
    }
}

#[test]
fn node_postgres() {
    let modules = target_dir().join("clients/node");
    if !Path::new(&modules).join("node_modules/pg").exists() {
        return skip("scenario::node_postgres", "pg is not in target/clients/node (see .ci/needs)");
    }
    alike("node", |url| {
        let mut command = Command::new("node");
        command.arg(client_script("node_scenario.js")).arg(url).env("PGVEIL_NODE_CLIENTS", &modules);
        command
    });
}
