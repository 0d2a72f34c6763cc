//! What an actor and its peers usually do in an hour, and how far from it this hour is: numbers that can be read aloud.
//!
//! In: records and people of one actor, at the event's own time. Out: the bound that this hour has crossed, and why that
//! is one. Never: a score that nobody can explain, more memory than its bounds.

use super::window::Time;

/// Active hours kept of an actor; the newest.
const OWN_MAX: usize = 32;

/// Active hours before anything is unusual for an actor …
const OWN_MIN: usize = 8;

/// … and for its peers, whose newest are kept.
const PEERS_MIN: usize = 24;
const PEERS_MAX: usize = 512;

/// Less than this is never unusual.
const FLOOR: Count = Count { records: 50, people: 20 };

/// Different people of one hour that are told apart.
const PEOPLE_MAX: usize = 256;

/// What one active hour adds to its hour of the week; halved every week.
const ACTIVE: u8 = 32;

/// Hours of the week that must be known before another one is strange.
const KNOWN_MIN: usize = 10;

const HOUR_US: i64 = 3_600_000_000;
const WEEK: i64 = 168;

/// Counts of one hour; as large as a `u16`, which no limit is when it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    records: u16,
    people: u16,
}

/// Newest counts, in a ring.
#[derive(Clone, Debug, Default)]
struct Counts {
    all: Vec<Count>,
    next: u16,
}

impl Counts {
    fn push(&mut self, count: Count, max: usize) {
        if self.all.len() < max {
            self.all.push(count);
        } else if let Some(oldest) = self.all.get_mut(usize::from(self.next)) {
            *oldest = count;
            self.next = (self.next + 1) % u16::try_from(max).unwrap_or(u16::MAX);
        }
    }

    fn spread(&self, of: fn(&Count) -> u16) -> Spread {
        let mut all: Vec<u16> = self.all.iter().map(of).collect();
        all.sort_unstable();
        let median = middle(&all);
        let high = all.get((all.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        let mut off: Vec<u16> = all.iter().map(|x| x.abs_diff(median)).collect();
        off.sort_unstable();
        Spread { median, high, mad: middle(&off) }
    }
}

/// The lower of the two in the middle, if there are two.
fn middle(sorted: &[u16]) -> u16 {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Where most of the counts lie.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: u16,
    /// The 99th percentile.
    high: u16,
    /// Median absolute deviation.
    mad: u16,
}

impl Spread {
    /// The count that lies `z` deviations above the median. One deviation is 1.4826 MAD, what it is of a normal
    /// distribution, and at least a quarter of the median and one: who always does the same may do a little more.
    fn limit(self, z: u64) -> u64 {
        let deviation = (u64::from(self.mad) * 14_826).max(u64::from(self.median) * 2_500).max(10_000);
        u64::from(self.median) + (z * deviation).div_ceil(10_000)
    }
}

/// The bound of one hour, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    limit: u64,
    own_median: u16,
    peers_high: u16,
}

/// What is too much this hour.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    records: Bound,
    people: Bound,
    strange: bool,
}

/// An unusual hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusual {
    /// What was counted.
    pub(super) observed: u64,
    /// What it crossed.
    pub(super) limit: u64,
    what: &'static str,
    own_median: u16,
    peers_high: u16,
    strange: bool,
}

impl Unusual {
    /// Why.
    pub(super) fn message(&self, role: &str) -> String {
        let Self { observed, what, own_median, peers_high, .. } = self;
        let when = if self.strange { ", at an hour of the week when it does not work" } else { "" };
        format!(
            "{role:?} accessed {observed} {what} this hour{when}; own median {own_median}, peers' 99th percentile {peers_high}"
        )
    }
}

/// One actor's.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    hour: i64,
    records: u64,
    people: Vec<u32>,
    own: Counts,
    /// By hour of the week, UTC; from the second active hour on.
    week: Option<Box<[u8; WEEK as usize]>>,
    /// Of the hour, once it was worth finding out.
    bounds: Option<Option<Box<Bounds>>>,
    pub(super) seen: Time,
}

/// One group's.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Counts);

impl Baseline {
    /// Counts what was released at `at_us`; says so when this hour is too much for the actor and for its peers, by `z`
    /// deviations, by half as many in an hour of the week when the actor does not work.
    pub(super) fn add(
        &mut self,
        at_us: i64,
        records: u64,
        people: impl Iterator<Item = u64>,
        peers: &mut Peers,
        z: u64,
    ) -> Option<Unusual> {
        self.turn(at_us.div_euclid(HOUR_US), peers);
        self.records = self.records.saturating_add(records);
        for person in people {
            // 32 bits tell a few hundred people apart.
            let person = (person >> 32) as u32 ^ person as u32;
            if self.people.len() < PEOPLE_MAX && !self.people.contains(&person) {
                self.people.push(person);
            }
        }
        let count = self.count();
        if count.records <= FLOOR.records && count.people <= FLOOR.people {
            return None;
        }
        let bounds = self.bounds.take().unwrap_or_else(|| self.bounds(peers, z).map(Box::new));
        let found = bounds.as_ref().and_then(|bounds| {
            let over = |bound: Bound, observed: u64, what| {
                let Bound { limit, own_median, peers_high } = bound;
                let strange = bounds.strange;
                (observed > limit).then_some(Unusual { observed, limit, what, own_median, peers_high, strange })
            };
            let people = self.people.len() as u64;
            over(bounds.records, self.records, "records").or_else(|| over(bounds.people, people, "different people"))
        });
        self.bounds = Some(bounds);
        found
    }

    /// Puts the last active hour away when another begins. Events that come late count in the hour that is.
    fn turn(&mut self, hour: i64, peers: &mut Peers) {
        if hour <= self.hour {
            return;
        }
        if self.records > 0 {
            let count = self.count();
            self.own.push(count, OWN_MAX);
            peers.0.push(count, PEERS_MAX);
            let weeks = hour.div_euclid(WEEK) - self.hour.div_euclid(WEEK);
            let week = self.week.get_or_insert_with(|| Box::new([0; WEEK as usize]));
            let slot = &mut week[self.hour.rem_euclid(WEEK) as usize];
            *slot = slot.saturating_add(ACTIVE);
            let weeks = u32::try_from(weeks.clamp(0, 7)).unwrap_or(0);
            week.iter_mut().for_each(|slot| *slot = slot.checked_shr(weeks).unwrap_or(0));
        }
        self.hour = hour;
        self.records = 0;
        self.people = Vec::new();
        self.bounds = None;
    }

    fn count(&self) -> Count {
        let cut = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        Count { records: cut(self.records), people: cut(self.people.len() as u64) }
    }

    fn bounds(&self, peers: &Peers, z: u64) -> Option<Bounds> {
        if self.own.all.len() < OWN_MIN || peers.0.all.len() < PEERS_MIN {
            return None;
        }
        let strange = self.strange();
        let z = if strange { z.div_ceil(2) } else { z };
        let bound = |of: fn(&Count) -> u16, floor: u16| {
            let (own, peers) = (self.own.spread(of), peers.0.spread(of));
            let limit = own.limit(z).max(peers.limit(z)).max(floor.into());
            Bound { limit, own_median: own.median, peers_high: peers.high }
        };
        let records = bound(|count| count.records, FLOOR.records);
        Some(Bounds { records, people: bound(|count| count.people, FLOOR.people), strange })
    }

    /// It has worked at many hours of the week, and not at this one or those beside it.
    fn strange(&self) -> bool {
        let Some(week) = &self.week else { return false };
        let near = [-1, 0, 1].map(|by| week[(self.hour + by).rem_euclid(WEEK) as usize]);
        near == [0; 3] && week.iter().filter(|slot| **slot > 0).count() >= KNOWN_MIN
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let week = self.week.as_ref().map_or(0, |_| WEEK as usize);
        let bounds = self.bounds.as_ref().and_then(Option::as_ref).map_or(0, |_| size_of::<Bounds>());
        self.people.capacity() * 4 + self.own.all.capacity() * size_of::<Count>() + week + bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 00:00 UTC.
    const MONDAY: i64 = 1_767_571_200_000_000;

    fn at(day: i64, hour: i64) -> i64 {
        MONDAY + (day * 24 + hour) * HOUR_US
    }

    /// Four weeks of office hours, some ten records an hour each.
    fn office(people: usize) -> (Vec<Baseline>, Peers) {
        let (mut all, mut peers) = (vec![Baseline::default(); people], Peers::default());
        for day in (0..28).filter(|day| day % 7 < 5) {
            for hour in 8..17 {
                for (n, baseline) in all.iter_mut().enumerate() {
                    let records = 8 + (day * 7 + hour * 3 + n as i64 * 5).unsigned_abs() % 5;
                    let seen = baseline.add(at(day, hour), records, (0u32..4).map(u64::from), &mut peers, 6);
                    assert_eq!(seen, None);
                }
            }
        }
        (all, peers)
    }

    #[test]
    fn an_hour_far_above_own_and_peers_is_unusual_and_says_why() {
        let (mut all, mut peers) = office(5);
        let mut add = |records| all[0].add(at(28, 10), records, std::iter::empty(), &mut peers, 6);
        assert_eq!(add(50), None, "the floor");
        let found = add(362).unwrap();
        let said = found.message("eve");
        assert_eq!(said, "\"eve\" accessed 412 records this hour; own median 10, peers' 99th percentile 12");
        assert!(found.limit >= 50 && found.observed == 412);
    }

    #[test]
    fn what_peers_do_or_what_one_always_does_is_not_unusual() {
        let (mut all, mut peers) = office(5);
        for day in 28..40 {
            for (n, baseline) in all.iter_mut().enumerate().skip(1) {
                baseline.add(at(day, 9), 400 + n as u64, std::iter::empty(), &mut peers, 6);
                baseline.add(at(day, 10), 400, std::iter::empty(), &mut peers, 6);
                for hour in 11..20 {
                    baseline.add(at(day, hour), 400, std::iter::empty(), &mut peers, 6);
                }
            }
        }
        assert_eq!(all[0].add(at(40, 10), 412, std::iter::empty(), &mut peers, 6), None, "its peers do");
        let mut alone = Baseline::default();
        let mut few = Peers::default();
        for hour in 0..200 {
            assert_eq!(alone.add(at(0, hour), 1_000, std::iter::empty(), &mut few, 6), None, "always so much");
        }
    }

    #[test]
    fn different_people_count_by_themselves() {
        let (mut all, mut peers) = office(5);
        assert_eq!(all[1].add(at(28, 10), 40, (0u32..15).map(u64::from), &mut peers, 6), None);
        let found = all[1].add(at(28, 10), 5, (15u32..40).map(u64::from), &mut peers, 6).unwrap();
        assert_eq!((found.observed, found.what), (40, "different people"));
    }

    #[test]
    fn a_strange_hour_needs_less() {
        let (mut all, mut peers) = office(5);
        let limits = [(0, 10), (1, 3)].map(|(who, hour)| {
            let found = all[who].add(at(28, hour), 60_000, std::iter::empty(), &mut peers, 40).unwrap();
            (found.limit, found.strange)
        });
        assert!(limits[0].0 > limits[1].0 && !limits[0].1 && limits[1].1, "{limits:?}");
    }

    #[test]
    fn nothing_is_unusual_for_who_is_not_known_yet() {
        let (_, mut peers) = office(5);
        let mut new = Baseline::default();
        for hour in 0..OWN_MIN as i64 {
            assert_eq!(new.add(at(30, hour), 9_000, std::iter::empty(), &mut peers, 6), None);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (mut one, mut peers) = (Baseline::default(), Peers::default());
        for hour in 0..2_000 {
            one.add(at(0, hour), 70_000, (0u32..1_000).map(|n| u64::from(n) << 32), &mut peers, 6);
        }
        assert!(one.heap() <= 4 * 256 + 4 * 64 + 168 + size_of::<Bounds>(), "{}", one.heap());
        assert_eq!((one.own.all.len(), peers.0.all.len(), one.people.len()), (OWN_MAX, PEERS_MAX, PEOPLE_MAX));
    }
}
