//! What was raised held against what was injected.
//!
//! In: labels and what a watcher raised, in the order of time. Out: incidents, true or false, and per attack when it
//! was found and what had left by then. Never: a part in the detection.

use std::collections::{BTreeMap, HashMap};

use pgveil::event::Event;

use super::attack::{Attack, Scenario};
use super::hospital::{DAY, SECOND};
use super::watch::Raised;

/// An attack as far as it has gone.
pub struct Instance {
    pub scenario: Scenario,
    role: String,
    address: String,
    pub first: Option<i64>,
    last: i64,
    pub rows: u64,
}

/// All attacks of a month.
pub struct Truth {
    pub instances: Vec<Instance>,
    by_key: HashMap<String, Vec<usize>>,
}

impl Truth {
    pub fn new(attacks: &[Attack<'_>]) -> Self {
        let instances: Vec<_> = attacks
            .iter()
            .map(|attack| Instance {
                scenario: attack.scenario,
                role: attack.role.clone(),
                address: attack.address.to_string(),
                first: None,
                last: i64::MIN / 2,
                rows: 0,
            })
            .collect();
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, instance) in instances.iter().enumerate() {
            for key in [&instance.role, &instance.address] {
                by_key.entry(key.clone()).or_default().push(number);
            }
        }
        Self { instances, by_key }
    }

    /// An event of that attack.
    pub fn happens(&mut self, number: usize, event: &Event) {
        let instance = &mut self.instances[number];
        instance.first.get_or_insert(event.at_us);
        instance.last = event.at_us;
        instance.rows += event.rows;
    }

    /// The attack by that actor, or from that address, that lies in the window that ends at `at`.
    fn in_window(&self, key: &str, at: i64, window_s: u64) -> Option<usize> {
        let since = at - (window_s as i64 * SECOND).max(1);
        let theirs = self.by_key.get(key)?.iter().copied();
        theirs.filter(|n| self.instances[*n].last > since).max_by_key(|n| self.instances[*n].last)
    }
}

/// Alerts of one actor within a day.
struct Incident {
    first: i64,
    opened_by: String,
    is_true: bool,
}

/// How an attack was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub rule: String,
    /// Microseconds from its first event.
    pub after_us: i64,
    /// Rows released when the first alert was out.
    pub rows: u64,
    /// Rows released if the statement ends on the row that crosses.
    pub rows_stopped: u64,
}

/// One watcher's month.
#[derive(Default)]
pub struct Ledger {
    pub alerts: u64,
    pub by_rule: BTreeMap<String, u64>,
    /// By number of the attack.
    pub found: BTreeMap<usize, Found>,
    /// Incidents by the rule that opened them: true ones, false ones.
    pub incidents: BTreeMap<String, (u64, u64)>,
    open: HashMap<String, Incident>,
    /// Of everything raised: the same for the same verdict.
    pub digest: u64,
}

impl Ledger {
    /// `label` is the attack that the event is part of.
    pub fn enter(&mut self, event: &Event, label: Option<usize>, raised: &Raised, truth: &Truth) {
        let key = match (raised.address, event.actor.as_deref()) {
            (Some(address), _) => address.to_string(),
            (None, Some(actor)) => actor.role.clone(),
            (None, None) => return,
        };
        self.alerts += 1;
        *self.by_rule.entry(raised.rule.to_string()).or_default() += 1;
        self.digest = fold(self.digest, event.at_us as u64);
        raised.rule.bytes().chain(key.bytes()).for_each(|byte| self.digest = fold(self.digest, byte.into()));
        let attack = truth.in_window(&key, event.at_us, raised.window_s);
        if let Some(number) = attack {
            let instance = &truth.instances[number];
            self.found.entry(number).or_insert_with(|| Found {
                rule: raised.rule.to_string(),
                after_us: event.at_us - instance.first.unwrap_or(event.at_us),
                rows: instance.rows,
                rows_stopped: instance.rows - if label == Some(number) { beyond(event, raised) } else { 0 },
            });
        }
        match self.open.get_mut(&key) {
            Some(incident) if event.at_us - incident.first < DAY => incident.is_true |= attack.is_some(),
            _ => {
                let opened_by = raised.rule.to_string();
                let incident = Incident { first: event.at_us, opened_by, is_true: attack.is_some() };
                if let Some(before) = self.open.insert(key, incident) {
                    self.close(&before);
                }
            }
        }
    }

    /// The month is over.
    pub fn end(&mut self) {
        for (_, incident) in std::mem::take(&mut self.open) {
            self.close(&incident);
        }
    }

    fn close(&mut self, incident: &Incident) {
        let (good, bad) = self.incidents.entry(incident.opened_by.clone()).or_default();
        *(if incident.is_true { good } else { bad }) += 1;
    }
}

fn fold(digest: u64, with: u64) -> u64 {
    (digest ^ with).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
}

/// Rows of the event past the one that crosses, for rules that count rows or people; a rule without a count stops
/// nothing of the statement that gives it cause.
fn beyond(event: &Event, raised: &Raised) -> u64 {
    let excess = raised.observed.saturating_sub(raised.threshold + 1);
    match &*raised.rule {
        "bulk" | "export" => excess.min(event.rows),
        "subjects" => {
            let people = event.subjects.known.len() as u64 + event.subjects.more;
            (event.rows * excess.min(people)).checked_div(people).unwrap_or(0)
        }
        _ => 0,
    }
}
