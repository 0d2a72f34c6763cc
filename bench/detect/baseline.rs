//! What pgveil is compared with: tumbling windows with the same thresholds, and the founding documents' code as it is
//! written.
//!
//! In: events in the order of time. Out: what would be raised. Never: the detector's own windows.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use jiff::civil::Weekday;
use pgveil::detect::{Rule, Thresholds};
use pgveil::event::{Access, Event, EventKind, Shown};

use super::hospital::SECOND;
use super::policy::Limits;
use super::watch::{Own, Raised, Watcher};

/// A count that starts at zero with each window of the clock.
#[derive(Default)]
struct Bucket {
    of: i64,
    count: u64,
    people: HashSet<u128>,
    spoke: Option<i64>,
}

impl Bucket {
    fn turn(&mut self, at: i64, window_s: u64) {
        let of = at.div_euclid(window_s as i64 * SECOND);
        if of != self.of {
            (self.of, self.count) = (of, 0);
            self.people.clear();
        }
    }

    /// Whether the count is over the threshold and nothing was said within the cooldown.
    fn speaks(&mut self, at: i64, threshold: u64, cooldown_s: u64) -> bool {
        let count = self.count.max(self.people.len() as u64);
        let speaks = count > threshold && self.spoke.is_none_or(|spoke| at - spoke >= cooldown_s as i64 * SECOND);
        if speaks {
            self.spoke = Some(at);
        }
        speaks
    }
}

/// The same thresholds, lengths, exemptions and cooldown, with windows that begin with the clock's. What is not counted
/// over time is pgveil's own.
pub struct Tumbling {
    limits: Limits,
    rest: Own,
    buckets: HashMap<(&'static str, String), Bucket>,
}

impl Tumbling {
    pub fn new(limits: Limits, mut thresholds: Thresholds, start: i64) -> Self {
        for rule in [Rule::Bulk, Rule::Subjects, Rule::Failures, Rule::Export] {
            thresholds.of_mut(rule).enabled = false;
        }
        Self { limits, rest: Own::new("", thresholds, start), buckets: HashMap::new() }
    }

    fn count(&mut self, rule: &'static str, who: &str, at: i64, add: impl FnOnce(&mut Bucket), out: &mut Vec<Raised>) {
        let (threshold, window_s) = self.limits.of(rule);
        let bucket = self.buckets.entry((rule, who.to_owned())).or_default();
        bucket.turn(at, window_s.max(1));
        add(bucket);
        if bucket.speaks(at, threshold, self.limits.cooldown_s) {
            out.push(Raised { rule: rule.into(), observed: bucket.count, threshold, window_s, address: None });
        }
    }
}

impl Watcher for Tumbling {
    fn name(&self) -> &'static str {
        "tumbling windows"
    }

    fn observe(&mut self, event: &Event, out: &mut Vec<Raised>) {
        self.rest.observe(event, out);
        let Some(actor) = event.actor.as_deref() else { return };
        let (role, at) = (actor.role.as_str(), event.at_us);
        let failed = matches!(event.kind, EventKind::LoginFailed | EventKind::Refused);
        if let Some(address) = actor.client.filter(|_| event.kind == EventKind::LoginFailed) {
            let before = out.len();
            self.count("failures", &address.to_string(), at, |bucket| bucket.count += 1, out);
            out[before..].iter_mut().for_each(|raised| raised.address = Some(address));
        }
        if failed && !self.limits.exempt(role, "failures") {
            self.count("failures", role, at, |bucket| bucket.count += 1, out);
        }
        let action = event.action();
        if event.kind != EventKind::Statement || action.touches.is_empty() {
            return;
        }
        let released = action.touches.iter().any(|touch| matches!(touch.shown, Shown::Clear | Shown::Masked));
        if released && !self.limits.exempt(role, "bulk") {
            self.count("bulk", role, at, |bucket| bucket.count += event.rows, out);
        }
        if released && !self.limits.exempt(role, "subjects") {
            let people = event.subjects.known.iter().map(|subject| subject.pseudonym.0);
            self.count("subjects", role, at, |bucket| bucket.people.extend(people), out);
        }
        let export = action.access == Access::Export || (released && event.rows > self.limits.of("export").0);
        if export && !self.limits.exempt(role, "export") {
            self.count("export", role, at, |bucket| bucket.count += event.rows, out);
        }
    }
}

/// The second founding document's `PrivacyBreachMonitor`: after each access it counts the accessor's rows of the log
/// of the last 15 minutes and the people of the last hour, looks at the UTC hour, and raises what it finds, each time
/// again. Exports are looked at one by one, and failures not at all. Where its code leaves a choice, the one with fewer
/// alerts is taken: one row of the log for a statement, and business hours from eight to six on weekdays.
#[derive(Default)]
pub struct Seeds {
    actors: HashMap<String, Accessor>,
}

#[derive(Default)]
struct Accessor {
    rows: VecDeque<i64>,
    people: HashMap<u128, i64>,
    seen: VecDeque<(i64, u128)>,
}

const RECORDS: u64 = 100;
const RECORDS_S: u64 = 900;
const PEOPLE: u64 = 50;
const PEOPLE_S: u64 = 3_600;
const EXPORT: u64 = 1_000;

impl Accessor {
    fn access(&mut self, event: &Event) {
        let at = event.at_us;
        self.rows.push_back(at);
        while self.rows.front().is_some_and(|first| *first <= at - RECORDS_S as i64 * SECOND) {
            self.rows.pop_front();
        }
        for subject in &event.subjects.known {
            self.people.insert(subject.pseudonym.0, at);
            self.seen.push_back((at, subject.pseudonym.0));
        }
        while let Some((first, who)) = self.seen.front().copied()
            && first <= at - PEOPLE_S as i64 * SECOND
        {
            self.seen.pop_front();
            if self.people.get(&who) == Some(&first) {
                self.people.remove(&who);
            }
        }
    }
}

impl Watcher for Seeds {
    fn name(&self) -> &'static str {
        "founding documents"
    }

    fn observe(&mut self, event: &Event, out: &mut Vec<Raised>) {
        let Some(actor) = event.actor.as_deref() else { return };
        if event.kind != EventKind::Statement || event.action().touches.is_empty() {
            return;
        }
        if !self.actors.contains_key(&actor.role) {
            self.actors.insert(actor.role.clone(), Accessor::default());
        }
        let Some(accessor) = self.actors.get_mut(&actor.role) else { return };
        accessor.access(event);
        let mut raise = |rule: &'static str, observed: u64, threshold, window_s| {
            out.push(Raised { rule: rule.into(), observed, threshold, window_s, address: None });
        };
        if accessor.rows.len() as u64 > RECORDS {
            raise("bulk", accessor.rows.len() as u64, RECORDS, RECORDS_S);
        }
        if !open_in_utc(event.at_us) {
            raise("after_hours", 1, 0, 0);
        }
        if accessor.people.len() as u64 > PEOPLE {
            raise("subjects", accessor.people.len() as u64, PEOPLE, PEOPLE_S);
        }
        if event.action().access == Access::Export && event.rows > EXPORT {
            raise("export", event.rows, EXPORT, 0);
        }
    }
}

fn open_in_utc(at: i64) -> bool {
    let Ok(instant) = Timestamp::from_microsecond(at) else { return false };
    let utc = instant.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    !matches!(utc.weekday(), Weekday::Saturday | Weekday::Sunday) && (8..18).contains(&utc.hour())
}
