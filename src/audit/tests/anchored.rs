//! An older copy of everything, put back: found by an anchor, and by nothing else.

use std::fs;
use std::path::Path;

use super::*;

/// A run of so many logins, a signature every fourth, each of them anchored.
fn run(settings: &Settings, anchor: &AnchorFile, logins: std::ops::Range<u64>, now: i64) {
    let (mut log, recovered) = open(settings, key(), &[1; 16], now).unwrap();
    assert_eq!(recovered.broken, None);
    let mut now = now;
    for number in logins {
        log.append(&login(number));
        now += 250_000;
        log.sync(now).unwrap();
        if let Some(note) = log.take_note() {
            anchor.append(&note).unwrap();
        }
    }
    log.close(now).unwrap();
    anchor.append(&log.take_note().unwrap()).unwrap();
    assert_eq!(log.take_note(), None, "each once");
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What is seen with the anchor: by the audit key, and by the public one.
fn seen(path: &Path, anchor: &AnchorFile) -> [Result<Report, Break>; 2] {
    let (key, public) = (key(), VerifierKey::new(&key(), &[1; 16]));
    let anchors = anchors(anchor.path(), &public).unwrap();
    assert!(anchors.len() > 3);
    [Some(&key), None].map(|key| match verify(path, Trust { key, public: Some(&public), anchors: &anchors }) {
        Ok(report) => Ok(report),
        Err(VerifyError::Break(found)) => Err(found),
        Err(VerifyError::Unreadable(e)) => panic!("{e}"),
    })
}

#[test]
fn an_older_copy_put_back_is_found_by_its_anchor_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 8_192, ..Settings::new(dir.path().join("audit")) };
    let anchor = AnchorFile::new(dir.path().join("anchors"));
    run(&settings, &anchor, 0..30, 0);
    let (older, newer) = (dir.path().join("older"), dir.path().join("newer"));
    copy(&settings.dir, &older);
    let short = seen(&settings.dir, &anchor)[0].clone().unwrap();
    run(&settings, &anchor, 30..60, 100_000_000);
    copy(&settings.dir, &newer);
    let notes = anchors(anchor.path(), &VerifierKey::new(&key(), &[1; 16])).unwrap();
    for report in seen(&settings.dir, &anchor) {
        assert_eq!(report.unwrap().anchors, notes.len() as u64);
    }

    // Put back: a log that ends earlier.
    copy(&older, &settings.dir);
    verify(&settings.dir, Some(&key())).unwrap();
    let first_lost = notes.iter().find(|note| note.place().size > short.last_seq).unwrap().place();
    for found in seen(&settings.dir, &anchor) {
        let found = found.unwrap_err();
        assert_eq!(
            (found.kind, found.seq, found.anchor.as_ref()),
            (BreakKind::CutTail, short.last_seq + 1, Some(&first_lost))
        );
        let said = found.to_string();
        let place = format!("anchors line {} has a checkpoint of {} records", first_lost.line, first_lost.size);
        assert!(said.contains("cut tail") && said.ends_with(&place), "{said}");
    }

    // … and gone on with, until it is as long: the first anchor that says otherwise.
    run(&settings, &AnchorFile::new(dir.path().join("unheard")), 70..120, 200_000_000);
    verify(&settings.dir, Some(&key())).unwrap();
    for found in seen(&settings.dir, &anchor) {
        let found = found.unwrap_err();
        assert_eq!(
            (found.kind, found.seq, found.anchor.as_ref()),
            (BreakKind::Rewritten, first_lost.size, Some(&first_lost))
        );
    }

    // The true log again.
    copy(&newer, &settings.dir);
    assert!(seen(&settings.dir, &anchor).iter().all(Result::is_ok));
}
