//! The task that watches: the server's notifications, the catalog's fingerprint, the policy's files, SIGHUP, and
//! look-ups that sessions ask for. It is the only writer of the rules.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::bypass::Bypass;
use super::connect::control;
use super::files::stamp;
use super::queries::{CHANNEL, SETTINGS};
use super::{Keeper, compile, fingerprint, load, parse, trust};
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::event::{Event, EventKind};
use crate::policy::Policy;
use crate::policy::rules::Rules;
use crate::sql::schema::Schema;

/// How often the policy's files are looked at. A change counts when two looks in a row agree.
const FILES_EVERY: Duration = Duration::from_secs(1);

/// Reconnecting waits this long at first, then twice as long each time …
const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Polling rests this many times as long as the last look took, so that a huge catalog costs the server no more than a
/// twentieth of one core.
const REST: u64 = 20;

/// A catalog query that takes longer means the connection is lost.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

impl Keeper {
    /// Starts watching; first of all loads, if nothing has been loaded yet, as soon as the server can be reached.
    /// `tell` hands an event to the desk and resolves when the desk has it. The last rules stay in force when the task
    /// is aborted.
    ///
    /// The task ends by itself only with an error: the server can be reached, and policy and catalog contradict each
    /// other or the control account is not let in, before anything could be served.
    pub fn watch<F, T>(&self, tell: F) -> JoinHandle<Result<Infallible>>
    where
        F: Fn(Event) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let watch = Watch {
            keeper: self.clone(),
            tell,
            client: None,
            policy: None,
            fingerprint: None,
            rest_until_ns: 0,
            said: None,
            bypass: Bypass::default(),
        };
        tokio::spawn(watch.run())
    }

    /// Reads the keyring file again. False: it cannot be, or it is not this deployment's; the old keys stay.
    pub(super) async fn reload_keys(&self) -> bool {
        let shared = &self.shared;
        let Some(load) = shared.keys.get().cloned() else { return false };
        // A passphrase takes its Argon2id time.
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(Error::Bug("the keyring's loader panicked")));
        match loaded {
            Ok(ring) if ring.deployment_id() == shared.keyring.load().deployment_id() => {
                shared.keyring.store(Arc::new(ring));
                true
            }
            Ok(_) => {
                tracing::error!("the keyring file belongs to another deployment; the old keys stay");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the keyring file cannot be read again; the old keys stay");
                false
            }
        }
    }

    /// Attempts the first load until it succeeds; SIGHUP makes the next attempt now, with the keyring read again.
    async fn load_at_last(&self) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut backoff = BACKOFF_MIN;
        let mut said = String::new();
        while !self.loaded() {
            match self.load().await {
                Err(Error::Unreachable(why)) if why != said => {
                    tracing::warn!("PostgreSQL is not reachable, clients are turned away until it is: {why}");
                    said = why;
                }
                Err(Error::Unreachable(_)) => {}
                done => {
                    done?;
                    break;
                }
            }
            self.shared.failures.fetch_add(1, Ordering::AcqRel);
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
                _ = hung_up => {
                    self.reload_keys().await;
                }
            }
        }
        Ok(())
    }
}

struct Watch<F> {
    keeper: Keeper,
    tell: F,
    client: Option<Client>,
    /// The policy in force, once it has been read by this task.
    policy: Option<Policy>,
    fingerprint: Option<String>,
    /// No polling before this reading of the monotonic clock.
    rest_until_ns: u64,
    /// The last failure logged, so that polling does not repeat it.
    said: Option<String>,
    bypass: Bypass,
}

impl<F, T> Watch<F>
where
    F: Fn(Event) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    async fn run(mut self) -> Result<Infallible> {
        self.keeper.load_at_last().await?;
        let shared = self.keeper.shared.clone();
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut poll = tokio::time::interval(shared.settings.poll);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(FILES_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut backoff = BACKOFF_MIN;
        let first = shared.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut loaded, policy) = first.map_or((None, None), |(stamp, policy)| (stamp, Some(policy)));
        let mut seen = loaded.clone();
        self.policy = policy;
        self.announce("policy loaded".into()).await;
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.wake.notified() => self.look_up(&mut backoff).await,
                _ = poll.tick(), if Now::read().mono_ns >= self.rest_until_ns => self.look_up(&mut backoff).await,
                () = shared.nudge.notified(), if Now::read().mono_ns >= self.rest_until_ns => {
                    self.look_up(&mut backoff).await;
                }
                _ = hung_up => self.reload("SIGHUP").await,
                () = shared.reload.notified() => self.reload("request").await,
                _ = look.tick() => {
                    let now = stamp(&shared.settings.policy);
                    if now != loaded && now == seen {
                        loaded.clone_from(&now);
                        self.reload("file change").await;
                    }
                    seen = now;
                }
            }
        }
    }

    /// Compares the fingerprint and loads the catalog if it differs. Anybody may notify or name an unknown relation,
    /// so neither forces more than that comparison.
    async fn look_up(&mut self, backoff: &mut Duration) {
        let shared = self.keeper.shared.clone();
        let pending = shared.asked.load(Ordering::Acquire);
        let began = Now::read();
        match tokio::time::timeout(QUERY_TIMEOUT, self.catalog()).await {
            Ok(Ok(schema)) => {
                *backoff = BACKOFF_MIN;
                self.rest_until_ns = began.mono_ns + Now::read().since_us(began) * 1_000 * REST;
                if let Some(schema) = schema {
                    self.swap(Some(Arc::new(schema)), "catalog", true).await;
                }
                self.look_around().await;
            }
            Ok(Err(error)) => self.lost(backoff, &error).await,
            Err(_) => self.lost(backoff, &Error::Control("the catalog did not answer".into())).await,
        }
        // Whoever waits is answered even when nothing could be loaded: its statement is then decided under the old
        // rules, which is what its deadline would lead to as well.
        shared.answered.send_modify(|done| *done = (*done).max(pending));
    }

    /// Tells who is connected past the proxy. A look that fails is made again in time.
    async fn look_around(&mut self) {
        let (shared, rules) = (self.keeper.shared.clone(), self.keeper.rules());
        let Some(client) = &self.client else { return };
        let looked =
            tokio::time::timeout(QUERY_TIMEOUT, self.bypass.look(client, &shared.backends, &rules.detect)).await;
        shared.blind.store(self.bypass.blind, Ordering::Release);
        match looked {
            Ok(Ok(events)) => {
                for mut event in events {
                    event.rules_version = rules.version;
                    (self.tell)(event).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "connections past the proxy cannot be looked at"),
            Err(_) => tracing::debug!("connections past the proxy cannot be looked at in time"),
        }
    }

    async fn catalog(&mut self) -> Result<Option<Schema>> {
        let shared = self.keeper.shared.clone();
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let client = shared.settings.connect.open(shared.wake.clone()).await?;
            let listen = format!("{SETTINGS}; listen {CHANNEL}");
            client.batch_execute(&listen).await.map_err(|e| control(&e))?;
            self.client = Some(client);
            self.fingerprint = None;
        }
        let Some(client) = &self.client else { return Ok(None) };
        let now = fingerprint(client).await?;
        let schema = if self.fingerprint.as_ref() == Some(&now) { None } else { Some(load(client).await?) };
        self.fingerprint = Some(now);
        if !shared.connected.swap(true, Ordering::AcqRel) {
            tracing::info!("control connection restored");
        }
        Ok(schema)
    }

    async fn lost(&mut self, backoff: &mut Duration, error: &Error) {
        self.client = None;
        self.keeper.shared.failures.fetch_add(1, Ordering::AcqRel);
        if self.keeper.shared.connected.swap(false, Ordering::AcqRel) {
            tracing::error!(%error, "control connection lost; serving with the last catalog");
        }
        tokio::time::sleep(*backoff).await;
        *backoff = (*backoff * 2).min(BACKOFF_MAX);
        self.keeper.shared.wake.notify_one();
    }

    async fn reload(&mut self, why: &str) {
        if why != "file change" {
            self.keeper.reload_keys().await;
            self.fingerprint = None;
        }
        match parse(&self.keeper.shared.settings) {
            Ok(policy) => {
                self.said = None;
                let before = self.policy.replace(policy);
                // The tables it names may be as new as the policy.
                let looked = tokio::time::timeout(QUERY_TIMEOUT, self.catalog()).await;
                let schema = looked.ok().and_then(Result::ok).flatten().map(Arc::new);
                if !self.swap(schema, why, false).await {
                    self.policy = before;
                    // What was loaded is not in force: the next look loads it again, for the old policy.
                    self.fingerprint = None;
                }
            }
            Err(error) => self.refuse(why, &error).await,
        }
    }

    /// Compiles; when that fails once more with the keyring file read anew, because `pgveil apply` may have made ids.
    async fn compile(&self, policy: &Policy, schema: Arc<Schema>, version: u64) -> Result<Rules> {
        let shared = &self.keeper.shared;
        match compile(policy, schema.clone(), &shared.keyring.load(), version) {
            // A failure that was already said has had its second chance.
            Err(error) if self.said.as_deref() != Some(&error.to_string()) && self.keeper.reload_keys().await => {
                compile(policy, schema, &shared.keyring.load(), version)
            }
            done => done,
        }
    }

    /// Compiles policy and catalog and puts them in force. False: they contradict each other and the old rules stay.
    async fn swap(&mut self, schema: Option<Arc<Schema>>, why: &str, catalog_only: bool) -> bool {
        let shared = self.keeper.shared.clone();
        let old = shared.rules.load_full();
        let same = catalog_only && schema.as_deref().is_some_and(|new| *new == *old.schema);
        if same && old.views.is_empty() {
            shared.sound.store(true, Ordering::Release);
            return true;
        }
        let Some(policy) = &self.policy else { return false };
        let schema = schema.unwrap_or_else(|| old.schema.clone());
        match self.compile(policy, schema, old.version + 1).await {
            Ok(mut rules) => {
                self.trust(&mut rules).await;
                if same && rules.classes == old.classes {
                    shared.sound.store(true, Ordering::Release);
                    return true;
                }
                let version = rules.version;
                let told = if catalog_only { Vec::new() } else { rules.observed_warnings() };
                for warning in rules.warnings.iter().filter(|w| !old.warnings.contains(w) && !told.contains(w)) {
                    tracing::warn!(version, "{warning}");
                }
                shared.rules.store(Arc::new(rules));
                shared.versions.send_replace(version);
                shared.sound.store(true, Ordering::Release);
                self.said = None;
                if catalog_only {
                    tracing::info!(version, "catalog changed");
                } else {
                    self.announce(format!("policy loaded ({why})")).await;
                }
                true
            }
            Err(error) => {
                if catalog_only {
                    shared.sound.store(false, Ordering::Release);
                }
                self.refuse(why, &error).await;
                false
            }
        }
    }

    /// Sets lenses aside that have a way around, or all of them when the catalog does not say; then the next look asks
    /// again.
    async fn trust(&mut self, rules: &mut Rules) {
        let asked = tokio::time::timeout(QUERY_TIMEOUT, trust(self.client.as_ref(), rules)).await;
        let error = match asked {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error,
            Err(_) => {
                let written = rules.classes_written();
                rules.classes.iter_mut().take(written).for_each(|class| class.lens = None);
                Error::Control("the catalog did not answer".into())
            }
        };
        self.fingerprint = None;
        tracing::error!(%error, "lenses are not trusted: who could get around them is not known");
    }

    async fn announce(&self, note: String) {
        let rules = self.keeper.rules();
        let version = rules.version;
        tracing::info!(version, "{note}");
        for warning in rules.observed_warnings() {
            tracing::warn!(version, "{warning}");
        }
        self.event(version, note, false).await;
    }

    async fn refuse(&mut self, why: &str, error: &Error) {
        let text = error.to_string();
        if self.said.as_ref() == Some(&text) {
            return;
        }
        let version = self.keeper.rules().version;
        tracing::error!(version, "policy refused ({why}), the old rules stay in force:\n{text}");
        self.said = Some(text);
        self.event(version, format!("policy refused ({why}); the old rules stay in force"), true).await;
    }

    async fn event(&self, version: u64, note: String, refused: bool) {
        let mut event = Event::new(EventKind::Policy, Now::read().unix_us);
        event.rules_version = version;
        event.note = Some(note);
        event.code = refused.then(|| "policy".to_owned());
        event.digest = self.policy.as_ref().filter(|_| !refused).map(|policy| policy.digest.clone());
        (self.tell)(event).await;
    }
}
