//! The file of the quarantine: `quarantine.toml`.
//!
//! In: its text. Out: its entries, or every problem with its line; the same file replaced whole or not at all, by one
//! writer at a time. Never: a file that others may write to taken at its word.

use std::fs::{File, Permissions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::policy::problem::{Problem, render};
use crate::policy::reader::{Document, Section};

/// Logins that one file may hold.
pub const ENTRIES_MAX: usize = 1_000;
/// More than so many entries need.
const BYTES_MAX: u64 = 1 << 20;
/// In bytes: PostgreSQL's names are shorter, unless it was built for longer ones.
const ROLE_MAX: usize = 255;
/// In bytes.
const REASON_MAX: usize = 500;
/// Another writer is done by then.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A login that is refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The PostgreSQL role.
    pub role: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why.
    pub reason: String,
}

impl Entry {
    /// From now on; what is too long is cut.
    pub fn new(role: &str, reason: &str, unix_us: i64) -> Self {
        let since = jiff::Timestamp::from_microsecond(unix_us).unwrap_or_default();
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let (mut reason, given) = (String::new(), reason.chars().map(printable));
        for c in given {
            if reason.len() + c.len_utf8() > REASON_MAX {
                break;
            }
            reason.push(c);
        }
        Self { role: role.to_owned(), since: format!("{since:.0}"), reason }
    }
}

/// A role name that can be quarantined.
pub fn fits(role: &str) -> bool {
    !role.is_empty() && role.len() <= ROLE_MAX && !role.contains('\0')
}

/// Reads the text of a file of that name.
///
/// # Errors
/// Every problem in it.
pub fn parse(file: &str, text: &str) -> Result<Vec<Entry>, Vec<Problem>> {
    let document = Document::new(file, text);
    let entries = document.read(|mut root| {
        let mut entries: Vec<Entry> = Vec::new();
        for section in root.list("quarantined") {
            let place = section.place().clone();
            let Some(entry) = entry(section) else { continue };
            if entries.len() >= ENTRIES_MAX {
                let hint = "release some; drop the group in PostgreSQL to shut many out".to_owned();
                root.problem(&place, format!("more than {ENTRIES_MAX} logins are quarantined"), hint);
                break;
            }
            if entries.iter().any(|other| other.role == entry.role) {
                root.problem(&place, "the role is quarantined twice", "remove one of them".to_owned());
            }
            entries.push(entry);
        }
        root.close();
        entries
    });
    let problems = document.problems();
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

fn entry(mut s: Section<'_>) -> Option<Entry> {
    let (role, since, reason) = (s.text("role"), s.text("since"), s.text("reason"));
    s.close();
    let Some(role) = role else {
        s.problem(s.place(), "`role` is missing", "role = \"analyst\"".to_owned());
        return None;
    };
    if !fits(&role.value) {
        s.problem(&role.place, "this is no name of a role", None);
        return None;
    }
    let since = since.filter(|since| {
        let is = since.value.parse::<jiff::Timestamp>().is_ok();
        if !is {
            s.problem(&since.place, "`since` is not a time", "like \"2026-11-22T21:00:00Z\"".to_owned());
        }
        is
    });
    let reason = reason.filter(|reason| {
        let short = reason.value.len() <= REASON_MAX;
        if !short {
            s.problem(&reason.place, format!("`reason` is longer than {REASON_MAX} bytes"), None);
        }
        short
    });
    let text = |at: Option<crate::policy::problem::At<String>>| at.map(|at| at.value).unwrap_or_default();
    Some(Entry { role: role.value, since: text(since), reason: text(reason) })
}

/// As [`parse`] reads it.
pub fn write(entries: &[Entry]) -> String {
    let mut text = String::from("# Logins that pgveil refuses. Change it with: pgveil quarantine add|release ROLE\n");
    for Entry { role, since, reason } in entries {
        text.push_str("\n[[quarantined]]\n");
        for (key, value) in [("role", role), ("since", since), ("reason", reason)] {
            if !value.is_empty() {
                text.push_str(&format!("{key} = {}\n", quoted(value)));
            }
        }
    }
    text
}

/// A basic string of TOML: what JSON escapes TOML does too, and it asks for one character more.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
}

/// The file's entries; `None`: there is no file.
///
/// # Errors
/// It cannot be read, others may write to it, or what is wrong in it.
pub fn read(path: &Path) -> Result<Option<Vec<Entry>>> {
    let failed = |error| Error::io(format!("quarantine {}", path.display()), error);
    let wrong = |what: &str| Error::Config(format!("quarantine {} {what}", path.display()));
    let about = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        about => about.map_err(failed)?,
    };
    if !about.is_file() {
        return Err(wrong("is not a regular file"));
    }
    if about.permissions().mode() & 0o022 != 0 {
        return Err(wrong("may be written by others than its owner: chmod 600"));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(wrong("is larger than 1 MiB"));
    }
    parse(&path.display().to_string(), &text).map(Some).map_err(|problems| Error::Config(render(&problems)))
}

/// Reads the file, lets `change` change what is in it, and replaces it if that did. Both under the lock.
///
/// # Errors
/// As [`read`]; the lock is not to be had; it cannot be written; what `change` says.
pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Vec<Entry>) -> Result<T>) -> Result<T> {
    let _lock = lock(path)?;
    let before = read(path)?.unwrap_or_default();
    let mut entries = before.clone();
    let done = change(&mut entries)?;
    if entries != before {
        replace(path, &write(&entries)).map_err(|e| Error::io(format!("writing quarantine {}", path.display()), e))?;
    }
    Ok(done)
}

/// Released when the file is closed. It stays; removing it would let two writers in.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error| Error::io(format!("locking quarantine {}", path.display()), error);
    let open = File::options().write(true).create(true).truncate(false).mode(0o600).open(PathBuf::from(name));
    let file = open.map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(Error::Config(format!("quarantine {} is being changed by somebody else; try again", path.display())))
}

/// A crash at any moment leaves the old file or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".quarantine-").suffix(".tmp").permissions(Permissions::from_mode(0o600));
    let mut staged = builder.tempfile_in(folder)?;
    staged.write_all(text.as_bytes())?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|refused| refused.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_is_in_it() {
        let odd = "o'\"\\\u{7f}é\t€ # [x]";
        let entries: Vec<Entry> =
            [odd, "app"].map(|role| Entry::new(role, &format!("{odd}\n\u{0}"), 1_700_000_000_123_456)).into();
        let text = write(&entries);
        assert_eq!(parse("quarantine.toml", &text).unwrap(), entries, "{text}");
        assert_eq!(entries[1].since, "2023-11-14T22:13:20Z");
        assert!(Entry::new("app", &"é".repeat(9_999), 0).reason.len() <= REASON_MAX);
        assert_eq!(parse("f", "").unwrap(), []);
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let text = "[[quarantined]]\nrole = \"a\"\nsince = \"yesterday\"\n[[quarantined]]\nreason = \"x\"\n\
                    [[quarantined]]\nrole = \"a\"\nwhy = 1\n";
        let problems = render(&parse("q.toml", text).unwrap_err());
        for told in ["q.toml:3", "not a time", "`role` is missing", "twice", "unknown key `why`"] {
            assert!(problems.contains(told), "{told} in {problems}");
        }
        let many: String = (0..=ENTRIES_MAX).map(|n| format!("[[quarantined]]\nrole = \"r{n}\"\n")).collect();
        assert!(render(&parse("q.toml", &many).unwrap_err()).contains("more than 1000"));
    }

    #[test]
    fn the_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarantine.toml");
        assert_eq!(read(&path).unwrap(), None);
        edit(&path, |entries| {
            entries.push(Entry::new("app", "test", 0));
            Ok(())
        })
        .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().unwrap()[0].role, "app");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}
