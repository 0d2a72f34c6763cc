//! What the service manager is told (sd_notify(3)): ready, reloading, stopping, alive. Without `NOTIFY_SOCKET`: nothing.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// How long a reload may take before it is no longer reported as one: a policy that is refused again in the same words
/// is not announced again.
const RELOAD: Duration = Duration::from_secs(15);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// The ports are open.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Draining has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// For each SIGHUP: reloading, and ready again when `reloaded` rings. Everything else about it is the keeper's.
pub(super) async fn reloads(reloaded: Arc<Notify>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        let done = reloaded.notified();
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        // Late or not, what is served is served.
        let _ = tokio::time::timeout(RELOAD, done).await;
        ready();
    }
}

/// Says that the tasks beside the relay's threads are alive, twice in the time that `WatchdogSec=` allows.
pub(super) async fn watchdog() {
    let mut allowed_us = 0;
    if !sd_notify::watchdog_enabled(false, &mut allowed_us) || allowed_us == 0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_micros(allowed_us / 2));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}
