//! Reads pg_catalog on the control connection and keeps the rules fresh.
//!
//! In: the control connection, the policy's files, the keyring's column ids. Out: immutable [`Rules`] snapshots behind
//! one atomic pointer, each swap announced; an event for every policy loaded or refused. Never: a swap to rules that
//! do not compile (the old ones stay and the reason is logged), a look-up without a deadline, a second writer.

mod acting;
mod backends;
mod bypass;
mod connect;
mod explained;
mod files;
mod keep;
mod line;
mod load;
mod origins;
mod queries;
mod reach;
mod trust;
pub mod ways;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

pub use acting::Acting;
pub use backends::{Backends, Ticket};
pub use connect::{Connect, ask, control};
pub use explained::{leading_index, search_path};
pub use files::read as read_policy;
pub use line::Line;
pub use load::{fingerprint, load, read, system_identifier};
pub use queries::{CHANNEL, SETTINGS};
pub use trust::{accepted, masked, trust};

use crate::clock::Now;
use crate::crypto::{Keyring, SealMode};
use crate::error::{Error, Result};
use crate::policy::problem::render;
use crate::policy::rules::{Mode, Rules};
use crate::policy::{self, Policy};
use crate::sql::schema::Schema;

/// What the keeper works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The control connection.
    pub connect: Connect,
    /// The policy: a file or a folder.
    pub policy: PathBuf,
    /// How often the catalog's fingerprint is compared when nothing notifies.
    pub poll: Duration,
}

/// How often the catalog's fingerprint is compared unless the settings say otherwise.
pub const POLL: Duration = Duration::from_secs(2);

/// The rules in force, and the only one who changes them. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("version", &self.rules().version).field("ready", &self.ready()).finish()
    }
}

type LoadKeys = dyn Fn() -> Result<Keyring> + Send + Sync;

struct Shared {
    settings: Settings,
    keyring: ArcSwap<Keyring>,
    /// Reads the keyring file again.
    keys: OnceLock<Arc<LoadKeys>>,
    rules: ArcSwap<Rules>,
    /// The files that [`Keeper::load`] read, as they were before, and what stood in them; for the task that watches.
    first: Mutex<Option<(files::Stamp, Policy)>>,
    versions: watch::Sender<u64>,
    /// Look-ups asked for so far.
    asked: AtomicU64,
    /// The newest look-up that was asked for before a finished load began.
    answered: watch::Sender<u64>,
    /// Wakes the task: a look-up was asked for, or the server notified.
    wake: Arc<Notify>,
    /// The catalog may have changed, and nobody waits to know.
    nudge: Notify,
    reload: Notify,
    /// There are rules: policy and catalog have been loaded once.
    loaded: AtomicBool,
    connected: AtomicBool,
    sound: AtomicBool,
    /// When the catalog was last compared, microseconds since the epoch.
    read_us: AtomicI64,
    /// Attempts to read it that failed.
    failures: AtomicU64,
    /// Behind this proxy's sessions.
    backends: Arc<Backends>,
    /// Who is connected past the proxy cannot be seen.
    blind: AtomicBool,
}

impl Keeper {
    /// Reads the policy. Until [`Keeper::load`] has compiled it with the catalog there are no rules by which anybody
    /// could be served.
    ///
    /// # Errors
    /// Every problem of the policy that shows without the database.
    pub fn new(settings: Settings, keyring: Arc<Keyring>) -> Result<Keeper> {
        let rules = Rules::none(parse(&settings)?.detect);
        let shared = Shared {
            settings,
            keyring: ArcSwap::new(keyring),
            keys: OnceLock::new(),
            rules: ArcSwap::from_pointee(rules),
            first: Mutex::new(None),
            versions: watch::Sender::new(0),
            asked: AtomicU64::new(0),
            answered: watch::Sender::new(0),
            wake: Arc::new(Notify::new()),
            nudge: Notify::new(),
            reload: Notify::new(),
            loaded: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            sound: AtomicBool::new(false),
            read_us: AtomicI64::new(0),
            failures: AtomicU64::new(0),
            backends: Arc::default(),
            blind: AtomicBool::new(false),
        };
        Ok(Keeper { shared: Arc::new(shared) })
    }

    /// Connects, loads policy and catalog, and compiles the first rules. Nothing is watched yet: see [`Keeper::watch`].
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it is worth another attempt; else every problem of the policy, or the control
    /// connection's.
    pub async fn load(&self) -> Result<()> {
        let shared = &self.shared;
        let stamp = files::stamp(&shared.settings.policy);
        let policy = parse(&shared.settings)?;
        let client = shared.settings.connect.open(Arc::new(Notify::new())).await?;
        let schema = Arc::new(load(&client).await?);
        let mut rules = match compile(&policy, schema.clone(), &shared.keyring.load(), 1) {
            // `pgveil apply` may have made ids since the keyring was read.
            Err(_) if self.reload_keys().await => compile(&policy, schema, &shared.keyring.load(), 1)?,
            done => done?,
        };
        trust(Some(&client), &mut rules).await?;
        shared.rules.store(Arc::new(rules));
        *shared.first.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, policy));
        shared.versions.send_replace(1);
        shared.read_us.store(Now::read().unix_us, Ordering::Release);
        for fact in [&shared.connected, &shared.sound, &shared.loaded] {
            fact.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// There are rules. Before that nobody may be let in.
    pub fn loaded(&self) -> bool {
        self.shared.loaded.load(Ordering::Acquire)
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.shared.rules.load_full()
    }

    /// The keys that belong to the rules in force.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.shared.keyring.load_full()
    }

    /// How the keyring file is read again: on SIGHUP, and when the catalog shows a column that the keyring does not
    /// know (`pgveil apply` has run). `load` may block. Counts once; later calls change nothing.
    pub fn load_keys_with(&self, load: impl Fn() -> Result<Keyring> + Send + Sync + 'static) {
        let _ = self.shared.keys.set(Arc::new(load));
    }

    /// When the catalog was last found unchanged or read anew, microseconds since the epoch; and how many attempts
    /// have failed since the start.
    pub fn freshness(&self) -> (i64, u64) {
        (self.shared.read_us.load(Ordering::Acquire), self.shared.failures.load(Ordering::Acquire))
    }

    /// The server's processes behind this proxy's sessions.
    pub fn backends(&self) -> &Arc<Backends> {
        &self.shared.backends
    }

    /// The control account may not see who else is connected.
    pub fn blind(&self) -> bool {
        self.shared.blind.load(Ordering::Acquire)
    }

    /// Changes whenever the rules are swapped.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.shared.versions.subscribe()
    }

    /// The control connection stands, and catalog and policy agree.
    pub fn ready(&self) -> bool {
        self.shared.connected.load(Ordering::Acquire) && self.shared.sound.load(Ordering::Acquire)
    }

    /// Reads the catalog anew and waits until a load that began after this call has ended; requests that come while
    /// one runs share the next. False when `deadline` passed first.
    pub async fn refresh(&self, deadline: Duration) -> bool {
        let mine = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.wake.notify_one();
        let mut answered = self.shared.answered.subscribe();
        tokio::time::timeout(deadline, answered.wait_for(|done| *done >= mine)).await.is_ok_and(|done| done.is_ok())
    }

    /// Asks for the catalog to be read anew soon, without waiting: as polling does, with its rests.
    pub fn request(&self) {
        self.shared.nudge.notify_one();
    }

    /// Asks for the policy's files to be read anew.
    pub fn reload(&self) {
        self.shared.reload.notify_one();
    }
}

fn parse(settings: &Settings) -> Result<Policy> {
    policy::parse(&read_policy(&settings.policy)?).map_err(|problems| Error::Config(render(&problems)))
}

fn compile(policy: &Policy, schema: Arc<Schema>, keyring: &Keyring, version: u64) -> Result<Rules> {
    let names = schema.clone();
    let ids = |column: &str| column_id(keyring, &names, column);
    let problems = |problems: Vec<policy::Problem>| Error::Config(render(&problems));
    let mut rules = policy::compile(policy, schema, &ids, version).map_err(problems)?;
    let pseudonym = |kind: &str, key: &[u8]| keyring.subject_pseudonym(kind, key);
    rules.detect.canaries = policy::canary::canaries(policy, &names, &pseudonym).map_err(problems)?;
    Ok(rules)
}

/// The keyring's id and mode of a column: as bound in this cluster, else (a restored dump) in the only other one.
pub fn column_id(keyring: &Keyring, schema: &Schema, column: &str) -> Option<(u32, Mode)> {
    let here = keyring.column_id_in(schema.system_identifier, &schema.database, column);
    let id = here.or_else(|| keyring.column_id(&schema.database, column))?;
    let mode = keyring.columns().find(|c| c.column.id == id)?.column.mode;
    Some((
        id,
        match mode {
            SealMode::Randomized => Mode::Randomized,
            SealMode::Deterministic => Mode::Deterministic,
        },
    ))
}
