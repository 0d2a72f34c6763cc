//! The end of serving, and the pause: what every connection can read for two atomic loads, and a bell that wakes it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use slab::Slab;
use tokio::sync::Notify;

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

/// The phase, the pause and their bell, shared by every connection.
#[derive(Debug, Default)]
pub struct Drain {
    phase: AtomicU8,
    paused: AtomicBool,
    bell: Notify,
    ears: Mutex<Slab<Waker>>,
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

    /// Nothing new begins: sessions without a running statement or an open transaction hold what their clients send.
    #[inline]
    pub fn paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Moves on to `phase` and wakes every connection; going back does nothing.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.ring();
    }

    /// Pauses or goes on, and wakes every connection.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.ring();
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

    fn ring(&self) {
        self.bell.notify_waiters();
        for (_, waker) in self.ears().iter() {
            waker.wake_by_ref();
        }
    }

    fn ears(&self) -> MutexGuard<'_, Slab<Waker>> {
        // Whole after every statement that changes it.
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's ear for the bell. Registers once and then costs one atomic load per poll, because a task's waker
/// stays the same for its whole life.
#[derive(Debug)]
pub(crate) struct Ear {
    drain: Arc<Drain>,
    place: Option<usize>,
}

impl Ear {
    pub(crate) fn new(drain: Arc<Drain>) -> Self {
        Self { drain, place: None }
    }

    /// The phase now; the task is woken when it moves on.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Phase {
        if self.place.is_none() {
            // Registered before the phase is read, so that no ring falls between the two.
            self.place = Some(self.drain.ears().insert(cx.waker().clone()));
        }
        self.drain.phase()
    }

    /// Nothing new may begin. Whoever has polled is woken when that changes.
    #[inline]
    pub(crate) fn paused(&self) -> bool {
        self.drain.paused()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.drain.ears().remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn an_ear_wakes_for_every_phase_and_every_pause() {
        let drain = Arc::new(Drain::default());
        let mut ear = Ear::new(drain.clone());
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            std::future::poll_fn(|cx| {
                seen.push((ear.poll(cx), ear.paused()));
                if ear.poll(cx) == Phase::Over { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            seen
        });
        tokio::task::yield_now().await;
        for paused in [true, false] {
            drain.pause(paused);
            tokio::task::yield_now().await;
        }
        drain.advance(Phase::Draining);
        tokio::task::yield_now().await;
        drain.advance(Phase::Over);
        drain.advance(Phase::Draining);
        let (serving, draining, over) = (Phase::Serving, Phase::Draining, Phase::Over);
        let expected = [(serving, false), (serving, true), (serving, false), (draining, false), (over, false)];
        assert_eq!(task.await.unwrap(), expected);
        drain.reached(Phase::Draining).await;
        assert!(drain.ears().is_empty(), "an ear that is gone is forgotten");
    }
}
