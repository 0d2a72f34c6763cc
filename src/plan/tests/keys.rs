//! The subject's key that a query does not return: where it is asked for, and where not.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use super::{ANALYST, APP, fixture, shown};
use crate::plan::{Decision, Limits, Request, SubjectFrom};
use crate::policy::readers::Readers;
use crate::policy::rules::{ClassId, Rules};
use crate::sql::schema::Role;

/// `app` may read all; `clerk` all of users but their id.
fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(|| {
        let mut rules = fixture::rules().clone();
        let mut schema = (*rules.schema).clone();
        let role = |name: &str| (name.to_owned(), Role::default());
        schema.roles.extend([role("app"), role("clerk")]);
        schema.readers.insert((100, 0), vec!["app".into()]);
        schema.readers.insert((100, 2), vec!["clerk".into()]);
        schema.readers.insert((101, 0), vec!["app".into(), "clerk".into()]);
        schema.routines = ["lower", "upper", "clean"].map(str::to_owned).into();
        schema.aggregates = ["count", "max", "my_agg"].map(str::to_owned).into();
        rules.readers = Readers::build(&schema, &rules.tables, &rules.classes);
        rules.schema = Arc::new(schema);
        rules
    })
}

fn decide(role: &str, class: ClassId, sql: &str) -> Decision {
    let rules = rules();
    let request = Request {
        sql,
        parameter_oids: &[],
        extended: true,
        class,
        role,
        keys: rules.readers.of(role),
        search_path: &["public".into()],
        temporary: &HashSet::new(),
        rules,
    };
    super::super::decide::decide(&request, Limits::default())
}

/// What is sent, if a key is asked for.
fn sent(role: &str, sql: &str) -> Option<String> {
    let (Decision::Act(plan) | Decision::Pass(plan)) = decide(role, APP, sql) else { return None };
    let added = plan.steps.iter().any(|step| step.added_key().is_some());
    let text = shown(sql, &plan);
    assert_eq!(added, text.contains("pgveil_subject") && !sql.contains("pgveil_subject"), "{sql}");
    added.then_some(text)
}

#[test]
fn the_key_is_the_last_item_of_a_plain_select() {
    let key = "\"users\".\"id\" as \"pgveil_subject\"";
    for (sql, expected) in [
        ("select email from users", format!("select email, {key} from users")),
        ("select email from public.users", format!("select email, {key} from public.users")),
        ("select email as \"from\"from only (users)", format!("select email as \"from\", {key}from only (users)")),
        ("select from users where email = $1", format!("select {key} from users where email = $1 | $1=email")),
        ("select all nickname from users", format!("select all nickname, {key} from users")),
        ("select nickname -- from\n from users", format!("select nickname, {key} -- from\n from users")),
        (
            "select nickname is distinct from note from users",
            format!("select nickname is distinct from note, {key} from users"),
        ),
        (
            "select note from users where email = 'a' order by 1 limit 3 for update",
            format!("select note, {key} from users where email = {{email 'a'}} order by 1 limit 3 for update"),
        ),
        (
            "select count(*) over (), max(note) filter (where true) over (order by note) from users",
            format!("select count(*) over (), max(note) filter (where true) over (order by note), {key} from users"),
        ),
        (
            "select lower(note), pg_catalog.upper(note), public.clean(note), coalesce(note, 'x') from users",
            format!(
                "select lower(note), pg_catalog.upper(note), public.clean(note), coalesce(note, 'x'), {key} from users"
            ),
        ),
        ("select note, 'x'from users", format!("select note, 'x', {key}from users")),
        ("select email from users; select 1", format!("select email, {key} from users; select 1")),
        (
            "select email from users where note = (select max(total) from orders)",
            format!("select email, {key} from users where note = (select max(total) from orders)"),
        ),
        (
            "select u.email from users as u (key, email)",
            "select u.email, \"u\".\"key\" as \"pgveil_subject\" from users as u (key, email)".to_owned(),
        ),
        (
            "select u.email from clients c join users u on c.name = u.note",
            "select u.email, \"u\".\"id\" as \"pgveil_subject\" from clients c join users u on c.name = u.note"
                .to_owned(),
        ),
    ] {
        assert_eq!(sent("app", sql).as_deref(), Some(expected.as_str()), "{sql}");
    }
}

#[test]
fn several_people_are_one_where_their_keys_are_compared() {
    let of = |sql: &str| sent("app", sql).map(|text| text.contains("\"u\".\"id\" as"));
    for sql in [
        "select o.code from users u join orders o on o.user_id = u.id",
        "select o.code from users u left join orders o on (u.id = o.user_id and o.id > '3')",
        "select o.code from users u, orders o where u.id = o.user_id",
        "select o.code from (users u join clients c on true) left join orders o on o.user_id = u.id",
        "select o.code from orders o right join users u on true where u.id = o.user_id",
    ] {
        assert_eq!(of(sql), Some(true), "{sql}");
    }
    assert_eq!(of("select u.email from orders o left join users u on o.user_id = u.id"), Some(false));
    for sql in [
        "select o.code from users u join orders o on o.id = u.id",
        "select o.code from users u cross join orders o",
        "select o.code from users u join orders o on o.user_id = u.id or true",
        "select o.code from orders o right join users u on u.id = o.user_id",
        "select o.code from users u join orders o on true left join clients c on u.id = o.user_id",
        "select u.email from users u full join orders o on o.user_id = u.id",
        "select a.email from users a join users b on a.id = b.id",
    ] {
        assert_eq!(of(sql), None, "{sql}");
    }
}

#[test]
fn what_more_than_a_column_could_change_is_left_alone() {
    for sql in [
        "select distinct email from users",
        "select distinct on (email) email from users",
        "select email from users group by email",
        "select count(*) from users",
        "select count(email) filter (where true) from users",
        "select my_agg(nickname) from users",
        "select pg_temp.new(nickname) from users",
        "select pg_temp.clean(nickname) from users",
        "select public.lower(nickname) from users",
        "select new(nickname) from users",
        "select u.count from users u",
        "select 1 from users order by max(nickname)",
        "select email from users having true",
        "select email from users union all select email from users",
        "with c as (select 1) select email from users",
        "select email from (select email from users) u",
        "select mail from v_users",
        "(select email from users)",
        "table users",
        "select nickname, (select 1) from users",
        "select email, nickname as pgveil_subject from users",
        "select email from users order by pgveil_subject",
        "select c.name from clients c left join users u on u.note = c.name",
        "select 1",
        "select 1 from users",
        "explain select email from users",
        "declare c cursor for select email from users",
        "prepare p as select email from users",
        "insert into orders (user_id, memo) select id, null from users",
        "copy (select email from users) to stdout",
        // Somebody is known already.
        "select id, email from users",
        "select * from users",
        "select email from users where id = 7",
    ] {
        assert_eq!(sent("app", sql), None, "{sql}");
    }
}

#[test]
fn the_key_is_asked_for_with_the_roles_rights() {
    assert_eq!(sent("clerk", "select email from users"), None);
    assert_eq!(sent("nobody", "select email from users"), None);
    assert!(sent("clerk", "select code from orders").is_some());
    let Decision::Act(plan) = decide("app", ANALYST, "select email from users") else { panic!() };
    assert_eq!(plan.steps[0].subject.as_ref().map(|subject| &subject.from), Some(&SubjectFrom::Added));
    assert_eq!(plan.steps[0].fields.as_ref().map(Vec::len), Some(1));
}
