//! tokio-postgres: described statements and binary values, pipelining, portals, COPY text and binary.
//! Usage: tokio_postgres_client URL scenario|introspect

use std::pin::pin;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use futures_util::future::{join_all, try_join};
use futures_util::{SinkExt, TryStreamExt};
use pgveil_clients::*;
use serde_json::{Value, json};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};
use uuid::Uuid;

const ALL: &str = "id, email, name, born, score, active, token, seen, woke, small, visits, big, blob, doc, note";

async fn ids(db: &Client, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<i32>, tokio_postgres::Error> {
    Ok(db.query(sql, values).await?.iter().map(|row| row.get(0)).collect())
}

fn said(error: &tokio_postgres::Error) -> Outcome {
    let error = error.as_db_error().ok_or_else(|| error.to_string())?;
    show((error.code().code(), error.constraint(), error.column(), error.table(), error.severity()));
    Ok(())
}

fn whole(row: &Row) {
    show((
        (
            row.get::<_, i32>(0),
            row.get::<_, String>(1),
            row.get::<_, Option<String>>(2),
            row.get::<_, Option<NaiveDate>>(3),
        ),
        (row.get::<_, Option<f64>>(4), row.get::<_, Option<bool>>(5), row.get::<_, Option<Uuid>>(6)),
        (row.get::<_, Option<DateTime<Utc>>>(7), row.get::<_, Option<NaiveDateTime>>(8)),
        (row.get::<_, Option<i16>>(9), row.get::<_, Option<i32>>(10), row.get::<_, Option<i64>>(11)),
        (row.get::<_, Option<Vec<u8>>>(12), row.get::<_, Option<Value>>(13), row.get::<_, Option<String>>(14)),
    ));
}

async fn create(db: &Client) -> Outcome {
    db.batch_execute(
        "create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text);
         create index visit_person on visit (person); comment on table visit is 'who came'",
    )
    .await?;
    Ok(())
}

async fn insert(db: &Client) -> Outcome {
    let sql =
        format!("insert into people ({ALL}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)");
    let doc = json!({"kanarie": [1, 2.5]});
    let row: [&(dyn ToSql + Sync); 15] = [
        &1,
        &ADA,
        &"Ada kanarie",
        &date("1815-12-10"),
        &0.1f64,
        &true,
        &token(),
        &seen(),
        &woke(),
        &-7i16,
        &42,
        &BIG,
        &BLOB,
        &doc,
        &"first",
    ];
    show(db.execute(&sql, &row).await?);
    let sql = "insert into people (id, email, name) values ($1, $2, $3) returning id, email, name";
    let row = db.query_one(sql, &[&2, &BOB, &BOBS_NAME]).await?;
    same("returning", (row.get(0), row.get(1), row.get(2)), (2, BOB, BOBS_NAME))?;
    show(
        db.execute("insert into people (id, email, born) values ($1, $2, $3)", &[&3, &ZOE, &None::<NaiveDate>]).await?,
    );
    show(db.execute("insert into orders values (10, $1, 100), (11, $2, 200)", &[&ADA, &BOB]).await?);
    show(ids(db, "insert into visit (person, reason) values ($1, $2) returning id", &[&1, &"check"]).await?);
    Ok(())
}

async fn search(db: &Client) -> Outcome {
    let prepared = db.prepare("select id from people where email = $1").await?;
    show((
        prepared.params(),
        prepared.columns().iter().map(|column| (column.name(), column.type_())).collect::<Vec<_>>(),
    ));
    for email in [ADA, BOB, ZOE, ADA] {
        show(db.query_one(&prepared, &[&email]).await?.get::<_, i32>(0));
    }
    same("in", ids(db, "select id from people where email in ($1, $2) order by id", &[&ADA, &ZOE]).await?, vec![1, 3])?;
    same(
        "any",
        ids(db, "select id from people where email = any($1) order by id", &[&vec![ADA, BOB]]).await?,
        vec![1, 2],
    )?;
    same(
        "uuid, int8",
        ids(db, "select id from people where token = $1 and big = $2", &[&token(), &BIG]).await?,
        vec![1],
    )?;
    same("null", ids(db, "select id from people where name is null", &[]).await?, vec![3])?;
    let declared = db
        .query_typed(
            "select id from people where email = $1 and big = $2",
            &[(&ADA, Type::VARCHAR), (&BIG, Type::INT8)],
        )
        .await?;
    same("declared", declared.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), vec![1])?;
    db.query(&format!("select {ALL} from people order by id"), &[]).await?.iter().for_each(whole);
    let sql = "select p.name, o.total from people p join orders o using (email) order by o.total";
    show(
        db.query(sql, &[]).await?.iter().map(|row| (row.get::<_, String>(0), row.get::<_, i32>(1))).collect::<Vec<_>>(),
    );
    for message in db
        .simple_query(
            "select * from people where id = 1; select name from people where email = 'bob.kanarie@example.org'",
        )
        .await?
    {
        match message {
            SimpleQueryMessage::Row(row) => show((0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>()),
            SimpleQueryMessage::CommandComplete(rows) => show(rows),
            _ => {}
        }
    }
    Ok(())
}

async fn update(db: &Client) -> Outcome {
    let sql = "update people set name = $1, born = $2, active = $3 where email = $4";
    show(db.execute(sql, &[&"Augusta kanarie", &date("0001-01-01"), &None::<bool>, &ADA]).await?);
    let row = db
        .query_one(
            "update people set blob = $1, seen = $2 where id = $3 returning blob, name, seen",
            &[&&b"\\'"[..], &seen(), &1],
        )
        .await?;
    show((row.get::<_, Vec<u8>>(0), row.get::<_, String>(1), row.get::<_, DateTime<Utc>>(2)));
    Ok(())
}

async fn upsert(db: &Client) -> Outcome {
    let sql = "insert into people (id, email, name) values ($1, $2, $3) on conflict (email) do update set name = excluded.name returning id, name";
    for (id, email, name) in [(20, ADA, "Countess kanarie"), (21, NEW, "New kanarie")] {
        let row = db.query_one(sql, &[&id, &email, &name]).await?;
        show((row.get::<_, i32>(0), row.get::<_, String>(1)));
    }
    Ok(())
}

async fn pipeline(db: &Client) -> Outcome {
    let into = db.prepare("insert into people (id, email, name) values ($1, $2, $3)").await?;
    let (numbers, emails, names) = bulk(100, 200);
    let sent = join_all((0..200).map(|at| {
        let (db, into, row) = (&db, &into, (numbers[at], &emails[at], &names[at]));
        async move { db.execute(into, &[&row.0, row.1, row.2]).await }
    }));
    show(sent.await.into_iter().collect::<Result<Vec<_>, _>>()?.len());
    let by_id = db.prepare("select email from people where id = $1").await?;
    let by_email = db.prepare("select id from people where email = $1").await?;
    let (first, second) = try_join(db.query_one(&by_id, &[&150]), db.query_one(&by_email, &[&emails[7]])).await?;
    show((first.get::<_, String>(0), second.get::<_, i32>(0)));
    Ok(())
}

async fn copy(db: &Client) -> Outcome {
    let (numbers, emails, names) = bulk(800, 200);
    let mut sink = pin!(db.copy_in("copy people (id, email, name) from stdin").await?);
    for at in 0..200 {
        sink.send(bytes::Bytes::from(format!("{}\t{}\t{}\n", numbers[at], emails[at], names[at]))).await?;
    }
    show(sink.finish().await?);
    let sql =
        "copy (select id, email, name from people where id between 800 and 802 order by id) to stdout (format csv)";
    let chunks: Vec<_> = db.copy_out(sql).await?.try_collect().await?;
    show(String::from_utf8(chunks.concat())?);
    let types = [Type::INT4, Type::VARCHAR, Type::TEXT, Type::DATE];
    let (numbers, emails, names) = bulk(1000, 200);
    let mut writer = pin!(BinaryCopyInWriter::new(
        db.copy_in("copy people (id, email, name, born) from stdin binary").await?,
        &types
    ));
    for at in 0..200 {
        writer.as_mut().write(&[&numbers[at], &emails[at], &names[at], &date("1999-02-28")]).await?;
    }
    show(writer.finish().await?);
    let out = db.copy_out("copy (select id, email, name, born from people where id between 1000 and 1002 order by id) to stdout binary").await?;
    let rows: Vec<_> = BinaryCopyOutStream::new(out, &types).try_collect().await?;
    for row in &rows {
        show((row.get::<i32>(0), row.get::<&str>(1), row.get::<&str>(2), row.get::<NaiveDate>(3)));
    }
    Ok(())
}

async fn cursor(db: &mut Client) -> Outcome {
    let transaction = db.transaction().await?;
    let portal = transaction.bind("select id, email from people where id >= $1 order by id", &[&100]).await?;
    let mut sizes = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 70).await?;
        sizes.push(rows.len());
        if rows.len() < 70 {
            break;
        }
    }
    show(sizes);
    transaction.rollback().await?;
    Ok(())
}

async fn transaction(db: &mut Client) -> Outcome {
    let sql = "insert into people (id, email) values ($1, $2)";
    let mut outer = db.transaction().await?;
    outer.execute(sql, &[&60, &TX]).await?;
    let inner = outer.savepoint("one").await?;
    said(&inner.execute(sql, &[&61, &TX]).await.expect_err("a duplicate"))?;
    said(&inner.query("select name from people where id = $1", &[&60]).await.expect_err("failed already"))?;
    inner.rollback().await?;
    show(outer.query_one("select id from people where email = $1 for update", &[&TX]).await?.get::<_, i32>(0));
    outer.rollback().await?;
    same("rolled back", ids(db, "select id from people where email = $1", &[&TX]).await?, vec![])
}

async fn failures(db: &Client) -> Outcome {
    let sql = "insert into people (id, email) values ($1, $2)";
    for email in [Some(ADA.to_owned()), None, Some("kanarie".repeat(20))] {
        said(&db.execute(sql, &[&50, &email]).await.expect_err("refused"))?;
    }
    for sql in [
        "select nonsense from people",
        "selec",
        "select 1/0",
        "update people set born = 'kanarie' where id = 1",
        "update people set small = 40000",
    ] {
        said(&db.execute(sql, &[]).await.expect_err("refused"))?;
    }
    let token = db.cancel_token();
    let (slept, canceled) = tokio::join!(db.batch_execute("select pg_sleep(30)"), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        token.cancel_query(NoTls).await
    });
    canceled?;
    said(&slept.expect_err("canceled"))?;
    same("after", ids(db, "select id from people where email = $1", &[&BOB]).await?, vec![2])
}

async fn delete(db: &Client) -> Outcome {
    show(
        db.query_one("delete from people where email = $1 returning name", &[&ZOE]).await?.get::<_, Option<String>>(0),
    );
    db.batch_execute("drop table visit").await?;
    Ok(())
}

async fn tables(db: &Client) -> Outcome {
    let sql = "select table_name, column_name, ordinal_position, is_nullable from information_schema.columns where table_schema = $1 order by 1, 3";
    for row in db.query(sql, &[&"public"]).await? {
        show((row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, i32>(2), row.get::<_, String>(3)));
    }
    Ok(())
}

async fn description(db: &Client) -> Outcome {
    show(
        db.prepare("select * from people")
            .await?
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.type_().clone()))
            .collect::<Vec<_>>(),
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let (mut db, connection) = tokio_postgres::connect(&arguments[1], NoTls).await?;
    tokio::spawn(connection);
    db.batch_execute("set timezone = 'UTC'").await?;
    println!("version {}", version("tokio-postgres"));
    if arguments[2] == "introspect" {
        steps! { "tables" => tables(&db).await, "description" => description(&db).await }
        return Ok(());
    }
    steps! {
        "create" => create(&db).await,
        "insert" => insert(&db).await,
        "search" => search(&db).await,
        "update" => update(&db).await,
        "upsert" => upsert(&db).await,
        "pipeline" => pipeline(&db).await,
        "copy" => copy(&db).await,
        "cursor" => cursor(&mut db).await,
        "transaction" => transaction(&mut db).await,
        "failures" => failures(&db).await,
        "delete" => delete(&db).await,
    }
    Ok(())
}
