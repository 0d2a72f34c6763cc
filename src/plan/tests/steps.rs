//! Kinds, fields, touches, subjects.

use super::{ANALYST, APP, decide};
use crate::event::Access;
use crate::plan::{CursorName, Decision, Field, How, Moves, Plan, Step, StepKind, SubjectFrom};

fn plan(sql: &str) -> std::sync::Arc<Plan> {
    match decide(APP, sql) {
        Decision::Act(plan) | Decision::Pass(plan) | Decision::Unknown(plan) => plan,
        Decision::Refuse(refused) => panic!("{sql}: {}", refused.refusal),
    }
}

fn fields(sql: &str) -> String {
    let plan = plan(sql);
    let Some(fields) = &plan.steps[0].fields else { return "?".to_owned() };
    let names = fields.iter().map(|field| match field {
        Field::Plain => "-".to_owned(),
        Field::Sealed(column) => column.column.to_string(),
        Field::SealedArray(column) => format!("{}[]", column.column),
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn fields_follow_the_row_description() {
    let cases = [
        ("select id, email e, full_name from users", "- email full_name"),
        ("select * from users", "- email full_name dob - -"),
        ("select *, 1 from users", "- email full_name dob - - -"),
        ("select o.*, u.email from users u, orders o", "- - email - code memo email"),
        ("select * from users join orders using (email)", "email - full_name dob - - - - - code memo"),
        ("select * from users u join orders o on o.user_id = u.id", "- email full_name dob - - - - email - code memo"),
        ("select * from (select email, id from users) x", "email -"),
        ("with c as (select email from users) select * from c", "email"),
        ("select array_agg(email), count(*) from users", "email[] -"),
        ("select coalesce(full_name, null), nullif(email, 'x') from users", "full_name email"),
        ("select email from users union all select null", "email"),
        ("select null union all select email from users", "email"),
        ("select (select email from users limit 1), 2", "email -"),
        ("select (array_agg(email))[1] from users", "email"),
        ("select first_value(email) over (order by id) from users", "email"),
        ("insert into users (id) values (1)", ""),
        ("insert into users (id) values (1) returning *", "- email full_name dob - -"),
        ("update users set nickname = 'x' returning email", "email"),
        (
            "update users u set nickname = 'x' from orders o where o.user_id = u.id returning *",
            "- email full_name dob - - - - email - code memo",
        ),
        ("delete from users returning id, dob", "- dob"),
        ("select * from users, json_to_record('{}') as j(a int, b text)", "- email full_name dob - - - -"),
        ("select * from users, generate_series(1, 2) g", "- email full_name dob - - -"),
        ("select * from users, some_function() f", "?"),
        ("select email, f.* from users, some_function() f", "?"),
        ("select email from users, some_function() f", "email"),
        ("explain select email from users", "-"),
        ("table users", "- email full_name dob - -"),
        ("select mail, name from v_users", "email full_name"),
        ("select email from users_copy", "-"),
        ("select id, email is null from users", "- -"),
    ];
    for (sql, expected) in cases {
        assert_eq!(fields(sql), expected, "{sql}");
    }
}

fn first(sql: &str) -> Step {
    plan(sql).steps[0].clone()
}

#[test]
fn what_a_statement_moves() {
    let of = |sql: &str| {
        let Moves { settings, names, style } = first(sql).moves;
        [(settings, 's'), (names, 'n'), (style, 'f')]
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, c)| *c)
            .collect::<String>()
    };
    for (sql, moved) in [
        ("select now()", ""),
        ("create table t (a text default now())", ""),
        ("set x = 1", "s"),
        ("set search_path = x", "sn"),
        ("set time zone 'UTC'", "sf"),
        ("do $$ $$", "s"),
        ("select set_config('a', 'b', false)", "s"),
        ("select set_config('search_' || 'path', 'b', false)", "snf"),
        ("explain analyze select set_config('search_path', 'b', false)", "sn"),
        ("copy (select set_config('search_path', 'b', false)) to stdout", "sn"),
        ("create temp table t as select set_config('search_path', 'b', false)", "sn"),
        ("select set_config('search_path', 'b', false) into t", "sn"),
        ("create table t (a text default set_config('search_path', 'b', false))", "sn"),
        ("update pg_settings set setting = 'b' where name = 'work_mem'", "snf"),
        ("update pg_catalog.\"pg_settings\" set setting = 'b'", "snf"),
        ("select * from pg_settings", ""),
        ("set U&\"search\\005fpath\" = x", "sn"),
        ("set U&\"date!0053tyle\" uescape '!' = 'iso'", "sf"),
        ("select set_config(E'search\\x5fpath', 'b', false)", "sn"),
    ] {
        assert_eq!(of(sql), moved, "{sql}");
    }
    let declare = first("declare c cursor for select set_config('search_path', 'b', false)");
    assert_eq!((declare.kind, declare.moves.names), (StepKind::Declare, true));
    assert!(["fetch c", "move c", "execute p"].iter().all(|sql| first(sql).runs_handle));
    for sql in ["execute p", "explain analyze execute p(1)", "create temp table t (a) as execute p", "execute \"p\""] {
        let step = first(sql);
        assert!(step.executes.is_some_and(|it| it.name == "p") && step.runs_handle, "{sql}");
    }
    for (values, null) in [
        ("", true),
        ("(null)", true),
        ("(NULL, null)", true),
        ("(null, 'x')", false),
        ("(null::text)", false),
        ("(null || 'x')", false),
        ("((null), 'x')", false),
        ("(\"null\")", false),
        ("(null", false),
    ] {
        let sql = format!("explain (verbose) execute p{values}");
        assert_eq!(first(&sql).executes.unwrap().null, null, "{sql}");
    }
    assert_eq!(first("create trigger t after insert on o execute function p()").executes, None);
}

#[test]
fn what_a_role_with_max_rows_has_counted() {
    for (sql, counted) in [
        ("select note from users", true),
        ("select 1 from users", true),
        ("select id from v_users", true),
        ("delete from users returning id", true),
        ("copy (select note from users) to stdout", true),
        ("copy users (id) to stdout", true),
        ("select body from notes", false),
        ("select audit_it(body) from notes", true),
        ("call audit_it()", true),
        ("declare c cursor for select note from users", true),
        ("declare c cursor for select body from notes", false),
        ("fetch 5 from c", true),
        ("execute p", true),
        ("explain select note from users", false),
        ("explain analyze execute p", false),
        ("explain (privacy) select note from users", false),
    ] {
        assert_eq!(first(sql).counted, counted, "{sql}");
    }
    // Each statement of a text by itself.
    let both = plan("select note from users; select body from notes");
    assert_eq!(both.steps.iter().map(|step| step.counted).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn cursors_by_name() {
    for (sql, name, hold) in [
        ("declare C cursor for select 1", "c", false),
        ("declare \"C\" no scroll cursor with hold for select 1", "C", true),
        ("declare c cursor without hold for select 1", "c", false),
        ("declare c cursor for with hold as (select 1) select * from hold", "c", false),
        ("fetch forward 5 in c", "c", false),
        ("close c", "c", false),
    ] {
        assert_eq!(first(sql).cursor, Some(CursorName { name: name.into(), hold }), "{sql}");
    }
    assert!(["close all", "select 1", "move c"].iter().all(|sql| first(sql).cursor.is_none()));
}

#[test]
fn kinds_and_access() {
    let kind = |sql: &str| first(sql).kind;
    assert_eq!(kind(""), StepKind::Empty);
    assert_eq!(kind("begin"), StepKind::Transaction { restores: false, ends: false });
    assert_eq!(kind("rollback to savepoint s"), StepKind::Transaction { restores: true, ends: false });
    assert!(first("do $$ $$").touches_unknown);
    assert!(first("select audit_it()").touches_unknown);
    assert!(!first("select now()").touches_unknown);
    assert_eq!(kind("create table t (a int)"), StepKind::Ddl { temporary: None, protected: false });
    assert_eq!(kind("create temp table T (a int)"), StepKind::Ddl { temporary: Some("t".into()), protected: false });
    assert_eq!(kind("select 1 into temp t"), StepKind::Ddl { temporary: Some("t".into()), protected: false });
    let changes = "with x as (insert into a values (1) returning *)";
    assert_eq!(kind(&format!("{changes} select * from x")), StepKind::Ordinary);
    assert_eq!(
        kind(&format!("{changes} select * into temp t from x")),
        StepKind::Ddl { temporary: Some("t".into()), protected: false }
    );
    assert_eq!(
        kind("explain (\"analyze\") select 1 into temp t"),
        StepKind::Ddl { temporary: Some("t".into()), protected: false }
    );
    assert_eq!(kind("drop table users"), StepKind::Ddl { temporary: None, protected: true });
    assert_eq!(kind("alter table users rename to people"), StepKind::Ddl { temporary: None, protected: true });
    assert_eq!(kind("grant select on users to x"), StepKind::Ddl { temporary: None, protected: false });
    assert_eq!(first("select email from users").access, Access::Read);
    assert_eq!(first("delete from users").access, Access::Delete);
    assert_eq!(first("update users set id = 1").access, Access::Write);
    assert!(first("with x as (delete from users returning email) select * from x").writes);
    assert!(!first("select email from users").writes);
    assert!(!first("explain delete from users").writes);
    assert!(first("explain analyze delete from users").writes);
}

#[test]
fn definitions_that_any_later_statement_may_depend_on() {
    for sql in [
        "create table t (a int, b int[])",
        "create unlogged table t (check (a > 0))",
        "create temp table t (a int)",
        "create unique index on t (a)",
        "alter table t add column b int",
        "alter index i rename to j",
        "drop table t",
        "drop view if exists v cascade",
        "drop function f()",
        "comment on table t is 'x'",
        "grant select on t to x",
        "create type color as enum ('red')",
        "create trigger x before insert on t execute function g()",
        "refresh materialized view m",
    ] {
        assert!(!first(sql).far_reaching, "{sql}");
    }
    for sql in [
        "create table t as select 1",
        "create table t (a) as select 1",
        "select 1 into t",
        "create view v as select 1",
        "create or replace function f() returns int language sql as 'select 1'",
        "create operator ## (function = f, leftarg = int)",
        "create aggregate a (int) (sfunc = f, stype = int)",
        "create schema s",
        "drop schema s cascade",
        "alter schema s rename to r",
        "create role r",
        "alter role r superuser",
        "grant a to b",
        "create rule x as on insert to t do instead nothing",
        "create extension e",
        "alter table t add column c pgveil.sealed_text",
        "alter table t add column c \"sealed_text\"",
        "drop table users",
        "alter table users rename to people",
        "comment on table users is 'x'",
        "create table t (like users)",
    ] {
        assert!(first(sql).far_reaching, "{sql}");
    }
}

#[test]
fn touches_name_every_protected_column() {
    let touched = |sql: &str| {
        let step = first(sql);
        let names = step.touches.iter().map(|touched| {
            let how = match touched.how {
                How::Read => "r",
                How::Masked => "m",
                How::Searched => "s",
                How::Written => "w",
                How::Refused => "x",
            };
            format!("{}.{}:{how}{}", touched.relation, touched.column, touched.id)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(
        touched("select email, nickname from users where id = 3"),
        "public.users.email:r1 public.users.id:s0 public.users.nickname:r0"
    );
    assert_eq!(
        touched("update users set email = 'a' where email = 'b'"),
        "public.users.email:s1 public.users.email:w1"
    );
    assert_eq!(touched("select count(*) from users"), "");
    assert_eq!(touched("select count(*) from users where email = 'a'"), "public.users.email:s1");
    assert_eq!(touched("select count(*) from users where id = 3"), "public.users.id:s0");
    assert_eq!(touched("truncate notes"), "");
    assert!(first("truncate users").writes && first("truncate users").access == Access::Delete);
    let erased = "public.users.dob:w3 public.users.email:w1 public.users.full_name:w2 public.users.id:w0 \
                  public.users.nickname:w0 public.users.note:w0";
    for sql in ["delete from users", "truncate users", "truncate table only notes, public . users * cascade"] {
        assert_eq!(touched(sql), erased, "{sql}");
    }
    assert_eq!(touched("delete from users where id = 1"), erased.replace("id:w0", "id:s0 public.users.id:w0"));
    // Names before a subscript, rows, and columns whose values nobody looks at one by one.
    assert_eq!(
        touched("select u.nickname[1], (u).note[2:3] from users u"),
        "public.users.nickname:r0 public.users.note:r0"
    );
    assert_eq!(touched("select public.users.nickname[1] from users"), "public.users.nickname:r0");
    assert_eq!(touched("select c from clients c"), "public.clients.id:r0 public.clients.name:r0");
    let filled = "public.clients.id:w0 public.clients.name:w0";
    assert_eq!(touched("insert into clients (id, name) select * from json_to_record('{}') as j"), filled);
    assert_eq!(
        touched("insert into clients (id, name) values (1) on conflict (id) do nothing"),
        format!("public.clients.id:s0 {filled}")
    );
    assert_eq!(touched("update clients set (id, name) = (select 1, 'x')"), filled);
    assert_eq!(touched("select mail from v_users"), "public.users.email:r1");
    assert_eq!(touched("select shout from v_users"), "public.v_users.shout:r0");
}

#[test]
fn subjects_are_found_in_output_where_and_values() {
    let from = |sql: &str| first(sql).subject.map(|subject| subject.from);
    assert_eq!(from("select email, id from users"), Some(SubjectFrom::Field(1)));
    assert_eq!(from("select * from users u join orders o on o.user_id = u.id"), Some(SubjectFrom::Field(0)));
    assert_eq!(
        from("select email from users where id = $1 and nickname = 'x'"),
        Some(SubjectFrom::Parameters(vec![0]))
    );
    assert_eq!(from("select email from users where id in ($2, $1)"), Some(SubjectFrom::Parameters(vec![1, 0])));
    assert!(
        matches!(from("select email from users where 7 = id"), Some(SubjectFrom::Literals(spans)) if spans.len() == 1)
    );
    assert_eq!(from("select email from users where id = $1 or true"), None);
    assert_eq!(from("select email from users where exists (select 1 from orders o where o.user_id = $1)"), None);
    assert_eq!(
        from("insert into orders (user_id, code) values ($1, $2), ($3, $4)"),
        Some(SubjectFrom::Parameters(vec![0, 2]))
    );
    assert_eq!(from("update users set email = $1 where id = $2::int"), Some(SubjectFrom::Parameters(vec![1])));
    assert_eq!(from("delete from users where id = $1"), Some(SubjectFrom::Parameters(vec![0])));
    assert_eq!(from("select count(*) from users"), None);
}

#[test]
fn a_refused_statement_says_what_it_touched() {
    let Decision::Refuse(refused) = decide(APP, "select id, upper(email) from users") else { panic!() };
    assert!(refused.touches.iter().any(|touched| &*touched.column == "email"));
    let Decision::Act(plan) = decide(ANALYST, "select id from users") else { panic!() };
    assert_eq!(plan.steps.len(), 1);
}

#[test]
fn deep_and_long_texts_do_not_overflow() {
    let long = format!("select id from users where {}", vec!["nickname = 'x'"; 20_000].join(" or "));
    assert!(matches!(decide(APP, &long), Decision::Act(_)));
    let deep = format!("select {}email{} from users", "(".repeat(5_000), ")".repeat(5_000));
    assert!(matches!(decide(APP, &deep), Decision::Refuse(_)));
    let sum = format!("select {}1 from users", "1+".repeat(50_000));
    assert!(matches!(decide(APP, &sum), Decision::Act(_)));
    let rows = format!("insert into users (id, email) values {}", vec!["(1, 'a')"; 5_000].join(","));
    let Decision::Act(plan) = decide(APP, &rows) else { panic!() };
    assert_eq!(plan.edits.len(), 5_000);
}

#[test]
fn columns_that_double_at_every_step_are_refused_early() {
    let mut sql = "with c0 as (select * from users a, users b)".to_owned();
    for n in 1..60 {
        sql.push_str(&format!(", c{n} as (select * from c{0} a, c{0} b)", n - 1));
    }
    let found = super::outcome(super::APP, &format!("{sql} select 1 from c59 limit 0"));
    assert!(found.starts_with("refuse PV"), "{found}");
    let joined = vec!["users"; 10_000].join(", ");
    let found = super::outcome(super::APP, &format!("select 1 from {joined}"));
    assert!(found.starts_with("refuse PV"), "{found}");
}
