//! Accounts without a person: nightly batches, interfaces, backups; and the wards' shared logins.
//!
//! In: the hospital and which account. Out: one event at a time. Never: an end; they run as long as the month.

use pgveil::event::{Action, Actor, Event, EventKind, Part, Subjects};

use super::draw::{Dice, dice};
use super::hospital::{BEDS, DAY, Hospital, KIOSKS, MINUTE, SECOND, SERVICES, actor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// At 02:00 of its site, thousands of rows in each of some dozen statements.
    Batch,
    /// A message every few seconds, day and night.
    Interface,
    /// Whole tables at 03:00.
    Backup,
    /// One login of a ward's shared machines.
    Kiosk,
}

/// Of [`SERVICES`], so many are batches, and so many more interfaces.
const BATCHES: usize = 12;
const INTERFACES: usize = 6;

fn kind(number: usize) -> Kind {
    match number {
        0..BATCHES => Kind::Batch,
        _ if number < BATCHES + INTERFACES => Kind::Interface,
        _ if number < SERVICES => Kind::Backup,
        _ => Kind::Kiosk,
    }
}

/// The role of that account; those past [`SERVICES`] are shared logins.
pub fn role(number: usize) -> String {
    match kind(number) {
        Kind::Batch => format!("batch_{number:02}"),
        Kind::Interface => format!("interface_{number:02}"),
        Kind::Backup => format!("backup_{number:02}"),
        Kind::Kiosk => format!("ward_app_{}", number - SERVICES),
    }
}

/// Every account without a person.
pub fn roles() -> Vec<String> {
    (0..SERVICES).map(role).collect()
}

/// Those with nightly hours, and their sites.
pub fn batches() -> Vec<(String, usize)> {
    (0..BATCHES).map(|number| (role(number), number % 3)).collect()
}

/// Those that pass on what happens to everybody.
pub fn interfaces() -> Vec<String> {
    (BATCHES..BATCHES + INTERFACES).map(role).collect()
}

/// Every login that many people share.
pub fn shared() -> Vec<String> {
    (SERVICES..SERVICES + KIOSKS).map(role).collect()
}

pub struct Service<'h> {
    hospital: &'h Hospital,
    kind: Kind,
    site: usize,
    dice: Dice,
    actor: Part<Actor>,
    next: i64,
    day: i64,
    /// Statements left of this night's work.
    left: i64,
    connection: u64,
    statement: u64,
}

impl<'h> Service<'h> {
    pub fn new(hospital: &'h Hospital, number: usize) -> Self {
        let (site, role) = (number % 3, role(number));
        let mut service = Self {
            hospital,
            kind: kind(number),
            site,
            dice: dice(&[hospital.seed, 30, number as u64]),
            actor: actor(&role, "service", [10, 100, site as u8, number as u8].into()),
            next: hospital.start,
            day: -1,
            left: 0,
            connection: (1 << 50) + number as u64,
            statement: 0,
        };
        service.schedule();
        service
    }

    pub fn due(&self) -> Option<i64> {
        (self.next < self.hospital.end()).then_some(self.next)
    }

    fn schedule(&mut self) {
        let hour = match self.kind {
            Kind::Batch => 2,
            Kind::Backup => 3,
            Kind::Interface => return self.next += self.dice.exponential(30.0 * SECOND as f64) as i64,
            Kind::Kiosk => {
                let night = !(7 * 60..21 * 60).contains(&self.hospital.minute(self.site, self.next));
                let mean = if night { 120.0 } else { 30.0 };
                return self.next += self.dice.exponential(mean * SECOND as f64) as i64;
            }
        };
        if self.left > 0 {
            self.left -= 1;
            self.next += self.dice.exponential(40.0 * SECOND as f64) as i64;
            return;
        }
        self.day += 1;
        // The first night's 02:00 lies before the month in no zone of ours.
        self.next = self.hospital.local(self.site, self.day, hour * 60) + self.dice.between(0, 3 * MINUTE);
        self.left = if self.kind == Kind::Batch { self.dice.between(10, 60) } else { 4 };
    }

    /// The event that is due.
    pub fn step(&mut self) -> Event {
        let (at, hospital) = (self.next, self.hospital);
        let day = (at - hospital.start) / DAY;
        let drawn = self.dice.next();
        let event = match self.kind {
            Kind::Batch => {
                let rows = self.dice.between(500, 5_000) as u64;
                // It joins and counts: whose rows they are is in no column of the result.
                let subjects = Subjects { unknown_rows: rows, ..Subjects::default() };
                self.read(at, &hospital.statements.batch, rows, subjects)
            }
            Kind::Backup => {
                let rows = self.dice.log_uniform(20_000.0, 200_000.0) as u64;
                let subjects = Subjects { unknown_rows: rows, ..Subjects::default() };
                self.read(at, &hospital.statements.export, rows, subjects)
            }
            Kind::Interface => self.about(at, hospital.anybody(self.site, drawn), 3),
            Kind::Kiosk => {
                let ward = (drawn >> 8) % hospital.wards();
                self.about(at, hospital.in_bed(self.site, ward, drawn % BEDS, day), 12)
            }
        };
        self.schedule();
        event
    }

    fn about(&mut self, at: i64, person: u64, rows_max: i64) -> Event {
        let subjects = Subjects { known: vec![self.hospital.subject(person)], ..Subjects::default() };
        let rows = self.dice.between(1, rows_max) as u64;
        self.read(at, &self.hospital.statements.results, rows, subjects)
    }

    fn read(&mut self, at: i64, action: &Part<Action>, rows: u64, subjects: Subjects) -> Event {
        self.statement += 1;
        Event {
            connection: self.connection,
            statement: self.statement,
            actor: Some(self.actor.clone()),
            action: Some(action.clone()),
            rows,
            subjects,
            ..Event::new(EventKind::Statement, at)
        }
    }
}
