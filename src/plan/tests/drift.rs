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
        "create table kept as select c from clients c",
        "create table kept as select to_jsonb(c) from clients c",
        "create table kept as select (c).name from clients c",
        "create table kept as select name(c) from clients c",
        "create table kept as select array(select note from users)",
        "create table kept as select x from clients c, lateral (select c.name as x) l",
        "create table kept as select note = 'a' as a from users",
        "create table kept as select case when note like 'a%' then 1 end from users",
        "create table kept as select count(*) filter (where note = 'a') from users",
        "create table kept as select name from clients c join clients d using (name)",
        "create table kept as select id, exists (select from users v where v.id = u.id and v.note = u.note || 'a') from users u \
         where (select length(note) from users limit 1) > 0 union all select length(note), true from users",
        "create table kept as select * from users natural join (select note from users) n",
        "create table kept as select row_number() over (order by note) from users",
        "create table kept as select id from users group by id, note",
        "create table kept as select id from users order by note",
        "create table kept as select (select max(name) from clients)",
        "create table kept as table clients",
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
        "create table kept as select c.id from clients c join clients d using (name)",
        "create table kept as select id from users where id in (select length(x) from (select note as x from users) n)",
        "create table kept as select nickname from users group by nickname having max(note) > 'a'",
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
