//! The evaluation: a generated month, attacks in it, those who watch it, and the score.
//!
//! In: seeds and sizes. Out: [`table::Table`]. Never: the clock, files, or anything drawn but from the seed.

mod attack;
mod baseline;
mod draw;
pub mod hospital;
mod ledger;
pub mod month;
pub mod policy;
pub mod quiet;
mod service;
pub mod table;
pub mod watch;
mod worker;

use hospital::Hospital;
use ledger::{Ledger, Truth};
use month::Month;
use policy::Limits;
use watch::{Own, Watcher};

pub use attack::Scenario;

/// What a month is made of.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub seed: u64,
    pub clinicians: usize,
    pub days: i64,
    /// Attacks of each scenario.
    pub each: usize,
}

/// A month that was watched.
pub struct Watched {
    pub size: Size,
    pub actors: usize,
    pub events: u64,
    pub truth: Truth,
    /// Each watcher's name and ledger.
    pub ledgers: Vec<(&'static str, Ledger)>,
}

/// The month's hospital without its attacks, for measurements.
pub fn hospital(size: Size) -> Hospital {
    Hospital::new(size.seed, size.clinicians, size.days)
}

/// The month, seen by everybody at once.
pub fn watch(size: Size, recommended: &Limits) -> Watched {
    let hospital = hospital(size);
    let thresholds = recommended.thresholds(&hospital);
    let listing = Limits { vips: true, ..recommended.clone() }.thresholds(&hospital);
    let listing = Own::new("pgveil, VIPs listed as canaries", listing, hospital.start);
    let shipped = Limits::shipped().thresholds(&hospital);
    let mut watchers: Vec<(Box<dyn Watcher>, Ledger)> = vec![
        (Box::new(Own::new("pgveil", thresholds.clone(), hospital.start)), Ledger::default()),
        (Box::new(listing.listing(hospital.vips())), Ledger::default()),
        (Box::new(Own::new("pgveil, shipped numbers", shipped, hospital.start)), Ledger::default()),
        (Box::new(baseline::Tumbling::new(recommended.clone(), thresholds.clone(), hospital.start)), Ledger::default()),
        (Box::new(baseline::Seeds::default()), Ledger::default()),
    ];
    let attacks = attack::all(&hospital, size.each);
    let mut truth = Truth::new(&attacks);
    let (mut events, mut raised) = (0, Vec::new());
    for (event, label) in Month::new(&hospital, attacks) {
        events += 1;
        if let Some(number) = label {
            truth.happens(number, &event);
        }
        for (watcher, ledger) in &mut watchers {
            watcher.observe(&event, &mut raised);
            raised.drain(..).for_each(|raised| ledger.enter(&event, label, &raised, &truth));
        }
    }
    let ended = |(watcher, mut ledger): (Box<dyn Watcher>, Ledger)| {
        ledger.end();
        (watcher.name(), ledger)
    };
    let ledgers = watchers.into_iter().map(ended).collect();
    Watched { size, actors: hospital.actors(), events, truth, ledgers }
}
