//! The state per actor, and the rules over it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::baseline::{Baseline, Peers};
use super::gate::stopped_by;
use super::hours::Calendar;
use super::novel::Novel;
use super::rule::{Level, Rule};
use super::window::{Recent, Ring, Time};
use super::{Action, Hours, Setting, Thresholds};
use crate::clock::Now;
use crate::event::{Access, Actor, Alert, Event, EventKind, Shown, Subject};

/// Actors with windows at the same time; past this the most idle one is dropped and counted.
pub const ACTORS_MAX: usize = 10_000;

/// Peer groups.
const GROUPS_MAX: usize = 1_000;

/// Calendars looked up.
const CALENDARS_MAX: usize = 1_000;

/// Idle actors are looked for this often.
const SWEEP: Time = 60_000_000;

/// When each rule last spoke, and how loudly. Most actors never give cause.
#[derive(Clone, Debug, Default)]
struct Raised(Option<Box<Spoken>>);

type Spoken = [Option<(Time, Level)>; Rule::ALL.len()];

impl Raised {
    /// Whether to speak now: not within the cooldown, unless it got worse.
    fn speak(&mut self, rule: Rule, level: Level, now: Time, cooldown: Time) -> bool {
        let last = self.0.as_ref().and_then(|spoken| spoken[rule as usize]);
        if last.is_some_and(|(at, before)| now - at < cooldown && level <= before) {
            return false;
        }
        self.spoke(rule, level, now);
        true
    }

    fn spoke(&mut self, rule: Rule, level: Level, at: Time) {
        self.0.get_or_insert_default()[rule as usize] = Some((at, level));
    }
}

/// What is kept of one role that has a session.
#[derive(Clone, Debug, Default)]
struct State {
    bulk: Ring,
    export: Ring,
    failures: Ring,
    subjects: Recent,
    raised: Raised,
    seen: Time,
}

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
    actors: Map<String, State>,
    doors: Map<Knock, Door>,
    actors_max: usize,
    latest: Time,
    swept: Time,
    novel: Novel,
    baselines: Map<String, Box<Baseline>>,
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
        let mut due: Vec<_> = due.into_values().collect();
        due.sort_by_key(|(event, _)| event.at_us);
        due
    }

    /// Whether it knows which policy was in force last.
    pub fn knows_policy(&self) -> bool {
        self.novel.knows_policy()
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
                    let raised = &mut self.actor(&actor.role, now, thresholds).raised;
                    Found::of(Rule::Bypass, setting, 1).say(raised, now, thresholds, message, out);
                }
            }
            EventKind::Tamper => {
                self.failed(actor, now, thresholds, out);
                if let Some(setting) = thresholds.watching(Rule::Tamper, &actor.role) {
                    let message = || format!("a sealed cell did not open for {:?}", actor.role);
                    let raised = &mut self.actor(&actor.role, now, thresholds).raised;
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
            found.say(&mut self.actor(role, now, t).raised, now, t, message, out);
        }
        let walked = u64::from(event.walk);
        if let Some(setting) = t.watching(Rule::Sequence, role).filter(|setting| walked >= setting.threshold.max(1)) {
            let message = || format!("{role:?} read {walked} rows one by one, by keys in equal steps");
            Found::of(Rule::Sequence, setting, walked).say(&mut self.actor(role, now, t).raised, now, t, message, out);
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
        let state = self.actor(role, now, t);
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
            found.say(&mut state.raised, now, t, message, out);
        }
    }

    /// The gate keeps what is counted at the threshold; that somebody wanted more is what there is to say.
    fn stopped(&mut self, rule: Rule, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(rule, &actor.role) else { return };
        let raised = &mut self.actor(&actor.role, now, t).raised;
        let message = || {
            let what = if rule == Rule::Subjects { "different people" } else { "records" };
            format!("{:?} was stopped at {} {what} in {}", actor.role, setting.threshold, span(setting.window_s))
        };
        Found::of(rule, setting, setting.threshold).say(raised, now, t, message, out);
    }

    /// What was released, against what the role and its peers do in an hour.
    fn unusual(&mut self, event: &Event, role: &str, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(Rule::Unusual, role) else { return };
        if !self.baselines.contains_key(role) && self.baselines.len() >= self.actors_max {
            evict(&mut self.baselines, self.actors_max, |baseline| baseline.seen);
        }
        let group = t.peers.get(role).cloned().unwrap_or_else(|| Arc::from(""));
        if self.peers.len() >= GROUPS_MAX && !self.peers.contains_key(&group) {
            self.peers.clear();
        }
        let peers = self.peers.entry(group).or_default();
        let baseline = match self.baselines.get_mut(role) {
            Some(known) => known,
            None => self.baselines.entry(role.to_owned()).or_default(),
        };
        baseline.seen = now;
        let people = event.subjects.known.iter().map(identity);
        if let Some(found) = baseline.add(event.at_us, event.rows, people, peers, setting.threshold) {
            let level = Level::of(found.observed, found.limit);
            let found_of = Found { level, threshold: found.limit, ..Found::of(Rule::Unusual, setting, found.observed) };
            let raised = &mut self.actor(role, now, t).raised;
            found_of.say(raised, now, t, || found.message(role), out);
        }
    }

    fn failed(&mut self, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(Rule::Failures, &actor.role) else { return };
        let state = self.actor(&actor.role, now, t);
        failure(&mut state.failures, &mut state.raised, now, t, setting, &of_role(actor), out);
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
            if self.actors.contains_key(&actor.role) {
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
        if !self.actors.contains_key(role) {
            if self.actors.len() >= self.actors_max {
                self.sweep(now, t);
                self.evicted += evict(&mut self.actors, self.actors_max, |state| state.seen);
            }
            let door = self.doors.remove(&Knock::Role(role.to_owned())).unwrap_or_default();
            let state = State { failures: door.failures, raised: door.raised, ..State::default() };
            self.actors.insert(role.to_owned(), state);
        }
        let state = self.actors.entry(role.to_owned()).or_default();
        state.seen = now;
        state
    }

    fn door(&mut self, knock: Knock, now: Time, t: &Thresholds) -> &mut Door {
        if self.doors.len() >= self.actors_max && !self.doors.contains_key(&knock) {
            self.sweep(now, t);
            self.evicted += evict(&mut self.doors, self.actors_max, |door| door.seen);
        }
        let door = self.doors.entry(knock).or_default();
        door.seen = now;
        door
    }

    /// An alert found in the log counts for the cooldown.
    fn restore(&mut self, knock: &Knock, rule: Rule, level: Level, at: Time, t: &Thresholds) {
        self.latest = at;
        let raised = match knock {
            Knock::Role(role) if self.actors.contains_key(role) => &mut self.actor(role, at, t).raised,
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

impl State {
    /// `bulk` and `subjects`: protected rows were released.
    fn many(&mut self, event: &Event, role: &str, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        if let Some(setting) = t.watching(Rule::Bulk, role) {
            self.bulk.add(now, event.rows, seconds(setting.window_s), Level::keep(setting.threshold));
            let observed = self.bulk.total();
            if observed > setting.threshold {
                let message = || format!("{role:?} accessed at least {observed} records in {}", span(setting.window_s));
                Found::of(Rule::Bulk, setting, observed).say(&mut self.raised, now, t, message, out);
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
            Found::of(Rule::Subjects, setting, observed).say(&mut self.raised, now, t, message, out);
        }
    }

    fn exported(&mut self, rows: u64, role: &str, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let Some(setting) = t.watching(Rule::Export, role) else { return };
        self.export.add(now, rows, seconds(setting.window_s), Level::keep(setting.threshold));
        let observed = self.export.total();
        if observed > setting.threshold {
            let message = || format!("Large data export: at least {observed} records by {role:?}");
            Found::of(Rule::Export, setting, observed).say(&mut self.raised, now, t, message, out);
        }
    }
}

fn of_role(actor: &Actor) -> impl Fn(u64, &str) -> String {
    move |n, span| format!("{:?} failed at least {n} times in {span}", actor.role)
}

fn failure(
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
struct Found<'t> {
    rule: Rule,
    setting: &'t Setting,
    observed: u64,
    threshold: u64,
    level: Level,
}

impl<'t> Found<'t> {
    fn of(rule: Rule, setting: &'t Setting, observed: u64) -> Self {
        let level = if rule.counts() { Level::of(observed, setting.threshold) } else { Level::default() };
        Self { rule, setting, observed, threshold: setting.threshold, level }
    }

    fn alert(self, message: String) -> Alert {
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

    fn say(
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
    let role = || event.actor.as_ref().map(|actor| actor.role.clone()).unwrap_or_default();
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

/// The pseudonym's 128 bits with the kind folded in; two kinds never share a pseudonym but by chance (2⁻¹²⁸).
pub(super) fn identity(subject: &Subject) -> u128 {
    let kind = subject.kind.bytes().fold(0u128, |hash, byte| hash.rotate_left(9) ^ u128::from(byte));
    subject.pseudonym.0 ^ kind
}

pub(super) fn mono_us(now: Now) -> Time {
    Time::try_from(now.mono_ns / 1_000).unwrap_or(Time::MAX)
}

/// Seconds as microseconds, at most a thousand years so that sums cannot overflow.
pub(super) fn seconds(s: u64) -> Time {
    Time::try_from(s.min(31_556_952_000)).unwrap_or(0) * 1_000_000
}

fn span(s: u64) -> String {
    let (count, unit) = match s {
        3_600.. if s.is_multiple_of(3_600) => (s / 3_600, "hour"),
        60.. if s.is_multiple_of(60) => (s / 60, "minute"),
        _ => (s, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
