//! The access log in PostgreSQL: pgveil's own tables, and every durable record in them exactly once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgveil::audit;
use pgveil::catalog::Connect;
use pgveil::demo::cluster::{Cluster, free_port};
use pgveil::demo::leash::Leashed;
use pgveil::event::{Event, EventKind};
use pgveil::metrics::Meters;
use pgveil::secret::Key;
use pgveil::store::ship;
use tokio_postgres::Client;

use crate::support::{CANARY, Site, connect, http, keep_cluster, new_cluster};

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

const SHIP: &str = "[store]\nship = true\n";

/// Waits until everything that is in the log now is in PostgreSQL.
async fn until_copied(site: &Site, dir: &Path) {
    let wanted = last_event(dir);
    let sql = "select coalesce(max(seq), 0) from pgveil.access_log";
    for _ in 0..600 {
        let client = site.direct("pgveil").await;
        if client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) >= wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not copied after 30 s:\n{}", site.log());
}

fn logged(dir: &Path) -> Vec<(u64, Event)> {
    audit::events_since(dir, i64::MIN, u64::MAX).unwrap().0.collect()
}

fn last_event(dir: &Path) -> i64 {
    logged(dir).last().map_or(0, |(seq, _)| i64::try_from(*seq).unwrap())
}

/// Each event of the log is there, once, and says the same.
async fn assert_same(site: &Site, dir: &Path, log: i32) {
    let client = site.direct("pgveil").await;
    let sql = "select seq, kind, role, text, rows, (extract(epoch from at) * 1000000)::int8, encode(hash, 'hex')
        from pgveil.access_log where log = $1 order by seq";
    let copied = client.query(sql, &[&log]).await.unwrap();
    let logged = logged(dir);
    let seqs: Vec<i64> = logged.iter().map(|(seq, _)| i64::try_from(*seq).unwrap()).collect();
    assert_eq!(copied.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), seqs);
    let mut hashes = String::new();
    for file in std::fs::read_dir(dir).unwrap().flatten().filter(|f| f.file_name().to_str().unwrap().ends_with("jsonl"))
    {
        hashes.push_str(&std::fs::read_to_string(file.path()).unwrap());
    }
    for (row, (_, event)) in copied.iter().zip(&logged) {
        let kind = serde_json::to_value(event.kind).unwrap();
        assert_eq!(row.get::<_, &str>(1), kind.as_str().unwrap());
        assert_eq!(row.get::<_, Option<&str>>(2), event.actor.as_ref().map(|actor| actor.role.as_str()));
        assert_eq!(row.get::<_, Option<&str>>(3), event.action().text.as_deref());
        assert_eq!(row.get::<_, i64>(4), i64::try_from(event.rows).unwrap());
        assert_eq!(row.get::<_, i64>(5), event.at_us);
        assert!(hashes.contains(&format!("\"hash\":\"{}\"", row.get::<_, &str>(6))), "a record's hash");
    }
    let counted = client.query_one("select events from pgveil.shipped where log = $1", &[&log]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), i64::try_from(logged.len()).unwrap());
    let gaps = client.query_one("select count(*) from pgveil.ship_gaps", &[]).await.unwrap();
    assert_eq!(gaps.get::<_, i64>(0), 0);
}

/// Statements about people, under way until the connection dies.
async fn load(client: Client) {
    for n in 0.. {
        let id = n % 20;
        if client.query("select name, email from people where id = $1", &[&id]).await.is_err() {
            return;
        }
    }
}

async fn fill(site: &Site) {
    let app = site.client("app").await;
    for n in 0..20 {
        let insert = "insert into people (id, email, name) values ($1, $2, $3)";
        app.execute(insert, &[&n, &format!("p{n}.{CANARY}@example.org"), &format!("P{n} {CANARY}")]).await.unwrap();
    }
}

#[tokio::test]
async fn every_record_arrives_once_over_kill_9_and_a_server_that_goes_away() {
    let server: &'static Cluster = Box::leak(Box::new(new_cluster()));
    keep_cluster(server);
    let mut site = Site::new("shipped").on(server).schema(SCHEMA).policy(POLICY).config(SHIP).start();
    let dir = site.audit_dir();
    fill(&site).await;
    until_copied(&site, &dir).await;
    assert!(site.metric("pgveil_shipped_records_total", "") > 20.0);
    for round in 0..4u64 {
        let readers = [tokio::spawn(load(site.client("app").await)), tokio::spawn(load(site.client("app").await))];
        let before = last_event(&dir);
        let enough = before + 200;
        for _ in 0..600 {
            if last_event(&dir) >= enough {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match round % 2 {
            0 => site.kill(),
            _ => server.stop().unwrap(),
        }
        for reader in readers {
            reader.await.unwrap();
        }
        match round % 2 {
            0 => site.serve(),
            _ => {
                // A login that fails is a record, and PostgreSQL is not there to take it.
                connect(&site.url("app")).await.expect_err("no server, no login");
                until(|| site.metric("pgveil_ship_errors_total", "") > 0.0).await;
                until(|| site.metric("pgveil_ship_lag_records", "") > 0.0).await;
                server.resume().unwrap();
            }
        }
        until_copied(&site, &dir).await;
        assert_same(&site, &dir, 1).await;
    }
    until(|| site.metric("pgveil_ship_lag_records", "") == 0.0).await;
    site.terminate();
    until_copied(&site, &dir).await;
    assert_same(&site, &dir, 1).await;
    // In two parts, for the server logs what it is asked.
    let (head, tail) = CANARY.split_at(4);
    let found = site.sql(&format!(
        "select count(*) from pgveil.access_log l where l::text like concat('%', '{head}', '{tail}', '%')"
    ));
    assert_eq!(found, "0", "no value is in our tables");
}

async fn until(done: impl Fn() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not after 30 s");
}

#[tokio::test]
async fn two_proxies_ship_side_by_side_and_one_waits_for_apply() {
    let mut site = Site::new("side").schema(SCHEMA).policy(POLICY).config(SHIP).prepare();
    let without = std::fs::read_to_string(site.path("pgveil.toml")).unwrap().replace("ship = true", "ship = false");
    let (first, port, admin) = (site.port().to_string(), free_port().unwrap(), site.admin_port().to_string());
    let others = std::iter::repeat_with(|| free_port().unwrap());
    let second_admin = others.take(100).find(|other| *other != port).unwrap();
    let second = without
        .replace("ship = false", "ship = true")
        .replace(&format!(":{first}\""), &format!(":{port}\""))
        .replace(&format!(":{admin}\""), &format!(":{second_admin}\""))
        .replace("dir = \"audit\"", "dir = \"audit2\"");
    site.write("second.toml", &second);
    site.write("without.toml", &without);
    let mut apply = std::process::Command::new(env!("CARGO_BIN_EXE_pgveil"));
    let applied = apply.current_dir(site.path(".")).args(["apply", "--config", "without.toml"]).output().unwrap();
    assert!(applied.status.success(), "{applied:?}");
    site.serve();
    until(|| site.log().contains("run `pgveil apply`")).await;
    fill(&site).await;
    site.pgveil_ok(&["apply"]);
    until_copied(&site, &site.audit_dir()).await;

    let mut serve = std::process::Command::new(env!("CARGO_BIN_EXE_pgveil"));
    let log = std::fs::File::create(site.path("second.log")).unwrap();
    serve.current_dir(site.path(".")).args(["serve", "--config", "second.toml"]);
    serve.stdout(log.try_clone().unwrap()).stderr(log);
    let _second = Leashed::spawn(&mut serve).unwrap();
    until(|| http(second_admin, "/readyz").is_some_and(|(status, _)| status == 200)).await;
    let url = site.url("app").replace(&format!(":{first}/"), &format!(":{port}/"));
    let (one, two) = (site.client("app").await, connect(&url).await.unwrap());
    for n in 0..10 {
        for client in [&one, &two] {
            client.query("select name from people where id = $1", &[&n]).await.unwrap();
        }
    }
    let logs = [site.audit_dir(), site.path("audit2")];
    let client = site.direct("pgveil").await;
    for (log, dir) in (1..).zip(&logs) {
        let log: i32 = log;
        for _ in 0..600 {
            let newest = "select coalesce(max(seq), 0) from pgveil.access_log where log = $1";
            if client.query_one(newest, &[&log]).await.unwrap().get::<_, i64>(0) >= last_event(dir) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_same(&site, dir, log).await;
    }
    let people = "select count(distinct user_id), count(distinct id) = count(*) from pgveil.data_access_logs where user_id is not null";
    assert_eq!(site.sql(people), "20\tt");
}

/// A login at that time.
fn login(at_us: i64, text: &str) -> Event {
    let mut event = Event::new(EventKind::Login, at_us);
    event.note = Some(text.to_owned());
    event
}

#[tokio::test]
async fn partitions_are_made_where_months_begin_and_odd_text_holds_nothing_up() {
    let site = Site::new("months").schema(SCHEMA).policy(POLICY).config(SHIP).prepare();
    site.pgveil_ok(&["apply"]);
    let us = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
    let dir = site.path("made");
    let (mut log, _) = audit::open(&audit::Settings::new(&dir), Key::new([7; 32]), &[1; 16], 1).unwrap();
    let events = [
        login(us("2026-12-31T23:59:59.999999Z"), "old"),
        login(us("2027-01-01T00:00:00Z"), "new"),
        login(us("2027-01-31T23:59:59Z"), "zero \0 byte"),
        login(i64::MIN, "before"),
        login(i64::MAX, "after"),
    ];
    events.iter().for_each(|event| log.append(event));
    log.close(2).unwrap();
    let settings = || ship::Settings {
        connect: Connect { config: site.direct_url("pgveil").parse().unwrap(), tls: None },
        dir: dir.clone(),
        deployment: [1; 16],
        copied: Default::default(),
    };
    let meters = Arc::new(Meters::detached());
    assert_eq!(ship::catch_up(settings(), meters.clone(), &mut |_| ()).await.unwrap(), 5);
    assert_eq!(ship::catch_up(settings(), meters.clone(), &mut |_| ()).await.unwrap(), 0, "each once");
    let rows = "select tableoid::regclass::text || ' ' || note from pgveil.access_log order by seq";
    assert_eq!(
        site.sql(rows).lines().collect::<Vec<_>>(),
        [
            "pgveil.access_log_2026_12 old",
            "pgveil.access_log_2027_01 new",
            "pgveil.access_log_2027_01 zero ? byte",
            "pgveil.access_log_1970_01 before",
            "pgveil.access_log_9999_12 after"
        ]
    );
    let theirs = "select count(*) from pg_class c, aclexplode(relacl) a
        where relnamespace = 'pgveil'::regnamespace and relname ~ '^access' and a.grantee = 0";
    assert_eq!(site.sql(theirs), "0");
    // The copy of another log is not mixed with it.
    std::fs::write(dir.join("instance"), format!("{:032x}\n", 5)).unwrap();
    assert_eq!(ship::catch_up(settings(), meters.clone(), &mut |_| ()).await.unwrap(), 5);
    assert_eq!(site.sql("select count(*), count(distinct log) from pgveil.access_log"), "10\t2");
    let other = site.path("other");
    let (mut log, _) = audit::open(&audit::Settings::new(&other), Key::new([7; 32]), &[1; 16], 3).unwrap();
    (0..50).for_each(|_| log.append(&events[0]));
    log.close(4).unwrap();
    std::fs::copy(dir.join("instance"), other.join("instance")).unwrap();
    let taken = ship::Settings { dir: other, ..settings() };
    let said = ship::catch_up(taken, meters, &mut |_| ()).await.unwrap_err().to_string();
    assert!(said.contains("not the one that was copied before"), "{said}");
}

#[tokio::test]
async fn records_that_are_gone_before_their_turn_are_noted() {
    let site = Site::new("gone").schema(SCHEMA).policy(POLICY).config(SHIP).prepare();
    site.pgveil_ok(&["apply"]);
    let dir = site.path("made");
    let settings = audit::Settings { segment_bytes: 2_000, ..audit::Settings::new(&dir) };
    let (mut log, _) = audit::open(&settings, Key::new([7; 32]), &[1; 16], 1).unwrap();
    for number in 0..60 {
        log.append(&login(number, "in order"));
        log.sync(2).unwrap();
    }
    log.close(3).unwrap();
    let ship = || {
        let connect = Connect { config: site.direct_url("pgveil").parse().unwrap(), tls: None };
        let settings = ship::Settings { connect, dir: dir.clone(), deployment: [1; 16], copied: Default::default() };
        async move { ship::catch_up(settings, Arc::new(Meters::detached()), &mut |_| ()).await.unwrap() }
    };
    std::fs::remove_file(dir.join("access-00000002.jsonl")).unwrap();
    let copied = ship().await;
    assert!(copied > 20 && copied < 60, "{copied}");
    let logged = logged(&dir);
    assert_eq!(usize::try_from(copied).unwrap(), logged.len());
    let missing = logged.windows(2).find(|two| two[1].0 > two[0].0 + 5).map(|two| (two[0].0, two[1].0)).unwrap();
    let noted = site.sql("select first_seq || ' ' || last_seq from pgveil.ship_gaps");
    let (first, last) = noted.split_once(' ').unwrap();
    let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
    assert!(missing.0 < first && first < last && last < missing.1, "{missing:?} {noted}");
    assert_eq!(ship().await, 0);
    assert_eq!(site.sql("select count(*) from pgveil.ship_gaps"), "1");
}
