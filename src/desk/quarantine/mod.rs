//! The logins that are refused until somebody releases them.
//!
//! In: the detector's alerts, the operator's file. Out: whether a login may come in. Never: a login that comes in because
//! a file could not be written or has vanished; one that is forgotten because there are many.

mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

pub use file::{ENTRIES_MAX, Entry, edit, fits, parse, read, write};

use crate::error::{Code, Error, Refusal, Result};

/// Why a login is not in quarantine, or not for good.
#[derive(Debug)]
pub enum Refused {
    /// It is not.
    Not(&'static str),
    /// It is, until the proxy ends.
    NotWritten(Error),
}

/// What the file brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A login is refused from now on.
    Added(Entry),
    /// A login is not refused any more.
    Released(Entry),
}

#[derive(Debug, Default)]
struct Held {
    roles: BTreeMap<String, Entry>,
    /// Roles that are not in the file yet.
    unwritten: Vec<String>,
    /// What was last wrong with the file.
    wrong: Option<String>,
}

/// The quarantine.
#[derive(Debug, Default)]
pub struct Quarantine {
    path: Option<PathBuf>,
    /// pgveil's own login, which nobody may shut out.
    control: String,
    held: Mutex<Held>,
    /// The roles as everybody else sees them: a login waits for no file.
    shown: ArcSwap<BTreeMap<String, Entry>>,
}

impl Quarantine {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(path: PathBuf, control: &str) -> Result<Self> {
        let entries = read(&path)?.unwrap_or_default();
        let quarantine = Self { path: Some(path), control: control.to_owned(), ..Self::default() };
        let mut held = quarantine.lock();
        held.roles = entries.into_iter().map(|entry| (entry.role.clone(), entry)).collect();
        quarantine.show(&held);
        drop(held);
        Ok(quarantine)
    }

    /// Why that login may not come in.
    pub fn objection(&self, role: &str) -> Option<Refusal> {
        self.shown.load().contains_key(role).then(refusal)
    }

    /// Logins in it.
    pub fn count(&self) -> usize {
        self.shown.load().len()
    }

    /// Refuses that login from now on, and writes it down. `false`: it was refused already.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn add(&self, role: &str, reason: &str, unix_us: i64) -> Result<bool, Refused> {
        if role == self.control {
            return Err(Refused::Not("it is pgveil's own login ([control])"));
        }
        if !fits(role) {
            return Err(Refused::Not("it is no name of a role"));
        }
        let mut held = self.lock();
        if held.roles.contains_key(role) {
            return Ok(false);
        }
        if held.roles.len() >= ENTRIES_MAX {
            return Err(Refused::Not("the quarantine is full; release some: pgveil quarantine list"));
        }
        held.roles.insert(role.to_owned(), Entry::new(role, reason, unix_us));
        held.unwritten.push(role.to_owned());
        self.show(&held);
        self.save(&mut held).map(|()| true).map_err(Refused::NotWritten)
    }

    /// Takes over what the operator has changed, and writes what could not be written before.
    ///
    /// # Errors
    /// The file cannot be read or written, or what is wrong in it, once; what was in quarantine stays.
    pub fn follow(&self) -> Result<Vec<Change>> {
        let mut held = self.lock();
        let followed = self.followed(&mut held);
        self.show(&held);
        match followed {
            Ok(changes) => {
                held.wrong = None;
                Ok(changes)
            }
            Err(error) if held.wrong.as_ref().is_some_and(|wrong| *wrong == error.to_string()) => Ok(Vec::new()),
            Err(error) => {
                held.wrong = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn followed(&self, held: &mut Held) -> Result<Vec<Change>> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let Some(entries) = read(path)? else {
            // Somebody has removed it. Who is released is released by name.
            held.unwritten = held.roles.keys().cloned().collect();
            self.save(held)?;
            return Ok(Vec::new());
        };
        let mut before = std::mem::take(&mut held.roles);
        let mut changes = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.role != self.control) {
            if before.remove(&entry.role).is_none() {
                changes.push(Change::Added(entry.clone()));
            }
            held.roles.insert(entry.role.clone(), entry);
        }
        for (role, entry) in before {
            if held.unwritten.contains(&role) {
                held.roles.insert(role, entry);
            } else {
                changes.push(Change::Released(entry));
            }
        }
        // The changes have happened whether or not this succeeds, which is tried again.
        if let Err(error) = self.save(held) {
            tracing::error!(target: "pgveil::alert", %error, "a quarantined login is not written down");
        }
        Ok(changes)
    }

    fn save(&self, held: &mut Held) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| !held.unwritten.is_empty()) else { return Ok(()) };
        let new: Vec<Entry> = held.unwritten.iter().filter_map(|role| held.roles.get(role)).cloned().collect();
        edit(path, |entries| {
            for entry in new {
                if entries.iter().all(|other| other.role != entry.role) {
                    entries.push(entry);
                }
            }
            Ok(())
        })?;
        held.unwritten.clear();
        Ok(())
    }

    fn show(&self, held: &Held) {
        if **self.shown.load() != held.roles {
            self.shown.store(Arc::new(held.roles.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a login that is quarantined is told.
pub fn refusal() -> Refusal {
    Refusal::new(
        Code::Quarantined,
        "this login is quarantined: it may have been misused",
        "The operator lets it in again with: pgveil quarantine release ROLE",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn opened() -> (tempfile::TempDir, PathBuf, Quarantine) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarantine.toml");
        let quarantine = Quarantine::open(path.clone(), "pgveil").unwrap();
        (folder, path, quarantine)
    }

    #[test]
    fn it_survives_and_is_released_by_name_only() {
        let (_folder, path, quarantine) = opened();
        assert!(quarantine.objection("app").is_none());
        assert!(quarantine.add("app", "rule bulk", 0).unwrap());
        assert!(!quarantine.add("app", "rule bulk", 0).unwrap());
        assert_eq!(quarantine.objection("app").unwrap().sqlstate.as_str(), "28000");
        assert_eq!(Quarantine::open(path.clone(), "pgveil").unwrap().count(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(quarantine.follow().unwrap(), []);
        assert_eq!(Quarantine::open(path.clone(), "pgveil").unwrap().count(), 1, "it is written again");
        edit(&path, |entries| {
            entries.clear();
            entries.push(Entry::new("nurse", "left", 0));
            Ok(())
        })
        .unwrap();
        let changes = quarantine.follow().unwrap();
        assert!(
            matches!(&changes[..], [Change::Added(new), Change::Released(old)] if new.role == "nurse" && old.role == "app")
        );
        assert!(quarantine.objection("app").is_none() && quarantine.objection("nurse").is_some());
        assert_eq!(quarantine.follow().unwrap(), []);
    }

    #[test]
    fn what_cannot_be_written_holds_and_what_cannot_be_read_changes_nothing() {
        let (folder, path, quarantine) = opened();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(quarantine.add("app", "rule bulk", 0), Err(Refused::NotWritten(_))));
        assert!(quarantine.objection("app").is_some());
        assert!(quarantine.follow().is_err());
        assert_eq!(quarantine.follow().unwrap(), [], "the same is said once");
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(quarantine.follow().unwrap(), []);
        assert_eq!(read(&path).unwrap().unwrap()[0].role, "app", "as soon as it can be");
        std::fs::write(&path, "role = 1").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(quarantine.follow().unwrap_err().to_string().contains("unknown key"));
        assert!(quarantine.objection("app").is_some());
        drop(folder);
    }

    #[test]
    fn a_full_quarantine_drops_nobody_and_the_control_account_is_never_in_it() {
        let (_folder, path, quarantine) = opened();
        let full = (0..ENTRIES_MAX).map(|n| Entry::new(&format!("r{n}"), "", 0)).collect();
        edit(&path, |entries| {
            *entries = full;
            Ok(())
        })
        .unwrap();
        assert_eq!(quarantine.follow().unwrap().len(), ENTRIES_MAX);
        assert!(matches!(quarantine.add("app", "rule bulk", 0), Err(Refused::Not(why)) if why.contains("full")));
        assert!(quarantine.objection("r0").is_some() && quarantine.objection("app").is_none());
        assert!(matches!(quarantine.add("pgveil", "rule bulk", 0), Err(Refused::Not(_))));
    }
}
