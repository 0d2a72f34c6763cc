//! Definitions that would make an unprotected copy of a protected plaintext column.

use super::{ANALYST, APP, decide_with, fixture};
use crate::plan::{Decision, Step};
use crate::policy::rules::{ClassId, Copies, Rules};

/// `note` and `name` are hidden from `analyst`; what becomes of the statement of `class`, and its message or column.
fn copies(rules: &Rules, class: ClassId, sql: &str) -> (bool, String) {
    match decide_with(rules, class, sql, &[], &["public"]) {
        Decision::Refuse(refused) if refused.refusal.code.as_str() == "PV031" => {
            assert!(refused.refusal.hint.contains("list it in the policy, then INSERT … SELECT"));
            (true, refused.refusal.message.to_string())
        }
        Decision::Refuse(refused) => panic!("{sql}: {}", refused.refusal),
        Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan) => {
            let shown = |step: &Step| step.shows.as_ref().map(ToString::to_string);
            (false, plan.steps.iter().find_map(shown).unwrap_or_default())
        }
    }
}

#[test]
fn a_permanent_table_of_what_some_role_may_not_see_is_refused_to_all() {
    let rules = fixture::rules();
    for sql in [
        "create table kept as select note from users",
        "create table if not exists other.kept (a) as select note from users with no data",
        "create unlogged table kept as table users",
        "create table kept as select * from users",
        "create table kept as select upper(note) from users",
        "create table kept as select id from (select id, note from users) u",
        "create table kept as with u as (select note from users) select 1 from u",
        "create table kept as select note, 1 as view from users",
        "create table kept as select note from v_users",
        "create table kept as select id from users union select length(name) from clients",
        "select note into kept from users",
        "select note into unlogged table kept from users",
        "with u as (select note from users) select * into kept from u",
        "explain analyze select note into kept from users",
        "select id from users; create table kept as select note from users",
    ] {
        let (refused, said) = copies(rules, APP, sql);
        let named =
            ["public.users.note", "public.v_users.note", "public.clients.name"].iter().any(|it| said.contains(it));
        assert!(refused && named, "{sql}: {said}");
        let allowed = Rules { copies: Copies::Allow, ..rules.clone() };
        let (refused, shown) = copies(&allowed, APP, sql);
        assert!(!refused && !shown.is_empty(), "{sql}");
    }
}

#[test]
fn what_is_no_such_copy_passes() {
    let rules = fixture::rules();
    for sql in [
        // Nothing hidden is shown: other columns, sealed ones, a condition, a count.
        "create table kept as select id, nickname from users",
        "create table kept as select id, email from users",
        "create table kept as select id from users where note like 'a%'",
        "create table kept as select count(*) from users",
        "select id into kept from users",
        "create table kept as select body from notes",
        "create table kept as select u.id from users u join clients c on c.name = u.note",
        // It ends with the session, or follows its tables.
        "create temp table kept as select note from users",
        "create table pg_temp.kept as select note from users",
        "select note into temp kept from users",
        "create view kept as select note from users",
        "create materialized view kept as table v_users",
        // No copy by definition.
        "create table kept (like users)",
        "insert into notes (body) select note from users",
        "explain select note into kept from users",
    ] {
        assert!(!copies(rules, APP, sql).0, "{sql}");
    }
    assert_eq!(copies(rules, APP, "create temp table kept as select note from users").1, "", "nothing to tell");
    // Whoever may not see it has other objections.
    let Decision::Refuse(refused) =
        decide_with(rules, ANALYST, "create table k as select note from users", &[], &["public"])
    else {
        panic!("it is above the role's clearance")
    };
    assert_eq!(refused.refusal.code.as_str(), "PV013");
}

#[test]
fn what_a_query_shows_is_known_for_what_executes_it_later() {
    let rules = fixture::rules();
    assert_eq!(copies(rules, APP, "select note from users").1, "public.users.note");
    assert_eq!(copies(rules, APP, "select id from users where note = 'a'").1, "");
    assert_eq!(copies(rules, APP, "create table kept as execute p"), (false, String::new()));
}
