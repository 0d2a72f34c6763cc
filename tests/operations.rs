//! What operators are given: alert rules that are tested one by one, a runbook with a section for each, what runs pgveil
//! (compose, systemd, Kubernetes) confined, and what pgveil tells whoever runs it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pgveil::demo::cluster::free_port;
use pgveil::demo::leash::Leashed;
use pgveil::metrics::CATALOGUE;

use crate::support::{Site, http, repository, skip, target_dir};

const TESTS: [&str; 2] = ["alerts_test.yml", "alerts_days_test.yml"];

/// For whoever adds an alert.
const NEEDS: &str = "An alert needs four things: its rule in docker/alerts.yml; there an annotation \
    `runbook: \"RUNBOOK.md#<its name in lower case>\"`; a section `## <its name>` in docker/RUNBOOK.md with the paragraphs \
    **Means.** **Look at.** **Do.** **Over when.**; and in docker/alerts_test.yml a case that fires and a case with \
    `exp_alerts: []`.";

fn docker(name: &str) -> String {
    fs::read_to_string(repository().join("docker").join(name)).unwrap()
}

/// The rules of alerts.yml: name, and everything up to the next one.
fn alerts() -> Vec<(String, String)> {
    let text = docker("alerts.yml");
    let rules = text.split("- alert: ").skip(1);
    rules.map(|rule| (rule.lines().next().unwrap().trim().to_owned(), rule.to_owned())).collect()
}

/// The sections of RUNBOOK.md: heading and text.
fn sections() -> Vec<(String, String)> {
    let text = docker("RUNBOOK.md");
    let sections = text.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(heading, text)| (heading.trim().to_owned(), text.to_owned())).collect()
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() {
    let (alerts, sections) = (alerts(), sections());
    assert!(alerts.len() >= 16);
    let names = |of: &[(String, String)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&alerts), names(&sections), "alerts.yml and RUNBOOK.md, in the same order. {NEEDS}");
    for (name, rule) in alerts {
        let link = format!("runbook: \"RUNBOOK.md#{}\"", name.to_lowercase());
        assert!(rule.contains(&link), "{name} has no {link}. {NEEDS}");
        assert!(rule.contains("summary: ") && rule.contains("severity: "), "{name} has no summary or no severity");
    }
    for (name, text) in &sections {
        let at: Vec<_> = ["**Means.**", "**Look at.**", "**Do.**", "**Over when.**"].map(|part| text.find(part)).into();
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{name}: {at:?}. {NEEDS}");
    }
}

/// What the runbook refers to inside itself is there.
#[test]
fn the_runbook_leads_somewhere() {
    let headings: Vec<_> = sections().iter().map(|(name, _)| name.to_lowercase()).collect();
    let text = docker("RUNBOOK.md");
    for target in text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(headings.iter().any(|heading| heading == target), "RUNBOOK.md leads to #{target}, which is not there");
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to_fire() {
    let mut cases: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for file in TESTS {
        for case in docker(file).split("alertname: ").skip(1) {
            let name = case.lines().next().unwrap().trim().to_owned();
            let quiet = usize::from(case.contains("exp_alerts: []"));
            cases.entry(name).or_default()[quiet] += 1;
        }
    }
    let mut missing: Vec<_> = alerts().into_iter().map(|(name, _)| name).collect();
    missing.retain(|name| cases.remove(name).is_none_or(|[fires, quiet]| fires == 0 || quiet == 0));
    assert!(missing.is_empty(), "{missing:?} have no case that fires, or none that does not. {NEEDS}");
    assert!(cases.is_empty(), "cases of alerts that are not there: {cases:?}");
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let mut promtool = Command::new("promtool");
    promtool.current_dir(repository().join("docker")).args(["test", "rules"]).args(TESTS);
    let Ok(output) = promtool.output() else {
        let test = "operations::the_alert_rules_do_what_their_tests_say";
        return skip(test, "promtool is not installed (apt-get install prometheus)");
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{NEEDS}", String::from_utf8_lossy(&said));
}

/// Every `pgveil_…` of a text.
fn metrics_named(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("pgveil_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_speak_of_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&docker("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut asked: Vec<_> = targets.flat_map(|target| metrics_named(target["expr"].as_str().unwrap())).collect();
    assert!(asked.len() > 20);
    asked.extend(alerts().iter().flat_map(|(_, rule)| metrics_named(rule)));
    for name in asked {
        let base = name.trim_end_matches("_bucket");
        assert!(CATALOGUE.iter().any(|metric| metric.name == base), "nobody exposes {name}");
    }
}

/// The program's own or the one that `.ci/needs` has unpacked.
fn tool(name: &str) -> Command {
    let unpacked = target_dir().join("clients/bin").join(name);
    let mut command = if unpacked.exists() { Command::new(unpacked) } else { Command::new(name) };
    command.current_dir(repository().join("docker"));
    command
}

fn accepts(test: &str, package: &str, name: &str, arguments: &[&str]) {
    let Ok(output) = tool(name).args(arguments).output() else {
        return skip(&format!("operations::{test}"), &format!("{name} is not installed (apt-get install {package})"));
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_and_alertmanager_take_their_configuration() {
    let test = "prometheus_and_alertmanager_take_their_configuration";
    accepts(test, "prometheus", "promtool", &["check", "config", "prometheus.yml"]);
    accepts(test, "prometheus-alertmanager", "amtool", &["check-config", "alertmanager.yml"]);
}

#[test]
fn compose_confines_every_service_and_opens_nothing_beyond_this_machine() {
    let text = docker("compose.yaml");
    let (confined, rest) = text.split_once("\nservices:\n").unwrap();
    for line in ["  read_only: true", "  cap_drop: [ALL]", "  security_opt: [\"no-new-privileges:true\"]"] {
        assert!(confined.lines().any(|found| found == line), "{line}");
    }
    let services = rest.split("\nnetworks:\n").next().unwrap();
    let named = |line: &&str| line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':');
    let names: Vec<_> = services.lines().filter(named).map(|line| line.trim().trim_end_matches(':')).collect();
    assert_eq!(names, ["db", "pgveil", "prometheus", "alertmanager", "grafana"]);
    for name in names {
        let begin = format!("\n  {name}:\n");
        let whole = format!("\n{services}\n");
        let service = whole.split(&begin).nth(1).unwrap();
        let end = service.lines().position(|line| named(&line)).unwrap_or(usize::MAX);
        let service: Vec<_> = service.lines().take(end).map(str::trim).collect();
        let has = |start: &str| service.iter().any(|line| line.starts_with(start));
        assert!(has("<<: *confined") && has("healthcheck:"), "{name}: {service:#?}");
        // The image of pgveil has a user of its own.
        assert!(has("user: ") || has("build: "), "{name} runs as root");
        for image in service.iter().filter_map(|line| line.strip_prefix("image: ")) {
            let tag = image.rsplit(':').next().unwrap().trim_start_matches('v');
            assert!(
                tag.split('.').count() >= 2 && tag.starts_with(|c: char| c.is_ascii_digit()),
                "{image}: no version"
            );
        }
        for ports in service.iter().filter_map(|line| line.strip_prefix("ports: ")) {
            let all: Vec<_> = ports.trim_matches(['[', ']']).split(", ").collect();
            assert!(all.iter().all(|port| port.starts_with("\"127.0.0.1:")), "{name}: {ports}");
        }
    }
    let dockerfile = docker("Dockerfile");
    let froms: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert!(froms.len() == 2 && froms.iter().all(|from| from.contains('.') && !from.contains("latest")), "{froms:?}");
    assert!(dockerfile.lines().any(|line| line == "USER 10001:10001"));
}

/// The lines of a literal block (`key: |`), without their indentation.
fn block(text: &str, key: &str) -> String {
    let (before, rest) = text.split_once(&format!("{key}: |\n")).unwrap_or_else(|| panic!("no {key}"));
    let depth = before.len() - before.rfind('\n').unwrap() - 1;
    let deeper = |line: &&str| line.is_empty() || line.starts_with(&" ".repeat(depth + 1));
    let lines: Vec<_> = rest.lines().take_while(deeper).map(|line| line.get(depth + 2..).unwrap_or("")).collect();
    lines.join("\n")
}

#[test]
fn kubernetes_runs_what_loads_and_confines_it() {
    let text = docker("kubernetes.yaml");
    let config = pgveil::config::parse(Path::new("/etc/pgveil/pgveil.toml"), &block(&text, "pgveil.toml"));
    let config = config.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let policy = pgveil::policy::parse(&[("policy.toml".to_owned(), block(&text, "policy.toml"))]);
    assert!(policy.is_ok(), "{:?}", policy.err());
    let grace = text.split("terminationGracePeriodSeconds: ").nth(1).unwrap().lines().next().unwrap();
    assert!(grace.parse::<u64>().unwrap() > config.listen.drain_timeout.as_secs() + 30, "{grace}");
    assert!(text.contains("mountPath: /var/lib/pgveil}") && config.audit.dir.starts_with("/var/lib/pgveil"));
    for line in [
        "runAsNonRoot: true",
        "seccompProfile: {type: RuntimeDefault}",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "capabilities: {drop: [ALL]}",
        "automountServiceAccountToken: false",
    ] {
        assert!(text.contains(line), "{line}");
    }
    // The admin port is on loopback: the kubelet's own probes would not reach it.
    assert!(!text.contains("httpGet") && text.matches("exec: {command: [pgveil, health,").count() == 3);
}

#[test]
fn systemd_takes_the_unit_and_finds_it_confined() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("pgveil.service");
    let text = docker("pgveil.service");
    assert!(text.contains("ExecStart=/usr/local/bin/pgveil serve "));
    // What it starts must be there.
    fs::write(&unit, text.replace("/usr/local/bin/pgveil", env!("CARGO_BIN_EXE_pgveil"))).unwrap();
    let unit = unit.to_str().unwrap();
    let test = "systemd_takes_the_unit_and_finds_it_confined";
    accepts(test, "systemd", "systemd-analyze", &["verify", "--man=no", unit]);
    // Tenths: 2.0 of 10, where 0 is a service that can do nothing.
    accepts(test, "systemd", "systemd-analyze", &["security", "--offline=true", "--threshold=20", "--no-pager", unit]);
}

/// The next message that is about that, of those that come within half a minute.
fn told(socket: &UnixDatagram, word: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    while Instant::now() < deadline {
        let mut message = [0; 1_024];
        let length = socket.recv(&mut message).unwrap_or_else(|e| panic!("{word} is not told: {e}"));
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        if message.lines().any(|line| line.starts_with(word)) {
            return message;
        }
    }
    panic!("{word} is not told");
}

#[test]
fn the_service_manager_is_told_how_it_stands() {
    let site = Site::new("notify").prepare();
    site.pgveil_ok(&["apply"]);
    let path = site.path("notify.socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut shell = Command::new("sh");
    // The watchdog is for the process that systemd has started.
    shell.args(["-c", "export WATCHDOG_PID=$$; exec \"$0\" serve --config pgveil.toml", env!("CARGO_BIN_EXE_pgveil")]);
    shell.current_dir(site.path("")).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let log = fs::File::create(site.path("proxy.log")).unwrap();
    shell.stdout(log.try_clone().unwrap()).stderr(log);
    let mut proxy = Leashed::spawn(&mut shell).unwrap();
    told(&socket, "READY=1");
    assert!(http(site.admin_port(), "/healthz").is_some(), "ready, and its ports are not open");
    told(&socket, "WATCHDOG=1");
    proxy.signal("HUP");
    assert!(told(&socket, "RELOADING=1").contains("MONOTONIC_USEC="));
    told(&socket, "READY=1");
    proxy.signal("TERM");
    told(&socket, "STOPPING=1");
    let deadline = Instant::now() + Duration::from_secs(30);
    while proxy.ended().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_is_an_exit_code() {
    let said = |site: &Site, arguments: &[&str]| {
        let output = site.pgveil(&[&["health"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap().trim().to_owned())
    };
    let mut site = Site::new("healthy").start();
    assert_eq!(said(&site, &[]), (Some(0), "ready".to_owned()));
    assert_eq!(said(&site, &["--live"]), (Some(0), "alive".to_owned()));
    assert!(said(&site, &["--json"]).1.contains("\"ready\":true"));
    site.kill();
    let (code, text) = said(&site, &["--live"]);
    assert!(code == Some(1) && text.contains("no answer from http://127.0.0.1:"), "{code:?} {text}");
    // Alive, and without its server.
    let mut site = Site::new("unhealthy").upstream(free_port().unwrap()).prepare();
    site.pgveil_ok(&["apply"]);
    site.spawn();
    let deadline = Instant::now() + Duration::from_secs(30);
    while said(&site, &["--live"]).0 != Some(0) {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, text) = said(&site, &[]);
    assert!(code == Some(1) && text.starts_with("upstream: PostgreSQL at 127.0.0.1:"), "{code:?} {text}");
}
