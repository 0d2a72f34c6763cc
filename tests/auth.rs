//! Logins that end in the proxy, against a real PostgreSQL and libpq, with TLS on both legs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pgveil::demo::cluster::{Binaries, Cluster};

use crate::support::{PASSWORD, ROLES, Site, SiteBuilder, connect, keep_cluster, site_folder};
use crate::tls::give_certificate;

/// A cluster with TLS, and the folder of its `ca.pem`.
struct Ground {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let hba = "host all trusty 127.0.0.1/32 trust\nhost all old 127.0.0.1/32 password\n";
        let cluster = Cluster::start(&Binaries::find().unwrap(), "log_statement = 'all'\n", hba).unwrap();
        keep_cluster(&cluster);
        let roles: String = ROLES.iter().map(|r| format!("create role {r} login password '{PASSWORD}';")).collect();
        cluster.sql("postgres", &roles).unwrap();
        let odd = format!(
            "create role late login password '{PASSWORD}' valid until '2020-01-01';
             create role nobody nologin password '{PASSWORD}';
             create role fickle login password '{PASSWORD}';
             set password_encryption = 'md5'; create role old login password '{PASSWORD}'"
        );
        cluster.sql("postgres", &odd).unwrap();
        let folder = site_folder();
        give_certificate(&cluster, folder.path());
        Ground { cluster, folder }
    })
}

/// A site with TLS on both legs; nothing of pgveil has run but `keys init`.
fn both_tls(name: &str, auth: &str) -> Site {
    let ca = ground().folder.path().join("ca.pem");
    let site = site(name)
        .listen("tls = { cert = \"proxy.crt\", key = \"proxy.key\" }")
        .upstream_lines(&format!("tls = {{ mode = \"verify-full\", ca = {:?} }}", ca.display().to_string()))
        .config(auth)
        .passthrough("postgres")
        .prepare();
    let ours = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    site.write("proxy.crt", &ours.cert.pem());
    site.write("proxy.key", &ours.signing_key.serialize_pem());
    site
}

fn site(name: &str) -> SiteBuilder {
    Site::new(name).on(&ground().cluster)
}

/// Runs what `pgveil apply --superuser` prints, as the superuser.
fn lend_verifiers(site: &Site) {
    let script = site.pgveil_ok(&["apply", "--superuser"]);
    assert!(script.contains("security definer") && script.contains("to \"pgveil\""), "{script}");
    site.sql(&script);
}

fn served(name: &str, auth: &str) -> Site {
    let mut site = both_tls(name, auth);
    site.pgveil_ok(&["apply"]);
    lend_verifiers(&site);
    site.serve();
    site
}

/// A login with libpq that verifies our certificate: what it selected, or what it was told.
fn login(site: &Site, database: &str, user: &str, password: &str, binding: &str) -> Result<String, String> {
    ask(
        site,
        [database, user, password, binding],
        "select session_user, ssl from pg_stat_ssl where pid = pg_backend_pid()",
    )
}

fn ask(site: &Site, [database, user, password, binding]: [&str; 4], sql: &str) -> Result<String, String> {
    let mut psql = Command::new(ground().cluster.binaries().program("psql"));
    let target = format!(
        "host=127.0.0.1 port={} user={user} dbname={database} sslmode=verify-full sslrootcert={} channel_binding={binding}",
        site.port(),
        site.path("proxy.crt").display()
    );
    psql.args(["-X", "-A", "-t", "-w", "-d", &target, "-c", sql]);
    let output = psql.env("PGPASSWORD", password).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The events of that kind, as (role, how it was established, SQLSTATE).
fn logins(site: &Site, kind: &str) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = site.events().into_iter().filter(|e| e["kind"] == kind);
    all.map(|e| (text(&e["actor"]["role"]), text(&e["actor"]["auth"]), text(&e["sqlstate"]))).collect()
}

#[test]
fn libpq_binds_the_channel_on_both_legs() {
    let site = served("bound", "");
    for database in [site.database.as_str(), "postgres"] {
        for binding in ["require", "prefer", "disable"] {
            let said = login(&site, database, "app", PASSWORD, binding);
            assert_eq!(said.as_deref(), Ok("app|t"), "{database} {binding}\n{}", site.log());
        }
    }
    let found = logins(&site, "login");
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found.iter().all(|(role, auth, _)| role == "app" && auth == "scram-terminate"), "{found:?}");
}

#[test]
fn the_console_takes_logins_that_end_here() {
    let site = served("consoletls", "[console]\nroles = [\"app\"]\n");
    let version = |user: &str, password: &str| ask(&site, ["pgveil", user, password, "require"], "show version");
    assert!(version("app", PASSWORD).is_ok_and(|said| said.starts_with("pgveil ")), "{}", site.log());
    assert!(version("app", "wrong").is_err_and(|said| said.contains("PV028")));
    assert!(version("support", PASSWORD).is_err_and(|said| said.contains("PV040")));
    let found = logins(&site, "login");
    assert_eq!(found, [("app".to_owned(), "scram-terminate".to_owned(), String::new())]);
}

#[test]
fn who_may_not_log_in_is_told_what_a_wrong_password_is_told() {
    let site = served("wrong", "");
    let cases = [("app", "wrong"), ("nosuch", PASSWORD), ("late", PASSWORD), ("nobody", PASSWORD), ("old", PASSWORD)];
    for (user, password) in cases {
        let said = login(&site, &site.database, user, password, "require").unwrap_err();
        let expected = format!("FATAL:  PV028 password authentication failed for user \"{user}\"");
        assert!(said.ends_with(&expected), "{user}: {said}");
    }
    let failed = logins(&site, "login-failed");
    assert_eq!(failed.len(), cases.len(), "{failed:?}");
    assert!(failed.iter().all(|(_, auth, sqlstate)| auth == "none" && sqlstate == "28P01"), "{failed:?}");
    let upstream = std::fs::read_to_string(ground().cluster.log_file()).unwrap();
    assert!(
        !upstream.contains("failed for user \"nosuch\"") && !upstream.contains("role \"nosuch\""),
        "the server hears of nobody who has not proved himself"
    );
}

#[test]
fn a_changed_password_counts_at_once() {
    let site = served("changed", "");
    let try_with = |password: &str| login(&site, &site.database, "fickle", password, "prefer");
    try_with(PASSWORD).unwrap();
    site.sql("alter role fickle password 'another-one-7'");
    // What is remembered still fits; the server disagrees.
    assert!(try_with(PASSWORD).unwrap_err().contains("password authentication failed"));
    assert_eq!(try_with("another-one-7").as_deref(), Ok("fickle|t"));
    site.sql("alter role fickle nologin");
    assert!(try_with("another-one-7").is_err());
    assert!(try_with("another-one-7").unwrap_err().contains("PV028"), "forgotten, and not found again");
}

#[test]
fn without_verifiers_nobody_is_served() {
    let mut site = both_tls("none", "");
    site.pgveil_ok(&["apply"]);
    site.spawn();
    assert_eq!(site.wait_exit(30), Some(1), "{}", site.log());
    assert!(site.log().contains("apply --superuser") && site.log().contains("scram_verifier"), "{}", site.log());
    let checked = site.pgveil(&["check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.code() == Some(1) && said.contains("apply --superuser"), "{said}");
    lend_verifiers(&site);
    assert!(site.pgveil_ok(&["apply", "--superuser"]).contains("nothing is missing"));
    site.pgveil_ok(&["check"]);
    for role in ["app", "pgveil"] {
        let sql = "select count(*) from pgveil.scram_verifier('app')";
        let asked = ground().cluster.sql_as(role, PASSWORD, &site.database, sql);
        assert_eq!(asked.is_ok(), role == "pgveil", "{asked:?}");
    }
    for (role, rows) in [("app", "1"), ("old", "1"), ("late", "0"), ("nobody", "0"), ("nosuch", "0")] {
        assert_eq!(site.sql(&format!("select count(*) from pgveil.scram_verifier('{role}')")), rows, "{role}");
    }
    assert_eq!(site.sql("select verifier is null from pgveil.scram_verifier('old')"), "t", "no MD5 hash leaves");
}

#[test]
fn a_user_without_a_verifier_is_relayed_where_that_is_allowed() {
    let site = served("relayed", "[auth]\nrelay_cleartext = true\n");
    assert_eq!(login(&site, &site.database, "old", PASSWORD, "prefer").as_deref(), Ok("old|t"));
    assert!(login(&site, &site.database, "old", "wrong", "prefer").is_err());
    assert_eq!(login(&site, &site.database, "app", PASSWORD, "require").as_deref(), Ok("app|t"));
    let ways: Vec<String> = logins(&site, "login").into_iter().map(|(_, auth, _)| auth).collect();
    assert_eq!(ways, ["cleartext", "scram-terminate"]);
}

fn write_private(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn verifiers_come_from_a_file_where_the_server_lends_none() {
    let auth = "[auth]\nmode = \"terminate\"\nverifiers = \"file\"\npath = \"verifiers\"\n";
    let mut site = site("file").config(auth).prepare();
    site.pgveil_ok(&["apply"]);
    let quoted =
        "select format('\"%s\" \"%s\"', rolname, rolpassword) from pg_authid where rolname in ('app', 'trusty')";
    let users = site.sql(quoted);
    write_private(&site.path("verifiers"), &users, 0o644);
    site.spawn();
    assert_eq!(site.wait_exit(30), Some(1), "{}", site.log());
    assert!(site.log().contains("chmod 0600"), "{}", site.log());
    write_private(&site.path("verifiers"), &users, 0o600);
    site.serve();
    let app = site.client("app").await;
    let row = app.query_one("select session_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "app");
    let refused = connect(&site.url("analyst")).await.expect_err("not in the file");
    assert_eq!(refused.code().map(|c| c.code()), Some("28P01"), "{refused:?}");
    // pg_hba trusts this one, which proves nothing.
    let refused = connect(&site.url("trusty")).await.expect_err("the server asks for no proof");
    assert_eq!(refused.code().map(|c| c.code()), Some("28000"), "{refused:?}");
}
