//! This machine: the processor's instructions for the seal, the access log's folder.
//!
//! In: the processor, a path, the log's key. Out: checks. Never: a change to the folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Check, Step};
use crate::audit::{self, VerifyError};
use crate::secret::Key;

/// Below this it is worth a warning.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Logs up to this size are verified whole.
pub(super) const VERIFIED_BYTES_MAX: u64 = 64 << 20;

/// The instructions that the seal is computed with: which of them the processor has, and so which are used.
pub fn hardware() -> Check {
    let (name, used, beside) = instructions();
    if used {
        return Check::ok("aes", format!("the seal uses the processor's {name}{beside}"));
    }
    let message =
        format!("the processor has no {name}: sealing and opening are computed in software, many times slower");
    Check::warning("aes", message)
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn instructions() -> (&'static str, bool, &'static str) {
    let used = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    // The vectorised backends of crate `aes` are compiled in only by `--cfg aes_backend="avx256"` or `"avx512"`.
    let vectors = std::is_x86_feature_detected!("vaes");
    let wide = cfg!(any(aes_backend = "avx256", aes_backend = "avx512"));
    let beside = match (vectors, wide) {
        (true, true) => ", and VAES",
        (true, false) => "; VAES is there, this build does not use it",
        (false, _) => "; there is no VAES",
    };
    ("AES-NI and PCLMULQDQ", used, beside)
}

#[cfg(target_arch = "aarch64")]
fn instructions() -> (&'static str, bool, &'static str) {
    let used = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    ("AES and PMULL", used, "")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions() -> (&'static str, bool, &'static str) {
    ("instructions for AES that this build could use", false, "")
}

/// Bytes of all files of a folder.
pub(super) fn size(dir: &Path) -> u64 {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum(),
        Err(_) => u64::MAX,
    }
}

/// The folder is there, private, has room, and what is in it is what was written.
pub fn access_log(dir: &Path, key: Option<&Key>) -> Vec<Check> {
    let shown = dir.display();
    let about = match std::fs::metadata(dir) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("{shown} is not there yet: `pgveil serve` makes it");
            return vec![Check::warning("access_log", message)];
        }
        Err(error) => {
            let message = format!("{shown} cannot be looked at ({error})");
            return vec![Check::warning("access_log", message)];
        }
    };
    let mut found = Vec::new();
    let mode = about.permissions().mode() & 0o777;
    found.push(if mode & 0o077 == 0 {
        Check::ok("access_log", format!("{shown}, mode {mode:04o}"))
    } else {
        let message = format!("{shown} has mode {mode:04o}: others on this machine see who read whose data");
        Check::warning("access_log", message).step(Step::Run(format!("chmod 700 {shown}")))
    });
    found.push(match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let message = format!("{} MiB free beside the access log", free >> 20);
            if free >= FREE_BYTES_MIN { Check::ok("disk", message) } else { Check::warning("disk", message) }
        }
        Err(error) => Check::warning("disk", format!("free space beside the access log is not known ({error})")),
    });
    if size(dir) > VERIFIED_BYTES_MAX {
        let message = "the access log is large and was not verified here";
        found.push(Check::warning("log_verify", message).step(Step::Run("pgveil log verify".into())));
        return found;
    }
    found.push(match audit::verify(dir, key) {
        Ok(report) => {
            Check::ok("log_verify", format!("{} records of the access log are as they were written", report.records))
        }
        Err(VerifyError::Break(found)) => {
            let message = format!("the access log is not as it was written: {found}");
            Check::hole("log_verify", message).step(Step::Run("pgveil log verify".into()))
        }
        Err(VerifyError::Unreadable(error)) => {
            Check::warning("log_verify", format!("the access log was not verified: {error}"))
        }
    });
    found
}
