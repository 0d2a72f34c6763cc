//! The rules against brute force, alert storms, restarts and invented names.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::Now;
use crate::event::{
    Access, Action as Deed, Actor, ActorAuth, Alert, Event, EventKind, Part, Pseudonym, Shown, Subject, Subjects, Touch,
};

fn now(us: i64) -> Now {
    Now { mono_ns: u64::try_from(us).unwrap() * 1_000, unix_us: 1_800_000_000_000_000 + us }
}

fn actor(role: &str, client: Option<&str>) -> Part<Actor> {
    Part::from(Actor {
        role: role.into(),
        database: "medico".into(),
        auth: ActorAuth::ScramSha256,
        certificate: None,
        application: String::new(),
        client: client.map(|address| address.parse().unwrap()),
        purpose: None,
        purpose_by: None,
        person: None,
    })
}

fn event(kind: EventKind, role: &str, at: Now) -> Event {
    let mut event = Event::new(kind, at.unix_us);
    event.actor = Some(actor(role, None));
    event
}

fn read(role: &str, at: Now, rows: u64, shown: Shown) -> Event {
    let mut event = event(EventKind::Statement, role, at);
    event.rows = rows;
    event.action = Some(reading(Access::Read, shown));
    event
}

fn reading(access: Access, shown: Shown) -> Part<Deed> {
    let touch = Touch { relation: "public.users".into(), column: "email".into(), shown };
    Deed { access, touches: vec![touch], ..Deed::none() }.into()
}

fn person(number: u64) -> Subject {
    Subject { kind: "user".into(), pseudonym: Pseudonym(number.into()) }
}

fn rules_of(alerts: &[Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| alert.rule.as_str()).collect()
}

const SECOND: i64 = 1_000_000;

/// What one random event is: role, gap to the one before in seconds, kind, rows, people.
type Step = (u8, i64, u8, u64, Vec<u64>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let people = prop::collection::vec(0u64..40, 0..6);
    let gap = prop_oneof![3 => Just(0i64), 3 => 1i64..20, 1 => 20i64..400];
    prop::collection::vec((0u8..3, gap, 0u8..8, 0u64..12, people), 1..250)
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let limit = || (0u64..30, 1u64..500);
    (limit(), limit(), limit(), limit()).prop_map(|(bulk, subjects, failures, export)| {
        let mut t = Thresholds { cooldown_s: 0, ..Thresholds::default() };
        let rules = [Rule::Bulk, Rule::Subjects, Rule::Failures, Rule::Export];
        for (rule, (threshold, window_s)) in rules.into_iter().zip([bulk, subjects, failures, export]) {
            let setting = t.of_mut(rule);
            (setting.threshold, setting.window_s) = (threshold, window_s);
        }
        t
    })
}

fn step_event(step: &Step, at: Now) -> Event {
    let (role, _, kind, rows, people) = step;
    let role = format!("role{role}");
    match kind {
        0..=3 => {
            let mut event = read(&role, at, *rows, if kind % 2 == 0 { Shown::Clear } else { Shown::Masked });
            event.subjects.known = people.iter().map(|number| person(*number)).collect();
            event
        }
        4 => {
            let mut event = read(&role, at, *rows, Shown::Sealed);
            event.action = Some(reading(Access::Export, Shown::Sealed));
            event
        }
        5 => event(EventKind::Refused, &role, at),
        6 => {
            let mut event = event(EventKind::Statement, &role, at);
            event.sqlstate = Some("42501".into());
            event
        }
        _ => event(EventKind::LoginFailed, &role, at),
    }
}

/// The rules by counting everything again, from the whole history.
fn brute(history: &[(i64, Event)], t: &Thresholds) -> HashSet<&'static str> {
    let (now, newest) = history.last().unwrap();
    let role = &newest.actor.as_ref().unwrap().role;
    let within = |window: u64| {
        let from = now - i64::try_from(window).unwrap() * SECOND;
        history.iter().filter(move |(at, e)| *at > from && e.actor.as_ref().unwrap().role == *role).map(|(_, e)| e)
    };
    let released =
        |e: &&Event| e.action().touches.iter().any(|touch| matches!(touch.shown, Shown::Clear | Shown::Masked));
    let failed = |e: &&Event| e.kind != EventKind::Statement || e.sqlstate.is_some();
    let exported =
        |e: &&Event| e.action().access == Access::Export || (released(e) && e.rows > t.of(Rule::Export).threshold);
    let mut broken = HashSet::new();
    if newest.rows > 0 && released(&newest) {
        if within(t.of(Rule::Bulk).window_s).filter(released).map(|e| e.rows).sum::<u64>() > t.of(Rule::Bulk).threshold
        {
            broken.insert("bulk");
        }
        let people: HashSet<_> = within(t.of(Rule::Subjects).window_s)
            .filter(|e| released(e) && e.rows > 0)
            .flat_map(|e| &e.subjects.known)
            .collect();
        if people.len() as u64 > t.of(Rule::Subjects).threshold && !newest.subjects.known.is_empty() {
            broken.insert("subjects");
        }
    }
    if newest.rows > 0 && exported(&newest) {
        let total: u64 = within(t.of(Rule::Export).window_s).filter(exported).map(|e| e.rows).sum();
        if total > t.of(Rule::Export).threshold {
            broken.insert("export");
        }
    }
    if failed(&newest)
        && within(t.of(Rule::Failures).window_s).filter(failed).count() as u64 > t.of(Rule::Failures).threshold
    {
        broken.insert("failures");
    }
    broken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_detector_decides_as_counting_everything_does(steps in steps(), t in thresholds()) {
        let mut detector = Detector::new(ACTORS_MAX);
        let (mut at, mut history) = (0, Vec::new());
        for step in &steps {
            at += step.1 * SECOND;
            history.push((at, step_event(step, now(at))));
            let mut alerts = Vec::new();
            detector.observe(&history.last().unwrap().1, now(at), &t, &mut alerts);
            let found: HashSet<_> = rules_of(&alerts).into_iter().collect();
            prop_assert_eq!(found, brute(&history, &t), "event {}", history.len());
        }
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(steps in steps(), mut t in thresholds(), cut in any::<prop::sample::Index>()) {
        t.cooldown_s = 60;
        let cut = cut.index(steps.len());
        let (mut whole, mut log) = (Detector::new(ACTORS_MAX), Vec::new());
        let (mut at, mut again) = (0, None);
        for (index, step) in steps.iter().enumerate() {
            at += step.1 * SECOND;
            if index == cut {
                // Another process: its monotonic clock starts anew.
                let mut detector = Detector::new(ACTORS_MAX);
                let restarted = Now { mono_ns: 5, ..now(at) };
                let due = detector.rebuild(log.clone().into_iter(), restarted, &t);
                prop_assert!(due.is_empty(), "everything was logged: {due:?}");
                again = Some((detector, at));
            }
            let event = step_event(step, now(at));
            let mut alerts = Vec::new();
            whole.observe(&event, now(at), &t, &mut alerts);
            if let Some((detector, start)) = &mut again {
                let mut second = Vec::new();
                detector.observe(&event, Now { mono_ns: 5 + u64::try_from(at - *start).unwrap() * 1_000, ..now(at) }, &t, &mut second);
                prop_assert_eq!(&alerts, &second);
            }
            log.push(event.clone());
            for alert in alerts {
                let mut record = Event::new(EventKind::Alert, event.at_us);
                record.actor = event.actor.clone();
                record.alert = Some(alert);
                log.push(record);
            }
        }
    }
}

#[test]
fn the_seeds_thresholds_are_crossed_by_one_more_and_not_before() {
    let t = Thresholds::default();
    type Make = fn(Now) -> Event;
    let cases: [(&str, u64, Make); 3] = [
        ("bulk", 100, |at| read("app", at, 1, Shown::Clear)),
        ("failures", 10, |at| event(EventKind::Refused, "app", at)),
        ("failures", 10, |at| event(EventKind::LoginFailed, "app", at)),
    ];
    for (rule, threshold, make) in cases {
        let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
        for n in 0..threshold {
            detector.observe(&make(now(n as i64)), now(n as i64), &t, &mut alerts);
        }
        assert!(alerts.is_empty(), "{rule}: {alerts:?}");
        detector.observe(&make(now(1_000)), now(1_000), &t, &mut alerts);
        assert_eq!(rules_of(&alerts), [rule]);
        assert_eq!((alerts[0].observed, alerts[0].threshold, alerts[0].window_s), (threshold + 1, threshold, 900));
    }
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    let mut many = read("app", now(1), 51, Shown::Clear);
    many.subjects.known = (0..50).map(person).collect();
    detector.observe(&many, now(1), &t, &mut alerts);
    assert!(alerts.is_empty());
    many.subjects = Subjects { known: vec![person(50)], ..Subjects::default() };
    many.rows = 1;
    detector.observe(&many, now(2), &t, &mut alerts);
    assert_eq!(rules_of(&alerts), ["subjects"]);
    assert_eq!((alerts[0].observed, alerts[0].severity.as_str()), (51, "high"));
}

#[test]
fn two_exports_below_the_threshold_are_one_above_it() {
    let t = Thresholds::default();
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for at in [0, 3_600 * SECOND] {
        let mut export = read("app", now(at), 999, Shown::Sealed);
        export.action = Some(reading(Access::Export, Shown::Sealed));
        detector.observe(&export, now(at), &t, &mut alerts);
    }
    assert_eq!(rules_of(&alerts), ["export"]);
    assert_eq!((alerts[0].observed, alerts[0].severity.as_str()), (1_998, "high"));
}

#[test]
fn sealed_rows_searches_and_writes_are_no_bulk_read() {
    let t = Thresholds::default();
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for shown in [Shown::Sealed, Shown::Searched, Shown::Written, Shown::Refused] {
        detector.observe(&read("app", now(0), 1_000, shown), now(0), &t, &mut alerts);
    }
    assert!(alerts.is_empty(), "{alerts:?}");
    let mut unseen = event(EventKind::Statement, "app", now(0));
    unseen.rows = 101;
    unseen.action = Some(Deed { touches_unknown: true, ..Deed::none() }.into());
    detector.observe(&unseen, now(0), &t, &mut alerts);
    assert_eq!(rules_of(&alerts), ["bulk"], "what ran out of sight counts");
}

#[test]
fn no_alert_storm_but_worse_is_said_at_once_and_going_on_after_the_cooldown() {
    let t = Thresholds::default();
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for n in 0..450 {
        let at = now(n * SECOND);
        detector.observe(&read("app", at, 1, Shown::Clear), at, &t, &mut alerts);
    }
    assert_eq!(rules_of(&alerts), ["bulk", "bulk"], "350 events above the threshold, one alert and one at twice that");
    detector.observe(&read("app", now(451 * SECOND), 200, Shown::Clear), now(451 * SECOND), &t, &mut alerts);
    assert_eq!(alerts.len(), 3);
    let louder: Vec<_> = alerts.iter().map(|alert| (alert.severity.as_str(), alert.observed)).collect();
    assert_eq!(louder, [("medium", 101), ("medium", 200), ("high", 650)]);
    for n in 452..2_252 {
        let at = now(n * SECOND);
        detector.observe(&read("app", at, 1, Shown::Clear), at, &t, &mut alerts);
    }
    assert_eq!(alerts.len(), 5, "30 more minutes: two cooldowns");
}

#[test]
fn tampering_is_critical_at_once() {
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    detector.observe(&event(EventKind::Tamper, "app", now(0)), now(0), &Thresholds::default(), &mut alerts);
    assert_eq!(rules_of(&alerts), ["tamper"]);
    assert_eq!(alerts[0].severity, "critical");
}

#[test]
fn after_hours_uses_the_events_own_time_and_an_unknown_zone_is_counted() {
    let day = Some((8 * 60, 18 * 60));
    let week = [day, day, day, day, day, None, None];
    let hours = |zone: &str| {
        Some(Arc::new(Hours { time_zone: zone.into(), week, holidays: Vec::new(), exceptions: Vec::new() }))
    };
    let mut t = Thresholds { hours: hours("Asia/Bangkok"), ..Thresholds::default() };
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
    // Wednesday noon and night in Bangkok, the monotonic clock standing still.
    let mut noon = read("app", now(0), 1, Shown::Masked);
    noon.at_us = at("2026-01-14T05:00:00Z");
    detector.observe(&noon, now(0), &t, &mut alerts);
    assert!(alerts.is_empty());
    let mut night = noon.clone();
    night.at_us = at("2026-01-14T15:00:00Z");
    detector.observe(&night, now(0), &t, &mut alerts);
    assert_eq!((rules_of(&alerts), alerts[0].severity.as_str()), (vec!["after_hours"], "low"));
    night.action = Some(reading(Access::Read, Shown::Clear));
    detector.observe(&night, now(0), &t, &mut alerts);
    assert_eq!(alerts.last().unwrap().severity, "high", "clear values are worse");
    t.hours = hours("Mars/Olympus");
    detector.observe(&night, now(0), &t, &mut alerts);
    assert_eq!((alerts.len(), detector.counts().gaps), (2, 1));
    assert_eq!(detector.counts().gaps, 0);
}

#[test]
fn exempt_roles_are_not_looked_at_but_guessing_their_password_is() {
    let t = Thresholds { exempt: vec!["batch".into()], ..Thresholds::default() };
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    detector.observe(&read("batch", now(0), 10_000, Shown::Clear), now(0), &t, &mut alerts);
    detector.observe(&event(EventKind::Tamper, "batch", now(0)), now(0), &t, &mut alerts);
    assert!(alerts.is_empty());
    for _ in 0..11 {
        let mut failed = event(EventKind::LoginFailed, "batch", now(0));
        failed.actor = Some(actor("batch", Some("10.1.2.3")));
        detector.observe(&failed, now(0), &t, &mut alerts);
    }
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].address, Some("10.1.2.3".parse().unwrap()));
}

#[test]
fn one_guess_for_each_of_many_roles_is_seen_by_address() {
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for n in 0..11 {
        let mut failed = event(EventKind::LoginFailed, "", now(n));
        failed.actor = Some(actor(&format!("user{n}"), Some("10.1.2.3")));
        detector.observe(&failed, now(n), &Thresholds::default(), &mut alerts);
    }
    assert_eq!(rules_of(&alerts), ["failures"]);
    assert!(alerts[0].message.contains("10.1.2.3"));
}

#[test]
fn failed_logins_count_on_after_the_login_succeeds() {
    let (mut detector, mut alerts, t) = (Detector::new(ACTORS_MAX), Vec::new(), Thresholds::default());
    for kind in [EventKind::LoginFailed, EventKind::Refused, EventKind::LoginFailed] {
        for _ in 0..4 {
            detector.observe(&event(kind, "app", now(0)), now(0), &t, &mut alerts);
        }
    }
    assert_eq!(rules_of(&alerts), ["failures"], "12 failures, of which the eleventh crosses");
}

#[test]
fn memory_is_bounded_and_invented_names_push_nobody_out() {
    let t = Thresholds::default();
    let (mut detector, mut alerts) = (Detector::new(50), Vec::new());
    detector.observe(&read("app", now(0), 60, Shown::Clear), now(0), &t, &mut alerts);
    for n in 0..5_000 {
        detector.observe(&event(EventKind::LoginFailed, &format!("guess{n}"), now(n)), now(n), &t, &mut alerts);
    }
    let counts = detector.counts();
    assert!(counts.actors <= 100 && counts.evicted >= 4_900, "{counts:?}");
    detector.observe(&read("app", now(6_000), 60, Shown::Clear), now(6_000), &t, &mut alerts);
    assert_eq!(rules_of(&alerts), ["bulk"], "the window of a real role survived");
    // Real roles past the bound: the most idle goes.
    for n in 0..60 {
        detector.observe(&read(&format!("role{n}"), now(7_000 + n), 60, Shown::Clear), now(7_000 + n), &t, &mut alerts);
    }
    assert!(detector.counts().evicted >= 11);
    // Idle for longer than every window: everything goes with the next event.
    let later = now(200_000 * SECOND);
    detector.observe(&read("late", later, 1, Shown::Clear), later, &t, &mut alerts);
    assert_eq!(detector.counts(), Counts { actors: 1, evicted: 0, gaps: 0 });
}

#[test]
fn an_alert_the_crash_swallowed_is_due_after_the_restart() {
    let t = Thresholds::default();
    let log = vec![read("app", now(0), 101, Shown::Clear), event(EventKind::Tamper, "other", now(1))];
    let mut detector = Detector::new(ACTORS_MAX);
    let due = detector.rebuild(log.into_iter(), now(SECOND), &t);
    let found: Vec<_> = due.iter().map(|(_, alert)| alert.clone()).collect();
    assert_eq!(rules_of(&found), ["bulk", "tamper"]);
    let mut alerts = Vec::new();
    detector.observe(&read("app", now(2 * SECOND), 1, Shown::Clear), now(2 * SECOND), &t, &mut alerts);
    assert!(alerts.is_empty(), "it was just said");
}

#[test]
fn a_canary_speaks_at_once_and_whatever_was_asked_for() {
    let (mut detector, mut alerts, t) = (Detector::new(ACTORS_MAX), Vec::new(), Thresholds::default());
    let mut touched = event(EventKind::Statement, "app", now(0));
    touched.canaries = 2;
    detector.observe(&touched, now(0), &t, &mut alerts);
    detector.observe(&touched, now(1), &t, &mut alerts);
    assert_eq!(rules_of(&alerts), ["canary"], "once in the cooldown");
    assert_eq!((alerts[0].severity.as_str(), alerts[0].observed), ("critical", 2));
}

#[test]
fn a_walk_speaks_at_its_threshold_and_gets_louder_with_its_length() {
    let (mut detector, mut alerts, t) = (Detector::new(ACTORS_MAX), Vec::new(), Thresholds::default());
    for walk in 1..=400 {
        let mut step = read("app", now(walk.into()), 0, Shown::Clear);
        step.walk = walk;
        detector.observe(&step, now(walk.into()), &t, &mut alerts);
    }
    let said: Vec<_> = alerts.iter().map(|alert| (alert.observed, alert.severity.as_str())).collect();
    assert_eq!(said, [(30, "high"), (60, "high"), (150, "critical"), (300, "critical")]);
}

#[test]
fn first_time_is_off_by_default_and_speaks_after_a_month_of_watching() {
    let (mut t, day) = (Thresholds::default(), 86_400 * SECOND);
    t.of_mut(Rule::FirstTime).enabled = true;
    let mut detector = Detector::new(ACTORS_MAX);
    let mut at = |day_of: i64, role: &str, t: &Thresholds| {
        let mut alerts = Vec::new();
        let when = now(day_of * day);
        detector.observe(&read(role, when, 1, Shown::Sealed), when, t, &mut alerts);
        alerts
    };
    assert!(at(0, "app", &t).is_empty(), "nothing is known yet");
    assert!(at(29, "new", &t).is_empty(), "nor after 29 days");
    assert!(at(29, "app", &t).is_empty());
    let found = at(31, "late", &t);
    assert_eq!((rules_of(&found), found[0].severity.as_str()), (vec!["first_time"], "low"));
    assert!(found[0].message.contains("public.users"), "{}", found[0].message);
    assert!(at(32, "late", &t).is_empty() && at(40, "new", &t).is_empty());
    assert_eq!(rules_of(&at(71, "app", &t)), ["first_time"], "42 days later");
    assert!(at(72, "other", &Thresholds::default()).is_empty());
}

#[test]
fn an_emergency_is_said_once_a_session() {
    let t = Thresholds { break_glass: vec!["emergency".into()], ..Thresholds::default() };
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for (connection, purpose) in [(1, "care"), (1, "emergency"), (1, "emergency"), (2, "emergency"), (1, "emergency")] {
        let mut used = read("app", now(0), 1, Shown::Clear);
        used.connection = connection;
        used.actor = Some(Actor { purpose: Some(purpose.into()), ..(*actor("app", None)).clone() }.into());
        detector.observe(&used, now(0), &t, &mut alerts);
    }
    assert_eq!(rules_of(&alerts), ["break_glass", "break_glass"]);
    assert!(alerts[0].severity == "high" && alerts[0].message.contains("\"emergency\""), "{alerts:?}");
}

#[test]
fn connections_of_a_run_that_crashed_hide_no_emergency_of_the_next() {
    let t = Thresholds { break_glass: vec!["emergency".into()], ..Thresholds::default() };
    let mut used = read("app", now(0), 1, Shown::Clear);
    used.connection = 1;
    used.actor = Some(Actor { purpose: Some("emergency".into()), ..(*actor("app", None)).clone() }.into());
    let mut detector = Detector::new(ACTORS_MAX);
    assert_eq!(detector.rebuild([used.clone()].into_iter(), now(SECOND), &t).len(), 1, "due");
    let mut alerts = Vec::new();
    detector.observe(&used, now(SECOND), &t, &mut alerts);
    assert_eq!(rules_of(&alerts), ["break_glass"], "another session with the same number");
}

fn policy(digest: &str, at: Now) -> Event {
    Event { digest: Some(digest.into()), ..Event::new(EventKind::Policy, at.unix_us) }
}

#[test]
fn another_policy_is_said_also_when_it_came_while_the_proxy_was_down() {
    let (mut detector, mut alerts, t) = (Detector::new(ACTORS_MAX), Vec::new(), Thresholds::default());
    let log = vec![policy("a", now(0)), Event::new(EventKind::Stop, now(1).unix_us)];
    assert!(!detector.knows_policy());
    assert!(detector.rebuild(log.into_iter(), now(SECOND), &t).is_empty() && detector.knows_policy());
    detector.observe(&policy("a", now(SECOND)), now(SECOND), &t, &mut alerts);
    assert!(alerts.is_empty(), "the same again");
    let refused = Event { code: Some("policy".into()), ..policy("c", now(SECOND)) };
    detector.observe(&refused, now(SECOND), &t, &mut alerts);
    assert!(alerts.is_empty(), "it took no effect");
    detector.observe(&policy("b", now(SECOND)), now(SECOND), &t, &mut alerts);
    assert_eq!((rules_of(&alerts), alerts[0].severity.as_str()), (vec!["policy_change"], "high"));
    let due = Detector::new(9).rebuild([policy("a", now(0)), policy("b", now(1))].into_iter(), now(SECOND), &t);
    assert_eq!(due.len(), 1, "the crash swallowed the alert");
}

#[test]
fn who_is_connected_past_the_proxy_is_said_once_a_cooldown_unless_exempt() {
    let mut t = Thresholds::default();
    t.of_mut(Rule::Bypass).exempt = vec!["backup".into()];
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for role in ["backup", "eve", "eve"] {
        let mut seen = event(EventKind::Bypass, role, now(0));
        seen.actor = Some(actor(role, Some("10.0.0.9")));
        detector.observe(&seen, now(0), &t, &mut alerts);
    }
    assert_eq!(rules_of(&alerts), ["bypass"]);
    assert_eq!(alerts[0].message, "\"eve\" is connected to \"medico\" past pgveil, from 10.0.0.9");
}

#[test]
fn a_role_with_a_calendar_of_its_own_works_by_that_one() {
    let day = |span| [span; 7];
    let hours =
        |span| Arc::new(Hours { time_zone: "UTC".into(), week: day(span), holidays: vec![], exceptions: vec![] });
    let mut t = Thresholds { hours: Some(hours(Some((480, 1_080)))), ..Thresholds::default() };
    t.calendars.insert("nurse".into(), hours(Some((1_320, 360))));
    let (mut detector, mut found) = (Detector::new(ACTORS_MAX), Vec::new());
    for (role, time) in [("nurse", "23:00"), ("clerk", "12:00"), ("clerk", "23:00"), ("nurse", "12:00")] {
        let mut seen = read(role, now(0), 1, Shown::Masked);
        seen.at_us = format!("2026-01-14T{time}:00Z").parse::<jiff::Timestamp>().unwrap().as_microsecond();
        let mut alerts = Vec::new();
        detector.observe(&seen, now(0), &t, &mut alerts);
        found.extend(alerts.into_iter().map(|alert| (role, time, alert.rule)));
    }
    assert_eq!(found, [("clerk", "23:00", "after_hours".to_owned()), ("nurse", "12:00", "after_hours".to_owned())]);
}

#[test]
fn a_threshold_off_or_exempt_for_one_rule_leaves_the_others() {
    let mut t = Thresholds::default();
    t.of_mut(Rule::Bulk).enabled = false;
    t.of_mut(Rule::Export).exempt = vec!["app".into()];
    t.of_mut(Rule::Subjects).action = Action::Stop;
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    let mut all = read("app", now(0), 2_000, Shown::Clear);
    all.subjects.known = (0..60).map(person).collect();
    detector.observe(&all, now(0), &t, &mut alerts);
    assert_eq!(rules_of(&alerts), ["subjects"]);
    assert_eq!(alerts[0].action, Action::Stop);
}

/// Two hundred thousand of a million roles are at work: everything that is kept of them.
#[test]
fn a_million_actors_of_whom_a_fifth_is_active_fit_in_a_hundred_megabytes() {
    const SCALE: usize = 20;
    let t = Thresholds { actors_max: Some(1_000_000), ..Thresholds::default() };
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for n in 0..200_000 / SCALE {
        for statement in 0..4 {
            let at = now(statement * 60 * SECOND);
            let mut event = read(&format!("clinician{n}"), at, 3, Shown::Clear);
            event.subjects.known = vec![person(n as u64 * 10 + statement.unsigned_abs())];
            detector.observe(&event, at, &t, &mut alerts);
        }
    }
    assert!(alerts.is_empty(), "{:?}", alerts.first());
    let bytes = detector.bytes() * SCALE;
    println!("{} MB, {} bytes an active actor", bytes / 1_000_000, bytes / 200_000);
    assert!(bytes <= 100_000_000, "{bytes}");
    // The idle ones cost nothing once their windows are over.
    let later = now(15 * 86_400 * SECOND);
    detector.observe(&read("late", later, 1, Shown::Clear), later, &t, &mut alerts);
    assert_eq!(detector.counts().actors, 1);
}

#[test]
fn an_unusual_hour_is_said_with_its_numbers_and_again_when_it_gets_worse() {
    let mut t = Thresholds::default();
    for rule in [Rule::Bulk, Rule::Subjects, Rule::Export] {
        t.of_mut(rule).enabled = false;
    }
    t.peers = ["eve", "ann", "bob"].map(|role| (role.to_owned(), Arc::from("ward"))).into();
    let (mut detector, mut alerts) = (Detector::new(ACTORS_MAX), Vec::new());
    for hour in 0..10 {
        for role in ["eve", "ann", "bob"] {
            let at = now(hour * 3_600 * SECOND);
            detector.observe(&read(role, at, 10, Shown::Clear), at, &t, &mut alerts);
        }
    }
    assert!(alerts.is_empty(), "{alerts:?}");
    for second in 0..60 {
        let at = now(10 * 3_600 * SECOND + second * SECOND);
        detector.observe(&read("eve", at, 10, Shown::Clear), at, &t, &mut alerts);
    }
    let said: Vec<_> = alerts.iter().map(|a| (a.rule.as_str(), a.observed, a.threshold, a.severity.as_str())).collect();
    let steps = [(60, "medium"), (100, "medium"), (250, "high"), (500, "critical")];
    assert_eq!(said, steps.map(|(observed, severity)| ("unusual", observed, 50, severity)));
    let why = "\"eve\" accessed 60 records this hour; own median 10, peers' 99th percentile 10";
    assert_eq!(alerts[0].message, why);
}
