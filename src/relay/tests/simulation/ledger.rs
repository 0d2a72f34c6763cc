//! What the simulated world knows, and what happened in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use super::rules::{RING, RULES};
use crate::crypto::Keyring;
use crate::desk::AuditDown;
use crate::detect::Gate;
use crate::event::{Event, EventKind};
use crate::metrics::Meters;
use crate::plan;
use crate::policy::rules::{ClassId, Rules};
use crate::relay::cancel::Registry;
use crate::relay::drain::Drain;
use crate::relay::mind::Receipt;

/// The role that sees everything under the first rules.
pub(super) const CLEARED: &str = "app";

/// The same database under rules by which that role sees masks.
static LATER: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let mut later = Rules::clone(&RULES);
    later.version += 1;
    later.class_of.insert(CLEARED.to_owned(), ClassId(2));
    Arc::new(later)
});

/// Keys that open nothing of what is stored.
static OTHER_RING: LazyLock<Keyring> = LazyLock::new(|| {
    let columns = [
        (1, "public.users.email"),
        (2, "public.users.full_name"),
        (3, "public.accounts.pin"),
        (4, "public.accounts.birth"),
    ];
    Keyring::for_tests(&[2; 32], "app", &columns).unwrap()
});

/// Everything that hosts share: they run on one thread, one at a time.
#[derive(Debug)]
pub(super) struct World {
    pub(super) ledger: Arc<Ledger>,
    pub(super) desk: Desk,
    pub(super) lines: Lines,
    pub(super) drain: Arc<Drain>,
    pub(super) cancels: Arc<Registry>,
    pub(super) meters: Meters,
    pub(super) gate: Gate,
    pub(super) plans: plan::Cache,
    later: AtomicBool,
    keyed: AtomicBool,
    rng: Mutex<StdRng>,
    over: Arc<Notify>,
}

impl World {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let ledger = Arc::new(Ledger::default());
        Self {
            ledger: ledger.clone(),
            desk: Desk::new(ledger, rng),
            lines: Lines::default(),
            drain: Arc::new(Drain::default()),
            cancels: Arc::default(),
            meters: Meters::detached(),
            gate: Gate::default(),
            plans: plan::Cache::new(256),
            later: AtomicBool::new(false),
            // The provider of keys is slow in one run of eight, and in some of those it never comes.
            keyed: AtomicBool::new(rng.random_range(0..8) > 0),
            rng: Mutex::new(StdRng::seed_from_u64(rng.random())),
            over: Arc::default(),
        }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        if self.later.load(Ordering::Relaxed) { LATER.clone() } else { RULES.clone() }
    }

    pub(super) fn ring(&self) -> &'static Keyring {
        if self.keyed.load(Ordering::Relaxed) { &RING } else { &OTHER_RING }
    }

    pub(super) fn change_rules(&self) {
        self.later.store(true, Ordering::Relaxed);
    }

    pub(super) fn bring_keys(&self) {
        self.keyed.store(true, Ordering::Relaxed);
    }

    /// Once clients have gone, or some seconds after the drain has begun.
    pub(super) fn draining_ends(&self) {
        self.over.notify_one();
    }

    /// Waits until a drain has begun.
    pub(super) async fn drain_begins(&self) {
        self.over.notified().await;
    }

    /// The role is in the clear under the rules in force.
    pub(super) fn clears(&self, role: &str) -> bool {
        role == CLEARED && !self.later.load(Ordering::Relaxed)
    }

    pub(super) fn chance(&self, probability: f64) -> bool {
        self.dice().random_bool(probability)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.dice().random_range(0..bound)
    }

    pub(super) fn dice(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap()
    }
}

/// TCP knows nothing of a link that is lost but by what it does not hear: connections made before are dead, and are
/// found to be so by keepalive.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<HashMap<String, u64>>);

impl Lines {
    pub(super) fn cut(&self, name: &str) {
        *self.0.lock().unwrap().entry(name.to_owned()).or_default() += 1;
    }

    /// How often that link has been cut so far.
    pub(super) fn cuts(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: AtomicUsize,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Intents on the device: connection, statement, and its text without constants.
    durable: BTreeMap<(u64, u64), String>,
    /// Outcomes: statements that ended or were refused.
    outcomes: BTreeSet<(u64, u64)>,
    /// Process ids whose cancel was asked for with the right key.
    cancels: BTreeSet<u32>,
    trace: Vec<String>,
    /// What did not hold in a task of some host.
    broken: Option<String>,
}

impl Ledger {
    pub(super) fn session_begins(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn session_ends(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn durable(&self, event: &Event) {
        assert_eq!(event.kind, EventKind::Intent);
        let text = event.action().text.as_deref().unwrap_or_default().to_owned();
        let mut told = self.told();
        told.trace.push(format!("Intent of session {}, statement {}: {text}", event.connection, event.statement));
        told.durable.insert((event.connection, event.statement), text);
    }

    pub(super) fn event(&self, event: &Event) {
        let mut told = self.told();
        told.trace.push(format!(
            "{:?} of session {}, statement {}: {}",
            event.kind,
            event.connection,
            event.statement,
            event.sqlstate.as_deref().unwrap_or("ok")
        ));
        if matches!(event.kind, EventKind::Statement | EventKind::Refused) {
            told.outcomes.insert((event.connection, event.statement));
        }
    }

    /// The intent of the statement with that word in it is durable. Words are of one statement each.
    pub(super) fn is_durable(&self, word: &str) -> bool {
        self.told()
            .durable
            .values()
            .any(|text| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word))
    }

    pub(super) fn cancel_asked(&self, pid: u32) {
        self.told().cancels.insert(pid);
    }

    pub(super) fn cancelled(&self, pid: u32) {
        assert!(self.told().cancels.contains(&pid), "a cancel reached backend {pid}, for which nobody has asked");
    }

    pub(super) fn note(&self, what: String) {
        self.told().trace.push(what);
    }

    /// A task of a host; what does not hold in it fails the run.
    pub(super) fn watch(self: &Arc<Self>, task: impl Future<Output = ()> + 'static) {
        let (ledger, task) = (self.clone(), tokio::task::spawn_local(task));
        tokio::task::spawn_local(async move {
            let Err(ended) = task.await else { return };
            if let Ok(panic) = ended.try_into_panic() {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
                ledger.told().broken.get_or_insert(why.unwrap_or_default());
            }
        });
    }

    /// Whether all that tasks have asserted held so far.
    pub(super) fn holds(&self) -> Result<(), String> {
        self.told().broken.clone().map_or(Ok(()), Err)
    }

    /// After all sessions have ended.
    pub(super) fn judge(&self) {
        let told = self.told();
        for (statement, text) in &told.durable {
            assert!(told.outcomes.contains(statement), "an intent without outcome: {statement:?} {text}");
        }
    }

    pub(super) fn trace(&self) -> String {
        self.told().trace.join("\n")
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }
}

/// How the log's disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    /// Every record in so many milliseconds at most.
    Fit(u64),
    /// Full from the first to the second: what waits is written then.
    FullFor(Duration, Duration),
    /// Full from then on, and what waits is told so.
    Denies(Duration),
    /// Full from then on, for as long as anybody waits.
    Full(Duration),
}

/// The desk, as far as sessions see it.
#[derive(Debug)]
pub(super) struct Desk {
    ledger: Arc<Ledger>,
    disk: Disk,
    /// One event in so many finds the queue full.
    crowded: u64,
    rng: Mutex<StdRng>,
    relief: Arc<Notify>,
    relieved: Arc<AtomicBool>,
}

impl Desk {
    fn new(ledger: Arc<Ledger>, rng: &mut StdRng) -> Self {
        let from = Duration::from_millis(rng.random_range(0..1_500));
        let disk = match rng.random_range(0..8) {
            0 => Disk::FullFor(from, from + Duration::from_millis(rng.random_range(100..6_000))),
            1 => Disk::Denies(from),
            2 => Disk::Full(from),
            3 | 4 => Disk::Fit(400),
            _ => Disk::Fit(8),
        };
        let crowded = rng.random_range(2..40);
        let rng = Mutex::new(StdRng::seed_from_u64(rng.random()));
        Self { ledger, disk, crowded, rng, relief: Arc::default(), relieved: Arc::default() }
    }

    /// There is room on the disk from now on.
    pub(super) fn relieve(&self) {
        self.relieved.store(true, Ordering::Relaxed);
        self.relief.notify_waiters();
    }

    pub(super) fn intend(&self, event: Box<Event>) -> Receipt {
        let took = |most: u64| Duration::from_millis(self.rng.lock().unwrap().random_range(0..=most));
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let ledger = self.ledger.clone();
        let (wait, full, denied) = match self.disk {
            Disk::Fit(most) => (took(most), false, false),
            Disk::FullFor(from, to) if now >= from && now < to => (to - now, false, false),
            Disk::Denies(from) if now >= from => (took(20), false, true),
            Disk::Full(from) if now >= from => (Duration::ZERO, true, false),
            Disk::FullFor(..) | Disk::Denies(_) | Disk::Full(_) => (took(8), false, false),
        };
        let (relief, relieved) = (self.relief.clone(), self.relieved.clone());
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            if full {
                let room = relief.notified();
                if !relieved.load(Ordering::Relaxed) {
                    room.await;
                }
            }
            if denied {
                return Err(AuditDown);
            }
            ledger.durable(&event);
            Ok(())
        })
    }

    pub(super) fn record(&self, event: &Event) -> Option<Receipt> {
        self.ledger.event(event);
        let mut rng = self.rng.lock().unwrap();
        let wait = Duration::from_millis(rng.random_range(1..200));
        (rng.random_range(0..self.crowded) == 0).then(|| {
            Box::pin(async move {
                tokio::time::sleep(wait).await;
                Ok(())
            }) as Receipt
        })
    }
}
