//! "Who saw Alice's data", asked of a log of EVENTS events: `make who EVENTS=10000000`.
//!
//! A log is written by the real writer, ninety days of a thousand accounts reading of a hundred thousand people; copied into a
//! private PostgreSQL by the real shipper; and asked, through the table's index, through the view, and from the files.
//! EVENTS needs about 1.5 KB of disk each, below TMPDIR.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for whoever reads it")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgveil::audit::{self, Search, Tables};
use pgveil::catalog::Connect;
use pgveil::clock::Now;
use pgveil::demo::cluster::{Binaries, Cluster};
use pgveil::event::{
    Access, Action, Actor, ActorAuth, Event, EventKind, Part, Pseudonym, Shown, Subject, Subjects, Touch,
};
use pgveil::metrics::Meters;
use pgveil::secret::Key;
use pgveil::store::{self, Store, ship};

const DAYS: i64 = 90;
const ACCOUNTS: u64 = 1_000;
const PEOPLE: u64 = 100_000;

fn main() {
    let count: u64 = std::env::var("EVENTS").map_or(1_000_000, |text| text.parse().expect("EVENTS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("audit");
    let now_us = Now::read().unix_us;
    let written = timed(|| write(&dir, count, now_us));
    let size: u64 = std::fs::read_dir(&dir).unwrap().flatten().map(|file| file.metadata().unwrap().len()).sum();
    println!("{count} events written: {} a second, {} bytes each", per_second(count, written), size / count);

    let conf = "max_wal_size = 4GB\nshared_buffers = 256MB\n";
    let cluster = Cluster::start(&Binaries::find().unwrap(), conf, "").unwrap();
    let password = "measured";
    let sql = format!("create role pgveil login password '{password}'; create schema pgveil authorization pgveil");
    cluster.sql("postgres", &sql).unwrap();
    let url = format!("postgresql://pgveil:{password}@127.0.0.1:{}/postgres", cluster.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&url, &dir, count, now_us));
    cluster.stop().unwrap();
}

async fn measure(url: &str, dir: &Path, count: u64, now_us: i64) {
    let connect = Connect { config: url.parse().unwrap(), tls: None };
    let client = connect.open(Arc::default()).await.unwrap();
    let policy = "version = 1\n[tables.\"public.people\"]\nsubject = { kind = \"person\", key = \"id\" }\n\
         [tables.\"public.people\".columns]\nname = { level = \"internal\", data = \"pii\" }\n\
         [roles.app]\nclearance = \"internal\"\n";
    let policy = pgveil::policy::parse(&[("policy".to_owned(), policy.to_owned())]).unwrap();
    for (_, statement) in store::pending(&client, &policy).await.unwrap() {
        client.batch_execute(&statement).await.unwrap();
    }
    let settings = ship::Settings {
        connect: connect.clone(),
        dir: dir.to_owned(),
        deployment: [1; 16],
        copied: Default::default(),
    };
    let begun = Instant::now();
    let copied = ship::catch_up(settings, Arc::new(Meters::detached()), &mut |_| ()).await.unwrap();
    assert_eq!(copied, count);
    println!("copied into PostgreSQL: {} a second", per_second(count, begun.elapsed()));
    let size = "select pg_size_pretty(sum(pg_total_relation_size(oid))) from pg_class
        where relnamespace = 'pgveil'::regnamespace and relkind = 'r'";
    println!("tables and indexes: {}", client.query_one(size, &[]).await.unwrap().get::<_, &str>(0));
    client.batch_execute("analyze").await.unwrap();

    let tables = Tables { theirs: vec!["public.people".into()], known: vec!["public.people".into()] };
    let search = |person: u64, days: i64| Search {
        people: vec![pseudonym(person)],
        since_us: now_us - days * 86_400_000_000,
        limit: 100,
        tables: tables.clone(),
    };
    let store = Store::new(connect);
    for (what, days) in [("ninety days", DAYS), ("one week", 7)] {
        let mut took = Vec::new();
        for person in 0..21 {
            let begun = Instant::now();
            let found = store::who_saw(&store, &search(person * 4_001, days)).await.unwrap();
            took.push((begun.elapsed(), found.total, found.unknown.events));
        }
        took.sort();
        let (middle, worst) = (took[10], took[20]);
        println!(
            "who-saw by index, {what}: median {:.1} ms, worst {:.1} ms ({} accesses, {} statements not known whose)",
            ms(middle.0),
            ms(worst.0),
            middle.1,
            middle.2
        );
    }
    let view = "select accessor_id, access_type, timestamp from pgveil.data_access_logs
        where user_id = (select pseudonym from pgveil.access_subjects limit 1) order by timestamp";
    let begun = Instant::now();
    let rows = client.query(view, &[]).await.unwrap().len();
    println!("SQL, the view: {:.1} ms ({rows} rows)", ms(begun.elapsed()));
    let begun = Instant::now();
    let found = audit::who_saw(dir, &search(4_001, DAYS), &mut |_, _| ()).unwrap();
    println!("who-saw from the log's files: {:.2} s ({} accesses)", begun.elapsed().as_secs_f64(), found.total);
}

fn write(dir: &Path, count: u64, now_us: i64) {
    let (mut log, _) = audit::open(&audit::Settings::new(dir), Key::new([7; 32]), &[1; 16], now_us).unwrap();
    let actors: Vec<Part<Actor>> = (0..ACCOUNTS).map(|number| actor(number).into()).collect();
    let columns = ["id", "name", "email"];
    let touch = |column: &str| Touch { relation: "public.people".into(), column: column.into(), shown: Shown::Clear };
    let action: Part<Action> = Action {
        fingerprint: Some("00f1e2d3c4b5a697".into()),
        text: Some("select id, name, email from people where id = $1".into()),
        access: Access::Read,
        touches: columns.iter().map(|column| touch(column)).collect(),
        ..Action::none()
    }
    .into();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = i64::try_from(u128::from(number) * 86_400_000_000 * DAYS as u128 / u128::from(count)).unwrap();
        let mut event = Event::new(EventKind::Statement, now_us - DAYS * 86_400_000_000 + share);
        event.connection = number % 500;
        event.statement = number;
        event.actor = Some(actors[((dice >> 33) % ACCOUNTS) as usize].clone());
        event.action = Some(action.clone());
        event.rules_version = 3;
        event.duration_us = 400;
        // One in fifty reads twenty people at once; one in a hundred does not know whom.
        let people = if number % 50 == 0 { 20 } else { 1 };
        event.rows = people;
        if number % 100 == 7 {
            event.subjects = Subjects { unknown_rows: 1, ..Subjects::default() };
        } else {
            let first = (dice >> 20) % PEOPLE;
            let person = |n| Subject { kind: "person".into(), pseudonym: pseudonym((first + n * 7) % PEOPLE) };
            event.subjects = Subjects { known: (0..people).map(person).collect(), ..Subjects::default() };
        }
        log.append(&event);
        if number % 1_000 == 999 {
            log.sync(now_us + i64::try_from(number).unwrap()).unwrap();
        }
    }
    log.close(now_us).unwrap();
}

fn actor(number: u64) -> Actor {
    Actor {
        role: format!("clinician_{number}"),
        database: "hospital".to_owned(),
        auth: ActorAuth::ScramSha256,
        certificate: None,
        application: "ward round".to_owned(),
        client: Some([10, 0, (number / 250) as u8, (number % 250) as u8].into()),
        purpose: Some("care".to_owned()),
        purpose_by: None,
        person: None,
    }
}

/// As scattered as a keyed hash.
fn pseudonym(person: u64) -> Pseudonym {
    let half = |salt: u64| {
        let mixed = (person ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u128::from((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9))
    };
    Pseudonym(half(0x51) << 64 | half(0xa7_0000_0000))
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn per_second(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}
