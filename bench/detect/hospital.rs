//! The hospital: who works there, when, and on whom.
//!
//! In: a seed and a size. Out: people, shifts, beds and appointments, each computed when asked for. Never: a list of
//! what happens; [`super::month`] makes that, one event at a time.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::civil::{Date, Weekday, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};
use pgveil::event::{Access, Action, Actor, ActorAuth, Event, Part, Pseudonym, Shown, Subject, Touch};

use super::draw::dice;

/// Microseconds.
pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// The month begins with a night of 25 hours (daylight saving ends) and has two holidays.
pub const FIRST_DAY: Date = date(2026, 11, 1);
pub const HOLIDAYS: [Date; 2] = [date(2026, 11, 11), date(2026, 11, 26)];

/// Three sites in two zones.
pub const ZONES: [&str; 3] = ["America/New_York", "America/New_York", "America/Chicago"];

pub const BEDS: u64 = 24;
pub const SERVICES: usize = 20;
pub const KIOSKS: usize = 3;
pub const VIPS: u64 = 5;
pub const CANARIES: u64 = 20;

/// How many people each site has on file.
const PATIENTS: u64 = 40_000;
const SITE: u64 = 1_000_000;
const VIP: u64 = 900_000_000;
const CANARY: u64 = 800_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Nurse,
    Physician,
    Clerk,
    Laboratory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Early,
    Late,
    Night,
    Office,
}

/// One with a login of their own.
pub struct Clinician {
    pub role: String,
    pub job: Job,
    pub site: usize,
    pub ward: u64,
    /// How fast this one works, against the middle one of the job.
    pub rate: f64,
    pub address: IpAddr,
    turn: Turn,
}

impl Clinician {
    /// The hours that belong to the job: a name and, from Monday to Friday and at weekends, when. A physician is called
    /// at any hour.
    pub fn calendar(&self) -> Option<(&'static str, &'static str, &'static str)> {
        match (self.job, self.turn) {
            (Job::Physician, _) => None,
            (_, Turn::Office) => Some(("office", "06:00-21:00", "closed")),
            (_, Turn::Early) => Some(("early", "05:30-19:00", "05:30-19:00")),
            (_, Turn::Late) => Some(("late", "14:00-03:00", "14:00-03:00")),
            (_, Turn::Night) => Some(("night", "22:00-12:00", "22:00-12:00")),
        }
    }
}

/// When somebody is there, and how much of the usual work there is.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    pub from: i64,
    pub to: i64,
    pub load: f64,
}

/// What a statement of the hospital's applications is; shared by all its events.
pub struct Statements {
    pub chart: Part<Action>,
    pub results: Part<Action>,
    pub note: Part<Action>,
    pub list: Part<Action>,
    pub search: Part<Action>,
    pub by_id: Part<Action>,
    pub batch: Part<Action>,
    pub export: Part<Action>,
}

impl Statements {
    fn new() -> Self {
        let clear = |column: &str| (column.to_owned(), Shown::Clear);
        let made = |number: u64, access, text: &str, relation: &str, columns: &[(String, Shown)]| {
            let touch = |(column, shown): &(String, Shown)| Touch {
                relation: relation.into(),
                column: column.as_str().into(),
                shown: *shown,
            };
            Part::from(Action {
                fingerprint: Some(format!("{number:016x}").into()),
                text: Some(text.into()),
                access,
                touches: columns.iter().map(touch).collect(),
                ..Action::none()
            })
        };
        let person = [clear("full_name"), clear("date_of_birth"), clear("phone")];
        let by_key = [clear("full_name"), clear("date_of_birth"), ("id".to_owned(), Shown::Searched)];
        let (patients, results) = ("public.patients", "public.results");
        Self {
            chart: made(1, Access::Read, "select * from patients where id = $1", patients, &by_key),
            results: made(
                2,
                Access::Read,
                "select patient_id, value from results where patient_id = $1",
                results,
                &[clear("value")],
            ),
            note: made(
                3,
                Access::Write,
                "insert into notes values ($1, $2)",
                "public.notes",
                &[("body".to_owned(), Shown::Written)],
            ),
            list: made(4, Access::Read, "select id, full_name from patients where ward = $1", patients, &person),
            search: made(5, Access::Read, "select id, full_name from patients where full_name = $1", patients, &person),
            by_id: made(6, Access::Read, "select id, full_name, phone from patients where id = $1", patients, &by_key),
            batch: made(7, Access::Read, "select * from results where id > $1 limit $2", results, &[clear("value")]),
            export: made(
                8,
                Access::Export,
                "copy (select * from patients where ward = $1) to stdout",
                patients,
                &person,
            ),
        }
    }
}

pub struct Hospital {
    pub seed: u64,
    pub clinicians: Vec<Clinician>,
    pub statements: Statements,
    pub days: i64,
    pub start: i64,
    wards: u64,
    zones: [TimeZone; 3],
    patient: Arc<str>,
    canaries: HashSet<u128>,
}

impl Hospital {
    pub fn new(seed: u64, clinicians: usize, days: i64) -> Self {
        let zone = |name| TimeZoneDatabase::bundled().get(name).expect("the zones of this file are in the database");
        let zones = ZONES.map(zone);
        let wards = (clinicians as u64 / 30).max(2);
        let start = FIRST_DAY.to_zoned(TimeZone::UTC).map_or(0, |at| at.timestamp().as_microsecond());
        let clinicians = (0..clinicians).map(|who| clinician(seed, who, wards)).collect();
        let mut hospital = Self {
            seed,
            clinicians,
            statements: Statements::new(),
            days,
            start,
            wards,
            zones,
            patient: "patient".into(),
            canaries: HashSet::new(),
        };
        let canaries = (0..CANARIES).map(|canary| CANARY + canary);
        hospital.canaries = canaries.map(|number| hospital.subject(number).pseudonym.0).collect();
        hospital
    }

    pub fn end(&self) -> i64 {
        self.start + self.days * DAY
    }

    /// Those who are not clinicians included.
    pub fn actors(&self) -> usize {
        self.clinicians.len() + SERVICES + KIOSKS
    }

    pub fn date(&self, day: i64) -> Date {
        FIRST_DAY.saturating_add(Span::new().days(day))
    }

    /// A time of that day at that site, as its clocks show it; minutes past 1440 are of the next day.
    pub fn local(&self, site: usize, day: i64, minute: i64) -> i64 {
        let date = self.date(day + minute.div_euclid(1_440));
        let minute = minute.rem_euclid(1_440);
        let at = date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
        let zoned = at.to_zoned(self.zones[site].clone());
        zoned.map_or(self.start + day * DAY, |at| at.timestamp().as_microsecond())
    }

    /// Minutes after midnight, as the site's clocks show.
    pub fn minute(&self, site: usize, at: i64) -> i64 {
        let Ok(instant) = Timestamp::from_microsecond(at) else { return 0 };
        let local = instant.to_zoned(self.zones[site].clone()).datetime();
        i64::from(local.hour()) * 60 + i64::from(local.minute())
    }

    /// What that clinician works on that day; `None` is a day off.
    pub fn shift(&self, who: usize, day: i64) -> Option<Shift> {
        let clinician = &self.clinicians[who];
        let date = self.date(day);
        let mut dice = dice(&[self.seed, 1, who as u64, day as u64]);
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) || HOLIDAYS.contains(&date);
        let turn = who as i64 + day;
        let (from, to, load) = match (clinician.job, clinician.turn) {
            (Job::Physician, _) if turn % 8 == 0 => (17 * 60, 32 * 60, 0.25),
            (Job::Physician, _) if turn % 8 == 1 => return None,
            (_, Turn::Office) if weekend => return None,
            (_, Turn::Office) => (8 * 60, 17 * 60, 1.0),
            _ if turn % 7 >= 5 => return None,
            (_, Turn::Early) => (7 * 60, 15 * 60, 1.0),
            (_, Turn::Late) => (15 * 60, 23 * 60, 0.9),
            (_, Turn::Night) => (23 * 60, 31 * 60, 0.5),
        };
        let late = if dice.chance(0.1) { dice.log_normal(45.0, 0.6).min(210.0) as i64 } else { dice.between(-15, 15) };
        let from = self.local(clinician.site, day, from + dice.between(-20, 15)) + dice.between(0, MINUTE);
        Some(Shift { from, to: self.local(clinician.site, day, to + late), load })
    }

    pub fn subject(&self, number: u64) -> Subject {
        let mut dice = dice(&[self.seed, 2, number]);
        let pseudonym = u128::from(dice.next()) << 64 | u128::from(dice.next());
        Subject { kind: Arc::clone(&self.patient), pseudonym: Pseudonym(pseudonym) }
    }

    /// Somebody on the site's file.
    pub fn anybody(&self, site: usize, drawn: u64) -> u64 {
        site as u64 * SITE + drawn % PATIENTS
    }

    /// Who lies there; a bed changes hands every two to nine days. One bed in five wards is a VIP's for a while.
    pub fn in_bed(&self, site: usize, ward: u64, bed: u64, day: i64) -> u64 {
        let place = site as u64 * self.wards + ward;
        if bed == 0
            && let Some(vip) = (0..VIPS).find(|vip| self.vip_ward(*vip) == (site, ward))
        {
            let first = 3 + 4 * vip as i64;
            if (first..first + 6).contains(&day) {
                return VIP + vip;
            }
        }
        let mut of_bed = dice(&[self.seed, 3, place, bed]);
        let (stay, offset) = (of_bed.between(2, 9), of_bed.between(0, 9));
        let mut drawn = dice(&[self.seed, 4, place, bed, ((day + offset) / stay) as u64]);
        self.anybody(site, drawn.next())
    }

    pub fn vip_ward(&self, vip: u64) -> (usize, u64) {
        let mut dice = dice(&[self.seed, 5, vip]);
        (dice.below(3), dice.next() % self.wards)
    }

    pub fn vip(&self, vip: u64) -> u64 {
        VIP + vip
    }

    /// Rows of the event that are a canary's.
    pub fn canaries(&self, event: &Event) -> u64 {
        Self::rows_of(&self.canaries, event)
    }

    /// Who the VIPs are, for a policy that lists them as canaries.
    pub fn vips(&self) -> HashSet<u128> {
        (0..VIPS).map(|vip| self.subject(VIP + vip).pseudonym.0).collect()
    }

    /// Rows of the event that belong to one of these.
    pub fn rows_of(people: &HashSet<u128>, event: &Event) -> u64 {
        let known = &event.subjects.known;
        let listed = known.iter().filter(|subject| people.contains(&subject.pseudonym.0)).count() as u64;
        if known.len() == 1 { listed * event.rows } else { listed }
    }

    pub fn canary(&self, canary: u64) -> u64 {
        CANARY + canary
    }

    pub fn wards(&self) -> u64 {
        self.wards
    }

    /// Whom that clinician expects on that day: the appointments that justify reads.
    pub fn appointment(&self, who: usize, day: i64, slot: u64) -> u64 {
        let drawn = dice(&[self.seed, 6, who as u64, day as u64, slot]).next();
        self.anybody(self.clinicians[who].site, drawn)
    }
}

/// A login of the hospital's database.
pub fn actor(role: &str, application: &str, client: IpAddr) -> Part<Actor> {
    Part::from(Actor {
        role: role.to_owned(),
        database: "hospital".to_owned(),
        auth: ActorAuth::ScramSha256,
        certificate: None,
        application: application.to_owned(),
        client: Some(client),
        purpose: None,
        purpose_by: None,
        person: None,
    })
}

fn clinician(seed: u64, who: usize, wards: u64) -> Clinician {
    let mut dice = dice(&[seed, 7, who as u64]);
    let site = dice.below(3);
    let (job, turn) = match dice.below(100) {
        0..25 => (Job::Nurse, Turn::Early),
        25..41 => (Job::Nurse, Turn::Late),
        41..55 => (Job::Nurse, Turn::Night),
        55..80 => (Job::Physician, Turn::Office),
        80..92 => (Job::Clerk, Turn::Office),
        92..98 => (Job::Laboratory, Turn::Early),
        _ => (Job::Laboratory, Turn::Night),
    };
    let name = match job {
        Job::Nurse => "nurse",
        Job::Physician => "physician",
        Job::Clerk => "clerk",
        Job::Laboratory => "laboratory",
    };
    let address = Ipv4Addr::new(10, site as u8, (who >> 8) as u8, who as u8);
    Clinician {
        role: format!("{name}_{who:04}"),
        job,
        site,
        ward: dice.next() % wards,
        rate: dice.log_normal(1.0, 0.5),
        address: address.into(),
        turn,
    }
}
