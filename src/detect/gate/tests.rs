//! What is let go, compared with counting everything.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Replay, Setting};
use super::*;
use crate::event::{Access, Action as Done, Actor, ActorAuth, EventKind, Pseudonym, Shown, Subjects, Touch};

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Now {
    Now { mono_ns: seconds * SECOND, unix_us: i64::try_from(seconds).unwrap() * 1_000_000 }
}

fn thresholds(rules: &[(Rule, u64, u64)]) -> Thresholds {
    let mut thresholds = Thresholds::default();
    for (rule, threshold, window_s) in rules {
        let setting = thresholds.of_mut(*rule);
        *setting = Setting { threshold: *threshold, window_s: *window_s, action: Action::Stop, ..setting.clone() };
    }
    thresholds
}

fn read(rows: u64) -> Batch {
    Batch { rows, shown: true, export: false, before: 0 }
}

fn person(who: u128) -> Subject {
    Subject { kind: "patient".into(), pseudonym: Pseudonym(who) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_window_holds_more_than_the_threshold_and_nothing_is_held_back_before_it(
        asked in prop::collection::vec((0u64..20, 0u64..30), 1..150),
        most in 0u64..60,
        window_s in 1u64..200,
    ) {
        let gate = Gate::default();
        let limits = Limits::of(&thresholds(&[(Rule::Bulk, most, window_s)]), "app").unwrap();
        let (mut now, mut gone) = (0, Vec::new());
        for (gap, rows) in asked {
            now += gap;
            // Each time another session.
            let granted = gate.passage("app", at(0)).rows(read(rows), &limits, at(now));
            let before: u64 = gone.iter().filter(|(then, _)| then + window_s > now).map(|(_, rows)| rows).sum();
            prop_assert_eq!(granted.rows, rows.min(most - before), "at {}", now);
            prop_assert_eq!(granted.stopped.is_some(), granted.rows < rows);
            gone.push((now, granted.rows));
        }
    }

    #[test]
    fn only_so_many_people_are_seen_in_a_window(
        asked in prop::collection::vec((0u64..20, 0u128..40), 1..200),
        most in 1u64..20,
        window_s in 1u64..200,
    ) {
        let gate = Gate::default();
        let limits = Limits::of(&thresholds(&[(Rule::Subjects, most, window_s)]), "app").unwrap();
        let (mut now, mut seen) = (0, Vec::<(u64, u128)>::new());
        for (gap, who) in asked {
            now += gap;
            let live: HashSet<u128> =
                seen.iter().filter(|(then, _)| then + window_s > now).map(|(_, who)| *who).collect();
            let may = live.contains(&who) || (live.len() as u64) < most;
            prop_assert_eq!(gate.passage("app", at(0)).person(&person(who), &limits, at(now)), may);
            if may {
                seen.push((now, who));
            }
        }
    }

    #[test]
    fn a_throttled_actor_gets_no_more_than_the_rate(
        asked in prop::collection::vec((0u64..3_000, 1u64..50), 1..100),
        rate in 1u64..100,
    ) {
        let gate = Gate::default();
        gate.throttle("app", rate, 1_000_000, at(0));
        let (mut ms, mut gone) = (0, 0);
        for (gap, rows) in asked {
            ms += gap;
            let now = Now { mono_ns: ms * 1_000_000, unix_us: 0 };
            let paced = gate.passage("app", at(0)).pace(rows, now);
            gone += paced.rows;
            prop_assert!(paced.rows <= rows && gone * 1_000 <= rate * ms, "{gone} rows in {ms} ms");
            prop_assert_eq!(paced.again_ns.is_some(), paced.rows < rows);
            prop_assert!(paced.again_ns.is_none_or(|again| again > now.mono_ns));
        }
    }
}

#[test]
fn nothing_is_stopped_without_a_rule_that_says_so() {
    assert_eq!(Limits::of(&Thresholds::default(), "app"), None);
    let mut some = thresholds(&[(Rule::Bulk, 5, 60)]);
    assert_eq!(Limits::of(&some, "app").unwrap().of_rule(Rule::Bulk), Some((5, 60)));
    some.exempt.push("app".to_owned());
    assert_eq!(Limits::of(&some, "app"), None);
    let paced = Gate::default().passage("app", at(0)).pace(1_000_000, at(0));
    assert_eq!(paced, Paced { rows: 1_000_000, again_ns: None });
}

#[test]
fn a_throttle_ends_when_its_window_is_empty() {
    let gate = Gate::default();
    gate.throttle("app", 2, 60, at(0));
    let passage = gate.passage("app", at(0));
    assert_eq!(passage.pace(1, at(0)), Paced { rows: 0, again_ns: Some(SECOND / 2) });
    assert_eq!(passage.pace(5, at(30)).rows, 2, "a second's worth gathers");
    assert_eq!(passage.pace(5, at(89)).rows, 2);
    assert_eq!(passage.pace(5, at(149)).rows, 5, "sixty seconds without a row");
}

#[test]
fn what_was_not_released_is_given_back() {
    let gate = Gate::default();
    let limits = Limits::of(&thresholds(&[(Rule::Bulk, 10, 60), (Rule::Export, 10, 60)]), "app").unwrap();
    let passage = gate.passage("app", at(0));
    let copy = Batch { export: true, ..read(8) };
    assert_eq!(passage.rows(copy, &limits, at(1)).rows, 8);
    passage.give_back(5, copy, at(1));
    assert_eq!(passage.rows(copy, &limits, at(2)), Granted { rows: 7, stopped: Some(Rule::Bulk) });
    // A read is an export once it is that large by itself.
    let large = Batch { before: 10, ..read(1) };
    let other = Limits::of(&thresholds(&[(Rule::Export, 10, 60)]), "app").unwrap();
    assert_eq!(
        gate.passage("other", at(0)).rows(large, &other, at(2)),
        Granted { rows: 0, stopped: Some(Rule::Export) }
    );
}

fn event(kind: EventKind, seconds: u64, statement: u64, rows: u64, people: &[u128], more: u64) -> Event {
    let (role, database) = ("app".to_owned(), "app".to_owned());
    let actor = Actor {
        role,
        database,
        auth: ActorAuth::Trust,
        certificate: None,
        application: String::new(),
        client: None,
        purpose: None,
        purpose_by: None,
        person: None,
    };
    let touch = Touch { relation: "public.people".into(), column: "name".into(), shown: Shown::Clear };
    let action = Done { access: Access::Read, touches: vec![touch], ..Done::none() };
    let known = people.iter().map(|who| person(*who)).collect();
    Event {
        statement,
        actor: Some(actor.into()),
        action: Some(action.into()),
        rows,
        subjects: Subjects { known, unknown_rows: 0, more },
        ..Event::new(kind, at(seconds).unix_us)
    }
}

#[test]
fn windows_come_back_from_the_log() {
    let gate = Arc::new(Gate::default());
    let thresholds = thresholds(&[(Rule::Bulk, 10, 60), (Rule::Subjects, 5, 60)]);
    let limits = Limits::of(&thresholds, "app").unwrap();
    let mut replay = Replay::new(&gate, &thresholds, at(100));
    replay.see(&event(EventKind::Statement, 30, 1, 9, &[1], 0));
    replay.see(&event(EventKind::Intent, 70, 2, 0, &[], 0));
    replay.see(&event(EventKind::Statement, 71, 2, 4, &[2, 3], 2));
    replay.end();
    let passage = gate.passage("app", at(0));
    assert_eq!(passage.rows(read(10), &limits, at(100)).rows, 6, "what is older than the window is none of it");
    assert!(passage.person(&person(2), &limits, at(100)) && passage.person(&person(9), &limits, at(100)));
    assert!(!passage.person(&person(10), &limits, at(100)), "two known, two of whom only the number is, and one");
    assert_eq!(passage.rows(read(10), &limits, at(131)).rows, 4);
}

#[test]
fn what_a_crash_cut_short_counts_as_all_that_was_left() {
    let thresholds = thresholds(&[(Rule::Bulk, 10, 60), (Rule::Subjects, 5, 60), (Rule::Export, 30, 60)]);
    let limits = Limits::of(&thresholds, "app").unwrap();
    for last in [Some(event(EventKind::Start, 90, 0, 0, &[], 0)), None] {
        let gate = Gate::default();
        let mut replay = Replay::new(&gate, &thresholds, at(100));
        replay.see(&event(EventKind::Intent, 80, 2, 0, &[], 0));
        last.iter().for_each(|event| replay.see(event));
        replay.end();
        let passage = gate.passage("app", at(0));
        assert_eq!(passage.rows(read(1), &limits, at(100)), Granted { rows: 0, stopped: Some(Rule::Bulk) });
        assert!(!passage.person(&person(1), &limits, at(100)));
        let sealed_copy = Batch { shown: false, export: true, ..read(30) };
        assert_eq!(passage.rows(sealed_copy, &limits, at(100)).rows, 30, "it was no export");
        assert_eq!(passage.rows(read(1), &limits, at(141)).rows, 1);
    }
}

#[test]
fn a_throttle_goes_on_after_a_restart() {
    let (gate, thresholds) = (Gate::default(), Thresholds::default());
    let mut replay = Replay::new(&gate, &thresholds, at(100));
    let mut alert = event(EventKind::Alert, 20, 0, 0, &[], 0);
    alert.alert = Some(crate::event::Alert {
        rule: "bulk".into(),
        severity: "high".into(),
        observed: 2,
        threshold: 1,
        window_s: 60,
        address: None,
        action: Action::Throttle { rows_per_s: 1 },
        message: String::new(),
    });
    replay.see(&alert);
    replay.see(&event(EventKind::Statement, 50, 1, 3, &[], 0));
    replay.end();
    let passage = gate.passage("app", at(100));
    assert_eq!(passage.pace(5, at(100)).rows, 1);
    assert_eq!(passage.pace(5, at(160)), Paced { rows: 5, again_ns: None });
}

#[test]
fn actors_whose_windows_are_over_make_room() {
    let gate = Gate::default();
    let limits = Limits::of(&thresholds(&[(Rule::Bulk, 5, 60)]), "app").unwrap();
    for n in 0..ACTORS_IDLE {
        gate.passage(&format!("r{n}"), at(0)).rows(read(1), &limits, at(0));
    }
    gate.passage("late", at(30)).rows(read(1), &limits, at(30));
    assert_eq!(gate.passages.lock().unwrap().len(), ACTORS_IDLE + 1, "none of theirs is over");
    gate.passage("last", at(61));
    assert_eq!(gate.passages.lock().unwrap().len(), 2);
}
