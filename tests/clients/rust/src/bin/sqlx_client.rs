//! sqlx: statements prepared and described by name, binary values, pools, migrations, nested transactions, COPY.
//! Usage: sqlx_client URL scenario|introspect

use std::path::Path;

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use futures_util::TryStreamExt;
use pgveil_clients::*;
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolCopyExt, PgPoolOptions, PgRow};
use sqlx::types::Json;
use sqlx::{Acquire, Column, Executor, PgPool, QueryBuilder, Row, Statement, TypeInfo};
use uuid::Uuid;

const COLUMNS: &str =
    "id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note";

async fn ids(pool: &PgPool, sql: &str, values: &[&str]) -> Result<Vec<i32>, sqlx::Error> {
    let mut query = sqlx::query_scalar(sql);
    for value in values {
        query = query.bind(*value);
    }
    query.fetch_all(pool).await
}

fn said(error: sqlx::Error) -> Outcome {
    let Some(error) = error.as_database_error() else { return Err(error.into()) };
    show((error.code(), error.constraint(), error.table(), error.kind()));
    Ok(())
}

async fn insert(pool: &PgPool) -> Outcome {
    let sql = format!(
        "insert into people ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    );
    let query = sqlx::query(&sql).bind(1).bind(ADA).bind("Ada kanarie").bind(date("1815-12-10"));
    let query = query.bind(number("1234.50")).bind(0.1).bind(true).bind(token()).bind(seen()).bind(woke());
    let query = query.bind(-7i16).bind(42).bind(BIG).bind(BLOB).bind(json!({"kanarie": [1, 2.5]})).bind("first");
    show(query.execute(pool).await?.rows_affected());
    let sql = "insert into people (id, email, name, doc) values ($1, $2, $3, $4) returning id, email, name";
    let row: (i32, String, Option<String>) =
        sqlx::query_as(sql).bind(2).bind(BOB).bind(BOBS_NAME).bind(Json(json!({"kanarie": 1}))).fetch_one(pool).await?;
    same("returning", row, (2, BOB.to_owned(), Some(BOBS_NAME.to_owned())))?;
    let none: Option<NaiveDate> = None;
    let sql = "insert into people (id, email, born) values ($1, $2, $3)";
    show(sqlx::query(sql).bind(3).bind(ZOE).bind(none).execute(pool).await?.rows_affected());
    let sql = "insert into orders values ($1, $2, 100), (11, $3, 200)";
    show(sqlx::query(sql).bind(10).bind(ADA).bind(BOB).execute(pool).await?.rows_affected());
    Ok(())
}

async fn migrate(pool: &PgPool) -> Outcome {
    let migrator = Migrator::new(Path::new(&std::env::var("here")?).join("rust/migrations")).await?;
    migrator.run(pool).await?;
    migrator.run(pool).await?;
    show(sqlx::query_as::<_, (i32, i32, String)>("select id, person, reason from visit").fetch_all(pool).await?);
    Ok(())
}

fn all(row: &PgRow) -> Result<String, sqlx::Error> {
    Ok(format!(
        "{:?} {:?} {:?} {:?} {:?}",
        (row.try_get::<i32, _>(0)?, row.try_get::<String, _>(1)?, row.try_get::<Option<String>, _>(2)?),
        (row.try_get::<Option<NaiveDate>, _>(3)?, row.try_get::<Option<BigDecimal>, _>(4)?.map(|n| n.to_string())),
        (row.try_get::<Option<f64>, _>(5)?, row.try_get::<Option<bool>, _>(6)?, row.try_get::<Option<Uuid>, _>(7)?),
        (row.try_get::<Option<DateTime<Utc>>, _>(8)?, row.try_get::<Option<NaiveDateTime>, _>(9)?),
        (
            row.try_get::<Option<i16>, _>(10)?,
            row.try_get::<Option<i32>, _>(11)?,
            row.try_get::<Option<i64>, _>(12)?,
            row.try_get::<Option<Vec<u8>>, _>(13)?,
            row.try_get::<Option<Value>, _>(14)?,
            row.try_get::<Option<String>, _>(15)?,
        ),
    ))
}

async fn search(pool: &PgPool) -> Outcome {
    for _ in 0..3 {
        same("equal", ids(pool, "select id from people where email = $1", &[ADA]).await?, vec![1])?;
    }
    same("in", ids(pool, "select id from people where email in ($1, $2) order by id", &[ADA, ZOE]).await?, vec![1, 3])?;
    let any = sqlx::query_scalar("select id from people where email = any($1) order by id");
    same("any", any.bind([ADA, BOB]).fetch_all(pool).await?, vec![1, 2])?;
    let both = sqlx::query_scalar("select id from people where token = $1 and big = $2");
    same("uuid, int8", both.bind(token()).bind(BIG).fetch_all(pool).await?, vec![1])?;
    same("null", ids(pool, "select id from people where name is null", &[]).await?, vec![3])?;
    let optional = sqlx::query_scalar("select id from people where ($1::text is null or email = $1) order by id");
    same("optional", optional.bind(None::<String>).fetch_all(pool).await?, vec![1, 2, 3])?;
    for row in sqlx::query(&format!("select {COLUMNS} from people order by id")).fetch_all(pool).await? {
        show(all(&row)?);
    }
    let sql = "select p.name, o.total from people p join orders o using (email) order by o.total";
    show(sqlx::query_as::<_, (String, i32)>(sql).fetch_all(pool).await?);
    let sql = "select p.name, v.reason from visit v join people p on p.id = v.person where p.email = $1";
    show(sqlx::query_as::<_, (String, String)>(sql).bind(ADA).fetch_all(pool).await?);
    // One simple query, text cells.
    let row =
        pool.fetch_one(sqlx::raw_sql("select id, email, name, born, blob, active from people where id = 1")).await?;
    show(
        (0..row.len())
            .map(|at| row.try_get_raw(at).map(|cell| cell.as_str().map(str::to_owned).ok()))
            .collect::<Result<Vec<_>, _>>()?,
    );
    Ok(())
}

/// What `query!` asks for at compile time.
async fn describe(pool: &PgPool) -> Outcome {
    let sql = "select p.id, email as mail, born, salary, token from people p where email = $1 and big = $2";
    let statement = pool.prepare(sql).await?;
    show(statement.columns().iter().map(|column| (column.name(), column.type_info().name())).collect::<Vec<_>>());
    for sql in [
        sql,
        "insert into people (id, email, name) values ($1, $2, $3) returning id, name",
        "select count(*) from people",
    ] {
        let described = pool.describe(sql).await?;
        show(described.columns().iter().map(|column| (column.name(), column.type_info().name())).collect::<Vec<_>>());
        show((
            described.parameters().map(|given| format!("{given:?}")),
            (0..described.columns().len()).map(|at| described.nullable(at)).collect::<Vec<_>>(),
        ));
    }
    Ok(())
}

async fn update(pool: &PgPool) -> Outcome {
    let sql = "update people set name = $1, salary = $2, born = $3, active = $4 where email = $5";
    let query = sqlx::query(sql).bind("Augusta kanarie").bind(number("99999999.99")).bind(date("0001-01-01"));
    show(query.bind(None::<bool>).bind(ADA).execute(pool).await?.rows_affected());
    let sql = "update people set blob = $1, seen = $2 where id = $3 returning blob, name, salary";
    let row: (Vec<u8>, String, BigDecimal) =
        sqlx::query_as(sql).bind(&b"\\'"[..]).bind(seen()).bind(1).fetch_one(pool).await?;
    same(
        "returning",
        (row.0, row.1, row.2.normalized().to_string()),
        (b"\\'".to_vec(), "Augusta kanarie".into(), "99999999.99".into()),
    )
}

async fn upsert(pool: &PgPool) -> Outcome {
    let sql = "insert into people (id, email, name) values ($1, $2, $3) on conflict (email) do update set name = excluded.name returning id, name";
    for (id, email, name) in [(20, ADA, "Countess kanarie"), (21, NEW, "New kanarie")] {
        show(sqlx::query_as::<_, (i32, String)>(sql).bind(id).bind(email).bind(name).fetch_one(pool).await?);
    }
    Ok(())
}

async fn bulk_rows(pool: &PgPool) -> Outcome {
    let (numbers, emails, names) = bulk(100, 300);
    let mut query = QueryBuilder::new("insert into people (id, email, name) ");
    query.push_values(0..300, |mut row, at| {
        row.push_bind(numbers[at]).push_bind(&emails[at]).push_bind(&names[at]);
    });
    show(query.build().execute(pool).await?.rows_affected());
    let (more, their, _) = bulk(500, 100);
    let sql = "insert into people (id, email) select * from unnest($1::int[], $2::text[])";
    show(sqlx::query(sql).bind(&more).bind(&their).execute(pool).await?.rows_affected());
    let mut copy = pool.copy_in_raw("copy people (id, email, name) from stdin with (format csv)").await?;
    let (more, their, names) = bulk(800, 200);
    let lines: String = (0..200).map(|at| format!("{},{},\"{}\"\n", more[at], their[at], names[at])).collect();
    copy.send(lines.into_bytes()).await?;
    show(copy.finish().await?);
    let sql = "copy (select id, email, name from people where id between 800 and 802 order by id) to stdout";
    let chunks: Vec<_> = pool.copy_out_raw(sql).await?.try_collect().await?;
    show(String::from_utf8(chunks.concat())?);
    let mut rows = sqlx::query_scalar::<_, String>("select name from people where email = any($1) order by id")
        .bind(&emails)
        .fetch(pool);
    let mut found = 0;
    while rows.try_next().await?.is_some() {
        found += 1;
    }
    same("streamed", found, 300)
}

async fn transaction(pool: &PgPool) -> Outcome {
    let mut outer = pool.begin().await?;
    let sql = "insert into people (id, email) values ($1, $2)";
    sqlx::query(sql).bind(60).bind(TX).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    if let Err(error) = sqlx::query(sql).bind(61).bind(TX).execute(&mut *inner).await {
        said(error)?;
    }
    inner.rollback().await?;
    let found: i32 =
        sqlx::query_scalar("select id from people where email = $1 for update").bind(TX).fetch_one(&mut *outer).await?;
    same("inside", found, 60)?;
    outer.rollback().await?;
    same("rolled back", ids(pool, "select id from people where email = $1", &[TX]).await?, vec![])
}

async fn failures(pool: &PgPool) -> Outcome {
    let long = "kanarie".repeat(20);
    let sql = "insert into people (id, email) values ($1, $2)";
    for email in [Some(ADA), None, Some(&*long)] {
        said(sqlx::query(sql).bind(50).bind(email).execute(pool).await.expect_err("refused"))?;
    }
    let sql = "update people set salary = $1 where id = 1";
    said(sqlx::query(sql).bind(number("100000000")).execute(pool).await.expect_err("too much"))?;
    for sql in ["select nonsense from people", "selec", "select 1/0", "update people set born = 'kanarie' where id = 1"]
    {
        said(sqlx::query(sql).execute(pool).await.expect_err("refused"))?;
    }
    same("after", ids(pool, "select id from people where email = $1", &[BOB]).await?, vec![2])
}

async fn delete(pool: &PgPool) -> Outcome {
    show(
        sqlx::query_as::<_, (Option<String>,)>("delete from people where email = $1 returning name")
            .bind(ZOE)
            .fetch_all(pool)
            .await?,
    );
    pool.execute("drop table visit; drop table _sqlx_migrations").await?;
    Ok(())
}

async fn tables(pool: &PgPool) -> Outcome {
    let sql = "select table_name::text, column_name::text, ordinal_position::int, is_nullable::text from information_schema.columns where table_schema = $1 order by 1, 3";
    for row in sqlx::query_as::<_, (String, String, i32, String)>(sql).bind("public").fetch_all(pool).await? {
        show(row);
    }
    Ok(())
}

async fn description(pool: &PgPool) -> Outcome {
    let described = pool.describe("select * from people").await?;
    show(described.columns().iter().map(|column| column.name()).collect::<Vec<_>>());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let options: PgConnectOptions = arguments[1].parse()?;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options.options([("timezone", "UTC")])).await?;
    println!("version {}", version("sqlx"));
    if arguments[2] == "introspect" {
        steps! { "tables" => tables(&pool).await, "description" => description(&pool).await }
        return Ok(());
    }
    steps! {
        "insert" => insert(&pool).await,
        "migrate" => migrate(&pool).await,
        "search" => search(&pool).await,
        "describe" => describe(&pool).await,
        "update" => update(&pool).await,
        "upsert" => upsert(&pool).await,
        "bulk" => bulk_rows(&pool).await,
        "transaction" => transaction(&pool).await,
        "failures" => failures(&pool).await,
        "delete" => delete(&pool).await,
    }
    Ok(())
}
