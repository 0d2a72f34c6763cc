//! The one task that eats events: audit → detect → respond.
//!
//! In: [`Event`]s from sessions, the catalog and the proxy itself. Out: the access log, acknowledgements, alerts (an
//! event in the same chain, a log line, a metric). Never: a dropped event, time taken from the pumps. It has a thread
//! of its own; when its queue is full, callers wait.

mod anchor;
mod keeper;
pub mod quarantine;
mod respond;
mod sessions;
mod task;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

pub use quarantine::Quarantine;
pub use respond::{Response, follow};
pub use sessions::{Ending, Known, Sessions, Word};
use tokio::sync::{mpsc, oneshot, watch};

use crate::audit;
use crate::error::{Code, Refusal, Result};
use crate::event::Event;
use crate::metrics::Meters;
use crate::policy::rules::Rules;
use crate::secret::Key;

/// `[audit] durability`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// An intent is acknowledged when it is on the device.
    Intent,
    /// An intent is acknowledged when it is queued, and on the device within a second; while the log cannot be written,
    /// as under [`Durability::Intent`].
    Async,
}

/// `[audit] on_failure`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Intents wait until the log can be written again.
    Block,
    /// Intents are answered with [`AuditDown`]; other events wait.
    DenyProtected,
}

impl OnFailure {
    /// In words, for the log itself.
    fn consequence(self) -> &'static str {
        match self {
            Self::Block => "protected statements wait until there is room",
            Self::DenyProtected => "protected statements are refused until there is room",
        }
    }
}

/// How the desk works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The log's files.
    pub audit: audit::Settings,
    /// When an intent counts as written.
    pub durability: Durability,
    /// What happens when it cannot be.
    pub on_failure: OnFailure,
    /// Events waiting for the desk; a full queue makes callers wait.
    pub queue: usize,
    /// Files elsewhere that signed checkpoints are appended to.
    pub anchors: Vec<PathBuf>,
    /// Where else they are sent.
    pub collectors: Vec<audit::Syslog>,
    /// Shared with the sessions.
    pub response: Response,
    /// Closed segments are compressed.
    pub compress: bool,
    /// Up to which record the log is copied elsewhere, if it is to be: none beyond is pruned.
    pub copied: Option<Arc<AtomicU64>>,
    /// How long records stay; for ever without it.
    pub keep: Option<audit::Keep>,
}

impl Settings {
    /// Defaults for a log in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            audit: audit::Settings::new(dir),
            durability: Durability::Intent,
            on_failure: OnFailure::Block,
            queue: 8_192,
            anchors: Vec::new(),
            collectors: Vec::new(),
            response: Response::default(),
            copied: None,
            compress: true,
            keep: None,
        }
    }
}

/// The access log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log cannot be written")]
pub struct AuditDown;

impl From<AuditDown> for Refusal {
    fn from(_: AuditDown) -> Self {
        let hint = "See pgveil's own log; [audit] on_failure decides whether protected statements wait or are refused.";
        Refusal::new(Code::AuditDown, "the access log cannot be written, so protected data is not released", hint)
    }
}

enum Item {
    Event(Box<Event>),
    /// Nobody waits for it under [`Durability::Async`] while the log can be written.
    Intent(Box<Event>, Option<oneshot::Sender<Result<(), AuditDown>>>),
    Stop,
}

/// What the desk's thread tells everybody.
#[derive(Debug, Default)]
struct State {
    /// The newest write or fsync failed.
    down: AtomicBool,
    /// The log is broken or stopped for good.
    ended: AtomicBool,
    /// How far it is durable. Watchers are woken by alerts only.
    marks: watch::Sender<Marks>,
}

/// Records of the log by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The last one before this run's `start`.
    pub before: u64,
    /// The newest durable one.
    pub durable: u64,
    /// The newest alert among the durable ones of this run; 0 if there is none.
    pub alert: u64,
}

/// Handle to the desk; cheap to clone.
#[derive(Clone)]
pub struct Desk {
    queue: mpsc::Sender<Item>,
    state: Arc<State>,
    meters: Arc<Meters>,
    durability: Durability,
    on_failure: OnFailure,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Desk {
    /// Hands over an event. The receipt is done at once unless the queue is full; then the caller must await it
    /// before it takes on more work, and the event is handed over by polling it.
    pub fn event(&self, event: impl Into<Box<Event>>) -> Receipt {
        match self.queue.try_send(Item::Event(event.into())) {
            Ok(()) => Receipt(Stage::Done(Ok(()))),
            Err(mpsc::error::TrySendError::Closed(_)) => Receipt(Stage::Done(Err(AuditDown))),
            Err(mpsc::error::TrySendError::Full(item)) => {
                let queue = self.queue.clone();
                Receipt(Stage::Queueing(Box::pin(async move { queue.send(item).await.map_err(|_| AuditDown) })))
            }
        }
    }

    /// Hands over an intent. The receipt is done when the record is durable (see [`Durability`]): nothing it speaks
    /// of may leave before.
    pub fn intent(&self, event: impl Into<Box<Event>>) -> Receipt {
        let down = self.state.down.load(Ordering::Acquire);
        if self.on_failure == OnFailure::DenyProtected && down {
            return Receipt(Stage::Done(Err(AuditDown)));
        }
        let (acknowledge, acknowledged) = if self.durability == Durability::Async && !down {
            (None, None)
        } else {
            let (acknowledge, acknowledged) = oneshot::channel();
            (Some(acknowledge), Some(acknowledged))
        };
        match self.queue.try_send(Item::Intent(event.into(), acknowledge)) {
            Ok(()) => Receipt(acknowledged.map_or(Stage::Done(Ok(())), Stage::Waiting)),
            Err(mpsc::error::TrySendError::Closed(_)) => Receipt(Stage::Done(Err(AuditDown))),
            Err(mpsc::error::TrySendError::Full(item)) => {
                let queue = self.queue.clone();
                Receipt(Stage::Queueing(Box::pin(async move {
                    queue.send(item).await.map_err(|_| AuditDown)?;
                    match acknowledged {
                        Some(acknowledged) => acknowledged.await.unwrap_or(Err(AuditDown)),
                        None => Ok(()),
                    }
                })))
            }
        }
    }

    /// The log can be written, as far as the newest attempt tells.
    pub fn writable(&self) -> bool {
        let state = &self.state;
        // A closed queue without an orderly end: the thread died.
        !(state.down.load(Ordering::Acquire) || state.ended.load(Ordering::Acquire) || self.queue.is_closed())
    }

    /// How far the log is durable; changes are told when there is a new alert.
    pub fn marks(&self) -> watch::Receiver<Marks> {
        self.state.marks.subscribe()
    }

    /// Updates the queue gauge; called by the admin port when it is scraped.
    pub fn measure(&self) {
        self.meters.audit_queue(self.queue.max_capacity() - self.queue.capacity());
    }
}

enum Stage {
    Done(Result<(), AuditDown>),
    Waiting(oneshot::Receiver<Result<(), AuditDown>>),
    Queueing(Pin<Box<dyn Future<Output = Result<(), AuditDown>> + Send>>),
}

/// What the desk owes for one event or intent. Polling it after it is done gives the same answer again.
#[must_use = "an intent's bytes must wait for it, and a full queue is relieved only by polling it"]
pub struct Receipt(Stage);

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Receipt").field(&self.done()).finish()
    }
}

impl Receipt {
    /// The answer, if it is already there.
    pub fn done(&self) -> Option<Result<(), AuditDown>> {
        match &self.0 {
            Stage::Done(answer) => Some(*answer),
            _ => None,
        }
    }
}

impl Future for Receipt {
    type Output = Result<(), AuditDown>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.0 {
            Stage::Done(answer) => return Poll::Ready(*answer),
            Stage::Waiting(acknowledged) => match Pin::new(acknowledged).poll(cx) {
                Poll::Ready(answer) => answer.unwrap_or(Err(AuditDown)),
                Poll::Pending => return Poll::Pending,
            },
            Stage::Queueing(queueing) => match queueing.as_mut().poll(cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => return Poll::Pending,
            },
        };
        self.0 = Stage::Done(answer);
        Poll::Ready(answer)
    }
}

/// The desk's thread.
#[derive(Debug)]
pub struct Thread {
    queue: mpsc::Sender<Item>,
    done: oneshot::Receiver<()>,
}

impl Thread {
    /// Writes what is queued, a `stop` event and a last checkpoint, then ends the thread. Events handed over after
    /// this are answered with [`AuditDown`]. Returns false when that took longer than `deadline`.
    pub async fn stop(self, deadline: Duration) -> bool {
        let all = async {
            let _ = self.queue.send(Item::Stop).await;
            let _ = self.done.await;
        };
        tokio::time::timeout(deadline, all).await.is_ok()
    }
}

/// Opens the log, rebuilds the detector's windows from its tail, writes a `start` event durably and starts the thread.
/// `rules` is asked once per batch of events for the thresholds in force. Blocking: call it before serving.
///
/// # Errors
/// The log cannot be opened or its first record cannot be made durable.
pub fn start(
    settings: Settings,
    key: Key,
    deployment: &[u8; 16],
    rules: impl Fn() -> Arc<Rules> + Send + 'static,
    meters: Arc<Meters>,
) -> Result<(Desk, Thread)> {
    let now = crate::clock::Now::read();
    let (log, recovered) = audit::open(&settings.audit, key, deployment, now.unix_us)?;
    task::launch(settings, log, recovered, Box::new(rules), meters)
}
