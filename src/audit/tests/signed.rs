//! Signed checkpoints: where they stand, what they prove, and to whom; and any single edit of a log that has them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::fake::FakeDisk;
use super::*;
use crate::audit::note::Signer;
use crate::audit::record::{Hash, Head, Signed};
use crate::audit::tree::{Tree, leaf};

const SECOND: i64 = 1_000_000;

pub(super) fn by_public(public: &VerifierKey) -> Trust<'_> {
    Trust { public: Some(public), ..Trust::default() }
}

pub(super) fn public() -> VerifierKey {
    VerifierKey::new(&key(), &[1; 16])
}

/// Three or more segments over two runs, an event every 200 ms, a group commit every fourth.
pub(super) fn sample() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 16_384, ..Settings::new(dir.path().join("audit")) };
    let mut now = 0;
    for run in 0..2 {
        let (mut log, _) = open(&settings, key(), &[1; 16], now).unwrap();
        for number in 0..70 {
            now += SECOND / 5;
            log.append(&login(100 * run + number));
            if number % 4 == 3 {
                log.sync(now).unwrap();
            }
        }
        log.close(now).unwrap();
        assert!(log.is_signed());
    }
    assert!(segments(&settings.dir).len() >= 3);
    (dir, settings.dir)
}

fn records(dir: &Path) -> Vec<(Vec<u8>, record::Record)> {
    let all = segments(dir).into_iter().flat_map(|file| lines(&file));
    let read = |mut line: Vec<u8>| {
        line.pop();
        let record = record::decode(&line).unwrap();
        (line, record)
    };
    all.map(read).collect()
}

#[test]
fn signatures_come_every_second_at_the_end_of_a_segment_and_at_close() {
    let (_dir, path) = sample();
    let report = verify(&path, Some(&key())).unwrap();
    let by_public = verify(&path, by_public(&public())).unwrap();
    let by_nobody = verify(&path, None).unwrap();
    assert_eq!((by_public.signed, by_public.proven_seq, by_public.keyed), (report.signed, report.proven_seq, false));
    assert_eq!((by_nobody.signed, by_nobody.proven_seq), (report.signed, 0));
    assert_eq!(report.proven_seq, report.last_seq - 1, "the last record is a signature over all others");
    // 28 seconds, a commit each 0.8: a signature at every second commit, and at the ends.
    assert!((17..=24).contains(&report.signed), "{report:?}");
    for file in segments(&path) {
        let last = lines(&file).pop().unwrap();
        assert!(
            String::from_utf8(last).unwrap().contains(",\"signed\":{\"note\":\"pgveil.log/0101"),
            "{}",
            name(&file)
        );
    }
}

#[test]
fn every_root_is_that_of_the_lines_and_every_header_has_the_tree_before_it() {
    let (_dir, path) = sample();
    let (mut tree, mut notes, mut headers) = (Tree::default(), 0, 0);
    for (line, record) in records(&path) {
        match record.kind {
            Kind::Signed(signed) => {
                let note = Note::parse(&signed.note).unwrap();
                note.prove(&public()).unwrap();
                assert_eq!((note.size(), note.root()), (record.seq - 1, tree.root()));
                notes += 1;
            }
            Kind::Segment(header) => {
                assert_eq!(header.tree.as_ref(), Some(&tree));
                headers += 1;
            }
            Kind::Event | Kind::Checkpoint(_) => {}
        }
        tree.push(leaf(&line));
    }
    assert!(notes > 10 && headers >= 3);
}

#[test]
fn a_segment_is_closed_signed_when_it_is_old_and_no_empty_one_is_begun_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { segment_us: 3_600_000_000, ..Settings::new(dir.path()) };
    let hour = 3_600 * SECOND;
    let (mut log, _) = open(&settings, key(), &[1; 16], 0).unwrap();
    for (number, at) in [1, hour - 1, hour, hour + 1, 2 * hour - 1, 2 * hour, 5 * hour].into_iter().enumerate() {
        log.append(&login(number as u64));
        log.sync(at).unwrap();
    }
    log.append(&login(7));
    log.close(9 * hour).unwrap();
    let files = segments(dir.path());
    let events: Vec<_> =
        files.iter().map(|file| fs::read_to_string(file).unwrap().matches("\"event\"").count()).collect();
    assert_eq!(events, [3, 3, 1, 1]);
    for file in files {
        assert!(String::from_utf8(lines(&file).pop().unwrap()).unwrap().contains(",\"signed\""), "{}", name(&file));
    }
    assert_eq!(seen(dir.path()), [None; 3]);
}

#[test]
fn ten_thousand_records_are_signed_before_the_second_is_over() {
    let disk = FakeDisk::default();
    let mut log = disk.log(1 << 30);
    for number in 0..10_001 {
        log.append(&login(number));
    }
    log.sync(1).unwrap();
    assert!(log.is_signed());
    log.append(&login(0));
    log.sync(2).unwrap();
    assert!(log.is_durable() && !log.is_signed(), "one record in one microsecond");
    log.sync(2 + SECOND).unwrap();
    assert!(log.is_signed(), "what nobody adds to is signed too");
    let seq = log.seq();
    log.sync(9 * SECOND).unwrap();
    assert_eq!(log.seq(), seq, "and only once");
}

#[test]
fn a_write_or_fsync_that_fails_leaves_a_tree_over_what_is_in_the_log() {
    for failing in ["fsync", "write", "fsync twice"] {
        let disk = FakeDisk::default();
        let mut log = disk.log(1 << 30);
        let mut now = SECOND;
        log.append(&login(1));
        log.sync(now).unwrap();
        for number in 2..6 {
            log.append(&login(number));
            now += SECOND;
            disk.with(|inner| match failing {
                "fsync" => inner.failing_syncs = 1,
                "fsync twice" => inner.failing_syncs = 2,
                _ => inner.room = Some(150),
            });
            log.sync(now).unwrap_err();
            if failing == "fsync twice" {
                log.sync(now).unwrap_err();
            }
            disk.with(|inner| inner.room = None);
            log.append(&login(10 * number));
            log.sync(now).unwrap();
        }
        log.close(now).unwrap();
        let dir = tempfile::tempdir().unwrap();
        disk.dump(dir.path());
        let public = VerifierKey::new(&key(), &[0; 16]);
        let report = verify(dir.path(), Some(&key())).unwrap();
        assert_eq!((report.events, report.signed), (9, 5), "{failing}");
        let proven = verify(dir.path(), by_public(&public)).unwrap().proven_seq;
        assert_eq!(proven, report.last_seq - 1, "{failing}");
    }
}

/// Chains every record anew after `change`, as whoever has `theirs` can; a record of which `change` makes nothing goes.
pub(super) fn rechain(path: &Path, theirs: &Key, change: impl Fn(u64, &mut Kind, &mut String) -> bool) {
    let (mut seq, mut prev, mut segment, mut tree) = (0, [0; 32], 0, Tree::default());
    for file in segments(path) {
        let mut out = Vec::new();
        segment += 1;
        for line in lines(&file) {
            let line = line.strip_suffix(b"\n").unwrap();
            let mut text = String::from_utf8(record::payload(line).unwrap().to_vec()).unwrap();
            let record = record::decode(line).unwrap();
            let mut kind = record.kind;
            if let Kind::Segment(header) = &mut kind {
                header.tree = Some(tree.clone());
            }
            if let Kind::Signed(signed) = &mut kind {
                signed.note = Signer::new(theirs, &"01".repeat(16)).sign(seq, tree.root()).to_string();
            }
            if !change(record.seq, &mut kind, &mut text) {
                continue;
            }
            seq += 1;
            let start = out.len();
            prev = match kind {
                Kind::Checkpoint(mut checkpoint) => {
                    checkpoint.mac = record::checkpoint_mac(theirs, &"01".repeat(16), seq, &prev);
                    record::encode(seq, &prev, Payload::Checkpoint(&checkpoint), &mut out)
                }
                Kind::Segment(header) => record::encode(seq, &prev, Payload::Segment(&header), &mut out),
                Kind::Signed(signed) => record::encode(seq, &prev, Payload::Signed(&signed), &mut out),
                Kind::Event => record::encode(seq, &prev, Payload::Raw(text.as_bytes()), &mut out),
            };
            tree.push(leaf(&out[start..out.len() - 1]));
        }
        fs::write(&file, out).unwrap();
    }
    let head = Head::new(theirs, seq, segment, prev).encode().unwrap();
    fs::write(path.join("head"), head.repeat(2)).unwrap();
}

/// Where keyless, the public key and the audit key first see a break.
fn seen(path: &Path) -> [Option<(u64, BreakKind)>; 3] {
    let (key, public) = (key(), public());
    let trusts = [Trust::default(), by_public(&public), Some(&key).into()];
    trusts.map(|trust| match verify(path, trust) {
        Ok(_) => None,
        Err(VerifyError::Break(found)) => Some((found.seq, found.kind)),
        Err(VerifyError::Unreadable(e)) => panic!("{e}"),
    })
}

#[test]
fn a_log_chained_anew_by_another_key_convinces_nobody_with_the_public_one() {
    let edit = |_: u64, _: &mut Kind, text: &mut String| {
        *text = text.replace("\"connection\":17,", "\"connection\":99,");
        true
    };
    let (_dir, path) = sample();
    let first = records(&path).iter().find(|(_, r)| matches!(r.kind, Kind::Signed(_))).unwrap().1.seq;
    rechain(&path, &Key::new([9; 32]), edit);
    let head = Some((records(&path).last().unwrap().1.seq, BreakKind::Rewritten));
    assert_eq!(seen(&path), [None, Some((first, BreakKind::WrongKey)), head]);

    // Nor when the signatures are taken out.
    let (_dir, path) = sample();
    rechain(&path, &Key::new([9; 32]), |seq, kind, text| edit(seq, kind, text) && !matches!(kind, Kind::Signed(_)));
    assert_eq!(seen(&path)[..2], [None, Some((1, BreakKind::Unsigned))]);

    // The true signatures vouch for other records, which even the plain tree tells, also under true MACs.
    let (_dir, path) = sample();
    let true_kinds: Vec<_> = records(&path).into_iter().map(|(_, record)| record.kind).collect();
    rechain(&path, &key(), |seq, kind, text| {
        *kind = match &true_kinds[usize::try_from(seq).unwrap() - 1] {
            truth @ Kind::Signed(_) => truth.clone(),
            _ => kind.clone(),
        };
        edit(seq, kind, text)
    });
    let all = records(&path);
    let edited = all.iter().position(|(line, _)| line.windows(16).any(|w| w == b"\"connection\":99,")).unwrap();
    let next = all[edited..].iter().find(|(_, r)| matches!(r.kind, Kind::Signed(_))).unwrap().1.seq;
    assert_eq!(seen(&path), [Some((next, BreakKind::Forged)); 3], "the first signature after the edit");
}

#[test]
fn every_change_of_a_signature_or_a_frontier_is_found_there_also_under_the_true_macs() {
    type Change = fn(&mut Kind);
    fn noted(kind: &mut Kind, change: impl Fn(&Signed) -> String) {
        if let Kind::Signed(signed) = kind {
            signed.note = change(signed);
        }
    }
    let cases: [(&str, Change, BreakKind, BreakKind); 6] = [
        ("another root", |k| noted(k, |_| sign(7, 41, [9; 32])), BreakKind::Forged, BreakKind::Forged),
        ("another size", |k| noted(k, |s| s.note.replacen("\n4", "\n5", 1)), BreakKind::Forged, BreakKind::Forged),
        ("another log's", |k| noted(k, |s| s.note.replace("0101", "0202")), BreakKind::Forged, BreakKind::Forged),
        ("no note", |k| noted(k, |_| String::new()), BreakKind::Forged, BreakKind::Forged),
        ("another key", |k| noted(k, |s| resign(s, 9)), BreakKind::WrongKey, BreakKind::Forged),
        (
            "two signatures",
            |k| noted(k, |s| format!("{0}{1}\n", s.note, last(s))),
            BreakKind::Forged,
            BreakKind::Forged,
        ),
    ];
    for (what, change, to_public, to_key) in cases {
        let (_dir, path) = sample();
        let at = records(&path).iter().find(|(_, r)| matches!(r.kind, Kind::Signed(_)) && r.seq > 40).unwrap().1.seq;
        rechain(&path, &key(), |seq, kind, _| {
            if seq == at {
                change(kind);
            }
            true
        });
        let [_, by_public, by_key] = seen(&path);
        assert_eq!((by_public, by_key), (Some((at, to_public)), Some((at, to_key))), "{what}");
    }
    let (_dir, path) = sample();
    let at = records(&path).iter().rfind(|(_, r)| matches!(r.kind, Kind::Segment(_))).unwrap().1.seq;
    rechain(&path, &key(), |seq, kind, _| {
        if let (Kind::Segment(header), true) = (kind, seq == at) {
            header.tree.as_mut().unwrap().push([1; 32]);
        }
        true
    });
    assert_eq!(seen(&path), [Some((at, BreakKind::Forged)); 3]);
}

fn sign(by: u8, size: u64, root: Hash) -> String {
    Signer::new(&Key::new([by; 32]), &"01".repeat(16)).sign(size, root).to_string()
}

fn resign(signed: &Signed, by: u8) -> String {
    let note = Note::parse(&signed.note).unwrap();
    sign(by, note.size(), note.root())
}

fn last(signed: &Signed) -> &str {
    signed.note.trim_end().rsplit('\n').next().unwrap()
}

#[test]
fn a_log_of_before_is_read_once_from_its_beginning_and_signed_from_then_on() {
    let (_dir, path) = sample();
    rechain(&path, &key(), |_, kind, _| {
        if let Kind::Segment(header) = kind {
            header.tree = None;
        }
        !matches!(kind, Kind::Signed(_))
    });
    assert_eq!(seen(&path), [None, Some((1, BreakKind::Unsigned)), None]);
    let settings = Settings { segment_bytes: 1 << 20, ..Settings::new(&path) };
    let (mut log, recovered) = open(&settings, key(), &[1; 16], 0).unwrap();
    assert_eq!(recovered.broken, None);
    log.append(&login(7));
    log.close(1).unwrap();
    drop(log);
    assert_eq!(seen(&path), [None; 3]);
    let proven = verify(&path, by_public(&public())).unwrap();
    assert_eq!((proven.signed, proven.proven_seq), (1, proven.last_seq - 1), "what was before is covered too");
}

#[test]
fn behind_a_gap_nothing_is_signed_until_it_is_closed() {
    let (_dir, path) = sample();
    let last = segments(&path).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    rewrite(&last, |lines| lines.truncate(lines.len() - 2));
    let settings = Settings { segment_bytes: 1 << 20, ..Settings::new(&path) };
    let run = |at: i64| {
        let (mut log, recovered) = open(&settings, key(), &[1; 16], at).unwrap();
        log.append(&login(7));
        log.close(at + SECOND).unwrap();
        recovered
    };
    let signatures = || fs::read_to_string(segments(&path).pop().unwrap()).unwrap().matches("\"signed\"").count();
    assert_eq!(run(1).broken.unwrap().kind, BreakKind::CutTail);
    assert_eq!(signatures(), 0);
    assert_eq!(run(2).broken, None, "the newest segment is whole");
    assert_eq!(signatures(), 0);
    fs::write(&last, whole).unwrap();
    run(3);
    assert_eq!((signatures(), seen(&path)), (1, [None; 3]));
}

/// What is done to one file, and where it must be found: file and line.
pub(super) fn edited(good: &[u8], kind: usize, a: usize, b: usize) -> (Vec<u8>, u64) {
    let all: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    let (i, j) = (a % all.len(), b % all.len());
    let line = |index: usize| index as u64 + 1;
    match kind {
        0 => {
            let at = a % good.len();
            let mut bytes = good.to_vec();
            bytes[at] ^= 1 << (b % 8);
            (bytes, line(good[..at].iter().filter(|byte| **byte == b'\n').count()))
        }
        1 => {
            let bytes = [&all[..i], &all[i + 1..]].concat().concat();
            // The last one's place is taken by nothing: the file ends before it.
            (bytes, if i + 1 == all.len() { i as u64 } else { line(i) })
        }
        2 => {
            let (i, j) = if i == j { (i.min(all.len() - 2), i.min(all.len() - 2) + 1) } else { (i.min(j), i.max(j)) };
            let mut swapped = all.clone();
            swapped.swap(i, j);
            (swapped.concat(), line(i))
        }
        3 => {
            let keep = a % good.len();
            let whole = good[..keep].iter().filter(|byte| **byte == b'\n').count();
            let torn = keep > 0 && good[keep - 1] != b'\n';
            (good[..keep].to_vec(), if torn { line(whole) } else { whole as u64 })
        }
        _ => {
            let at = a % (all.len() + 1);
            let mut longer = all.clone();
            longer.insert(at, all[j]);
            // A copy right before itself is the record; the second one is too much.
            (longer.concat(), line(if at == j { at + 1 } else { at }))
        }
    }
}

pub(super) fn cases() -> u32 {
    std::env::var("PGVEIL_TEST_EDITS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// `PGVEIL_TEST_EDITS` says how many (`make edits`: 10,000).
    #[test]
    fn any_single_edit_is_found_where_it_was_made(
        kind in 0usize..5, file in any::<prop::sample::Index>(), a: usize, b: usize, who in 0usize..3,
    ) {
        thread_local!(static SAMPLE: (TempDir, PathBuf) = sample());
        SAMPLE.with(|(_dir, path)| {
            let files = segments(path);
            let file = &files[file.index(files.len())];
            let good = fs::read(file).unwrap();
            let (bytes, line) = edited(&good, kind, a, b);
            fs::write(file, bytes).unwrap();
            let (key, public) = (key(), public());
            let trusts = [Trust::default(), by_public(&public), Some(&key).into()];
            let found = match verify(path, trusts[who]) {
                Err(VerifyError::Break(found)) => found,
                other => panic!("kind {kind}: {other:?}"),
            };
            fs::write(file, &good).unwrap();
            assert_eq!((&found.file, found.line), (&name(file), line), "kind {kind}: {found}");
            let fits: &[BreakKind] = match kind {
                0 => &[BreakKind::Edited, BreakKind::Torn],
                1 => &[BreakKind::Deleted, BreakKind::CutTail],
                2 => &[BreakKind::Reordered],
                3 => &[BreakKind::CutTail, BreakKind::Torn],
                _ => &[BreakKind::Inserted, BreakKind::Reordered],
            };
            assert!(fits.contains(&found.kind), "kind {kind}: {found}");
        });
    }
}

#[test]
fn a_log_that_another_implementation_wrote_is_read_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, mut public) = (None::<String>, None);
    for line in include_str!("../../../tests/vectors/access_log.txt").lines() {
        if let Some(text) = line.strip_prefix("key ") {
            public = VerifierKey::parse(text);
        } else if let Some(slot) = line.strip_prefix("head ") {
            let slot = format!("{slot:<511}\n");
            fs::write(dir.path().join("head"), slot.repeat(2)).unwrap();
        } else if let Some(name) = line.strip_prefix("file ") {
            file = Some(name.to_owned());
        } else if let Some(name) = &file {
            let path = dir.path().join(name);
            let before = fs::read_to_string(&path).unwrap_or_default();
            fs::write(&path, format!("{before}{line}\n")).unwrap();
        }
    }
    let public = public.unwrap();
    assert_eq!(public, super::signed::public());
    for trust in [Trust::default(), by_public(&public), Some(&key()).into()] {
        let report = verify(dir.path(), trust).unwrap();
        assert_eq!((report.segments, report.events, report.signed, report.last_seq), (2, 11, 2, 18));
        assert_eq!(report.proven_seq, if trust.key.is_none() && trust.public.is_none() { 0 } else { 17 });
    }
    let settings = Settings { segment_bytes: 1 << 20, ..Settings::new(dir.path()) };
    let (mut log, recovered) = open(&settings, key(), &[1; 16], 0).unwrap();
    assert_eq!(recovered, Recovered::default());
    log.append(&login(12));
    log.close(1).unwrap();
    let report = verify(dir.path(), by_public(&public)).unwrap();
    assert_eq!((report.events, report.proven_seq), (12, report.last_seq - 1));
}
