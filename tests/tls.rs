//! TLS towards a real PostgreSQL that demands it: sessions and the control connection, verified as configured.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pgveil::demo::cluster::{Binaries, Cluster, free_port};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::{connect, http, keep_cluster, site_folder};

const ROLES: &str = "create role pgveil login superuser password 'tls-1'; create role app login password 'tls-2';
    create table users (id int primary key, email varchar(99)); grant all on users to app";

const POLICY: &str = "version = 1
[tables.\"public.users\".columns]
id = { level = \"internal\" }
email = { level = \"restricted\", encrypt = \"deterministic\" }
[roles.app]
clearance = \"restricted\"
";

/// A cluster that lets nobody in without TLS, with a certificate for 127.0.0.1 (not for `localhost`) by `ca.pem`.
fn tls_cluster(folder: &Path) -> Cluster {
    let hba = "local all all scram-sha-256\nhostnossl all pgveil,app 0.0.0.0/0 reject\n";
    let cluster = Cluster::start(&Binaries::find().unwrap(), "log_statement = 'all'\n", hba).unwrap();
    keep_cluster(&cluster);
    cluster.sql("postgres", ROLES).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("stranger.pem"), stranger.cert.pem()).unwrap();
    give_certificate(&cluster, folder);
    cluster
}

/// Switches TLS on, with a certificate for 127.0.0.1 by the authority that is written to `ca.pem` in `folder`.
pub fn give_certificate(cluster: &Cluster, folder: &Path) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.pem"), params.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [("server.crt", leaf.pem()), ("server.key", key.serialize_pem())] {
        let path = cluster.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let about = std::fs::metadata(cluster.data()).unwrap();
        let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&about), std::os::unix::fs::MetadataExt::gid(&about));
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    }
    cluster.sql("postgres", "alter system set ssl = on").unwrap();
    cluster.sql("postgres", "select pg_reload_conf()").unwrap();
}

fn pgveil(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    command.current_dir(folder).args(args).env("PGVEIL_KEY", "correct horse battery staple 7c1b");
    command.stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat()
}

/// Ends the proxy however the test ends.
struct Proxy(std::process::Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_server_is_verified_as_configured_on_both_connections() {
    let folder = site_folder();
    let cluster = tls_cluster(folder.path());
    let (port, admin) = (free_port().unwrap(), free_port().unwrap());
    let write = |host: &str, tls: &str| {
        let toml = format!(
            "[listen]\npostgres = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
             [upstream]\nhost = \"{host}\"\nport = {server}\ntls = {tls}\n\
             [control]\nurl = \"postgresql://pgveil:tls-1@{host}:{server}/postgres?{control}\"\n\
             [policy]\npath = \"policy.toml\"\n[keys]\npath = \"keyring.toml\"\npassphrase_env = \"PGVEIL_KEY\"\n",
            server = cluster.port(),
            control = tls
                .replace([' ', '{', '}', '"'], "")
                .replace("mode", "sslmode")
                .replace("ca=", "sslrootcert=")
                .replace(',', "&"),
        );
        std::fs::write(folder.path().join("pgveil.toml"), toml).unwrap();
    };
    std::fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    write("127.0.0.1", "{ mode = \"verify-full\", ca = \"ca.pem\" }");
    let made = pgveil(folder.path(), &["keys", "init"]);
    assert!(made.status.success(), "{}", said(&made));

    for (host, tls, expected) in [
        ("127.0.0.1", "{ mode = \"disable\" }", "reject"),
        ("127.0.0.1", "{ mode = \"verify-full\", ca = \"stranger.pem\" }", "certificate"),
        ("localhost", "{ mode = \"verify-full\", ca = \"ca.pem\" }", "certificate"),
    ] {
        write(host, tls);
        let refused = pgveil(folder.path(), &["apply"]);
        assert!(!refused.status.success() && said(&refused).contains(expected), "{tls}: {}", said(&refused));
        assert!(!said(&refused).contains("tls-1"));
    }
    for (host, tls) in [
        ("127.0.0.1", "{ mode = \"require\" }"),
        ("localhost", "{ mode = \"verify-ca\", ca = \"ca.pem\" }"),
        ("127.0.0.1", "{ mode = \"verify-full\", ca = \"ca.pem\" }"),
    ] {
        write(host, tls);
        let applied = pgveil(folder.path(), &["apply"]);
        assert!(applied.status.success(), "{tls}: {}", said(&applied));
    }

    let mut proxy = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    proxy.current_dir(folder.path()).arg("serve").env("PGVEIL_KEY", "correct horse battery staple 7c1b");
    let log = std::fs::File::create(folder.path().join("proxy.1.log")).unwrap();
    let mut proxy = Proxy(proxy.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    while http(admin, "/readyz").is_none_or(|(status, _)| status != 200) {
        assert!(Instant::now() < deadline && proxy.0.try_wait().unwrap().is_none(), "the proxy is not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let app = connect(&format!("postgresql://app:tls-2@127.0.0.1:{port}/postgres")).await.unwrap();
    app.execute("insert into users values (1, $1)", &[&"kanarie@x.org"]).await.unwrap();
    let row = app.query_one("select email from users where email = $1", &[&"kanarie@x.org"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "kanarie@x.org");
    let plain = "select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid) where not s.ssl and a.usename in ('app', 'pgveil')";
    assert_eq!(cluster.sql("postgres", plain).unwrap(), "0");
    let secure = "select count(distinct a.usename) from pg_stat_ssl s join pg_stat_activity a using (pid) where s.ssl and a.usename in ('app', 'pgveil')";
    assert_eq!(cluster.sql("postgres", secure).unwrap(), "2");
}
