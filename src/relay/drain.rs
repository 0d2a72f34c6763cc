//! The end of serving: a phase every connection can read for one atomic load, and a bell that wakes it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Where the process stands. Only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepting.
    Serving,
    /// Not accepting; idle sessions end, running statements may finish.
    Draining,
    /// The deadline has passed: everything ends.
    Over,
}

/// The phase and its bell, shared by every connection.
#[derive(Debug, Default)]
pub struct Drain {
    phase: AtomicU8,
    bell: Arc<Notify>,
}

impl Drain {
    /// Where we stand.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Moves on to `phase` and wakes every connection; going back does nothing.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.bell.notify_waiters();
    }

    /// Resolves when the phase is at least `phase`.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let rung = self.bell.notified();
            if self.phase() >= phase {
                return;
            }
            rung.await;
        }
    }
}

/// One task's ear for the bell. Registers once and then costs one atomic load per poll, because a task's waker
/// stays the same for its whole life.
#[derive(Debug)]
pub(crate) struct Ear {
    drain: Arc<Drain>,
    rung: Option<Pin<Box<OwnedNotified>>>,
    heard: Phase,
}

impl Ear {
    pub(crate) fn new(drain: Arc<Drain>) -> Self {
        Self { drain, rung: None, heard: Phase::Serving }
    }

    /// The phase now; the task is woken when it moves on.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Phase {
        if self.rung.is_none() || self.heard != self.drain.phase() {
            // Registered before the phase is read, so that no ring falls between the two.
            let mut rung = Box::pin(self.drain.bell.clone().notified_owned());
            if rung.as_mut().poll(cx) == Poll::Ready(()) {
                cx.waker().wake_by_ref();
            }
            self.rung = Some(rung);
            self.heard = self.drain.phase();
        }
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ear_wakes_for_every_phase() {
        let drain = Arc::new(Drain::default());
        let mut ear = Ear::new(drain.clone());
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            std::future::poll_fn(|cx| {
                seen.push(ear.poll(cx));
                if seen.last() == Some(&Phase::Over) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            seen
        });
        tokio::task::yield_now().await;
        drain.advance(Phase::Draining);
        tokio::task::yield_now().await;
        drain.advance(Phase::Over);
        drain.advance(Phase::Draining);
        assert_eq!(task.await.unwrap(), [Phase::Serving, Phase::Draining, Phase::Over]);
        drain.reached(Phase::Draining).await;
    }
}
