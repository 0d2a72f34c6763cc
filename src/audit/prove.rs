//! Making proofs of a log that is there: for one record, or for one checkpoint after another.
//!
//! In: a directory, which record or checkpoint. Out: a [`RecordProof`] or [`GrowthProof`]. Never: one that the log's own
//! check does not bear out.

use std::path::Path;

use super::disk;
use super::lines::Lines;
use super::note::Note;
use super::proof::{GrowthProof, Range, RecordProof, Roots, consistency, inclusion};
use super::prune;
use super::record;
use super::verify::{Trust, VerifyError, Walk, heads};
use crate::error::Error;
use crate::secret::same;

/// Proves that record `seq` is in the log, to a checkpoint of it or to its newest signed one; with the record's line.
///
/// # Errors
/// The log is not what was written, has no such record or no checkpoint over it, or `against` is not of it.
pub fn prove_record(
    dir: &Path,
    trust: Trust<'_>,
    seq: u64,
    against: Option<&Note>,
) -> Result<(RecordProof, String), VerifyError> {
    let note = checkpoint(dir, trust, against)?;
    let Some(index) = seq.checked_sub(1).filter(|index| *index < note.size()) else {
        let what = format!("no signed checkpoint covers record {seq}: the newest is over records 1 to {}", note.size());
        return Err(Error::Config(what).into());
    };
    let ranges = inclusion(index, note.size());
    let whole = Range { from: 0, to: note.size() };
    let roots = roots(dir, trust, &ranges, &[&note], whole)?;
    let pruned = || Error::Config(format!("record {seq} was pruned"));
    let path = roots.of(&ranges).ok_or_else(pruned)?;
    let proof = RecordProof { index, path, note };
    let line = line(dir, seq, &proof)?.ok_or_else(pruned)?;
    Ok((proof, line))
}

/// Proves that the log of `old` is the beginning of that of `new`, or of the newest signed checkpoint's.
///
/// # Errors
/// The log is not what was written, or one of the checkpoints is not of it or inside of what was pruned.
pub fn prove_growth(dir: &Path, trust: Trust<'_>, old: &Note, new: Option<&Note>) -> Result<GrowthProof, VerifyError> {
    let new = checkpoint(dir, trust, new)?;
    if old.size() == 0 || old.size() > new.size() {
        let what = format!("the earlier checkpoint is over {} records, the later over {}", old.size(), new.size());
        return Err(Error::Config(what).into());
    }
    let ranges = consistency(old.size(), new.size());
    let whole = Range { from: 0, to: new.size() };
    let roots = roots(dir, trust, &ranges, &[old, &new], whole)?;
    let path = roots.of(&ranges).ok_or_else(|| Error::Config("the earlier checkpoint was pruned".to_owned()))?;
    Ok(GrowthProof { path, old: old.clone(), new })
}

fn walk_all(dir: &Path, walk: &mut Walk<'_>, after: u64) -> Result<(), VerifyError> {
    let mut segments = disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))?;
    segments.retain(|(number, _)| *number > after);
    walk.segments(&segments, None)
}

/// The checkpoint that was asked for, or the log's newest.
fn checkpoint(dir: &Path, trust: Trust<'_>, asked: Option<&Note>) -> Result<Note, VerifyError> {
    if let Some(note) = asked {
        return Ok(note.clone());
    }
    let pruned = prune::read(dir, &trust)?;
    let heads = heads(dir)?.ok_or_else(|| Error::Config(format!("{}: no access log here", dir.display())))?;
    let mut walk = Walk::new(trust, &heads, pruned.as_ref());
    walk_all(dir, &mut walk, pruned.as_ref().map_or(0, |pruned| pruned.segments))?;
    let none = || Error::Config("nothing in this log is signed yet".to_owned());
    Ok(walk.newest_note.ok_or_else(none)?)
}

/// Roots of those ranges, in a log that the notes are of.
fn roots(dir: &Path, trust: Trust<'_>, ranges: &[Range], notes: &[&Note], whole: Range) -> Result<Roots, VerifyError> {
    let pruned = prune::read(dir, &trust)?;
    let heads = heads(dir)?.ok_or_else(|| Error::Config(format!("{}: no access log here", dir.display())))?;
    let mut walk = Walk::new(trust, &heads, pruned.as_ref());
    let before = walk.tree.clone().unwrap_or_default();
    let beginnings = notes.iter().map(|note| Range { to: note.size(), ..whole });
    let wanted = ranges.iter().copied().chain(beginnings.clone());
    let cut = || Error::Config(format!("records 1 to {} were pruned, and it is about one of them", before.size()));
    walk.roots = Some(Roots::new(wanted, &before).ok_or_else(cut)?);
    walk_all(dir, &mut walk, pruned.as_ref().map_or(0, |pruned| pruned.segments))?;
    let roots = walk.roots.take().ok_or_else(cut)?;
    for (note, beginning) in notes.iter().zip(beginnings) {
        let ours = roots.of(&[beginning]).is_some_and(|root| same(&root[0], &note.root()));
        if !ours || note.origin() != super::note::origin(walk.deployment()) {
            let what = format!("the checkpoint over {} records is not of this log as it is now", note.size());
            return Err(Error::Config(what).into());
        }
    }
    Ok(roots)
}

/// The line of that record: of several with its number, the one that the proof is about.
fn line(dir: &Path, seq: u64, proof: &RecordProof) -> Result<Option<String>, VerifyError> {
    let segments = disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))?;
    for (_, path) in segments.iter().rev() {
        if super::verify::first_record(path).is_none_or(|first| first.seq > seq) {
            continue;
        }
        let mut lines = Lines::open(path)?;
        while let Some((line, whole)) = lines.next()? {
            if whole && record::decode(line).is_ok_and(|record| record.seq == seq) && proof.is_of(line) {
                return Ok(std::str::from_utf8(line).ok().map(str::to_owned));
            }
        }
    }
    Ok(None)
}
