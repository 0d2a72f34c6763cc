//! The access log: hash-chained, signed segments on local disk, and what checks them.
//!
//! In: [`crate::event::Event`]s from the desk. Out: files; [`verify`] reads them offline. Never: a value (events have
//! no field for one), a silent repair, a dropped record.
//!
//! # Format, version 1
//!
//! A directory (0700) of segments `access-00000001.jsonl`, … (0600), a file `head`, a file `lock`. A segment is JSON
//! lines; every line is one record:
//!
//! ```text
//! {"v":1,"seq":7,"prev":"<hash of record 6>",PAYLOAD,"hash":"<64 hex digits>"}
//! ```
//!
//! `hash` is SHA-256 over the line's bytes before `,"hash"`, so it covers `prev` and with it everything earlier; any
//! sha256sum can follow the chain. `seq` counts records from 1 through all segments; the first `prev` is zeros.
//! PAYLOAD is one of
//!
//! - `"segment":{number, deployment, key, created_us[, salvaged][, tree]}`, the first record of every segment. `key`
//!   names the audit key without telling it. `tree` is the Merkle tree (below) over all records before, as `{size,
//!   peaks}`, so that a start need not read them: the roots of its full subtrees, largest first, as hex digits. `salvaged` says that the segment before was given up after a failed fsync: what it
//!   holds at or past this record's `seq` was never acknowledged and is repeated here.
//! - `"event":{…}`, a [`crate::event::Event`].
//! - `"checkpoint":{at_us, mac}` at the end of every group commit: `mac` = HMAC-SHA-256(audit key,
//!   `"pgveil1/log-checkpoint\0"` ‖ deployment as written ‖ u64 seq ‖ prev). Whoever rewrites the whole chain without
//!   the key fails here.
//! - `"signed":{note}`, last in a group commit when the newest one is a second or 10,000 records old, in a segment and in
//!   a run. `note` is a C2SP tlog-checkpoint ([`Note`]) of the origin `pgveil.log/<deployment>`: size and root of the
//!   RFC 6962 Merkle tree whose leaves are the lines of all records before this one, without their newlines, through all
//!   segments. Its Ed25519 seed is HMAC-SHA-256(audit key, `"pgveil1/log-sign\0"`). Whoever has the public key can check
//!   the log and cannot make one.
//!
//! `tree` and `signed` came later, and the version stayed 1: a log may begin without them, and the first start by a
//! pgveil that knows them reads all of it once. An older pgveil reads headers with a `tree`, and stops at the first
//! `signed` record as a break, touching nothing; a segment of another version it would take for torn and move away.
//! Behind a gap in the log nothing is signed, for what is missing has no leaf.
//!
//! `head` is two 512-byte slots written in turn after each group commit, each naming the newest durable record under
//! its own MAC: a log that ends before it was cut. Only records after the head (at most the last group commit, or
//! after a power failure the last second) can be missing unnoticed, and none of them was acknowledged as durable.
//! What a hand with write access to the directory can still do is put back an older copy of *all* of it. That takes a
//! witness elsewhere to notice: anchors ([`AnchorFile`]), files on other machines that signed notes are appended to.
//!
//! A file `reserve` holds room and no information: when the disk is full it is given back, so that this and what is refused
//! meanwhile can still be written; it is made again when there is room.
//!
//! A closed segment may be compressed: `access-00000001.jsonl.zst`, one zstd frame and a trailer ([`packed`] has the form). It
//! is read back and compared before the plain one is removed; where both are there the plain one counts.
//!
//! Whole segments may be pruned from the oldest on. A file `pruned` then stands for them, signed ([`Pruned`] has the form): the
//! chain begins after its last record, the tree with its peaks. Segments that it stands for no longer count.
//! An older pgveil takes compressed and pruned segments for missing ones when it verifies; it goes on with such a log, whose
//! newest segment is always plain, and touches neither.
//!
//! Each start opens a new segment. A torn tail (the process or machine died in mid-write) is moved to
//! `torn-<segment>.bin`, and the `start` event says so. If the head names more than the files hold, the new segment
//! is chained to the head, so [`verify`] will always find the gap.

mod alerts;
mod anchor;
mod disk;
mod durable;
mod lines;
mod note;
mod observed;
mod packed;
mod proof;
mod prove;
mod prune;
mod reader;
mod record;
mod recover;
mod syslog;
mod tree;
mod verify;
mod who;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

pub use alerts::Alerts;
pub use anchor::{Anchor, AnchorFile, AnchorPlace, anchors};
pub use durable::{Batch, Durable, Kept, Position, durable_seq, instance};
pub use note::{Note, Unproven, VerifierKey};
pub use observed::{Observed, Shape, Summary, Total};
pub use packed::{Compressed, compress_next};
pub use proof::{GrowthProof, RecordProof, Unconvincing};
pub use prove::{prove_growth, prove_record};
pub use prune::{Keep, Prunable, Pruned, PrunedPart, Until, prunable, prune};
pub use reader::{Events, Follow, events_since, last_events};
pub use recover::{Recovered, Torn, open};
pub use syslog::Syslog;
pub use verify::{Break, BreakKind, Report, Trust, VerifyError, verify};
pub use who::{Found, Search, Seen, Tables, UNFINISHED, Unknown, unfinished, who_saw};
pub use writer::{Log, Written};

/// `[audit]`, as far as the files are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The log's directory.
    pub dir: PathBuf,
    /// A segment is closed when it has reached this many bytes.
    pub segment_bytes: u64,
    /// … or by the first group commit this long after it was begun, microseconds.
    pub segment_us: u64,
    /// Room that is held for what must be written although the disk is full.
    pub reserve_bytes: u64,
}

impl Settings {
    /// The default size of a segment.
    pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
    /// The default age of a segment: a day.
    pub const SEGMENT_US: u64 = 24 * 3_600 * 1_000_000;
    /// The default reserve: more than a group commit can hold.
    pub const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

    /// A log in that directory, the rest by default.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: Self::SEGMENT_BYTES,
            segment_us: Self::SEGMENT_US,
            reserve_bytes: Self::RESERVE_BYTES,
        }
    }
}
