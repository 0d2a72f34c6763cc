//! Who is let in at the door: rules by network, user and database, client certificates, limits of one address and user.

use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{PASSWORD, Site, connect};

/// A site that answers TLS and takes certificates of its own authority, and beside them one of a stranger's.
fn site(name: &str, rules: &str) -> Site {
    let tls = "tls = { cert = \"proxy.crt\", key = \"proxy.key\", client_ca = \"clients.pem\", \
               client_certificates = \"optional\", required = false }";
    let mut site = Site::new(name).listen(&format!("{tls}\n{rules}")).prepare();
    let ours = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    site.write("proxy.crt", &ours.cert.pem());
    site.write("proxy.key", &ours.signing_key.serialize_pem());
    for (authority, names) in [("clients", &["app", "analyst"][..]), ("strangers", &["forged"])] {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        site.write(&format!("{authority}.pem"), &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        for name in names {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            let common = if *name == "forged" { "app" } else { name };
            params.distinguished_name.push(DnType::CommonName, common);
            let key = KeyPair::generate().unwrap();
            site.write(&format!("{name}.crt"), &params.signed_by(&key, &issuer).unwrap().pem());
            site.write(&format!("{name}.key"), &key.serialize_pem());
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(site.path(&format!("{name}.key")), mode).unwrap();
        }
    }
    site.pgveil_ok(&["apply"]);
    site.serve();
    site
}

/// `in`, or the code that it was told.
fn login(site: &Site, user: &str, sslmode: &str, certificate: Option<&str>) -> String {
    let shown = certificate.map_or(String::new(), |name| {
        let file = |end: &str| site.path(&format!("{name}.{end}")).display().to_string();
        format!(" sslcert={} sslkey={}", file("crt"), file("key"))
    });
    let target = format!(
        "host=127.0.0.1 port={} user={user} dbname={} sslmode={sslmode} sslrootcert={}{shown}",
        site.port(),
        site.database,
        site.path("proxy.crt").display()
    );
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-t", "-w", "-d", &target, "-c", "select session_user"]).env("PGPASSWORD", PASSWORD);
    let output = psql.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        return "in".to_owned();
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.find("PV0").map_or(said.clone(), |at| said[at..at + 5].to_owned())
}

#[test]
fn the_first_rule_that_fits_a_connection_decides() {
    let site = site(
        "rules",
        "[[listen.rules]]\nfrom = \"192.0.2.0/24\"\nallow = \"any\"\n\
         [[listen.rules]]\nusers = [\"app\"]\nallow = \"certificate\"\n\
         [[listen.rules]]\nfrom = [\"127.0.0.0/8\", \"::1\"]\nusers = \"analyst\"\nallow = \"tls\"\n",
    );
    for (user, sslmode, certificate, expected) in [
        ("app", "verify-full", Some("app"), "in"),
        ("app", "verify-full", Some("analyst"), "PV029"),
        ("app", "verify-full", None, "PV029"),
        ("app", "disable", None, "PV029"),
        ("analyst", "verify-full", None, "in"),
        ("analyst", "disable", None, "PV003"),
        ("postgres", "verify-full", None, "PV029"),
    ] {
        assert_eq!(login(&site, user, sslmode, certificate), expected, "{user} {sslmode} {certificate:?}");
    }
    let forged = login(&site, "app", "verify-full", Some("forged"));
    assert!(forged.contains("alert") || forged.contains("closed"), "{forged}");
    let events = site.events();
    let logins: Vec<_> = events.iter().filter(|event| event["kind"] == "login").collect();
    assert!(logins.iter().any(|e| e["actor"]["role"] == "app" && e["actor"]["certificate"] == "app"), "{logins:?}");
    assert!(
        logins.iter().any(|e| e["actor"]["role"] == "analyst" && e["actor"]["certificate"].is_null()),
        "{logins:?}"
    );
}

#[tokio::test]
async fn one_user_does_not_use_up_the_places_of_others() {
    let site = Site::new("per_user").listen("max_connections_per_user = 2").start();
    let (_one, two) = (site.client("app").await, site.client("app").await);
    let refused = connect(&site.url("app")).await.expect_err("the user has two already");
    assert_eq!(refused.code().map(|c| c.code()), Some("53300"), "{refused:?}");
    assert!(refused.to_string().contains("of this user") || format!("{refused:?}").contains("of this user"));
    let _other = site.client("analyst").await;
    drop(two);
    for _ in 0..200 {
        if connect(&site.url("app")).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn one_address_has_its_own_limit() {
    let site = Site::new("per_address").listen("max_connections_per_address = 2").start();
    let (_one, _two) = (site.client("app").await, site.client("analyst").await);
    let refused = connect(&site.url("app")).await.expect_err("the address has two already");
    assert_eq!(refused.code().map(|c| c.code()), Some("53300"), "{refused:?}");
}
