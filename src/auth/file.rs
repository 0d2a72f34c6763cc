//! A file of verifiers for servers that lend no function: lines `"user" "SCRAM-SHA-256$…"`, as in PgBouncer's
//! `auth_file`; `""` in a name is a quotation mark; lines that begin with `;` or `#` are comments.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Known;
use crate::error::{Error, Result};
use crate::wire::scram::Verifier;

/// Largest file, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Every user of the file. It is read for each look-up, so a change counts at once.
///
/// # Errors
/// It cannot be read, others may read it, or a line says something else; the line's number, never its text.
pub(super) async fn read(path: PathBuf) -> Result<HashMap<String, Known>> {
    let read = tokio::task::spawn_blocking(move || parse(&path, &text(&path)?));
    read.await.unwrap_or(Err(Error::Bug("the reader of the verifiers' file panicked")))
}

fn text(path: &Path) -> Result<String> {
    let named = |said| Error::io(format!("[auth] path {}", path.display()), said);
    let file = std::fs::File::open(path).map_err(named)?;
    let about = file.metadata().map_err(named)?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(Error::Config(format!("[auth] path {}: others may read it; chmod 0600", path.display())));
    }
    if about.len() > FILE_MAX {
        return Err(Error::Config(format!("[auth] path {}: larger than 16 MiB", path.display())));
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).map_err(named)?;
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<HashMap<String, Known>> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let wrong = |what: &str| Error::Config(format!("[auth] path {}:{}: {what}", path.display(), number + 1));
        let (user, rest) = quoted(line).ok_or_else(|| wrong("a line is \"user\" \"SCRAM-SHA-256$…\""))?;
        let (secret, rest) =
            quoted(rest.trim_start()).ok_or_else(|| wrong("a line is \"user\" \"SCRAM-SHA-256$…\""))?;
        if !rest.trim().is_empty() {
            return Err(wrong("something follows the verifier"));
        }
        let known = match Verifier::parse(&secret) {
            Ok(verifier) => Known::Scram(verifier),
            Err(_) if md5(&secret) => Known::Other,
            Err(_) => return Err(wrong("not a SCRAM-SHA-256 verifier with 4096 to 600000 iterations")),
        };
        users.insert(user, known);
    }
    Ok(users)
}

/// `md5` and 32 hexadecimal digits: a user whose password PostgreSQL keeps in the old way.
fn md5(secret: &str) -> bool {
    secret.strip_prefix("md5").is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A quoted text at the front, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut out = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        out.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                out.push('"');
                rest = more;
            }
            None => return Some((out, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn lines_are_read_as_pgbouncer_reads_them() {
        let text = format!(
            "; comment\n\n\"ann\" \"{VERIFIER}\"\n\"b \"\"o\"\" b\"\t\"{VERIFIER}\"\n\"old\" \"md5{}\"\n",
            "0".repeat(32)
        );
        let users = parse(Path::new("users"), &text).unwrap();
        assert!(matches!(users["ann"], Known::Scram(_)) && matches!(users["b \"o\" b"], Known::Scram(_)));
        assert!(matches!(users["old"], Known::Other) && users.len() == 3);
    }

    #[test]
    fn a_password_or_a_torn_line_is_refused_by_number_and_not_repeated() {
        for bad in ["\"ann\" \"hunter2\"", "\"ann\" hunter2", "ann hunter2", "\"ann\"", "\"ann\" \"hunter2"] {
            let said = parse(Path::new("users"), &format!("# one\n{bad}\n")).unwrap_err().to_string();
            assert!(said.contains("users:2:") && !said.contains("hunter2"), "{said}");
        }
        let said = parse(Path::new("users"), &format!("\"ann\" \"{VERIFIER}\" x")).unwrap_err().to_string();
        assert!(said.contains("users:1:"), "{said}");
    }
}
