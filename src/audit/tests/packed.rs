//! Compressed segments among plain ones: everything that reads a log reads them, and any single edit is found.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::signed::{by_public, cases, edited, public, sample};
use super::*;
use crate::audit::packed::{self, Unpacked};

fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3_600)
}

/// All but the newest segment compressed.
pub(super) fn packed_sample() -> (TempDir, PathBuf) {
    let (dir, path) = sample();
    while compress_next(&path, soon()).unwrap().is_some() {}
    let (newest, others) = segments(&path).split_last().map(|(a, b)| (a.clone(), b.to_vec())).unwrap();
    assert!(!packed::is_packed(&newest) && others.len() >= 2 && others.iter().all(|file| packed::is_packed(file)));
    (dir, path)
}

fn text(file: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    match packed::is_packed(file) {
        true => drop(Unpacked::open(file).unwrap().read_to_end(&mut text).unwrap()),
        false => text = fs::read(file).unwrap(),
    }
    text
}

fn repack(file: &Path, text: &[u8]) {
    let bytes = packed::pack_into(&mut &*text, text.len() as u64, Vec::new()).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_compressed_log_is_read_as_the_plain_one() {
    let (_dir, plain) = sample();
    let reports = |path: &Path| {
        let public = public();
        [Trust::default(), by_public(&public), Some(&key()).into()].map(|trust| verify(path, trust).unwrap())
    };
    let before = (reports(&plain), last_events(&plain, 1_000).unwrap());
    let events = |path: &Path| events_since(path, i64::MIN, u64::MAX).unwrap().0.collect::<Vec<_>>();
    let all = events(&plain);
    assert_eq!(all.len(), 140);
    // Somebody reads along while it is compressed.
    let mut follow = Follow::after(&plain, 0).unwrap();
    let newest = follow.poll().unwrap();
    while compress_next(&plain, soon()).unwrap().is_some() {
        assert_eq!((reports(&plain), last_events(&plain, 1_000).unwrap()), before);
        assert_eq!(events(&plain), all);
    }
    assert_eq!(compress_next(&plain, soon()).unwrap(), None);
    assert!(segments(&plain).iter().rev().skip(1).all(|file| packed::is_packed(file)));
    let (events, cut) = events_since(&plain, i64::MIN, 1).unwrap();
    assert!(cut && events.bytes() == fs::metadata(segments(&plain).last().unwrap()).unwrap().len());

    let settings = Settings { segment_bytes: 1 << 20, ..Settings::new(&plain) };
    let (mut log, recovered) = open(&settings, key(), &[1; 16], 0).unwrap();
    assert_eq!(recovered, Recovered::default());
    log.append(&login(500));
    log.close(1).unwrap();
    drop(log);
    assert_eq!(compress_next(&plain, soon()).unwrap().map(|done| done.file), newest_but_one(&plain));
    let more = follow.poll().unwrap();
    assert!(newest.len() < 140 && more.len() == 1, "{} and {}", newest.len(), more.len());
    assert_eq!(reports(&plain)[2].events, 141);
}

fn newest_but_one(path: &Path) -> Option<String> {
    let file = segments(path).into_iter().rev().nth(1)?;
    Some(name(&file).trim_end_matches(".zst").to_owned())
}

#[test]
fn a_follower_goes_on_in_the_middle_of_a_segment_that_is_compressed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 2_000, ..Settings::new(dir.path()) };
    let (mut log, _) = open(&settings, key(), &[1; 16], 0).unwrap();
    let mut follow = Follow::after(dir.path(), 0).unwrap();
    let mut seen = Vec::new();
    for number in 0..60 {
        log.append(&login(number));
        log.sync(1).unwrap();
        if number % 7 == 0 {
            while compress_next(dir.path(), soon()).unwrap().is_some() {}
        }
        if number % 5 == 0 {
            seen.extend(follow.poll().unwrap().into_iter().map(|(_, event)| event.connection));
        }
    }
    seen.extend(follow.poll().unwrap().into_iter().map(|(_, event)| event.connection));
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn what_was_written_to_lately_and_the_newest_stay_plain() {
    let (_dir, path) = sample();
    let before = segments(&path);
    assert_eq!(compress_next(&path, SystemTime::now() - Duration::from_secs(600)).unwrap(), None);
    fs::remove_dir_all(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(compress_next(&path, soon()).unwrap(), None);
    assert!(before.len() >= 3);
}

#[test]
fn where_both_forms_are_there_the_plain_one_counts() {
    let (_dir, path) = sample();
    let first = segments(&path).remove(0);
    fs::write(packed::packed(&first), b"half a file").unwrap();
    assert_eq!(verify(&path, Some(&key())).unwrap().events, 140);
    let good = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    let found = broken(&path, Some(&key()));
    assert_eq!((found.file, found.line, found.kind), (name(&packed::packed(&first)), 1, BreakKind::Edited));
    fs::write(&first, good).unwrap();
    assert_eq!(compress_next(&path, soon()).unwrap().unwrap().file, name(&first));
    assert_eq!(verify(&path, Some(&key())).unwrap().events, 140);
}

#[test]
fn a_damaged_newest_segment_that_is_compressed_is_a_break_and_is_left_as_it_is() {
    let (_dir, path) = packed_sample();
    let all = segments(&path);
    fs::remove_file(all.last().unwrap()).unwrap();
    let newest = &all[all.len() - 2];
    for cut in [0, 40, usize::try_from(fs::metadata(newest).unwrap().len()).unwrap() / 2] {
        let bytes = fs::read(newest).unwrap();
        fs::write(newest, &bytes[..cut]).unwrap();
        let (log, recovered) = open(&settings_in(&path), key(), &[1; 16], 1).unwrap();
        drop(log);
        assert!(recovered.broken.is_some() && recovered.torn.is_none(), "cut at {cut}: {recovered:?}");
        assert_eq!(fs::metadata(newest).unwrap().len(), cut as u64);
        fs::write(newest, bytes).unwrap();
        fs::remove_file(segments(&path).last().unwrap()).unwrap();
    }
}

fn settings_in(path: &Path) -> Settings {
    Settings { segment_bytes: 1 << 20, ..Settings::new(path) }
}

/// How many lines of a damaged file still are the first ones of `good`, read by the format's own library.
fn readable(bytes: &[u8], good: &[u8]) -> u64 {
    let mut out = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(Cursor::new(bytes)).unwrap().single_frame();
    let mut piece = [0; 512];
    while let Ok(read @ 1..) = decoder.read(&mut piece) {
        out.extend_from_slice(&piece[..read]);
    }
    let common = out.iter().zip(good).take_while(|(a, b)| a == b).count();
    good[..common].iter().filter(|byte| **byte == b'\n').count() as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// `PGVEIL_TEST_EDITS` says how many (`make edits`: 10,000).
    #[test]
    fn any_single_edit_of_a_compressed_log_is_found_where_it_was_made(
        kind in 0usize..7, file in any::<prop::sample::Index>(), a: usize, b: usize, who in 0usize..3,
    ) {
        thread_local!(static SAMPLE: (TempDir, PathBuf) = packed_sample());
        SAMPLE.with(|(_dir, path)| {
            let mut files = segments(path);
            files.pop();
            let file = &files[file.index(files.len())];
            let (bytes, good) = (fs::read(file).unwrap(), text(file));
            let line = match kind {
                5 => {
                    let mut flipped = bytes.clone();
                    flipped[a % bytes.len()] ^= 1 << (b % 8);
                    fs::write(file, &flipped).unwrap();
                    readable(&flipped, &good) + 1
                }
                6 => {
                    let cut = &bytes[..a % bytes.len()];
                    fs::write(file, cut).unwrap();
                    readable(cut, &good) + 1
                }
                _ => {
                    let (text, line) = edited(&good, kind, a, b);
                    repack(file, &text);
                    line
                }
            };
            let (key, public) = (key(), public());
            let trusts = [Trust::default(), by_public(&public), Some(&key).into()];
            let found = match verify(path, trusts[who]) {
                Err(VerifyError::Break(found)) => found,
                other => panic!("kind {kind}: {other:?}"),
            };
            fs::write(file, &bytes).unwrap();
            assert_eq!((&found.file, found.line), (&name(file), line), "kind {kind}: {found}");
            assert!(kind < 5 || found.kind == BreakKind::Edited, "{found}");
        });
    }
}
