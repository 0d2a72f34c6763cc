//! Exact sliding windows.
//!
//! In: weights and identities with their times, never going backwards. Out: how much lies in the window, exact up to
//! the bound asked for. Never: more memory than the bound needs.

use std::collections::{HashMap, VecDeque};

/// Microseconds on the monotonic clock; may be negative for what happened before the process started.
pub(super) type Time = i64;

/// Weights in a window, the newest ones up to a total of `keep` + 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<(Time, u64)>,
    total: u64,
}

impl Ring {
    /// Adds `weight` at `now` and forgets what lies at or before `now - window`, and what is not needed to tell
    /// whether any total up to `keep` is exceeded.
    pub(super) fn add(&mut self, now: Time, weight: u64, window: Time, keep: u64) {
        self.expire(now, window);
        if weight == 0 {
            return;
        }
        self.total = self.total.saturating_add(weight);
        match self.entries.back_mut() {
            Some((at, last)) if *at == now => *last = last.saturating_add(weight),
            _ => self.entries.push_back((now, weight)),
        }
        while let Some((_, oldest)) = self.entries.front()
            && self.total - oldest > keep
        {
            self.total -= oldest;
            self.entries.pop_front();
        }
    }

    /// Takes `weight` of what was added at that time away again.
    pub(super) fn take_back(&mut self, at: Time, weight: u64) {
        if let Some((_, kept)) = self.entries.iter_mut().rev().find(|(added, _)| *added == at) {
            let weight = weight.min(*kept);
            *kept -= weight;
            self.total -= weight;
        }
    }

    /// Forgets what lies at or before `now - window`.
    pub(super) fn expire(&mut self, now: Time, window: Time) {
        while let Some((at, weight)) = self.entries.front()
            && *at <= now - window
        {
            self.total -= weight;
            self.entries.pop_front();
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.entries.capacity() * size_of::<(Time, u64)>()
    }

    /// The total in the window; exact up to the bound last given to [`Ring::add`], a lower bound above it.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// Different identities in a window, the most recently seen `keep` + 1: a list while they are few.
#[derive(Clone, Debug)]
pub(super) enum Recent {
    /// Oldest first.
    Few(Vec<(u64, Time)>),
    Many(Box<Many>),
}

/// More are indexed: the list is looked through for each sighting.
const FEW_MAX: usize = 64;

impl Default for Recent {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Recent {
    /// Sees `who` at `now`; forgets as [`Ring::add`].
    pub(super) fn see(&mut self, now: Time, who: u64, window: Time, keep: usize) {
        self.expire(now, window);
        match self {
            Self::Few(few) => {
                if let Some(at) = few.iter().rposition(|(known, _)| *known == who) {
                    few.remove(at);
                }
                if few.len() > keep {
                    few.drain(..few.len() - keep);
                }
                few.push((who, now));
                if few.len() > FEW_MAX {
                    let mut many = Box::<Many>::default();
                    few.iter().for_each(|(who, at)| many.see(*at, *who, keep));
                    *self = Self::Many(many);
                }
            }
            Self::Many(many) => many.see(now, who, keep),
        }
    }

    /// Forgets whom nobody saw after `now - window`.
    pub(super) fn expire(&mut self, now: Time, window: Time) {
        match self {
            Self::Few(few) => {
                let old = few.iter().take_while(|(_, at)| *at <= now - window).count();
                few.drain(..old);
            }
            Self::Many(many) => {
                many.expire(now, window);
                if many.seen.is_empty() {
                    *self = Self::default();
                }
            }
        }
    }

    /// It is one of those counted.
    pub(super) fn knows(&self, who: u64) -> bool {
        match self {
            Self::Few(few) => few.iter().any(|(known, _)| *known == who),
            Self::Many(many) => many.seen.contains_key(&who),
        }
    }

    /// Different identities in the window, at most `keep` + 1.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Few(few) => few.len() as u64,
            Self::Many(many) => many.seen.len() as u64,
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        match self {
            Self::Few(few) => few.capacity() * size_of::<(u64, Time)>(),
            Self::Many(many) => size_of::<Many>() + many.seen.capacity() * 20 + many.order.capacity() * 24,
        }
    }
}

/// See [`Recent`].
#[derive(Clone, Debug, Default)]
pub(super) struct Many {
    /// Identity → when it was last seen: its newest stamp in `order`.
    seen: HashMap<u64, u64, foldhash::quality::RandomState>,
    /// Every sighting; those whose stamp is no longer the identity's newest are stale.
    order: VecDeque<(u64, Time, u64)>,
    stamp: u64,
}

impl Many {
    fn see(&mut self, now: Time, who: u64, keep: usize) {
        self.stamp += 1;
        self.seen.insert(who, self.stamp);
        self.order.push_back((self.stamp, now, who));
        while self.seen.len() > keep.saturating_add(1) {
            self.drop_oldest();
        }
        // Stale sightings would grow without bound under one identity seen again and again.
        if self.order.len() > self.seen.len().saturating_mul(2).saturating_add(16) {
            let seen = &self.seen;
            self.order.retain(|(stamp, _, who)| seen.get(who) == Some(stamp));
        }
    }

    fn expire(&mut self, now: Time, window: Time) {
        while self.order.front().is_some_and(|(_, at, _)| *at <= now - window) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((stamp, _, who)) = self.order.pop_front()
            && self.seen.get(&who) == Some(&stamp)
        {
            self.seen.remove(&who);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gaps between events, many of them zero, and a choice for each.
    fn sequence() -> impl Strategy<Value = Vec<(i64, u64)>> {
        prop::collection::vec((prop_oneof![Just(0), 1i64..40], 0u64..30), 1..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_ring_decides_as_counting_everything_does(events in sequence(), keep in 0u64..100, window in 1i64..400) {
            let (mut ring, mut now, mut all) = (Ring::default(), 0, Vec::new());
            for (gap, weight) in events {
                now += gap;
                all.push((now, weight));
                ring.add(now, weight, window, keep);
                let exact: u64 = all.iter().filter(|(at, _)| *at > now - window).map(|(_, weight)| weight).sum();
                for threshold in [0, keep / 2, keep] {
                    prop_assert_eq!(ring.total() > threshold, exact > threshold);
                }
                prop_assert!(ring.total() <= exact && (ring.total() == exact || ring.total() > keep));
                prop_assert!(ring.entries.len() as u64 <= keep + 1);
            }
        }

        #[test]
        fn recent_decides_as_counting_everybody_does(events in sequence(), keep in 0usize..25, window in 1i64..400) {
            let (mut recent, mut now, mut all) = (Recent::default(), 0, Vec::new());
            for (gap, who) in events {
                now += gap;
                all.push((now, who));
                recent.see(now, who, window, keep);
                let live: std::collections::HashSet<_> =
                    all.iter().filter(|(at, _)| *at > now - window).map(|(_, who)| who).collect();
                prop_assert_eq!(recent.count(), live.len().min(keep + 1) as u64);
                prop_assert!(recent.heap() <= 16 * 2 * (keep + 2).max(4));
            }
        }
    }

    /// Small numbers from a seed (splitmix64).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    fn wanted(variable: &str, otherwise: u64) -> u64 {
        std::env::var(variable).ok().map_or(otherwise, |text| text.parse().expect("a whole number"))
    }

    /// Both windows against counting everything, at the thresholds and levels that rules have: PGVEIL_TEST_PREDICATES of
    /// them from PGVEIL_TEST_SEED (`make windows`).
    #[test]
    fn random_predicates_are_those_of_counting_everything() {
        let (wanted, seed) = (wanted("PGVEIL_TEST_PREDICATES", 20_000), wanted("PGVEIL_TEST_SEED", 1));
        let (mut dice, mut asked, mut run) = (Dice(seed), 0, 0);
        while asked < wanted {
            let threshold = [5, 10, 50, 100][dice.below(4) as usize];
            let window = [60, 900, 3_600][dice.below(3) as usize];
            let (keep, gaps, weights) =
                (threshold * 10 - 1, 1 + dice.below(2 * window / threshold), 1 + dice.below(12));
            let people = 1 + dice.below(12 * threshold);
            let (mut ring, mut recent, mut now) = (Ring::default(), Recent::default(), -1_000);
            let mut all: VecDeque<(Time, u64, u64)> = VecDeque::new();
            for _ in 0..400 {
                now += if dice.below(3) == 0 { 0 } else { dice.below(gaps) as Time };
                let (weight, who) = (dice.below(weights + 1), dice.below(people));
                let window = window as Time;
                all.push_back((now, weight, who));
                while all.front().is_some_and(|(at, ..)| *at <= now - window) {
                    all.pop_front();
                }
                ring.add(now, weight, window, keep);
                recent.see(now, who, window, keep as usize);
                let total: u64 = all.iter().map(|(_, weight, _)| weight).sum();
                let different = all.iter().map(|(.., who)| who).collect::<std::collections::HashSet<_>>().len() as u64;
                for limit in [threshold, threshold * 2 - 1, threshold * 5 - 1, keep] {
                    let place =
                        || format!("seed {seed}, run {run}, T {threshold}, W {window}, limit {limit}, at {now}");
                    assert_eq!(ring.total() > limit, total > limit, "records: {}", place());
                    assert_eq!(recent.count() > limit, different > limit, "people: {}", place());
                    asked += 2;
                }
            }
            run += 1;
        }
        println!("{asked} predicates in {run} runs of seed {seed}: 0 mismatches");
    }
}
