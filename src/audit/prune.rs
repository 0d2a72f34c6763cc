//! Pruning: the oldest whole segments go, and a signed note stays that proves what follows them to be their continuation.
//!
//! In: a log and until when its records may go. Out: the file `pruned`, fewer segments. Never: a segment removed that is not
//! as it was written, that no later signature covers, or that the caller still needs.
//!
//! `pruned` is a C2SP tlog-checkpoint with extension lines, which no `signed` record and no anchor has, so that none can be
//! taken for it:
//!
//! ```text
//! pgveil.log/0101…                   whose log
//! 4711                               records pruned: 1 to this one
//! CsUYapGG…                          base64 of the root over them
//! pruned 12 1700000000000000 3f0c…   segments pruned, when (microseconds), hash of the last record pruned, hex
//! peaks 8sNk… a7Qp…                  the roots of the full subtrees, largest first: with them the tree grows on
//! kept 903 z0Fd… Yk1u… …             size and root of an earlier checkpoint, and its consistency proof to the next line's,
//! kept 4700 …                        or the last one's to the root above: for old anchors
//!
//! — pgveil.log/0101… Az3gr…
//! ```

use std::fmt::{self, Write as _};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::anchor::Anchor;
use super::note::{self, Signer, VerifierKey};
use super::proof::{self, PATH_MAX, Roots};
use super::record::{Hash, Kind, unhex};
use super::tree::Tree;
use super::verify::{Break, BreakKind, Trust, VerifyError, Walk, first_record, heads};
use super::writer::Tip;
use super::{disk, packed};
use crate::error::Error;
use crate::secret::Key;

/// Its name in the log's directory.
pub(super) const FILE: &str = "pruned";
/// A longer file is none.
const BYTES_MAX: u64 = 8 << 20;
/// Earlier checkpoints that are kept; further ones go, oldest first.
const KEPT_MAX: usize = 4_096;

/// An earlier checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    size: u64,
    root: Hash,
    /// To the next one.
    path: Vec<Hash>,
}

/// What stands for the records that were pruned. Not to be believed before [`Pruned::prove`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    origin: String,
    /// Segments 1 to this one.
    pub(super) segments: u64,
    at_us: i64,
    hash: Hash,
    pub(super) tree: Tree,
    /// By size.
    kept: Vec<Kept>,
    signature: (String, Vec<u8>),
}

impl Pruned {
    /// Reads one, whose proofs hold.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, signature) = text.split_once("\n\n").filter(|_| text.len() as u64 <= BYTES_MAX)?;
        let mut lines = body.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?.parse().ok()?, proof::hash(lines.next()?)?);
        let mut said = lines.next()?.strip_prefix("pruned ")?.split(' ');
        let (segments, at_us) = (said.next()?.parse().ok()?, said.next()?.parse().ok()?);
        let hash = unhex(said.next()?).ok()?;
        let peaks = lines.next()?.strip_prefix("peaks ")?.split(' ').map(proof::hash).collect::<Option<Vec<_>>>()?;
        let tree = Tree::of(size, peaks).filter(|tree| tree.root() == root)?;
        let kept = lines.map(kept).collect::<Option<Vec<_>>>()?;
        let signature = note::signature(signature.strip_suffix('\n')?)?;
        let pruned = Self { origin: origin.to_owned(), segments, at_us, hash, tree, kept, signature };
        // No second spelling.
        (pruned.is_consistent() && pruned.to_string() == text).then_some(pruned)
    }

    /// Every earlier checkpoint is of the next one's beginning.
    fn is_consistent(&self) -> bool {
        let root = self.tree.root();
        let ends = self.kept.iter().skip(1).map(|kept| (kept.size, &kept.root)).chain([(self.tree.size(), &root)]);
        let mut grown = self.kept.iter().zip(ends);
        let in_bounds = self.tree.size() > 0 && self.segments > 0 && self.kept.len() <= KEPT_MAX;
        in_bounds && grown.all(|(kept, end)| kept.size < end.0 && proof::grew((kept.size, &kept.root), end, &kept.path))
    }

    /// That key signed it.
    pub fn prove(&self, key: &VerifierKey) -> bool {
        self.origin == key.name() && key.proves(&self.body(), &self.signature)
    }

    fn body(&self) -> String {
        let (size, root, hash) = (self.tree.size(), STANDARD.encode(self.tree.root()), hex::encode(self.hash));
        let mut text =
            format!("{}\n{size}\n{root}\npruned {} {} {hash}\npeaks", self.origin, self.segments, self.at_us);
        push_hashes(&mut text, self.tree.peaks());
        for kept in &self.kept {
            // Writing to a String cannot fail.
            let _ = write!(text, "kept {} {}", kept.size, STANDARD.encode(kept.root));
            push_hashes(&mut text, &kept.path);
        }
        text
    }

    pub(super) fn deployment(&self) -> &str {
        self.origin.strip_prefix("pgveil.log/").unwrap_or_default()
    }

    /// Where the chain goes on.
    pub(super) fn tip(&self) -> Tip {
        Tip { seq: self.tree.size(), hash: self.hash }
    }

    /// The root at that size, if it is known.
    pub(super) fn root_at(&self, size: u64) -> Option<Hash> {
        if size == self.tree.size() {
            return Some(self.tree.root());
        }
        let at = self.kept.binary_search_by_key(&size, |kept| kept.size).ok()?;
        Some(self.kept[at].root)
    }

    /// For the report.
    pub(super) fn said(&self) -> PrunedPart {
        PrunedPart {
            records: self.tree.size(),
            segments: self.segments,
            at_us: self.at_us,
            root: STANDARD.encode(self.tree.root()),
        }
    }
}

/// ` hash hash…` and the line's end.
fn push_hashes(text: &mut String, hashes: &[Hash]) {
    for hash in hashes {
        text.push(' ');
        text.push_str(&STANDARD.encode(hash));
    }
    text.push('\n');
}

fn kept(line: &str) -> Option<Kept> {
    let mut words = line.strip_prefix("kept ")?.split(' ');
    let (size, root) = (words.next()?.parse().ok()?, proof::hash(words.next()?)?);
    let path: Vec<_> = words.map(proof::hash).collect::<Option<_>>()?;
    (path.len() <= PATH_MAX).then_some(Kept { size, root, path })
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n— {} {}", self.body(), self.signature.0, STANDARD.encode(&self.signature.1))
    }
}

/// What was pruned, as a report says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrunedPart {
    /// Records 1 to this one.
    pub records: u64,
    /// Segments 1 to this one.
    pub segments: u64,
    /// When.
    pub at_us: i64,
    /// The root over them, base64.
    pub root: String,
}

/// What stands for pruned records of that log, proven as far as `trust` can; `None` if nothing was pruned.
pub(super) fn read(dir: &Path, trust: &Trust<'_>) -> Result<Option<Pruned>, VerifyError> {
    let path = dir.join(FILE);
    let about = match fs::metadata(&path) {
        Ok(about) => about,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("reading {}", path.display()), e).into()),
    };
    let broken = |kind| Break { file: FILE.into(), line: 0, seq: 1, kind, anchor: None };
    if about.len() > BYTES_MAX {
        return Err(broken(BreakKind::Edited).into());
    }
    let bytes = fs::read(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?;
    let pruned = std::str::from_utf8(&bytes).ok().and_then(Pruned::parse).ok_or_else(|| broken(BreakKind::Edited))?;
    let key = match (trust.key, trust.public) {
        (Some(key), _) => Some(Signer::new(key, pruned.deployment()).public()),
        (None, public) => public.cloned(),
    };
    match key {
        Some(key) if !pruned.prove(&key) => Err(broken(BreakKind::Forged).into()),
        _ => Ok(Some(pruned)),
    }
}

/// `[audit] keep`: how long records stay.
#[derive(Clone, Copy, Debug)]
pub struct Keep(jiff::Span);

impl Keep {
    /// An ISO 8601 period such as `P7Y`.
    pub fn parse(text: &str) -> Option<Self> {
        let span: jiff::Span = text.parse().ok()?;
        (text.starts_with('P') && span.is_positive()).then_some(Self(span))
    }

    /// What is older may go, microseconds. A period beyond the calendar is for ever.
    pub fn before_us(self, now_us: i64) -> i64 {
        let now = jiff::Timestamp::from_microsecond(now_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let then = now.to_zoned(jiff::tz::TimeZone::UTC).checked_sub(self.0);
        then.map_or(i64::MIN, |then| then.timestamp().as_microsecond())
    }
}

/// Which records may go.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a> {
    /// All of a segment must be from before then, microseconds.
    pub before_us: i64,
    /// Records from this one on are still needed elsewhere.
    pub needed_from: Option<u64>,
    /// Checkpoints elsewhere, which must fit, and which it must be possible to check later.
    pub anchors: &'a [Anchor],
}

/// Segments that may go, checked.
#[derive(Clone, Debug)]
pub struct Prunable {
    /// Oldest first.
    files: Vec<PathBuf>,
    /// But for its time and signature.
    note: Pruned,
    /// The first record that goes …
    pub first_seq: u64,
    /// … and the last.
    pub last_seq: u64,
}

impl Prunable {
    /// For the log itself.
    pub fn sentence(&self) -> String {
        let Self { first_seq, last_seq, .. } = self;
        format!(
            "records {first_seq} to {last_seq}, {} segments, are pruned: they are older than is kept",
            self.files.len()
        )
    }

    /// How many segments go.
    pub fn segments(&self) -> usize {
        self.files.len()
    }
}

/// Finds and checks what may go; changes nothing. `None`: nothing yet.
///
/// # Errors
/// What would go, or what stands for what went before, is not what was written: then it must stay.
pub fn prunable(dir: &Path, key: &Key, until: Until<'_>) -> Result<Option<Prunable>, VerifyError> {
    let trust = Trust { key: Some(key), anchors: until.anchors, ..Trust::default() };
    let before = read(dir, &trust)?;
    let Some(heads) = heads(dir)? else { return Ok(None) };
    let mut segments = disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))?;
    segments.retain(|(number, _)| before.as_ref().is_none_or(|before| *number > before.segments));
    let count = (1..segments.len()).take_while(|next| may_go(&segments[*next].1, until)).count();
    if count == 0 {
        return Ok(None);
    }
    let walk = || Walk::new(trust, &heads, before.as_ref());
    let (first, mut first_walk, mut points) = (walk().tip.seq + 1, walk(), Vec::new());
    for (at, (number, path)) in segments[..count].iter().enumerate() {
        let passed = first_walk.passed_anchors().len();
        first_walk.segment(*number, path, Some(first_record(&segments[at + 1].1)))?;
        points.extend(first_walk.newest_note.take().map(|note| (note.size(), note.root())));
        points.extend(first_walk.passed_anchors()[passed..].last().map(|anchor| (anchor.size(), *anchor.root())));
    }
    points.sort_unstable();
    let (tip, whole) = (first_walk.tip, first_walk.tree.clone());
    let (number, next) = &segments[count];
    first_walk.segment(*number, next, segments.get(count + 1).map(|(_, after)| first_record(after)))?;
    let (Some(whole), true) = (whole, first_walk.report.proven_seq > tip.seq) else { return Ok(None) };
    let origin = note::origin(first_walk.deployment());
    let walk = walk();
    let kept = keep(before.clone(), points, &whole, walk, &segments[..count], next)?;
    let signature = (String::new(), Vec::new());
    let note = Pruned { origin, segments: number - 1, at_us: 0, hash: tip.hash, tree: whole, kept, signature };
    let files = segments[..count].iter().map(|(_, path)| path.clone()).collect();
    Ok(Some(Prunable { files, note, first_seq: first, last_seq: tip.seq }))
}

/// Everything before this segment may go.
fn may_go(next: &Path, until: Until<'_>) -> bool {
    let Some(record) = first_record(next) else { return false };
    let Kind::Segment(header) = &record.kind else { return false };
    let known = header.tree.as_ref().is_some_and(|tree| tree.size() + 1 == record.seq);
    known && header.created_us < until.before_us && until.needed_from.is_none_or(|needed| record.seq <= needed)
}

type Point = (u64, Hash);

/// The proofs from each point to the next, and from the last to the cut; for them the segments are read again.
fn keep(
    before: Option<Pruned>,
    mut points: Vec<Point>,
    whole: &Tree,
    mut walk: Walk<'_>,
    segments: &[(u64, PathBuf)],
    next: &Path,
) -> Result<Vec<Kept>, VerifyError> {
    let tree = walk.tree.clone().unwrap_or_default();
    let mut kept = Vec::new();
    if let Some(before) = before {
        points.insert(0, (before.tree.size(), before.tree.root()));
        kept = before.kept;
    }
    points.push((whole.size(), whole.root()));
    points.dedup_by_key(|point| point.0);
    let steps: Vec<_> = points.windows(2).map(|step| proof::consistency(step[0].0, step[1].0)).collect();
    walk.roots = Roots::new(steps.iter().flatten().copied(), &tree);
    walk.segments(segments, Some(next))?;
    for (point, step) in points.iter().zip(&steps) {
        let Some(path) = walk.roots.as_ref().and_then(|roots| roots.of(step)) else { break };
        kept.push(Kept { size: point.0, root: point.1, path });
    }
    let surplus = kept.len().saturating_sub(KEPT_MAX);
    kept.drain(..surplus);
    Ok(kept)
}

/// Signs what stands for them, and removes the segments. After a crash in the middle [`read`] tells which are too many, and
/// the next call removes them.
///
/// # Errors
/// A file cannot be written or removed: nothing is lost that `pruned` does not stand for.
pub fn prune(dir: &Path, key: &Key, prunable: &Prunable, now_us: i64) -> Result<(), Error> {
    let mut note = Pruned { at_us: now_us, ..prunable.note.clone() };
    note.signature = Signer::new(key, note.deployment()).signature(&note.body());
    let fail = |e| Error::io(format!("pruning {}", dir.display()), e);
    disk::replace(dir, FILE, note.to_string().as_bytes()).map_err(fail)?;
    sweep(dir, note.segments).map_err(fail)
}

/// Removes segments up to that one, oldest first, in whatever form.
fn sweep(dir: &Path, segments: u64) -> std::io::Result<()> {
    for (number, path) in disk::segments(dir)?.into_iter().filter(|(number, _)| *number <= segments) {
        let plain = dir.join(disk::segment_name(number));
        for file in [packed::packed(&plain), plain, path] {
            match fs::remove_file(file) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    disk::sync_dir(dir)
}
