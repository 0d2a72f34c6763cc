//! Why keys are not available. Names files and columns, never secrets.

use std::path::PathBuf;

use crate::crypto::RingError;
use crate::error::Error;

/// What went wrong with a keyring, a passphrase or a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error("{what} {} does not exist{}", path.display(), if *what == "keyring" { "; `pgveil keys init` makes one" } else { "" })]
    Missing {
        /// `keyring`, `key file` or `passphrase file`.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// `init` never overwrites.
    #[error("{} exists already; a keyring is never overwritten", .0.display())]
    Exists(PathBuf),
    /// Group or others may read it.
    #[error("{what} {} can be read by others (mode {mode:04o}); `chmod 600` it, and replace its secret if they did", path.display())]
    Exposed {
        /// `keyring`, `key file` or `passphrase file`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than any such file is, or not a regular file.
    #[error("{what} {} {problem}", path.display())]
    NotThat {
        /// `keyring`, `key file` or `passphrase file`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What it is instead.
        problem: &'static str,
    },
    /// The form or the checksum is wrong: cut off, edited, or of a later version.
    #[error("keyring {} is damaged or was edited ({}); restore it from a copy", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// The checksum was made to fit but the MAC does not.
    #[error("keyring {} was tampered with: it does not authenticate under its own key; restore it from a copy", .0.display())]
    Tampered(PathBuf),
    /// The KEK is another one.
    #[error("wrong {} for keyring {}", .1, .0.display())]
    WrongKek(PathBuf, &'static str),
    /// The file wants the other kind of KEK.
    #[error("the keyring is locked with a {wanted}, but a {given} was given")]
    OtherKek {
        /// What the file was made with.
        wanted: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// Shorter than 12 characters.
    #[error("the passphrase has fewer than {} characters", super::kek::PASSPHRASE_CHARS_MIN)]
    ShortPassphrase,
    /// The environment variable is not set, or not UTF-8.
    #[error("environment variable {0}, which should hold the keyring's passphrase, is not set")]
    NoPassphrase(String),
    /// The two times a new passphrase was typed differ.
    #[error("the two passphrases are not the same")]
    PassphrasesDiffer,
    /// Neither 32 bytes nor 64 hex digits, or all bytes the same.
    #[error("key file {} does not hold a key: 32 random bytes, or 64 hex digits, are expected", .0.display())]
    BadKeyFile(PathBuf),
    /// Another process holds the lock.
    #[error("another pgveil is changing keyring {}", .0.display())]
    Locked(PathBuf),
    /// Policy's `was` names nothing.
    #[error(
        "`was = \"{was}\"` of column {column}: the keyring has no such column; correct it, or remove it if {column} is new"
    )]
    UnknownWas {
        /// The column as it is called now.
        column: String,
        /// What it should have been called.
        was: String,
    },
    /// A column's mode is part of what its cells are.
    #[error(
        "column {0} is in the keyring with another mode, and may hold cells sealed that way; unseal it or empty its table first"
    )]
    ModeChanged(String),
    /// `rotate` of a name the keyring does not know.
    #[error("the keyring has no column {0}")]
    NoSuchColumn(String),
    /// `rotate` of a name that two databases have.
    #[error("the keyring has column {0} in several databases or clusters; say which database")]
    AmbiguousColumn(String),
    /// A second key would give one value two envelopes.
    #[error(
        "column {0} is deterministic: it has exactly one key, because with two the same value would have two envelopes \
         and searches would miss rows; to change the key the whole column must be sealed anew"
    )]
    DeterministicRotation(String),
    /// 2^32 columns or 2^64 keys.
    #[error("the keyring has no ids left")]
    IdsExhausted,
    /// What is in the file contradicts itself.
    #[error("keyring: {0}")]
    Ring(#[from] RingError),
    /// The operating system has none.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The passphrase cannot be turned into a key: not enough memory.
    #[error("Argon2id could not run ({0})")]
    Argon2(String),
    /// Reading or writing failed.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The passphrase should be asked for, but nobody is there.
    #[error("there is no terminal to ask for the passphrase on; name an environment variable or a file that holds it")]
    NoTerminal,
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Error::Key(error.to_string())
    }
}
