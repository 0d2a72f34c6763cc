//! The access log's anchors: there, of this log, and not older than it.
//!
//! In: the files of `[audit] anchors`, the log's folder and key. Out: checks. Never: a change to a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Check, Step};
use crate::audit::{self, Anchor, Trust, VerifierKey, VerifyError};
use crate::secret::Key;

/// An anchor is written ten seconds after the log, unless its place cannot be.
const LATE: Duration = Duration::from_secs(300);

/// One check for each file, and one for all of them against the log, unless that is too large to be read here.
pub fn anchors(files: &[PathBuf], dir: &Path, key: &Key, public: &VerifierKey) -> Vec<Check> {
    let written = newest_write(dir);
    let mut all = Vec::new();
    let mut checks: Vec<Check> = files.iter().map(|file| anchor(file, written, public, &mut all)).collect();
    if all.is_empty() || super::machine::size(dir) > super::machine::VERIFIED_BYTES_MAX {
        return checks;
    }
    let trust = Trust { key: Some(key), anchors: &all, ..Trust::default() };
    match audit::verify(dir, trust) {
        Ok(report) => {
            let message = format!("{} anchored checkpoints are of this access log", report.anchors);
            checks.push(Check::ok("anchors_agree", message));
        }
        Err(VerifyError::Break(found)) if found.anchor.is_some() => {
            let message = format!("the access log is not the one that was anchored: {found}");
            checks
                .push(Check::hole("anchors_agree", message).step(Step::Run("pgveil log verify --anchor FILE".into())));
        }
        // Any other break is `log_verify`'s to tell.
        Err(_) => {}
    }
    checks
}

fn anchor(file: &Path, written: Option<SystemTime>, public: &VerifierKey, all: &mut Vec<Anchor>) -> Check {
    let shown = file.display();
    let modified = match fs::metadata(file).and_then(|about| about.modified()) {
        Ok(modified) => modified,
        Err(error) => return Check::warning("anchor", format!("{shown} cannot be looked at ({error})")),
    };
    let mut found = match audit::anchors(file, public) {
        Ok(found) => found,
        Err(VerifyError::Break(found)) => {
            return Check::hole("anchor", format!("{shown} holds what this log's key did not sign: {found}"));
        }
        Err(VerifyError::Unreadable(error)) => {
            return Check::warning("anchor", format!("{shown} cannot be read ({error})"));
        }
    };
    let Some(size) = found.iter().map(Anchor::size).max() else {
        return Check::warning("anchor", format!("{shown} holds no checkpoint"));
    };
    all.append(&mut found);
    let late = written.and_then(|written| written.duration_since(modified).ok()).filter(|late| *late > LATE);
    match late {
        Some(late) => {
            let minutes = late.as_secs() / 60;
            let message =
                format!("{shown} is {minutes} minutes older than the access log: what came since is not anchored");
            Check::warning("anchor", message)
        }
        None => Check::ok("anchor", format!("{shown} has the access log to record {size}")),
    }
}

/// When a segment was last written to.
fn newest_write(dir: &Path) -> Option<SystemTime> {
    let segments = fs::read_dir(dir).ok()?.flatten();
    let segments = segments.filter(|entry| entry.file_name().to_string_lossy().starts_with("access-"));
    segments.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AnchorFile;
    use crate::doctor::Severity;
    use crate::event::{Event, EventKind};

    fn run(dir: &Path, anchor: &AnchorFile, now_us: i64) {
        let (mut log, _) = audit::open(&audit::Settings::new(dir), Key::new([7; 32]), &[1; 16], now_us).unwrap();
        log.append(&Event::new(EventKind::Login, now_us));
        log.close(now_us + 1).unwrap();
        anchor.append(&log.take_note().unwrap()).unwrap();
    }

    #[test]
    fn an_anchor_is_there_fresh_and_of_this_log_or_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, path) = (folder.path().join("audit"), folder.path().join("anchors"));
        let (key, anchor) = (Key::new([7; 32]), AnchorFile::new(path.clone()));
        let public = VerifierKey::new(&key, &[1; 16]);
        let seen = || -> Vec<(Severity, String)> {
            let found = anchors(std::slice::from_ref(&path), &dir, &key, &public);
            found.into_iter().map(|check| (check.severity, check.message)).collect()
        };
        fs::create_dir(&dir).unwrap();
        assert!(matches!(&seen()[..], [(Severity::Warning, text)] if text.contains("cannot be looked at")));
        run(&dir, &anchor, 1);
        let older = fs::read_dir(&dir).unwrap().flatten().map(|e| (e.path(), fs::read(e.path()).unwrap()));
        let older: Vec<_> = older.collect();
        let all_well = |found: &[(Severity, String)]| found.iter().all(|(severity, _)| *severity == Severity::Ok);
        assert!(all_well(&seen()) && seen().len() == 2, "{:?}", seen());
        run(&dir, &anchor, 10);
        assert!(all_well(&seen()), "{:?}", seen());

        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 2 * LATE).unwrap();
        assert!(
            matches!(&seen()[0], (Severity::Warning, text) if text.contains(" 9 minutes") || text.contains(" 10 "))
        );
        file.set_modified(SystemTime::now()).unwrap();

        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        older.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        assert!(matches!(&seen()[1], (Severity::Hole, text) if text.contains("not the one that was anchored")));
        fs::write(&path, "something else\n\n— x\n\n").unwrap();
        assert!(matches!(&seen()[..], [(Severity::Hole, text)] if text.contains("did not sign")), "{:?}", seen());
    }
}
