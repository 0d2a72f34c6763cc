//! The catalog room against a real server: what it reads, and how the rules stay fresh.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgveil::catalog::{Connect, Keeper, POLL, Settings, fingerprint, load};
use pgveil::crypto::Keyring;
use pgveil::event::Event;
use pgveil::policy::rules::Treatment;
use pgveil::sql::schema::RelKind;
use pgveil::wire::types::Kind;

use crate::support::{PASSWORD, cluster};

/// The account is called like the schema, which therefore comes first in its default search path.
const TABLES: &str = "
    set search_path = public;
    create schema pgveil;
    create domain pgveil.sealed_varchar as bytea;
    create table pgveil.columns (relation regclass, attnum int2, column_name text, as_type text);
    create table \"Users\" (id bigint primary key, gone int, email pgveil.sealed_varchar not null, nick text default 'x');
    alter table \"Users\" drop column gone;
    insert into pgveil.columns values ('\"Users\"'::regclass, 3, 'email', 'varchar(320)');
    create view names as select id, nick from \"Users\";
    create view names2 as select * from names;
    create view shapes as with c as (select email as mail, id from \"Users\")
        select c.mail, upper(u.nick) as shout, u.nick from c left join \"Users\" u using (id);
    create view both_mails as select email from \"Users\" union all select email from \"Users\";
    create materialized view mails as select array_agg(email) as all_mails from \"Users\";
    create table parted (k int) partition by list (k);
    create table parted_1 partition of parted for values in (1);
    create function touch() returns int language sql as 'select 1';";

const POLICY: &str = "version = 1
[tables.\"public.Users\".columns]
email = { level = \"restricted\", as = \"varchar(320)\", encrypt = \"randomized\", mask = \"email\" }
[roles.app]
clearance = \"restricted\"
";

fn database(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let database = format!("catalog_{name}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster().sql("postgres", &format!("create database {database} owner pgveil")).unwrap();
    cluster().sql_as("pgveil", PASSWORD, &database, TABLES).unwrap();
    database
}

fn own(database: &str, sql: &str) {
    cluster().sql_as("pgveil", PASSWORD, database, &format!("set search_path = public; {sql}")).unwrap();
}

fn connect(database: &str) -> Connect {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(cluster().port()).user("pgveil").password(PASSWORD).dbname(database);
    Connect { config, tls: None }
}

fn keyring(database: &str) -> Arc<Keyring> {
    Arc::new(Keyring::for_tests(&[7; 32], database, &[(1, "public.Users.email")]).unwrap())
}

/// A keeper that watches, its policy file, and what it told the desk.
async fn keeper(name: &str, poll: Duration) -> (Keeper, tempfile::TempDir, Arc<Mutex<Vec<Event>>>, String) {
    let database = database(name);
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let settings = Settings { connect: connect(&database), policy, poll };
    let keeper = Keeper::new(settings, keyring(&database)).unwrap();
    keeper.load().await.unwrap();
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = events.clone();
    keeper.watch(move |event| {
        told.lock().unwrap().push(event);
        std::future::ready(())
    });
    (keeper, folder, events, database)
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    for _ in 0..400 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("after 10 s still not: {what}");
}

#[tokio::test]
async fn the_schema_is_read_whole() {
    let database = database("load");
    let client = connect(&database).open(Arc::default()).await.unwrap();
    let schema = load(&client).await.unwrap();
    assert_eq!(schema.database, database);
    assert!(schema.server_version >= 150_000 && schema.system_identifier > 0);
    let users = schema.named("public", "Users").unwrap();
    assert_eq!(users.primary_key, [1]);
    let email = users.column("email").unwrap();
    assert_eq!((email.attnum, email.sealed, email.not_null, email.has_default), (3, Some(Kind::Varchar), true, false));
    assert!(users.column("nick").unwrap().has_default && users.column("gone").is_none());
    assert_eq!(schema.sealed_types[&(users.oid, 3)].to_string(), "character varying(320)");
    let mails = schema.named("public", "mails").unwrap();
    assert_eq!(mails.kind, RelKind::MatView);
    assert!(mails.columns[0].sealed_array && mails.reads == [users.oid]);
    let names2 = schema.named("public", "names2").unwrap();
    assert!(names2.reads.contains(&users.oid), "reads are transitive");
    assert_eq!(names2.column("nick").unwrap().source, Some((users.oid, 4)), "through a view of a view");
    let shapes = schema.named("public", "shapes").unwrap();
    let source = |name: &str| shapes.column(name).unwrap().source;
    assert_eq!((source("mail"), source("shout"), source("nick")), (Some((users.oid, 3)), None, Some((users.oid, 4))));
    assert_eq!(schema.named("public", "both_mails").unwrap().column("email").unwrap().source, None);
    assert_eq!(mails.columns[0].source, None);
    let parted = schema.named("public", "parted").unwrap();
    assert_eq!(parted.children, [schema.named("public", "parted_1").unwrap().oid]);
    assert!(schema.user_functions.contains("touch"));
    assert!(schema.roles.contains_key("app") && schema.roles["postgres"].superuser);
    assert!(schema.named("pg_catalog", "pg_class").is_none());
}

#[tokio::test]
async fn the_fingerprint_changes_with_ddl_and_not_with_data() {
    let database = database("fingerprint");
    let client = connect(&database).open(Arc::default()).await.unwrap();
    let mut last = fingerprint(&client).await.unwrap();
    own(&database, "insert into parted values (1); analyze parted");
    assert_eq!(fingerprint(&client).await.unwrap(), last, "data is not catalog");
    for ddl in [
        "create table fresh (a int)",
        "alter table fresh rename to older",
        "alter table older add column b text",
        "alter table older alter column b set not null",
        "create or replace view names as select id, nick, 1 as one from \"Users\"",
        "create function more() returns int language sql as 'select 1'",
        "drop table older",
        "create domain small as int check (value < 9)",
        "alter domain small add constraint positive check (value > 0)",
        "create type mood as enum ('calm')",
        "create function mood_text(mood) returns text language sql as 'select null::text'",
        "create cast (mood as text) with function mood_text(mood)",
        "alter table parted_1 alter k set default 3",
        "alter table parted_1 add check (k > 0)",
        "create function fire() returns trigger language plpgsql as 'begin return new; end'",
        "create trigger t before insert on parted_1 for each row execute function fire()",
        "alter table parted_1 disable trigger t",
        "create policy p on parted_1 using (more() > 0)",
        "create index on parted_1 ((k + 1))",
        "create rule r as on insert to parted_1 do also notify x",
        "create statistics s on (k + 1), k from parted_1",
    ] {
        own(&database, ddl);
        let now = fingerprint(&client).await.unwrap();
        assert_ne!(now, last, "{ddl}");
        last = now;
    }
}

#[tokio::test]
async fn ddl_is_seen_by_polling_by_notification_and_on_request() {
    let (keeper, _folder, _events, database) = keeper("fresh", Duration::from_millis(200)).await;
    let knows = |name: &str| keeper.rules().schema.named("public", name).is_some();
    own(&database, "create table polled (a int)");
    until("polled", || knows("polled")).await;
    let version = keeper.rules().version;
    assert!(version > 1 && *keeper.versions().borrow() == version);

    let (keeper, _folder, _events, database) = self::keeper("asked", Duration::from_secs(3_600)).await;
    let knows = |name: &str| keeper.rules().schema.named("public", name).is_some();
    assert!(keeper.refresh(Duration::from_secs(5)).await, "the first look-up connects");
    own(&database, "create table asked (a int)");
    assert!(keeper.refresh(Duration::from_secs(5)).await);
    assert!(knows("asked"), "a refresh that has ended has seen what was there before it");
    let sql = "create table told (a int); notify pgveil_catalog";
    own(&database, sql);
    until("told", || knows("told")).await;
    let before = keeper.rules().version;
    assert!(keeper.refresh(Duration::from_secs(5)).await);
    assert_eq!(keeper.rules().version, before, "nothing changed, nothing was swapped");
}

#[tokio::test]
async fn a_new_policy_is_swapped_in_and_a_bad_one_changes_nothing() {
    let (keeper, folder, events, _database) = keeper("policy", POLL).await;
    let file = folder.path().join("policy.toml");
    let treatment = || {
        let rules = keeper.rules();
        rules.class(rules.class_of("analyst")).treatment(1)
    };
    assert_eq!(treatment(), Treatment::Mask);
    std::fs::write(&file, format!("{POLICY}\n[roles.analyst]\nclearance = \"internal\"\nabove = \"null\"\n")).unwrap();
    until("the new policy", || treatment() == Treatment::Null).await;
    std::fs::write(&file, format!("{POLICY}\n[roles.analyst]\nclearence = \"restricted\"\n")).unwrap();
    let refused = |e: &Event| e.note.as_deref().is_some_and(|note| note.starts_with("policy refused"));
    until("the refusal", || events.lock().unwrap().iter().any(refused)).await;
    assert_eq!(treatment(), Treatment::Null, "the old rules stay");
    assert!(keeper.ready());
    std::fs::write(&file, POLICY).unwrap();
    until("the repaired policy", || treatment() == Treatment::Mask).await;
}

#[tokio::test]
async fn a_lost_control_connection_comes_back_and_rules_stay() {
    let (keeper, _folder, _events, database) = keeper("lost", Duration::from_millis(200)).await;
    assert!(keeper.refresh(Duration::from_secs(5)).await && keeper.ready());
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'");
    cluster().sql("postgres", &format!("alter database {database} allow_connections false")).unwrap();
    cluster().sql("postgres", &end).unwrap();
    until("not ready", || !keeper.ready()).await;
    assert!(keeper.rules().schema.named("public", "Users").is_some(), "the last rules stay in force");
    cluster().sql("postgres", &format!("alter database {database} allow_connections true")).unwrap();
    until("ready again", || keeper.ready()).await;
    own(&database, "create table later (a int)");
    until("later", || keeper.rules().schema.named("public", "later").is_some()).await;
}

#[tokio::test]
async fn a_catalog_that_contradicts_the_policy_is_not_ready_and_recovers() {
    let (keeper, _folder, events, database) = keeper("broken", Duration::from_millis(200)).await;
    let sql = |sql: &str| own(&database, sql);
    sql("alter table \"Users\" rename column email to mail");
    until("not ready", || !keeper.ready()).await;
    assert!(keeper.rules().schema.named("public", "Users").unwrap().column("email").is_some());
    let refusals = || events.lock().unwrap().iter().filter(|e| e.code.is_some()).count();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(refusals(), 1, "said once, not at every poll");
    sql("alter table \"Users\" rename column mail to email");
    until("ready again", || keeper.ready()).await;
}
