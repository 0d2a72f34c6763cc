//! What each class of actors sees, end to end: tables, views, views of views, partitions, groups, unlisted columns.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::support::{PASSWORD, Site, cluster};

const SCHEMA: &str = "
    create table people (id bigint primary key, email varchar(320) unique, born date, nick text, salary numeric);
    create table visits (id bigint, diagnosis text, ward text) partition by list (ward);
    create table visits_a partition of visits for values in ('a');";

/// Made after `apply`: a view of a sealed column must be.
const VIEWS: &str = "set search_path = public;
    create view directory as select id, nick, email from people;
    create view wages as select id, salary from people;
    create view hints as select id, salary > 100 as rich from people;
    create view wages2 as select * from wages;
    create materialized view archive as select id, email, salary from people with no data;
    grant select on directory, wages, hints, wages2, archive to app, analyst, support;";

const POLICY: &str = "version = 1
default_level = \"restricted\"
[tables.\"public.people\"]
subject = { kind = \"person\", key = \"id\" }
[tables.\"public.people\".columns]
id = { level = \"internal\" }
email = { level = \"restricted\", encrypt = \"deterministic\", mask = \"email\" }
born = { level = \"confidential\", encrypt = \"randomized\", mask = \"date\" }
nick = { level = \"internal\" }
[tables.\"public.visits\".columns]
id = { level = \"internal\" }
diagnosis = { level = \"restricted\", encrypt = \"randomized\", mask = \"fixed:hidden\" }
ward = { level = \"internal\" }
[roles.app]
clearance = \"restricted\"
[roles.staff]
member_of = \"clearance_staff\"
clearance = \"internal\"
[roles.support]
clearance = \"confidential\"
above = \"deny\"
";

/// Statements by which a role cleared for `internal` might see or probe `people.salary`, which is not sealed.
const HIDDEN: &[&str] = &[
    "select salary from people",
    "select * from people",
    "select p from people p",
    "select 1 from people where salary > 100",
    "select id from people order by salary",
    "select salary from wages",
    "select * from wages2",
    "select rich from hints",
    "select count(*) filter (where rich) from hints",
    "select salary from archive",
    "select (select max(salary) from people)",
    "copy people to stdout",
    "copy (select salary from people) to stdout",
    "table people",
    "select (p).salary from people p",
    "select row_to_json(p) from people p",
    "select to_jsonb(people) from people",
    "with x as (table people) select id from x where salary > 1",
    "values ((select salary from people))",
    "update people set nick = salary::text",
    "update people set nick = nick returning salary",
    "insert into people (id, nick) select 2, salary::text from people",
    "create table copied as table people",
    "create view mine as select salary from people",
    "create temp view mine as select salary from people",
    "prepare p as select salary from people",
    "declare c cursor with hold for select salary from people",
    "explain select salary from people",
    "explain analyze select id from people where salary > 1",
    "do $$begin perform salary from people; end$$",
    "select query_to_xml('select salary from people', true, true, '')",
    "select query_to_xml_and_xmlschema('select salary from pe' || 'ople', true, true, '')",
    "select table_to_xml('people', true, true, '')",
    "select database_to_xml(true, true, '')",
    "select schema_to_xml('public', true, true, '')",
    "select * from ts_stat('select nick::tsvector from people')",
    "select most_common_vals from pg_stats",
    "select most_common_vals::text from pg_catalog.pg_stats where tablename = 'pe' || 'ople'",
    "select * from pg_statistic",
    "select id from people group by id, salary",
    "select id from people p1 join people p2 using (salary)",
    "select * from people natural join visits",
    "select distinct on (salary) id from people",
    "select id, rank() over (order by salary) from people",
    "select id from people union select salary::bigint from people",
    "select id from people, lateral (select salary s) l",
    "delete from people where salary > 1",
    "select id from people for update of people skip locked; select salary from people",
    "merge into people using (select 1 as one) s on salary > 1 when matched then update set nick = 'x'",
];

async fn refused(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => panic!("not refused: {sql}"),
        Err(error) => error.as_db_error().map(|e| format!("{} {}", e.code().code(), e.message())).unwrap_or_default(),
    }
}

async fn text(client: &Client, sql: &str) -> Vec<Option<String>> {
    let row = client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    (0..row.len())
        .map(|at| match *row.columns()[at].type_() {
            Type::INT8 => row.get::<_, Option<i64>>(at).map(|v| v.to_string()),
            _ => row.get::<_, Option<String>>(at),
        })
        .collect()
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|v| Some((*v).to_owned())).collect()
}

#[tokio::test]
async fn every_class_sees_what_its_clearance_says() {
    let group = "do $$begin create role clearance_staff; exception when duplicate_object then null; end$$;
                 grant clearance_staff to analyst";
    cluster().sql("postgres", group).unwrap();
    let mut site = Site::new("clearance").schema(SCHEMA).policy(POLICY).prepare();
    site.pgveil_ok(&["apply"]);
    cluster().sql_as("pgveil", PASSWORD, &site.database, VIEWS).unwrap();
    site.serve();
    let (app, analyst, support) =
        (site.client("app").await, site.client("analyst").await, site.client("support").await);

    let person = "insert into people values (1, 'kanarie@example.com', '1985-07-23', 'ada-nick', 120)";
    app.batch_execute(person).await.unwrap();
    app.batch_execute("insert into visits values (1, 'kanarie flu', 'a')").await.unwrap();

    // Cleared.
    assert_eq!(text(&app, "select email, nick from people").await, some(&["kanarie@example.com", "ada-nick"]));
    assert_eq!(text(&app, "select email from directory").await, some(&["kanarie@example.com"]));
    assert_eq!(text(&app, "select salary::text from wages2").await, some(&["120"]));
    assert_eq!(text(&app, "select diagnosis from visits_a").await, some(&["kanarie flu"]));

    // Internal through a group: masks for what is sealed, a refusal for plaintext above.
    assert_eq!(text(&analyst, "select email, nick from people").await, some(&["k******@*******.com", "ada-nick"]));
    assert_eq!(text(&analyst, "select email, nick from directory").await, some(&["k******@*******.com", "ada-nick"]));
    assert_eq!(text(&analyst, "select diagnosis from visits").await, some(&["hidden"]));
    assert_eq!(text(&analyst, "select diagnosis from visits_a").await, some(&["hidden"]));
    assert_eq!(text(&analyst, "select id from wages").await, some(&["1"]));
    assert_eq!(text(&analyst, "select id from hints").await, some(&["1"]));
    for hidden in HIDDEN {
        let said = refused(&analyst, hidden).await;
        assert!(said.starts_with("42501 PV0"), "{hidden}: {said}");
    }
    assert!(refused(&analyst, "select id from people where email = 'kanarie@example.com'").await.starts_with("42501"));

    // Confidential, and above it a refusal.
    assert!(refused(&support, "select email from people").await.starts_with("42501"));
    assert!(refused(&support, "select email from directory").await.starts_with("42501"));
    let born = support.query_one("select born::text from (select id from people) p, (values ('x')) v(born)", &[]).await;
    assert_eq!(born.unwrap().get::<_, &str>(0), "x");
    assert_eq!(support.simple_query("select born from people").await.unwrap().len(), 3);

    // Nobody in particular: nothing clear, not even internal columns.
    site.write("policy.toml", &POLICY.replace("[roles.support]\nclearance = \"confidential\"\nabove = \"deny\"\n", ""));
    let mut said = String::new();
    for _ in 0..200 {
        said = match support.simple_query("select nick from people").await {
            Ok(_) => "shown".into(),
            Err(error) => error.as_db_error().map(|e| e.code().code().to_owned()).unwrap_or_default(),
        };
        if said == "42501" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(said, "42501", "a session that stands is judged by the new rules");
    assert_eq!(text(&support, "select email from people").await, some(&["k******@*******.com"]));
}
