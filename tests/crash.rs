//! The access log under kill -9 and a full disk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::scenario::site as scenario_site;
use crate::support::{Dice, Site, connect, skip};

const CLIENTS: usize = 4;

/// Reads person after person until the connection dies, and counts the answers with a row that arrived.
async fn read_until_death(client: Client, number: usize, received: Arc<AtomicUsize>) {
    // The alias makes this client's statements recognisable in the log.
    let sql = format!("select name as reader_{number} from people where id = $1");
    let mut next = 0;
    while let Ok(rows) = client.query(&sql, &[&next]).await {
        received.fetch_add(rows.len(), Ordering::Relaxed);
        next = (next + 1) % 50;
    }
}

async fn fill(site: &Site) {
    let app = site.client("app").await;
    let insert = app.prepare("insert into people (id, email, name) values ($1, $2, $3)").await.unwrap();
    for n in 0..50 {
        app.execute(&insert, &[&n, &format!("p{n}.kanarie@example.org"), &format!("P{n} kanarie")]).await.unwrap();
    }
}

/// How often it is killed (`make crash`: 200).
fn kills() -> usize {
    std::env::var("PGVEIL_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[tokio::test]
async fn every_row_a_client_received_has_its_intent_after_kill_9() {
    let mut site = scenario_site("crash");
    fill(&site).await;
    let key = site.pgveil_ok(&["log", "key"]);
    let seed = std::env::var("PGVEIL_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut dice = Dice(seed);
    for round in 1..=kills() {
        let counts: [Arc<AtomicUsize>; CLIENTS] = Default::default();
        let mut readers = Vec::new();
        for (number, received) in counts.iter().enumerate() {
            readers.push(tokio::spawn(read_until_death(site.client("app").await, number, Arc::clone(received))));
        }
        let loaded = || counts.iter().all(|received| received.load(Ordering::Relaxed) > 5);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !loaded() {
            assert!(Instant::now() < deadline, "seed {seed}, round {round}: no load after 60 s");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Somewhere in the middle of it, at a time that the seed chooses.
        tokio::time::sleep(Duration::from_micros(dice.below(200_000) as u64)).await;
        site.kill();
        let run = newest_run(&site);
        let recorded = intents(&run);
        for (number, reader) in readers.into_iter().enumerate() {
            reader.await.unwrap();
            let (received, recorded) = (counts[number].load(Ordering::Relaxed), recorded[number]);
            assert!(
                recorded == received || recorded == received + 1,
                "seed {seed}, round {round}, reader {number}: {received} rows received, {recorded} intents recorded"
            );
        }
        if round <= 3 || round % 10 == 0 {
            site.pgveil_ok(&["log", "verify"]);
        }
        let open = without_outcome(&run);
        site.serve();
        assert_eq!(site.metric("pgveil_audit_intents_without_outcome", ""), open as f64, "seed {seed}, round {round}");
        let start =
            newest_run(&site).into_iter().find(|event| event["kind"] == "start").expect("it says that it began");
        let said = start["note"].as_str().unwrap_or_default().to_owned();
        let marked = format!("; {open} intents of the last run have no outcome");
        assert_eq!(said.contains(&marked), open > 0, "seed {seed}, round {round}: {said}");
    }
    site.terminate();
    site.pgveil_ok(&["log", "verify"]);
    let said = site.pgveil_ok(&["log", "verify", "--public-key", key.trim()]);
    assert!(said.contains("signed to its end"), "what the killed runs left is signed by the next: {said}");
}

/// The events of the newest segment, which is what the last run wrote, read without pgveil.
fn newest_run(site: &Site) -> Vec<serde_json::Value> {
    let newest = segments(site).pop().expect("there is a segment");
    let text = std::fs::read_to_string(newest).unwrap();
    let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    records.filter_map(|mut record| Some(record.get_mut("event")?.take())).collect()
}

/// The log's segments, oldest first.
fn segments(site: &Site) -> Vec<PathBuf> {
    let files = std::fs::read_dir(site.audit_dir()).unwrap().flatten().map(|entry| entry.path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    segments.sort();
    segments
}

/// Intent records by reader.
fn intents(run: &[serde_json::Value]) -> [usize; CLIENTS] {
    let mut count = [0; CLIENTS];
    for event in run.iter().filter(|event| event["kind"] == "intent") {
        let text = event["text"].as_str().unwrap_or_default();
        if let Some(number) = (0..CLIENTS).find(|n| text.contains(&format!("reader_{n}"))) {
            count[number] += 1;
        }
    }
    count
}

/// How many intents have no outcome after them.
fn without_outcome(run: &[serde_json::Value]) -> usize {
    let statement = |event: &serde_json::Value| (event["connection"].as_u64(), event["statement"].as_u64());
    let mut open = HashSet::new();
    for event in run {
        match event["kind"].as_str() {
            Some("intent") => drop(open.insert(statement(event))),
            Some("statement" | "refused") => drop(open.remove(&statement(event))),
            _ => {}
        }
    }
    open.len()
}

#[test]
fn any_edit_of_the_log_is_found() {
    let mut site = scenario_site("edited_log");
    tokio::runtime::Runtime::new().unwrap().block_on(fill(&site));
    let key = site.pgveil_ok(&["log", "key"]);
    site.terminate();
    let auditor = ["log", "verify", "--dir", "audit", "--public-key", key.trim()];
    assert!(site.pgveil(&["log", "verify"]).status.success());
    assert!(site.pgveil(&auditor).status.success());
    let segment = segments(&site)
        .into_iter()
        .max_by_key(|path| path.metadata().map_or(0, |m| m.len()))
        .expect("there is a segment");
    let original = std::fs::read(&segment).unwrap();
    let lines: Vec<&[u8]> = original.split_inclusive(|b| *b == b'\n').collect();
    assert!(lines.len() > 10);
    let mut flipped = original.clone();
    flipped[original.len() / 3] ^= 1;
    let edits = [
        ("one bit", flipped),
        ("a record taken out", [&lines[..5], &lines[6..]].concat().concat()),
        ("two records exchanged", [&lines[..4], &[lines[5], lines[4]], &lines[6..]].concat().concat()),
        ("the last records cut off", lines[..lines.len() - 3].concat()),
        ("everything cut off", Vec::new()),
    ];
    for (what, bytes) in edits {
        std::fs::write(&segment, bytes).unwrap();
        let verified = site.pgveil(&["log", "verify"]);
        assert_eq!(verified.status.code(), Some(1), "{what}: {}", String::from_utf8_lossy(&verified.stdout));
        let verified = site.pgveil(&auditor);
        assert_eq!(verified.status.code(), Some(1), "{what}: {}", String::from_utf8_lossy(&verified.stdout));
    }
    std::fs::write(&segment, original).unwrap();
    assert!(site.pgveil(&["log", "verify"]).status.success());
    let another = "pgveil.log/00+00000000+AAAA";
    assert_eq!(site.pgveil(&["log", "verify", "--public-key", another]).status.code(), Some(2), "no such key");
}

#[tokio::test]
async fn an_older_log_put_back_is_found_by_its_anchor() {
    let mut site = Site::new("anchored")
        .schema(include_str!("clients/schema.sql"))
        .policy(include_str!("clients/policy.toml"))
        .audit("anchors = [\"anchors\"]\n")
        .prepare();
    site.pgveil_ok(&["apply"]);
    site.serve();
    site.client("app").await.query("select name from people where id = 1", &[]).await.unwrap();
    for _ in 0..100 {
        if std::fs::metadata(site.path("anchors")).is_ok_and(|about| about.len() > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(site.metric("pgveil_audit_anchor_errors_total", ""), 0.0, "while it runs, within seconds");
    site.terminate();
    let key = site.pgveil_ok(&["log", "key"]);
    let anchor = site.path("anchors").display().to_string();
    let auditor = ["log", "verify", "--dir", "audit", "--public-key", key.trim(), "--anchor", &anchor];
    let older = site.path("older");
    copy(&site.audit_dir(), &older);

    site.serve();
    site.client("app").await.query("select name from people where id = 2", &[]).await.unwrap();
    site.terminate();
    for arguments in [&auditor[..], &["log", "verify", "--anchor", &anchor]] {
        let said = site.pgveil_ok(arguments);
        assert!(said.contains(" anchored checkpoints are of this log"), "{said}");
    }

    copy(&older, &site.audit_dir());
    site.pgveil_ok(&["log", "verify"]);
    for arguments in [&auditor[..], &["log", "verify", "--anchor", &anchor]] {
        let verified = site.pgveil(arguments);
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(
            verified.status.code() == Some(1) && said.contains("cut tail") && said.contains("anchors line"),
            "{said}"
        );
    }
    let nothing = site.pgveil(&["log", "verify", "--no-key", "--anchor", &anchor]);
    assert_eq!(nothing.status.code(), Some(2), "an anchor without a key proves nothing");
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A site whose proxy may write files up to a size: what a full disk is to the access log.
fn cramped(name: &str, on_failure: &str) -> Site {
    let mut site = Site::new(name)
        .schema(include_str!("clients/schema.sql"))
        .policy(include_str!("clients/policy.toml"))
        .audit(&format!("on_failure = \"{on_failure}\"\n"))
        .prepare();
    site.pgveil_ok(&["apply"]);
    site.serve();
    site
}

/// Lets the running proxy write files only up to a little more than the log's size: an append fails with EFBIG as it
/// would with ENOSPC. (Its own stderr is a much smaller file and goes on.)
fn fill_disk(site: &Site) {
    let largest = segments(site).iter().map(|file| file.metadata().unwrap().len()).max().unwrap();
    assert!(largest > 10_000, "the log has {largest} bytes");
    limit_files(site, &(largest + 1_000).to_string());
}

fn limit_files(site: &Site, limit: &str) {
    let (id, limit) = (site.process_id().to_string(), format!("--fsize={limit}:unlimited"));
    assert!(Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap().success());
}

#[tokio::test]
async fn a_full_disk_denies_protected_reads_when_told_to() {
    let site = cramped("denied", "deny_protected");
    fill(&site).await;
    let app = site.client("app").await;
    fill_disk(&site);
    let mut refused = None;
    for _ in 0..100 {
        if let Err(error) = app.query("select name from people where id = 1", &[]).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("protected reads are refused");
    assert_eq!(refused.code().map(|c| c.code()), Some("58030"), "{refused:?}");
    // The session that asked has ended; what is not protected goes on.
    let other = connect(&site.url("app")).await.expect("logins go on");
    other.simple_query("select 1").await.expect("unprotected statements go on");
    let again = other.query("select name from people where id = 1", &[]).await.expect_err("still no record, no row");
    assert_eq!(again.code().map(|c| c.code()), Some("58030"), "{again:?}");
}

#[tokio::test]
async fn a_full_disk_blocks_protected_reads_by_default() {
    let site = cramped("blocked", "block");
    fill(&site).await;
    let app = site.client("app").await;
    fill_disk(&site);
    // A few records still fit.
    let mut waited = false;
    for _ in 0..20 {
        let read = app.query("select name from people where id = 1", &[]);
        match tokio::time::timeout(Duration::from_secs(2), read).await {
            Ok(answer) => assert_eq!(answer.expect("blocking refuses nothing").len(), 1),
            Err(_) => {
                waited = true;
                break;
            }
        }
    }
    assert!(waited, "no row leaves without its record");
    limit_files(&site, "unlimited");
    let other = site.client("app").await;
    let read = other.query_one("select name from people where id = 2", &[]);
    let row = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it goes on when there is room");
    assert_eq!(row.unwrap().get::<_, &str>(0), "P2 kanarie");
}

/// A file system of four megabytes at the log's folder, seen by the proxy only.
const SMALL_DISK: &str = "mkdir -p audit && mount -t tmpfs -o size=4m,mode=700 none audit && exec \"$0\" \"$@\"";

#[tokio::test]
async fn a_full_disk_is_written_about_in_the_reserve() {
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    let around = ["unshare", if root { "-m" } else { "-rm" }, "sh", "-c", SMALL_DISK];
    let tried = Command::new(around[0]).args(&around[1..4]).arg("mount -t tmpfs none /mnt").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return skip("a_full_disk_is_written_about_in_the_reserve", "no mount namespaces here");
    }
    let mut site = Site::new("reserve")
        .schema(include_str!("clients/schema.sql"))
        .policy(include_str!("clients/policy.toml"))
        .audit("on_failure = \"deny_protected\"\nreserve_bytes = 1048576\n")
        .prepare();
    site.pgveil_ok(&["apply"]);
    site.serve_by(&around);
    fill(&site).await;
    // As the proxy sees it.
    let dir = PathBuf::from(format!("/proc/{}/root{}", site.process_id(), site.audit_dir().display()));
    let reserve = || std::fs::metadata(dir.join("reserve")).map_or(0, |about| about.len());
    assert_eq!(reserve(), 1 << 20);
    let mut ballast = std::fs::File::create(dir.join("ballast")).unwrap();
    while std::io::Write::write(&mut ballast, &[7; 4096]).is_ok_and(|written| written > 0) {}
    drop(ballast);

    let app = site.client("app").await;
    let refused = timeout(Duration::from_secs(60), async {
        loop {
            if let Err(error) = app.query("select name from people where id = 1", &[]).await {
                return error;
            }
        }
    });
    let refused = refused.await.expect("protected reads are refused");
    assert_eq!(refused.code().map(|c| c.code()), Some("58030"), "{refused:?}");
    let shown = dir.display().to_string();
    let written = |what: &dyn Fn(&str) -> bool| {
        let said = site.pgveil_ok(&["log", "tail", "--dir", &shown, "-n", "100000"]);
        said.lines().any(what)
    };
    wait_for("the log says why", || {
        written(&|line| line.contains("the disk is full; protected statements are refused"))
            && written(&|line| line.contains("  refused ") && line.contains("PV021"))
    })
    .await;
    assert_eq!(reserve(), 0);
    site.pgveil_ok(&["log", "verify", "--dir", &shown]);

    std::fs::remove_file(dir.join("ballast")).unwrap();
    wait_for("there is room", || written(&|line| line.contains("there is room on the disk again"))).await;
    assert_eq!(reserve(), 1 << 20);
    let app = site.client("app").await;
    assert_eq!(app.query("select name from people where id = 1", &[]).await.unwrap().len(), 1);
    site.pgveil_ok(&["log", "verify", "--dir", &shown]);
}

async fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
