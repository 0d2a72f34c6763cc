//! The windows of one actor, and how a rule that is broken becomes an alert.
//!
//! In: what one event showed, settings. Out: alerts, each said once and again when it got much worse. Never: space for
//! windows that nothing is in.

use super::rule::{Level, Rule};
use super::window::{Recent, Ring, Time};
use super::{Setting, Thresholds};
use crate::event::{Actor, Alert, Event, Subject};

/// What is kept of one role that has a session.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    bulk: Ring,
    subjects: Recent,
    rare: Option<Box<Rare>>,
    pub(super) seen: Time,
}

/// What most actors never need.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    export: Ring,
    pub(super) failures: Ring,
    pub(super) raised: Raised,
}

/// When each rule last spoke, and how loudly. Most actors never give cause.
#[derive(Clone, Debug, Default)]
pub(super) struct Raised(Option<Box<Spoken>>);

type Spoken = [Option<(Time, Level)>; Rule::ALL.len()];

impl Raised {
    /// Bytes on the heap.
    #[cfg(test)]
    fn heap(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<Spoken>())
    }

    /// Whether to speak now: not within the cooldown, unless it got worse.
    fn speak(&mut self, rule: Rule, level: Level, now: Time, cooldown: Time) -> bool {
        let last = self.0.as_ref().and_then(|spoken| spoken[rule as usize]);
        if last.is_some_and(|(at, before)| now - at < cooldown && level <= before) {
            return false;
        }
        self.spoke(rule, level, now);
        true
    }

    pub(super) fn spoke(&mut self, rule: Rule, level: Level, at: Time) {
        self.0.get_or_insert_default()[rule as usize] = Some((at, level));
    }
}

impl State {
    /// Whom failed logins were counted of before.
    pub(super) fn after(failures: Ring, raised: Raised) -> Self {
        Self { rare: Some(Box::new(Rare { failures, raised, ..Rare::default() })), ..Self::default() }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let rare = |rare: &Rare| size_of::<Rare>() + rare.export.heap() + rare.failures.heap() + rare.raised.heap();
        self.bulk.heap() + self.subjects.heap() + self.rare.as_deref().map_or(0, rare)
    }

    /// `bulk` and `subjects`: protected rows were released.
    pub(super) fn many(&mut self, event: &Event, role: &str, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        if let Some(setting) = t.watching(Rule::Bulk, role) {
            self.bulk.add(now, event.rows, seconds(setting.window_s), Level::keep(setting.threshold));
            let observed = self.bulk.total();
            if observed > setting.threshold {
                let message = || format!("{role:?} accessed at least {observed} records in {}", span(setting.window_s));
                Found::of(Rule::Bulk, setting, observed).say(&mut self.rare().raised, now, t, message, out);
            }
        }
        let Some(setting) = t.watching(Rule::Subjects, role) else { return };
        let window = seconds(setting.window_s);
        let keep = usize::try_from(Level::keep(setting.threshold)).unwrap_or(usize::MAX);
        for subject in &event.subjects.known {
            self.subjects.see(now, identity(subject), window, keep);
        }
        self.subjects.expire(now, window);
        // `more` are different from the named ones of this event, which alone are `Subjects::MAX` then.
        let observed = self.subjects.count() + event.subjects.more;
        if observed > setting.threshold && !event.subjects.known.is_empty() {
            let message = || {
                let for_time = span(setting.window_s);
                format!("{role:?} accessed data of at least {observed} different people in {for_time}")
            };
            Found::of(Rule::Subjects, setting, observed).say(&mut self.rare().raised, now, t, message, out);
        }
    }

    pub(super) fn exported(&mut self, rows: u64, role: &str, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(Rule::Export, role) else { return };
        let export = &mut self.rare().export;
        export.add(now, rows, seconds(setting.window_s), Level::keep(setting.threshold));
        let observed = export.total();
        if observed > setting.threshold {
            let message = || format!("Large data export: at least {observed} records by {role:?}");
            Found::of(Rule::Export, setting, observed).say(&mut self.rare().raised, now, t, message, out);
        }
    }
}

pub(super) fn of_role(actor: &Actor) -> impl Fn(u64, &str) -> String {
    move |n, span| format!("{:?} failed at least {n} times in {span}", actor.role)
}

pub(super) fn failure(
    ring: &mut Ring,
    raised: &mut Raised,
    now: Time,
    t: &Thresholds,
    setting: &Setting,
    message: &dyn Fn(u64, &str) -> String,
    out: &mut Vec<Alert>,
) {
    ring.add(now, 1, seconds(setting.window_s), Level::keep(setting.threshold));
    let observed = ring.total();
    if observed > setting.threshold {
        let message = || message(observed, &span(setting.window_s));
        Found::of(Rule::Failures, setting, observed).say(raised, now, t, message, out);
    }
}

/// A rule that is broken.
pub(super) struct Found<'t> {
    pub(super) rule: Rule,
    pub(super) setting: &'t Setting,
    pub(super) observed: u64,
    pub(super) threshold: u64,
    pub(super) level: Level,
}

impl<'t> Found<'t> {
    pub(super) fn of(rule: Rule, setting: &'t Setting, observed: u64) -> Self {
        let level = if rule.counts() { Level::of(observed, setting.threshold) } else { Level::default() };
        Self { rule, setting, observed, threshold: setting.threshold, level }
    }

    pub(super) fn alert(self, message: String) -> Alert {
        Alert {
            rule: self.rule.as_str().to_owned(),
            severity: self.level.severity(self.setting.severity).as_str().to_owned(),
            observed: self.observed,
            threshold: self.threshold,
            window_s: self.setting.window_s,
            address: None,
            action: self.setting.action,
            message,
        }
    }

    pub(super) fn say(
        self,
        raised: &mut Raised,
        now: Time,
        t: &Thresholds,
        message: impl FnOnce() -> String,
        out: &mut Vec<Alert>,
    ) {
        if raised.speak(self.rule, self.level, now, seconds(t.cooldown_s)) {
            out.push(self.alert(message()));
        }
    }
}

/// The pseudonym, which is a MAC, folded to 64 bits with the kind: in a window of a thousand people two share one with a
/// chance of 2⁻⁴⁵.
pub(super) fn identity(subject: &Subject) -> u64 {
    let kind = subject.kind.bytes().fold(0u128, |hash, byte| hash.rotate_left(9) ^ u128::from(byte));
    let all = subject.pseudonym.0 ^ kind;
    (all >> 64) as u64 ^ all as u64
}

/// Seconds as microseconds, at most a thousand years so that sums cannot overflow.
pub(super) fn seconds(s: u64) -> Time {
    Time::try_from(s.min(31_556_952_000)).unwrap_or(0) * 1_000_000
}

pub(super) fn span(s: u64) -> String {
    let (count, unit) = match s {
        3_600.. if s.is_multiple_of(3_600) => (s / 3_600, "hour"),
        60.. if s.is_multiple_of(60) => (s / 60, "minute"),
        _ => (s, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
