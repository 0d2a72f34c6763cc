//! The log against hands, crashes and full disks.

mod anchored;
mod durable;
pub(crate) mod fake;
mod packed;
mod pruned;
mod signed;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::record::{self, Kind, Payload};
use super::*;
use crate::event::{Event, EventKind};
use crate::secret::Key;

fn key() -> Key {
    Key::new([7; 32])
}

fn settings(dir: &Path) -> Settings {
    Settings { segment_bytes: 4_096, ..Settings::new(dir.join("audit")) }
}

fn login(number: u64) -> Event {
    let mut event = Event::new(EventKind::Login, 1_700_000_000_000_000 + i64::try_from(number).unwrap());
    event.connection = number;
    event
}

/// A closed log of three or more segments, a checkpoint every fourth event.
fn sample() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let (mut log, recovered) = open(&settings, key(), &[1; 16], 1).unwrap();
    assert!(recovered.first && recovered.broken.is_none());
    for number in 0..62 {
        log.append(&login(number));
        if number % 4 == 3 {
            log.sync(2).unwrap();
        }
    }
    log.close(3).unwrap();
    let path = settings.dir;
    assert!(segments(&path).len() >= 3);
    (dir, path)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    disk::segments(dir).unwrap().into_iter().map(|(_, path)| path).collect()
}

fn lines(path: &Path) -> Vec<Vec<u8>> {
    fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn broken(dir: &Path, key: Option<&Key>) -> Break {
    match verify(dir, key) {
        Err(VerifyError::Break(found)) => found,
        other => panic!("expected a break, got {other:?}"),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_closed_log_verifies_with_and_without_the_key_and_is_private() {
    let (_dir, path) = sample();
    let report = verify(&path, Some(&key())).unwrap();
    assert_eq!((report.events, report.torn_bytes, report.abandoned, report.keyed), (62, 0, 0, true));
    assert_eq!(report.records, report.events + report.checkpoints + report.segments + report.signed);
    assert!(!verify(&path, None).unwrap().keyed);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for file in segments(&path).into_iter().chain([path.join("head"), path.join("lock")]) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn every_record_can_be_followed_with_nothing_but_sha256() {
    use sha2::{Digest, Sha256};
    let (_dir, path) = sample();
    let mut prev = "0".repeat(64);
    for line in segments(&path).iter().flat_map(|file| lines(file)) {
        let text = String::from_utf8(line).unwrap();
        let (body, tail) = text.trim_end().rsplit_once(",\"hash\":\"").unwrap();
        assert!(body.contains(&format!(",\"prev\":\"{prev}\",")));
        prev = tail.trim_end_matches("\"}").to_owned();
        assert_eq!(hex::encode(Sha256::digest(body)), prev);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_edited_byte_is_found_in_its_line(file in 0usize..3, at in any::<prop::sample::Index>(), bits in 1u8..) {
        thread_local!(static SAMPLE: (TempDir, PathBuf) = sample());
        SAMPLE.with(|(_dir, path)| {
            let file = &segments(path)[file];
            let good = fs::read(file).unwrap();
            let mut edited = good.clone();
            let at = at.index(edited.len());
            edited[at] ^= bits;
            fs::write(file, &edited).unwrap();
            let line = 1 + good[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
            for key in [None, Some(&key())] {
                let found = broken(path, key);
                assert_eq!((&found.file, found.line), (&name(file), line), "{found}");
                assert!(matches!(found.kind, BreakKind::Edited | BreakKind::Torn), "{found}");
            }
            fs::write(file, &good).unwrap();
        });
    }

    #[test]
    fn any_cut_tail_is_found(bytes in any::<prop::sample::Index>()) {
        thread_local!(static SAMPLE: (TempDir, PathBuf) = sample());
        SAMPLE.with(|(_dir, path)| {
            let file = segments(path).pop().unwrap();
            let good = fs::read(&file).unwrap();
            let keep = bytes.index(good.len());
            fs::write(&file, &good[..keep]).unwrap();
            let found = broken(path, None);
            assert!(matches!(found.kind, BreakKind::CutTail | BreakKind::Torn), "{found}");
            fs::write(&file, &good).unwrap();
        });
    }

    #[test]
    fn verify_and_recovery_survive_any_bytes(garbage in prop::collection::vec(any::<u8>(), 0..300), head: bool) {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        fs::create_dir_all(&settings.dir).unwrap();
        fs::write(settings.dir.join(if head { "head".to_owned() } else { disk::segment_name(1) }), &garbage).unwrap();
        let _ = verify(&settings.dir, Some(&key()));
        let (mut log, _) = open(&settings, key(), &[1; 16], 1).unwrap();
        log.append(&login(1));
        log.close(2).unwrap();
        prop_assert_eq!(events_since(&settings.dir, 0, u64::MAX).unwrap().0.count(), 1);
    }
}

/// Rewrites one file's lines.
fn rewrite(file: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut all = lines(file);
    change(&mut all);
    fs::write(file, all.concat()).unwrap();
}

#[test]
fn deleted_swapped_and_repeated_lines_are_told_apart() {
    type Change = fn(&mut Vec<Vec<u8>>);
    let cases: [(&str, Change, u64, BreakKind); 5] = [
        ("delete", |lines| drop(lines.remove(4)), 5, BreakKind::Deleted),
        ("delete the header", |lines| drop(lines.remove(0)), 1, BreakKind::Deleted),
        ("swap", |lines| lines.swap(3, 4), 4, BreakKind::Reordered),
        ("move away", |lines| lines[2..7].rotate_left(1), 3, BreakKind::Reordered),
        ("repeat", |lines| lines.insert(5, lines[2].clone()), 6, BreakKind::Inserted),
    ];
    for index in [0, 1] {
        for (what, change, line, kind) in cases {
            let (_dir, path) = sample();
            let file = &segments(&path)[index];
            rewrite(file, change);
            let found = broken(&path, Some(&key()));
            assert_eq!((found.file.clone(), found.line, found.kind), (name(file), line, kind), "{what}: {found}");
        }
    }
}

#[test]
fn missing_files_are_named() {
    let (_dir, path) = sample();
    let all = segments(&path);
    let last = all.last().unwrap();
    let kept = fs::read(last).unwrap();
    fs::remove_file(last).unwrap();
    assert_eq!(broken(&path, None).kind, BreakKind::CutTail);
    fs::write(last, kept).unwrap();
    rewrite(&all[0], |lines| drop(lines.pop()));
    let found = broken(&path, None);
    assert_eq!((found.file, found.kind), (name(&all[0]), BreakKind::CutTail));
    fs::remove_file(&all[0]).unwrap();
    let found = broken(&path, None);
    assert_eq!((found.file, found.kind), (name(&all[0]), BreakKind::MissingSegment));
    fs::remove_file(path.join("head")).unwrap();
    assert_eq!(broken(&path, None).kind, BreakKind::Head);
    let nowhere = tempfile::tempdir().unwrap();
    assert!(matches!(verify(nowhere.path(), None), Err(VerifyError::Unreadable(_))));
}

#[test]
fn another_key_is_a_wrong_key() {
    let (_dir, path) = sample();
    assert_eq!(broken(&path, Some(&Key::new([8; 32]))).kind, BreakKind::WrongKey);
}

/// What a hand without the key can do best: change an event, drop another, chain and sign everything anew, forge the head.
fn rewrite_all(path: &Path, forge_key_name: bool) {
    let theirs = Key::new([9; 32]);
    signed::rechain(path, &theirs, |_, kind, text| {
        if let (Kind::Segment(header), true) = (kind, forge_key_name) {
            header.key = record::key_name(&theirs);
        }
        *text = text.replace("\"connection\":17,", "\"connection\":99,");
        !text.contains("\"connection\":18,")
    });
}

#[test]
fn a_rewritten_chain_fails_under_the_key_even_with_a_forged_head() {
    for (forge_key_name, kind) in [(false, BreakKind::Rewritten), (true, BreakKind::WrongKey)] {
        let (_dir, path) = sample();
        let head = fs::read(path.join("head")).unwrap();
        rewrite_all(&path, forge_key_name);
        assert_eq!(verify(&path, None).unwrap().events, 61, "the plain chain cannot tell");
        assert_eq!(broken(&path, Some(&key())).kind, kind);
        // With the true head in place even the plain chain tells.
        fs::write(path.join("head"), head).unwrap();
        broken(&path, None);
        broken(&path, Some(&key()));
    }
}

#[test]
fn a_process_that_dies_leaves_a_log_that_verifies_and_the_next_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let (mut log, _) = open(&settings, key(), &[1; 16], 1).unwrap();
    log.append(&login(1));
    log.sync(1).unwrap();
    log.append(&login(2));
    log.flush(1).unwrap();
    log.append(&login(3));
    drop(log);
    let report = verify(&settings.dir, Some(&key())).unwrap();
    assert_eq!((report.events, report.torn_bytes), (2, 0), "what reached the file counts");

    // Dead in mid-write.
    let file = segments(&settings.dir).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(b"{\"v\":1,\"seq\":5,\"prev\":\"00");
    fs::write(&file, &bytes).unwrap();
    assert_eq!(verify(&settings.dir, Some(&key())).unwrap().torn_bytes, 25);
    let (mut log, recovered) = open(&settings, key(), &[1; 16], 2).unwrap();
    let torn = recovered.torn.unwrap();
    assert_eq!((torn.bytes, recovered.broken), (25, None));
    assert_eq!(fs::read(settings.dir.join(torn.file)).unwrap().len(), 25);
    log.append(&login(4));
    log.close(2).unwrap();
    let report = verify(&settings.dir, Some(&key())).unwrap();
    assert_eq!((report.events, report.torn_bytes, report.segments), (3, 0, 2));

    // Dead before anything was written, and after half a header.
    drop(log);
    drop(open(&settings, key(), &[1; 16], 3).unwrap());
    drop(open(&settings, key(), &[1; 16], 3).unwrap());
    fs::write(segments(&settings.dir).pop().unwrap(), b"{\"v\":1,").unwrap();
    let (mut log, recovered) = open(&settings, key(), &[1; 16], 3).unwrap();
    assert_eq!((recovered.torn.map(|torn| torn.bytes), recovered.broken), (Some(7), None));
    log.append(&login(5));
    log.close(3).unwrap();
    assert_eq!(verify(&settings.dir, Some(&key())).unwrap().events, 4);
}

#[test]
fn a_gap_found_at_start_stays_visible_for_ever() {
    let (dir, path) = sample();
    let last = segments(&path).pop().unwrap();
    rewrite(&last, |lines| lines.truncate(lines.len() - 2));
    let (mut log, recovered) = open(&settings(dir.path()), key(), &[1; 16], 9).unwrap();
    assert_eq!(recovered.broken.unwrap().kind, BreakKind::CutTail);
    log.append(&login(99));
    log.close(9).unwrap();
    drop(log);
    drop(open(&settings(dir.path()), key(), &[1; 16], 9).unwrap());
    let found = broken(&path, Some(&key()));
    assert_eq!((found.file, found.kind), (name(&last), BreakKind::CutTail));
}

#[test]
fn a_tampered_newest_segment_or_head_is_reported_at_start_and_left_as_it_is() {
    let (dir, path) = sample();
    let last = segments(&path).pop().unwrap();
    rewrite(&last, |lines| lines[2][40] ^= 1);
    let before = fs::read(&last).unwrap();
    let (_, recovered) = open(&settings(dir.path()), key(), &[1; 16], 9).unwrap();
    let found = recovered.broken.unwrap();
    assert_eq!((found.file, found.line, found.kind), (name(&last), 3, BreakKind::Edited));
    assert_eq!((recovered.torn, fs::read(&last).unwrap()), (None, before));

    let (dir, path) = sample();
    fs::remove_file(path.join("head")).unwrap();
    let (_, recovered) = open(&settings(dir.path()), key(), &[1; 16], 9).unwrap();
    assert_eq!(recovered.broken.unwrap().kind, BreakKind::Head);
}

#[test]
fn a_torn_head_slot_is_repaired_from_the_other_and_reported() {
    let (dir, path) = sample();
    let mut head = fs::read(path.join("head")).unwrap();
    head[600] ^= 1;
    fs::write(path.join("head"), &head).unwrap();
    assert_eq!(broken(&path, None).kind, BreakKind::Head);
    let (mut log, recovered) = open(&settings(dir.path()), key(), &[1; 16], 9).unwrap();
    assert_eq!(recovered.broken.unwrap().kind, BreakKind::Head);
    log.append(&login(7));
    log.close(9).unwrap();
    assert_eq!(verify(&path, Some(&key())).unwrap().events, 63);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&settings(dir.path()), key(), &[1; 16], 1).unwrap();
    assert!(open(&settings(dir.path()), key(), &[1; 16], 1).is_err());
    drop(first);
    open(&settings(dir.path()), key(), &[1; 16], 1).unwrap();
}

#[test]
fn events_are_read_back_newest_segments_first_to_a_bound_and_followed() {
    let (dir, path) = sample();
    let all: Vec<_> = events_since(&path, i64::MIN, u64::MAX).unwrap().0.map(|(_, event)| event.connection).collect();
    assert_eq!(all, (0..62).collect::<Vec<_>>());
    let (some, cut) = events_since(&path, i64::MIN, 9_000).unwrap();
    let some: Vec<_> = some.map(|(_, event)| event.connection).collect();
    assert!(cut && some.len() < 62 && some.last() == Some(&61));
    let last: Vec<_> = last_events(&path, 25).unwrap();
    assert_eq!(last.iter().map(|(_, event)| event.connection).collect::<Vec<_>>(), (37..62).collect::<Vec<_>>());
    assert!(last_events(&path, 0).unwrap().is_empty());

    let mut follow = Follow::after(&path, last.last().unwrap().0).unwrap();
    assert!(follow.poll().unwrap().is_empty());
    let (mut log, _) = open(&settings(dir.path()), key(), &[1; 16], 9).unwrap();
    for number in 62..90 {
        log.append(&login(number));
        log.sync(9).unwrap();
    }
    let found: Vec<_> = follow.poll().unwrap().into_iter().map(|(_, event)| event.connection).collect();
    assert_eq!(found, (62..90).collect::<Vec<_>>());
    assert!(follow.poll().unwrap().is_empty());
}

#[test]
fn alerts_are_read_from_any_place_up_to_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&settings(dir.path()), key(), &[1; 16], 1).unwrap();
    let path = settings(dir.path()).dir;
    let mut expected = Vec::new();
    for number in 0..60 {
        let mut event = login(number);
        if number % 3 == 0 {
            event.kind = EventKind::Alert;
            event.alert = Some(crate::event::Alert {
                rule: "bulk".to_owned(),
                severity: "low".to_owned(),
                observed: number,
                threshold: 0,
                window_s: 0,
                address: None,
                action: Default::default(),
                message: String::new(),
            });
        } else {
            event.note = Some(r#""kind":"alert""#.to_owned());
        }
        log.append(&event);
        if number % 3 == 0 {
            expected.push(log.seq());
        }
        log.sync(2).unwrap();
    }
    assert!(segments(&path).len() >= 3);
    let seqs = |found: Vec<(u64, Event)>| found.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>();
    for from in [0, expected[3], expected[3] - 1, expected[19], log.durable()] {
        let mut alerts = Alerts::after(&path, from).unwrap();
        let rest: Vec<u64> = expected.iter().copied().filter(|seq| *seq > from).collect();
        assert_eq!(
            seqs(alerts.next(expected[3], 100).unwrap()),
            rest.iter().copied().filter(|s| *s <= expected[3]).collect::<Vec<_>>()
        );
        let mut found = Vec::<u64>::new();
        loop {
            let some = seqs(alerts.next(u64::MAX, 3).unwrap());
            found.extend(&some);
            if some.len() < 3 {
                break;
            }
        }
        assert_eq!(found, rest.iter().copied().filter(|s| *s > expected[3]).collect::<Vec<_>>(), "from {from}");
    }
    let mut alerts = Alerts::after(&path, log.durable()).unwrap();
    let mut event = login(99);
    (event.kind, event.alert) = (EventKind::Alert, last_events(&path, 60).unwrap()[0].1.alert.clone());
    log.append(&event);
    log.flush(3).unwrap();
    assert!(alerts.next(log.durable(), 9).unwrap().is_empty(), "written, not durable");
    log.sync(4).unwrap();
    assert_eq!(alerts.next(log.durable(), 9).unwrap().len(), 1);
}
