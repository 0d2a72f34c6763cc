//! Signed checkpoints carried elsewhere, by a thread for each place: one that hangs holds up neither the log nor others.
//!
//! In: the newest note. Out: files ([`AnchorFile`]), messages ([`Syslog`]), a count of failures. Never: a note that was not durable, a wait of
//! the desk's thread but for the last note at its end.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::audit::{AnchorFile, Note, Syslog};
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::metrics::Meters;

/// At most one note in this time, or one attempt.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the end waits for the last note to be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// All places.
pub(super) struct Anchors(Vec<Place>);

struct Place {
    slot: Arc<Slot>,
    /// Hung up when the thread has ended.
    ended: Receiver<()>,
}

#[derive(Default)]
struct Slot {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    /// The newest one; those before it need not be there.
    note: Option<Note>,
    /// No other follows.
    last: bool,
}

/// A place that notes are carried to.
enum Elsewhere {
    File(AnchorFile),
    Syslog(Syslog),
}

impl Elsewhere {
    fn put(&self, note: &Note) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.append(note),
            Self::Syslog(collector) => collector.send(note, Now::read().unix_us),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Syslog(collector) => collector.to_string(),
        }
    }
}

impl Slot {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Nothing panics under the lock.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Anchors {
    /// Starts the threads.
    ///
    /// # Errors
    /// There is no room for one.
    pub(super) fn start(paths: &[PathBuf], collectors: &[Syslog], meters: &Arc<Meters>) -> Result<Self> {
        let mut places = Self(Vec::new());
        let files = paths.iter().map(|path| Elsewhere::File(AnchorFile::new(path.clone())));
        for elsewhere in files.chain(collectors.iter().cloned().map(Elsewhere::Syslog)) {
            let (slot, (ending, ended)) = (Arc::new(Slot::default()), channel());
            places.0.push(Place { slot: Arc::clone(&slot), ended });
            let meters = Arc::clone(meters);
            std::thread::Builder::new()
                .name("pgveil-anchor".to_owned())
                .spawn(move || carry(&slot, &elsewhere, &meters, &ending))
                .map_err(|e| Error::io("starting an anchor's thread", e))?;
        }
        Ok(places)
    }

    /// Every place is to have this.
    pub(super) fn offer(&self, note: &Note) {
        for place in &self.0 {
            place.slot.wanted().note = Some(note.clone());
            place.slot.changed.notify_one();
        }
    }

    /// Waits, but not long, until every place has the newest note.
    pub(super) fn finish(self) {
        self.no_more();
        for place in &self.0 {
            if place.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(target: "pgveil::audit", "an anchor does not answer; it may lack the last checkpoint");
            }
        }
    }

    fn no_more(&self) {
        for place in &self.0 {
            place.slot.wanted().last = true;
            place.slot.changed.notify_one();
        }
    }
}

impl Drop for Anchors {
    fn drop(&mut self) {
        self.no_more();
    }
}

/// One place's thread. `_ending` hangs up when it is dropped.
fn carry(slot: &Slot, elsewhere: &Elsewhere, meters: &Meters, _ending: &Sender<()>) {
    let mut failed = false;
    loop {
        let nothing = |wanted: &mut Wanted| wanted.note.is_none() && !wanted.last;
        let wanted = slot.changed.wait_while(slot.wanted(), nothing);
        let mut wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        let Some(note) = wanted.note.take() else { return };
        let last = wanted.last;
        drop(wanted);
        let path = elsewhere.name();
        match elsewhere.put(&note) {
            Ok(()) => {
                if failed {
                    tracing::info!(target: "pgveil::audit", path, "the anchor can be written again");
                }
                failed = false;
            }
            Err(error) => {
                meters.anchor_error();
                tracing::warn!(target: "pgveil::audit", path, %error, "a signed checkpoint could not be anchored");
                if last {
                    return;
                }
                slot.wanted().note.get_or_insert(note);
                failed = true;
            }
        }
        pause(slot);
    }
}

/// Until the next note's turn, or the end.
fn pause(slot: &Slot) {
    let waited = slot.changed.wait_timeout_while(slot.wanted(), PAUSE, |wanted| !wanted.last);
    drop(waited);
}
