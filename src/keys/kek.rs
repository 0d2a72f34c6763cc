//! The key that wraps all others, from a passphrase (Argon2id, RFC 9106) or a key file.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::document::KekSource;
use super::{KeyError, disk, random};
use crate::secret::{Key, Passphrase};

/// Shorter passphrases are refused.
pub(super) const PASSPHRASE_CHARS_MIN: usize = 12;
/// A passphrase is one line, a key at most 64 hex digits and a line end.
const SECRET_FILE_BYTES_MAX: u64 = 4096;

/// Where the KEK comes from.
#[derive(Clone, Debug)]
pub enum Unlock {
    /// This passphrase.
    Passphrase(Passphrase),
    /// The passphrase in this environment variable.
    PassphraseEnv(String),
    /// The first line of this file, mode 0600.
    PassphraseFile(PathBuf),
    /// This file, mode 0600, of 32 bytes or 64 hex digits.
    KeyFile(PathBuf),
    /// The passphrase is asked for on the terminal, without echo.
    Prompt,
}

/// What Argon2id costs. Kept in the keyring file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// 64 MiB, 3 passes: above OWASP's 19 MiB and 2, the memory of RFC 9106's second recommendation.
    pub const STANDARD: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The least that Argon2 allows; for tests, protects nothing.
    pub const LEAST: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    /// A file that asks for more is not obeyed: 1 GiB, 32 passes, 16 lanes.
    pub(super) fn is_sane(self) -> bool {
        (8..=1024 * 1024).contains(&self.memory_kib)
            && (1..=32).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
            && self.memory_kib >= 8 * self.lanes
    }
}

impl KekSource {
    /// For a new keyring.
    pub(super) fn fresh(unlock: &Unlock, cost: Cost) -> Result<Self, KeyError> {
        match unlock {
            Unlock::KeyFile(_) => Ok(Self::KeyFile),
            _ => Ok(Self::Passphrase { salt: random()?, cost }),
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase { .. } => "passphrase",
        }
    }
}

impl Unlock {
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => "key file",
            _ => "passphrase",
        }
    }

    /// The KEK for a file made with `source`. `new`: a typed passphrase is typed twice.
    pub(super) fn kek(&self, source: &KekSource, new: bool) -> Result<Key, KeyError> {
        match (source, self) {
            (KekSource::KeyFile, Self::KeyFile(path)) => read_key_file(path),
            (KekSource::Passphrase { salt, cost }, unlock) if !matches!(unlock, Self::KeyFile(_)) => {
                stretch(&unlock.passphrase(new)?, salt, *cost)
            }
            (wanted, given) => Err(KeyError::OtherKek { wanted: wanted.noun(), given: given.noun() }),
        }
    }

    fn passphrase(&self, new: bool) -> Result<Passphrase, KeyError> {
        let passphrase = match self {
            Self::Passphrase(passphrase) => passphrase.clone(),
            Self::PassphraseEnv(name) => {
                Passphrase::new(std::env::var(name).map_err(|_| KeyError::NoPassphrase(name.clone()))?)
            }
            Self::PassphraseFile(path) => secret_file(path, "passphrase file")?,
            Self::KeyFile(_) => return Err(KeyError::OtherKek { wanted: "passphrase", given: "key file" }),
            Self::Prompt => {
                let typed = prompt(if new { "New keyring passphrase: " } else { "Keyring passphrase: " })?;
                if new && prompt("The same again: ")?.expose() != typed.expose() {
                    return Err(KeyError::PassphrasesDiffer);
                }
                typed
            }
        };
        if passphrase.expose().chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(KeyError::ShortPassphrase);
        }
        Ok(passphrase)
    }
}

fn prompt(text: &str) -> Result<Passphrase, KeyError> {
    let typed = rpassword::prompt_password(text);
    typed.map(Passphrase::new).map_err(|_| KeyError::NoTerminal)
}

fn stretch(passphrase: &Passphrase, salt: &[u8], cost: Cost) -> Result<Key, KeyError> {
    let failed = |error: argon2::Error| KeyError::Argon2(error.to_string());
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(failed)?;
    let argon2id = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut kek = Zeroizing::new([0; 32]);
    argon2id.hash_password_into(passphrase.expose().as_bytes(), salt, kek.as_mut_slice()).map_err(failed)?;
    Ok(Key::new(*kek))
}

/// The first line of a file that only its owner can reach; `what` names it in errors.
pub fn secret_file(path: &Path, what: &'static str) -> Result<Passphrase, KeyError> {
    let bytes = disk::read(path, what, SECRET_FILE_BYTES_MAX)?;
    let not_text = |_| KeyError::NotThat { what, path: path.into(), problem: "is not UTF-8" };
    let text = std::str::from_utf8(&bytes).map_err(not_text)?;
    Ok(Passphrase::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn read_key_file(path: &Path) -> Result<Key, KeyError> {
    let bytes = disk::read(path, "key file", SECRET_FILE_BYTES_MAX)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() == key.len() {
        key.copy_from_slice(&bytes);
    } else if hex::decode_to_slice(bytes.trim_ascii_end(), key.as_mut_slice()).is_err() {
        return Err(KeyError::BadKeyFile(path.into()));
    }
    // 32 times the same byte is somebody's placeholder.
    if key.iter().all(|byte| *byte == key[0]) {
        return Err(KeyError::BadKeyFile(path.into()));
    }
    Ok(Key::new(*key))
}

/// Makes a key file of 64 random hex digits, mode 0600. Refuses to overwrite.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create_key_file(path: &Path) -> Result<(), KeyError> {
    let key = Zeroizing::new(random::<32>()?);
    let line = Zeroizing::new(format!("{}\n", Zeroizing::new(hex::encode(*key)).as_str()));
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => KeyError::Exists(path.into()),
        _ => KeyError::Io { what: format!("writing key file {}", path.display()), error },
    };
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    disk::sync_folder(path)
}
