//! Kinds of statement that a policy keeps from a role.

use super::{APP, decide_with, fixture};
use crate::plan::Decision;
use crate::policy::rules::StatementClass;

/// Whether that alone is refused to a role that may see everything.
fn refused(class: StatementClass, sql: &str) -> bool {
    let mut rules = fixture::rules().clone();
    rules.classes[usize::from(APP.0)].refuses = vec![class];
    match decide_with(&rules, APP, sql, &[], &["public"]) {
        Decision::Refuse(refused) => {
            let said = format!("{} {}", refused.refusal, refused.refusal.hint);
            assert!(said.starts_with("PV018") && said.contains(class.word()), "{sql}: {said}");
            true
        }
        _ => false,
    }
}

#[test]
fn functions_that_run_sql_or_reach_files_are_found_wherever_they_are_called() {
    use StatementClass::{FileFunctions, Functions, SqlFunctions};
    for (sql, expected) in [
        ("select query_to_xml('select 1', true, true, '')", Some(SqlFunctions)),
        ("select * from PG_CATALOG.\"ts_stat\"('select 1')", Some(SqlFunctions)),
        ("select 1 where exists (select from crosstab('select 1') as c(a int))", Some(SqlFunctions)),
        ("insert into notes (body) values (dblink_exec('x', 'y'))", Some(SqlFunctions)),
        ("explain select cursor_to_xml('c', 1, true, true, '')", Some(SqlFunctions)),
        ("prepare p as select ts_rewrite('a'::tsquery, 'select 1')", Some(SqlFunctions)),
        ("create view v as select table_to_xml('notes', true, true, '')", Some(SqlFunctions)),
        ("copy (select schema_to_xml('public', true, true, '')) to stdout", Some(SqlFunctions)),
        ("select pg_read_file('x')", Some(FileFunctions)),
        ("select * from pg_ls_dir('.')", Some(FileFunctions)),
        ("select U&\"lo_\\0069mport\"('/x')", Some(FileFunctions)),
        ("select * from pg_logical_slot_peek_changes('s', null, null)", Some(FileFunctions)),
        ("copy notes from '/x'", Some(FileFunctions)),
        ("copy notes to program 'x'", Some(FileFunctions)),
        ("copy notes to stdout", None),
        ("select lower('pg_read_file(1)'), lo_get(1), query_to_xml from notes", None),
        ("select audit_it()", Some(Functions)),
    ] {
        for class in [SqlFunctions, FileFunctions, Functions] {
            assert_eq!(refused(class, sql), Some(class) == expected, "{sql}: {class:?}");
        }
    }
}

#[test]
fn what_runs_sql_text_touches_nobody_knows_what() {
    let step = |sql: &str| match decide_with(fixture::rules(), APP, sql, &[], &["public"]) {
        Decision::Pass(plan) | Decision::Act(plan) => plan.steps[0].clone(),
        other => panic!("{sql}: {other:?}"),
    };
    let text = step("select query_to_xml('select set_config(''search_path'', ''x'', false)', true, true, '')");
    assert!(text.touches_unknown && text.counted && text.moves.names);
    let file = step("select pg_read_file('x')");
    assert!(!file.touches_unknown && !file.moves.settings);
}
