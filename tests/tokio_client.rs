//! The scenario for tokio-postgres: binary values compared byte for byte, portals, pipelining, COPY.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Row};

use crate::scenario::{site, twin};
use crate::support::connect;

/// A value exactly as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What was seen, line by line.
#[derive(Default)]
struct Transcript(Vec<String>);

impl Transcript {
    fn rows(&mut self, step: &str, rows: &[Row]) {
        self.0.push(format!("== {step}"));
        for row in rows {
            let cells: Vec<String> = (0..row.len())
                .map(|i| match row.get::<_, Raw>(i).0 {
                    Some(bytes) => hex::encode(bytes),
                    None => "NULL".to_owned(),
                })
                .collect();
            let types: Vec<&str> = row.columns().iter().map(|c| c.type_().name()).collect();
            self.0.push(format!("{} as {}", cells.join(" "), types.join(" ")));
        }
    }

    fn error(&mut self, step: &str, result: Result<impl Sized, Error>) {
        let error = result.err().unwrap_or_else(|| panic!("{step} did not fail"));
        self.0.push(format!("== {step}: {}", error.code().unwrap_or_else(|| panic!("{step}: {error}")).code()));
    }
}

const ADA: &str = "ada.kanarie@example.org";
const COLUMNS: &str =
    "id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note";

/// The first person, in PostgreSQL's binary format.
fn ada() -> Vec<Raw> {
    let some = |bytes: &[u8]| Raw(Some(bytes.to_vec()));
    vec![
        some(&1_i32.to_be_bytes()),
        some(ADA.as_bytes()),
        some("Ada kanarie".as_bytes()),
        some(&(-67_226_i32).to_be_bytes()),
        // 1234.50: two base-10000 digits, weight 0, positive, scale 2.
        some(&[0, 2, 0, 0, 0, 0, 0, 2, 0x04, 0xd2, 0x13, 0x88]),
        some(&0.1_f64.to_be_bytes()),
        some(&[1]),
        some(&hex::decode("6ba7b8109dad11d180b400c04fd430c8").unwrap()),
        some(&825_675_000_250_000_i64.to_be_bytes()),
        some(&825_660_900_000_000_i64.to_be_bytes()),
        some(&(-7_i16).to_be_bytes()),
        some(&42_i32.to_be_bytes()),
        some(&9_007_199_254_740_993_i64.to_be_bytes()),
        some(&[0x00, 0xff, 0x10, 0xfe, 0xd1]),
        some(br#"{"kanarie": [1,  2.50]}"#),
        some(b"first"),
    ]
}

async fn scenario(client: &mut Client) -> Result<Transcript, Error> {
    let mut seen = Transcript::default();
    insert(client, &mut seen).await?;
    read(client, &mut seen).await?;
    write(client, &mut seen).await?;
    copy(client, &mut seen).await?;
    portals_and_pipelines(client, &mut seen).await?;
    errors_and_transactions(client, &mut seen).await?;
    Ok(seen)
}

async fn insert(client: &Client, seen: &mut Transcript) -> Result<(), Error> {
    let places: Vec<String> = (1..=16).map(|i| format!("${i}")).collect();
    let insert = client.prepare(&format!("insert into people ({COLUMNS}) values ({})", places.join(", "))).await?;
    let types: Vec<&str> = insert.params().iter().map(Type::name).collect();
    seen.0.push(format!("== parameters {}", types.join(" ")));
    let values = ada();
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as &(dyn ToSql + Sync)).collect();
    client.execute(&insert, &values).await?;
    let few = "insert into people (id, email, name) values ($1, $2, $3), ($4, $5, $6), ($7, $8, null)";
    let (bob, zoe) = ("Bob\n\"kanarie\" \\", "Zoë kanarie 李");
    client
        .execute(
            few,
            &[&2, &"bob.kanarie@example.org", &bob, &3, &"zoë.kanarie@example.org", &zoe, &4, &"nul.kanarie@x"],
        )
        .await?;
    client.execute("insert into orders values ($1, $2, $3)", &[&10, &ADA, &100]).await?;
    Ok(())
}

async fn read(client: &Client, seen: &mut Transcript) -> Result<(), Error> {
    let rows = client.query(&format!("select {COLUMNS} from people where id = $1"), &[&1]).await?;
    seen.rows("read", &rows);
    let expected = ada();
    assert!((0..16).all(|i| rows[0].get::<_, Raw>(i) == expected[i]), "{:?}", seen.0);
    let by_email = client.prepare("select id, name from people where email = $1").await?;
    for _ in 0..3 {
        let row = client.query_one(&by_email, &[&ADA]).await?;
        assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (1, "Ada kanarie"));
    }
    assert!(client.query(&by_email, &[&"nobody.kanarie@example.org"]).await?.is_empty());
    let many = vec![ADA, "zoë.kanarie@example.org", "nobody.kanarie"];
    seen.rows("any", &client.query("select id from people where email = any($1) order by id", &[&many]).await?);
    let none: Vec<&str> = Vec::new();
    seen.rows("any of none", &client.query("select id from people where email = any($1)", &[&none]).await?);
    let names = client.query_one("select array_agg(name order by id) from people", &[]).await?;
    assert_eq!(names.get::<_, Vec<Option<String>>>(0).len(), 4);
    seen.rows("array", &[names]);
    let join = "select p.name, p.born as b, o.total from people p join orders o on p.email = o.email where p.id = $1";
    seen.rows("join", &client.query(join, &[&1]).await?);
    let cast = "select id from people where email = $1::varchar and big = $2::int8";
    seen.rows("cast", &client.query(cast, &[&ADA, &9_007_199_254_740_993_i64]).await?);
    let simple = client.simple_query("select name, born, salary from people order by id").await?;
    seen.0.push(format!("== simple {simple:?}"));
    Ok(())
}

async fn write(client: &Client, seen: &mut Transcript) -> Result<(), Error> {
    let update = "update people set name = $1, visits = $2 where email = $3 returning name, visits";
    seen.rows("update", &client.query(update, &[&"Augusta kanarie", &None::<i32>, &ADA]).await?);
    let upsert = "insert into people (id, email, name) values ($1, $2, $3)
                  on conflict (email) do update set name = excluded.name, note = 'upserted' returning id, name, note";
    let upsert = client.prepare(upsert).await?;
    seen.rows("upsert", &client.query(&upsert, &[&20, &ADA, &"Countess kanarie"]).await?);
    seen.rows("upsert new", &client.query(&upsert, &[&21, &"new.kanarie@example.org", &"New kanarie"]).await?);
    let coalesce = "update people set name = coalesce($1, $2) where id = 21 returning name";
    seen.rows("coalesce", &client.query(coalesce, &[&None::<&str>, &"Or kanarie"]).await?);
    Ok(())
}

async fn copy(client: &Client, seen: &mut Transcript) -> Result<(), Error> {
    let mut sink = pin!(client.copy_in("copy people (id, email, name, born) from stdin").await?);
    // Rows cut at odd places: a chunk is not a row.
    let text: String =
        (100..400).map(|i| format!("{i}\tbulk{i}.kanarie@example.org\tkanarie {i}\t2001-02-03\n")).collect();
    for chunk in text.as_bytes().chunks(777) {
        sink.send(Bytes::copy_from_slice(chunk)).await?;
    }
    seen.0.push(format!("== copied {}", sink.finish().await?));
    let query = "copy (select id, email, name, born from people where id >= 100 order by id) to stdout";
    let chunks: Vec<Bytes> = client.copy_out(query).await?.try_collect().await?;
    assert_eq!(chunks.concat(), text.as_bytes(), "COPY gives back what COPY took");
    let abandoned = client.copy_in::<_, Bytes>("copy people (id, email) from stdin").await?;
    drop(abandoned);
    seen.rows("after an abandoned copy", &client.query("select count(*) from people", &[]).await?);
    Ok(())
}

async fn portals_and_pipelines(client: &mut Client, seen: &mut Transcript) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let portal = transaction.bind("select id, name from people where id >= $1 order by id", &[&100]).await?;
    for n in [2, 3, 0] {
        let rows = transaction.query_portal(&portal, n).await?;
        seen.rows(&format!("portal {n}"), &rows[..rows.len().min(5)]);
    }
    transaction.commit().await?;
    let statement = client.prepare("select name from people where email = $1").await?;
    let asked = (100..200).map(|i| {
        let (client, statement) = (&*client, &statement);
        async move { client.query_one(statement, &[&format!("bulk{i}.kanarie@example.org")]).await }
    });
    for (i, row) in join_all(asked).await.into_iter().enumerate() {
        assert_eq!(row?.get::<_, String>(0), format!("kanarie {}", i + 100));
    }
    // One of many queued statements fails; only that one.
    let mixed = join_all((0..5).map(|i| {
        let client = &*client;
        async move { client.query("select name from people where id = 100 / $1", &[&i]).await }
    }));
    let outcomes: Vec<String> = mixed
        .await
        .into_iter()
        .map(|r| r.map_or_else(|e| e.code().map_or("?", |c| c.code()).to_owned(), |rows| rows.len().to_string()))
        .collect();
    seen.0.push(format!("== pipeline {outcomes:?}"));
    let mut stream = pin!(client.query_raw("select name from people where id > $1 order by id", [&390]).await?);
    let first = stream.next().await.expect("rows")?;
    seen.rows("stream", &[first]);
    Ok(())
}

async fn errors_and_transactions(client: &mut Client, seen: &mut Transcript) -> Result<(), Error> {
    let insert = "insert into people (id, email) values ($1, $2)";
    seen.error("duplicate", client.execute(insert, &[&50, &ADA]).await);
    seen.error("null", client.execute(insert, &[&50, &None::<&str>]).await);
    seen.error("too long", client.execute(insert, &[&50, &"kanarie".repeat(20)]).await);
    seen.error("unknown column", client.query("select nothing from people", &[]).await);
    let mut transaction = client.transaction().await?;
    transaction.execute(insert, &[&60, &"tx.kanarie@example.org"]).await?;
    let savepoint = transaction.savepoint("s").await?;
    seen.error("duplicate in transaction", savepoint.execute(insert, &[&61, &"tx.kanarie@example.org"]).await);
    seen.error("failed transaction", savepoint.query("select name from people", &[]).await);
    savepoint.rollback().await?;
    seen.rows("after savepoint", &transaction.query("select email from people where id = 60", &[]).await?);
    transaction.rollback().await?;
    let gone = "delete from people where email = $1 returning name";
    seen.rows("delete", &client.query(gone, &[&"bob.kanarie@example.org"]).await?);
    seen.rows("left", &client.query("select count(*), count(distinct email) from people", &[]).await?);
    Ok(())
}

#[tokio::test]
async fn tokio_postgres_runs_the_scenario() {
    let mut direct = connect(&twin()).await.unwrap();
    let expected = scenario(&mut direct).await.unwrap_or_else(|e| panic!("PostgreSQL itself: {e:?}"));
    let site = site("tokio");
    let mut client = site.client("app").await;
    let sealed = scenario(&mut client).await.unwrap_or_else(|e| panic!("pgveil: {e:?}\n{}", site.log()));
    for (expected, sealed) in expected.0.iter().zip(&sealed.0) {
        assert_eq!(expected, sealed);
    }
    assert_eq!(expected.0.len(), sealed.0.len());
}
