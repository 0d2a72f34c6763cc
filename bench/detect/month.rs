//! A month of the hospital as events in the order of time, one at a time.
//!
//! In: the hospital and the attacks. Out: events, each with the number of the attack it is part of, if it is. Never:
//! more in memory than what each actor does next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgveil::event::Event;

use super::attack::Attack;
use super::hospital::{Hospital, KIOSKS, SERVICES};
use super::service::Service;
use super::worker::Worker;

/// Whoever makes events.
enum Source<'h> {
    Worker(Box<Worker<'h>>),
    Service(Box<Service<'h>>),
    Attack(Box<Attack<'h>>),
}

impl Source<'_> {
    /// When the next event is due; `None` when there is none.
    fn due(&self) -> Option<i64> {
        match self {
            Source::Worker(worker) => worker.due(),
            Source::Service(service) => service.due(),
            Source::Attack(attack) => attack.due(),
        }
    }

    fn step(&mut self) -> (Event, Option<usize>) {
        match self {
            Source::Worker(worker) => (worker.step(), None),
            Source::Service(service) => (service.step(), None),
            Source::Attack(attack) => (attack.step(), Some(attack.number)),
        }
    }
}

pub struct Month<'h> {
    hospital: &'h Hospital,
    sources: Vec<Source<'h>>,
    due: BinaryHeap<Reverse<(i64, usize)>>,
}

impl<'h> Month<'h> {
    pub fn new(hospital: &'h Hospital, attacks: Vec<Attack<'h>>) -> Self {
        let workers = (0..hospital.clinicians.len()).map(|who| Source::Worker(Box::new(Worker::new(hospital, who))));
        let services = (0..SERVICES + KIOSKS).map(|number| Source::Service(Box::new(Service::new(hospital, number))));
        let attacks = attacks.into_iter().map(|attack| Source::Attack(Box::new(attack)));
        let sources: Vec<_> = workers.chain(services).chain(attacks).collect();
        let due = sources.iter().enumerate().filter_map(|(n, source)| Some(Reverse((source.due()?, n)))).collect();
        Self { hospital, sources, due }
    }
}

impl Iterator for Month<'_> {
    type Item = (Event, Option<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((_, number)) = self.due.pop()?;
        let source = &mut self.sources[number];
        let made = source.step();
        if let Some(at) = source.due() {
            self.due.push(Reverse((at, number)));
        }
        let (mut event, attack) = made;
        event.canaries += self.hospital.canaries(&event);
        Some((event, attack))
    }
}
