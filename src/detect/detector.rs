//! The state per actor, and the rules over it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use super::baseline::{Baseline, Peers};
use super::gate::stopped_by;
use super::hours::Calendar;
use super::novel::Novel;
use super::rule::{Level, Rule};
use super::state::{Found, Raised, State, failure, identity, of_role, seconds, span};
use super::window::{Ring, Time};
use super::{Action, Hours, Setting, Thresholds};
use crate::clock::Now;
use crate::event::{Access, Actor, Alert, Event, EventKind, Shown};

/// Actors with windows at the same time, unless the policy says otherwise; past this the most idle are dropped and counted.
pub const ACTORS_MAX: usize = 100_000;

/// Login sources with windows at the same time.
const DOORS_MAX: usize = 10_000;

/// Peer groups.
const GROUPS_MAX: usize = 1_000;

/// Calendars looked up.
const CALENDARS_MAX: usize = 1_000;

/// Idle actors are looked for this often.
const SWEEP: Time = 60_000_000;

/// Who knocks: a claimed role or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Knock {
    Role(String),
    Address(IpAddr),
}

/// Failed logins are counted apart from actors: names that anybody can make up must not push out real windows.
#[derive(Clone, Debug, Default)]
struct Door {
    failures: Ring,
    raised: Raised,
    seen: Time,
}

/// Seeded anew by each process, and bounded.
type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// The detector. One per proxy; pure.
#[derive(Debug)]
pub struct Detector {
    /// By the hash of the role's name, under a seed that nobody knows: two of a million share one with a chance of 2⁻²⁵.
    actors: Map<u64, Box<State>>,
    names: foldhash::quality::RandomState,
    doors: Map<Knock, Door>,
    actors_max: usize,
    latest: Time,
    swept: Time,
    novel: Novel,
    baselines: Map<u64, Box<Baseline>>,
    peers: Map<Arc<str>, Peers>,
    calendars: Vec<(Arc<Hours>, Option<Calendar>)>,
    evicted: u64,
    gaps: u64,
}

/// The newest of the detector's counts, see [`Detector::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Actors and login sources held now.
    pub actors: usize,
    /// Windows dropped at the bound, since the last call.
    pub evicted: u64,
    /// Events that a rule could not judge, since the last call: `after_hours` without a zone it knows, `first_time`
    /// when its memory was full.
    pub gaps: u64,
}

impl Detector {
    /// A detector without memory that holds at most `actors_max` roles, and as many login sources.
    pub fn new(actors_max: usize) -> Self {
        Self {
            actors: Map::default(),
            names: foldhash::quality::RandomState::default(),
            doors: Map::default(),
            actors_max: actors_max.max(1),
            latest: Time::MIN / 2,
            swept: Time::MIN / 2,
            novel: Novel::default(),
            baselines: Map::default(),
            peers: Map::default(),
            calendars: Vec::new(),
            evicted: 0,
            gaps: 0,
        }
    }

    /// Takes one event in; appends what it proves to `out`. Windows run on the monotonic clock, business hours on the
    /// event's own time.
    pub fn observe(&mut self, event: &Event, now: Now, thresholds: &Thresholds, out: &mut Vec<Alert>) {
        self.observe_at(event, mono_us(now), thresholds, out);
    }

    /// Fills the windows from the log's tail, oldest first. Returns alerts that the tail proves and does not contain
    /// (the process died between the two), each with the event that proved it.
    pub fn rebuild(
        &mut self,
        events: impl Iterator<Item = Event>,
        now: Now,
        thresholds: &Thresholds,
    ) -> Vec<(Event, Alert)> {
        let mut due: HashMap<(Knock, Rule), (Event, Alert)> = HashMap::new();
        let mut found = Vec::new();
        for event in events {
            let age = now.unix_us.saturating_sub(event.at_us).max(0);
            let at = mono_us(now).saturating_sub(age);
            if let Some((knock, rule, level)) = logged_alert(&event, thresholds) {
                if !rule.once() {
                    self.restore(&knock, rule, level, at.max(self.latest), thresholds);
                }
                due.remove(&(knock, rule));
                continue;
            }
            self.observe_at(&event, at, thresholds, &mut found);
            for alert in found.drain(..) {
                if let Some(rule) = Rule::named(&alert.rule) {
                    due.insert((knock(&event, &alert), rule), (event.clone(), alert));
                }
            }
        }
        // The sessions of the last run are over, also when it could not say so.
        self.novel.restarted();
        let mut due: Vec<_> = due.into_values().collect();
        due.sort_by_key(|(event, _)| event.at_us);
        due
    }

    /// Whether it knows which policy was in force last.
    pub fn knows_policy(&self) -> bool {
        self.novel.knows_policy()
    }

    /// Bytes that actors, baselines and their maps take, with what an allocator adds to each.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        const ALLOCATED: usize = 16;
        let map = |capacity: usize, entry: usize| (capacity * 8 / 7).next_power_of_two() * (entry + 1);
        let actors = self.actors.values().map(|state| size_of::<State>() + state.heap() + 3 * ALLOCATED);
        let baselines = self.baselines.values().map(|known| size_of::<Baseline>() + known.heap() + 3 * ALLOCATED);
        let maps = map(self.actors.capacity(), 16) + map(self.baselines.capacity(), 16);
        maps + actors.sum::<usize>() + baselines.sum::<usize>()
    }

    /// Sizes, and what was dropped or could not be judged since the last call.
    pub fn counts(&mut self) -> Counts {
        Counts {
            actors: self.actors.len() + self.doors.len(),
            evicted: std::mem::take(&mut self.evicted),
            gaps: std::mem::take(&mut self.gaps) + std::mem::take(&mut self.novel.forgot),
        }
    }

    fn observe_at(&mut self, event: &Event, at: Time, thresholds: &Thresholds, out: &mut Vec<Alert>) {
        let now = at.max(self.latest);
        self.latest = now;
        self.actors_max = thresholds.actors_max.unwrap_or(self.actors_max);
        self.novel.began(now);
        let Some(actor) = event.actor.as_deref() else { return self.of_nobody(event, thresholds, out) };
        if now - self.swept >= SWEEP {
            self.sweep(now, thresholds);
        }
        match event.kind {
            EventKind::LoginFailed => self.login_failed(actor, now, thresholds, out),
            _ if thresholds.exempt.contains(&actor.role) => {}
            EventKind::Statement => {
                self.used(event, actor, now, thresholds, out);
                if event.sqlstate.as_deref().is_some_and(is_failure) {
                    self.failed(actor, now, thresholds, out);
                }
                let action = event.action();
                // Rows without a column are those of a cursor, say, which the gate has counted.
                if !action.touches.is_empty() || action.touches_unknown || event.rows > 0 {
                    self.touched(event, actor, now, thresholds, out);
                }
                if let Some(rule) = stopped_by(event) {
                    self.stopped(rule, actor, now, thresholds, out);
                }
            }
            EventKind::Refused => {
                self.glass(event, actor, thresholds, out);
                self.failed(actor, now, thresholds, out);
            }
            EventKind::Logout => self.novel.left(event.connection),
            EventKind::Bypass => {
                if let Some(setting) = thresholds.watching(Rule::Bypass, &actor.role) {
                    let message = || bypasses(actor);
                    let raised = &mut self.actor(&actor.role, now, thresholds).rare().raised;
                    Found::of(Rule::Bypass, setting, 1).say(raised, now, thresholds, message, out);
                }
            }
            EventKind::Tamper => {
                self.failed(actor, now, thresholds, out);
                if let Some(setting) = thresholds.watching(Rule::Tamper, &actor.role) {
                    let message = || format!("a sealed cell did not open for {:?}", actor.role);
                    let raised = &mut self.actor(&actor.accountable(), now, thresholds).rare().raised;
                    Found::of(Rule::Tamper, setting, 1).say(raised, now, thresholds, message, out);
                }
            }
            _ => {}
        }
    }

    /// What the proxy itself says.
    fn of_nobody(&mut self, event: &Event, t: &Thresholds, out: &mut Vec<Alert>) {
        match (event.kind, &event.digest) {
            (EventKind::Start, _) => self.novel.restarted(),
            (EventKind::Policy, Some(digest)) if event.code.is_none() => {
                let changed = self.novel.policy(digest);
                let setting = t.of(Rule::PolicyChange);
                if changed && setting.enabled {
                    let message = format!("a policy with another text took effect: version {}", event.rules_version);
                    out.push(Found::of(Rule::PolicyChange, setting, 1).alert(message));
                }
            }
            _ => {}
        }
    }

    /// What a statement is, whether or not it showed something protected.
    fn used(&mut self, event: &Event, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let role = actor.role.as_str();
        self.glass(event, actor, t, out);
        if event.canaries > 0
            && let Some(setting) = t.watching(Rule::Canary, role)
        {
            let message = || format!("{role:?} touched a canary: {} rows", event.canaries);
            let found = Found::of(Rule::Canary, setting, event.canaries);
            found.say(&mut self.actor(role, now, t).rare().raised, now, t, message, out);
        }
        let walked = u64::from(event.walk);
        if let Some(setting) = t.watching(Rule::Sequence, role).filter(|setting| walked >= setting.threshold.max(1)) {
            let message = || format!("{role:?} read {walked} rows one by one, by keys in equal steps");
            Found::of(Rule::Sequence, setting, walked).say(
                &mut self.actor(role, now, t).rare().raised,
                now,
                t,
                message,
                out,
            );
        }
        if let Some(setting) = t.watching(Rule::FirstTime, role) {
            self.first_time(event, actor, setting, now, out);
        }
    }

    fn glass(&mut self, event: &Event, actor: &Actor, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(purpose) = actor.purpose.as_ref().filter(|purpose| t.break_glass.contains(purpose)) else { return };
        let Some(setting) = t.watching(Rule::BreakGlass, &actor.role) else { return };
        if self.novel.breaks_glass(event.connection) {
            let message = format!("{:?} acts for {purpose:?}: review it within 72 hours", actor.role);
            out.push(Found::of(Rule::BreakGlass, setting, 1).alert(message));
        }
    }

    fn first_time(&mut self, event: &Event, actor: &Actor, setting: &Setting, now: Time, out: &mut Vec<Alert>) {
        let (purpose, window) = (actor.purpose.as_deref(), seconds(setting.window_s));
        let mut new: Vec<&str> = Vec::new();
        let mut last = "";
        for touch in &event.action().touches {
            // Columns of one table stand together.
            if *touch.relation != *last && self.novel.first((&actor.role, &touch.relation, purpose), now, window) {
                new.push(&touch.relation);
            }
            last = &touch.relation;
        }
        if !new.is_empty() {
            let purpose = purpose.map(|purpose| format!(" for {purpose:?}")).unwrap_or_default();
            let (role, tables, span) = (&actor.role, new.join(", "), span(setting.window_s));
            let message = format!("{role:?} touched {tables}{purpose} for the first time in {span}");
            out.push(Found::of(Rule::FirstTime, setting, new.len() as u64).alert(message));
        }
    }

    fn touched(&mut self, event: &Event, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let action = event.action();
        let clear = action.touches.iter().any(|touch| touch.shown == Shown::Clear);
        let unknown = action.touches_unknown || action.touches.is_empty();
        let released = clear || unknown || action.touches.iter().any(|x| x.shown == Shown::Masked);
        let role = actor.role.as_str();
        let late = t.watching(Rule::AfterHours, role);
        let late = late.filter(|_| t.hours_of(role).is_some_and(|hours| self.closed(hours, event.at_us)));
        if released && event.rows > 0 {
            self.unusual(event, role, now, t, out);
        }
        let state = self.actor(&actor.accountable(), now, t);
        if released && event.rows > 0 {
            state.many(event, role, now, t, out);
        }
        let large = || t.of(Rule::Export).threshold;
        // A read so large is an export whatever it was called.
        if event.rows > 0 && (action.access == Access::Export || (released && event.rows > large())) {
            state.exported(event.rows, role, now, t, out);
        }
        if let Some(setting) = late {
            let level = if clear { Level::CLEAR } else { Level::default() };
            let message = || format!("{role:?} accessed data outside business hours");
            let found = Found { level, ..Found::of(Rule::AfterHours, setting, event.rows) };
            found.say(&mut state.rare().raised, now, t, message, out);
        }
    }

    /// The gate keeps what is counted at the threshold; that somebody wanted more is what there is to say.
    fn stopped(&mut self, rule: Rule, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(rule, &actor.role) else { return };
        let raised = &mut self.actor(&actor.role, now, t).rare().raised;
        let message = || {
            let what = if rule == Rule::Subjects { "different people" } else { "records" };
            format!("{:?} was stopped at {} {what} in {}", actor.role, setting.threshold, span(setting.window_s))
        };
        Found::of(rule, setting, setting.threshold).say(raised, now, t, message, out);
    }

    /// What was released, against what the role and its peers do in an hour.
    fn unusual(&mut self, event: &Event, role: &str, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(Rule::Unusual, role) else { return };
        let id = self.id(role);
        if self.baselines.len() >= self.actors_max && !self.baselines.contains_key(&id) {
            evict(&mut self.baselines, self.actors_max, |baseline| baseline.seen);
        }
        let group = t.peers.get(role).map_or("", |group| group);
        if !self.peers.contains_key(group) {
            if self.peers.len() >= GROUPS_MAX {
                self.peers.clear();
            }
            self.peers.insert(group.into(), Peers::default());
        }
        let Some(peers) = self.peers.get_mut(group) else { return };
        let baseline = self.baselines.entry(id).or_default();
        baseline.seen = now;
        let people = event.subjects.known.iter().map(identity);
        if let Some(found) = baseline.add(event.at_us, event.rows, people, peers, setting.threshold) {
            let level = Level::of(found.observed, found.limit);
            let found_of = Found { level, threshold: found.limit, ..Found::of(Rule::Unusual, setting, found.observed) };
            let raised = &mut self.actor(role, now, t).rare().raised;
            found_of.say(raised, now, t, || found.message(role), out);
        }
    }

    fn failed(&mut self, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(Rule::Failures, &actor.role) else { return };
        let rare = self.actor(&actor.accountable(), now, t).rare();
        failure(&mut rare.failures, &mut rare.raised, now, t, setting, &of_role(actor), out);
    }

    /// Whoever fails to log in is not the role: nothing follows but the alert, or anybody could lock others out.
    fn login_failed(&mut self, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let before = out.len();
        let any = t.of(Rule::Failures);
        if let Some(address) = actor.client.filter(|_| any.enabled) {
            let door = self.door(Knock::Address(address), now, t);
            let message = |n: u64, span: &str| format!("at least {n} failed logins from {address} in {span}");
            failure(&mut door.failures, &mut door.raised, now, t, any, &message, out);
            for alert in &mut out[before..] {
                alert.address = Some(address);
            }
        }
        if let Some(setting) = t.watching(Rule::Failures, &actor.role) {
            if self.actors.contains_key(&self.id(&actor.role)) {
                self.failed(actor, now, t, out);
            } else {
                let door = self.door(Knock::Role(actor.role.clone()), now, t);
                failure(&mut door.failures, &mut door.raised, now, t, setting, &of_role(actor), out);
            }
        }
        for alert in &mut out[before..] {
            alert.action = Action::Alert;
        }
    }

    fn closed(&mut self, hours: &Arc<Hours>, at_us: i64) -> bool {
        let at = self.calendars.iter().position(|(of, _)| of == hours).unwrap_or_else(|| {
            // Those of a policy that is gone go with it.
            if self.calendars.len() >= CALENDARS_MAX {
                self.calendars.clear();
            }
            self.calendars.push((hours.clone(), Calendar::new(hours).ok()));
            self.calendars.len() - 1
        });
        match &self.calendars[at].1 {
            Some(calendar) => !calendar.open_at(at_us),
            None => {
                self.gaps += 1;
                false
            }
        }
    }

    /// The role's state; its failed logins move in with the first thing it does inside.
    fn actor(&mut self, role: &str, now: Time, t: &Thresholds) -> &mut State {
        let id = self.id(role);
        if !self.actors.contains_key(&id) {
            if self.actors.len() >= self.actors_max {
                self.sweep(now, t);
                self.evicted += evict(&mut self.actors, self.actors_max, |state| state.seen);
            }
            let door = self.doors.remove(&Knock::Role(role.to_owned()));
            let state = door.map_or_else(State::default, |door| State::after(door.failures, door.raised));
            self.actors.insert(id, Box::new(state));
        }
        let state = self.actors.entry(id).or_default();
        state.seen = now;
        state
    }

    fn id(&self, role: &str) -> u64 {
        self.names.hash_one(role)
    }

    fn door(&mut self, knock: Knock, now: Time, t: &Thresholds) -> &mut Door {
        let most = self.actors_max.min(DOORS_MAX);
        if self.doors.len() >= most && !self.doors.contains_key(&knock) {
            self.sweep(now, t);
            self.evicted += evict(&mut self.doors, most, |door| door.seen);
        }
        let door = self.doors.entry(knock).or_default();
        door.seen = now;
        door
    }

    /// An alert found in the log counts for the cooldown.
    fn restore(&mut self, knock: &Knock, rule: Rule, level: Level, at: Time, t: &Thresholds) {
        self.latest = at;
        let raised = match knock {
            Knock::Role(role) if self.actors.contains_key(&self.id(role)) => &mut self.actor(role, at, t).rare().raised,
            _ => &mut self.door(knock.clone(), at, t).raised,
        };
        raised.spoke(rule, level, at);
    }

    /// Drops everybody whose windows and cooldowns are over.
    fn sweep(&mut self, now: Time, t: &Thresholds) {
        let horizon = now - seconds(t.longest_of_actor_s());
        self.actors.retain(|_, state| state.seen > horizon);
        self.doors.retain(|_, door| door.seen > horizon);
        let horizon = now - seconds(t.of(Rule::Unusual).window_s);
        self.baselines.retain(|_, baseline| baseline.seen > horizon);
        self.swept = now;
    }
}

/// Makes room for one more by dropping the most idle; a hundredth of them at a time, so that looking for them is paid for.
fn evict<K, V>(map: &mut Map<K, V>, max: usize, seen: impl Fn(&V) -> Time) -> u64 {
    if map.len() < max {
        return 0;
    }
    let mut times: Vec<Time> = map.values().map(&seen).collect();
    let count = (max / 100 + 1).min(times.len());
    let (_, idle, _) = times.select_nth_unstable(count.saturating_sub(1));
    let (idle, before, mut dropped) = (*idle, map.len(), 0);
    map.retain(|_, value| {
        let drop = dropped < count && seen(value) <= idle;
        dropped += usize::from(drop);
        !drop
    });
    (before - map.len()) as u64
}

fn logged_alert(event: &Event, t: &Thresholds) -> Option<(Knock, Rule, Level)> {
    let alert = event.alert.as_ref().filter(|_| event.kind == EventKind::Alert)?;
    let rule = Rule::named(&alert.rule)?;
    let level = match rule {
        _ if rule.counts() => Level::of(alert.observed, alert.threshold),
        Rule::AfterHours if alert.severity != t.of(rule).severity.as_str() => Level::CLEAR,
        _ => Level::default(),
    };
    Some((knock(event, alert), rule, level))
}

/// Whom the alert is about.
fn knock(event: &Event, alert: &Alert) -> Knock {
    let role = || event.actor.as_ref().map(|actor| actor.accountable().into_owned()).unwrap_or_default();
    alert.address.map_or_else(|| Knock::Role(role()), Knock::Address)
}

fn bypasses(actor: &Actor) -> String {
    let from = actor.client.map_or_else(|| "a Unix socket".to_owned(), |address| address.to_string());
    format!("{:?} is connected to {:?} past pgveil, from {from}", actor.role, actor.database)
}

/// Authorisation (28xxx) and permission (42501) failures.
fn is_failure(sqlstate: &str) -> bool {
    sqlstate.starts_with("28") || sqlstate == "42501"
}

pub(super) fn mono_us(now: Now) -> Time {
    Time::try_from(now.mono_ns / 1_000).unwrap_or(Time::MAX)
}
