//! The access log's life after it was written: compressed, proven, pruned, through the commands and by the proxy itself.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::scenario::site as scenario_site;
use crate::support::Site;

/// Each run leaves a segment.
async fn runs(site: &mut Site, count: i32) {
    for number in 0..count {
        if number > 0 {
            site.serve();
        }
        let app = site.client("app").await;
        let (email, name) = (format!("q{number}.kanarie@example.org"), format!("Q{number} kanarie"));
        let insert = "insert into people (id, email, name) values ($1, $2, $3)";
        app.execute(insert, &[&(1_000 + number), &email, &name]).await.unwrap();
        app.query("select name from people where id = $1", &[&(1_000 + number)]).await.unwrap();
        drop(app);
        assert_eq!(site.terminate(), Some(0));
    }
}

fn files(site: &Site, end: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(site.audit_dir()).unwrap().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = all.filter(|path| path.to_str().is_some_and(|path| path.ends_with(end))).collect();
    found.sort();
    found
}

fn set_config(site: &Site, line: &str) {
    let text = std::fs::read_to_string(site.path("pgveil.toml")).unwrap();
    site.write("pgveil.toml", &text.replace("dir = \"audit\"\n", &format!("dir = \"audit\"\n{line}\n")));
}

fn until(what: &str, site: &Site, there: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}\n{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn the_proxy_compresses_old_segments_and_every_command_reads_them() {
    let mut site = scenario_site("compressed");
    runs(&mut site, 3).await;
    let events = site.events();
    let plain = files(&site, ".jsonl");
    assert_eq!(plain.len(), 3);
    let old = SystemTime::now() - Duration::from_secs(2 * 3_600);
    for file in &plain[..2] {
        File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    }
    site.serve();
    until("compressed", &site, || files(&site, ".zst").len() == 2);
    until("the plain ones removed", &site, || files(&site, ".jsonl").len() == 2);
    assert_eq!(site.events()[..events.len()], events[..], "the newest closed one is young");
    site.terminate();
    let key = site.pgveil_ok(&["log", "key"]);
    site.pgveil_ok(&["log", "verify"]);
    let said = site.pgveil_ok(&["log", "verify", "--dir", "audit", "--public-key", key.trim()]);
    assert!(said.contains("signed to its end"), "{said}");

    let packed = &files(&site, ".zst")[0];
    let good = std::fs::read(packed).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    std::fs::write(packed, flipped).unwrap();
    let verified = site.pgveil(&["log", "verify"]);
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.code() == Some(1) && said.contains("access-00000001.jsonl.zst line"), "{said}");
    std::fs::write(packed, good).unwrap();
    site.pgveil_ok(&["log", "verify"]);
}

#[tokio::test]
async fn one_record_is_proven_to_whoever_has_the_public_key() {
    let mut site = scenario_site("proven");
    runs(&mut site, 2).await;
    let key = site.pgveil_ok(&["log", "key"]);
    let text = site.pgveil_ok(&["log", "prove", "--seq", "4", "--record", "line"]);
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 3\n"), "{text}");
    let line = std::fs::read_to_string(site.path("line")).unwrap();
    assert!(line.starts_with("{\"v\":1,\"seq\":4,"), "{line}");
    site.write("proof", &text);
    let folder = site.path("");
    let bare = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pgveil"));
        command.current_dir(&folder).args(["log", "check-proof", "--public-key", key.trim()]).args(args);
        command.output().unwrap()
    };
    let checked = bare(&["proof", "--record", "line"]);
    assert!(checked.status.success(), "{checked:?}");
    site.write("other", &line.replacen("\"seq\":4", "\"seq\":5", 1));
    assert_eq!(bare(&["proof", "--record", "other"]).status.code(), Some(1));
    assert_eq!(bare(&["proof"]).status.code(), Some(1), "the record is needed");
    assert_eq!(site.pgveil(&["log", "prove", "--seq", "4000000"]).status.code(), Some(1));

    let note = |text: &str| text.split_once("\n\n").map(|(_, note)| note.to_owned()).unwrap();
    site.write("then", &note(&text));
    site.serve();
    site.client("app").await.query("select name from people where id = 1000", &[]).await.unwrap();
    site.terminate();
    let grown = site.pgveil_ok(&["log", "prove", "--since", "then"]);
    site.write("grown", &grown);
    let checked = bare(&["grown"]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("begins with the"), "{checked:?}");
    let (first, rest) = grown.split_once("\n\n").unwrap();
    let other =
        if first.contains("\nA") { first.replacen("\nA", "\nB", 1) } else { format!("{first}\n{}=", "A".repeat(43)) };
    site.write("grown", &format!("{other}\n\n{rest}"));
    assert_eq!(bare(&["grown"]).status.code(), Some(1));
}

#[tokio::test]
async fn old_segments_are_pruned_by_command_and_by_the_proxy_and_what_is_left_says_so() {
    let mut site = scenario_site("pruned");
    runs(&mut site, 3).await;
    let key = site.pgveil_ok(&["log", "key"]);
    let auditor = ["log", "verify", "--dir", "audit", "--public-key", key.trim()];
    let said = site.pgveil_ok(&["log", "prune", "--keep", "P1D"]);
    assert!(said.contains("nothing to prune"), "{said}");
    let said = site.pgveil_ok(&["log", "prune", "--before", "2100-01-01T00:00:00Z", "--dry-run"]);
    assert!(said.contains("would be pruned: 2 segments, records 1 to "), "{said}");
    assert_eq!(files(&site, ".jsonl").len(), 3);
    let said = site.pgveil_ok(&["log", "prune", "--before", "2100-01-01T00:00:00Z"]);
    assert!(said.contains(" pruned: 2 segments, records 1 to "), "{said}");
    for arguments in [&auditor[..], &["log", "verify"]] {
        let said = site.pgveil_ok(arguments);
        assert!(said.contains("records 1 to ") && said.contains(" were pruned on 20"), "{said}");
    }
    let notes = |site: &Site| site.events().iter().filter(|event| event["kind"] == "log").count();
    assert_eq!(notes(&site), 1);
    assert_eq!(site.pgveil(&["log", "prove", "--seq", "3"]).status.code(), Some(1), "it is gone");

    set_config(&site, "keep = \"PT0.001S\"");
    site.serve();
    until("pruned by the proxy", &site, || files(&site, ".jsonl").len() == 1);
    assert_eq!(notes(&site), 1, "the segment in which it was said before is gone, this one says it again");
    site.terminate();
    site.pgveil_ok(&auditor);
    std::fs::remove_file(site.audit_dir().join("pruned")).unwrap();
    let verified = site.pgveil(&auditor);
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.code() == Some(1) && said.contains("missing segment"), "{said}");
}

#[tokio::test]
async fn a_syslog_collector_is_an_anchor() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let collector = std::thread::spawn(move || {
        // Each note comes on a connection of its own; the first one is enough.
        let mut text = String::new();
        std::io::Read::read_to_string(&mut listener.accept().unwrap().0, &mut text).unwrap();
        text
    });
    let mut site = Site::new("collected")
        .schema(include_str!("clients/schema.sql"))
        .policy(include_str!("clients/policy.toml"))
        .audit(&format!("anchors = [\"syslog://127.0.0.1:{port}\"]\n"))
        .prepare();
    site.pgveil_ok(&["apply"]);
    site.serve();
    runs(&mut site, 1).await;
    let message = collector.join().unwrap();
    assert!(message.contains(" checkpoint - {\"note\":\"pgveil.log/"), "{message}");
    site.write("seen", &format!("{message}\n"));
    let said = site.pgveil_ok(&["log", "verify", "--anchor", "seen"]);
    assert!(said.contains("1 anchored checkpoints are of this log"), "{said}");
    site.write(
        "seen",
        &format!("{}\n", message.replacen(" checkpoint - {\"note\":\"", " checkpoint - {\"note\":\"x", 1)),
    );
    assert_eq!(site.pgveil(&["log", "verify", "--anchor", "seen"]).status.code(), Some(1));
}
