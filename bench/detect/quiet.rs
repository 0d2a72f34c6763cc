//! A month without attacks, looked at by an operator who sets thresholds.
//!
//! In: events of another seed's hospital. Out: the most that any clinician does within each rule's window. Never: a
//! look at an attack.

use std::collections::{HashMap, HashSet, VecDeque};

use pgveil::detect::{Rule, Thresholds};
use pgveil::event::{Access, EventKind};

use super::hospital::{Hospital, SECOND};
use super::month::Month;
use super::watch::{Own, Watcher};

/// The most within each window, over all clinicians.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busiest {
    /// Rows in 15 minutes.
    pub records: u64,
    /// People in an hour.
    pub people: u64,
    /// Failures in 15 minutes.
    pub failures: u64,
    /// Exported rows in a day.
    pub exported: u64,
}

/// Weights in the last `window_s` seconds.
#[derive(Default)]
struct Window {
    entries: VecDeque<(i64, u64)>,
    total: u64,
}

impl Window {
    fn add(&mut self, at: i64, weight: u64, window_s: i64) -> u64 {
        self.entries.push_back((at, weight));
        self.total += weight;
        while let Some((first, weight)) = self.entries.front()
            && *first <= at - window_s * SECOND
        {
            self.total -= weight;
            self.entries.pop_front();
        }
        self.total
    }
}

#[derive(Default)]
struct Desk {
    records: Window,
    failures: Window,
    exported: Window,
    people: HashMap<u128, i64>,
    seen: VecDeque<(i64, u128)>,
}

impl Desk {
    fn see(&mut self, at: i64, who: u128) {
        self.people.insert(who, at);
        self.seen.push_back((at, who));
        while let Some((first, who)) = self.seen.front().copied()
            && first <= at - 3_600 * SECOND
        {
            self.seen.pop_front();
            if self.people.get(&who) == Some(&first) {
                self.people.remove(&who);
            }
        }
    }
}

/// Watches the hospital's whole month; `exempt` are the roles no rule looks at.
pub fn busiest(hospital: &Hospital, exempt: &[String]) -> Busiest {
    let mut desks: HashMap<String, Desk> = HashMap::new();
    let mut most = Busiest::default();
    for (event, _) in Month::new(hospital, Vec::new()) {
        let Some(actor) = event.actor.as_deref().filter(|actor| !exempt.contains(&actor.role)) else { continue };
        if !desks.contains_key(&actor.role) {
            desks.insert(actor.role.clone(), Desk::default());
        }
        let Some(desk) = desks.get_mut(&actor.role) else { continue };
        let at = event.at_us;
        match event.kind {
            EventKind::LoginFailed | EventKind::Refused => {
                most.failures = most.failures.max(desk.failures.add(at, 1, 900));
            }
            EventKind::Statement if matches!(event.action().access, Access::Read | Access::Export) => {
                most.records = most.records.max(desk.records.add(at, event.rows, 900));
                event.subjects.known.iter().for_each(|subject| desk.see(at, subject.pseudonym.0));
                most.people = most.people.max(desk.people.len() as u64);
                if event.action().access == Access::Export {
                    most.exported = most.exported.max(desk.exported.add(at, event.rows, 86_400));
                }
            }
            _ => {}
        }
    }
    most
}

/// How many actors each of these policies finds unusual in a quiet month.
pub fn unusual<const N: usize>(hospital: &Hospital, mut policies: [Thresholds; N]) -> [usize; N] {
    for policy in &mut policies {
        for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::Unusual) {
            policy.of_mut(rule).enabled = false;
        }
    }
    let mut watchers = policies.map(|policy| (Own::new("", policy, hospital.start), HashSet::new()));
    let mut raised = Vec::new();
    for (event, _) in Month::new(hospital, Vec::new()) {
        for (watcher, found) in &mut watchers {
            watcher.observe(&event, &mut raised);
            let role = event.actor.as_deref().filter(|_| !raised.is_empty()).map(|actor| actor.role.clone());
            found.extend(role);
            raised.clear();
        }
    }
    watchers.map(|(_, found)| found.len())
}
