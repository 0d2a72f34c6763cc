//! Decisions already made, by hash: bounded, shared by all sessions.
//!
//! Keyed by text, declared types, class, search path, temporary names and rules version; holds no text. A decision
//! under old rules is never found again and leaves with the next eviction.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use super::{Decision, Limits, Request, StepKind, observe};

/// Longer texts are decided anew each time: they are loads, not repeated statements.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Plans with more edits and parameters than this are not kept: one entry stays under about 64 KiB.
const PARTS_MAX: usize = 512;

/// One eviction drops this share of the entries, those not used for longest.
const EVICTED_SHARE: usize = 8;

type Fingerprint = [u8; 32];

/// Decisions by hash. `Sync`; every worker reads it.
#[derive(Debug)]
pub struct Cache {
    entries: DashMap<Fingerprint, Entry, Spread>,
    capacity: usize,
    limits: Limits,
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
        Self::limited(capacity, Limits::default())
    }

    /// The same, of texts within these limits.
    pub fn limited(capacity: usize, limits: Limits) -> Self {
        Self {
            entries: DashMap::with_hasher(Spread),
            capacity,
            limits,
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
            return (observe::decide(request, self.limits), false);
        }
        let key = fingerprint(request);
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.entries.get(&key) {
            entry.used.store(now, Ordering::Relaxed);
            self.hits.fetch_add(1, Ordering::Relaxed);
            // Asked again under the same rules: the catalog was looked up in between, and does not know it either.
            let decision = match &entry.decision {
                Decision::Unknown(plan) => Decision::Pass(plan.clone()),
                other => other.clone(),
            };
            return (decision, true);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let decision = observe::decide(request, self.limits);
        if kept(&decision, request) {
            if self.entries.len() >= self.capacity {
                self.evict();
            }
            self.entries.insert(key, Entry { decision: decision.clone(), used: AtomicU64::new(now) });
        }
        (decision, false)
    }

    /// Drops the eighth of the entries that was not used for longest, in one pass.
    fn evict(&self) {
        let mut used: Vec<u64> = self.entries.iter().map(|entry| entry.used.load(Ordering::Relaxed)).collect();
        if used.is_empty() {
            return;
        }
        let dropped = used.len() / EVICTED_SHARE;
        let (_, oldest_kept, _) = used.select_nth_unstable(dropped);
        let oldest_kept = *oldest_kept;
        // With very few entries the share is none; the oldest goes all the same.
        let bound = if dropped == 0 { oldest_kept + 1 } else { oldest_kept };
        self.entries.retain(|_, entry| entry.used.load(Ordering::Relaxed) >= bound);
    }
}

/// What is large is a load, not a repeated statement. What names something unknown beside protected tables, or for a
/// class that may not see everything, is asked again each time.
fn kept(decision: &Decision, request: &Request<'_>) -> bool {
    match decision {
        Decision::Unknown(plan) => {
            let touches = !plan.edits.is_empty() || plan.steps.iter().any(|step| !step.touches.is_empty());
            !touches && !request.rules.class(request.class).restricted()
        }
        Decision::Refuse(_) => true,
        // A report is asked for once, and long.
        Decision::Act(plan) if plan.steps.iter().any(|step| step.kind == StepKind::Report) => false,
        Decision::Pass(plan) | Decision::Act(plan) => {
            plan.edits.len() + plan.parameters.len() + plan.hidden.len() + plan.steps.len() <= PARTS_MAX
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
    text(&request.keys.to_le_bytes());
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
