//! A thousand canaries go in through every path; then everything anybody else could read is searched for them.

use std::fs;
use std::pin::pin;
use std::process::Command;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Client;

use crate::scenario::site;
use crate::support::{CANARY, Site, Wire, cluster, find_in_files, frame, memmem, new_cluster, repository, server_log};

/// The n-th canary; all of them contain [`CANARY`].
fn canary(n: usize) -> String {
    format!("{CANARY}-{n:04}-{:08x}", (n as u32).wrapping_mul(2_654_435_761))
}

fn email(n: usize) -> String {
    format!("{}@example.org", canary(n))
}

/// Writes people 0 to 999, a hundred by each path; name and email are canaries.
async fn write(app: &Client) {
    let insert = "insert into people (id, email, name) values ($1, $2, $3)";
    let prepared = app.prepare(insert).await.unwrap();
    for n in 0..100 {
        app.execute(&prepared, &[&(n as i32), &email(n), &canary(n)]).await.unwrap();
    }
    for n in 100..200 {
        let sql = format!("insert into people (id, email, name) values ({n}, '{}', E'{}')", email(n), canary(n));
        app.batch_execute(&sql).await.unwrap();
    }
    let rows: Vec<String> = (200..300).map(|n| format!("({n}, '{}', $${}$$)", email(n), canary(n))).collect();
    app.batch_execute(&format!("insert into people (id, email, name) values {}", rows.join(", "))).await.unwrap();
    for (range, format) in [(300..400, "text"), (400..500, "csv")] {
        let separator = if format == "csv" { "," } else { "\t" };
        let text: String = range.map(|n| format!("{n}{separator}{}{separator}{}\n", email(n), canary(n))).collect();
        let copy = format!("copy people (id, email, name) from stdin (format {format})");
        let mut sink = pin!(app.copy_in(copy.as_str()).await.unwrap());
        sink.send(Bytes::from(text)).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 100);
    }
    for n in 500..600 {
        app.execute("insert into people (id, email) values ($1, $2)", &[&(n as i32), &format!("{n}@kanarie")])
            .await
            .unwrap();
        let update = "update people set (email, name) = ($1, $2) where email = $3";
        assert_eq!(app.execute(update, &[&email(n), &canary(n), &format!("{n}@kanarie")]).await.unwrap(), 1);
    }
    for n in 600..700 {
        let upsert = format!("{insert} on conflict (email) do update set name = excluded.name");
        app.execute(&upsert, &[&(n as i32), &email(n), &"kanarie first"]).await.unwrap();
        app.execute(&upsert, &[&(n as i32 + 10_000), &email(n), &canary(n)]).await.unwrap();
    }
    let cast = "insert into people (id, email, name) values ($1, $2::varchar, coalesce($3, $4)::text)";
    for n in 700..800 {
        app.execute(cast, &[&(n as i32), &email(n), &None::<&str>, &canary(n)]).await.unwrap();
    }
    for n in 800..900 {
        let with = "with v as (select 1) insert into people (id, email, name) values ($1, $2, $3) returning name";
        let row = app.query_one(with, &[&(n as i32), &email(n), &canary(n)]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), canary(n));
    }
    let multi: String = (900..1000)
        .map(|n| format!("insert into people (id, email, name) values ({n}, U&'{}', '{}');", email(n), canary(n)))
        .collect();
    app.batch_execute(&multi).await.unwrap();
}

/// Errors are where values like to hide: in DETAIL, in the server's log, in ours.
async fn provoke(site: &Site, app: &Client, analyst: &Client) {
    let (one, text) = (email(1), canary(1));
    for sql in [
        format!("insert into people (id, email) values (1, '{one}')"),
        format!("insert into people (id, email) values (5000, '{one}')"),
        format!("insert into people (id, email, born) values (5000, 'x{one}', '{text}')"),
        format!("insert into people (id, email, visits) values (5000, 'x{one}', '{text}')"),
        format!("insert into people (id, email) values (5000, '{}')", text.repeat(9)),
        format!("select * from people where upper(name) = '{text}'"),
        format!("select * from people where name < '{text}'"),
        format!("select * from people where email like '{text}%'"),
        format!("select * from people where email = lower('{one}')"),
        format!("select * from people where email = '{one}' and nothing = 1"),
        format!("select '{text}' from people where email = '{one}' and syntax error here"),
        format!("select * from people where email = E'{text}"),
        format!("do $$ begin perform * from people where email = '{one}'; end $$"),
        format!("prepare q as select * from people where email = $1; execute q('{one}')"),
        format!("insert into people (id, email) select 5000, '{text}' || 'x'"),
    ] {
        let done = app.simple_query(&sql).await;
        if let Err(error) = done {
            let detail = error.as_db_error().map(|e| format!("{e:?}")).unwrap_or_default();
            assert!(!detail.contains(&text), "{sql}: the error repeats the value: {detail}");
        }
        let _ = analyst.simple_query(&sql).await;
    }
    let _ = app.query("select * from people where name > $1", &[&text]).await;
    let _ = app.execute("insert into people (id, email) values (1, $1)", &[&one]).await;
    let mut sink = pin!(app.copy_in::<_, Bytes>("copy people (id, email, born) from stdin").await.unwrap());
    sink.send(Bytes::from(format!("7000\t{one}\t{text}\n"))).await.unwrap();
    assert!(sink.finish().await.is_err());
    assert!(site.log().len() < 10_000_000);
}

#[tokio::test]
async fn a_thousand_canaries_stay_inside() {
    let site = site("leak");
    let (app, analyst) = (site.client("app").await, site.client("analyst").await);
    write(&app).await;
    provoke(&site, &app, &analyst).await;
    let rows = app.query("select id, email, name from people order by id", &[]).await.unwrap();
    assert_eq!(rows.len(), 1_000);
    for (n, row) in rows.iter().enumerate() {
        assert_eq!((row.get(1), row.get(2)), (email(n).as_str(), canary(n).as_str()));
    }
    let dump = Command::new(cluster().binaries().program("pg_dump")).arg(site.direct_url("pgveil")).output().unwrap();
    assert!(dump.status.success() && memmem(&dump.stdout, b"\\xfed1"));
    assert!(!memmem(&dump.stdout, CANARY.as_bytes()), "a canary is in the dump");
    search_server();
    let log = server_log(&site.database);
    assert!(
        log.contains("insert into people") && log.contains("COPY") | log.contains("copy"),
        "the server logs statements"
    );
    let leak = log.lines().find(|line| line.to_lowercase().contains(CANARY));
    assert_eq!(leak, None, "a canary is in the server's log");
    fs::write(site.path("metrics.txt"), site.metrics()).unwrap();
    assert!(fs::read_dir(site.audit_dir()).unwrap().count() > 0);
    site.assert_no_canary();
}

/// Everything the server has: tables, WAL, statistics, its log. The files as a clean stop leaves them are searched when
/// `make test` ends.
fn search_server() {
    let hexed = hex::encode(CANARY);
    let needles: [&[u8]; 2] = [CANARY.as_bytes(), hexed.as_bytes()];
    // Before the checkpoint, which makes WAL superfluous, and after it, when everything is in its own file.
    cluster().sql("postgres", "select pg_switch_wal()").unwrap();
    assert_eq!(find_in_files(&cluster().data().join("pg_wal"), &needles), None, "a canary is in the WAL");
    cluster().sql("postgres", "checkpoint").unwrap();
    assert_eq!(find_in_files(&cluster().data(), &needles), None, "a canary is in the server's files");
}

#[test]
fn what_is_written_past_pgveil_is_found() {
    let server = new_cluster();
    let found = |dir: &str| find_in_files(&server.data().join(dir), &[b"red herring"]);
    assert_eq!(found(""), None);
    server.sql("postgres", "create table t as select 'red ' || 'herring' as v; select pg_switch_wal()").unwrap();
    assert!(found("pg_wal").is_some(), "the WAL is searched");
    server.sql("postgres", "checkpoint").unwrap();
    assert!(found("base").is_some(), "the tables are searched");
    server.sql("postgres", "select 'red herring'").unwrap();
    assert!(memmem(&fs::read(server.log_file()).unwrap(), b"red herring"), "the log has every statement");
}

/// A run as `.ci/canaries` finds it, with `word` in the file `place`; what the script said and whether it was content.
fn whole_run(place: &str, word: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let (server, run) = (folder.path().join("server"), folder.path().join("run"));
    let make = "set -e; mkdir -p \"$0/data/base/1\" \"$0/data/pg_wal\" \"$PGVEIL_TEST_KEEP/pgveil-site-1/audit\"
        ln -s \"$0\" \"$PGVEIL_TEST_KEEP/pgveil-pg-1\"
        cd \"$PGVEIL_TEST_KEEP\"
        for file in pgveil-pg-1/data/server.log pgveil-pg-1/data/base/1/2 pgveil-pg-1/data/pg_wal/3 \\
            pgveil-site-1/proxy.1.log pgveil-site-1/metrics.txt pgveil-site-1/audit/4; do echo something >$file; done
        if [ \"$2\" = missing ]; then rm \"$1\"; else echo \"$2\" >>\"$1\"; fi";
    let mut script = Command::new(repository().join(".ci/canaries"));
    script.arg(&run).args(["sh", "-c", make]).arg(&server).args([place, word]);
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(server.exists(), said.contains("should be sealed"), "only what was found stays: {said}");
    (output.status.success(), said)
}

#[test]
fn the_search_of_the_whole_run_finds_what_is_planted() {
    let places = [
        "pgveil-pg-1/data/server.log",
        "pgveil-pg-1/data/base/1/2",
        "pgveil-pg-1/data/pg_wal/3",
        "pgveil-site-1/proxy.1.log",
        "pgveil-site-1/metrics.txt",
        "pgveil-site-1/audit/4",
    ];
    let (content, said) = whole_run(places[0], "nothing");
    assert!(content, "{said}");
    let (content, said) = whole_run("no-such-folder/file", "nothing");
    assert!(!content, "the command's own failure counts: {said}");
    for place in places {
        for word in [CANARY.to_owned(), format!("a{}b", CANARY.to_uppercase()), hex::encode(CANARY)] {
            let (content, said) = whole_run(place, &word);
            assert!(!content && said.contains(place), "{place}, {word}: {said}");
        }
        let (content, said) = whole_run(place, "missing");
        assert!(!content && said.contains("nothing like"), "{place}: {said}");
    }
}

#[test]
fn copy_data_sent_before_it_is_asked_for_is_sealed() {
    let site = site("early_copy");
    let row = |n: usize| format!("{n}\t{}\t{}\n", email(n), canary(n));
    for n in 0..20 {
        let mut wire = Wire::login(site.port(), "app", &site.database);
        // All in one write: the data is here before the server has seen the statement.
        let simple =
            [frame(b'Q', b"copy people (id, email, name) from stdin\0"), frame(b'd', row(n).as_bytes())].concat();
        wire.send(&[simple, frame(b'c', b"")].concat());
        let tags: Vec<u8> = wire.until_ready().iter().map(|f| f.tag).collect();
        assert_eq!(tags, b"GCZ", "{n}");
        let parse = frame(b'P', b"\0copy people (id, email, name) from stdin\0\0\0");
        let run = [parse, frame(b'B', &[0; 8]), frame(b'E', &[0; 5])].concat();
        wire.send(&[run, frame(b'd', row(n + 100).as_bytes()), frame(b'c', b""), frame(b'S', b"")].concat());
        let tags: Vec<u8> = wire.until_ready().iter().map(|f| f.tag).collect();
        assert_eq!(tags, b"12GCZ", "{n}");
        // A statement that fails leaves the data to nobody, and the session alive.
        let wrong = frame(b'Q', b"copy people (id, nothing) from stdin\0");
        wire.send(&[wrong, frame(b'd', row(n).as_bytes()), frame(b'c', b"")].concat());
        assert_eq!(wire.until_ready().iter().map(|f| f.tag).collect::<Vec<_>>(), b"EZ");
        wire.message(b'Q', b"select count(*) from people\0");
        assert_eq!(wire.until_ready().iter().map(|f| f.tag).collect::<Vec<_>>(), b"TDCZ");
    }
    assert_eq!(site.sql("select count(*) from people where substr(email::bytea, 1, 2) = '\\xfed1'"), "40");
    let log = server_log(&site.database);
    assert_eq!(log.lines().find(|line| line.contains(CANARY)), None, "a canary is in the server's log");
}
