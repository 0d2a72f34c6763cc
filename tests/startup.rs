//! What keeps pgveil from serving is said plainly; what comes up later does not take it down.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use pgveil::demo::cluster::Cluster;

use crate::scenario::site;
use crate::support::{Site, connect, http, keep_cluster, new_cluster};

const SCHEMA: &str = "create table t (id int primary key, name text);";
const POLICY: &str = r#"version = 1
[tables."public.t"]
subject = { kind = "person", key = "id" }
[tables."public.t".columns]
id = { level = "internal" }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
[roles.app]
clearance = "restricted"
"#;

/// `pgveil serve` must end by itself with code 1; what it said.
fn refuses_to_serve(site: &mut Site) -> String {
    site.spawn();
    assert_eq!(site.wait_exit(30), Some(1), "{}", site.log());
    site.log()
}

fn prepared(name: &str) -> Site {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply"]);
    site
}

#[test]
fn a_wrong_passphrase_is_refused() {
    let mut site = prepared("passphrase");
    fs::write(site.path("passphrase"), "something else entirely").unwrap();
    let said = refuses_to_serve(&mut site);
    assert!(said.to_lowercase().contains("passphrase"), "{said}");
    assert!(!said.contains("something else"), "{said}");
}

#[test]
fn a_missing_or_readable_keyring_is_refused() {
    let mut site = prepared("keyring");
    let keyring = site.path("keyring.toml");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refuses_to_serve(&mut site);
    assert!(said.contains("keyring.toml"), "{said}");
    fs::remove_file(&keyring).unwrap();
    let said = refuses_to_serve(&mut site);
    assert!(said.contains("keyring.toml") && said.contains("keys init"), "{said}");
}

#[test]
fn an_edited_keyring_is_refused() {
    let mut site = prepared("edited");
    let text = fs::read_to_string(site.path("keyring.toml")).unwrap();
    let edited = text.replacen("public.t.name", "public.t.nome", 1);
    assert_ne!(text, edited, "the keyring names its columns");
    fs::write(site.path("keyring.toml"), edited).unwrap();
    let said = refuses_to_serve(&mut site);
    assert!(said.contains("keyring"), "{said}");
}

#[test]
fn keys_init_never_overwrites() {
    let site = prepared("overwrite");
    let before = fs::read(site.path("keyring.toml")).unwrap();
    assert_eq!(fs::metadata(site.path("keyring.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    let again = site.pgveil(&["keys", "init"]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read(site.path("keyring.toml")).unwrap(), before);
}

#[test]
fn a_policy_that_names_a_missing_column_says_where() {
    let wrong = POLICY.replace("name = {", "nmae = {");
    let mut site = Site::new("missing").schema(SCHEMA).policy(&wrong).prepare();
    for args in [&["check"][..], &["apply"]] {
        let output = site.pgveil(args);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("policy.toml:6") && said.contains("nmae") && said.contains("`name`"), "{args:?}: {said}");
    }
    let said = refuses_to_serve(&mut site);
    assert!(said.contains("nmae"), "{said}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let site = prepared("usage");
    assert_eq!(site.pgveil(&["serve", "--no-such-option"]).status.code(), Some(2));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_57p03() {
    // A port nobody listens on: bound for a moment, then free.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut site = Site::new("down").schema(SCHEMA).policy(POLICY).upstream(nobody).prepare();
    site.pgveil_ok(&["apply"]);
    site.spawn();
    let mut last = None;
    for _ in 0..300 {
        if http(site.admin_port(), "/healthz").is_some_and(|(status, _)| status == 200) {
            last = Some(connect(&site.url("app")).await.expect_err("nobody is there"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = last.unwrap_or_else(|| panic!("not healthy:\n{}", site.log()));
    assert_eq!(error.code().map(|c| c.code()), Some("57P03"), "{error:?}");
    assert_eq!(http(site.admin_port(), "/readyz").map(|(status, _)| status), Some(503));
}

/// Waits until the admin port answers `path` with that status; what it said.
async fn until(site: &Site, path: &str, status: u16) -> String {
    for _ in 0..600 {
        match http(site.admin_port(), path) {
            Some((found, said)) if found == status => return said,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{path} is not {status} after 30 s:\n{}", site.log());
}

/// A site whose own server is down: its policy is applied, its proxy has never run.
fn before_its_server(policy: &str) -> (Site, &'static Cluster) {
    // The server is the run's to stop and search, like the shared one.
    let server: &'static Cluster = Box::leak(Box::new(new_cluster()));
    keep_cluster(server);
    let site = Site::new("early").on(server).schema(SCHEMA).policy(POLICY).passthrough("postgres").prepare();
    site.pgveil_ok(&["apply"]);
    site.write("policy.toml", policy);
    server.stop().unwrap();
    (site, server)
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_waited_for() {
    let (mut site, server) = before_its_server(POLICY);
    site.spawn();
    until(&site, "/healthz", 200).await;
    let said = until(&site, "/readyz", 503).await;
    assert!(said.contains("policy and catalog are not loaded") && said.contains("PostgreSQL at 127.0.0.1"), "{said}");
    let passthrough = site.url("app").replace(&format!("/{}", site.database), "/postgres");
    for url in [site.url("app"), passthrough.clone()] {
        let error = connect(&url).await.expect_err("nothing is known of any database");
        assert_eq!(error.code().map(|c| c.code()), Some("57P03"), "{error:?}");
        assert!(error.to_string().contains("not reachable") || format!("{error:?}").contains("not reachable"));
    }
    // Neither reading everything anew nor waiting longer ends it.
    site.signal("HUP");
    tokio::time::sleep(Duration::from_millis(700)).await;
    until(&site, "/healthz", 200).await;
    server.resume().unwrap();
    until(&site, "/readyz", 200).await;
    let app = site.client("app").await;
    app.execute("insert into t values (1, 'Ada kanarie')", &[]).await.unwrap();
    assert_eq!(name(&app).await.unwrap(), "Ada kanarie");
    connect(&passthrough).await.unwrap().simple_query("select 1").await.unwrap();
    assert!(site.sql("select name from t").starts_with("\\xfed1"));
}

#[tokio::test]
async fn a_policy_that_does_not_fit_a_late_server_ends_the_proxy() {
    let (mut site, server) = before_its_server(&POLICY.replace("name = {", "nmae = {"));
    site.spawn();
    until(&site, "/readyz", 503).await;
    server.resume().unwrap();
    assert_eq!(site.wait_exit(60), Some(1), "{}", site.log());
    assert!(site.log().contains("nmae"), "{}", site.log());
}

#[test]
fn what_shows_without_the_server_is_refused_at_once() {
    let (mut site, _server) = before_its_server("version = 1\n[tables.\"public.t\"]\nbroken");
    assert!(refuses_to_serve(&mut site).contains("policy.toml:3"), "{}", site.log());
    site.write("policy.toml", POLICY);
    fs::write(site.path("passphrase"), "something else entirely").unwrap();
    assert!(refuses_to_serve(&mut site).to_lowercase().contains("passphrase"), "{}", site.log());
}

#[tokio::test]
async fn sigterm_drains() {
    let mut site = site("drain");
    let idle = site.client("app").await;
    let busy = site.client("app").await;
    let running = tokio::spawn(async move { busy.simple_query("select pg_sleep(1.5), 'done' as word").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.signal("TERM");
    let finished = running.await.unwrap();
    assert!(format!("{finished:?}").contains("done"), "a running statement finishes: {finished:?}");
    let refused = idle.simple_query("select 1").await.expect_err("an idle session has ended");
    assert!(refused.is_closed() || refused.code().map(|c| c.code()) == Some("57P01"), "{refused:?}");
    assert_eq!(site.wait_exit(30), Some(0), "{}", site.log());
}

async fn name(client: &tokio_postgres::Client) -> Result<String, tokio_postgres::Error> {
    client.query_one("select name from t", &[]).await.map(|row| row.get(0))
}

#[tokio::test]
async fn a_policy_is_reloaded_and_a_bad_one_changes_nothing() {
    let site = Site::new("reload").schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    app.execute("insert into t values (1, 'Ada kanarie')", &[]).await.unwrap();
    assert_eq!(name(&app).await.unwrap(), "Ada kanarie");
    site.write("policy.toml", "version = 1\n[tables.\"public.t\"]\nbroken");
    site.signal("HUP");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(name(&app).await.unwrap(), "Ada kanarie", "a bad policy changes nothing");
    let kept = app.prepare("select name as kept from t").await.unwrap();
    assert_eq!(app.query_one(&kept, &[]).await.unwrap().get::<_, &str>(0), "Ada kanarie");
    site.write("policy.toml", &POLICY.replace("clearance = \"restricted\"", "clearance = \"internal\""));
    site.signal("HUP");
    for _ in 0..200 {
        if name(&app).await.is_ok_and(|name| name == "A** k******") {
            // What was prepared before shows no more either, and the log says what it showed.
            assert_eq!(app.query_one(&kept, &[]).await.unwrap().get::<_, &str>(0), "A** k******");
            let of_kept = |event: &serde_json::Value| event["text"].as_str().is_some_and(|text| text.contains("kept"));
            let events = site.events();
            let shown: Vec<&str> = events
                .iter()
                .filter(|event| of_kept(event))
                .filter_map(|e| e["touches"][0]["shown"].as_str())
                .collect();
            assert_eq!(shown, ["clear", "clear", "masked", "masked"], "two intents, two outcomes");
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the new policy was not taken up:\n{}", site.log());
}
