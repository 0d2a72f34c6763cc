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

    /// The total in the window; exact up to the bound last given to [`Ring::add`], a lower bound above it.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// Different identities in a window, the most recently seen `keep` + 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// Identity → when it was last seen: its newest stamp in `order`.
    seen: HashMap<u128, u64>,
    /// Every sighting; those whose stamp is no longer the identity's newest are stale.
    order: VecDeque<(u64, Time, u128)>,
    stamp: u64,
}

impl Recent {
    /// Sees `who` at `now`; forgets as [`Ring::add`].
    pub(super) fn see(&mut self, now: Time, who: u128, window: Time, keep: usize) {
        self.expire(now, window);
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

    /// Forgets whom nobody saw after `now - window`.
    pub(super) fn expire(&mut self, now: Time, window: Time) {
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

    /// It is one of those last counted.
    pub(super) fn knows(&self, who: u128) -> bool {
        self.seen.contains_key(&who)
    }

    /// Different identities in the window, at most `keep` + 1.
    pub(super) fn count(&self) -> u64 {
        self.seen.len() as u64
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
                all.push((now, u128::from(who)));
                recent.see(now, u128::from(who), window, keep);
                let live: std::collections::HashSet<_> =
                    all.iter().filter(|(at, _)| *at > now - window).map(|(_, who)| who).collect();
                prop_assert_eq!(recent.count(), live.len().min(keep + 1) as u64);
                prop_assert!(recent.order.len() <= 2 * (keep + 1) + 18);
            }
        }
    }
}
