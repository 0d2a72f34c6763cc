//! Proofs about the log's tree that need no log: this record is in it (RFC 6962 §2.1.1), that checkpoint is of its beginning
//! (§2.1.2). Pure.
//!
//! In: the roots of a few subtrees, or outside bytes. Out: a text that anybody with the public key can check, or whether one
//! proves anything. Never: a lenient reading, a proof longer than a tree is high.
//!
//! A record's proof is a [C2SP tlog-proof](https://c2sp.org/tlog-proof):
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 4710                  the record's number less one
//! qLsOeB…                     base64 of each subtree's root, from the leaf's neighbour up
//!
//! pgveil.log/0101…            a signed checkpoint, as the log has it
//! ```
//!
//! Consistency has no form there; ours is the same with `pgveil.log/consistency@v1`, the roots, and the smaller and the larger
//! checkpoint, an empty line before each.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{NOTE_MAX, Note, VerifierKey};
use super::record::Hash;
use super::tree::{Tree, leaf, node};
use crate::secret::same;

const INCLUSION: &str = "c2sp.org/tlog-proof@v1\n";
const CONSISTENCY: &str = "pgveil.log/consistency@v1\n";
/// No tree of 64-bit size is higher.
pub(super) const PATH_MAX: usize = 65;
/// Longer than any proof.
const PROOF_MAX: usize = 4 * NOTE_MAX;

/// The leaves `from..to`, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Where a subtree of two or more leaves divides: the largest power of two that is smaller than its size.
fn middle(range: Range) -> u64 {
    range.from + (1 << (range.to - range.from - 1).ilog2())
}

/// The subtrees that prove leaf `index` of `size`, from the leaf's neighbour up. `index < size`.
pub(super) fn inclusion(index: u64, size: u64) -> Vec<Range> {
    let (mut range, mut path) = (Range { from: 0, to: size }, Vec::new());
    while range.to - range.from > 1 {
        let middle = middle(range);
        let (left, right) = (Range { to: middle, ..range }, Range { from: middle, ..range });
        let (within, beside) = if index < middle { (left, right) } else { (right, left) };
        path.push(beside);
        range = within;
    }
    path.reverse();
    path
}

/// The subtrees that prove that the first `old` leaves of `new` are what they were. `0 < old <= new`.
pub(super) fn consistency(old: u64, new: u64) -> Vec<Range> {
    let (mut range, mut path) = (Range { from: 0, to: new }, Vec::new());
    while range.to > old {
        let middle = middle(range);
        let (left, right) = (Range { to: middle, ..range }, Range { from: middle, ..range });
        let (within, beside) = if old <= middle { (left, right) } else { (right, left) };
        path.push(beside);
        range = within;
    }
    if range.from > 0 {
        path.push(range);
    }
    path.reverse();
    path
}

/// The root that `path` makes of a leaf (RFC 9162 §2.1.3.2).
pub(super) fn root_with(index: u64, size: u64, leaf: Hash, path: &[Hash]) -> Option<Hash> {
    let (mut at, mut last) = (index, size.checked_sub(1).filter(|last| index <= *last)?);
    let mut root = leaf;
    for beside in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(beside, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node(&root, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// Whether a tree of `old` leaves with that root is the beginning of another (RFC 9162 §2.1.4.2).
pub(super) fn grew(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    if old.0 == new.0 {
        return path.is_empty() && same(old.1, new.1);
    }
    if old.0 == 0 || old.0 > new.0 || path.is_empty() {
        return false;
    }
    let (mut at, mut last) = (old.0 - 1, new.0 - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let seed = old.0.is_power_of_two().then_some(*old.1);
    let mut path = seed.iter().chain(path);
    let Some(first) = path.next() else { return false };
    let (mut before, mut after) = (*first, *first);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            before = node(beside, &before);
            after = node(beside, &after);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = node(&after, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && same(&before, old.1) && same(&after, new.1)
}

/// Roots of some subtrees, found while the leaves go by.
#[derive(Debug)]
pub(super) struct Roots {
    at: u64,
    /// By where they begin.
    later: VecDeque<Range>,
    open: Vec<(Range, Tree)>,
    found: BTreeMap<Range, Hash>,
}

impl Roots {
    /// Of the leaves that `before` is over nothing is known but its peaks; `None` if one of `wanted` is inside of them.
    pub(super) fn new(wanted: impl IntoIterator<Item = Range>, before: &Tree) -> Option<Self> {
        let mut wanted: Vec<Range> = wanted.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut roots = Self { at: before.size(), later: VecDeque::new(), open: Vec::new(), found: BTreeMap::new() };
        for range in wanted {
            if range.from >= roots.at {
                roots.later.push_back(range);
                continue;
            }
            let part = before.part(range.from, range.to)?;
            if range.to <= roots.at {
                roots.found.insert(range, part.root());
            } else {
                roots.open.push((range, part));
            }
        }
        Some(roots)
    }

    /// The next leaf.
    pub(super) fn push(&mut self, leaf: Hash) {
        while let Some(range) = self.later.front().copied().filter(|range| range.from == self.at) {
            self.later.pop_front();
            self.open.push((range, Tree::default()));
        }
        self.at += 1;
        let (at, found) = (self.at, &mut self.found);
        self.open.retain_mut(|(range, tree)| {
            tree.push(leaf);
            let more = range.to > at;
            if !more {
                found.insert(*range, tree.root());
            }
            more
        });
    }

    /// The roots of these, if the leaves went so far.
    pub(super) fn of(&self, ranges: &[Range]) -> Option<Vec<Hash>> {
        ranges.iter().map(|range| self.found.get(range).copied()).collect()
    }
}

/// Hashes as a proof has them, one a line.
fn push_path(out: &mut String, path: &[Hash]) {
    for hash in path {
        out.push_str(&STANDARD.encode(hash));
        out.push('\n');
    }
}

pub(super) fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn path(lines: &str) -> Option<Vec<Hash>> {
    let path: Vec<_> = lines.lines().map(hash).collect::<Option<_>>()?;
    (path.len() <= PATH_MAX).then_some(path)
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unconvincing {
    /// Not by that key.
    #[error("that key did not sign the checkpoint in it")]
    Checkpoint,
    /// The record is not the one that stands there.
    #[error("the record is not the one that it is about, or was changed")]
    Record,
    /// The larger tree does not begin with the smaller one.
    #[error("the log of the later checkpoint does not begin with that of the earlier one")]
    Rewritten,
}

/// That a record is in the log. What it says is not to be believed before [`RecordProof::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordProof {
    pub(super) index: u64,
    pub(super) path: Vec<Hash>,
    pub(super) note: Note,
}

impl RecordProof {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(INCLUSION).filter(|_| text.len() <= PROOF_MAX)?.strip_prefix("index ")?;
        let (index, rest) = rest.split_once('\n')?;
        let number: u64 = index.parse().ok()?;
        let (hashes, note) = match rest.strip_prefix('\n') {
            Some(note) => ("", note),
            None => rest.split_once("\n\n")?,
        };
        let proof = Self { index: number, path: path(hashes)?, note: Note::parse(note)? };
        // No second spelling.
        (proof.to_string() == text).then_some(proof)
    }

    /// The record's number.
    pub fn seq(&self) -> u64 {
        self.index.saturating_add(1)
    }

    /// The checkpoint it leads to.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The record is `line`, as that key's owner had it in the log.
    ///
    /// # Errors
    /// It is not, as far as this proof goes.
    pub fn check(&self, line: &[u8], key: &VerifierKey) -> Result<(), Unconvincing> {
        self.note.prove(key).map_err(|_| Unconvincing::Checkpoint)?;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if self.is_of(line) { Ok(()) } else { Err(Unconvincing::Record) }
    }

    /// It leads from that line to the checkpoint, whoever made that.
    pub(super) fn is_of(&self, line: &[u8]) -> bool {
        let root = root_with(self.index, self.note.size(), leaf(line), &self.path);
        root.is_some_and(|root| same(&root, &self.note.root()))
    }
}

impl fmt::Display for RecordProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        push_path(&mut text, &self.path);
        write!(f, "{INCLUSION}index {}\n{text}\n{}", self.index, self.note)
    }
}

/// That one checkpoint's log begins with another's. What it says is not to be believed before [`GrowthProof::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowthProof {
    pub(super) path: Vec<Hash>,
    pub(super) old: Note,
    pub(super) new: Note,
}

impl GrowthProof {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(CONSISTENCY).filter(|_| text.len() <= PROOF_MAX)?;
        let (hashes, notes) = match rest.strip_prefix('\n') {
            Some(notes) => ("", notes),
            None => rest.split_once("\n\n")?,
        };
        // Behind the first note's signatures.
        let body = notes.find("\n\n")? + 2;
        let end = body + notes[body..].find("\n\n")? + 1;
        let (old, new) = (Note::parse(&notes[..end])?, Note::parse(&notes[end + 1..])?);
        let proof = Self { path: path(hashes)?, old, new };
        (proof.to_string() == text).then_some(proof)
    }

    /// The smaller checkpoint.
    pub fn earlier(&self) -> &Note {
        &self.old
    }

    /// The larger one.
    pub fn later(&self) -> &Note {
        &self.new
    }

    /// Both are that key's, and nothing of the smaller log was changed in the larger.
    ///
    /// # Errors
    /// One is not, or something was, as far as this proof goes.
    pub fn check(&self, key: &VerifierKey) -> Result<(), Unconvincing> {
        for note in [&self.old, &self.new] {
            note.prove(key).map_err(|_| Unconvincing::Checkpoint)?;
        }
        let (old, new) = (self.old.root(), self.new.root());
        let grew = grew((self.old.size(), &old), (self.new.size(), &new), &self.path);
        if grew { Ok(()) } else { Err(Unconvincing::Rewritten) }
    }
}

impl fmt::Display for GrowthProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        push_path(&mut text, &self.path);
        text.write_char('\n')?;
        write!(f, "{CONSISTENCY}{text}{}\n{}", self.old, self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::Signer;
    use super::*;
    use crate::secret::Key;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    fn tree(leaves: &[Hash]) -> Tree {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree
    }

    fn roots(wanted: &[Range], leaves: &[Hash], known: usize) -> Option<Vec<Hash>> {
        let mut roots = Roots::new(wanted.iter().copied(), &tree(&leaves[..known]))?;
        leaves[known..].iter().for_each(|leaf| roots.push(*leaf));
        roots.of(wanted)
    }

    #[test]
    fn every_leaf_of_every_tree_is_proven_and_no_other_leaf_or_place() {
        for size in 1..40u64 {
            let leaves = leaves(size);
            let root = tree(&leaves).root();
            for index in 0..size {
                let path = roots(&inclusion(index, size), &leaves, 0).unwrap();
                let made = |index, size, leaf: &Hash, path: &[Hash]| root_with(index, size, *leaf, path) == Some(root);
                let leaf_here = &leaves[usize::try_from(index).unwrap()];
                assert!(made(index, size, leaf_here, &path), "{index} of {size}");
                assert!(!made(index, size, &[9; 32], &path));
                assert!(!made(index + 1, size, leaf_here, &path) && !made(size, size, leaf_here, &path));
                assert!(path.is_empty() || !made(index, size, leaf_here, &path[1..]));
                assert!(!made(index, size, leaf_here, &[&path[..], &[[9; 32]]].concat()));
            }
        }
        assert_eq!(root_with(0, 0, [0; 32], &[]), None);
    }

    #[test]
    fn every_tree_is_proven_to_be_the_beginning_of_every_larger_one_and_no_other_is() {
        for new in 1..40u64 {
            let leaves = leaves(new);
            let root = tree(&leaves).root();
            for old in 1..=new {
                let before = tree(&leaves[..usize::try_from(old).unwrap()]).root();
                let path = roots(&consistency(old, new), &leaves, 0).unwrap();
                assert!(grew((old, &before), (new, &root), &path), "{old} of {new}");
                assert!(!grew((old, &[9; 32]), (new, &root), &path), "{old} of {new}");
                assert!(!grew((old, &before), (new, &[9; 32]), &path), "{old} of {new}");
                assert!(!grew((old, &before), (new, &root), &[&path[..], &[[9; 32]]].concat()));
                assert!(path.is_empty() || !grew((old, &before), (new, &root), &path[1..]), "{old} of {new}");
            }
            assert!(!grew((0, &root), (new, &root), &[]) && !grew((new + 1, &root), (new, &root), &[]));
        }
    }

    #[test]
    fn behind_a_cut_the_peaks_are_enough_for_what_is_there_and_what_is_not_is_told() {
        for size in 2..40u64 {
            let leaves = leaves(size);
            for known in 0..size {
                let before = usize::try_from(known).unwrap();
                for index in 0..size {
                    let whole = roots(&inclusion(index, size), &leaves, 0);
                    let cut = roots(&inclusion(index, size), &leaves, before);
                    assert!(
                        if index >= known { cut == whole } else { cut.is_none() || cut == whole },
                        "{index} {known}"
                    );
                }
                for old in known.max(1)..=size {
                    let whole = roots(&consistency(old, size), &leaves, 0);
                    assert_eq!(
                        roots(&consistency(old, size), &leaves, before),
                        whole,
                        "{old} of {size} behind {known}"
                    );
                }
            }
        }
    }

    fn signer() -> Signer {
        Signer::new(&Key::new([7; 32]), &"01".repeat(16))
    }

    #[test]
    fn proofs_read_back_and_any_other_byte_makes_them_worthless() {
        let lines: Vec<Vec<u8>> = (0..21u64).map(|n| format!("record {n}").into_bytes()).collect();
        let leaves: Vec<Hash> = lines.iter().map(|line| leaf(line)).collect();
        let note = |size: usize| signer().sign(size as u64, tree(&leaves[..size]).root());
        let public = signer().public();
        let path = roots(&inclusion(13, 21), &leaves, 0).unwrap();
        let text = RecordProof { index: 13, path, note: note(21) }.to_string();
        let proof = RecordProof::parse(&text).unwrap();
        assert_eq!((proof.seq(), proof.to_string(), proof.check(&lines[13], &public)), (14, text.clone(), Ok(())));
        assert_eq!(proof.check(&lines[12], &public), Err(Unconvincing::Record));
        let theirs = Signer::new(&Key::new([8; 32]), &"01".repeat(16)).public();
        assert_eq!(proof.check(&lines[13], &theirs), Err(Unconvincing::Checkpoint));

        let path = roots(&consistency(9, 21), &leaves, 0).unwrap();
        let growth = GrowthProof { path, old: note(9), new: note(21) }.to_string();
        let read = GrowthProof::parse(&growth).unwrap();
        assert_eq!((read.to_string(), read.check(&public)), (growth.clone(), Ok(())));
        let rewritten = GrowthProof { old: signer().sign(9, [9; 32]), ..read };
        assert_eq!(rewritten.check(&public), Err(Unconvincing::Rewritten));
        for text in [&text, &growth] {
            for at in 0..text.len() {
                let mut edited = text.clone().into_bytes();
                edited[at] ^= 1 << (at % 8);
                let Ok(edited) = String::from_utf8(edited) else { continue };
                let record = RecordProof::parse(&edited).and_then(|proof| proof.check(&lines[13], &public).ok());
                let growth = GrowthProof::parse(&edited).and_then(|proof| proof.check(&public).ok());
                assert_eq!((record, growth), (None, None), "byte {at}");
            }
            for cut in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
                assert!(RecordProof::parse(&text[..cut]).is_none() && GrowthProof::parse(&text[..cut]).is_none());
            }
        }
    }
}
