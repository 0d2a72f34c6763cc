//! Stolen, moved, tampered and look-alike envelopes; logins without proof.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::support::{Frame, Site, Wire, bind, connect, memmem, parse, query, run, sync};

const SCHEMA: &str = "
    create table patients (id int primary key, email varchar(80) unique, name text, photo bytea);
    create table files (id int primary key, content bytea, note text);";

const POLICY: &str = r#"
version = 1
[tables."public.patients"]
subject = { kind = "patient", key = "id" }
[tables."public.patients".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
photo = { level = "restricted", as = "bytea", encrypt = "randomized", mask = "null" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
"#;

const NAME: &str = "Ada kanarie";
const EMAIL: &str = "ada.kanarie@example.org";

/// A site with one patient in it.
async fn site(name: &str) -> (Site, Client) {
    let site = Site::new(name).schema(SCHEMA).policy(POLICY).start();
    let app = site.client("app").await;
    let insert = "insert into patients values ($1, $2, $3, $4)";
    app.execute(insert, &[&1, &EMAIL, &NAME, &b"\x89PNG kanarie".as_slice()]).await.unwrap();
    app.execute(insert, &[&2, &"bob.kanarie@example.org", &"Bob kanarie", &None::<&[u8]>]).await.unwrap();
    (site, app)
}

/// The bytes on disk of one cell of patient 1.
fn stolen(site: &Site, column: &str) -> Vec<u8> {
    let text = site.sql(&format!("select encode({column}::bytea, 'hex') from patients where id = 1"));
    let bytes = hex::decode(text).unwrap();
    assert!(bytes.starts_with(&[0xfe, 0xd1, 0x01]));
    bytes
}

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned())
}

fn message(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(String::new, |e| format!("{} {}", e.message(), e.detail().unwrap_or_default()))
}

#[tokio::test]
async fn an_envelope_moved_to_another_column_does_not_open() {
    let (site, app) = site("moved").await;
    site.sql("update patients set name = email::bytea where id = 1");
    let error = app.query("select name from patients where id = 1", &[]).await.unwrap_err();
    assert_eq!(code(&error), "XX001", "{error:?}");
    assert!(!message(&error).contains("kanarie"));
    let error = app.simple_query("select id, name from patients order by id").await.unwrap_err();
    assert_eq!(code(&error), "XX001", "{error:?}");
    // The session goes on, and so does the rest of the table.
    let row = app.query_one("select name from patients where id = 2", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "Bob kanarie");
    assert!(site.metric("pgveil_open_errors_total", "") >= 2.0, "{}", site.metrics());
    drop(app);
    assert!(site.events().iter().any(|event| event["kind"] == "tamper"), "the access log has a tamper event");
}

#[tokio::test]
async fn one_flipped_bit_anywhere_is_an_error() {
    let (site, app) = site("flipped").await;
    let envelope = stolen(&site, "name");
    for byte in (3..envelope.len()).chain([2]) {
        let mut flipped = envelope.clone();
        flipped[byte] ^= 1 << (byte % 8);
        // Header bits may make it no envelope at all; then the domain's CHECK refuses it, which is as good.
        let update = format!("update patients set name = '\\x{}' where id = 1", hex::encode(&flipped));
        let written = crate::support::cluster().sql(&site.database, &update);
        if written.is_err() {
            assert!(byte < 8, "byte {byte} was refused by CHECK");
            continue;
        }
        let error = app.query("select name from patients where id = 1", &[]).await.expect_err(&format!("byte {byte}"));
        assert_eq!(code(&error), "XX001", "byte {byte}: {error:?}");
    }
}

#[tokio::test]
async fn what_a_pipeline_wrote_is_undone_when_a_cell_of_it_does_not_open() {
    let (site, _app) = site("undone").await;
    site.sql("update patients set name = email::bytea where id = 1");
    let mut wire = Wire::login(site.port(), "app", &site.database);
    // Bind, Execute and Parse of one statement each, without Sync.
    let step = |sql: &str| [parse(b"", sql.as_bytes()), bind(b"", b"", &[]), run(b"")].concat();
    let (insert, read) = ("insert into files (id) values (7)", "select name from patients where id = 1");
    let saved = [query("begin"), step("savepoint s"), step(insert), step(read), sync(), query("commit")].concat();
    let cases: [(&str, Vec<u8>, usize); 5] = [
        ("in a block that goes on", saved, 3),
        ("alone", [step(insert), step(read), sync()].concat(), 1),
        ("behind a COMMIT", [query("begin"), step("commit"), step(insert), step(read), sync()].concat(), 2),
        ("behind a pipeline", [query("begin"), step("commit"), sync(), step(insert), step(read), sync()].concat(), 3),
        ("behind a Query", [query("begin"), query("commit"), step(insert), step(read), sync()].concat(), 3),
    ];
    for (name, messages, readies) in cases {
        // The first answer is in before the rest is sent: the session knows of the block.
        let (first, rest) =
            if name == "alone" { (&[][..], &messages[..]) } else { messages.split_at(query("begin").len()) };
        if !first.is_empty() {
            wire.send(first);
            wire.until_ready();
        }
        wire.send(rest);
        let said: Vec<Frame> = (usize::from(!first.is_empty())..readies).flat_map(|_| wire.until_ready()).collect();
        let codes: Vec<_> = said.iter().filter(|f| f.tag == b'E').filter_map(|f| f.field(b'C')).collect();
        assert_eq!(codes, ["XX001"], "{name}: {said:?}");
        assert_eq!(site.sql("select count(*) from files"), "0", "{name}");
    }
}

#[tokio::test]
async fn a_stolen_envelope_in_a_plain_column_stays_what_it_is() {
    let (site, app) = site("plain").await;
    for (id, column) in ["email", "name", "photo"].iter().enumerate() {
        let envelope = stolen(&site, column);
        site.sql(&format!("insert into files values ({id}, '\\x{}', 'stolen')", hex::encode(&envelope)));
        let id = i32::try_from(id).unwrap();
        let row = app.query_one("select content from files where id = $1", &[&id]).await.unwrap();
        assert_eq!(row.get::<_, Vec<u8>>(0), envelope, "{column}: not opened, not an error");
        let text =
            app.simple_query(&format!("select content, content::text from files where id = {id}")).await.unwrap();
        assert!(!memmem(format!("{text:?}").as_bytes(), b"kanarie"));
    }
    let whole = app.simple_query("select to_json(f), f::text from files f").await;
    assert!(!format!("{whole:?}").contains("kanarie"));
}

#[tokio::test]
async fn a_client_cannot_send_an_envelope() {
    let (site, app) = site("inbound").await;
    let analyst = site.client("analyst").await;
    for column in ["email", "name", "photo"] {
        let envelope = stolen(&site, column);
        let hexed = hex::encode(&envelope);
        let literal = format!("insert into files (id, content) values (9, '\\x{hexed}')");
        let escaped: String = envelope.iter().map(|b| format!("\\\\{b:03o}")).collect();
        let octal = format!("insert into files (id, content) values (9, E'{escaped}')");
        let copied = format!("9\t\\\\x{hexed}\tstolen\n");
        for client in [&app, &analyst] {
            let parameter: Vec<(&str, &(dyn ToSql + Sync))> = vec![
                ("insert into files (id, content) values (9, $1)", &envelope),
                ("select $1::bytea", &envelope),
                ("update patients set photo = $1 where id = 2", &envelope),
                ("select id from patients where photo = $1", &envelope),
            ];
            for (sql, value) in parameter {
                let error = client.query(sql, &[value]).await.expect_err(sql);
                assert!(["42501", "0A000"].contains(&code(&error).as_str()), "{sql}: {error:?}");
            }
            for sql in [&literal, &octal] {
                let done = client.simple_query(sql).await;
                assert!(done.is_err(), "an envelope as a literal: {done:?}");
            }
            let sink = client.copy_in("copy files from stdin").await.unwrap();
            let done = copy(sink, copied.clone()).await;
            assert!(done.is_err(), "an envelope in COPY: {done:?}");
        }
    }
    assert_eq!(site.sql("select count(*) from files"), "0");
    assert_eq!(site.sql("select count(*) from patients where photo is not null"), "1");
}

async fn copy(sink: tokio_postgres::CopyInSink<bytes::Bytes>, text: String) -> Result<u64, tokio_postgres::Error> {
    use futures_util::SinkExt as _;
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from(text)).await?;
    sink.finish().await
}

#[tokio::test]
async fn bytes_that_only_begin_like_an_envelope_pass() {
    let (site, app) = site("lookalike").await;
    let mut values: Vec<Vec<u8>> = vec![vec![0xfe, 0xd1], vec![0xfe, 0xd1, 1], b"\xfe\xd1 lookalike".to_vec()];
    // The shape of an envelope with a column id that no keyring has.
    let mut foreign = stolen(&site, "name");
    foreign[8..12].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
    values.push(foreign);
    let mut seed = 7_u32;
    values.extend((0..50).map(|n| {
        let mut value = vec![0xfe, 0xd1];
        value.extend((0..n * 3).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        }));
        value
    }));
    for (id, value) in values.iter().enumerate() {
        let id = i32::try_from(id).unwrap();
        app.execute("insert into files values ($1, $2)", &[&id, value]).await.unwrap();
        let row = app.query_one("select content from files where id = $1", &[&id]).await.unwrap();
        assert_eq!(&row.get::<_, Vec<u8>>(0), value);
        // In a sealed bytea column they are values like any other: sealed again, opened once.
        if id != 3 {
            app.execute("update patients set photo = $1 where id = 2", &[value]).await.unwrap();
            let row = app.query_one("select photo from patients where id = 2", &[]).await.unwrap();
            assert_eq!(&row.get::<_, Vec<u8>>(0), value);
        }
    }
    let count = site.sql("select count(*) from patients where substr(photo::bytea, 1, 2) = '\\xfed1'");
    assert_eq!(count, "2");
}

#[tokio::test]
async fn nobody_without_clearance_sees_a_value() {
    let (site, _app) = site("masked").await;
    let analyst = site.client("analyst").await;
    let support = site.client("support").await;
    for sql in [
        "select * from patients",
        "select email, name, photo from patients",
        "select p from patients p",
        "select to_json(p) from patients p",
        "select name as id from patients union all select name from patients",
        "select array_agg(name) from patients",
        "select max(name), min(email) from patients",
        "with p as (select * from patients) select * from p",
        "select (select name from patients where id = 1)",
        "copy patients to stdout",
        "copy (select name from patients) to stdout (format csv)",
        "select id from patients where email = 'ada.kanarie@example.org'",
        "select query_to_xml('select name from patients', true, true, '')",
        "select name::text, encode(name::bytea, 'escape') from patients",
        "update patients set name = name where id = 1 returning *",
        "begin; declare c cursor for select name from patients; fetch all from c; commit",
    ] {
        for (role, client) in [("analyst", &analyst), ("support", &support)] {
            let said = if sql.starts_with("copy") { copied(client, sql).await } else { asked(client, sql).await };
            let said = said.replace("where email = 'ada.kanarie@example.org'", "");
            assert!(!said.contains("kanarie") && !said.contains("PNG"), "{role}: {sql}: {said}");
            let _ = client.simple_query("rollback").await;
        }
    }
    let row = analyst.query_one("select email, name, photo from patients where id = 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(1), "A** k******");
    assert!(row.get::<_, &str>(0).ends_with(".org") && row.get::<_, Option<Vec<u8>>>(2).is_none());
}

async fn asked(client: &Client, sql: &str) -> String {
    format!("{:?}", client.simple_query(sql).await)
}

async fn copied(client: &Client, sql: &str) -> String {
    use futures_util::TryStreamExt as _;
    match client.copy_out(sql).await {
        Ok(stream) => {
            let chunks: Result<Vec<bytes::Bytes>, _> = stream.try_collect().await;
            chunks.map_or_else(|e| format!("{e:?}"), |chunks| String::from_utf8_lossy(&chunks.concat()).into_owned())
        }
        Err(error) => format!("{error:?}"),
    }
}

#[tokio::test]
async fn a_login_without_proof_is_refused() {
    let site = Site::new("trust").schema(SCHEMA).policy(POLICY).start();
    let refused = connect(&site.url("trusty")).await.expect_err("trust proves nobody");
    assert_eq!((code(&refused).as_str(), message(&refused).contains("PV004")), ("28000", true), "{refused:?}");
    let wrong = site.url("app").replace(crate::support::PASSWORD, "wrong");
    assert_eq!(code(&connect(&wrong).await.expect_err("a wrong password")), "28P01");
    let allowed = Site::new("trusted").schema(SCHEMA).policy(POLICY).listen("allow_trust = true\n").start();
    let client = connect(&allowed.url("trusty")).await.expect("allowed on loopback");
    client.simple_query("select 1").await.unwrap();
    drop(client);
    let events = allowed.events();
    let login = events.iter().find(|event| event["kind"] == "login" && event["actor"]["role"] == "trusty");
    assert_eq!(login.map(|event| &event["actor"]["auth"]), Some(&"trust".into()), "{events:?}");
}
