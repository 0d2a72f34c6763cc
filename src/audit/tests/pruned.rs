//! Pruned logs: what is left is proven to continue what went, and any single edit of it is found.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::packed::packed_sample;
use super::signed::{by_public, cases, edited, public, sample};
use super::*;
use crate::audit::note::Signer;
use crate::audit::prune::FILE;

/// Everything that may go.
fn all() -> Until<'static> {
    Until { before_us: i64::MAX, needed_from: None, anchors: &[] }
}

fn pruned_now(path: &Path, until: Until<'_>) -> Option<Prunable> {
    let found = prunable(path, &key(), until).unwrap()?;
    prune(path, &key(), &found, 77).unwrap();
    Some(found)
}

/// A log with anchors for every note of it, pruned to its newest segment.
fn pruned_sample() -> (TempDir, PathBuf) {
    let (dir, path) = packed_sample();
    pruned_now(&path, all()).unwrap();
    (dir, path)
}

fn trusts<T>(check: impl Fn(Trust<'_>) -> T) -> [T; 3] {
    let (key, public) = (key(), public());
    [Trust::default(), by_public(&public), Some(&key).into()].map(check)
}

#[test]
fn what_is_left_continues_what_went_and_says_so() {
    for plain in [true, false] {
        let (_dir, path) = if plain { sample() } else { packed_sample() };
        let before = verify(&path, Some(&key())).unwrap();
        let count = segments(&path).len();
        let found = pruned_now(&path, all()).unwrap();
        assert_eq!((found.segments(), found.first_seq), (count - 1, 1));
        assert_eq!(segments(&path).len(), 1);
        for report in trusts(|trust| verify(&path, trust).unwrap()) {
            assert_eq!((report.last_seq, report.segments), (before.last_seq, 1));
            assert_eq!(report.records, before.records - found.last_seq);
            let part = report.pruned.unwrap();
            assert_eq!((part.records, part.segments, part.at_us), (found.last_seq, count as u64 - 1, 77));
        }
        assert!(prunable(&path, &key(), all()).unwrap().is_none(), "the newest segment stays");

        // It goes on, is pruned again, and the first cut is still proven.
        let (mut log, recovered) = open(&Settings::new(&path), key(), &[1; 16], 1 << 40).unwrap();
        assert_eq!(recovered, Recovered::default());
        log.append(&login(900));
        log.close((1 << 40) + 1).unwrap();
        drop(log);
        let again = pruned_now(&path, all()).unwrap();
        assert_eq!((again.first_seq, again.segments()), (found.last_seq + 1, 1));
        let reports = trusts(|trust| verify(&path, trust).unwrap());
        assert!(reports.iter().all(|report| report.pruned.as_ref().unwrap().records == again.last_seq));
        let text = fs::read_to_string(path.join(FILE)).unwrap();
        assert!(text.contains(&format!("\nkept {} ", found.last_seq)), "{text}");
        assert_eq!(Pruned::parse(&text).unwrap().to_string(), text);
    }
}

#[test]
fn only_what_is_old_needed_by_nobody_and_signed_over_goes() {
    let (_dir, path) = sample();
    let headers: Vec<(u64, i64)> = segments(&path)
        .iter()
        .map(|file| {
            let record = super::super::verify::first_record(file).unwrap();
            let Kind::Segment(header) = record.kind else { panic!("no header") };
            (record.seq, header.created_us)
        })
        .collect();
    let count = |until| prunable(&path, &key(), until).unwrap().map_or(0, |found| found.segments());
    for (index, (seq, created_us)) in headers.iter().enumerate().skip(1) {
        assert_eq!(count(Until { before_us: *created_us, ..all() }), index - 1, "a record in it may be as young");
        assert_eq!(count(Until { before_us: created_us + 1, ..all() }), index);
        assert_eq!(count(Until { needed_from: Some(*seq), ..all() }), index);
        assert_eq!(count(Until { needed_from: Some(seq - 1), ..all() }), index - 1);
    }
    assert_eq!(count(Until { needed_from: Some(1), ..all() }), 0);

    // What is not as it was written stays, and so does what no signature covers.
    let first = segments(&path).remove(0);
    let good = fs::read(&first).unwrap();
    let (bytes, line) = edited(&good, 0, 5_000, 0);
    fs::write(&first, bytes).unwrap();
    let Err(VerifyError::Break(found)) = prunable(&path, &key(), all()) else { panic!("an edited segment was pruned") };
    assert_eq!((found.file, found.line), (name(&first), line));
    fs::write(&first, &good).unwrap();
    let unsigned = segments(&path).pop().unwrap();
    let text = fs::read_to_string(&unsigned).unwrap();
    let to = text.find(",\"signed\"").map(|at| text[..at].rfind('\n').unwrap() + 1).unwrap();
    fs::write(&unsigned, &text[..to]).unwrap();
    let found = prunable(&path, &key(), Until { before_us: headers.last().unwrap().1 + 1, ..all() });
    assert!(found.unwrap().is_none(), "nothing behind the cut is signed");
}

#[test]
fn a_crash_in_the_middle_leaves_segments_that_no_longer_count() {
    let (_dir, path) = packed_sample();
    let saved: Vec<_> = segments(&path).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    let found = pruned_now(&path, all()).unwrap();
    for (file, bytes) in &saved {
        fs::write(file, bytes).unwrap();
        assert!(trusts(|trust| verify(&path, trust)).iter().all(Result::is_ok));
    }
    let (mut log, recovered) = open(&Settings::new(&path), key(), &[1; 16], 1).unwrap();
    assert_eq!(recovered, Recovered::default());
    log.append(&login(1));
    log.close(2).unwrap();
    drop(log);
    assert_eq!(pruned_now(&path, all()).unwrap().first_seq, found.last_seq + 1);
    assert_eq!(segments(&path).len(), 1);
}

/// A file of anchors with every note of a log.
fn anchored(path: &Path) -> Vec<Anchor> {
    let file = path.parent().unwrap().join("anchors");
    let text = segments(path).iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    let mut notes = String::new();
    for line in text.lines().filter(|line| line.contains(",\"signed\":{")) {
        let Kind::Signed(signed) = record::decode(line.as_bytes()).unwrap().kind else { panic!("not signed") };
        notes.push_str(&signed.note);
        notes.push('\n');
    }
    fs::write(&file, notes).unwrap();
    anchors(&file, &public()).unwrap()
}

#[test]
fn old_anchors_are_checked_where_a_root_was_kept_and_counted_where_none_was() {
    let (_dir, path) = sample();
    let anchors = anchored(&path);
    let segments_before = segments(&path).len();
    let found = pruned_now(&path, Until { anchors: &anchors[..2], ..all() }).unwrap();
    let key = key();
    let check = |anchors: &[Anchor]| verify(&path, Trust { key: Some(&key), anchors, ..Trust::default() });
    let report = check(&anchors).unwrap();
    let inside = anchors.iter().filter(|anchor| anchor.size() <= found.last_seq).count() as u64;
    let kept = segments_before as u64 - 1 + 1;
    assert_eq!(report.anchors_pruned, inside - kept, "the last of each segment, and the newest that was given");
    assert_eq!(report.anchors, anchors.len() as u64 - report.anchors_pruned);
    assert_eq!(check(&anchors[1..2]).unwrap().anchors, 1);

    // The key's owner cannot make the pruned part another one behind an anchor's back.
    let other = Signer::new(&key, &"01".repeat(16)).sign(anchors[1].size(), [9; 32]);
    let file = path.parent().unwrap().join("others");
    fs::write(&file, other.to_string()).unwrap();
    let others = super::super::anchors(&file, &public()).unwrap();
    let Err(VerifyError::Break(found)) = check(&others) else { panic!("it fits") };
    assert_eq!((found.file.as_str(), found.kind), (FILE, BreakKind::Rewritten));
    assert!(found.anchor.is_some());
}

#[test]
fn without_its_note_or_with_another_keys_a_cut_is_a_break() {
    let (_dir, path) = pruned_sample();
    let file = path.join(FILE);
    let good = fs::read_to_string(&file).unwrap();
    let seen = || trusts(|trust| verify(&path, trust).err().map(|e| e.to_string()));
    fs::remove_file(&file).unwrap();
    assert!(seen().iter().all(|found| found.as_ref().is_some_and(|found| found.contains("missing segment"))));
    let (body, _) = good.split_once("\n\n").unwrap();
    let (name, bytes) = Signer::new(&Key::new([9; 32]), &"01".repeat(16)).signature(&format!("{body}\n"));
    let forged = format!("{body}\n\n— {name} {}\n", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes));
    fs::write(&file, forged).unwrap();
    let [nobody, public, keyed] = seen();
    assert_eq!(nobody, None);
    assert!(public.unwrap().contains("forged") && keyed.unwrap().contains("forged"));
    fs::write(&file, &good).unwrap();
    assert_eq!(seen(), [None, None, None]);
    // A cut further on than what was pruned.
    fs::remove_file(&segments(&path)[0]).unwrap();
    assert!(seen().iter().all(Option::is_some));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// `PGVEIL_TEST_EDITS` says how many (`make edits`: 10,000).
    #[test]
    fn any_single_edit_of_a_pruned_log_is_found_where_it_was_made(
        kind in 0usize..5, note: bool, a: usize, b: usize, keyed: bool,
    ) {
        thread_local!(static SAMPLE: (TempDir, PathBuf) = pruned_sample());
        SAMPLE.with(|(_dir, path)| {
            let file = if note { path.join(FILE) } else { segments(path).remove(0) };
            let good = fs::read(&file).unwrap();
            let (bytes, line) = edited(&good, kind, a, b);
            fs::write(&file, &bytes).unwrap();
            let (key, public) = (key(), public());
            let found = match verify(path, if keyed { Some(&key).into() } else { by_public(&public) }) {
                Err(VerifyError::Break(found)) => found,
                other => panic!("kind {kind} of {}: {other:?}", file.display()),
            };
            fs::write(&file, &good).unwrap();
            assert_eq!((&found.file, found.line), (&name(&file), if note { 0 } else { line }), "kind {kind}: {found}");
        });
    }
}
