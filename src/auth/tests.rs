//! Verifiers from a file: found, unknown, changed, readable by others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::wire::scram::{Mechanism, Server};

const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn salt(credential: Credential) -> String {
    let server = Server::challenge(credential.verifier, Mechanism::Plain, None, b"n,,n=,r=a", &[0; 18]).unwrap();
    server.server_first().split(',').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn users_are_found_remembered_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    fs::write(&path, format!("\"ann\" \"{VERIFIER}\"\n")).unwrap();
    let verifiers = Verifiers::new(Source::File(path.clone()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(verifiers.check().await.unwrap_err().to_string().contains("chmod 0600"));
    assert_eq!(verifiers.find("ann").await.unwrap_err().code, Code::UpstreamDown);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    verifiers.check().await.unwrap();
    assert_eq!(salt(verifiers.find("ann").await.unwrap()), "s=W22ZaJ0SNY7soEsUEjb6gQ==");
    let unknown = salt(verifiers.find("bob").await.unwrap());
    fs::write(&path, format!("\"bob\" \"{VERIFIER}\"\n")).unwrap();
    assert_eq!(salt(verifiers.find("ann").await.unwrap()), "s=W22ZaJ0SNY7soEsUEjb6gQ==", "remembered");
    assert_eq!(salt(verifiers.find("bob").await.unwrap()), unknown);
    verifiers.forget("ann");
    verifiers.forget("bob");
    assert_ne!(salt(verifiers.find("ann").await.unwrap()), "s=W22ZaJ0SNY7soEsUEjb6gQ==", "forgotten");
    assert_eq!(salt(verifiers.find("bob").await.unwrap()), "s=W22ZaJ0SNY7soEsUEjb6gQ==");
}

#[test]
fn what_is_remembered_is_not_printed() {
    let verifiers = Verifiers::new(Source::File("users".into()));
    let credential = verifiers.credential(Known::Scram(Verifier::parse(VERIFIER).unwrap()), "ann");
    verifiers.remembered().insert("ann".into(), Remembered { credential, until_ns: 1 });
    let shown = format!("{verifiers:?}");
    assert!(shown.contains("Verifier(…)") && !shown.contains("W22"), "{shown}");
}
