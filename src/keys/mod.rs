//! Key providers: the keyring file.
//!
//! In: a path, what unlocks it, columns that need keys. Out: a [`Keyring`] in memory; column ids; a file that is either
//! the old one or the new one, whole. Never: a default secret, a key on disk that is not wrapped, a key id or column id
//! twice, a file that others can read.
//!
//! The file is TOML, every byte of it authenticated under a key derived from the KEK. Restoring an older copy of the
//! file is not detected: `generation` in it only grows, for people to compare.

mod disk;
mod document;
mod error;
mod kek;

#[cfg(test)]
mod tests;

use std::path::Path;

use zeroize::Zeroizing;

pub use document::Document;
pub use error::KeyError;
pub use kek::{Cost, Unlock, create_key_file, secret_file};

use crate::clock::Now;
use crate::crypto::{self, Column, KekKeys, KeyInfo, Keyring, NONCE_LEN, SealMode, WRAPPED_LEN};
use crate::secret::{Key, same};
use document::{KekSource, KeyRecord};

/// A column that policy wants sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnBinding {
    /// `pg_control_system().system_identifier` of the cluster.
    pub system_identifier: u64,
    /// Database name.
    pub database: String,
    /// `schema.table.column`.
    pub column: String,
    /// How its cells are sealed.
    pub mode: SealMode,
    /// Its former `schema.table.column`: the column keeps its id.
    pub was: Option<String>,
    /// It holds no sealed cell, so a change of mode may give it a new id. Without this such a change is refused.
    pub empty: bool,
}

/// A column's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Stable, never reused.
    pub column_id: u32,
    /// Made by this call.
    pub new: bool,
}

/// Makes a keyring file without columns: a fresh deployment id and index secret, under the KEK that `unlock` names.
///
/// # Errors
/// The file exists already; the passphrase or key file is missing, too short or readable by others.
pub fn init(path: &Path, unlock: &Unlock, cost: Cost) -> Result<Keyring, KeyError> {
    if path.exists() {
        return Err(KeyError::Exists(path.into()));
    }
    let _lock = disk::lock(path)?;
    let deployment_id = random::<16>()?;
    let source = KekSource::fresh(unlock, cost)?;
    let kek = KekKeys::derive(&deployment_id, &unlock.kek(&source, true)?);
    let index_secret = wrap(&kek, &document::index_aad(&deployment_id), &random_key()?)?;
    let document = Document {
        generation: 1,
        deployment_id,
        next_column_id: 1,
        next_key_id: 1,
        index_secret,
        kek: source,
        kek_check: kek.check,
        columns: Vec::new(),
        keys: Vec::new(),
    };
    let opened = Opened { document, kek };
    let ring = opened.ring(path)?;
    disk::create(path, &opened.document.render(&opened.kek))?;
    Ok(ring)
}

/// Reads, authenticates and unwraps a keyring file. Takes as long as the passphrase's Argon2id does.
///
/// # Errors
/// Missing, readable by others, damaged, edited, or locked with another passphrase or key file: each its own error.
pub fn load(path: &Path, unlock: &Unlock) -> Result<Keyring, KeyError> {
    Opened::read(path, unlock)?.ring(path)
}

/// Finds or makes the ids of `wanted`, in their order, and a first key for every new one. Writes the file only if
/// something is new; calling it again with the same columns changes nothing.
///
/// A column whose name is unknown but whose `was` is bound keeps that id under its new name.
///
/// # Errors
/// `was` names no column although the keyring knows that database; a change of mode of a column that may hold cells;
/// another process is changing the file; and everything [`load`] refuses.
pub fn allocate(path: &Path, unlock: &Unlock, wanted: &[ColumnBinding], now: Now) -> Result<Vec<Allocated>, KeyError> {
    let _lock = disk::lock(path)?;
    let mut opened = Opened::read(path, unlock)?;
    let before = opened.document.columns.clone();
    for binding in wanted {
        opened.rename(binding)?;
    }
    let ids = wanted.iter().map(|binding| opened.allocate(binding, now)).collect::<Result<_, _>>()?;
    if opened.document.columns != before {
        opened.save(path)?;
    }
    Ok(ids)
}

/// Gives a randomized column a new key. Old cells stay readable, new ones are sealed with the new key by every proxy
/// that has loaded the file since.
///
/// # Errors
/// The column is not in the keyring, is in it for several databases and `database` does not say which, or is
/// deterministic; and everything [`load`] refuses.
pub fn rotate(
    path: &Path,
    unlock: &Unlock,
    database: Option<&str>,
    column: &str,
    now: Now,
) -> Result<KeyInfo, KeyError> {
    let _lock = disk::lock(path)?;
    let mut opened = Opened::read(path, unlock)?;
    let named = |c: &&Column| !c.retired && c.column == column && database.is_none_or(|d| c.database == d);
    let mut found = opened.document.columns.iter().filter(named);
    let column_id = match (found.next(), found.next()) {
        (None, _) => return Err(KeyError::NoSuchColumn(column.into())),
        (Some(_), Some(_)) => return Err(KeyError::AmbiguousColumn(column.into())),
        (Some(c), None) if c.mode == SealMode::Deterministic => {
            return Err(KeyError::DeterministicRotation(column.into()));
        }
        (Some(c), None) => c.id,
    };
    let info = opened.add_key(column_id, now)?;
    opened.save(path)?;
    Ok(info)
}

/// A file that has been read and authenticated, and what it takes to write it again.
struct Opened {
    document: Document,
    kek: KekKeys,
}

impl Opened {
    fn read(path: &Path, unlock: &Unlock) -> Result<Self, KeyError> {
        let bytes = disk::read(path, "keyring", disk::KEYRING_BYTES_MAX)?;
        let (document, mac) = Document::parse(&bytes).map_err(|what| KeyError::Damaged(path.into(), what))?;
        let kek = KekKeys::derive(&document.deployment_id, &unlock.kek(&document.kek, false)?);
        if !same(&kek.check, &document.kek_check) {
            return Err(KeyError::WrongKek(path.into(), unlock.noun()));
        }
        if !same(&kek.file_mac(mac.covers), &mac.value) {
            return Err(KeyError::Tampered(path.into()));
        }
        Ok(Self { document, kek })
    }

    /// Unwraps everything. A file that authenticates but does not make a ring was not written by pgveil.
    fn ring(&self, path: &Path) -> Result<Keyring, KeyError> {
        let Document { deployment_id, index_secret, columns, keys, .. } = &self.document;
        let tampered = || KeyError::Tampered(path.into());
        let index_secret = crypto::unwrap_key(&self.kek.wrap, &document::index_aad(deployment_id), index_secret);
        let mut builder = Keyring::builder(*deployment_id, index_secret.ok_or_else(tampered)?);
        for column in columns {
            builder.column(column.clone());
        }
        for KeyRecord { info, wrapped, commitment } in keys {
            let dek = crypto::unwrap_key(&self.kek.wrap, &document::dek_aad(deployment_id, info), wrapped);
            builder.key(*info, &dek.ok_or_else(tampered)?, commitment)?;
        }
        Ok(builder.build()?)
    }

    /// The next generation, whole, in the old one's place. What would not load is not written.
    fn save(&mut self, path: &Path) -> Result<(), KeyError> {
        self.document.generation = self.document.generation.checked_add(1).ok_or(KeyError::IdsExhausted)?;
        self.ring(path)?;
        disk::replace(path, &self.document.render(&self.kek))
    }

    fn bound(&mut self, binding: &ColumnBinding, name: &str) -> Option<&mut Column> {
        let here = |c: &&mut Column| {
            !c.retired && c.system_identifier == binding.system_identifier && c.database == binding.database
        };
        self.document.columns.iter_mut().filter(here).find(|c| c.column == name)
    }

    /// Rebinds `was` to the new name. A column already bound under its new name was renamed earlier.
    fn rename(&mut self, binding: &ColumnBinding) -> Result<(), KeyError> {
        let Some(was) = binding.was.as_deref() else { return Ok(()) };
        if self.bound(binding, &binding.column).is_some() {
            return Ok(());
        }
        if let Some(column) = self.bound(binding, was) {
            column.column.clone_from(&binding.column);
            return Ok(());
        }
        // A keyring that has never seen this database starts with today's names.
        let mut columns = self.document.columns.iter();
        let known = |c: &Column| c.system_identifier == binding.system_identifier && c.database == binding.database;
        if columns.any(known) {
            return Err(KeyError::UnknownWas { column: binding.column.clone(), was: was.into() });
        }
        Ok(())
    }

    fn allocate(&mut self, binding: &ColumnBinding, now: Now) -> Result<Allocated, KeyError> {
        if let Some(column) = self.bound(binding, &binding.column) {
            if column.mode == binding.mode {
                return Ok(Allocated { column_id: column.id, new: false });
            }
            if !binding.empty {
                return Err(KeyError::ModeChanged(binding.column.clone()));
            }
            column.retired = true;
        }
        let id = self.document.next_column_id;
        self.document.next_column_id = id.checked_add(1).ok_or(KeyError::IdsExhausted)?;
        self.document.columns.push(Column {
            id,
            system_identifier: binding.system_identifier,
            database: binding.database.clone(),
            column: binding.column.clone(),
            mode: binding.mode,
            equality_domain: id,
            retired: false,
        });
        self.add_key(id, now)?;
        Ok(Allocated { column_id: id, new: true })
    }

    fn add_key(&mut self, column_id: u32, now: Now) -> Result<KeyInfo, KeyError> {
        let id = self.document.next_key_id;
        self.document.next_key_id = id.checked_add(1).ok_or(KeyError::IdsExhausted)?;
        let info = KeyInfo { id, column_id, created_unix_s: now.unix_us.div_euclid(1_000_000) };
        let deployment_id = &self.document.deployment_id;
        let dek = random_key()?;
        let wrapped = wrap(&self.kek, &document::dek_aad(deployment_id, &info), &dek)?;
        let commitment = crypto::commitment(deployment_id, &dek);
        self.document.keys.push(KeyRecord { info, wrapped, commitment });
        Ok(info)
    }
}

fn wrap(kek: &KekKeys, aad: &[u8], key: &Key) -> Result<[u8; WRAPPED_LEN], KeyError> {
    Ok(crypto::wrap_key(&kek.wrap, aad, random::<NONCE_LEN>()?, key))
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

fn random_key() -> Result<Key, KeyError> {
    Ok(Key::new(*Zeroizing::new(random::<32>()?)))
}
