//! COPY.

use super::{ANALYST, APP, DENIED, MASKED, WRITER, check, decide};
use crate::event::Access;
use crate::plan::{CopyPlan, Decision, Step, StepKind, SubjectFrom};
use crate::wire::copy::{Layout, RowFormat};

fn step(sql: &str) -> Step {
    match decide(APP, sql) {
        Decision::Act(plan) | Decision::Pass(plan) => plan.steps[0].clone(),
        Decision::Refuse(refused) => panic!("{sql}: {}", refused.refusal),
        Decision::Unknown(_) => panic!("{sql}: unknown"),
    }
}

fn columns(plan: &CopyPlan) -> String {
    let names = plan.columns.iter().map(|column| column.as_ref().map_or("-", |column| &*column.column));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_fields_of_a_row_are_known() {
    let cases = [
        ("copy users from stdin", "in - email full_name dob - -"),
        ("copy public.users (full_name, id) from stdin with (format csv, header)", "in full_name -"),
        ("copy users (email) to stdout", "out email"),
        ("COPY Users TO STDOUT CSV", "out - email full_name dob - -"),
        ("copy (select email, id from users where email = 'a') to stdout", "out email -"),
        ("copy (select array_length(array[1], 1), mail from v_users) to stdout csv header", "out - email"),
        ("copy (table users) to stdout", "out - email full_name dob - -"),
        ("copy \"Mixed Case\" (\"Email\") from stdin", "in Email"),
        ("copy users (id) from stdin where id > 3", "in -"),
        ("copy (delete from users returning email) to stdout", "out email"),
        ("copy users_copy to stdout", "out - -"),
        ("copy binary users to stdout", "out - email full_name dob - -"),
        ("copy (select email, id from users) to stdout with binary", "out email -"),
    ];
    for (sql, expected) in cases {
        let found = match step(sql).kind {
            StepKind::CopyIn(Some(plan)) => format!("in {}", columns(&plan)),
            StepKind::CopyOut(plan) => format!("out {}", columns(&plan)),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn options_reach_the_splitter() {
    let StepKind::CopyOut(plan) = step("copy users (id, email) to stdout (format csv, delimiter ';', null 'N', quote '''', header, force_quote (email))").kind else {
        panic!()
    };
    let layout = Layout {
        delimiter: b';',
        null: "N".into(),
        quote: b'\'',
        escape: b'\'',
        header: true,
        force_quote: vec![false, true],
        force_not_null: vec![false, false],
        force_null: vec![false, false],
        end_marker: false,
        ..Layout::csv()
    };
    assert_eq!(*plan.layout, layout);
    let into = |options: &str| match step(&format!("copy users (id, email) from stdin {options}")).kind {
        StepKind::CopyIn(Some(plan)) => plan.layout,
        other => panic!("{options}: {other:?}"),
    };
    let none = || vec![false, false];
    let plain = |layout| Layout { force_quote: none(), force_not_null: none(), force_null: none(), ..layout };
    assert_eq!(*into(""), plain(Layout::text()));
    for binary in ["binary", "with binary", "(format binary)", "with (format 'binary', on_error stop)"] {
        assert_eq!(into(binary).format, RowFormat::Binary, "{binary}");
    }
    let forced = Layout { force_not_null: vec![false, true], force_null: vec![true, false], ..plain(Layout::csv()) };
    for options in [
        "(format csv, force_not_null (email), force_null (id))",
        "with csv force not null email force null id",
        "csv force null id force not null email encoding 'Utf-8' freeze",
    ] {
        assert_eq!(*into(options), forced, "{options}");
    }
    let newer = Layout { header: true, default: Some("\\D".into()), delimiter: b'|', ..plain(Layout::text()) };
    assert_eq!(*into("(header match, default '\\D', delimiter '|', log_verbosity verbose)"), newer);
}

#[test]
fn access_touches_and_subject_of_copy() {
    let out = step("copy users (email, id) to stdout");
    assert_eq!(out.access, Access::Export);
    assert_eq!(out.subject.unwrap().from, SubjectFrom::Field(1));
    assert_eq!(out.touches.len(), 2);
    let key = |sql: &str| match step(sql).kind {
        StepKind::CopyIn(Some(plan)) | StepKind::CopyOut(plan) => plan.subject_type,
        other => panic!("{other:?}"),
    };
    let id = key("copy users (id) from stdin");
    assert!(id != 0);
    assert_eq!((key("copy users (email, id) to stdout"), key("copy (select id, 1 from users) to stdout")), (id, id));
    assert_eq!(key("copy users (email) from stdin"), 0);
    assert!(!out.writes);
    let into = step("copy users (email) from stdin");
    assert_eq!(into.access, Access::Write);
    assert!(into.writes && into.subject.is_none());
    assert_eq!(step("copy notes from stdin").kind, StepKind::CopyIn(None));
    assert_eq!(step("copy notes from '/tmp/x'").kind, StepKind::Ordinary);
    assert_eq!(step("copy (select 1 as users) to stdout").kind, StepKind::Ordinary);
    assert_eq!(step("copy patients_new from stdin").kind, StepKind::CopyIn(None));
}

#[test]
fn copy_that_cannot_be_done() {
    let cases = [
        (APP, "copy users to '/tmp/x'", "PV014"),
        (APP, "copy users from program 'cat'", "PV014"),
        (APP, "copy users from stdin (encoding 'latin1')", "PV011 …ENCODING"),
        (APP, "copy users from stdin encoding 'sql_ascii'", "PV011 …ENCODING"),
        (APP, "copy users from stdin (on_error ignore)", "PV011 …ON_ERROR"),
        (APP, "copy users from stdin (reject_limit 3)", "PV011 …REJECT_LIMIT"),
        (APP, "copy users from stdin (header 2)", "PV011 …HEADER"),
        (APP, "copy users from stdin where email = 'a'", "PV011 …WHERE of COPY"),
        (APP, "copy users from stdin where lower(\"email\") = 'a'", "PV011"),
        (APP, "copy (select upper(email) from users) to stdout", "PV011 …upper()"),
        (APP, "copy (select array_agg(email) from users) to stdout", "PV011 …array"),
        (APP, "copy (select f.*, email from users, g() f) to stdout", "PV014"),
        (APP, "copy users_copy from stdin", "PV011 column public.users_copy.email"),
        (APP, "copy users (no_such) from stdin", "PV022"),
        (APP, "copy patients to stdout", "PV026"),
        (ANALYST, "copy users to stdout", "PV013 column public.users.note"),
        (ANALYST, "copy users (id, note) to stdout", "PV013"),
        (ANALYST, "copy (select note from users) to stdout", "PV013"),
        (ANALYST, "copy users (note) from stdin", "PV013"),
        (ANALYST, "copy notes to program 'sh'", "PV018"),
        (ANALYST, "copy notes to '/tmp/x'", "PV018"),
        (MASKED, "copy users from stdin", "PV012 writing"),
        (DENIED, "copy users to stdout", "PV012 column public.users.email is denied"),
    ];
    check(cases.into_iter().map(|(class, sql, expected)| (class, sql, format!("refuse {expected}"))));
    check([
        (MASKED, "copy users to stdout", "act: copy users to stdout".to_owned()),
        (ANALYST, "copy users (id, email) to stdout", "act: copy users (id, email) to stdout".to_owned()),
        (ANALYST, "copy notes to stdout", "pass".to_owned()),
        (WRITER, "copy users (email) from stdin", "act: copy users (email) from stdin".to_owned()),
        (APP, "copy users (id) to stdout (format binary)", "act: copy users (id) to stdout (format binary)".to_owned()),
        (
            APP,
            "copy users (id) from stdin (on_error ignore)",
            "act: copy users (id) from stdin (on_error ignore)".to_owned(),
        ),
    ]);
}
