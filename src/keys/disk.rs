//! Files that hold secrets: private or refused, replaced whole or not at all, one writer at a time.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::KeyError;

/// About 40,000 columns.
pub(super) const KEYRING_BYTES_MAX: u64 = 16 << 20;

/// The whole file, if it is a regular one of at most `bytes_max` that only its owner can reach. What is checked is the
/// opened file, not the name.
pub(super) fn read(path: &Path, what: &'static str, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => KeyError::Missing { what, path: path.into() },
        _ => KeyError::Io { what: format!("reading {what} {}", path.display()), error },
    };
    let not_that = |problem| KeyError::NotThat { what, path: path.into(), problem };
    // A FIFO would block the open, a device could do anything: look before.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(not_that("is not a regular file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if exposed(mode, path, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new)) {
        return Err(KeyError::Exposed { what, path: path.into(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(bytes_max)).unwrap_or(0)));
    (&mut file).take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(not_that("is larger than any such file"));
    }
    Ok(bytes)
}

/// Others than its owner can reach it. What systemd hands over (`LoadCredential=`) is root's, and readable for the service
/// by an ACL, which shows as its group's; nobody else reaches the folder.
fn exposed(mode: u32, path: &Path, credentials: Option<&Path>) -> bool {
    let handed_over = credentials.is_some() && path.parent() == credentials;
    mode & if handed_over { 0o037 } else { 0o077 } != 0
}

/// Held until dropped: the lock on `<path>.lock`. The lock file stays; removing it would let two writers in.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Refused at once if another process (or another call in this one) holds it.
pub(super) fn lock(path: &Path) -> Result<Lock, KeyError> {
    let mut name = OsString::from(real(path));
    name.push(".lock");
    let failed = |error| KeyError::Io { what: format!("locking keyring {}", path.display()), error };
    let open = File::options().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = open.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(KeyError::Locked(path.into())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Writes a new file; refuses to overwrite.
pub(super) fn create(path: &Path, text: &str) -> Result<(), KeyError> {
    let staged = stage(path, text)?;
    staged.persist_noclobber(path).map_err(|refused| match refused.error.kind() {
        std::io::ErrorKind::AlreadyExists => KeyError::Exists(path.into()),
        _ => failed_write(path)(refused.error),
    })?;
    sync_folder(path)
}

/// Puts `text` in the old file's place: a crash at any moment leaves the old file or the new one.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), KeyError> {
    let path = &real(path);
    let old = std::fs::metadata(path).map_err(failed_write(path))?;
    let staged = stage(path, text)?;
    let new = staged.as_file().metadata().map_err(failed_write(path))?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        // Rotating as root must not lock the service out of its own keyring.
        std::os::unix::fs::fchown(staged.as_file(), Some(old.uid()), Some(old.gid())).map_err(failed_write(path))?;
    }
    staged.persist(path).map_err(|refused| failed_write(path)(refused.error))?;
    sync_folder(path)
}

/// Written and fsynced under another name in the same folder, mode 0600; gone again when dropped.
pub(super) fn stage(path: &Path, text: &str) -> Result<NamedTempFile, KeyError> {
    let make = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".keyring-").suffix(".tmp").permissions(std::fs::Permissions::from_mode(0o600));
        let mut staged = builder.tempfile_in(folder(path))?;
        staged.write_all(text.as_bytes())?;
        staged.as_file().sync_all()?;
        Ok(staged)
    };
    make().map_err(failed_write(path))
}

/// A rename is durable once its folder is.
pub(super) fn sync_folder(path: &Path) -> Result<(), KeyError> {
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(failed_write(path))
}

fn failed_write(path: &Path) -> impl Fn(std::io::Error) -> KeyError {
    move |error| KeyError::Io { what: format!("writing {}", path.display()), error }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Behind symbolic links, so that the file is replaced and not the link.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_may_be_its_groups_to_read_and_nothing_else_may() {
        let (file, folder) = (Path::new("/run/credentials/a.service/key"), Path::new("/run/credentials/a.service"));
        for (mode, credentials, expected) in [
            (0o600, None, false),
            (0o440, None, true),
            (0o440, Some(folder), false),
            (0o440, Some(Path::new("/run/credentials")), true),
            (0o460, Some(folder), true),
            (0o444, Some(folder), true),
        ] {
            assert_eq!(exposed(mode, file, credentials), expected, "{mode:o} {credentials:?}");
        }
    }
}
