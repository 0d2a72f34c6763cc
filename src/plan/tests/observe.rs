//! `mode = "observe"`: both decisions.

use std::collections::HashSet;
use std::sync::Arc;

use super::refusals::APPS;
use super::{ANALYST, APP, MASKED, Rules, decide_with, fixture};
use crate::event::{Becomes, Would};
use crate::plan::{Cache, Decision, Request};
use crate::policy::lens::{Shown, View};
use crate::policy::observe::{Observe, classes};
use crate::policy::problem::Place;
use crate::policy::rules::{ClassId, StatementClass};

/// A view of the analyst's lens.
fn view(base: u32, name: &str, attnum: i16) -> View {
    View {
        role: "analyst".into(),
        grantee: "analyst".into(),
        base,
        schema: "pgveil_lens_analyst_public".into(),
        name: name.into(),
        base_schema: "public".into(),
        columns: vec![Shown { name: "id".into(), attnum: 1, itself: true }],
        hidden: vec![attnum],
        filtered: false,
        inserts: false,
        purpose: None,
        accepts_existence: false,
        select: String::new(),
        mark: String::new(),
    }
}

/// The clinic, observing. Tables `patients` and `clients` have no sealed column.
fn observing(refuses: &[StatementClass]) -> Rules {
    let mut rules = fixture::rules().clone();
    let analyst = &mut rules.classes[usize::from(ANALYST.0)];
    analyst.refuses = refuses.to_vec();
    // As compiling finds it: a column of a view that shows a hidden one.
    analyst.hidden.insert((107, 5));
    rules.views = vec![view(100, "users", 6), view(110, "clients", 2)];
    rules.classes = classes(rules.classes, &rules.views);
    let sealed = ["users", "orders", "mixed case", "accounts", "v_users", "users_copy"];
    let sealed_names = sealed.iter().map(|name| (*name).to_owned()).collect();
    rules.observe = Some(Observe { place: Place { file: "p.toml".into(), line: 2 }, sealed_names });
    rules
}

fn ask(rules: &Rules, class: ClassId, sql: &str) -> Decision {
    let (temporary, path) = (HashSet::new(), [Arc::from("public")]);
    let class = rules.acting(class);
    let oids = &[];
    let request = Request {
        sql,
        parameter_oids: oids,
        extended: true,
        class,
        role: "app",
        keys: 0,
        search_path: &path,
        temporary: &temporary,
        rules,
    };
    let cache = Cache::new(8);
    let (first, found) = cache.look_up(&request);
    assert!(!found);
    // What is kept says the same.
    if let (Decision::Pass(a) | Decision::Act(a), (Decision::Pass(b) | Decision::Act(b), true)) =
        (&first, cache.look_up(&request))
    {
        let would = |plan: &super::Plan| plan.steps.iter().map(|step| step.would.clone()).collect::<Vec<_>>();
        assert_eq!(would(a), would(&b), "{sql}");
    }
    first
}

/// What would have been of the text's first statement, which goes on.
fn would(rules: &Rules, class: ClassId, sql: &str) -> Option<Would> {
    match ask(rules, class, sql) {
        Decision::Refuse(refused) => panic!("{sql}: {}", refused.refusal),
        Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan) => plan.steps[0].would.as_deref().cloned(),
    }
}

#[test]
fn what_plaintext_is_refused_for_goes_on_and_is_noted() {
    let rules = observing(&[StatementClass::Listen]);
    for (sql, code, until_lens) in [
        ("select note from users", "PV013", true),
        ("select u.note from users u where id = 1", "PV013", true),
        ("select audit_it(1)", "PV018", true),
        ("select * from shown", "PV018", true),
        ("select lo_get(1)", "PV018", true),
        ("select note from v_users", "PV013", false),
        ("copy clients from stdin", "PV013", false),
        ("select * from patients", "PV026", false),
        ("listen x", "PV018", false),
        ("select 1; select * from nothing_known", "PV022", true),
        ("prepare p as select 1", "PV018", true),
        ("select id from clients where name = 'it''s' and", "PV014", false),
        ("do 'begin perform name from public.clients; end'", "PV014", false),
        ("select 1 $$", "PV014", false),
    ] {
        let would = would(&rules, ANALYST, sql).unwrap_or_else(|| panic!("{sql}: nothing"));
        assert_eq!((would.refused.as_deref(), would.until_lens), (Some(code), until_lens), "{sql}: {would:?}");
        assert!(would.hint.is_some_and(|hint| !hint.contains("it's")), "{sql}");
    }
    let clients = would(&rules, ANALYST, "select name from public.clients where name > 'a'").unwrap();
    assert_eq!(clients.columns_that(Becomes::Null), ["public.clients.name"]);
    let set = would(&rules, ANALYST, "update clients set name = 'a' where id = 1").unwrap();
    assert_eq!(set.columns_that(Becomes::Unwritable), ["public.clients.name"]);
    assert_eq!(would(&rules, ANALYST, "delete from clients where name = 'a'").unwrap().columns.len(), 1);
}

#[test]
fn what_would_be_the_same_is_not_noted() {
    let rules = observing(&[]);
    for sql in ["select id, email from users", "select 1", "begin", "select id from clients where id = 7"] {
        assert_eq!(would(&rules, ANALYST, sql), None, "{sql}");
        assert_eq!(would(&rules, APP, sql), None, "{sql}");
    }
    assert_eq!(would(&rules, APP, "select note from users where email = 'a'"), None);
}

#[test]
fn what_is_sealed_is_refused_as_ever() {
    let rules = observing(&[]);
    let path = ["public"];
    for class in [APP, MASKED, ANALYST] {
        for (sql, _) in APPS {
            let enforced = decide_with(fixture::rules(), class, sql, &[], &path);
            let observed = ask(&rules, class, sql);
            let names = |names: &HashSet<String>| {
                crate::sql::lex(sql, usize::MAX).is_ok_and(|tokens| crate::sql::mentions(sql, &tokens, names))
            };
            let sealed = names(rules.guarded_names());
            match (&enforced, &observed) {
                (Decision::Refuse(a), Decision::Refuse(b)) if class != ANALYST => {
                    assert_eq!(a.refusal, b.refusal, "{sql}");
                }
                // What hides plaintext was refused first.
                (Decision::Refuse(a), now) if class != ANALYST && sealed => {
                    panic!("{sql}: {} became {now:?}", a.refusal)
                }
                _ => {}
            }
            // A role that only plaintext is hidden from is refused what everybody is.
            if let Decision::Refuse(a) = decide_with(fixture::rules(), MASKED, sql, &[], &path)
                && class == ANALYST
                && sealed
            {
                assert!(matches!(&observed, Decision::Refuse(b) if a.refusal.code == b.refusal.code), "{sql}");
            }
        }
    }
    for sql in ["select id from users where email = 'a'", "insert into users (email) values ('a')"] {
        assert!(matches!(ask(&rules, ANALYST, sql), Decision::Refuse(_)), "{sql}: it may neither search nor write");
        assert!(matches!(ask(&rules, APP, sql), Decision::Act(plan) if !plan.edits.is_empty()), "{sql}: it is sealed");
    }
}

#[test]
fn nothing_is_decided_twice_where_the_policy_is_enforced() {
    let rules = fixture::rules();
    assert!(!rules.observing() && rules.acting(ANALYST) == ANALYST && rules.observed(ANALYST).is_none());
    for sql in ["select id from users", "select 1", "select total from orders"] {
        assert_eq!(would(rules, ANALYST, sql), None, "{sql}");
    }
    assert!(matches!(ask(rules, ANALYST, "select note from users"), Decision::Refuse(_)));
    let observing = observing(&[]);
    assert_eq!(observing.classes_written(), rules.classes.len());
    for class in (0u16..).map(ClassId).take(rules.classes.len()) {
        let acting = observing.acting(class);
        assert_eq!((observing.observed(acting), observing.observed(class)), (Some(class), None));
        let (own, acts) = (observing.class(class), observing.class(acting));
        assert!(!acts.partial() && acts.refuses.is_empty());
        assert!(acts.sealed == own.sealed && acts.may_search == own.may_search && acts.may_write == own.may_write);
        let behind = observing.behind_lens(class);
        assert_eq!(behind.is_some(), class == ANALYST, "only it has views");
        assert!(behind.is_none_or(|behind| observing.observed(behind).is_none()));
    }
}
