//! The writer's side of the chain: append, flush, sync, rotate, go on after a failure.
//!
//! In: events. Out: lines in the current segment and the head beside it. Never: an event lost; what is not known to
//! be on the device stays in memory until it is.

use std::io;

use super::disk::{Disk, Sink, segment_name};
use super::note::{Note, Signer, VerifierKey};
use super::record::{self, Checkpoint, Hash, Head, Payload, SLOT, SegmentHeader, Signed};
use super::tree::{self, Tree};
use crate::event::Event;
use crate::secret::Key;

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

/// Where a log goes on.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// The segment to be made.
    pub(super) segment: u64,
    /// The newest record.
    pub(super) tip: Tip,
    /// Over all records to the newest; `None` behind a gap, where nothing can be signed.
    pub(super) tree: Option<Tree>,
}

/// When a segment is closed and another begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub(super) bytes: u64,
    pub(super) us: u64,
}

/// What one commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An open log. Blocking; owned by one thread.
///
/// Invariants: `durable.seq <= flushed tip <= tip.seq`; `pending` holds every record after `durable`; the size of a tree
/// is the `seq` of the tip that it stands beside; `signed <= durable.seq`.
pub struct Log {
    disk: Box<dyn Disk>,
    key: Key,
    deployment: String,
    full: Full,
    segment: u64,
    begun_us: i64,
    /// `None` after a failed fsync: what the file holds is unknown, the next commit opens another segment.
    sink: Option<Box<dyn Sink>>,
    head: Box<dyn Sink>,
    slot: u64,
    head_synced_us: i64,
    tip: Tip,
    durable: Tip,
    durable_len: u64,
    signer: Signer,
    tree: Option<Tree>,
    durable_tree: Option<Tree>,
    /// Sequence number and time of the newest durable signature.
    signed: u64,
    signed_us: i64,
    /// What it says, until somebody takes it.
    note: Option<Note>,
    /// Lines after `durable`, of which the first `flushed` bytes are in the file.
    pending: Vec<u8>,
    flushed: usize,
    /// Records in `pending` and not yet reported by a [`Written`].
    unreported: u64,
    salvaging: bool,
    reserve: Reserve,
}

/// Room on the device for what must be written although it is full.
#[derive(Clone, Copy, Debug, Default)]
struct Reserve {
    bytes: u64,
    held: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("segment", &self.segment).field("seq", &self.tip.seq).finish_non_exhaustive()
    }
}

/// The head is fsynced at most this often: it only bounds what a power failure can hide.
const HEAD_SYNC_US: u64 = 1_000_000;
/// A group commit ends with a signature if the newest one is that old …
const SIGN_US: u64 = 1_000_000;
/// … or that many records ago.
const SIGN_RECORDS: u64 = 10_000;

impl Log {
    /// Continues the chain in a new segment, whose header is the first pending record.
    pub(super) fn resume(
        mut disk: Box<dyn Disk>,
        key: Key,
        deployment: String,
        full: Full,
        start: Start,
        now_us: i64,
    ) -> io::Result<Self> {
        let Start { segment, tip, tree } = start;
        let sink = disk.create(&segment_name(segment))?;
        // Both slots are valid from the first byte on, so that a broken slot always means a torn write or a hand.
        let slots = Head::new(&key, tip.seq, segment, tip.hash).encode()?.repeat(2);
        let head = disk.replace(super::disk::HEAD, &slots)?;
        let signer = Signer::new(&key, &deployment);
        let mut log = Self {
            disk,
            key,
            deployment,
            full,
            segment,
            begun_us: now_us,
            sink: Some(sink),
            head,
            slot: 0,
            head_synced_us: now_us,
            tip,
            durable: tip,
            durable_len: 0,
            signer,
            durable_tree: tree.clone(),
            tree,
            signed: tip.seq,
            signed_us: now_us,
            note: None,
            pending: Vec::new(),
            flushed: 0,
            unreported: 0,
            salvaging: false,
            reserve: Reserve::default(),
        };
        log.begin_segment(now_us);
        Ok(log)
    }

    /// From now on that much room is held. Where there is none, [`Log::is_cramped`].
    pub(super) fn keep_reserve(&mut self, bytes: u64) {
        self.reserve = Reserve { bytes, held: false };
        // Told by `is_cramped`, and tried again by whoever asks.
        let _ = self.make_reserve();
    }

    /// The room that should be held is not.
    pub fn is_cramped(&self) -> bool {
        self.reserve.bytes > 0 && !self.reserve.held
    }

    /// Holds the room again, if there is that much.
    ///
    /// # Errors
    /// There is not.
    pub fn make_reserve(&mut self) -> io::Result<()> {
        if self.is_cramped() {
            self.disk.set_aside(self.reserve.bytes)?;
            self.reserve.held = true;
        }
        Ok(())
    }

    /// Gives the held room to the log; whether there was any.
    pub fn release_reserve(&mut self) -> bool {
        std::mem::take(&mut self.reserve.held) && self.disk.release().is_ok()
    }

    /// What it is checked with.
    pub fn keys(&self) -> (Key, VerifierKey) {
        (self.key.clone(), self.signer.public())
    }

    /// Adds an event to the chain, in memory.
    pub fn append(&mut self, event: &Event) {
        self.push(Payload::Event(event));
    }

    /// Bytes not yet known to be on the device.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Every record is on the device.
    pub fn is_durable(&self) -> bool {
        self.pending.is_empty()
    }

    /// Every record is on the device, and a durable signature covers it.
    pub fn is_signed(&self) -> bool {
        self.is_durable() && (self.tree.is_none() || self.signed >= self.durable.seq)
    }

    /// The newest durable signed checkpoint, once.
    pub fn take_note(&mut self) -> Option<Note> {
        self.note.take()
    }

    /// Sequence number of the newest record.
    pub fn seq(&self) -> u64 {
        self.tip.seq
    }

    /// Sequence number of the newest record on the device.
    pub fn durable(&self) -> u64 {
        self.durable.seq
    }

    /// Hands pending records to the operating system; they survive the process, not the machine.
    ///
    /// # Errors
    /// The write failed: nothing is lost, call again.
    pub fn flush(&mut self, now_us: i64) -> io::Result<Written> {
        if self.sink.is_none() {
            self.salvage(now_us)?;
        }
        let Some(sink) = self.sink.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let fresh = &self.pending[self.flushed..];
        if fresh.is_empty() {
            return Ok(Written::default());
        }
        let at = self.durable_len + self.flushed as u64;
        if let Err(error) = sink.write_at(fresh, at) {
            // Half a record must not stay behind it if the process dies before the retry; when cutting fails too,
            // the retry overwrites the same offset.
            let _ = sink.truncate(at);
            return Err(error);
        }
        let written = Written { records: std::mem::take(&mut self.unreported), bytes: fresh.len() as u64 };
        self.flushed = self.pending.len();
        Ok(written)
    }

    /// Writes a checkpoint, and a signature when one is due, and returns when every record is on the device; then
    /// rotates if the segment is full or old.
    ///
    /// # Errors
    /// The write or fsync failed: nothing is lost, call again. After a failed fsync the segment is given up, and
    /// the next call repeats its unacknowledged records in another one.
    pub fn sync(&mut self, now_us: i64) -> io::Result<Written> {
        self.commit(now_us, false)
    }

    /// `last`: sign whatever is not, and begin nothing new.
    fn commit(&mut self, now_us: i64, last: bool) -> io::Result<Written> {
        if self.is_durable() && (self.is_signed() || !(last || self.sign_due(now_us))) {
            return Ok(Written::default());
        }
        if self.sink.is_none() {
            self.salvage(now_us)?;
        }
        let before = (self.tip, self.tree.clone(), self.pending.len(), self.unreported);
        let mac = record::checkpoint_mac(&self.key, &self.deployment, self.tip.seq + 1, &self.tip.hash);
        self.push(Payload::Checkpoint(&Checkpoint { at_us: now_us, mac }));
        let old = now_us.abs_diff(self.begun_us) >= self.full.us;
        let full = old || self.durable_len + self.pending.len() as u64 >= self.full.bytes;
        let note = if full || last || self.sign_due(now_us) { self.sign() } else { None };
        let written = match self.flush(now_us) {
            Ok(written) => written,
            Err(error) => {
                // The retry makes its own checkpoint and signature.
                self.pending.truncate(before.2);
                (self.tip, self.tree, self.unreported) = (before.0, before.1, before.3);
                return Err(error);
            }
        };
        if let Some(sink) = self.sink.as_mut()
            && let Err(error) = sink.sync()
        {
            let _ = sink.truncate(self.durable_len);
            self.sink = None;
            return Err(error);
        }
        self.durable = self.tip;
        self.durable_tree.clone_from(&self.tree);
        self.durable_len += self.pending.len() as u64;
        self.pending.clear();
        self.flushed = 0;
        if note.is_some() {
            (self.signed, self.signed_us, self.note) = (self.durable.seq, now_us, note);
        }
        self.write_head(now_us)?;
        if !last && (old || self.durable_len >= self.full.bytes) {
            self.rotate(now_us);
        }
        Ok(written)
    }

    fn sign_due(&self, now_us: i64) -> bool {
        // Either way: the clock may have been set back.
        now_us.abs_diff(self.signed_us) >= SIGN_US || self.tip.seq - self.signed >= SIGN_RECORDS
    }

    /// Signs every record so far, if they are all known.
    fn sign(&mut self) -> Option<Note> {
        let tree = self.tree.as_ref()?;
        let note = self.signer.sign(tree.size(), tree.root());
        self.push(Payload::Signed(&Signed { note: note.to_string() }));
        Some(note)
    }

    fn push(&mut self, payload: Payload<'_>) {
        let seq = self.tip.seq + 1;
        let start = self.pending.len();
        let hash = record::encode(seq, &self.tip.hash, payload, &mut self.pending);
        if let Some(tree) = &mut self.tree
            && let Some((_newline, line)) = self.pending[start..].split_last()
        {
            tree.push(tree::leaf(line));
        }
        self.tip = Tip { seq, hash };
        self.unreported += 1;
    }

    fn begin_segment(&mut self, now_us: i64) {
        self.begun_us = now_us;
        let header = SegmentHeader {
            number: self.segment,
            deployment: self.deployment.clone(),
            key: record::key_name(&self.key),
            created_us: now_us,
            salvaged: std::mem::take(&mut self.salvaging),
            tree: self.tree.clone(),
        };
        self.push(Payload::Segment(&header));
    }

    /// A segment that cannot be made leaves the full one in use; the next sync tries again.
    fn rotate(&mut self, now_us: i64) {
        if let Ok(sink) = self.disk.create(&segment_name(self.segment + 1)) {
            self.segment += 1;
            self.sink = Some(sink);
            self.durable_len = 0;
            self.begin_segment(now_us);
        }
    }

    /// Opens another segment after a failed fsync and chains the pending events anew after the last durable record.
    fn salvage(&mut self, now_us: i64) -> io::Result<()> {
        let sink = self.disk.create(&segment_name(self.segment + 1))?;
        let old = std::mem::take(&mut self.pending);
        self.segment += 1;
        self.sink = Some(sink);
        self.durable_len = 0;
        self.flushed = 0;
        self.unreported = 0;
        self.tip = self.durable;
        self.tree.clone_from(&self.durable_tree);
        self.salvaging = true;
        self.begin_segment(now_us);
        for line in old.split(|byte| *byte == b'\n') {
            // Checkpoints and signatures vouch for a chain that no longer is; headers belong to the old segment.
            if let Ok(payload) = record::payload(line)
                && payload.starts_with(b"\"event\"")
            {
                self.push(Payload::Raw(payload));
            }
        }
        Ok(())
    }

    fn write_head(&mut self, now_us: i64) -> io::Result<()> {
        let head = Head::new(&self.key, self.durable.seq, self.segment, self.durable.hash);
        self.head.write_at(&head.encode()?, (self.slot % 2) * SLOT as u64)?;
        self.slot += 1;
        // Either way: the clock may have been set back.
        if now_us.abs_diff(self.head_synced_us) >= HEAD_SYNC_US {
            self.head.sync()?;
            self.head_synced_us = now_us;
        }
        Ok(())
    }

    /// Makes everything durable and signed, the head included.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn close(&mut self, now_us: i64) -> io::Result<Written> {
        let written = self.commit(now_us, true)?;
        self.head.sync()?;
        Ok(written)
    }
}
