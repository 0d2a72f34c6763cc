//! What is done to closed segments, by a thread of its own that yields to everything else.
//!
//! In: the log's folder. Out: compressed segments, and fewer of them. Never: a wait of the desk's thread, the segment that is written to.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

use super::{Item, Settings};
use crate::audit::{self, Keep, Log, Prunable, Until, VerifierKey};
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::event::{Event, EventKind};
use crate::secret::Key;

/// Between two looks at the folder.
const PAUSE: Duration = Duration::from_secs(60);
/// A segment that was written to within this time stays plain, for whoever reads along.
const COMPRESS_AFTER: Duration = Duration::from_secs(3_600);
/// Before the first one, for the start to be written and signed.
const START: Duration = Duration::from_secs(5);
/// A log that is not as it was written is not read again before this.
const BROKEN_NS: u64 = 3_600 * 1_000_000_000;
/// Below everything else on the machine.
const NICE: i32 = 19;

/// The thread ends, after the segment it is at, when this is dropped.
pub(super) struct Keeper {
    _stop: Sender<()>,
}

/// What the thread works with.
struct Work {
    settings: Settings,
    key: Key,
    public: VerifierKey,
    /// The desk's; it does not keep the desk alive.
    queue: WeakSender<Item>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no room for one.
    pub(super) fn start(settings: &Settings, log: &Log, queue: WeakSender<Item>) -> Result<Self> {
        let (stop, stopped) = channel();
        let (key, public) = log.keys();
        let work = Work { settings: settings.clone(), key, public, queue };
        std::thread::Builder::new()
            .name("pgveil-keeper".to_owned())
            .spawn(move || {
                // Of this thread only; where it is not allowed the work is done all the same.
                let _ = rustix::process::nice(NICE);
                work.keep(&stopped);
            })
            .map_err(|e| Error::io("starting the thread that keeps the access log", e))?;
        Ok(Self { _stop: stop })
    }
}

impl Work {
    fn keep(&self, stopped: &Receiver<()>) {
        let (mut pause, mut broken_ns) = (START, None);
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = if self.settings.compress && self.compress() { Duration::ZERO } else { PAUSE };
            let now = Now::read();
            let again = broken_ns.is_none_or(|then| now.mono_ns.saturating_sub(then) >= BROKEN_NS);
            if let (Some(keep), true) = (self.settings.keep, again) {
                broken_ns = if self.prune(keep, now) { None } else { Some(now.mono_ns) };
            }
        }
    }

    /// One segment at a time; whether there may be another.
    fn compress(&self) -> bool {
        let before = SystemTime::now().checked_sub(COMPRESS_AFTER).unwrap_or(SystemTime::UNIX_EPOCH);
        match audit::compress_next(&self.settings.audit.dir, before) {
            Ok(Some(audit::Compressed { file, from, to })) => {
                tracing::info!(target: "pgveil::audit", file, from, to, "a closed segment was compressed");
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(target: "pgveil::audit", %error, "a closed segment could not be compressed");
                false
            }
        }
    }

    /// False if the log is not as it was written.
    fn prune(&self, keep: Keep, now: Now) -> bool {
        let dir = &self.settings.audit.dir;
        let anchors = self.settings.anchors.iter().filter(|file| file.exists());
        let anchors =
            anchors.map(|file| audit::anchors(file, &self.public)).collect::<std::result::Result<Vec<_>, _>>();
        let found = anchors.map(|anchors| anchors.concat()).and_then(|anchors| {
            let copied = self.settings.copied.as_ref().map(|copied| copied.load(Ordering::Acquire));
            let needed_from = copied.map(|seq| seq.saturating_add(1));
            let until = Until { before_us: keep.before_us(now.unix_us), needed_from, anchors: &anchors };
            audit::prunable(dir, &self.key, until)
        });
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => return true,
            Err(error) => {
                tracing::error!(target: "pgveil::audit", %error, "the access log is not pruned");
                return false;
            }
        };
        if !self.is_recorded(&found, now) {
            tracing::warn!(target: "pgveil::audit", "the access log is not pruned: it cannot be written");
            return true;
        }
        match audit::prune(dir, &self.key, &found, now.unix_us) {
            Ok(()) => tracing::info!(target: "pgveil::audit", "{}", found.sentence()),
            Err(error) => tracing::warn!(target: "pgveil::audit", %error, "the access log could not be pruned"),
        }
        true
    }

    /// The log itself says first what is taken from it.
    fn is_recorded(&self, found: &Prunable, now: Now) -> bool {
        let mut event = Event::new(EventKind::Log, now.unix_us);
        event.note = Some(found.sentence());
        let (acknowledge, acknowledged) = oneshot::channel();
        let item = Item::Intent(Box::new(event), Some(acknowledge));
        let sent = self.queue.upgrade().is_some_and(|queue| queue.blocking_send(item).is_ok());
        sent && matches!(acknowledged.blocking_recv(), Ok(Ok(())))
    }
}
