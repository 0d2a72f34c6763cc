//! Decisions already made, by hash: bounded, shared by all sessions.
//!
//! Keyed by text, declared types, class, search path, temporary names and rules version; holds no text. A decision
//! under old rules is never found again and leaves with the next eviction.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use super::{Decision, Request, decide};

/// Longer texts are decided anew each time: they are loads, not repeated statements.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// One eviction looks at this many entries and drops the one not used for longest.
const SAMPLE: usize = 8;

type Fingerprint = [u8; 32];

/// Decisions by hash. `Sync`; every worker reads it.
#[derive(Debug)]
pub struct Cache {
    entries: DashMap<Fingerprint, Entry, Spread>,
    capacity: usize,
    clock: AtomicU64,
    /// Decisions found.
    pub hits: AtomicU64,
    /// Decisions made.
    pub misses: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    decision: Decision,
    used: AtomicU64,
}

impl Cache {
    /// A cache of at most about `capacity` decisions; 0 keeps none.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: DashMap::with_hasher(Spread),
            capacity,
            clock: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How many decisions are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What to do with the text. Never panics, whatever the text.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        self.look_up(request).0
    }

    /// The same, and whether it was found.
    pub fn look_up(&self, request: &Request<'_>) -> (Decision, bool) {
        if self.capacity == 0 || request.sql.len() > TEXT_BYTES_MAX {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return (decide::decide(request), false);
        }
        let key = fingerprint(request);
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.entries.get(&key) {
            entry.used.store(now, Ordering::Relaxed);
            self.hits.fetch_add(1, Ordering::Relaxed);
            return (entry.decision.clone(), true);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let decision = decide::decide(request);
        // What the snapshot does not know is asked again once it does.
        if !matches!(decision, Decision::Unknown(_)) {
            self.entries.insert(key, Entry { decision: decision.clone(), used: AtomicU64::new(now) });
            while self.entries.len() > self.capacity {
                self.evict(key[0]);
            }
        }
        (decision, false)
    }

    /// Drops the least recently used of a few entries.
    fn evict(&self, start: u8) {
        let len = self.entries.len().max(1);
        let skip = usize::from(start) % len.saturating_sub(SAMPLE).max(1);
        let victim = self
            .entries
            .iter()
            .skip(skip)
            .take(SAMPLE)
            .min_by_key(|entry| entry.used.load(Ordering::Relaxed))
            .map(|entry| *entry.key());
        if let Some(victim) = victim {
            self.entries.remove(&victim);
        }
    }
}

/// Everything a decision depends on.
fn fingerprint(request: &Request<'_>) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut text = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    text(request.sql.as_bytes());
    for oid in request.parameter_oids {
        text(&oid.to_le_bytes());
    }
    text(&[u8::from(request.extended)]);
    text(&request.class.0.to_le_bytes());
    text(&request.rules.version.to_le_bytes());
    for schema in request.search_path {
        text(schema.as_bytes());
    }
    text(b"");
    if !request.temporary.is_empty() {
        let mut names: Vec<&str> = request.temporary.iter().map(String::as_str).collect();
        names.sort_unstable();
        for name in names {
            text(name.as_bytes());
        }
    }
    hash.finalize().into()
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Spread;

impl BuildHasher for Spread {
    type Hasher = First;

    fn build_hasher(&self) -> First {
        First(0)
    }
}

/// Takes the first eight bytes of what it is given as the hash.
struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}
