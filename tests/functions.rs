//! The lists of functions that run SQL text or read files, against the server's own.

use std::collections::HashSet;

use pgveil::policy::functions::{Functions, Sort, names};

use crate::support::{Site, cluster};

/// Functions whose code in PostgreSQL's sources is known to do so, and those with an argument called like a file, query
/// or table.
const SUSPECTS: &str = r"
select distinct p.proname from pg_proc p join pg_language l on l.oid = p.prolang
where l.lanname in ('c', 'internal') and (
  p.prosrc ~ '(query|table|schema|database|cursor)_to_xml|read_.*file|_ls_|ls_.*dir|stat_file|lo_(import|export)'
  or p.prosrc ~ 'logical_slot_(get|peek)|ts_stat|rewrite_query|file_settings|(hba|ident)_file|get_wal_(records?_|block_|fpi_)info'
  or p.prosrc ~ 'crosstab|connectby|xpath_table|raw_page|page_items|pg_file_|logdir|dblink_(exec|record|open|fetch|send)'
  or p.prosrc ~ 'currtid_byrelname|logical_snapshot_(meta|info)|wal_summar(y_contents|ies)'
  or exists (select from unnest(p.proargnames[1:p.pronargs], p.proargtypes::oid[]) a(name, type)
    where a.type in ('text'::regtype, 'cstring'::regtype, 'name'::regtype)
      and a.name ~ '(file|path|query|sql|dir|relname|table|program|command)'))
order by 1";

/// They take such a name apart, show a size, or change a table's statistics if the table is the caller's.
const HARMLESS: &[&str] = &[
    "pg_clear_attribute_stats",
    "pg_clear_relation_stats",
    "pg_relpages",
    "pg_restore_attribute_stats",
    "pg_restore_relation_stats",
    "pg_split_walfile_name",
];

/// A database with all that the server has to offer.
fn everything() -> Site {
    let site = Site::new("functions").prepare();
    let offered = site.sql("select name from pg_available_extensions where name <> 'plpgsql'");
    for extension in offered.lines() {
        // Some need others, or another server.
        let _ = cluster().sql(&site.database, &format!("create extension if not exists \"{extension}\" cascade"));
    }
    site
}

fn version(site: &Site) -> u32 {
    site.sql("show server_version_num").trim().parse().unwrap()
}

#[test]
fn every_function_of_this_server_that_runs_sql_or_reads_files_is_listed() {
    let site = everything();
    let list = Functions::of(version(&site));
    let suspects = site.sql(SUSPECTS);
    let suspects: Vec<&str> = suspects.lines().collect();
    assert!(suspects.len() > 30 && suspects.contains(&"query_to_xml"), "{suspects:?}");
    let missing: Vec<&&str> =
        suspects.iter().filter(|name| list.sort(name).is_none() && !HARMLESS.contains(*name)).collect();
    assert!(missing.is_empty(), "in no list of src/policy/functions: {missing:?}");
    for (name, sort) in [("ts_stat", Sort::Sql), ("pg_read_file", Sort::Files), ("pg_ls_waldir", Sort::Listing)] {
        assert_eq!(list.sort(name), Some(sort));
    }
}

#[test]
fn what_is_listed_as_the_servers_own_exists() {
    let site = Site::new("functions").prepare();
    let major = version(&site) / 10_000;
    let file = format!("{}/src/policy/functions/{major}.tsv", env!("CARGO_MANIFEST_DIR"));
    // A later server than all lists has the newest one's functions, or not.
    let Ok(text) = std::fs::read_to_string(file) else { return assert!(major > 18) };
    let own = site.sql("select distinct proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace");
    let own: HashSet<&str> = own.lines().collect();
    let listed = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let listed = listed.filter(|fields| fields.get(2) == Some(&"pg_catalog") && !fields[0].ends_with('*'));
    let gone: Vec<&str> = listed.map(|fields| fields[0]).filter(|name| !own.contains(name)).collect();
    assert!(gone.is_empty(), "PostgreSQL {major} has no {gone:?}");
}

#[test]
fn nobody_may_read_files_by_default() {
    // Else every lens of such a server would have a way around it (`pgveil apply --lenses` asks for these by name).
    let site = everything();
    let (files, _) = names(&[Sort::Files, Sort::Wal]);
    let list = files.into_iter().collect::<Vec<_>>().join("','");
    let open = site.sql(&format!(
        "select string_agg(distinct proname, ' ') from pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
         where proname in ('{list}') and a.grantee = 0"
    ));
    // The adminpack's own wrapper, around one that nobody may call.
    assert!(["", "pg_file_rename"].contains(&open.trim()), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_keeps_them_from_a_role_and_the_log_says_what_they_may_have_touched() {
    let policy = "version = 1\n[roles.app]\nclearance = \"restricted\"\n[roles.analyst]\nclearance = \"restricted\"\n\
                  refuse = [\"sql_functions\", \"file_functions\"]\n";
    let site = Site::new("functions").schema("create table t (a int)").policy(policy).start();
    let analyst = site.client("analyst").await;
    for sql in ["select query_to_xml('table t', true, true, '')", "select pg_ls_dir('.')", "copy t to program 'true'"] {
        let error = analyst.batch_execute(sql).await.unwrap_err();
        let said = error.as_db_error().unwrap();
        assert!(said.message().starts_with("PV018") && said.hint().unwrap().contains("_functions"), "{said:?}");
    }
    assert_eq!(analyst.query("select a from t", &[]).await.unwrap().len(), 0);
    let app = site.client("app").await;
    assert!(app.query_one("select query_to_xml('table t', true, true, '')::text", &[]).await.is_ok());
    let unknown = |e: &serde_json::Value| e["actor"]["role"] == "app" && e["touches_unknown"] == true;
    assert!(site.events().iter().any(unknown));
}
