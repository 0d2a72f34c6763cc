//! Does the log hold what was written? Offline, with the audit key, with the public key alone, or with neither.
//!
//! In: a directory. Out: a [`Report`], or the first [`Break`]. Never: a change to a file.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::anchor::{Anchor, AnchorPlace};
use super::disk::{self, HEAD};
use super::lines::Lines;
use super::note::{self, Note, Signer, Unproven, VerifierKey};
use super::packed;
use super::proof::Roots;
use super::prune::{self, Pruned, PrunedPart};
use super::record::{self, Hash, Head, Kind, Malformed, Record, SLOT, SegmentHeader};
use super::tree::{self, Tree};
use super::writer::Tip;
use crate::error::Error;
use crate::secret::{Key, same};

/// What was found in an intact log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Records in the chain.
    pub records: u64,
    /// Of these, events.
    pub events: u64,
    /// Of these, checkpoints.
    pub checkpoints: u64,
    /// Of these, signed checkpoints.
    pub signed: u64,
    /// Sequence number of the newest record.
    pub last_seq: u64,
    /// The MACs were checked with a key; without one only the plain chain, the tree and the head were.
    pub keyed: bool,
    /// Records up to this one are covered by a signature that was checked; 0 without a key.
    pub proven_seq: u64,
    /// Anchors that the log fits.
    pub anchors: u64,
    /// Anchors of records that were pruned, at sizes whose roots were not kept: not checked.
    pub anchors_pruned: u64,
    /// What was pruned before the first record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PrunedPart>,
    /// Bytes of an unfinished record after the newest durable one: a crash, or a proxy that is writing just now.
    pub torn_bytes: u64,
    /// Records that were repeated in the next segment after a failed fsync.
    pub abandoned: u64,
}

/// Where and how the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{file} line {line} (record {seq}): {kind}{}", .anchor.as_ref().map_or_else(String::new, |it| format!("; {it}")))]
pub struct Break {
    /// File name within the directory.
    pub file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u64,
    /// The record that should stand there.
    pub seq: u64,
    /// What happened to it.
    pub kind: BreakKind,
    /// The anchor that tells: then what happened may have happened to any record of those it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<AnchorPlace>,
}

/// What happened to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum BreakKind {
    /// Bytes of the record changed.
    #[error("edited")]
    Edited,
    /// The record is gone, later ones are there.
    #[error("deleted")]
    Deleted,
    /// A record stands here that was not written here.
    #[error("inserted")]
    Inserted,
    /// The record stands further down.
    #[error("reordered")]
    Reordered,
    /// The log ends before its head.
    #[error("cut tail: the log ends before the newest record that was made durable")]
    CutTail,
    /// An unfinished record where none can be.
    #[error("torn record before the end of the log")]
    Torn,
    /// The chain holds, but it is not the one that was written: a MAC, the head or an anchor differs.
    #[error("rewritten: the chain is consistent, and not the one that was written")]
    Rewritten,
    /// The chain holds, but the tree over it is not the one that was signed, or the signature is wrong.
    #[error("forged: the chain is consistent, what is signed is not")]
    Forged,
    /// The signature could only be checked if there were one.
    #[error("unsigned: nothing in this log is signed, so a public key proves nothing about it")]
    Unsigned,
    /// A file of anchors holds something else.
    #[error("no anchor: this is no checkpoint that the log's key signed")]
    Anchor,
    /// The log was written under another key.
    #[error("wrong key: this log was written under another audit key")]
    WrongKey,
    /// A segment file is missing.
    #[error("missing segment")]
    MissingSegment,
    /// The head is missing or damaged.
    #[error("the head is missing or damaged")]
    Head,
}

/// Verification failed or could not be done.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log is not what was written.
    #[error(transparent)]
    Break(#[from] Break),
    /// A file could not be read, or there is no log.
    #[error(transparent)]
    Unreadable(#[from] Error),
}

/// Whom a check believes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// Whoever has the audit key: MACs and signatures are checked with it.
    pub key: Option<&'a Key>,
    /// Whoever has the secret half of this: signatures are checked with it, unless the audit key is there.
    pub public: Option<&'a VerifierKey>,
    /// What the log's roots once were.
    pub anchors: &'a [Anchor],
}

impl<'a> From<Option<&'a Key>> for Trust<'a> {
    fn from(key: Option<&'a Key>) -> Self {
        Self { key, ..Self::default() }
    }
}

/// Checks a whole log, from its first segment to its head. May run while a proxy writes it.
///
/// # Errors
/// [`VerifyError::Break`] names the first place that is not as written.
pub fn verify<'a>(dir: &Path, trust: impl Into<Trust<'a>>) -> Result<Report, VerifyError> {
    let trust = trust.into();
    // The head first: a writer may add records meanwhile, never take any away.
    let heads = heads(dir)?;
    let mut segments = disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))?;
    if segments.is_empty() && heads.is_none() {
        return Err(Error::Config(format!("{}: no access log here", dir.display())).into());
    }
    let heads = heads.ok_or_else(|| at(HEAD, 0, 0, BreakKind::Head))?;
    if let (Some(key), [a, b]) = (trust.key, &heads)
        && !(a.authentic(key) && b.authentic(key))
    {
        // Which of the two it is, the first segment's header tells.
        let wrong = segments
            .first()
            .and_then(|(_, path)| first_record(path))
            .is_some_and(|record| matches!(record.kind, Kind::Segment(header) if header.key != record::key_name(key)));
        return Err(at(HEAD, 0, a.seq, if wrong { BreakKind::WrongKey } else { BreakKind::Rewritten }).into());
    }
    let pruned = prune::read(dir, &trust)?;
    if let Some(pruned) = &pruned {
        // What a crash left of them while they were removed.
        segments.retain(|(number, _)| *number > pruned.segments);
    }
    let mut walk = Walk::new(trust, &heads, pruned.as_ref());
    walk.before_the_cut(pruned.as_ref())?;
    walk.segments(&segments, None)?;
    walk.end()?;
    Ok(walk.report)
}

/// The head's two slots; `None` if there is no head.
pub(super) fn heads(dir: &Path) -> Result<Option<[Head; 2]>, VerifyError> {
    let path = dir.join(HEAD);
    let mut last = Err(Malformed);
    // A writer may be in the middle of a slot.
    for _ in 0..5 {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("reading {}", path.display()), e).into()),
        };
        last = two_slots(&bytes);
        if last.is_ok() {
            break;
        }
    }
    match last {
        Ok(heads) => Ok(Some(heads)),
        Err(Malformed) => Err(at(HEAD, 0, 0, BreakKind::Head).into()),
    }
}

fn two_slots(bytes: &[u8]) -> Result<[Head; 2], Malformed> {
    if bytes.len() != 2 * SLOT {
        return Err(Malformed);
    }
    Ok([Head::decode(&bytes[..SLOT])?, Head::decode(&bytes[SLOT..])?])
}

pub(super) fn first_record(path: &Path) -> Option<Record> {
    let mut lines = Lines::open(path).ok()?;
    let (line, whole) = lines.next().ok()??;
    if whole { record::decode(line).ok() } else { None }
}

/// A segment's name within the directory.
fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a record of that number follows.
fn follows(lines: &mut Lines, seq: u64) -> Result<bool, Error> {
    while let Some((line, _)) = lines.next()? {
        if record::decode(line).is_ok_and(|record| record.seq == seq) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn at(file: &str, line: u64, seq: u64, kind: BreakKind) -> Break {
    Break { file: file.to_owned(), line, seq, kind, anchor: None }
}

/// The walk along the chain.
pub(super) struct Walk<'a> {
    trust: Trust<'a>,
    heads: &'a [Head; 2],
    durable: u64,
    deployment: Option<String>,
    /// What checks signatures: given, or following from the audit key and the first header's deployment.
    verifier: Option<VerifierKey>,
    pub(super) tip: Tip,
    /// Over all records to `tip`; `None` where what came before is not known.
    pub(super) tree: Option<Tree>,
    /// How many segments were pruned.
    segments_before: u64,
    /// File and number of lines of the segment before.
    before: (String, u64),
    /// Where the torn tail of the newest segment begins.
    pub(super) torn_at: Option<u64>,
    /// By size.
    anchors: Vec<&'a Anchor>,
    /// How many of them the walk has passed.
    passed: usize,
    /// The newest signed checkpoint passed.
    pub(super) newest_note: Option<Note>,
    /// Is shown the leaves that are passed.
    pub(super) roots: Option<Roots>,
    pub(super) report: Report,
}

impl<'a> Walk<'a> {
    /// A walk from the log's first record, or the first one that was not pruned.
    pub(super) fn new(trust: Trust<'a>, heads: &'a [Head; 2], pruned: Option<&Pruned>) -> Self {
        let Some(pruned) = pruned else {
            return Self::after(trust, heads, Tip { seq: 0, hash: [0; 32] }, Some(Tree::default()));
        };
        let mut walk = Self::after(trust, heads, pruned.tip(), Some(pruned.tree.clone()));
        walk.segments_before = pruned.segments;
        walk.deployment = Some(pruned.deployment().to_owned());
        walk.passed = walk.anchors.iter().take_while(|anchor| anchor.size() <= walk.tip.seq).count();
        walk.report.pruned = Some(pruned.said());
        walk
    }

    /// A walk that begins after `tip`; `tree` is over all records to there.
    pub(super) fn after(trust: Trust<'a>, heads: &'a [Head; 2], tip: Tip, tree: Option<Tree>) -> Self {
        let durable = heads[0].seq.max(heads[1].seq);
        let report = Report { keyed: trust.key.is_some(), ..Report::default() };
        let before = (String::new(), 0);
        let verifier = if trust.key.is_some() { None } else { trust.public.cloned() };
        let mut anchors: Vec<_> = trust.anchors.iter().collect();
        anchors.sort_by_key(|anchor| anchor.size());
        Self {
            trust,
            heads,
            durable,
            deployment: None,
            verifier,
            tip,
            tree,
            segments_before: 0,
            before,
            torn_at: None,
            anchors,
            passed: 0,
            newest_note: None,
            roots: None,
            report,
        }
    }

    /// Anchors of what was pruned, as far as their sizes are known.
    pub(super) fn before_the_cut(&mut self, pruned: Option<&Pruned>) -> Result<(), Break> {
        for anchor in &self.anchors[..self.passed] {
            match pruned.and_then(|pruned| pruned.root_at(anchor.size())) {
                Some(root) if same(&root, anchor.root()) => self.report.anchors += 1,
                Some(_) => {
                    let found = at(prune::FILE, 0, anchor.size(), BreakKind::Rewritten);
                    return Err(Break { anchor: Some(anchor.place()), ..found });
                }
                None => self.report.anchors_pruned += 1,
            }
        }
        Ok(())
    }

    /// Anchors of what the walk has passed.
    pub(super) fn passed_anchors(&self) -> &[&'a Anchor] {
        &self.anchors[..self.passed]
    }

    /// Whose log it is.
    pub(super) fn deployment(&self) -> &str {
        self.deployment.as_deref().unwrap_or_default()
    }

    /// Walks segments from the first on. `next`: the one after them, if they are not all.
    pub(super) fn segments(&mut self, segments: &[(u64, PathBuf)], next: Option<&Path>) -> Result<(), VerifyError> {
        for (index, (number, path)) in segments.iter().enumerate() {
            let expected = self.segments_before + index as u64 + 1;
            if *number != expected {
                let missing = disk::segment_name(expected);
                return Err(at(&missing, 0, self.tip.seq + 1, BreakKind::MissingSegment).into());
            }
            let after = segments.get(index + 1).map(|(_, path)| path.as_path()).or(next);
            self.segment(*number, path, after.map(first_record))?;
        }
        Ok(())
    }

    /// Walks one segment. `next`: the first record of the segment after it, `None` for the newest segment.
    pub(super) fn segment(
        &mut self,
        number: u64,
        path: &Path,
        next: Option<Option<Record>>,
    ) -> Result<(), VerifyError> {
        let packed = packed::is_packed(path);
        let file = file_name(path);
        let newest = next.is_none();
        let given_up = next.flatten().and_then(|record| match record.kind {
            Kind::Segment(ref header) if header.salvaged => Some((record.seq, record.prev)),
            _ => None,
        });
        let mut lines = Lines::open(path)?;
        let (mut line, mut offset) = (0, 0);
        self.report.segments += 1;
        loop {
            let expected = self.tip.seq + 1;
            let Some((bytes, whole)) = lines.next()? else { break };
            line += 1;
            let length = bytes.len() as u64 + u64::from(whole);
            let decoded = if whole { record::decode(bytes) } else { Err(Malformed) };
            let leaf = tree::leaf(bytes);
            let surplus = given_up.is_some_and(|(seq, prev)| expected == seq && same(&prev, &self.tip.hash));
            let Ok(record) = decoded else {
                if lines.damaged() && !surplus {
                    return Err(at(&file, line, expected, BreakKind::Edited).into());
                }
                if surplus || (newest && !packed && expected > self.durable) {
                    self.torn_at = newest.then_some(offset);
                    self.report.torn_bytes += length + lines.rest()?;
                    break;
                }
                let kind = if whole { BreakKind::Edited } else { BreakKind::Torn };
                return Err(at(&file, line, expected, kind).into());
            };
            offset += length;
            if surplus {
                self.report.abandoned += 1;
                continue;
            }
            if record.seq != expected || !same(&record.prev, &self.tip.hash) {
                return Err(self.misplaced(&file, line, &record, &mut lines)?.into());
            }
            self.accept(&file, line, number, record, leaf)?;
        }
        if line == 0 && !newest && given_up.is_none() {
            return Err(at(&file, 0, self.tip.seq + 1, BreakKind::CutTail).into());
        }
        self.before = (file, line);
        Ok(())
    }

    /// A record whose own hash is right but which does not follow its predecessor.
    fn misplaced(&self, file: &str, line: u64, record: &Record, lines: &mut Lines) -> Result<Break, Error> {
        let expected = self.tip.seq + 1;
        let (before, lines_before) = &self.before;
        if line == 1 && !before.is_empty() && matches!(record.kind, Kind::Segment(_)) {
            let kind = if record.seq > expected { BreakKind::CutTail } else { BreakKind::Inserted };
            return Ok(at(before, *lines_before, expected.min(record.seq), kind));
        }
        let kind = if record.seq > expected {
            if follows(lines, expected)? { BreakKind::Reordered } else { BreakKind::Deleted }
        } else {
            BreakKind::Inserted
        };
        Ok(at(file, line, expected, kind))
    }

    fn accept(&mut self, file: &str, line: u64, number: u64, record: Record, leaf: Hash) -> Result<(), Break> {
        let wrong = |kind| Err(at(file, line, record.seq, kind));
        if (line == 1) != matches!(record.kind, Kind::Segment(_)) {
            return wrong(if line == 1 { BreakKind::Deleted } else { BreakKind::Inserted });
        }
        let checked = match &record.kind {
            Kind::Segment(header) => self.header(header, number),
            Kind::Checkpoint(checkpoint) => {
                let deployment = self.deployment.as_deref().unwrap_or_default();
                self.report.checkpoints += 1;
                let right = self.trust.key.is_none_or(|key| {
                    let mac = record::checkpoint_mac(key, deployment, record.seq, &record.prev);
                    same(mac.as_bytes(), checkpoint.mac.as_bytes())
                });
                if right { Ok(()) } else { Err(BreakKind::Rewritten) }
            }
            Kind::Signed(signed) => self.signed(&signed.note),
            Kind::Event => {
                self.report.events += 1;
                Ok(())
            }
        };
        if let Err(kind) = checked {
            return wrong(kind);
        }
        if self.heads.iter().any(|head| head.seq == record.seq && !same(&head.hash, &record.hash)) {
            return wrong(BreakKind::Rewritten);
        }
        self.tip = Tip { seq: record.seq, hash: record.hash };
        if let Some(tree) = &mut self.tree {
            tree.push(leaf);
        }
        if let Some(roots) = &mut self.roots {
            roots.push(leaf);
        }
        self.report.records += 1;
        self.report.last_seq = record.seq;
        self.anchored(file, line)
    }

    /// The anchors of this size have this root.
    fn anchored(&mut self, file: &str, line: u64) -> Result<(), Break> {
        while let Some(anchor) = self.next_anchor().filter(|anchor| anchor.size() <= self.tip.seq) {
            if !self.tree.as_ref().is_some_and(|tree| same(&tree.root(), anchor.root())) {
                let found = at(file, line, self.tip.seq, BreakKind::Rewritten);
                return Err(Break { anchor: Some(anchor.place()), ..found });
            }
            self.report.anchors += 1;
            self.passed += 1;
        }
        Ok(())
    }

    fn next_anchor(&self) -> Option<&'a Anchor> {
        self.anchors.get(self.passed).copied()
    }

    fn header(&mut self, header: &SegmentHeader, number: u64) -> Result<(), BreakKind> {
        if self.trust.key.is_some_and(|key| header.key != record::key_name(key)) {
            return Err(BreakKind::WrongKey);
        }
        let deployment = self.deployment.get_or_insert_with(|| header.deployment.clone());
        if header.number != number || *deployment != header.deployment {
            return Err(BreakKind::Rewritten);
        }
        match (&self.verifier, self.trust.key) {
            (None, Some(key)) => self.verifier = Some(Signer::new(key, deployment).public()),
            (Some(public), _) if public.name() != note::origin(deployment) => return Err(BreakKind::WrongKey),
            _ => {}
        }
        match (&self.tree, &header.tree) {
            (Some(tree), Some(written)) if tree != written => Err(BreakKind::Forged),
            _ => Ok(()),
        }
    }

    /// A signed checkpoint is over all records before it, and by whom we believe.
    fn signed(&mut self, text: &str) -> Result<(), BreakKind> {
        let note = Note::parse(text).filter(Note::is_plain).ok_or(BreakKind::Forged)?;
        let origin = note::origin(self.deployment.as_deref().unwrap_or_default());
        let grown = self.tree.as_ref().is_none_or(|tree| same(&tree.root(), &note.root()));
        if note.origin() != origin || note.size() != self.tip.seq || !grown {
            return Err(BreakKind::Forged);
        }
        if let Some(verifier) = &self.verifier {
            note.prove(verifier).map_err(|unproven| match unproven {
                // With the audit key the header has already said whose log it is.
                Unproven::NotSigned if self.trust.key.is_none() => BreakKind::WrongKey,
                _ => BreakKind::Forged,
            })?;
            self.report.proven_seq = note.size();
        }
        self.report.signed += 1;
        self.newest_note = Some(note);
        Ok(())
    }

    fn end(&self) -> Result<(), Break> {
        if self.tip.seq < self.durable {
            let (file, line) = &self.before;
            return Err(at(file, *line, self.tip.seq + 1, BreakKind::CutTail));
        }
        if let Some(anchor) = self.next_anchor() {
            let (file, line) = &self.before;
            let found = at(file, *line, self.tip.seq + 1, BreakKind::CutTail);
            return Err(Break { anchor: Some(anchor.place()), ..found });
        }
        if self.trust.key.is_none() && self.trust.public.is_some() && self.report.signed == 0 {
            let (file, _) = &self.before;
            return Err(at(file, 0, 1, BreakKind::Unsigned));
        }
        Ok(())
    }
}
