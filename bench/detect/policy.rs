//! The policies the month is watched under.
//!
//! In: the hospital. Out: `[detect]` as an operator would write it, read by pgveil's own reader. Never: a threshold
//! that the policy file cannot say.

use std::fmt::Write as _;

use pgveil::detect::Thresholds;

use super::hospital::{HOLIDAYS, Hospital, ZONES};
use super::quiet::Busiest;
use super::service;

/// Thresholds with their windows in seconds, for the policy and for the tumbling windows.
#[derive(Clone, Debug)]
pub struct Limits {
    pub bulk: (u64, u64),
    pub subjects: (u64, u64),
    pub failures: (u64, u64),
    pub export: (u64, u64),
    pub cooldown_s: u64,
    /// Looked at by no rule.
    exempt: Vec<String>,
}

impl Limits {
    /// The shipped defaults: the founding documents' numbers.
    pub fn shipped() -> Self {
        Self {
            bulk: (100, 900),
            subjects: (50, 3_600),
            failures: (10, 900),
            export: (1_000, 86_400),
            cooldown_s: 900,
            exempt: Vec::new(),
        }
    }

    /// What an operator arrives at who looks at a quiet month: a quarter above what the busiest clinician does, and
    /// the shipped numbers where they are above that already.
    pub fn recommended(busiest: Busiest) -> Self {
        let shipped = Self::shipped();
        let above = |(number, window): (u64, u64), most: u64| {
            let quarter = (most + most / 4).next_multiple_of(10);
            (if most < number { number } else { quarter }, window)
        };
        Self {
            bulk: above(shipped.bulk, busiest.records),
            subjects: above(shipped.subjects, busiest.people),
            failures: above(shipped.failures, busiest.failures),
            export: above(shipped.export, busiest.exported),
            exempt: unwatched(),
            ..shipped
        }
    }

    pub fn of(&self, rule: &str) -> (u64, u64) {
        match rule {
            "bulk" => self.bulk,
            "subjects" => self.subjects,
            "failures" => self.failures,
            "export" => self.export,
            _ => (0, 0),
        }
    }

    pub fn exempt(&self, role: &str, _rule: &str) -> bool {
        self.exempt.iter().any(|exempt| exempt == role)
    }

    /// As the policy file says it.
    pub fn toml(&self, _hospital: &Hospital) -> String {
        let mut text = String::from("version = 1\n[detect]\n");
        for (name, window, (threshold, seconds)) in [
            ("bulk_records", "bulk_window", self.bulk),
            ("subjects", "subjects_window", self.subjects),
            ("failures", "failures_window", self.failures),
            ("export_records", "export_window", self.export),
        ] {
            let _ = writeln!(text, "{name} = {threshold}\n{window} = \"{seconds}s\"");
        }
        let _ = writeln!(text, "exempt = {:?}", self.exempt);
        let _ = (HOLIDAYS, ZONES);
        text
    }

    pub fn thresholds(&self, hospital: &Hospital) -> Thresholds {
        let text = self.toml(hospital);
        let policy = pgveil::policy::parse(&[("detect.toml".to_owned(), text.clone())]);
        policy.map(|policy| policy.detect).unwrap_or_else(|problems| panic!("{problems:#?}\nin {text}"))
    }
}

/// Accounts without a person and logins that many share: no threshold fits them and people both.
pub fn unwatched() -> Vec<String> {
    [service::roles(), service::shared()].concat()
}
