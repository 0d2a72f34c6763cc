//! Anchors: files elsewhere that signed checkpoints are copied to. Whoever puts an older log back cannot put those back.
//!
//! In: notes, one after the other. Out: a file they are appended to; and from such a file, what the log's roots once were.
//! Never: a byte cut from a file that is not of this log's anchors.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::disk;
use super::lines::Lines;
use super::note::{NOTE_MAX, Note, VerifierKey};
use super::record::Hash;
use super::syslog;
use super::verify::{Break, BreakKind, VerifyError};

/// Between the text of a note and its first signature.
const SIGNATURES: &str = "\n\n— ";
/// What a signature's line begins with.
const SIGNATURE: &str = "— ";

/// A file of anchors that is written to. Each note is followed by an empty line.
#[derive(Debug)]
pub struct AnchorFile {
    path: PathBuf,
}

impl AnchorFile {
    /// Nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a note and returns when it is on the device. What a crash left of the one before goes.
    ///
    /// # Errors
    /// It cannot be written, or the file holds something else than this log's anchors.
    pub fn append(&self, note: &Note) -> io::Result<()> {
        let fresh = !self.path.exists();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        let end = whole(&mut file, note.origin())?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        if let Err(error) = file.write_all(format!("{note}\n").as_bytes()) {
            // Half a note is for the next append to cut, if this cannot.
            let _ = file.set_len(end);
            return Err(error);
        }
        file.sync_all()?;
        match self.path.parent().filter(|_| fresh) {
            // A name alone is in the working directory.
            Some(dir) if dir.as_os_str().is_empty() => disk::sync_dir(Path::new(".")),
            Some(dir) => disk::sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// Where the last whole note of a file ends.
fn whole(file: &mut File, origin: &str) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(2 * NOTE_MAX as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let keep = match signed_to(&tail) {
        Some(end) => end,
        None if from == 0 => 0,
        None => return Err(foreign()),
    };
    // Half a note of ours, and nothing else, is cut.
    let (left, ours) = (&tail[keep..], format!("{origin}\n"));
    let common = left.len().min(ours.len());
    if left[..common] == ours.as_bytes()[..common] { Ok(from + keep as u64) } else { Err(foreign()) }
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file holds something else than this log's checkpoints")
}

/// Behind the last signature that has its line's end, and the empty line after it.
fn signed_to(tail: &[u8]) -> Option<usize> {
    let mut before = tail.len();
    loop {
        let at = memchr::memmem::rfind(&tail[..before], SIGNATURES.as_bytes())?;
        let mut end = at + 2;
        while tail[end..].starts_with(SIGNATURE.as_bytes())
            && let Some(line) = memchr::memchr(b'\n', &tail[end..])
        {
            end += line + 1;
        }
        if end > at + 2 {
            return Some(end + usize::from(tail.get(end) == Some(&b'\n')));
        }
        before = at;
    }
}

/// What the log's root was at some size, as a file elsewhere has it.
#[derive(Clone, Debug)]
pub struct Anchor {
    file: Arc<str>,
    line: u64,
    size: u64,
    root: Hash,
}

impl Anchor {
    /// How many records the log had.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    pub(super) fn root(&self) -> &Hash {
        &self.root
    }

    /// Where it stands.
    pub(super) fn place(&self) -> AnchorPlace {
        AnchorPlace { file: self.file.to_string(), line: self.line, size: self.size }
    }
}

/// The anchor that a log does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorPlace {
    /// The file, as it was named.
    pub file: String,
    /// The line its note begins in, from 1.
    pub line: u64,
    /// How many records it is over.
    pub size: u64,
}

impl fmt::Display for AnchorPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {} has a checkpoint of {} records", self.file, self.line, self.size)
    }
}

/// Reads a file of anchors, or of syslog messages ([`super::Syslog`]), one a line; each of which that key must have signed. A last one that is not finished is passed over: a
/// crash, or a write just now.
///
/// # Errors
/// The file cannot be read, or something in it is no checkpoint of that key's: then nothing in it is believed.
pub fn anchors(path: &Path, key: &VerifierKey) -> Result<Vec<Anchor>, VerifyError> {
    let file: Arc<str> = path.display().to_string().into();
    let mut lines = Lines::open(path)?;
    let (mut found, mut text, mut first, mut number) = (Vec::new(), String::new(), 1, 0);
    let anchor = |text: &str, line: u64| {
        let note = Note::parse(text).filter(|note| note.prove(key).is_ok());
        let wrong = || Break { file: file.to_string(), line, seq: 0, kind: BreakKind::Anchor, anchor: None };
        let note = note.ok_or_else(wrong)?;
        Ok::<_, Break>(Anchor { file: Arc::clone(&file), line, size: note.size(), root: note.root() })
    };
    // A line without its end is the last.
    while let Some((line, true)) = lines.next()? {
        number += 1;
        let line = String::from_utf8_lossy(line);
        if let Some(note) = syslog::note_in(&line).filter(|_| text.is_empty()) {
            found.push(anchor(&note, number)?);
            continue;
        }
        if text.contains("\n\n") && !line.starts_with(SIGNATURE) {
            found.push(anchor(&text, first)?);
            text.clear();
        }
        if text.is_empty() {
            first = number;
            if line.is_empty() {
                continue;
            }
        }
        text.push_str(&line);
        text.push('\n');
        if text.len() > NOTE_MAX {
            break;
        }
    }
    if text.len() > NOTE_MAX || text.contains("\n— ") {
        found.push(anchor(&text, first)?);
    }
    // A log of nothing was never signed.
    found.retain(|anchor| anchor.size > 0);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::note::Signer;
    use super::*;
    use crate::secret::Key;

    fn signer() -> Signer {
        Signer::new(&Key::new([7; 32]), &"01".repeat(16))
    }

    fn sizes(path: &Path) -> Result<Vec<u64>, BreakKind> {
        match anchors(path, &signer().public()) {
            Ok(found) => Ok(found.iter().map(Anchor::size).collect()),
            Err(VerifyError::Break(found)) => Err(found.kind),
            Err(VerifyError::Unreadable(e)) => panic!("{e}"),
        }
    }

    #[test]
    fn notes_read_back_and_one_cut_anywhere_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let file = AnchorFile::new(dir.path().join("anchors"));
        let note = |size| signer().sign(size, [9; 32]);
        for size in 1..4 {
            file.append(&note(size)).unwrap();
        }
        let found = anchors(file.path(), &signer().public()).unwrap();
        assert_eq!(
            found.iter().map(|anchor| (anchor.line, anchor.size)).collect::<Vec<_>>(),
            [(1, 1), (7, 2), (13, 3)]
        );
        let whole = fs::read(file.path()).unwrap();
        let third = whole.len() - note(3).to_string().len() - 1;
        for cut in 0..=whole.len() {
            fs::write(file.path(), &whole[..cut]).unwrap();
            let before = sizes(file.path()).unwrap();
            file.append(&note(8)).unwrap();
            let after = sizes(file.path()).unwrap();
            assert_eq!(after, [&before[..], &[8]].concat(), "cut at {cut}");
            assert!(cut < third || before.len() >= 2, "cut at {cut}: {before:?}");
        }
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = AnchorFile::new(dir.path().join("anchors"));
        let note = signer().sign(1, [9; 32]);
        let theirs = Signer::new(&Key::new([8; 32]), &"02".repeat(16)).sign(5, [1; 32]).to_string();
        let long = "x\n".repeat(3 * NOTE_MAX);
        for text in
            ["root:x:0:0\n", "pgveil.log/02", "\n\n— x", &format!("{note}\nmore"), &theirs[..theirs.len() - 9], &long]
        {
            fs::write(file.path(), text).unwrap();
            assert_eq!(file.append(&note).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:.60}");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
        AnchorFile::new(dir.path().join("nowhere/anchors")).append(&note).unwrap_err();
    }

    #[test]
    fn every_note_must_be_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchors");
        let ours = signer().sign(1, [9; 32]).to_string();
        let theirs = Signer::new(&Key::new([8; 32]), &"01".repeat(16)).sign(2, [9; 32]).to_string();
        let edited = ours.replacen("\n1\n", "\n2\n", 1);
        let none = "something else\n".to_owned();
        let long = "x".repeat(NOTE_MAX);
        for wrong in [
            theirs,
            edited,
            none.clone() + &ours,
            long,
            format!("\n{ours}x\n\n— y\n"),
            "\u{fffd}\n\n— x z\n".to_owned(),
        ] {
            fs::write(&path, format!("{ours}\n{wrong}\n")).unwrap();
            assert_eq!(sizes(&path), Err(BreakKind::Anchor), "{wrong:.200}");
        }
        fs::write(&path, format!("\n\n{ours}{ours}\n\n\n{ours}")).unwrap();
        assert_eq!(sizes(&path), Ok(vec![1, 1, 1]), "empty lines between them are no matter");
        let damaged = ours.replacen("\n\n", "\n \n", 1);
        fs::write(&path, format!("{ours}\n{damaged}")).unwrap();
        assert_eq!(sizes(&path), Err(BreakKind::Anchor), "a last one that is signed is not taken for unfinished");
        fs::write(&path, "").unwrap();
        assert_eq!(sizes(&path), Ok(vec![]));
    }
}
