//! Copies the access log into PostgreSQL: durable records, in batches, each exactly once.
//!
//! In: the log's folder, which the desk is writing. Out: rows; lag and failures as metrics. Never: a wait of anybody but its
//! own thread, a record that PostgreSQL has and its cursor (`pgveil.shipped`) does not name: both are one transaction, and
//! after any doubt the cursor is read again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::months::{self, Month};
use super::rows::{self, Encoding, Uuid, signed};
use super::{Store, incidents, unknown};
use crate::audit::{self, Batch, Durable, Position};
use crate::catalog::{Connect, ask, control};
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::metrics::Meters;

/// How often the log is looked at when there was nothing new.
const POLL: Duration = Duration::from_millis(500);
/// Bytes of log in one transaction.
const BATCH_BYTES: u64 = 8 << 20;
/// How long one transaction may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Pause after a failure: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// "pgveil" and "months" in one bigint: two proxies make a month's partitions one after the other.
const MONTHS_LOCK: i64 = 0x7067_7665_696c_0002;

/// What is copied, and where to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The control account.
    pub connect: Connect,
    /// The log's folder.
    pub dir: PathBuf,
    /// Whose log it is, as the keyring names it.
    pub deployment: [u8; 16],
    /// Where whoever prunes the log learns up to which record it is copied.
    pub copied: Arc<AtomicU64>,
}

/// The copying thread.
#[derive(Debug)]
pub struct Thread {
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Thread {
    /// Copies what is durable by now, then ends. False when that took longer than `deadline`: the next start goes on.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        let _ = self.stop.send(true);
        timeout(deadline, self.ended.wait_for(|ended| *ended)).await.is_ok_and(|ended| ended.is_ok())
    }
}

/// Starts it. The tables need not be there yet, nor PostgreSQL.
///
/// # Errors
/// A thread cannot be made.
pub fn start(settings: Settings, meters: Arc<Meters>) -> Result<Thread> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("starting the shipper's runtime", e))?;
    let (stop, stopping) = watch::channel(false);
    let (tell, ended) = watch::channel(false);
    let body = move || {
        runtime.block_on(Shipper::new(settings, meters).run(stopping));
        let _ = tell.send(true);
    };
    let thread = std::thread::Builder::new().name("pgveil-ship".to_owned());
    thread.spawn(body).map_err(|e| Error::io("starting the shipper's thread", e))?;
    Ok(Thread { stop, ended })
}

/// Copies until nothing is left that is durable now; how many events. For measurements, and for a log whose proxy is gone.
///
/// # Errors
/// The first failure.
pub async fn catch_up(settings: Settings, meters: Arc<Meters>, progress: &mut dyn FnMut(u64)) -> Result<u64> {
    let mut shipper = Shipper::new(settings, meters);
    let mut events = 0;
    while let Some(copied) = shipper.round().await? {
        events += copied;
        progress(events);
    }
    Ok(events)
}

struct Shipper {
    settings: Settings,
    store: Store,
    meters: Arc<Meters>,
    /// Where it stands, as PostgreSQL said; `None` when that must be asked again.
    open: Option<Open>,
    /// Partitions that are there.
    months: BTreeSet<Month>,
    /// The cursor when it was last known.
    shipped: u64,
    /// The last failure logged, so that retries do not repeat it.
    said: Option<String>,
}

struct Open {
    log: i32,
    encoding: Encoding,
    durable: Durable,
}

impl Shipper {
    fn new(settings: Settings, meters: Arc<Meters>) -> Self {
        let store = Store::new(settings.connect.clone());
        Self { settings, store, meters, open: None, months: BTreeSet::new(), shipped: 0, said: None }
    }

    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut pause = RETRY.0;
        loop {
            let last = *stopping.borrow();
            let wait = match self.round().await {
                Ok(done) => {
                    pause = RETRY.0;
                    if self.said.take().is_some() {
                        tracing::info!(target: "pgveil::store", "the access log is copied into PostgreSQL again");
                    }
                    match done {
                        Some(_) => continue,
                        None => POLL,
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    let wait = pause;
                    pause = (pause * 2).min(RETRY.1);
                    wait
                }
            };
            if last {
                return;
            }
            let _ = timeout(wait, stopping.wait_for(|stop| *stop)).await;
        }
    }

    fn reached(&mut self, seq: u64) {
        self.shipped = seq;
        self.settings.copied.store(seq, Ordering::Release);
    }

    fn failed(&mut self, error: &Error) {
        self.open = None;
        // A month may have been taken away.
        self.months.clear();
        self.meters.ship_error();
        if let Ok(durable) = audit::durable_seq(&self.settings.dir) {
            self.meters.ship_lag(durable.saturating_sub(self.shipped));
        }
        let said = error.to_string();
        if self.said.as_ref() != Some(&said) {
            tracing::warn!(target: "pgveil::store", "the access log is not copied into PostgreSQL at the moment, and will be later: {said}");
            self.said = Some(said);
        }
    }

    /// Copies the next batch; how many events, or `None` when nothing is left.
    async fn round(&mut self) -> Result<Option<u64>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.register().await?,
        };
        let before = open.durable.at();
        let batch = open.durable.next(BATCH_BYTES)?;
        let after = open.durable.at();
        self.make_months(&batch).await?;
        if after == before {
            self.meters.ship_lag(batch.left);
            self.open = Some(open);
            return Ok(None);
        }
        let (log, encoding) = (open.log, open.encoding);
        let work = self.store.within(async |client| copy(client, encoding, log, (before, after), &batch).await);
        match timeout(DEADLINE, work).await {
            Ok(done) => done?,
            Err(_) => return Err(Error::Unreachable("a batch of the access log took too long".into())),
        }
        let events = batch.events.len() as u64;
        for gap in &batch.gaps {
            self.meters.ship_error();
            let (first, last) = (gap.start(), gap.end());
            tracing::error!(
                target: "pgveil::store",
                "records {first} to {last} of the access log are not there, or not as they were written: they are noted in \
                 pgveil.ship_gaps; see `pgveil log verify`"
            );
        }
        self.reached(after.seq);
        self.meters.shipped(events);
        self.meters.ship_lag(batch.left);
        self.open = Some(open);
        Ok(Some(events))
    }

    /// Where this log's copy ends, by the cursor.
    async fn register(&mut self) -> Result<Open> {
        const REGISTER: &str = "insert into pgveil.shipped (deployment, instance) values ($1, $2) \
             on conflict (deployment, instance) do nothing";
        const CURSOR: &str = "select log, seq, hash, current_setting('server_encoding') from pgveil.shipped \
             where deployment = $1 and instance = $2";
        let Settings { dir, deployment, .. } = &self.settings;
        let name = audit::instance(dir, rand::random::<u128>)?;
        let (deployment, instance) = (hex::encode(deployment), Uuid(name));
        let work = async {
            self.store.ready().await?;
            self.store
                .within(async |client| {
                    client.execute(REGISTER, &[&deployment, &instance]).await.map_err(|e| control(&e))?;
                    ask(client, CURSOR, &[&deployment, &instance]).await
                })
                .await
        };
        let asked = timeout(DEADLINE, work).await;
        let rows = asked.map_err(|_| Error::Unreachable("the control connection does not answer".into()))??;
        let row = rows.first().ok_or(Error::Bug("a log that was just registered is not"))?;
        let hash: Vec<u8> = row.get(2);
        let at = Position {
            seq: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
            hash: hash.try_into().map_err(|_| Error::Control("pgveil.shipped holds no hash of 32 bytes".into()))?,
        };
        let (seq, durable) = (at.seq, Durable::after(dir, at));
        let encoding = if row.get::<_, &str>(3) == "UTF8" { Encoding::Utf8 } else { Encoding::Other };
        self.reached(seq);
        Ok(Open { log: row.get(0), encoding, durable })
    }

    /// Makes the partitions that the batch needs, and the next month's ahead of it.
    async fn make_months(&mut self, batch: &Batch) -> Result<()> {
        let needed = months::needed(batch.events.iter().map(|kept| kept.event.at_us), Now::read().unix_us);
        let missing: Vec<Month> = needed.difference(&self.months).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let make = self.store.within(async |client| {
            super::run(client, &format!("select pg_advisory_xact_lock({MONTHS_LOCK})")).await?;
            for month in &missing {
                super::run(client, &month.sql()).await?;
            }
            Ok(())
        });
        match timeout(DEADLINE, make).await {
            Ok(done) => done?,
            Err(_) => return Err(Error::Unreachable("making a month's partitions took too long".into())),
        }
        self.months.extend(missing);
        Ok(())
    }
}

/// One batch in one transaction, with the cursor that says so. Whatever else follows from a batch is a step here.
async fn copy(
    client: &Client,
    encoding: Encoding,
    log: i32,
    (before, after): (Position, Position),
    batch: &Batch,
) -> Result<()> {
    cursor(client, log, (before, after), batch).await?;
    rows::copy(client, encoding, log, &batch.events).await?;
    unknown::add(client, encoding, log, &batch.events).await?;
    incidents::follow(client, |text| encoding.fit(text), log, &batch.events).await?;
    Ok(())
}

/// Moves the cursor from where it is known to be, and locks it for the rest of the transaction.
async fn cursor(client: &Client, log: i32, (before, after): (Position, Position), batch: &Batch) -> Result<()> {
    const MOVE: &str = "update pgveil.shipped set seq = $4, hash = $5, events = events + $6, shipped_at = now() \
         where log = $1 and seq = $2 and hash = $3";
    const GAP: &str = "insert into pgveil.ship_gaps (log, first_seq, last_seq) values ($1, $2, $3) \
         on conflict (log, first_seq) do nothing";
    let (old, new) = (before.hash.to_vec(), after.hash.to_vec());
    let events = i64::try_from(batch.events.len()).unwrap_or(i64::MAX);
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&log, &signed(before.seq), &old, &signed(after.seq), &new, &events];
    if client.execute(MOVE, &values).await.map_err(|e| control(&e))? != 1 {
        return Err(Error::Control("the cursor of this log has moved, or was lost with the server".into()));
    }
    for gap in &batch.gaps {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&log, &signed(*gap.start()), &signed(*gap.end())];
        client.execute(GAP, &values).await.map_err(|e| control(&e))?;
    }
    Ok(())
}
