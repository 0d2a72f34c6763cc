//! What the detector does about what it finds: `throttle`, `kill`, `quarantine`. (`stop` happens in the sessions, on the
//! row that crosses.)
//!
//! In: an alert and the event that gave cause. Out: a word to sessions, a slower rate, a login that is refused. Never: a
//! login that is refused because somebody who could not prove to be that one has failed.

use std::sync::Arc;
use std::time::Duration;

use super::Desk;
use super::quarantine::{Change, Quarantine, Refused};
use super::sessions::Sessions;
use crate::clock::Now;
use crate::detect::{Action, Gate};
use crate::event::{Actor, ActorAuth, Alert, Event, EventKind};
use crate::metrics::Meters;

/// How often the quarantine's file is looked at.
const FOLLOW: Duration = Duration::from_secs(1);

/// Everything that an alert can bring about.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// What the rules let go.
    pub gate: Arc<Gate>,
    /// The sessions that are open.
    pub sessions: Arc<Sessions>,
    /// The logins that are refused.
    pub quarantine: Arc<Quarantine>,
}

/// What was done, for the access log and the metric.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// For the event, if there is one beside the alert's own.
    pub kind: Option<EventKind>,
    /// The label of `pgveil_detector_actions_total`.
    pub action: &'static str,
    pub note: String,
    /// What went wrong, which is an alert of its own.
    pub failed: Option<String>,
}

impl Response {
    /// Does what the alert asks for. `None`: nothing is to be done.
    pub(super) fn to(&self, cause: &Event, alert: &Alert, now: Now) -> Option<Done> {
        let actor = cause.actor.as_ref().filter(|_| cause.kind != EventKind::LoginFailed)?;
        let (role, rule) = (actor.role.as_str(), alert.rule.as_str());
        match alert.action {
            Action::Alert => None,
            Action::Stop => Some(Done { kind: None, action: "stop", note: String::new(), failed: None }),
            Action::Throttle { rows_per_s } => {
                self.gate.throttle(role, rows_per_s, alert.window_s, now);
                Some(Done { kind: None, action: "throttle", note: String::new(), failed: None })
            }
            Action::Kill => {
                let ended = self.sessions.kill(cause.connection);
                let note = format!("rule {rule} ended the session{}", if ended { "" } else { ", which had ended" });
                Some(Done { kind: Some(EventKind::Killed), action: "kill", note, failed: None })
            }
            Action::Quarantine => Some(self.quarantine(role, rule, now)),
        }
    }

    fn quarantine(&self, role: &str, rule: &str, now: Now) -> Done {
        let put = self.quarantine.add(role, &format!("rule {rule}"), now.unix_us);
        if let Err(Refused::Not(why)) = put {
            self.sessions.quarantine(role);
            let failed = Some(format!("{role:?} is not quarantined: {why}"));
            return Done { kind: None, action: "quarantine", note: String::new(), failed };
        }
        // A session that logs in at this moment is known before it asks whether it may.
        let ended = self.sessions.quarantine(role);
        let failed = match put {
            Err(Refused::NotWritten(error)) => {
                Some(format!("{role:?} is quarantined until the proxy ends, because its file is not written: {error}"))
            }
            _ => None,
        };
        let note = format!("rule {rule} quarantined the login; {ended} sessions end");
        Done { kind: Some(EventKind::Quarantined), action: "quarantine", note, failed }
    }
}

/// Takes over what the operator changes in the quarantine's file, each change an event; never ends.
pub async fn follow(response: Response, desk: Desk, meters: Arc<Meters>) {
    loop {
        let quarantine = response.quarantine.clone();
        match tokio::task::spawn_blocking(move || quarantine.follow()).await {
            Ok(Ok(changes)) => {
                for change in changes {
                    let event = changed(&change, &response);
                    // Nobody is left to tell when the desk is gone.
                    let _ = desk.event(event).await;
                }
            }
            Ok(Err(error)) => {
                tracing::error!(target: "pgveil::alert", %error, "the quarantine's file is not followed; who is in it stays");
            }
            Err(error) => tracing::error!(%error, "looking at the quarantine's file failed"),
        }
        meters.quarantined(response.quarantine.count());
        tokio::time::sleep(FOLLOW).await;
    }
}

fn changed(change: &Change, response: &Response) -> Event {
    let (kind, entry, note) = match change {
        Change::Added(entry) => {
            let ended = response.sessions.quarantine(&entry.role);
            (EventKind::Quarantined, entry, format!("by the operator; {ended} sessions end"))
        }
        Change::Released(entry) => (EventKind::Released, entry, "by the operator".to_owned()),
    };
    tracing::warn!(target: "pgveil::alert", role = entry.role, quarantined = kind == EventKind::Quarantined, note);
    let mut event = Event::new(kind, Now::read().unix_us);
    let actor = Actor {
        role: entry.role.clone(),
        database: String::new(),
        auth: ActorAuth::None,
        certificate: None,
        application: String::new(),
        client: None,
        purpose: None,
        purpose_by: None,
        person: None,
    };
    event.actor = Some(actor.into());
    event.note = Some(note);
    event
}
