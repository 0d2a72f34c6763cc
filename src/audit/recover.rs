//! Start: what the last run left, and the chain continued in a new segment.
//!
//! In: the directory as a crash, a power failure or a hand left it. Out: an open [`Log`] and what was found. Never: a
//! silent repair; torn bytes are kept beside the log and a break stays visible to [`super::verify`].

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Settings;
use super::disk::{self, Directory};
use super::packed;
use super::record::{Head, Kind, SLOT};
use super::tree::Tree;
use super::verify::{Break, BreakKind, VerifyError, Walk, heads};
use super::writer::{Full, Log, Start, Tip};
use crate::error::{Error, Result};
use crate::secret::Key;

/// An unfinished record that was moved out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// How long it was.
    pub bytes: u64,
    /// The file it is kept in.
    pub file: String,
}

/// What the last run left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// There was no log.
    pub first: bool,
    /// It died in mid-write.
    pub torn: Option<Torn>,
    /// The newest segment is not what was written; older ones are `log verify`'s.
    pub broken: Option<Break>,
}

/// Opens a log for writing: locks the directory, checks the newest segment and the head, moves a torn tail aside, and
/// continues the chain in a new segment (nothing of which is written before the first commit).
///
/// # Errors
/// The directory cannot be made, locked or read. A log that was tampered with is no error: the finding is in
/// [`Recovered::broken`], and the chain goes on so that it stays visible.
pub fn open(settings: &Settings, key: Key, deployment: &[u8; 16], now_us: i64) -> Result<(Log, Recovered)> {
    let directory = Directory::open(&settings.dir)?;
    let (start, recovered) = survey(&settings.dir, &key)?;
    let deployment = hex::encode(deployment);
    let full = Full { bytes: settings.segment_bytes, us: settings.segment_us };
    let mut log = Log::resume(Box::new(directory), key, deployment, full, start, now_us)
        .map_err(|e| Error::io(format!("opening the access log in {}", settings.dir.display()), e))?;
    log.keep_reserve(settings.reserve_bytes);
    Ok((log, recovered))
}

/// Where the chain goes on, and in which segment.
fn survey(dir: &Path, key: &Key) -> Result<(Start, Recovered)> {
    let mut recovered = Recovered::default();
    let mut segments = disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))?;
    let slots = trusted_heads(dir, key, !segments.is_empty(), &mut recovered)?;
    recovered.first = segments.is_empty() && slots.is_none() && recovered.broken.is_none();
    // Segments without a header never held anything durable, unless a hand took it away: then the head tells.
    while let Some((number, path)) =
        segments.pop_if(|(_, path)| !packed::is_packed(path) && starts_after(path).is_none())
    {
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > 0) {
            recovered.torn = Some(set_aside(dir, number, &path, 0)?);
        }
        fs::remove_file(&path).map_err(|e| Error::io(format!("removing the empty {}", path.display()), e))?;
    }
    let mut tip = NOTHING;
    let mut tree = Some(Tree::default());
    if let Some(((number, path), before)) = segments.split_last()
        && let Some((start, frontier)) = starts_after(path)
    {
        // Without a head nothing counts as torn: then a bad record is a break, and nothing is moved.
        let unknown = Head::new(key, u64::MAX, 0, [0; 32]);
        let known = slots.clone().unwrap_or([unknown.clone(), unknown]);
        let frontier = match frontier {
            None => grown(before, path, key, &known, start)?,
            known => known,
        };
        let mut walk = Walk::after(Some(key).into(), &known, start, frontier);
        let walked = walk.segment(*number, path, None);
        (tip, tree) = (walk.tip, walk.tree);
        match walked {
            Ok(()) => {}
            Err(VerifyError::Break(found)) => {
                tree = None;
                recovered.broken = recovered.broken.take().or(Some(found));
            }
            Err(VerifyError::Unreadable(e)) => return Err(e),
        }
        if let Some(offset) = walk.torn_at {
            recovered.torn = Some(set_aside(dir, *number, path, offset)?);
        }
    }
    let newest = segments.last().map_or(0, |(number, _)| *number);
    let end = newest_slot(slots.as_ref(), tip);
    if end.seq > tip.seq {
        // What is missing cannot be signed.
        tree = None;
        let file = disk::segment_name(newest.max(1));
        let cut = Break { file, line: 0, seq: tip.seq + 1, kind: BreakKind::CutTail, anchor: None };
        recovered.broken.get_or_insert(cut);
    }
    Ok((Start { segment: newest + 1, tip: end, tree }, recovered))
}

/// Before the first record.
const NOTHING: Tip = Tip { seq: 0, hash: [0; 32] };

/// The tree before a segment whose header does not tell it, from all records before it; `None` if they do not lead there.
fn grown(before: &[(u64, PathBuf)], segment: &Path, key: &Key, heads: &[Head; 2], start: Tip) -> Result<Option<Tree>> {
    let mut walk = Walk::after(Some(key).into(), heads, NOTHING, Some(Tree::default()));
    match walk.segments(before, Some(segment)) {
        Ok(()) => Ok(walk.tree.filter(|_| walk.tip == start)),
        Err(VerifyError::Break(_)) => Ok(None),
        Err(VerifyError::Unreadable(e)) => Err(e),
    }
}

/// The head's slots, if at least one is whole and ours.
fn trusted_heads(dir: &Path, key: &Key, expected: bool, recovered: &mut Recovered) -> Result<Option<[Head; 2]>> {
    let slots = match heads(dir) {
        Ok(slots) => slots,
        Err(VerifyError::Break(_)) => {
            recovered.broken = Some(head_break(BreakKind::Head));
            // One slot may be torn by a power failure; the other is then whole.
            one_slot(dir).map(|head| [head.clone(), head])
        }
        Err(VerifyError::Unreadable(e)) => return Err(e),
    };
    match slots {
        Some([a, b]) if a.authentic(key) && b.authentic(key) => Ok(Some([a, b])),
        Some(_) => {
            recovered.broken = Some(head_break(BreakKind::Rewritten));
            Ok(None)
        }
        None => {
            if expected && recovered.broken.is_none() {
                recovered.broken = Some(head_break(BreakKind::Head));
            }
            Ok(None)
        }
    }
}

fn head_break(kind: BreakKind) -> Break {
    Break { file: disk::HEAD.into(), line: 0, seq: 0, kind, anchor: None }
}

/// The later of `tip` and the head: chained to the head, a gap stays visible for ever.
fn newest_slot(slots: Option<&[Head; 2]>, tip: Tip) -> Tip {
    let newest = slots.into_iter().flatten().max_by_key(|head| head.seq);
    newest.filter(|head| head.seq > tip.seq).map_or(tip, |head| Tip { seq: head.seq, hash: head.hash })
}

fn one_slot(dir: &Path) -> Option<Head> {
    let bytes = fs::read(dir.join(disk::HEAD)).ok()?;
    bytes.chunks(SLOT).filter_map(|slot| Head::decode(slot).ok()).max_by_key(|head| head.seq)
}

/// The end of the chain before a segment, and the tree, as its header tells them; `None` if it has no whole header.
fn starts_after(path: &Path) -> Option<(Tip, Option<Tree>)> {
    let record = super::verify::first_record(path)?;
    let Kind::Segment(header) = record.kind else { return None };
    let tip = Tip { seq: record.seq.checked_sub(1)?, hash: record.prev };
    Some((tip, header.tree.filter(|tree| tree.size() == tip.seq)))
}

fn set_aside(dir: &Path, number: u64, path: &Path, offset: u64) -> Result<Torn> {
    let fail = |e| Error::io(format!("moving a torn record out of {}", path.display()), e);
    let mut file = File::options().read(true).write(true).open(path).map_err(fail)?;
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(fail)?;
    let name = format!("torn-{number:08}.bin");
    let mut kept = disk::private().create(true).append(true).open(dir.join(&name)).map_err(fail)?;
    std::io::Write::write_all(&mut kept, &tail).map_err(fail)?;
    kept.sync_all().map_err(fail)?;
    file.set_len(offset).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    disk::sync_dir(dir).map_err(fail)?;
    Ok(Torn { bytes: tail.len() as u64, file: name })
}
