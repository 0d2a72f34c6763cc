//! What a clinician does: comes, mistypes the password now and then, logs in, reads lists and charts, writes notes,
//! goes home.
//!
//! In: the hospital and which clinician. Out: one event at a time. Never: a look at what the detector's rules are.

use pgveil::event::{Action, Actor, Event, EventKind, Part, Subject, Subjects};

use super::draw::{Dice, dice};
use super::hospital::{BEDS, Clinician, DAY, HOUR, Hospital, Job, MINUTE, SECOND, actor};

/// Statements that PostgreSQL or pgveil refuses, of all.
const FAILING: f64 = 0.003;

/// Charts that a nurse or a physician reads in another ward: a colleague asks.
const CONSULTING: f64 = 0.01;

/// Shifts with an export: for a report, a study, a letter run.
const EXPORTING: f64 = 0.02;

/// How a job works.
struct Pace {
    /// Seconds from chart to chart for the middle one, on top of the shortest there is.
    gap_s: f64,
    /// Statements of one chart.
    statements: (i64, i64),
    /// Rows of each: the median.
    rows: f64,
    /// Rows of the list looked at every hour or so.
    list: u64,
}

impl Job {
    fn pace(self) -> Pace {
        match self {
            Job::Nurse => Pace { gap_s: 420.0, statements: (3, 6), rows: 5.0, list: BEDS },
            Job::Physician => Pace { gap_s: 480.0, statements: (3, 8), rows: 7.0, list: BEDS },
            Job::Clerk => Pace { gap_s: 200.0, statements: (1, 3), rows: 1.5, list: 16 },
            Job::Laboratory => Pace { gap_s: 140.0, statements: (1, 3), rows: 4.0, list: 40 },
        }
    }
}

/// Nobody reads a chart faster.
const SHORTEST: i64 = 40 * SECOND;

enum State {
    /// Before the login, with so many wrong passwords to come.
    Knocking(i64),
    In,
    Gone,
}

pub struct Worker<'h> {
    hospital: &'h Hospital,
    who: usize,
    dice: Dice,
    actor: Part<Actor>,
    state: State,
    next: i64,
    /// The day of the shift, and the one to look for the next shift from.
    day: i64,
    until: i64,
    load: f64,
    list_at: i64,
    export_at: Option<i64>,
    chart: Option<(Subject, i64)>,
    connection: u64,
    statement: u64,
}

impl<'h> Worker<'h> {
    pub fn new(hospital: &'h Hospital, who: usize) -> Self {
        let me = &hospital.clinicians[who];
        let mut worker = Self {
            hospital,
            who,
            dice: dice(&[hospital.seed, 20, who as u64]),
            actor: actor(&me.role, "records", me.address),
            state: State::Gone,
            next: hospital.start,
            day: -1,
            until: 0,
            load: 1.0,
            list_at: 0,
            export_at: None,
            chart: None,
            connection: (who as u64) << 20,
            statement: 0,
        };
        worker.come(hospital.start);
        worker
    }

    pub fn due(&self) -> Option<i64> {
        (!matches!(self.state, State::Gone)).then_some(self.next)
    }

    fn me(&self) -> &'h Clinician {
        &self.hospital.clinicians[self.who]
    }

    /// Goes on to the next shift that begins at or after `from`.
    fn come(&mut self, from: i64) {
        self.state = State::Gone;
        while self.day < self.hospital.days {
            self.day += 1;
            let Some(shift) = self.hospital.shift(self.who, self.day).filter(|shift| shift.from >= from) else {
                continue;
            };
            if shift.from >= self.hospital.end() {
                return;
            }
            let wrong = match self.dice.below(1_000) {
                0..40 => self.dice.between(1, 3),
                40..42 => self.dice.between(4, 8),
                _ => 0,
            };
            let exports = matches!(self.me().job, Job::Clerk | Job::Physician) && self.dice.chance(EXPORTING);
            let hours = (shift.to - shift.from) / HOUR;
            self.export_at = exports.then(|| shift.from + self.dice.between(1, hours.max(2) - 1) * HOUR);
            (self.state, self.next) = (State::Knocking(wrong), shift.from);
            (self.until, self.load) = (shift.to.min(self.hospital.end()), shift.load);
            self.connection += 1;
            return;
        }
    }

    /// The event that is due.
    pub fn step(&mut self) -> Event {
        let at = self.next;
        match self.state {
            State::Knocking(0) | State::Gone => {
                self.state = State::In;
                self.list_at = at;
                self.next += self.dice.between(2, 60) * SECOND;
                self.event(EventKind::Login, at)
            }
            State::Knocking(wrong) => {
                self.state = State::Knocking(wrong - 1);
                self.next += self.dice.between(3, 20) * SECOND;
                Event { sqlstate: Some("28P01".to_owned()), ..self.event(EventKind::LoginFailed, at) }
            }
            State::In if at >= self.until => {
                let event = self.event(EventKind::Logout, at);
                self.chart = None;
                self.come(at);
                event
            }
            State::In => self.work(at),
        }
    }

    fn work(&mut self, at: i64) -> Event {
        let (hospital, pace) = (self.hospital, self.me().job.pace());
        if self.export_at.is_some_and(|due| at >= due) {
            self.export_at = None;
            self.pause(2 * MINUTE);
            let rows = self.dice.log_uniform(30.0, 400.0) as u64;
            let of = self.somebody(at, true);
            return self.read(at, &hospital.statements.export, rows, self.row_of(of, rows));
        }
        if self.chart.is_none() && at >= self.list_at {
            self.list_at = at + self.dice.between(40, 90) * MINUTE;
            self.pause(20 * SECOND);
            let people = self.list(at, pace.list);
            return self.read(at, &hospital.statements.list, people.len() as u64, people);
        }
        if self.chart.is_none() && self.me().job == Job::Clerk && self.dice.chance(0.5) {
            self.pause(15 * SECOND);
            let found = self.dice.between(0, 7) as u64;
            let of = self.dice.next();
            let of = hospital.anybody(self.me().site, of);
            return self.read(at, &hospital.statements.search, found, self.row_of(of, found));
        }
        let (person, left) = self.chart.take().unwrap_or_else(|| {
            let person = self.somebody(at, false);
            (hospital.subject(person), self.dice.between(pace.statements.0, pace.statements.1))
        });
        if left > 1 {
            self.next += self.dice.exponential(5.0 * SECOND as f64) as i64 + SECOND / 5;
            self.chart = Some((person.clone(), left - 1));
        } else {
            let mean = pace.gap_s / (self.me().rate * self.load) * SECOND as f64;
            let gap = SHORTEST + self.dice.exponential(mean) as i64;
            self.pause(gap);
        }
        if self.dice.chance(FAILING) {
            let (code, sqlstate) = (Some("PV011".to_owned()), Some("42501".to_owned()));
            return Event { code, sqlstate, ..self.event(EventKind::Refused, at) };
        }
        let rows = self.dice.log_normal(pace.rows, 0.8).clamp(1.0, 200.0) as u64;
        match self.dice.below(10) {
            0..3 => self.read(at, &hospital.statements.chart, 1, vec![person]),
            3..9 => self.read(at, &hospital.statements.results, rows, vec![person]),
            _ => self.read(at, &hospital.statements.note, 1, vec![person]),
        }
    }

    /// Never past the shift's end by much: the logout is due then.
    fn pause(&mut self, time: i64) {
        self.next += time;
        if self.next > self.until {
            self.next = self.until;
        }
    }

    /// Whom this one has to do with now.
    fn somebody(&mut self, at: i64, anybody: bool) -> u64 {
        let (hospital, me) = (self.hospital, self.me());
        let drawn = self.dice.next();
        if anybody {
            return hospital.anybody(me.site, drawn);
        }
        let day = (at - hospital.start) / DAY;
        if matches!(me.job, Job::Nurse | Job::Physician) && self.dice.chance(CONSULTING) {
            return hospital.in_bed(me.site, (drawn >> 8) % hospital.wards(), drawn % BEDS, day);
        }
        match me.job {
            // A nurse's third of the ward.
            Job::Nurse => {
                let third = BEDS / 3;
                hospital.in_bed(me.site, me.ward, (self.who as u64 % 3) * third + drawn % third, day)
            }
            Job::Physician if drawn.is_multiple_of(2) => hospital.in_bed(me.site, me.ward, (drawn >> 1) % BEDS, day),
            Job::Physician => hospital.appointment(self.who, self.day, (drawn >> 1) % 16),
            Job::Clerk => hospital.anybody(me.site, drawn),
            Job::Laboratory => hospital.in_bed(me.site, (drawn >> 8) % hospital.wards(), drawn % BEDS, day),
        }
    }

    fn list(&mut self, at: i64, rows: u64) -> Vec<Subject> {
        let (hospital, me) = (self.hospital, self.me());
        let day = (at - hospital.start) / DAY;
        let physician = me.job == Job::Physician && self.dice.chance(0.5);
        let drawn = self.dice.next();
        let of = |n| match me.job {
            Job::Clerk => hospital.appointment(self.who, self.day, n),
            Job::Physician if physician => hospital.appointment(self.who, self.day, n % 16),
            Job::Laboratory => hospital.in_bed(me.site, (drawn + n) % hospital.wards(), n % BEDS, day),
            _ => hospital.in_bed(me.site, me.ward, n, day),
        };
        let rows = if physician { 16 } else { rows };
        (0..rows).map(|n| hospital.subject(of(n))).collect()
    }

    /// So many people on file from that one on.
    fn row_of(&self, first: u64, rows: u64) -> Vec<Subject> {
        (0..rows).map(|n| self.hospital.subject(first + n)).collect()
    }

    fn read(&mut self, at: i64, action: &Part<Action>, rows: u64, known: Vec<Subject>) -> Event {
        self.statement += 1;
        let subjects = Subjects { known, ..Subjects::default() };
        let event = self.event(EventKind::Statement, at);
        Event { action: Some(action.clone()), rows, subjects, statement: self.statement, ..event }
    }

    fn event(&self, kind: EventKind, at: i64) -> Event {
        Event { connection: self.connection, actor: Some(self.actor.clone()), ..Event::new(kind, at) }
    }
}
