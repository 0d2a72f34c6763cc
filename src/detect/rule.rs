//! The rules' names and severities.

/// One rule of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Many records in a window.
    Bulk,
    /// Many different people in a window.
    Subjects,
    /// Data touched outside business hours.
    AfterHours,
    /// Many failures in a window: logins, permissions, refusals, cells that do not open.
    Failures,
    /// Many records exported in one statement or in a window.
    Export,
    /// A cell did not open.
    Tamper,
    /// A row or a person that nobody has a reason to look at.
    Canary,
    /// Rows read one by one, by keys that go on in equal steps.
    Sequence,
    /// A table that the role has not touched for that purpose in a long time, or ever.
    FirstTime,
    /// A purpose for emergencies was used.
    BreakGlass,
    /// The policy in force has another text.
    PolicyChange,
    /// Somebody is connected to the database past the proxy.
    Bypass,
    /// An hour far from what the actor and its peers usually do.
    Unusual,
}

impl Rule {
    /// Every rule, in the order of [`crate::metrics::ALERT_RULES`].
    pub const ALL: [Rule; 13] = [
        Rule::Bulk,
        Rule::Subjects,
        Rule::AfterHours,
        Rule::Failures,
        Rule::Export,
        Rule::Tamper,
        Rule::Canary,
        Rule::Sequence,
        Rule::FirstTime,
        Rule::BreakGlass,
        Rule::PolicyChange,
        Rule::Bypass,
        Rule::Unusual,
    ];

    /// The name in alerts, metrics and the policy.
    pub fn as_str(self) -> &'static str {
        crate::metrics::ALERT_RULES[self as usize]
    }

    /// It counts, up to a threshold.
    pub fn counts(self) -> bool {
        use Rule::{Bulk, Export, Failures, Sequence, Subjects, Unusual};
        matches!(self, Bulk | Subjects | Failures | Export | Sequence | Unusual)
    }

    /// It looks back so far and no farther.
    pub fn has_window(self) -> bool {
        use Rule::{Bulk, Export, Failures, FirstTime, Subjects, Unusual};
        matches!(self, Bulk | Subjects | Failures | Export | FirstTime | Unusual)
    }

    /// It is about a role.
    pub fn has_roles(self) -> bool {
        self != Rule::PolicyChange
    }

    /// What it finds is found once, so no cooldown is needed.
    pub(super) fn once(self) -> bool {
        matches!(self, Rule::FirstTime | Rule::BreakGlass | Rule::PolicyChange)
    }

    /// The actions that can follow. What happens to a statement needs one; a session or an actor of ours can only be
    /// ended or turned away where it is one that gave cause.
    pub fn actions(self) -> &'static [&'static str] {
        match self {
            Rule::Bulk | Rule::Subjects | Rule::Export => &["alert", "throttle", "stop", "kill", "quarantine"],
            Rule::Canary => &["alert", "kill", "quarantine"],
            Rule::Sequence | Rule::Unusual => &["alert", "throttle", "kill", "quarantine"],
            Rule::AfterHours | Rule::Failures | Rule::Tamper | Rule::FirstTime => &["alert", "kill", "quarantine"],
            Rule::BreakGlass | Rule::PolicyChange | Rule::Bypass => &["alert"],
        }
    }

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "plain words")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// All of them, ascending.
    pub const ALL: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// The name in alerts and the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// The severity of that name; what is not known is the worst.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name).unwrap_or(Severity::Critical)
    }

    /// So many steps worse, at most critical.
    pub(super) fn worse(self, steps: u8) -> Self {
        Self::ALL[(self as usize + usize::from(steps)).min(Self::ALL.len() - 1)]
    }
}

/// Windows are not made longer than this for the sake of levels.
const KEEP_MAX: u64 = 100_000;

/// How far past its threshold something is: at 2, 5 and 10 times it. Each is said once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(u8);

impl Level {
    /// Where levels begin, in thresholds.
    const STEPS: [u64; 3] = [2, 5, 10];

    /// `after_hours` with clear values: two steps worse than without.
    pub(super) const CLEAR: Level = Level(3);

    pub(super) fn of(observed: u64, threshold: u64) -> Self {
        let reached = |step: &&u64| observed >= threshold.max(1).saturating_mul(**step);
        Self(Self::STEPS.iter().filter(reached).count() as u8)
    }

    /// The count up to which a window must be exact to tell levels of that threshold apart; beyond [`KEEP_MAX`] only
    /// whether it is crossed.
    pub(super) fn keep(threshold: u64) -> u64 {
        (threshold.max(1).saturating_mul(Self::STEPS[2]) - 1).min(KEEP_MAX).max(threshold)
    }

    /// What that level makes of the rule's severity.
    pub(super) fn severity(self, base: Severity) -> Severity {
        base.worse(self.0.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_those_of_the_metric() {
        assert_eq!(Severity::ALL.map(Severity::as_str), crate::metrics::SEVERITIES);
        assert!(Severity::ALL.iter().enumerate().all(|(at, severity)| *severity as usize == at));
    }

    #[test]
    fn names_are_those_of_the_metric() {
        let names: Vec<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names, crate::metrics::ALERT_RULES);
        assert_eq!((Rule::Tamper.as_str(), Rule::Unusual.as_str()), ("tamper", "unusual"));
        assert!(Rule::ALL.iter().all(|rule| Rule::named(rule.as_str()) == Some(*rule)));
        assert_eq!(Rule::named("other"), None);
    }

    #[test]
    fn levels_begin_at_two_five_and_ten_times_the_threshold() {
        let of = |observed, threshold| Level::of(observed, threshold).severity(Severity::Medium).as_str();
        assert_eq!([of(101, 100), of(499, 100)], ["medium", "medium"]);
        assert_eq!([of(500, 100), of(999, 100), of(1_000, 100)], ["high", "high", "critical"]);
        assert!(Level::of(199, 100) < Level::of(200, 100));
        assert_eq!((Level::keep(100), Level::keep(0), Level::keep(200_000)), (999, 9, 200_000));
        assert_eq!(Severity::High.worse(9), Severity::Critical);
    }
}
