//! Every way around a lens: made on purpose, proven by reading what is hidden, found by name, closed with the SQL that
//! comes with it, and gone.
//!
//! One database; each case is one transaction that is rolled back, roles included. What is hidden contains `bluebird`.

mod around;
mod cases;
mod harmless;
mod tables;

use pgveil::catalog::ways::{Hidden, Masked, Way, WayKind, ways};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{PASSWORD, cluster, connect, server_log, skip};
use cases::{Case, Closes};
use harmless::HARMLESS;

/// In every hidden value, and in what a proof shows when it has got through.
const BIRD: &str = "bluebird";

/// Needs quoting wherever it stands.
const MASKED: &str = "ways \"masked'";

/// A clean base: three protected tables, one of them partitioned, and the lens over them.
const BASE: &str = "
create role {m} login; create role ways_owner; create role ways_lens; create role ways_control; create role ways_schema;
create role ways_group; create role ways_inner; create role ways_other; create role ways_cleared;
create schema app authorization ways_schema; grant usage on schema app to public;
create schema mine authorization {m};
create table app.people (id int primary key, nick text, ssn text unique);
create table app.visits (id int primary key, person int references app.people, note text);
create table app.parts (k int, secret text) partition by list (k);
create table app.parts_1 partition of app.parts for values in (1);
create table app.plain (id int, word text);
insert into app.people select i, 'nick', 'bluebird ' || i from generate_series(1, 9) i;
insert into app.visits values (7, 1, 'bluebird');
insert into app.parts values (1, 'bluebird');
alter table app.people owner to ways_owner; alter table app.visits owner to ways_owner;
alter table app.parts owner to ways_owner; alter table app.parts_1 owner to ways_owner;
grant select on app.people, app.visits, app.parts to ways_lens, ways_cleared;
create schema pgveil_lens_x;
create view pgveil_lens_x.people with (security_barrier) as select id, nick, null::text as ssn from app.people;
create view pgveil_lens_x.visits with (security_barrier) as select * from app.visits where id < 5;
create view pgveil_lens_x.parts with (security_barrier) as select k, 'x'::text as secret from app.parts;
alter view pgveil_lens_x.people owner to ways_lens; alter view pgveil_lens_x.visits owner to ways_lens;
alter view pgveil_lens_x.parts owner to ways_lens;
grant usage on schema pgveil_lens_x to {m};
grant select on all tables in schema pgveil_lens_x to {m};
grant insert, update on pgveil_lens_x.people to {m};
";

/// A database of its own and two connections to it: one for the cases, one that has just read a hidden value.
struct Stage {
    client: Client,
    other: Client,
    version: u32,
    port: u16,
}

impl Stage {
    async fn new(name: &str) -> Self {
        let cluster = cluster();
        cluster.sql("postgres", &format!("create database {name}")).unwrap();
        let url = |password: &str| {
            format!("host=127.0.0.1 port={} user=postgres password={password} dbname={name}", cluster.port())
        };
        let client = connect(&url(cluster.password())).await.unwrap();
        let other = connect(&url(cluster.password())).await.unwrap();
        other.batch_execute("select 'bluebird' as of_another_session").await.unwrap();
        let version = client.query_one("select current_setting('server_version_num')::int4", &[]).await.unwrap();
        let version = u32::try_from(version.get::<_, i32>(0)).unwrap() / 10_000;
        Self { client, other, version, port: cluster.port() }
    }

    /// With the masked role and the port filled in.
    fn fill(&self, sql: &str) -> String {
        let masked = format!("\"{}\"", MASKED.replace('"', "\"\""));
        sql.replace("{m}", &masked).replace("{port}", &self.port.to_string()).replace("{password}", PASSWORD)
    }

    async fn run(&self, sql: &str) {
        let sql = self.fill(sql);
        self.client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}\n{:?}", e.as_db_error()));
    }

    async fn begin(&self, setup: &str) {
        self.run("begin; set local search_path = public").await;
        self.run(BASE).await;
        self.run(setup).await;
    }

    /// The masked role as the policy would have it.
    async fn masked(&self) -> Masked {
        let oid = async |table: &str| {
            let row = self.client.query_one(&format!("select 'app.{table}'::regclass::oid"), &[]).await;
            row.unwrap().get::<_, u32>(0)
        };
        let hidden = vec![
            Hidden { relation: oid("people").await, columns: vec![3] },
            Hidden { relation: oid("visits").await, columns: vec![] },
            Hidden { relation: oid("parts").await, columns: vec![2] },
        ];
        Masked {
            role: MASKED.into(),
            hidden,
            lens_schemas: vec!["pgveil_lens_x".into()],
            lens_owner: "ways_lens".into(),
            reviewed: vec![("app".into(), "reviewed".into())],
        }
    }

    /// As a role that is nobody special finds them; a superuser finds the same.
    async fn ways(&self) -> Vec<Way> {
        let masked = self.masked().await;
        let mut found = Vec::new();
        for role in ["ways_control", "postgres"] {
            self.run(&format!("savepoint look; set local session authorization {role}")).await;
            found.push(ways(&self.client, std::slice::from_ref(&masked)).await.unwrap());
            self.run("rollback to look").await;
        }
        assert_eq!(found[0], found[1]);
        found.swap_remove(0)
    }

    /// Whether that SQL, run as the masked role, shows something hidden.
    async fn shows(&self, sql: &str) -> bool {
        self.run("savepoint proof; set local session authorization {m}; set local search_path = app").await;
        let said = self.client.simple_query(&self.fill(sql)).await;
        self.run("rollback to proof").await;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => (0..row.len()).any(|i| row.get(i).is_some_and(|cell| cell.contains(BIRD))),
            _ => false,
        };
        match said {
            Ok(messages) => messages.iter().any(row),
            Err(error) => {
                println!(
                    "    refused: {}",
                    error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().to_owned())
                );
                false
            }
        }
    }

    async fn end(&self) {
        self.run("rollback").await;
    }
}

fn kinds(ways: &[Way]) -> Vec<WayKind> {
    let mut kinds: Vec<WayKind> = ways.iter().map(|way| way.kind).collect();
    kinds.dedup();
    kinds
}

/// What a case did not do as it says.
async fn case(stage: &Stage, case: &Case) -> Result<(), String> {
    println!("{}", case.name);
    stage.begin(case.setup).await;
    let gets_through = match case.proof {
        Some(proof) => stage.shows(proof).await,
        None => true,
    };
    let found = stage.ways().await;
    for way in &found {
        println!("  {way} ({}): {:?}, {}", way.kind, way.sql, way.only_this_role);
    }
    if !gets_through {
        return Err("is no way at all".to_owned());
    }
    if kinds(&found) != case.kinds || !found.iter().all(|way| way.to_string().starts_with(MASKED)) {
        return Err(format!("found {found:?}"));
    }
    let closes = |way: &Way| match (&way.sql, way.only_this_role) {
        (None, _) => Closes::ByAPerson,
        (Some(_), true) => Closes::ForItAlone,
        (Some(_), false) => Closes::ForOthersToo,
    };
    let hardest = found.iter().map(closes).max();
    if hardest != Some(case.closes) {
        return Err(format!("closes {hardest:?}: {found:?}"));
    }
    if case.closes == Closes::ByAPerson {
        return Ok(());
    }
    let mut statements: Vec<&str> = found.iter().filter_map(|way| way.sql.as_deref()).collect();
    statements.dedup();
    for sql in statements {
        if let Err(error) = stage.client.batch_execute(sql).await {
            return Err(format!("{sql}: {:?}", error.as_db_error()));
        }
    }
    let left = stage.ways().await;
    if !left.is_empty() {
        return Err(format!("afterwards {left:?}"));
    }
    match case.proof {
        Some(proof) if stage.shows(proof).await => Err("still shows it".to_owned()),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn every_way_is_found_by_name_and_closed() {
    let stage = Stage::new("ways_found").await;
    let (mut seen, mut count, mut failed) = (Vec::new(), 0, Vec::new());
    for each in tables::CASES.iter().chain(around::CASES).filter(|c| c.versions.contains(&stage.version)) {
        seen.extend(each.kinds);
        if let Some(needs) = each.needs {
            let there = "select from pg_available_extensions where name = $1";
            if stage.client.query(there, &[&needs]).await.unwrap().is_empty() {
                skip("ways", &format!("{}: no extension {needs}", each.name));
                continue;
            }
        }
        failed.extend(case(&stage, each).await.err().map(|why| format!("{}: {why}", each.name)));
        stage.end().await;
        count += 1;
    }
    println!("{count} ways on PostgreSQL {}", stage.version);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(count >= 30, "{count}");
    for kind in WayKind::ALL {
        // Before PostgreSQL 17 there is no such right.
        let known = *kind != WayKind::Maintain || stage.version >= 17;
        assert!(!known || seen.contains(kind), "no case makes {kind}");
    }
    drop(stage.other);
}

#[tokio::test]
async fn a_clean_base_has_no_way() {
    let stage = Stage::new("ways_clean").await;
    stage.begin("").await;
    assert_eq!(stage.ways().await, []);
    for sql in ["select ssn from people", "select note from visits", "select * from parts_1"] {
        assert!(!stage.shows(sql).await, "{sql}");
    }
    assert!(!stage.shows("select * from pgveil_lens_x.people").await, "the lens hides it");
    stage.end().await;
    for (name, versions, setup) in HARMLESS.iter().filter(|(_, versions, _)| versions.contains(&stage.version)) {
        println!("{name} {versions:?}");
        stage.begin(setup).await;
        assert_eq!(stage.ways().await, [], "{name}");
        stage.end().await;
    }
}

#[tokio::test]
async fn a_hundred_roles_take_as_many_queries_as_one() {
    let stage = Stage::new("ways_many").await;
    stage.begin("grant select on app.people to public").await;
    stage.run("do $$begin for i in 1..100 loop execute format('create role ways_many_%s', i); end loop; end$$").await;
    let one = stage.masked().await;
    let of = |i: i32| Masked { role: format!("ways_many_{i}"), ..one.clone() };
    let many: Vec<Masked> = (1..=100).map(of).chain([one.clone()]).collect();
    let executed = || server_log("ways_many").matches("execute s").count();
    let mut took = Vec::new();
    for masked in [&many[..1], &many] {
        let before = executed();
        assert_eq!(ways(&stage.client, masked).await.unwrap().len(), masked.len());
        took.push(executed() - before);
    }
    assert!(took[0] > 10 && took[0] == took[1], "{took:?}");
    let missing = Masked { role: "nobody has this name".into(), ..one };
    assert_eq!(ways(&stage.client, &[missing]).await.unwrap(), []);
    stage.end().await;
}

#[tokio::test]
async fn each_role_is_asked_about_what_is_hidden_from_it() {
    let stage = Stage::new("ways_each").await;
    stage.begin("grant select on app.visits to public; grant select (ssn) on app.people to ways_other").await;
    let one = stage.masked().await;
    let only =
        |role: &str, index: usize| Masked { role: role.into(), hidden: vec![one.hidden[index].clone()], ..one.clone() };
    let asked = [only(MASKED, 0), only(MASKED, 1), only(MASKED, 2), only("ways_other", 0)];
    let found = ways(&stage.client, &asked).await.unwrap();
    let said: Vec<String> = found.iter().map(|way| format!("{}: {way}", way.kind)).collect();
    let expected = [
        "read: ways \"masked' has SELECT on app.visits, granted to PUBLIC",
        "read_column: ways_other has SELECT (ssn) on app.people, granted to it",
    ];
    assert_eq!(said, expected);
    assert_eq!(ways(&stage.client, &asked[..1]).await.unwrap(), []);
    stage.end().await;
}
