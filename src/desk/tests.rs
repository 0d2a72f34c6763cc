//! The desk over a disk in memory: order of fsync and acknowledgement, failures, alerts, restart.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::audit::Recovered;
use crate::audit::tests::fake::{FakeDisk, Op};
use crate::detect::Thresholds;
use crate::event::{Action, Actor, ActorAuth, EventKind, Part, Shown, Touch};

const KEY: [u8; 32] = [7; 32];

fn rules() -> Arc<Rules> {
    Arc::new(Rules {
        version: 3,
        schema: Arc::default(),
        tables: HashMap::new(),
        sealed: HashMap::new(),
        by_id: crate::policy::rules::ByColumn::default(),
        classes: Vec::new(),
        class_of: HashMap::new(),
        names: HashSet::new(),
        code: crate::policy::code::UsersCode::default(),
        views: Vec::new(),
        purposes: Vec::new(),
        vouchers: Vec::new(),
        reviewed: Vec::new(),
        grounds: Default::default(),
        observe: None,
        readers: Default::default(),
        copies: Default::default(),
        detect: Thresholds::default(),
        warnings: Vec::new(),
    })
}

fn desk(disk: &FakeDisk, change: impl FnOnce(&mut Settings)) -> (Desk, Thread) {
    desk_of(disk.log(1 << 20), change)
}

fn desk_of(log: audit::Log, change: impl FnOnce(&mut Settings)) -> (Desk, Thread) {
    let nowhere = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(nowhere.path());
    change(&mut settings);
    task::launch(settings, log, Recovered::default(), Box::new(rules), Arc::new(Meters::detached())).unwrap()
}

fn event(kind: EventKind, statement: u64) -> Event {
    let mut event = Event::new(kind, crate::clock::Now::read().unix_us);
    event.connection = 1;
    event.statement = statement;
    event.actor = Some(Part::from(Actor {
        role: "app".into(),
        database: "medico".into(),
        auth: ActorAuth::ScramSha256,
        certificate: None,
        application: String::new(),
        client: None,
        purpose: None,
        purpose_by: None,
        person: None,
    }));
    event
}

fn read(rows: u64, statement: u64) -> Event {
    let mut read = event(EventKind::Statement, statement);
    read.rows = rows;
    let touch = Touch { relation: "public.users".into(), column: "email".into(), shown: Shown::Clear };
    read.action = Some(Action { access: crate::event::Access::Read, touches: vec![touch], ..Action::none() }.into());
    read
}

/// Every event in the segments, in order.
fn written(disk: &FakeDisk) -> Vec<Event> {
    let dir = tempfile::tempdir().unwrap();
    disk.dump(dir.path());
    audit::verify(dir.path(), Some(&Key::new(KEY))).unwrap();
    audit::events_since(dir.path(), i64::MIN, u64::MAX).unwrap().0.map(|(_, event)| event).collect()
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_intent_is_acknowledged_after_its_fsync_and_a_batch_shares_one() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |_| {});
    disk.with(|inner| inner.ops.clear());
    desk.intent(event(EventKind::Intent, 1)).await.unwrap();
    disk.with(|inner| inner.ops.push(Op::Mark("acknowledged")));
    let segment = "access-00000001.jsonl".to_owned();
    let ops = disk.with(|inner| inner.ops.clone());
    let write = ops.iter().position(|op| *op == Op::Write(segment.clone())).unwrap();
    let sync = ops.iter().position(|op| *op == Op::Sync(segment.clone())).unwrap();
    let mark = ops.iter().position(|op| *op == Op::Mark("acknowledged")).unwrap();
    assert!(write < sync && sync < mark, "{ops:?}");

    let receipts: Vec<_> = (2..500).map(|n| desk.intent(event(EventKind::Intent, n))).collect();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let syncs = disk.with(|inner| inner.ops.iter().filter(|op| **op == Op::Sync(segment.clone())).count());
    assert!(syncs < 100, "{syncs} fsyncs for 499 intents");
    assert!(thread.stop(PATIENCE).await);
    assert_eq!(written(&disk).iter().filter(|event| event.kind == EventKind::Intent).count(), 499);
}

#[tokio::test]
async fn a_full_disk_blocks_intents_until_there_is_room_and_loses_nothing() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |settings| settings.queue = 16);
    disk.with(|inner| inner.room = Some(1_000));
    let mut receipts: Vec<_> = (1..10).map(|n| desk.intent(event(EventKind::Intent, n))).collect();
    for n in 0..5 {
        desk.event(read(1, n)).await.unwrap();
    }
    let last = receipts.last_mut().unwrap();
    assert!(timeout(Duration::from_millis(300), last).await.is_err(), "acknowledged on a full disk");
    assert!(!desk.writable());
    disk.with(|inner| inner.room = None);
    for receipt in receipts {
        timeout(PATIENCE, receipt).await.unwrap().unwrap();
    }
    assert!(desk.writable());
    assert!(thread.stop(PATIENCE).await);
    let kinds = written(&disk);
    assert_eq!(kinds.iter().filter(|event| event.kind == EventKind::Intent).count(), 9);
    assert_eq!(kinds.iter().filter(|event| event.kind == EventKind::Statement).count(), 5);
}

/// Waits for what another thread does.
async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let all = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn on_a_full_disk_the_reserve_takes_what_is_refused_and_why() {
    const RESERVE: u64 = 64 << 10;
    for on_failure in [OnFailure::DenyProtected, OnFailure::Block] {
        let disk = FakeDisk::default();
        let log = disk.log_with_reserve(RESERVE);
        let (desk, thread) = desk_of(log, |settings| settings.on_failure = on_failure);
        assert_eq!(disk.with(|inner| (inner.reserve as u64, inner.room)), (RESERVE, None));
        disk.with(|inner| inner.room = Some(0));
        let mut intent = desk.intent(event(EventKind::Intent, 1));
        until("the log is down", || !desk.writable()).await;
        match on_failure {
            OnFailure::DenyProtected => assert_eq!(timeout(PATIENCE, &mut intent).await.unwrap(), Err(AuditDown)),
            OnFailure::Block => assert!(timeout(Duration::from_millis(100), &mut intent).await.is_err()),
        }
        desk.event(event(EventKind::Refused, 1)).await.unwrap();
        let notes = || written(&disk).into_iter().filter(|e| e.kind == EventKind::Log).filter_map(|e| e.note);
        until("the refusal is written", || {
            let refused = written(&disk).iter().any(|event| event.kind == EventKind::Refused);
            refused && notes().any(|note| note.starts_with("the disk is full; protected statements"))
        })
        .await;
        assert!(!desk.writable(), "room in the reserve is no room for protected data");
        assert_eq!(disk.with(|inner| inner.reserve), 0);
        disk.with(|inner| inner.room = None);
        until("there is room", || desk.writable()).await;
        assert_eq!(disk.with(|inner| inner.reserve as u64), RESERVE, "and the reserve is there again");
        if on_failure == OnFailure::Block {
            timeout(PATIENCE, intent).await.unwrap().unwrap();
        }
        assert!(thread.stop(PATIENCE).await);
        assert_eq!(notes().count(), 2, "full, and room again: {:?}", notes().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn without_intent_durability_nobody_waits_until_the_log_is_down() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |settings| settings.durability = Durability::Async);
    assert_eq!(desk.intent(event(EventKind::Intent, 1)).done(), Some(Ok(())));
    disk.with(|inner| inner.room = Some(0));
    desk.event(read(1, 9)).await.unwrap();
    let down = async {
        while desk.writable() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, down).await.unwrap();
    let waits = desk.intent(event(EventKind::Intent, 2));
    assert_eq!(waits.done(), None);
    disk.with(|inner| inner.room = None);
    timeout(PATIENCE, waits).await.unwrap().unwrap();
    assert_eq!(desk.intent(event(EventKind::Intent, 3)).done(), Some(Ok(())));
    assert!(thread.stop(PATIENCE).await);
    assert_eq!(written(&disk).iter().filter(|event| event.kind == EventKind::Intent).count(), 3);
}

#[tokio::test]
async fn without_intent_durability_an_intent_is_written_unless_its_outcome_is_already_there() {
    const PAIRS: u64 = 2_000;
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |settings| settings.durability = Durability::Async);
    for n in 1..=PAIRS {
        // One statement in ten has a second step, which does not end.
        desk.intent(event(EventKind::Intent, n)).await.unwrap();
        desk.event(read(1, n)).await.unwrap();
        if n % 10 == 0 {
            desk.intent(event(EventKind::Intent, n)).await.unwrap();
        }
    }
    assert!(thread.stop(PATIENCE).await);
    let (mut open, mut intents, mut ends) = (std::collections::HashSet::new(), 0, 0);
    for event in written(&disk) {
        match event.kind {
            EventKind::Intent => (open.insert(event.statement), intents += 1).1,
            EventKind::Statement => (open.remove(&event.statement), ends += 1).1,
            _ => {}
        }
    }
    assert_eq!(ends, PAIRS);
    assert_eq!(open, (1..=PAIRS).filter(|n| n % 10 == 0).collect());
    assert!(intents < PAIRS, "{intents}");
}

#[tokio::test]
async fn a_full_disk_denies_intents_where_told_so_and_keeps_the_other_events() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |settings| settings.on_failure = OnFailure::DenyProtected);
    disk.with(|inner| inner.room = Some(100));
    assert_eq!(timeout(PATIENCE, desk.intent(event(EventKind::Intent, 1))).await.unwrap(), Err(AuditDown));
    assert!(!desk.writable());
    assert_eq!(desk.intent(event(EventKind::Intent, 2)).done(), Some(Err(AuditDown)));
    for n in 0..50 {
        desk.event(event(EventKind::Refused, n)).await.unwrap();
    }
    disk.with(|inner| inner.room = None);
    let answered = async {
        while desk.intent(event(EventKind::Intent, 3)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
    assert!(thread.stop(PATIENCE).await);
    assert_eq!(written(&disk).iter().filter(|event| event.kind == EventKind::Refused).count(), 50);
    assert_eq!(Refusal::from(AuditDown).code.as_str(), "PV021");
}

#[tokio::test]
async fn a_failed_fsync_gives_the_segment_up_and_repeats_its_records_in_another() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |_| {});
    desk.intent(event(EventKind::Intent, 1)).await.unwrap();
    disk.with(|inner| inner.failing_syncs = 2);
    timeout(PATIENCE, desk.intent(event(EventKind::Intent, 2))).await.unwrap().unwrap();
    assert!(thread.stop(PATIENCE).await);
    let segments = disk.with(|inner| inner.files.keys().filter(|name| name.starts_with("access-")).count());
    assert_eq!(segments, 3);
    let intents: Vec<_> = written(&disk).into_iter().filter(|event| event.kind == EventKind::Intent).collect();
    assert_eq!(intents.iter().map(|event| event.statement).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_bulk_read_is_an_alert_in_the_same_chain_once() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |_| {});
    for (n, rows) in [101, 50, 40].into_iter().enumerate() {
        desk.event(read(rows, n as u64)).await.unwrap();
    }
    assert!(thread.stop(PATIENCE).await);
    let events = written(&disk);
    let alerts: Vec<_> = events.iter().filter_map(|event| event.alert.as_ref()).collect();
    assert_eq!(alerts.iter().map(|alert| alert.rule.as_str()).collect::<Vec<_>>(), ["bulk"]);
    assert_eq!((alerts[0].observed, alerts[0].threshold, alerts[0].window_s), (101, 100, 900));
    assert_eq!(events.first().unwrap().kind, EventKind::Start);
    assert_eq!(events.last().unwrap().kind, EventKind::Stop);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_drops_nothing() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |settings| settings.queue = 2);
    let mut waited = 0;
    for n in 0..2_000 {
        let receipt = desk.event(event(EventKind::Login, n));
        waited += u32::from(receipt.done().is_none());
        receipt.await.unwrap();
    }
    assert!(waited > 0);
    assert!(thread.stop(PATIENCE).await);
    assert_eq!(desk.event(event(EventKind::Login, 0)).await, Err(AuditDown));
    let events = written(&disk);
    let order: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Login).map(|e| e.statement).collect();
    assert_eq!(order, (0..2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_restart_rebuilds_windows_counts_open_intents_and_raises_what_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let meters = || Arc::new(Meters::detached());
    let (desk, thread) = start(settings.clone(), Key::new(KEY), &[1; 16], rules, meters()).unwrap();
    desk.event(read(60, 1)).await.unwrap();
    desk.intent(event(EventKind::Intent, 2)).await.unwrap();
    assert!(start(settings.clone(), Key::new(KEY), &[1; 16], rules, meters()).is_err(), "two writers");
    assert!(thread.stop(PATIENCE).await);
    drop(desk);

    let (desk, thread) = start(settings.clone(), Key::new(KEY), &[1; 16], rules, meters()).unwrap();
    desk.event(read(60, 1)).await.unwrap();
    assert!(thread.stop(PATIENCE).await);
    drop(desk);

    let (desk, thread) = start(settings, Key::new(KEY), &[1; 16], rules, meters()).unwrap();
    desk.event(read(60, 1)).await.unwrap();
    assert!(thread.stop(PATIENCE).await);
    audit::verify(dir.path(), Some(&Key::new(KEY))).unwrap();
    let events: Vec<_> = audit::events_since(dir.path(), 0, u64::MAX).unwrap().0.map(|(_, event)| event).collect();
    let notes: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Start).map(|e| e.note.clone().unwrap()).collect();
    assert!(notes[0].contains("a new access log"), "{notes:?}");
    assert!(notes[1].contains("1 intents of the last run have no outcome"), "{notes:?}");
    assert!(!notes[2].contains("no outcome"), "{notes:?}");
    let alerts: Vec<_> = events.iter().filter_map(|event| event.alert.as_ref()).collect();
    assert_eq!(alerts.len(), 1, "once over the threshold, then the cooldown of the run before");
    assert_eq!(alerts[0].observed, 120);
}

#[tokio::test]
async fn what_is_written_is_signed_soon_also_when_nothing_follows() {
    let disk = FakeDisk::default();
    let (desk, thread) = desk(&disk, |_| {});
    desk.intent(event(EventKind::Intent, 1)).await.unwrap();
    let public = audit::VerifierKey::new(&Key::new(KEY), &[0; 16]);
    let proven = || {
        let dir = tempfile::tempdir().unwrap();
        disk.dump(dir.path());
        let report = audit::verify(dir.path(), audit::Trust { public: Some(&public), ..audit::Trust::default() });
        report.ok().filter(|report| report.events == 2 && report.proven_seq + 1 == report.last_seq)
    };
    let signed = async {
        while proven().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, signed).await.unwrap();
    assert!(thread.stop(PATIENCE).await);
}

#[tokio::test]
async fn what_is_signed_is_anchored_and_one_place_that_fails_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far, never) = (dir.path().join("near"), dir.path().join("far/away"), dir.path().join("nowhere/at/all"));
    let mut settings = Settings::new(dir.path().join("audit"));
    settings.anchors = vec![near.clone(), far.clone(), never.clone()];
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let meters = ::metrics::with_local_recorder(&recorder, || Arc::new(Meters::new()));
    let (desk, thread) = start(settings.clone(), Key::new(KEY), &[1; 16], rules, meters).unwrap();
    desk.event(read(1, 1)).await.unwrap();
    let anchored = async {
        while !near.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, anchored).await.unwrap();
    std::fs::create_dir(dir.path().join("far")).unwrap();
    assert!(thread.stop(PATIENCE).await);

    let public = audit::VerifierKey::new(&Key::new(KEY), &[1; 16]);
    for path in [near, far] {
        let anchors = audit::anchors(&path, &public).unwrap();
        let trust = audit::Trust { anchors: &anchors, public: Some(&public), ..audit::Trust::default() };
        let report = audit::verify(&settings.audit.dir, trust).unwrap();
        let (newest, count) = (anchors.last().unwrap().size(), anchors.len() as u64);
        assert_eq!((newest, report.anchors), (report.proven_seq, count), "the last checkpoint is there");
    }
    assert!(!never.exists());
    let told = recorder.handle().render();
    let errors = told.lines().find_map(|line| line.strip_prefix("pgveil_audit_anchor_errors_total ")).unwrap();
    assert!(errors.parse::<u64>().unwrap() >= 2, "{errors}");
}

#[tokio::test]
async fn a_desk_that_died_denies_intents_and_is_not_writable() {
    let disk = FakeDisk::default();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let broken = move || match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => rules(),
        _ => panic!("a defect in the desk's thread"),
    };
    let nowhere = tempfile::tempdir().unwrap();
    let settings = Settings::new(nowhere.path());
    let meters = Arc::new(Meters::detached());
    let (desk, thread) =
        task::launch(settings, disk.log(1 << 20), Recovered::default(), Box::new(broken), meters).unwrap();
    desk.intent(event(EventKind::Intent, 1)).await.unwrap();
    assert!(desk.writable());
    desk.event(read(1, 1)).await.unwrap();
    assert!(thread.stop(PATIENCE).await);
    assert!(!desk.writable());
    assert_eq!(desk.intent(event(EventKind::Intent, 2)).await, Err(AuditDown));
}
