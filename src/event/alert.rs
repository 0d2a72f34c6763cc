//! What the detector found, and what the policy wants done about it.
//!
//! In: names of rules, counts, one sentence. Out: a member of the event. Never: a value.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What an alert brings about, beside being said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    #[default]
    Alert,
    /// Protected rows are released to the actor no faster than this.
    Throttle {
        /// Rows a second.
        rows_per_s: u64,
    },
    /// The statement is stopped on the row that crosses.
    Stop,
    /// The session is ended.
    Kill,
    /// The actor is let in no more.
    Quarantine,
}

impl Action {
    /// What a record leaves out.
    fn is_alert(&self) -> bool {
        *self == Action::Alert
    }
}

/// The detector's finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// One of [`crate::metrics::ALERT_RULES`].
    pub rule: String,
    /// `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// What was counted; at least this much.
    pub observed: u64,
    /// The threshold it crossed.
    pub threshold: u64,
    /// The window, in seconds; 0 where the rule has none.
    pub window_s: u64,
    /// The rule counted by client address instead of by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What the policy wants done.
    #[serde(default, skip_serializing_if = "Action::is_alert")]
    pub action: Action,
    /// One sentence.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_written_unless_it_is_only_an_alert() {
        for (action, json) in [
            (Action::Alert, "\"alert\""),
            (Action::Throttle { rows_per_s: 7 }, "{\"throttle\":{\"rows_per_s\":7}}"),
            (Action::Stop, "\"stop\""),
            (Action::Kill, "\"kill\""),
            (Action::Quarantine, "\"quarantine\""),
        ] {
            assert_eq!(serde_json::to_string(&action).unwrap(), json);
            let alert = Alert {
                rule: "bulk".into(),
                severity: "high".into(),
                observed: 2,
                threshold: 1,
                window_s: 60,
                address: None,
                action,
                message: "much".into(),
            };
            let line = serde_json::to_string(&alert).unwrap();
            assert_eq!(line.contains("\"action\""), action != Action::Alert, "{line}");
            assert_eq!(serde_json::from_str::<Alert>(&line).unwrap(), alert);
        }
    }
}
