//! What is forwarded untouched.

use super::{APP, check, decide_with, fixture, outcome_of};

const PASSES: &[&str] = &[
    "",
    " ; ",
    "select 1",
    "select 'users'",
    "select * from notes where email = 'a' and upper(email) like 'b%' order by email",
    "insert into notes values (1, 'a', 'b')",
    "some nonsense that no parser reads",
    "begin",
    "commit",
    "set search_path to public",
    "vacuum",
    "do $$ begin perform 1; end $$",
    "select pg_total_relation_size('users')",
    "create table t (id int primary key, email text)",
    "listen users_changed",
    "copy notes from stdin",
    "select * from other.users where email = 'a'",
    "select users from notes as users",
    "select x.users from (select 1 as users) x",
    "with users as (select 1 as id, 'x' as email) select email from users where email = 'a'",
    "grant select on users to reporting",
    "comment on column users.email is 'the address'",
    "vacuum analyze users",
    "lock table users in share mode",
    "truncate users",
    "truncate table notes, only public.users * restart identity cascade",
    "set datestyle = german; truncate users",
    "analyze users",
    "reindex table users",
    "drop table users",
    "alter table users owner to app",
    "alter table users enable row level security",
    "create sequence s owned by users.id",
    "create table visits (user_id int references users (id))",
];

/// Nothing here is a relation of the session's database, or every one is known.
const KNOWN: &[&str] = &[
    "select a, b from notes n, notes u where a is distinct from b",
    "with fresh as (select 1) select * from fresh, notes",
    "select extract(year from x), substring(body from 2), trim(both from y) from notes",
    "select * from pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace",
    "select * from information_schema.tables",
    "select * from generate_series(1, 3) g, lateral (select 1) x",
    "insert into notes (id, body) select 1, x from (values ('a')) v(x)",
    "select 1 for update",
    "create table fresh (id int); insert into fresh values (1)",
    "copy notes (id) from stdin",
    "update notes set body = 'x' from notes u where u.id = notes.id",
    "select something no parser reads from notes",
];

const NEW: &[&str] = &[
    "select * from fresh",
    "select a from notes, fresh",
    "insert into fresh (id) values (1)",
    "insert into public.fresh values (1)",
    "update fresh set x = 1",
    "delete from notes using fresh where true",
    "with c as (select * from fresh) select * from c",
    "select * from notes where id in (select id from fresh)",
    "select * from notes left join only fresh f on true",
];

#[test]
fn a_relation_that_is_not_known_is_asked_for() {
    check(KNOWN.iter().map(|sql| (APP, *sql, "pass".to_owned())));
    check(NEW.iter().map(|sql| (APP, *sql, format!("unknown: {sql}"))));
}

#[test]
fn what_needs_no_work_passes() {
    check(PASSES.iter().map(|sql| (APP, *sql, "pass".to_owned())));
}

#[test]
fn temporary_tables_and_the_search_path_hide_protected_ones() {
    let rules = fixture::rules();
    let sql = "select email from users where email = 'a'";
    let outcome = |temporary: &[&str], path: &[&str]| outcome_of(sql, decide_with(rules, APP, sql, temporary, path));
    let acted = "act: select email from users where email = {email 'a'}";
    assert_eq!(outcome(&[], &["public"]), acted);
    assert_eq!(outcome(&["users"], &["public"]), "pass");
    assert_eq!(outcome(&[], &["other", "public"]), "pass");
    assert_eq!(outcome(&[], &["nowhere", "public", "other"]), acted);
    assert_eq!(outcome(&[], &["nowhere"]), format!("unknown: {sql}"));
    let qualified = "select email from public.users where email = 'a'";
    let found = outcome_of(qualified, decide_with(rules, APP, qualified, &["users"], &["other"]));
    assert_eq!(found, "act: select email from public.users where email = {email 'a'}");
}

#[test]
fn a_temporary_table_of_the_same_text_hides_too() {
    check([
        (
            APP,
            "create temp table users (id int, email text); select email from users where email = 'a'",
            "pass".to_owned(),
        ),
        (APP, "select id from users, unknown_table", "unknown: select id from users, unknown_table".to_owned()),
        (APP, "select no_such_column from users", "unknown: select no_such_column from users".to_owned()),
    ]);
}

#[test]
fn a_bare_name_that_may_mean_a_hidden_column_is_refused() {
    let rules = fixture::rules();
    let outcome = |sql: &str, path: &[&str]| outcome_of(sql, decide_with(rules, super::ANALYST, sql, &["tmp"], path));
    for path in [&["other", "public"][..], &["other"], &["nowhere"], &[]] {
        let found = outcome("select email from users", path);
        assert!(found.starts_with("refuse PV022 users may also mean public.users"), "{path:?}: {found}");
    }
    assert_eq!(outcome("select email from other.users", &["other"]), "pass");
    assert_eq!(outcome("select x from tmp", &["other"]), "pass");
    assert!(outcome("select nickname from users", &["public", "other"]).starts_with("act"));
    // Two relations that hide the same columns may be taken for each other.
    assert!(outcome("select id from clients", &["public"]).starts_with("act"));
    assert!(outcome("select id from clients", &["shop"]).starts_with("act"));
    assert!(outcome("select name from clients", &["public"]).starts_with("refuse PV013"));
}

#[test]
fn names_are_not_certain_after_a_computed_setting() {
    for sql in [
        "select set_config('search' || '_path', 'other', false); select email from users",
        "select set_config('Search_Path', 'other', false); select email from users",
        "select set_config($1, 'other', false); select email from users",
    ] {
        let found = outcome_of(sql, super::decide(APP, sql));
        assert!(found.starts_with("refuse PV022"), "{sql}: {found}");
    }
    let sql = "select set_config('app.user', 'ann', false); select email from users";
    assert!(outcome_of(sql, super::decide(APP, sql)).starts_with("act"));
}
