//! What the detector takes: nanoseconds for an event, bytes for an actor.
//!
//! In: a month. Out: measurements. Never: a model; bytes are those the allocator was asked for.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use peak_alloc::PeakAlloc;
use pgveil::clock::Now;
use pgveil::detect::{Detector, Thresholds};
use pgveil::event::{Event, EventKind, Subjects};

use crate::evaluation::hospital::{Hospital, actor};
use crate::evaluation::month::Month;
use crate::evaluation::watch::now;

/// Events replayed, and how often.
const EVENTS: usize = 300_000;
const RUNS: usize = 7;

pub const ACTORS: usize = 1_000_000;

/// The detector alone on the month's first events: nanoseconds for each, the fastest of some runs.
pub fn nanoseconds(hospital: &Hospital, thresholds: &Thresholds) -> f64 {
    let events: Vec<(Event, Now)> = Month::new(hospital, Vec::new())
        .take(EVENTS)
        .map(|(event, _)| {
            let at = now(&event, hospital.start);
            (event, at)
        })
        .collect();
    let run = || {
        let (mut detector, mut alerts) = (Detector::new(pgveil::detect::ACTORS_MAX), Vec::new());
        let start = Instant::now();
        for (event, at) in &events {
            detector.observe(black_box(event), *at, thresholds, &mut alerts);
        }
        let taken = start.elapsed();
        black_box(alerts.len());
        taken.as_nanos() as f64 / events.len() as f64
    };
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Memory held for [`ACTORS`].
pub struct Memory {
    /// Actors the detector holds after the working day.
    pub held: usize,
    /// Bytes it holds then.
    pub bytes: usize,
    /// The most it held at any time.
    pub peak: usize,
    /// Windows it dropped at its bound.
    pub evicted: u64,
}

/// Every actor read one row a week ago; since the longest window passed, one in five is at work: 20 statements of one
/// row about ten people within a quarter of an hour.
pub fn memory(hospital: &Hospital, thresholds: &Thresholds, actors_max: usize, alloc: &PeakAlloc) -> Memory {
    let mut alerts = Vec::new();
    let before = alloc.current_usage();
    let mut detector = Detector::new(actors_max);
    alloc.reset_peak_usage();
    let mut observe = |detector: &mut Detector, who: usize, at_us: i64, person: u64| {
        let role = actor(&format!("actor_{who:07}"), "records", Ipv4Addr::from(who as u32).into());
        let mut event = Event::new(EventKind::Statement, at_us);
        event.actor = Some(role);
        event.action = Some(hospital.statements.by_id.clone());
        event.rows = 1;
        event.subjects = Subjects { known: vec![hospital.subject(person)], ..Subjects::default() };
        detector.observe(&event, now(&event, hospital.start), thresholds, &mut alerts);
        alerts.clear();
    };
    let week = 7 * 86_400 * 1_000_000;
    for who in 0..ACTORS {
        observe(&mut detector, who, hospital.start + who as i64, who as u64);
    }
    for round in 0..20_u64 {
        for who in (0..ACTORS).step_by(5) {
            let at = hospital.start + week + round as i64 * 40_000_000 + who as i64;
            observe(&mut detector, who, at, who as u64 + round / 2 * 1_000_003);
        }
    }
    let counts = detector.counts();
    let bytes = alloc.current_usage().saturating_sub(before);
    let peak = alloc.peak_usage().saturating_sub(before);
    Memory { held: counts.actors, bytes, peak, evicted: counts.evicted }
}
