//! The harness: one private PostgreSQL for the whole test process, and for each test its own database, policy,
//! keyring and proxy.
//!
//! Every plaintext that a test writes into a sealed column contains [`CANARY`], and nothing that reaches PostgreSQL in
//! another way does. When a [`Site`] ends, its proxy's log, its metrics and its access log are searched for it; when
//! `make test` ends, so are those of all proxies and every file of every cluster. The whole run is one leak test.

#![allow(dead_code, unused_imports, reason = "each test module uses its own part of the harness")]

mod ask;
mod dice;
mod run;
mod site;
mod stream;
mod twin;

pub use ask::{MIB, Memory, Said, ask, bind, extended, parse, query, run, sync};
pub use dice::Dice;
pub use run::{keep_cluster, site_folder};
pub use site::{Site, SiteBuilder, connect};
pub use stream::{Frame, Wire, frame, frames, http, startup};
pub use twin::{Pair, shown};

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pgveil::demo::cluster::{Binaries, Cluster};

/// A word in every value that must stay sealed. No table, column, message or password contains it.
pub const CANARY: &str = "kanarie";

/// The roles every database of the shared cluster has, besides the superuser. All log in with [`PASSWORD`].
///
/// `app` is cleared for everything in the tests' policies, `analyst` for `internal`, `support` has no entry;
/// `pgveil` is the control account and owns the tables; `trusty` is let in without a password by pg_hba.
pub const ROLES: &[&str] = &["pgveil", "app", "analyst", "support", "trusty"];

/// The roles' password.
pub const PASSWORD: &str = "test-4b1d9f0c";

/// The shared cluster: logs every statement, each line beginning `database|role|`.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = new_cluster();
        keep_cluster(&cluster);
        cluster
    })
}

/// Another cluster like it, for what tests write past pgveil to compare with: the unsealed twins of their tables.
pub fn twins() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(new_cluster)
}

/// A private cluster with the tests' [`ROLES`] that logs all it can.
pub fn new_cluster() -> Cluster {
    let conf = "log_statement = 'all'\nlog_line_prefix = '%d|%u|'\nlog_min_duration_statement = 0\n";
    let hba = "host all trusty 127.0.0.1/32 trust\n";
    let binaries = Binaries::find().unwrap_or_else(|e| panic!("{e}"));
    let cluster = Cluster::start(&binaries, conf, hba).unwrap_or_else(|e| panic!("{e}"));
    let mut roles: String = ROLES.iter().map(|r| format!("create role {r} login password '{PASSWORD}';")).collect();
    roles.push_str("create role pgveil_lens nologin; grant pgveil_lens, pg_read_all_stats to pgveil;");
    cluster.sql("postgres", &roles).unwrap_or_else(|e| panic!("{e}"));
    cluster
}

/// The lines of the server's log that belong to `database`.
pub fn server_log(database: &str) -> String {
    let text = std::fs::read(cluster().log_file()).expect("the server logs");
    let prefix = format!("{database}|");
    let mut ours = false;
    let mut out = String::new();
    for line in String::from_utf8_lossy(&text).lines() {
        // A statement of several lines continues with a tab.
        ours = if line.starts_with('\t') { ours } else { line.starts_with(&prefix) };
        if ours {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Says by name that a test did not run and why; with CI=1 that is a failure.
pub fn skip(test: &str, why: &str) {
    let ci = std::env::var("CI").is_ok_and(|v| v == "1" || v == "true");
    assert!(!ci, "{test} was skipped: {why}");
    let dir = target_dir().join("tests");
    std::fs::create_dir_all(&dir).expect("target is writable");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("skipped"));
    writeln!(file.expect("target/tests/skipped is writable"), "  {test}: {why}").expect("one line is written");
    eprintln!("skipped {test}: {why}");
}

/// `target/`, where `.ci/needs` puts the clients.
pub fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether any file below `dir` contains a needle (as raw bytes); names the first that does. What a server at work
/// removes meanwhile is passed over.
pub fn find_in_files(dir: &Path, needles: &[&[u8]]) -> Option<PathBuf> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        entries => entries.unwrap_or_else(|e| panic!("{}: {e}", dir.display())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_in_files(&path, needles) {
                return Some(found);
            }
        } else if path.is_file() {
            let bytes = match std::fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                bytes => bytes.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            };
            if needles.iter().any(|needle| memmem(&bytes, needle)) {
                return Some(path);
            }
        }
    }
    None
}

/// Whether `needle` occurs in `bytes`.
pub fn memmem(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}
