//! What is injected, with its label: who does it, when, and one event at a time.
//!
//! In: the hospital and a seed. Out: attacks of every scenario at drawn times by drawn actors. Never: a choice made by
//! looking at the detector's thresholds; the ranges below are what such attacks look like.

use std::net::{IpAddr, Ipv4Addr};

use pgveil::event::{Action, Actor, Event, EventKind, Part, Subject, Subjects};

use super::draw::{Dice, dice};
use super::hospital::{CANARIES, DAY, HOUR, Hospital, MINUTE, SECOND, Shift, VIPS, actor};
use super::service;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// One to five statements of 500 to 20,000 rows.
    Dump,
    /// 200 to 3,000 people by id, one row each, 0.05 to 20 s apart: three in four in the order of the ids, of which one
    /// in thirty is missing, the others in that of some list.
    Scrape,
    /// Five people an hour for 20 days, day and night.
    LowAndSlow,
    /// A VIP's chart, by somebody who has nothing to do with them.
    Snoop,
    /// 20 to 60 charts between midnight and four, from outside, with the password of somebody who is off.
    Intrusion,
    /// 15 to 200 wrong passwords 1 to 60 s apart, against one role or against a new one each time.
    BruteForce,
    /// 999 rows nine times, 1 to 90 minutes apart.
    Exports,
    /// Some dozen rows of a list, one of them a canary.
    Canary,
    /// 40 to 90 charts in a row, under a login that a whole ward shares.
    Masquerade,
    /// A dump in the afternoon, with a batch account's password.
    Service,
}

impl Scenario {
    pub const ALL: [Scenario; 10] = [
        Scenario::Dump,
        Scenario::Scrape,
        Scenario::LowAndSlow,
        Scenario::Snoop,
        Scenario::Intrusion,
        Scenario::BruteForce,
        Scenario::Exports,
        Scenario::Canary,
        Scenario::Masquerade,
        Scenario::Service,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scenario::Dump => "bulk dump",
            Scenario::Scrape => "scrape by id",
            Scenario::LowAndSlow => "low and slow",
            Scenario::Snoop => "VIP snoop",
            Scenario::Intrusion => "night intrusion",
            Scenario::BruteForce => "brute force",
            Scenario::Exports => "9 × 999 exports",
            Scenario::Canary => "canary touch",
            Scenario::Masquerade => "masquerade",
            Scenario::Service => "service account",
        }
    }

    /// Whether 0.9 is asked of it.
    pub fn barred(self) -> bool {
        !matches!(self, Scenario::LowAndSlow | Scenario::Masquerade | Scenario::Service)
    }
}

/// Whose data a statement is about.
enum People {
    /// One after the other from here.
    From(u64),
    /// The same, but some are missing: they were deleted.
    Some(u64),
    Anybody,
    One(u64),
    /// From here, and one who is none.
    And(u64, u64),
    /// New names to log in with.
    Names,
}

/// One attack, and where it has come to.
pub struct Attack<'h> {
    hospital: &'h Hospital,
    pub number: usize,
    pub scenario: Scenario,
    /// Under whose name; empty if it is of no one role.
    pub role: String,
    pub address: IpAddr,
    dice: Dice,
    actor: Part<Actor>,
    action: Option<Part<Action>>,
    people: People,
    /// Rows of each statement, from and to.
    rows: (u64, u64),
    /// Each row is another person.
    distinct: bool,
    gap: f64,
    regular: bool,
    left: u64,
    site: usize,
    next: i64,
    statement: u64,
    walk: Walk,
}

/// Keys that go on in equal steps, as the proxy counts them.
#[derive(Default)]
struct Walk {
    last: u64,
    step: u64,
    length: u32,
}

impl Walk {
    fn go_on(&mut self, key: u64) -> u32 {
        let step = key.wrapping_sub(self.last);
        self.length = if step == self.step { self.length + 1 } else { 2 };
        (self.last, self.step) = (key, step);
        if self.length < 3 { 0 } else { self.length }
    }
}

/// On a table's rows, one in so many is a canary.
const CANARY_EVERY: u64 = 6_000;

/// Attacks of every scenario, `each` times, each by another actor.
pub fn all(hospital: &Hospital, each: usize) -> Vec<Attack<'_>> {
    let mut dice = dice(&[hospital.seed, 40]);
    let mut taken = vec![false; hospital.clinicians.len()];
    let mut attacks = Vec::new();
    for scenario in Scenario::ALL {
        for _ in 0..each {
            attacks.push(one(hospital, scenario, attacks.len(), &mut taken, &mut dice));
        }
    }
    attacks
}

/// A clinician nobody else attacks as, and a time; on a day with or without a shift.
fn somebody(hospital: &Hospital, on: bool, last: i64, taken: &mut [bool], dice: &mut Dice) -> (usize, i64, i64) {
    loop {
        let (who, day) = (dice.below(taken.len()), dice.between(2, last - 1));
        // The night belongs to the day before, too.
        let shifts: Vec<Shift> = [day - 1, day].iter().filter_map(|day| hospital.shift(who, *day)).collect();
        let site = hospital.clinicians[who].site;
        let at = match hospital.shift(who, day) {
            Some(shift) if on => shift.from + 20 * MINUTE + dice.between(0, 5 * HOUR),
            None if on => continue,
            _ => hospital.local(site, day, dice.between(20, 240)),
        };
        let inside = shifts.iter().any(|shift| (shift.from - HOUR..shift.to + HOUR).contains(&at));
        if !taken[who] && inside == on {
            taken[who] = true;
            return (who, day, at);
        }
    }
}

fn one<'h>(
    hospital: &'h Hospital,
    scenario: Scenario,
    number: usize,
    taken: &mut [bool],
    dice: &mut Dice,
) -> Attack<'h> {
    let last = if scenario == Scenario::LowAndSlow { hospital.days - 20 } else { hospital.days - 1 };
    let on = !matches!(scenario, Scenario::Intrusion);
    let (mut who, day, mut next) = somebody(hospital, on, last.max(4), taken, dice);
    if scenario == Scenario::Snoop {
        let vip = dice.next() % VIPS;
        while (hospital.clinicians[who].site, hospital.clinicians[who].ward) == hospital.vip_ward(vip) {
            (who, _, next) = somebody(hospital, on, last, taken, dice);
        }
        return snoop(hospital, number, vip, who, next, dice);
    }
    let outside = IpAddr::from(Ipv4Addr::new(203, 0, 113, (number % 250) as u8));
    let me = &hospital.clinicians[who];
    let drawn = dice.next();
    let s = &hospital.statements;
    let mut attack = Attack::new(hospital, number, scenario, who, next);
    match scenario {
        Scenario::Dump => {
            attack.action = Some(s.list.clone());
            (attack.rows, attack.distinct) = ((500, 20_000), true);
            (attack.left, attack.gap) = (dice.between(1, 5) as u64, 30.0);
            attack.people = People::From(drawn);
        }
        Scenario::Scrape => {
            attack.action = Some(s.by_id.clone());
            (attack.left, attack.gap) = (dice.between(200, 3_000) as u64, dice.log_uniform(0.05, 20.0));
            attack.regular = true;
            if !drawn.is_multiple_of(4) {
                attack.people = People::Some(drawn >> 8);
            }
        }
        Scenario::LowAndSlow => {
            attack.rows = (1, 6);
            (attack.left, attack.gap) = (5 * 24 * 20, 3_600.0 / 5.0);
        }
        Scenario::Intrusion => {
            attack.outside(outside);
            (attack.rows, attack.left) = ((1, 8), dice.between(20, 60) as u64);
            attack.gap = dice.log_uniform(20.0, 120.0);
        }
        Scenario::BruteForce => {
            attack.outside(outside);
            (attack.left, attack.gap) = (dice.between(15, 200) as u64, dice.log_uniform(1.0, 60.0));
            (attack.action, attack.regular) = (None, true);
            if drawn.is_multiple_of(2) {
                (attack.people, attack.role) = (People::Names, String::new());
            }
        }
        Scenario::Exports => {
            attack.action = Some(s.export.clone());
            (attack.rows, attack.distinct) = ((999, 999), true);
            (attack.left, attack.gap) = (9, dice.log_uniform(60.0, 90.0 * 60.0));
            (attack.people, attack.regular) = (People::From(drawn), true);
        }
        Scenario::Canary => {
            attack.action = Some(s.list.clone());
            (attack.rows, attack.distinct, attack.left) = ((12, 40), true, dice.between(1, 3) as u64);
            attack.people = People::And(drawn, hospital.canary(dice.next() % CANARIES));
        }
        Scenario::Masquerade | Scenario::Service => {
            let shared = scenario == Scenario::Masquerade;
            let roles = if shared { service::shared() } else { service::roles() };
            let role = roles[(drawn as usize) % if shared { roles.len() } else { 12 }].clone();
            attack.next = hospital.local(me.site, day, dice.between(13 * 60, 17 * 60));
            attack.actor = actor(&role, "records", me.address);
            attack.role = role;
            if shared {
                (attack.rows, attack.left, attack.gap) = ((1, 10), dice.between(40, 90) as u64, 60.0);
            } else {
                attack.action = Some(s.batch.clone());
                (attack.rows, attack.distinct) = ((2_000, 5_000), true);
                (attack.left, attack.gap, attack.people) = (40, 10.0, People::From(drawn));
            }
        }
        Scenario::Snoop => {}
    }
    attack
}

fn snoop<'h>(hospital: &'h Hospital, number: usize, vip: u64, who: usize, next: i64, dice: &mut Dice) -> Attack<'h> {
    let mut attack = Attack::new(hospital, number, Scenario::Snoop, who, next);
    attack.people = People::One(hospital.vip(vip));
    (attack.rows, attack.left, attack.gap) = ((1, 12), dice.between(2, 8) as u64, 20.0);
    attack
}

impl<'h> Attack<'h> {
    fn new(hospital: &'h Hospital, number: usize, scenario: Scenario, who: usize, next: i64) -> Self {
        let me = &hospital.clinicians[who];
        Self {
            hospital,
            number,
            scenario,
            role: me.role.clone(),
            address: me.address,
            dice: dice(&[hospital.seed, 41, number as u64]),
            actor: actor(&me.role, "records", me.address),
            action: Some(hospital.statements.results.clone()),
            people: People::Anybody,
            rows: (1, 1),
            distinct: false,
            gap: 1.0,
            regular: false,
            left: 1,
            site: me.site,
            next,
            statement: 0,
            walk: Walk::default(),
        }
    }

    fn outside(&mut self, address: IpAddr) {
        self.address = address;
        self.actor = actor(&self.role, "psql", address);
    }

    pub fn due(&self) -> Option<i64> {
        (self.left > 0 && self.next < self.hospital.end() + 10 * DAY).then_some(self.next)
    }

    /// The event that is due.
    pub fn step(&mut self) -> Event {
        let at = self.next;
        let gap =
            if self.regular { self.gap * (0.9 + 0.2 * self.dice.unit()) } else { self.dice.exponential(self.gap) };
        self.next += (gap * SECOND as f64) as i64 + 1;
        self.left -= 1;
        self.statement += 1;
        let Some(action) = self.action.clone() else { return self.knock(at) };
        let rows = self.dice.between(self.rows.0 as i64, self.rows.1 as i64) as u64;
        let subjects = self.subjects(rows);
        let (mut canaries, mut walk) = (0, 0);
        match self.people {
            People::From(end) => canaries = end / CANARY_EVERY - end.saturating_sub(rows) / CANARY_EVERY,
            People::Some(key) => walk = self.walk.go_on(key),
            _ => {}
        }
        Event {
            canaries,
            walk,
            connection: (1 << 51) + self.number as u64,
            statement: self.statement,
            actor: Some(self.actor.clone()),
            action: Some(action),
            rows,
            subjects,
            ..Event::new(EventKind::Statement, at)
        }
    }

    fn knock(&mut self, at: i64) -> Event {
        let invented = match self.people {
            People::Names => Some(format!("user{}", self.dice.below(1_000_000))),
            _ => None,
        };
        let actor = invented.map_or_else(|| self.actor.clone(), |name| actor(&name, "psql", self.address));
        let sqlstate = Some("28P01".to_owned());
        Event { actor: Some(actor), sqlstate, ..Event::new(EventKind::LoginFailed, at) }
    }

    fn subjects(&mut self, rows: u64) -> Subjects {
        let count = if self.distinct { rows } else { 1 };
        let named = count.min(Subjects::MAX as u64);
        let first = match &mut self.people {
            People::From(first) => {
                *first += count;
                *first - count
            }
            People::Some(first) => {
                *first += 1;
                while self.dice.one_in(30) {
                    *first += 1;
                }
                *first
            }
            People::And(first, _) => *first,
            _ => self.dice.next(),
        };
        let mut known: Vec<Subject> =
            (0..named).map(|n| self.hospital.subject(self.hospital.anybody(self.site, first + n))).collect();
        if let People::One(number) | People::And(_, number) = self.people {
            known[0] = self.hospital.subject(number);
        }
        Subjects { known, unknown_rows: 0, more: count - named }
    }
}
