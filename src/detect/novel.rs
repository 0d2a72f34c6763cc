//! What has not been seen before: tables touched for a purpose, sessions in an emergency, another policy.
//!
//! In: events, time. Out: whether it is new. Never: more memory than its bounds, an alert because something was
//! forgotten.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::window::Time;

/// Triples of role, table and purpose that are remembered.
const TRIPLES_MAX: usize = 200_000;

/// Sessions in an emergency at the same time.
const SESSIONS_MAX: usize = 10_000;

type Hasher = foldhash::quality::RandomState;

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Novel {
    /// Hash of role, table and purpose → when it was last seen.
    triples: HashMap<u64, Time, Hasher>,
    /// From when on every triple is remembered.
    since: Option<Time>,
    /// Connections that were said to act for an emergency.
    glass: HashSet<u64, Hasher>,
    /// The digest of the policy in force.
    policy: Option<String>,
    /// Times that memory ran out, and the rule is silent for a window.
    pub(super) forgot: u64,
}

impl Novel {
    /// Something happened: from now on at the latest everything is remembered.
    pub(super) fn began(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// Sees the triple; whether it was not seen in the window, and surely so.
    pub(super) fn first(&mut self, triple: (&str, &str, Option<&str>), now: Time, window: Time) -> bool {
        let since = *self.since.get_or_insert(now);
        if self.triples.len() >= TRIPLES_MAX {
            self.triples.retain(|_, at| *at > now - window);
        }
        if self.triples.len() >= TRIPLES_MAX {
            self.triples.clear();
            self.since = Some(now);
            self.forgot += 1;
        }
        let key = self.triples.hasher().hash_one(triple);
        let last = self.triples.insert(key, now);
        last.is_none_or(|at| at <= now - window) && since <= now - window
    }

    /// The session acts for an emergency; whether that is news.
    pub(super) fn breaks_glass(&mut self, connection: u64) -> bool {
        if self.glass.len() >= SESSIONS_MAX {
            self.glass.clear();
        }
        self.glass.insert(connection)
    }

    /// The session has ended.
    pub(super) fn left(&mut self, connection: u64) {
        if !self.glass.is_empty() {
            self.glass.remove(&connection);
        }
    }

    /// The proxy started: connections are numbered anew.
    pub(super) fn restarted(&mut self) {
        self.glass.clear();
    }

    /// A policy took effect; whether the one before had another text.
    pub(super) fn policy(&mut self, digest: &str) -> bool {
        let changed = self.policy.as_deref().is_some_and(|before| before != digest);
        if self.policy.as_deref() != Some(digest) {
            self.policy = Some(digest.to_owned());
        }
        changed
    }

    /// A policy is known.
    pub(super) fn knows_policy(&self) -> bool {
        self.policy.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_first_is_said_once_a_window_and_only_by_who_has_watched_for_one() {
        let mut novel = Novel::default();
        novel.began(0);
        let mut first = |table, now| novel.first(("app", table, None), now, 100);
        assert!(!first("a", 50), "watching for half a window only");
        assert!(first("b", 100) && !first("b", 199) && !first("b", 298));
        assert!(!first("a", 149), "seen at 50");
        assert!(first("a", 249), "not since 149");
        assert!(novel.first(("app", "a", Some("care")), 250, 100), "another purpose");
    }

    #[test]
    fn when_memory_runs_out_the_rule_is_silent_and_not_wrong() {
        let mut novel = Novel::default();
        novel.began(0);
        assert!(novel.first(("app", "known", None), 1_000, 100));
        for n in 0..TRIPLES_MAX {
            novel.first(("app", &n.to_string(), None), 1_001, 100);
        }
        assert!(novel.triples.len() <= TRIPLES_MAX);
        assert_eq!(novel.forgot, 1);
        assert!(!novel.first(("app", "known", None), 1_002, 100));
    }

    #[test]
    fn a_session_breaks_the_glass_once() {
        let mut novel = Novel::default();
        assert!(novel.breaks_glass(7) && !novel.breaks_glass(7) && novel.breaks_glass(8));
        novel.left(7);
        assert!(novel.breaks_glass(7));
        novel.restarted();
        assert!(novel.breaks_glass(8));
    }

    #[test]
    fn only_another_policy_is_a_change() {
        let mut novel = Novel::default();
        assert!(!novel.knows_policy() && !novel.policy("a") && !novel.policy("a"));
        assert!(novel.policy("b") && novel.knows_policy() && novel.policy("a"));
    }
}
