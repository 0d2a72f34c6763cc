//! What each rule looks for and what follows: the policy's `[detect]` and `[detect.rules.…]`.
//!
//! In: nothing. Out: settings by rule, the founding documents' numbers by default. Never: a rule without a setting.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::canary::Canaries;
use super::rule::{Rule, Severity};
use super::{Action, Hours};

/// One rule's setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whether it looks at anything.
    pub enabled: bool,
    /// More than this (`sequence`: this many; `unusual`: so many deviations above what is usual); 0 where the rule counts nothing.
    pub threshold: u64,
    /// Within this many seconds; 0 where the rule has no window.
    pub window_s: u64,
    /// How bad it is when the threshold is crossed; raised as it goes on.
    pub severity: Severity,
    /// Roles it does not look at.
    pub exempt: Vec<String>,
    /// What follows.
    pub action: Action,
}

impl Setting {
    fn new(rule: Rule) -> Self {
        use Severity::{Critical, High, Low, Medium};
        let (threshold, window_s, severity) = match rule {
            Rule::Bulk => (100, 900, Medium),
            Rule::Subjects => (50, 3_600, High),
            Rule::AfterHours => (0, 0, Low),
            Rule::Failures => (10, 900, Medium),
            Rule::Export => (1_000, 86_400, High),
            Rule::Tamper | Rule::Canary => (0, 0, Critical),
            Rule::Sequence => (30, 0, High),
            Rule::FirstTime => (0, 2_592_000, Low),
            Rule::Unusual => (6, 1_209_600, Medium),
            Rule::BreakGlass | Rule::PolicyChange | Rule::Bypass => (0, 0, High),
        };
        // First time needs a month of the log, which not everybody keeps at hand.
        let enabled = rule != Rule::FirstTime;
        Self { enabled, threshold, window_s, severity, exempt: Vec::new(), action: Action::Alert }
    }
}

/// What the rules look for (`[detect]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// One per rule, see [`Thresholds::of`].
    pub rules: [Setting; Rule::ALL.len()],
    /// `after_hours` of roles without a calendar of their own: `None` switches the rule off for them.
    pub hours: Option<Arc<Hours>>,
    /// `[roles.….calendar]`, by login.
    pub calendars: HashMap<String, Arc<Hours>>,
    /// `[roles.….peers]`, or the name of the entry, by login: whom `unusual` compares it with.
    pub peers: HashMap<String, Arc<str>>,
    /// Purposes for emergencies.
    pub break_glass: Vec<String>,
    /// Rows and people that nobody has a reason to look at.
    pub canaries: Canaries,
    /// Client addresses that are connected past this proxy and are known: other proxies, poolers.
    pub bypass_addresses: Vec<IpAddr>,
    /// Actors with windows at the same time; `None`: [`super::ACTORS_MAX`].
    pub actors_max: Option<usize>,
    /// Roles no rule looks at.
    pub exempt: Vec<String>,
    /// The same alert for the same actor is raised again only after this many seconds, or when it got much worse.
    pub cooldown_s: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            rules: Rule::ALL.map(Setting::new),
            hours: None,
            calendars: HashMap::new(),
            peers: HashMap::new(),
            break_glass: Vec::new(),
            canaries: Canaries::default(),
            bypass_addresses: Vec::new(),
            actors_max: None,
            exempt: Vec::new(),
            cooldown_s: 900,
        }
    }
}

impl Thresholds {
    /// The rule's setting.
    pub fn of(&self, rule: Rule) -> &Setting {
        &self.rules[rule as usize]
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, rule: Rule) -> &mut Setting {
        &mut self.rules[rule as usize]
    }

    /// The rule's setting, if it looks at that role.
    pub fn watching(&self, rule: Rule, role: &str) -> Option<&Setting> {
        let setting = self.of(rule);
        let exempt = || setting.exempt.iter().chain(&self.exempt).any(|name| name == role);
        (setting.enabled && !exempt()).then_some(setting)
    }

    /// The longest window or cooldown, in seconds: what happened earlier is in no window.
    pub fn longest_s(&self) -> u64 {
        let enabled = self.rules.iter().filter(|setting| setting.enabled);
        enabled.map(|setting| setting.window_s).fold(self.cooldown_s, u64::max)
    }

    /// The longest window of those kept for each actor.
    pub(super) fn longest_of_actor_s(&self) -> u64 {
        let own = |rule: &Rule| !matches!(rule, Rule::FirstTime | Rule::Unusual);
        let actors = Rule::ALL.into_iter().filter(own).map(|rule| self.of(rule));
        actors.map(|setting| setting.window_s).fold(self.cooldown_s, u64::max)
    }

    /// When the role may work.
    pub(super) fn hours_of(&self, role: &str) -> Option<&Arc<Hours>> {
        self.calendars.get(role).or(self.hours.as_ref())
    }
}
