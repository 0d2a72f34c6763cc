//! What is sent, when, and where to.

use std::time::Duration;

use super::*;
use crate::event::{Actor, ActorAuth, Alert, Event, EventKind};
use crate::secret::Passphrase;

fn source() -> Source {
    Source { deployment: "00ff".repeat(8), instance: "127.0.0.1:6432".to_owned() }
}

fn event(seq: u64, rule: &str, severity: &str) -> (u64, Event) {
    let mut event = Event::new(EventKind::Alert, 1_700_000_000_000_000 + i64::try_from(seq).unwrap() * 1_000_000);
    let actor = Actor {
        role: "eve".to_owned(),
        database: "app".to_owned(),
        auth: ActorAuth::ScramSha256,
        certificate: Some("common name".to_owned()),
        application: "kanarie".to_owned(),
        client: Some([192, 0, 2, 7].into()),
        purpose: None,
        purpose_by: None,
        person: None,
    };
    event.actor = Some(actor.into());
    event.alert = Some(Alert {
        rule: rule.to_owned(),
        severity: severity.to_owned(),
        observed: 101,
        threshold: 100,
        window_s: 900,
        address: None,
        action: Default::default(),
        message: "\"eve\" accessed at least 101 records in 15 minutes".to_owned(),
    });
    (seq, event)
}

#[test]
fn a_message_says_what_the_alert_says_and_nothing_a_client_chose() {
    let (seq, event) = event(7, "bulk", "medium");
    let message = Message::new(seq, &event, event.alert.as_ref().unwrap(), &source());
    assert_eq!(message.subject(), "Privacy Alert: bulk_data_access");
    let json: serde_json::Value = serde_json::from_str(&message.json()).unwrap();
    assert_eq!(json["at"], "2023-11-14T22:13:27.000Z");
    assert_eq!((&json["role"], &json["address"], &json["seq"]), (&"eve".into(), &"192.0.2.7".into(), &7.into()));
    assert_eq!(json["id"], format!("{}-7-{}", source().deployment, event.at_us));
    let alertmanager = message.alertmanager();
    assert_eq!(alertmanager[0]["labels"]["severity"], "medium");
    assert_eq!(alertmanager[0]["startsAt"], json["at"]);
    for text in [message.json(), message.text(), alertmanager.to_string()] {
        assert!(text.contains("101 records") && !text.contains("kanarie") && !text.contains("common name"), "{text}");
    }
}

#[test]
fn what_has_piled_up_is_told_together_but_for_the_newest() {
    let few: Vec<_> = (1..=10).map(|seq| event(seq, "bulk", "low")).collect();
    assert_eq!(digest(&few, &source()).iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    let mut more: Vec<_> = (1..=14).map(|seq| event(seq, "bulk", "low")).collect();
    more[1] = event(2, "tamper", "critical");
    let told = digest(&more, &source());
    assert_eq!(told.iter().map(|m| m.seq).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let json: serde_json::Value = serde_json::from_str(&told[0].json()).unwrap();
    assert_eq!((&json["type"], &json["severity"]), (&"summary".into(), &"critical".into()));
    assert_eq!(json["summary"]["rules"], serde_json::json!({"bulk": 3, "tamper": 1}));
    assert!(told[0].subject().ends_with("summary") && told[0].text().contains("records 1 to 4"), "{}", told[0].text());
    let many: Vec<_> = (1..=READ_MAX as u64).map(|seq| event(seq, "bulk", "low")).collect();
    assert_eq!(digest(&many, &source()).len(), 1);
    assert!(digest(&[], &source()).is_empty());
}

#[test]
fn waits_grow_from_a_second_to_five_minutes() {
    let full: Vec<u64> = [1, 2, 3, 9, 10, 1_000].map(|tries| deliver::pause(tries, 0.0).as_secs()).to_vec();
    assert_eq!(full, [1, 2, 4, 256, 300, 300]);
    assert_eq!(deliver::pause(1, 1.0), Duration::from_millis(500));
}

#[test]
fn a_signature_is_what_openssl_makes_of_it() {
    // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
    let signed = http::signature(&Passphrase::new("0123456789abcdef".to_owned()), "1700000000", "{}");
    assert_eq!(signed, "sha256=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e");
}

#[test]
fn targets_are_https_or_this_machine() {
    let parse = |url: &str| Target::parse(url, None);
    for good in [
        "https://hooks.example/x?y=1",
        "https://[2001:db8::1]:8443",
        "http://127.0.0.1:9093",
        "http://[::1]/",
        "http://localhost",
    ] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for bad in [
        "http://hooks.example/",
        "http://127.0.0.1.example/",
        "ftp://127.0.0.1/",
        "hooks.example",
        "/x",
        "",
        "https://user:kanarie@hooks.example/",
    ] {
        let refused = parse(bad);
        assert!(refused.as_ref().is_err_and(|said| !said.contains("kanarie")), "{bad}: {refused:?}");
    }
}

#[test]
fn a_cursor_reads_back_and_anything_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut cursor = Cursor::open(folder.path(), "hook", 7).unwrap();
    assert_eq!((cursor.seen, cursor.down), (7, false));
    (cursor.seen, cursor.down) = (9, true);
    cursor.save().unwrap();
    assert_eq!(Cursor::open(folder.path(), "hook", 7).unwrap(), cursor);
    std::fs::write(folder.path().join("hook.json"), "{\"v\":2,\"seen\":9}").unwrap();
    let refused = Cursor::open(folder.path(), "hook", 7).unwrap_err().to_string();
    assert!(refused.contains("hook.json") && refused.contains("remove it"), "{refused}");
}
