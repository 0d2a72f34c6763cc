//! The access log in PostgreSQL: pgveil's own tables, and every durable record in them exactly once.

use crate::support::Site;

const SCHEMA: &str = include_str!("clients/schema.sql");
const POLICY: &str = include_str!("clients/policy.toml");

#[test]
fn apply_makes_the_tables_once_and_for_nobody_else() {
    let site = Site::new("own_tables").schema(SCHEMA).policy(POLICY).config("[store]\nship = true\n").prepare();
    let dry = site.pgveil_ok(&["apply", "--dry-run"]);
    assert!(dry.contains("create table pgveil.access_log"), "{dry}");
    assert_eq!(site.sql("select to_regclass('pgveil.access_log') is null"), "t", "a dry run makes nothing");
    site.pgveil_ok(&["apply"]);
    assert_eq!(site.sql("select max(version) > 0 from pgveil.schema_version"), "t");
    let again = site.pgveil_ok(&["apply"]);
    assert!(again.contains("nothing to do"), "{again}");
    let theirs = "select count(*) from pg_class c, pg_roles r where relnamespace = 'pgveil'::regnamespace
        and relkind in ('r', 'p', 'v') and relname not in ('columns') and not r.rolsuper and rolname not like 'pg\\_%'
        and rolname <> 'pgveil' and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete')";
    assert_eq!(site.sql(theirs), "0");
    assert_eq!(
        site.sql("select string_agg(distinct tableowner, ',') from pg_tables where schemaname = 'pgveil'"),
        "pgveil"
    );
    let columns = "select string_agg(column_name, ',' order by ordinal_position) from information_schema.columns
        where table_schema = 'pgveil' and table_name = 'data_access_logs'";
    assert_eq!(
        site.sql(columns),
        "id,user_id,accessor_id,data_type,access_type,timestamp,ip_address,user_agent,purpose",
        "the founding document's"
    );
    site.write("policy.toml", &POLICY.replace("data = \"pii\"", "data = \"phi\""));
    let changed = site.pgveil_ok(&["apply"]);
    assert!(changed.contains("what the policy says about each column"), "{changed}");
    let removed = site.pgveil_ok(&["apply", "--remove"]);
    assert!(removed.contains("own tables stay"), "{removed}");
    assert_eq!(site.sql("select to_regclass('pgveil.access_log') is null"), "f");
}
