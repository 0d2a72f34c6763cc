//! What a rule with `action = "stop"` or `"throttle"` lets go, over all sessions of an actor.
//!
//! In: rows and people that are about to be released, the limits, the clock. Out: how many of them may be, and how many
//! now. Never: a row past the threshold of any window that ends now, two sessions that are both let the last row, a lock
//! that is held while a row is worked on.
//!
//! What may go is counted when it is let go, and never taken back but by whoever did not release it: the windows may
//! hold more than was released, and never less.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::detector::mono_us;
use super::rule::Rule;
use super::state::{identity, seconds};
use super::window::{Recent, Ring, Time};
use super::{Action, Thresholds};
use crate::clock::Now;
use crate::error::Code;
use crate::event::{Event, Subject};

/// Actors whose windows are kept although no session of theirs is open; past this those are dropped that hold nothing.
const ACTORS_IDLE: usize = 10_000;
/// Rows of a bucket are counted in millionths, so that a microsecond at any rate brings a whole number of them.
const ROW: u64 = 1_000_000;

/// A threshold and its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    most: u64,
    window_s: u64,
}

/// What the rules stop for one actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    bulk: Option<Limit>,
    export: Option<Limit>,
    subjects: Option<Limit>,
}

impl Limits {
    /// `None`: nothing stops that role.
    pub fn of(thresholds: &Thresholds, role: &str) -> Option<Self> {
        let limit = |rule| {
            let setting = thresholds.watching(rule, role).filter(|setting| setting.action == Action::Stop)?;
            Some(Limit { most: setting.threshold, window_s: setting.window_s })
        };
        let limits = Self { bulk: limit(Rule::Bulk), export: limit(Rule::Export), subjects: limit(Rule::Subjects) };
        (limits != Self::default()).then_some(limits)
    }

    /// People are counted.
    pub fn people(&self) -> bool {
        self.subjects.is_some()
    }

    /// Threshold and window, in seconds, of a rule that stops.
    pub fn of_rule(&self, rule: Rule) -> Option<(u64, u64)> {
        let limit = match rule {
            Rule::Bulk => self.bulk,
            Rule::Export => self.export,
            Rule::Subjects => self.subjects,
            _ => None,
        };
        limit.map(|limit| (limit.most, limit.window_s))
    }
}

/// Rows of one statement that are about to be released.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// So many.
    pub rows: u64,
    /// Values in them are shown, or nobody knows what they show: they count for `bulk`.
    pub shown: bool,
    /// They leave by COPY TO.
    pub export: bool,
    /// What the statement has released before them.
    pub before: u64,
}

/// What may go of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// So many rows.
    pub rows: u64,
    /// The rule that holds back the others.
    pub stopped: Option<Rule>,
}

/// What may go now of rows that are throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// So many rows.
    pub rows: u64,
    /// When the next may, on the monotonic clock in nanoseconds; `None`: all of them may go.
    pub again_ns: Option<u64>,
}

/// A token bucket that ends when its window is empty.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rate: u64,
    /// In millionths of a row.
    tokens: u64,
    filled: Time,
    window: Time,
    until: Time,
}

#[derive(Debug)]
struct Windows {
    bulk: Ring,
    export: Ring,
    people: Recent,
    /// People of whom only the number is known; a pseudonym is none of theirs but by chance (2⁻¹²⁸).
    unnamed: u64,
    pace: Option<Pace>,
    latest: Time,
    /// Nothing of it matters any more.
    over: Time,
}

/// One actor's windows, shared by all sessions of that role.
#[derive(Debug)]
pub struct Passage(Mutex<Windows>);

impl Passage {
    fn new() -> Self {
        Self(Mutex::new(Windows {
            bulk: Ring::default(),
            export: Ring::default(),
            people: Recent::default(),
            unnamed: 0,
            pace: None,
            latest: Time::MIN / 2,
            over: Time::MIN / 2,
        }))
    }

    fn lock(&self, at: Time) -> (MutexGuard<'_, Windows>, Time) {
        // Every change is whole after the statement that makes it, so a panic elsewhere cannot have torn it.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Threads read the clock before they come here, and windows run forward.
        windows.latest = windows.latest.max(at);
        let now = windows.latest;
        (windows, now)
    }

    /// How many of these rows may go; they count from now on.
    pub fn rows(&self, batch: Batch, limits: &Limits, now: Now) -> Granted {
        let (mut windows, now) = self.lock(mono_us(now));
        let mut granted = Granted { rows: batch.rows, stopped: None };
        let mut bound = |left: u64, rule| {
            if left < granted.rows {
                granted = Granted { rows: left, stopped: Some(rule) };
            }
        };
        if let Some(limit) = limits.bulk.filter(|_| batch.shown) {
            windows.bulk.expire(now, seconds(limit.window_s));
            bound(limit.most.saturating_sub(windows.bulk.total()), Rule::Bulk);
        }
        if let Some(limit) = limits.export {
            windows.export.expire(now, seconds(limit.window_s));
            if batch.export {
                bound(limit.most.saturating_sub(windows.export.total()), Rule::Export);
            } else if batch.shown {
                // A read so large is an export whatever it was called.
                bound(limit.most.saturating_sub(batch.before), Rule::Export);
            }
        }
        windows.add(now, granted.rows, batch, limits);
        granted
    }

    /// They go whatever the limits say, and count. The rule that would have held some of them back.
    pub fn count(&self, batch: Batch, limits: &Limits, now: Now) -> Option<Rule> {
        let granted = self.rows(batch, limits, now);
        let (mut windows, now) = self.lock(mono_us(now));
        windows.add(now, batch.rows - granted.rows, batch, limits);
        granted.stopped
    }

    /// So many of the rows granted at that time were none.
    pub fn give_back(&self, rows: u64, batch: Batch, now: Now) {
        let (mut windows, now) = self.lock(mono_us(now));
        if batch.shown {
            windows.bulk.take_back(now, rows);
        }
        if batch.export {
            windows.export.take_back(now, rows);
        }
    }

    /// Whether something of that person may be released; then the person counts.
    pub fn person(&self, who: &Subject, limits: &Limits, now: Now) -> bool {
        let Some(limit) = limits.subjects else { return true };
        let (mut windows, now) = self.lock(mono_us(now));
        let (who, window) = (identity(who), seconds(limit.window_s));
        windows.people.expire(now, window);
        let may = windows.people.knows(who) || windows.people.count() < limit.most;
        if may {
            windows.see(now, who, limit);
        }
        may
    }

    /// How many of so many rows may go now, if they are throttled.
    pub fn pace(&self, rows: u64, now: Now) -> Paced {
        let (mut windows, now) = self.lock(mono_us(now));
        let all = Paced { rows, again_ns: None };
        let Some(pace) = windows.pace.as_mut().filter(|pace| now < pace.until) else { return all };
        let passed = u64::try_from(now - pace.filled).unwrap_or(0);
        pace.filled = now;
        // A second's worth may gather.
        pace.tokens = pace.tokens.saturating_add(passed.saturating_mul(pace.rate)).min(pace.rate.saturating_mul(ROW));
        let go = rows.min(pace.tokens / ROW);
        pace.tokens -= go * ROW;
        if go > 0 {
            pace.until = now.saturating_add(pace.window);
        }
        if go == rows {
            return all;
        }
        let wait = (ROW - pace.tokens % ROW).div_ceil(pace.rate);
        let again = u64::try_from(now).unwrap_or(0).saturating_add(wait).saturating_mul(1_000);
        let until = pace.until;
        windows.over = windows.over.max(until);
        Paced { rows: go, again_ns: Some(again) }
    }

    fn throttle(&self, rate: u64, window_s: u64, at: Time) {
        let (mut windows, now) = self.lock(at);
        let (rate, window) = (rate.max(1), seconds(window_s));
        let until = now.saturating_add(window);
        // Two rules may throttle: the slower rate counts, and it ends with the later window.
        let kept = windows.pace.filter(|pace| now < pace.until);
        let (rate, window) = kept.map_or((rate, window), |kept| (rate.min(kept.rate), window.max(kept.window)));
        windows.pace = Some(Pace { rate, tokens: 0, filled: now, window, until });
        windows.over = windows.over.max(until);
    }
}

impl Windows {
    fn add(&mut self, now: Time, rows: u64, batch: Batch, limits: &Limits) {
        if let Some(limit) = limits.bulk.filter(|_| batch.shown) {
            self.bulk.add(now, rows, seconds(limit.window_s), limit.most);
            self.last(now, limit);
        }
        if let Some(limit) = limits.export.filter(|_| batch.export) {
            self.export.add(now, rows, seconds(limit.window_s), limit.most);
            self.last(now, limit);
        }
    }

    fn see(&mut self, now: Time, who: u64, limit: Limit) {
        self.people.see(now, who, seconds(limit.window_s), usize::try_from(limit.most).unwrap_or(usize::MAX));
        self.last(now, limit);
    }

    fn last(&mut self, now: Time, limit: Limit) {
        self.over = self.over.max(now.saturating_add(seconds(limit.window_s)));
    }
}

impl Passage {
    /// The log says that so many rows, of these people and so many others, were released.
    pub(super) fn restore(&self, batch: Batch, people: &[Subject], others: u64, limits: &Limits, at: Time) {
        let (mut windows, now) = self.lock(at);
        // A read that large was an export.
        let large = limits.export.is_some_and(|limit| batch.shown && batch.rows > limit.most);
        windows.add(now, batch.rows, Batch { export: batch.export || large, ..batch }, limits);
        let Some(limit) = limits.subjects.filter(|_| batch.shown && batch.rows > 0) else { return };
        people.iter().for_each(|who| windows.see(now, identity(who), limit));
        for _ in 0..others.min(limit.most) {
            windows.unnamed = windows.unnamed.wrapping_add(1);
            let who = windows.unnamed;
            windows.see(now, who, limit);
        }
    }

    /// The log says that rows went.
    pub(super) fn restore_pace(&self, at: Time) {
        let (mut windows, now) = self.lock(at);
        let Some(pace) = windows.pace.as_mut().filter(|pace| now < pace.until) else { return };
        pace.until = now.saturating_add(pace.window);
        let until = pace.until;
        windows.over = windows.over.max(until);
    }

    /// Nobody knows what was released, but not more than was left.
    pub(super) fn restore_all(&self, shown: bool, export: bool, limits: &Limits, at: Time) {
        let most = |limit: Option<Limit>| limit.map_or(0, |limit| limit.most);
        let by_bulk = Limits { bulk: limits.bulk, ..Limits::default() };
        let by_export = Limits { export: limits.export, ..Limits::default() };
        let batch = Batch { rows: most(limits.bulk), shown, export: false, before: 0 };
        self.restore(batch, &[], 0, &by_bulk, at);
        self.restore(Batch { rows: most(limits.export), shown: false, export, before: 0 }, &[], 0, &by_export, at);
        let people = Limits { subjects: limits.subjects, ..Limits::default() };
        self.restore(Batch { rows: 1, shown, export: false, before: 0 }, &[], most(limits.subjects), &people, at);
    }
}

/// All actors' windows.
#[derive(Debug, Default)]
pub struct Gate {
    passages: Mutex<HashMap<String, Arc<Passage>, foldhash::quality::RandomState>>,
    /// Throttles begun.
    throttles: AtomicUsize,
}

impl Gate {
    /// That role's windows. Those of a role that has any are never dropped: there are no more than PostgreSQL has logins.
    pub fn passage(&self, role: &str, now: Now) -> Arc<Passage> {
        let mut passages = self.passages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passage) = passages.get(role) {
            return passage.clone();
        }
        if passages.len() >= ACTORS_IDLE {
            passages.retain(|_, passage| {
                let windows = passage.0.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::strong_count(passage) > 1 || windows.over > mono_us(now)
            });
        }
        passages.entry(role.to_owned()).or_insert_with(|| Arc::new(Passage::new())).clone()
    }

    /// Somebody is, or was, throttled.
    pub fn throttles(&self) -> bool {
        self.throttles.load(Ordering::Relaxed) > 0
    }

    /// From now on rows go to that role at most at this rate, until none has gone for so long.
    pub fn throttle(&self, role: &str, rows_per_second: u64, window_s: u64, now: Now) {
        self.throttle_from(role, rows_per_second, window_s, mono_us(now), now);
    }

    /// The same, since then.
    pub(super) fn throttle_from(&self, role: &str, rows_per_second: u64, window_s: u64, at: Time, now: Now) {
        self.passage(role, now).throttle(rows_per_second, window_s, at);
        self.throttles.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the access log says of a statement that was stopped.
pub fn note(rule: Rule) -> String {
    format!("{STOPPED}{}", rule.as_str())
}

const STOPPED: &str = "stopped by rule ";

/// The rule that stopped the statement which this is the outcome of.
pub fn stopped_by(event: &Event) -> Option<Rule> {
    event.code.as_deref().filter(|code| *code == Code::Stopped.as_str())?;
    Rule::named(event.note.as_deref()?.strip_prefix(STOPPED)?)
}

#[cfg(test)]
mod tests;
