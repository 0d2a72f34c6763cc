//! What Prometheus reads: the format parses, every series is described, no label holds a value.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pgveil::metrics::CATALOGUE;

use crate::scenario::{POLICY, SCHEMA};
use crate::support::{Site, http, repository, skip};

#[tokio::test]
async fn the_metrics_parse_and_are_described() {
    let sink = "[[alerts.sinks]]\nkind = \"log\"\npath = \"alerts.jsonl\"\n";
    let site = Site::new("metrics").schema(SCHEMA).policy(POLICY).config(sink).start();
    let app = site.client("app").await;
    app.execute("insert into people (id, email, name) values (1, 'a.kanarie@example.org', 'A kanarie')", &[])
        .await
        .unwrap();
    app.query("select name from people where email = 'a.kanarie@example.org'", &[]).await.unwrap();
    app.query("select name from people where upper(name) = 'kanarie'", &[]).await.unwrap_err();
    site.client("analyst").await.query("select name from people", &[]).await.unwrap();
    let text = site.metrics();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        let described = CATALOGUE.iter().any(|metric| metric.name == name || metric.name == base);
        assert!(described, "{name} is not described");
        assert!(
            text.contains(&format!("# TYPE {name} ")) || text.contains(&format!("# TYPE {base} ")),
            "{name} has no type"
        );
    }
    for metric in CATALOGUE {
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{} is not exposed\\n{text}", metric.name);
    }
    assert!(site.metric("pgveil_rows_total", "treatment=\"written\"") >= 1.0);
    assert!(site.metric("pgveil_rows_total", "treatment=\"opened\"") >= 1.0);
    assert!(site.metric("pgveil_rows_total", "treatment=\"masked\"") >= 1.0);
    assert!(site.metric("pgveil_refusals_total", "code=\"PV011\"") >= 1.0);
    assert!(site.metric("pgveil_connections_accepted_total", "") >= 2.0);
    assert!(site.metric("pgveil_key_created_timestamp_seconds", "") > 0.0);
    for (path, expected) in [("/healthz", 200), ("/readyz", 200), ("/nothing", 404)] {
        assert_eq!(http(site.admin_port(), path).map(|(status, _)| status), Some(expected), "{path}");
    }
    promtool("metrics::the_metrics_parse_and_are_described", &["metrics"], &text);
}

#[test]
fn the_alert_rules_parse() {
    let rules = repository().join("docker/alerts.yml");
    promtool("metrics::the_alert_rules_parse", &["rules", rules.to_str().unwrap()], "");
}

/// `promtool check ARGUMENTS`, `input` on its standard input; its lints are failures too.
fn promtool(test: &str, arguments: &[&str], input: &str) {
    let spawned = Command::new("promtool")
        .arg("check")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        return skip(test, "promtool is not installed (apt-get install prometheus)");
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && lints.is_empty(), "{lints}{}", String::from_utf8_lossy(&output.stdout));
}
