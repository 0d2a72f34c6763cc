//! What a config file may say, and what it is told when it says something else.

use std::path::Path;

use super::*;

const GOOD: &str = r#"
[listen]
postgres = "127.0.0.1:6432"
[upstream]
host = "127.0.0.1"
[control]
url = "postgresql://pgveil:secret-canary@127.0.0.1:5432/app"
[policy]
path = "policies/medico.toml"
[keys]
path = "keyring.toml"
passphrase_env = "PGVEIL_PASSPHRASE"
"#;

fn parsed(text: &str) -> Config {
    parse(Path::new("/etc/pgveil/pgveil.toml"), text).unwrap()
}

fn refused(text: &str) -> String {
    render(&parse(Path::new("pgveil.toml"), text).unwrap_err())
}

#[test]
fn the_smallest_file_gets_safe_defaults() {
    let config = parsed(GOOD);
    assert_eq!(config.policy, Path::new("/etc/pgveil/policies/medico.toml"));
    assert_eq!(config.audit.dir, Path::new("/etc/pgveil/audit"));
    assert_eq!(config.audit.durability, Durability::Intent);
    assert_eq!(config.audit.on_failure, OnAuditFailure::Block);
    assert!(config.audit.anchors.is_empty());
    let settings = crate::desk::Settings::from(&config.audit);
    assert_eq!(settings.audit, crate::audit::Settings::new("/etc/pgveil/audit"), "as the rooms' own defaults");
    let hourly = parsed(&format!("{GOOD}[audit]\nsegment_hours = 1\n"));
    assert_eq!(crate::desk::Settings::from(&hourly.audit).audit.segment_us, 3_600_000_000);
    assert_eq!(config.listen.admin.unwrap().to_string(), "127.0.0.1:6480");
    assert!(!config.listen.allow_trust);
    assert_eq!(config.upstream.tls.mode, TlsMode::Disable);
    assert_eq!(config.control.url.database(), "app");
    assert!(!format!("{config:?}").contains("secret-canary"));
}

#[test]
fn every_problem_comes_at_once() {
    let text = r#"
[listen]
postgres = "6432"
admin = "0.0.0.0:6480"
allow_trsut = true
[upstream]
host = "db.example.org"
[control]
url = "postgresql://:secret-canary@db"
[keys]
provider = "vault"
path = "keyring.toml"
"#;
    let all = refused(text);
    for expected in [
        "pgveil.toml:1: section [policy] is missing",
        "pgveil.toml:3: `postgres` in [listen] is not an address with a port",
        "pgveil.toml:4: `admin` in [listen] must be a loopback address",
        "pgveil.toml:5: unknown key `allow_trsut` in [listen]\n  help: did you mean `allow_trust`?",
        "pgveil.toml:9: `url` in [control]: no user is named",
        "pgveil.toml:10: nothing is named in [keys] that unlocks the keyring",
        "pgveil.toml:11: key provider \"vault\" is not in this version",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
    assert!(!all.contains("secret-canary"));
}

#[test]
fn an_unknown_key_is_named_with_its_neighbour() {
    let all = refused(&GOOD.replace("path = \"keyring.toml\"", "path = \"keyring.toml\"\npasphrase_file = \"x\""));
    assert_eq!(all, "pgveil.toml:12: unknown key `pasphrase_file` in [keys]\n  help: did you mean `passphrase_file`?");
}

#[test]
fn trust_only_on_loopback() {
    let text = GOOD.replace("\"127.0.0.1:6432\"", "\"0.0.0.0:6432\"\nallow_trust = true");
    assert!(refused(&text).contains("pgveil.toml:4: allow_trust = true is only possible on a loopback address"));
}

#[test]
fn a_remote_server_is_verified_unless_said_otherwise() {
    let remote =
        GOOD.replace("[upstream]\nhost = \"127.0.0.1\"", "[upstream]\nhost = \"db\"\ntls = { ca = \"ca.pem\" }");
    let config = parsed(&remote);
    assert_eq!(config.upstream.tls.mode, TlsMode::VerifyFull);
    assert_eq!(config.upstream.tls.ca.as_deref(), Some(Path::new("/etc/pgveil/ca.pem")));
    assert_eq!(parsed(&remote.replace("ca = \"ca.pem\"", "mode = \"require\"")).upstream.tls.mode, TlsMode::Require);
}

#[test]
fn the_control_url_brings_its_own_tls() {
    let text = GOOD.replace("/app\"", "/app?sslmode=verify-full&sslrootcert=ca.pem&application_name=x\"");
    let control = parsed(&text).control;
    assert_eq!(control.tls.mode, TlsMode::VerifyFull);
    assert_eq!(control.tls.ca.as_deref(), Some(Path::new("/etc/pgveil/ca.pem")));
    assert!(refused(&GOOD.replace("/app\"", "/app?sslmode=prefer\"")).contains("fall back silently"));
}

#[test]
fn logins_end_here_when_both_legs_are_tls_unless_said_otherwise() {
    assert_eq!(parsed(GOOD).auth, Auth { terminate: None, relay_cleartext: false });
    let both = GOOD
        .replace("6432\"", "6432\"\ntls = { cert = \"a\", key = \"b\" }")
        .replace("[upstream]\nhost = \"127.0.0.1\"", "[upstream]\nhost = \"db\"");
    assert_eq!(parsed(&both).auth.terminate, Some(Verifiers::Function));
    assert!(parsed(&both).warnings.is_empty());
    let relay = parsed(&format!("{both}[auth]\nmode = \"relay\"\n"));
    assert!(relay.auth.terminate.is_none() && relay.warnings[0].contains("channel_binding=disable"));
    let file = "[auth]\nmode = \"terminate\"\nverifiers = \"file\"\npath = \"users\"\n";
    let expected = Some(Verifiers::File("/etc/pgveil/users".into()));
    assert_eq!(parsed(&format!("{GOOD}{file}")).auth.terminate, expected);
    assert!(parsed(&format!("{both}[auth]\nrelay_cleartext = true\n")).auth.relay_cleartext);
}

#[test]
fn what_contradicts_itself_in_auth_is_refused_with_the_way_out() {
    for (auth, said) in [
        ("mode = \"terminate\"\nverifiers = \"file\"", "`path` in [auth] is missing"),
        ("mode = \"terminate\"\npath = \"x\"", "`path` in [auth] is read only with verifiers"),
        ("mode = \"relay\"\nverifiers = \"function\"", "`verifiers` in [auth] needs mode = \"terminate\""),
        ("mode = \"terminate\"\nrelay_cleartext = true", "needs mode = \"terminate\" and TLS on both legs"),
        ("mode = \"scram\"", "mode"),
    ] {
        let all = refused(&format!("{GOOD}[auth]\n{auth}\n"));
        assert!(all.contains(said) && all.contains("help:"), "{all}");
    }
}

#[test]
fn rules_are_read_in_order_and_every_fault_is_named() {
    use crate::relay::Allow;
    let text = GOOD.replace(
        "6432\"",
        "6432\"\nmax_connections_per_user = 7\n[[listen.rules]]\nfrom = \"10.1.2.3/8\"\nusers = [\"a\", \"b\"]\nallow = \"nobody\"\n\
         [[listen.rules]]\nfrom = [\"::1\", \"192.0.2.7\"]\ndatabases = \"app\"\nallow = \"any\"",
    );
    let listen = parsed(&text).listen;
    assert_eq!((listen.connections_per_user_max, listen.connections_per_address_max), (Some(7), None));
    let shown: Vec<_> =
        listen.rules.iter().map(|r| format!("{:?} {:?} {:?} {:?}", r.from, r.users, r.databases, r.allow)).collect();
    assert_eq!(shown, ["[10.0.0.0/8] [\"a\", \"b\"] [] Nobody", "[::1/128, 192.0.2.7/32] [] [\"app\"] Any"]);
    assert_eq!(listen.rules[1].allow, Allow::Any);
    let all = refused(&GOOD.replace(
        "6432\"",
        "6432\"\n[[listen.rules]]\nfrom = \"10.0.0.0/33\"\nallow = \"tls\"\n[[listen.rules]]\nusers = \"a\"",
    ));
    for expected in [
        "pgveil.toml:5: not a network",
        "pgveil.toml:6: nobody can meet this rule\n  help: give [listen] tls a cert and a key",
        "pgveil.toml:7: `allow` in [listen.rules] is missing",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
}

#[test]
fn anchors_are_files_outside_of_the_logs_folder() {
    let with = |anchors: &str| format!("{GOOD}[audit]\ndir = \"log\"\nanchors = {anchors}\n");
    let config = parsed(&with("[\"/mnt/elsewhere/anchors\", \"near\"]"));
    assert_eq!(config.audit.anchors, [Path::new("/mnt/elsewhere/anchors"), Path::new("/etc/pgveil/near")]);
    assert_eq!(crate::desk::Settings::from(&config.audit).anchors, config.audit.anchors);
    let config = parsed(&with("[\"syslog:\", \"near\", \"syslog://collector:601\"]"));
    assert_eq!(config.audit.anchors, [Path::new("/etc/pgveil/near")]);
    let shown: Vec<_> = config.audit.collectors.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["syslog:/dev/log", "syslog://collector:601"]);
    assert!(refused(&with("[\"syslog://collector\"]")).contains("no syslog that can be reached"));
    let config = parsed(&format!("{GOOD}[audit]\nkeep = \"P7Y\"\ncompress = false\nreserve_bytes = 0\n"));
    let settings = crate::desk::Settings::from(&config.audit);
    assert_eq!((settings.compress, settings.audit.reserve_bytes, settings.keep.is_some()), (false, 0, true));
    assert!(refused(&format!("{GOOD}[audit]\nkeep = \"seven years\"\n")).contains("`keep` in [audit] is not a period"));
    for wrong in ["[\"log/anchors\"]", "[\"\"]", "[\"log\"]"] {
        assert!(refused(&with(wrong)).contains("inside the log's own folder"), "{wrong}");
    }
}

#[test]
fn the_console_is_for_named_roles_and_has_its_name_for_itself() {
    assert_eq!(parsed(GOOD).console, crate::console::Roles::default());
    let config = parsed(&format!("{GOOD}[console]\nroles = [\"dba\"]\nread_only_roles = [\"sre\"]\n"));
    assert_eq!((config.console.all, config.console.read_only), (vec!["dba".to_owned()], vec!["sre".to_owned()]));
    let all = refused(&format!(
        "{GOOD}[console]\nroles = [\"dba\", \"\"]\nread_only_roles = [\"dba\"]\nrole = 1\n[databases]\npassthrough = [\"pgveil\"]\n"
    ));
    for expected in [
        "not the name of a role",
        "role \"dba\" is in roles and in read_only_roles",
        "unknown key `role` in [console]",
        "a database of that name is served",
    ] {
        assert!(all.contains(expected), "{expected:?} in\n{all}");
    }
    assert!(parse(Path::new("pgveil.toml"), &format!("{GOOD}[databases]\npassthrough = [\"pgveil\"]\n")).is_ok());
}

#[test]
fn what_is_shown_of_the_settings_holds_no_secret() {
    let shown = parsed(&format!("{GOOD}[log]\nformat = \"json\"\n")).shown();
    let value = |name: &str| shown.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("control.user"), Some("pgveil"));
    assert_eq!(value("keys.unlocked_by"), Some("passphrase_env"));
    assert_eq!(value("log.format"), Some("json"));
    assert_eq!(value("listen.max_connections_per_user"), Some("unlimited"));
    assert!(!format!("{shown:?}").contains("secret-canary") && !format!("{shown:?}").contains("PGVEIL_PASSPHRASE"));
}

#[test]
fn sinks_never_send_in_clear_nor_hold_a_secret_inline() {
    let sink = |lines: &str| format!("{GOOD}[[alerts.sinks]]\n{lines}\n");
    let config = parsed(&sink("kind = \"smtp\"\nhost = \"::1\"\ntls = \"none\"\nfrom = \"a@b.org\"\nto = \"c@d.org\""));
    assert_eq!((config.sinks[0].name.as_str(), config.sinks[0].timeout.as_secs()), ("smtp", 30));
    let crate::notify::Kind::Smtp(smtp) = &config.sinks[0].kind else { panic!("{:?}", config.sinks) };
    assert_eq!((smtp.port, smtp.to.len()), (25, 1));
    for (lines, said) in [
        ("kind = \"webhok\"", "did you mean `webhook`?"),
        ("kind = \"webhook\"\nurl = \"http://hooks.example\"\nsecret_file = \"s\"", "in clear"),
        ("kind = \"webhook\"\nurl = \"https://hooks.example\"", "`secret_file` in [alerts.sinks] is missing"),
        ("kind = \"webhook\"\nurl = \"https://hooks.example\"\nsecret = \"secret-canary\"", "unknown key `secret`"),
        ("kind = \"log\"", "`path` in [alerts.sinks] is missing"),
        ("kind = \"log\"\npath = \"a\"\nname = \"../x\"", "`name` of a sink"),
        ("kind = \"log\"\npath = \"a\"\n[[alerts.sinks]]\nkind = \"log\"\npath = \"b\"", "the same name"),
        ("kind = \"smtp\"\nhost = \"mail.example\"\ntls = \"none\"\nfrom = \"a@b.org\"\nto = []", "in clear"),
        ("kind = \"smtp\"\nhost = \"mail.example\"\nfrom = \"a\"\nto = [\"c@d.org\"]\nuser = \"u\"", "come together"),
    ] {
        let problems = refused(&sink(lines));
        assert!(problems.contains(said) && !problems.contains("secret-canary"), "{lines}:\n{problems}");
    }
}
