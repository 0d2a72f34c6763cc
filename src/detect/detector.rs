//! The state per actor, and the rules over it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::gate::stopped_by;
use super::hours::Calendar;
use super::rule::{Level, Rule};
use super::window::{Recent, Ring, Time};
use super::{Action, Hours, Setting, Thresholds};
use crate::clock::Now;
use crate::event::{Access, Actor, Alert, Event, EventKind, Shown, Subject};

/// Actors with windows at the same time; past this the most idle one is dropped and counted.
pub const ACTORS_MAX: usize = 10_000;

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
    calendar: Option<(Hours, Option<Calendar>)>,
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
    /// Events `after_hours` could not judge because its zone is unknown, since the last call.
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
            calendar: None,
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
                self.restore(&knock, rule, level, at.max(self.latest), thresholds);
                due.remove(&(knock, rule));
                continue;
            }
            self.observe_at(&event, at, thresholds, &mut found);
            for alert in found.drain(..) {
                if let (Some(actor), Some(rule)) = (&event.actor, Rule::named(&alert.rule)) {
                    let knock = alert.address.map_or_else(|| Knock::Role(actor.role.clone()), Knock::Address);
                    due.insert((knock, rule), (event.clone(), alert));
                }
            }
        }
        let mut due: Vec<_> = due.into_values().collect();
        due.sort_by_key(|(event, _)| event.at_us);
        due
    }

    /// Sizes, and what was dropped or could not be judged since the last call.
    pub fn counts(&mut self) -> Counts {
        Counts {
            actors: self.actors.len() + self.doors.len(),
            evicted: std::mem::take(&mut self.evicted),
            gaps: std::mem::take(&mut self.gaps),
        }
    }

    fn observe_at(&mut self, event: &Event, at: Time, thresholds: &Thresholds, out: &mut Vec<Alert>) {
        let Some(actor) = event.actor.as_deref() else { return };
        let now = at.max(self.latest);
        self.latest = now;
        if now - self.swept >= SWEEP {
            self.sweep(now, thresholds);
        }
        match event.kind {
            EventKind::LoginFailed => self.login_failed(actor, now, thresholds, out),
            _ if thresholds.exempt.contains(&actor.role) => {}
            EventKind::Statement => {
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
            EventKind::Refused => self.failed(actor, now, thresholds, out),
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

    fn touched(&mut self, event: &Event, actor: &Actor, now: Time, t: &Thresholds, out: &mut Vec<Alert>) {
        let action = event.action();
        let clear = action.touches.iter().any(|touch| touch.shown == Shown::Clear);
        let unknown = action.touches_unknown || action.touches.is_empty();
        let released = clear || unknown || action.touches.iter().any(|x| x.shown == Shown::Masked);
        let role = actor.role.as_str();
        let late = t.watching(Rule::AfterHours, role);
        let late = late.filter(|_| t.hours.as_ref().is_some_and(|hours| self.closed(hours, event.at_us)));
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

    fn closed(&mut self, hours: &Hours, at_us: i64) -> bool {
        if self.calendar.as_ref().is_none_or(|(of, _)| of != hours) {
            self.calendar = Some((hours.clone(), Calendar::new(hours).ok()));
        }
        match &self.calendar {
            Some((_, Some(calendar))) => !calendar.open_at(at_us),
            _ => {
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
        let horizon = now - seconds(t.longest_s());
        self.actors.retain(|_, state| state.seen > horizon);
        self.doors.retain(|_, door| door.seen > horizon);
        self.swept = now;
    }
}

fn evict<K: Clone + Eq + std::hash::Hash, V>(map: &mut Map<K, V>, max: usize, seen: impl Fn(&V) -> Time) -> u64 {
    if map.len() < max {
        return 0;
    }
    let idlest = map.iter().min_by_key(|(_, state)| seen(state)).map(|(key, _)| key.clone());
    idlest.map_or(0, |key| u64::from(map.remove(&key).is_some()))
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
    level: Level,
}

impl<'t> Found<'t> {
    fn of(rule: Rule, setting: &'t Setting, observed: u64) -> Self {
        let level = if rule.counts() { Level::of(observed, setting.threshold) } else { Level::default() };
        Self { rule, setting, observed, level }
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
            out.push(Alert {
                rule: self.rule.as_str().to_owned(),
                severity: self.level.severity(self.setting.severity).as_str().to_owned(),
                observed: self.observed,
                threshold: self.setting.threshold,
                window_s: self.setting.window_s,
                address: None,
                action: self.setting.action,
                message: message(),
            });
        }
    }
}

fn logged_alert(event: &Event, t: &Thresholds) -> Option<(Knock, Rule, Level)> {
    let alert = event.alert.as_ref().filter(|_| event.kind == EventKind::Alert)?;
    let role = event.actor.as_ref().map(|actor| actor.role.clone()).unwrap_or_default();
    let knock = alert.address.map_or(Knock::Role(role), Knock::Address);
    let rule = Rule::named(&alert.rule)?;
    let level = match rule {
        _ if rule.counts() => Level::of(alert.observed, alert.threshold),
        Rule::AfterHours if alert.severity != t.of(rule).severity.as_str() => Level::CLEAR,
        _ => Level::default(),
    };
    Some((knock, rule, level))
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
