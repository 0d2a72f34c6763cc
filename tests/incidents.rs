//! From an alert to a closed incident: what really happened through the proxy, judged by people, told to authorities.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{PASSWORD, Site, connect};

const SCHEMA: &str = "create table patients (id int primary key, name text, ward text)";
const POLICY: &str = r#"version = 1
[tables."public.patients"]
subject = { kind = "patient", key = "id" }
[tables."public.patients".columns]
id = { level = "internal" }
name = { level = "restricted", data = "pii", as = "text", encrypt = "randomized", mask = "name" }
ward = { level = "internal" }
[roles.app]
clearance = "restricted"
[roles.support]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
[detect]
exempt = ["app"]
bulk_records = 20
cooldown = "1s"
failures = 3
"#;
const CONFIG: &str = "[store]\nship = true\n[organization]\nname = \"Hospital Zuid\"\ndpo = \"R. Vos\"\n";

async fn site(name: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).config(CONFIG).start();
    let app = site.client("app").await;
    let insert = app.prepare("insert into patients values ($1, $2, 'b')").await.unwrap();
    for id in 1..=30_i32 {
        app.execute(&insert, &[&id, &format!("kanarie {id}")]).await.unwrap();
    }
    site
}

fn list(site: &Site) -> Vec<Value> {
    serde_json::from_str(&site.pgveil_ok(&["incidents", "list", "--all", "--json"])).unwrap()
}

/// Waits until there are such incidents, oldest first.
fn until(site: &Site, what: &str, found: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut all = list(site);
        all.sort_by_key(|incident| incident["id"].as_i64());
        if found(&all) {
            return all;
        }
        assert!(Instant::now() < deadline, "{what}: {all:?}\n{}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn refused(site: &Site, args: &[&str], wanted: &str) {
    let output = site.pgveil(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(wanted), "{args:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_read_becomes_an_incident_is_judged_and_reported() {
    let site = site("incident").await;
    let support = site.client("support").await;
    support.query("select id, name from patients where id <= 25", &[]).await.unwrap();
    let found = until(&site, "an incident", |all| all.len() == 1);
    assert_eq!((&found[0]["actor"], &found[0]["rules"][0]), (&"support".into(), &"bulk".into()), "{found:?}");
    assert_eq!((&found[0]["stage"], &found[0]["verdict"]), (&"detected".into(), &"open".into()));
    assert_eq!(site.metric("pgveil_incident_deadline_seconds", ""), f64::INFINITY);

    // The same actor again, by the same rule, is the same incident; its numbers grow.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    support.query("select name, id from patients where id > 25", &[]).await.unwrap();
    let found = until(&site, "another signal", |all| all[0]["signals"].as_i64() >= Some(2));
    assert_eq!(found.len(), 1, "{found:?}");
    let id = format!("INC-{}", found[0]["id"]);

    refused(&site, &["incidents", "contain", &id], "first `pgveil incidents aware`");
    refused(&site, &["incidents", "show", "INC-999"], "there is no incident INC-999");
    site.pgveil_ok(&["incidents", "aware", &id, "--by", "R. Vos", "--owner", "M. Bos"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = site.metric("pgveil_incident_deadline_seconds", "");
        if left.is_finite() {
            assert!((259_000.0..=259_200.0).contains(&left), "{left}");
            break;
        }
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(site.metric("pgveil_incidents_open", ""), 1.0);
    refused(&site, &["incidents", "close", &id, "--verdict", "incident"], "first `pgveil incidents contain`");
    site.pgveil_ok(&["incidents", "contain", &id, "--by", "R. Vos", "--note", "role locked"]);
    // After containment nothing is counted any more.
    support.query("select name, id from patients", &[]).await.unwrap();
    site.pgveil_ok(&["incidents", "notify", &id, "--by", "R. Vos"]);
    site.pgveil_ok(&["incidents", "notify", &id, "--by", "R. Vos", "--subjects"]);
    let closed = site.pgveil_ok(&[
        "incidents",
        "close",
        &id,
        "--by",
        "R. Vos",
        "--verdict",
        "incident",
        "--root-cause",
        "shared password",
        "--json",
    ]);
    let closed: Value = serde_json::from_str(&closed).unwrap();
    assert_eq!(
        (&closed["stage"], &closed["verdict"], &closed["owner"]),
        (&"closed".into(), &"incident".into(), &"M. Bos".into())
    );
    refused(&site, &["incidents", "contain", &id], "is closed");

    let whole: Value = serde_json::from_str(&site.pgveil_ok(&["incidents", "show", &id, "--json"])).unwrap();
    let changes: Vec<&str> =
        whole["history"].as_array().unwrap().iter().map(|change| change["change"].as_str().unwrap()).collect();
    let people: Vec<&str> = changes.iter().copied().filter(|change| *change != "signal").collect();
    assert_eq!(people, ["aware", "contained", "notified", "subjects_notified", "closed"]);
    let direct = site.direct("pgveil").await;
    let edited = direct.execute("update pgveil.incident_history set by_whom = 'nobody'", &[]).await.unwrap_err();
    assert_eq!(edited.code().unwrap().code(), "55000", "{edited}");

    let report = site.pgveil_ok(&["incidents", "report", &id, "--art33"]);
    for wanted in [
        "- **who:** `support` in database `",
        "password, proved to the server (SCRAM-SHA-256)",
        "- **people concerned:** 30 different people\n",
        "- **records released:** 30, by 2 statements",
        "- **of these in clear:** 30 (columns",
        "- **of these masked only:** 0",
        "| `public.patients.name` | pii | restricted | 30 | 0 | 0 | 0 |",
        "identity and contact data",
        "- **controller:** Hospital Zuid",
        "- **data protection officer:** R. Vos",
        "contained, by `R. Vos`; note: role locked",
        "- **cause:** shared password",
        ", met\n",
    ] {
        assert!(report.contains(wanted), "{wanted} is not in\n{report}");
    }
    let letter = site.pgveil_ok(&["incidents", "report", &id, "--art34"]);
    assert!(letter.contains("# Important: Data Breach Notification") && !letter.contains("support"), "{letter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_have_their_own_incidents_and_rules_join_them() {
    let site = site("incidents").await;
    for role in ["support", "analyst"] {
        site.client(role).await.query("select id, name from patients", &[]).await.unwrap();
    }
    let wrong = site.url("support").replace(PASSWORD, "wrong");
    for _ in 0..4 {
        assert!(connect(&wrong).await.is_err());
    }
    let found = until(&site, "three rules", |all| {
        all.iter().any(|one| one["actor"] == "support" && one["rules"].as_array().unwrap().len() >= 2)
            && all.iter().any(|one| one["actor"] == "analyst")
    });
    let of = |actor: &str| found.iter().filter(|one| one["actor"] == actor).collect::<Vec<_>>();
    assert_eq!((of("support").len(), of("analyst").len()), (1, 1), "{found:?}");
    assert!(of("support")[0]["rules"].as_array().unwrap().contains(&"failures".into()), "{found:?}");

    let id = format!("INC-{}", of("analyst")[0]["id"]);
    let report = site.pgveil_ok(&["incidents", "report", &id, "--art33"]);
    assert!(
        report.contains("- **of these in clear:** 0 (") && report.contains("- **of these masked only:** 30"),
        "{report}"
    );
    site.pgveil_ok(&["incidents", "close", &id, "--verdict", "false_positive", "--note", "a test"]);
    let open: Vec<Value> = serde_json::from_str(&site.pgveil_ok(&["incidents", "list", "--json"])).unwrap();
    assert!(open.iter().all(|one| one["actor"] != "analyst"), "{open:?}");
    let twice = site.sql("select count(*) from pgveil.incident_history where change = 'signal'");
    let alerts = site.sql("select count(*) from pgveil.access_log where kind = 'alert'");
    assert_eq!(twice, alerts, "each alert once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_prints_a_complete_draft_and_counts_nowhere() {
    let site = site("drill").await;
    let draft = site.pgveil_ok(&["incidents", "drill", "--by", "R. Vos"]);
    for wanted in [
        "**DRILL.**",
        "## The clock",
        "Article 33(3)(a)",
        "Article 33(3)(b)",
        "Article 33(3)(c)",
        "Article 33(3)(d)",
        "137 different people",
        "| `public.patients.name` | pii | restricted |",
        "notified, by `R. Vos`",
        "HIPAA",
    ] {
        assert!(draft.contains(wanted), "{wanted} is not in\n{draft}");
    }
    let all = list(&site);
    assert_eq!((all.len(), &all[0]["drill"], &all[0]["stage"]), (1, &true.into(), &"closed".into()));
    assert_eq!(site.metric("pgveil_incidents_open", ""), 0.0);
    assert_eq!(site.metric("pgveil_incident_deadline_seconds", ""), f64::INFINITY);
}

#[test]
fn without_the_copy_the_way_out_is_said() {
    let site = Site::new("incident_none").schema(SCHEMA).policy(POLICY).prepare();
    refused(&site, &["incidents", "list"], "[store] ship = true");
}
