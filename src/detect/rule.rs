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
}

impl Rule {
    /// Every rule, in the order of [`crate::metrics::ALERT_RULES`].
    pub const ALL: [Rule; 6] =
        [Rule::Bulk, Rule::Subjects, Rule::AfterHours, Rule::Failures, Rule::Export, Rule::Tamper];

    /// The name in alerts, metrics and the policy.
    pub fn as_str(self) -> &'static str {
        crate::metrics::ALERT_RULES[self as usize]
    }

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        let all = [Severity::Low, Severity::Medium, Severity::High];
        all.into_iter().find(|severity| severity.as_str() == name).unwrap_or(Severity::Critical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_metric() {
        let names: Vec<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names, ["bulk", "subjects", "after_hours", "failures", "export", "tamper"]);
        assert!(Rule::ALL.iter().all(|rule| Rule::named(rule.as_str()) == Some(*rule)));
        assert_eq!(Rule::named("other"), None);
    }
}
