//! diesel over libpq: typed SQL with binary values, prepared statements kept by their text, batches, nested transactions.
//! Usage: diesel_client URL scenario|introspect

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::dsl::{count_star, exists, not, select};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{Integer, Text};
use diesel::upsert::excluded;
use pgveil_clients::*;
use serde_json::{Value, json};
use uuid::Uuid;

diesel::table! {
    people (id) {
        id -> Int4, email -> Varchar, name -> Nullable<Text>, born -> Nullable<Date>, salary -> Nullable<Numeric>,
        score -> Nullable<Float8>, active -> Nullable<Bool>, token -> Nullable<Uuid>, seen -> Nullable<Timestamptz>,
        woke -> Nullable<Timestamp>, small -> Nullable<Int2>, visits -> Nullable<Int4>, big -> Nullable<Int8>,
        blob -> Nullable<Bytea>, doc -> Nullable<Json>, note -> Nullable<Text>,
    }
}
diesel::table! {
    orders (id) { id -> Int4, email -> Varchar, total -> Nullable<Int4>, }
}
diesel::table! {
    visit (id) { id -> Int4, person -> Int4, reason -> Nullable<Text>, }
}
diesel::joinable!(visit -> people (person));
diesel::allow_tables_to_appear_in_same_query!(people, orders, visit);

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Identifiable, Insertable, AsChangeset)]
#[diesel(table_name = people)]
struct Person {
    id: i32,
    email: String,
    name: Option<String>,
    born: Option<NaiveDate>,
    salary: Option<BigDecimal>,
    score: Option<f64>,
    active: Option<bool>,
    token: Option<Uuid>,
    seen: Option<DateTime<Utc>>,
    woke: Option<NaiveDateTime>,
    small: Option<i16>,
    visits: Option<i32>,
    big: Option<i64>,
    blob: Option<Vec<u8>>,
    doc: Option<Value>,
    note: Option<String>,
}

#[derive(Debug, Queryable, Selectable, Identifiable, Associations)]
#[expect(dead_code, reason = "printed")]
#[diesel(belongs_to(Person, foreign_key = person))]
#[diesel(table_name = visit)]
struct Visit {
    id: i32,
    person: i32,
    reason: Option<String>,
}

fn ada() -> Person {
    Person {
        id: 1,
        email: ADA.into(),
        name: Some("Ada kanarie".into()),
        born: Some(date("1815-12-10")),
        salary: Some(number("1234.50")),
        score: Some(0.1),
        active: Some(true),
        token: Some(token()),
        seen: Some(seen()),
        woke: Some(woke()),
        small: Some(-7),
        visits: Some(42),
        big: Some(BIG),
        blob: Some(BLOB.into()),
        doc: Some(json!({"kanarie": [1, 2.5]})),
        note: Some("first".into()),
    }
}

fn said(error: Error) -> Outcome {
    let Error::DatabaseError(kind, information) = error else { return Err(error.into()) };
    show((kind, information.constraint_name(), information.column_name(), information.table_name()));
    Ok(())
}

fn create(db: &mut PgConnection) -> Outcome {
    db.batch_execute(
        "create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text);
         create index visit_person on visit (person); comment on table visit is 'who came'",
    )?;
    Ok(())
}

fn insert(db: &mut PgConnection) -> Outcome {
    show(diesel::insert_into(people::table).values(&ada()).execute(db)?);
    let bob =
        (people::id.eq(2), people::email.eq(BOB), people::name.eq(BOBS_NAME), people::doc.eq(json!({"kanarie": 1})));
    let row: (i32, String, Option<String>) = diesel::insert_into(people::table)
        .values(bob)
        .returning((people::id, people::email, people::name))
        .get_result(db)?;
    same("returning", row, (2, BOB.into(), Some(BOBS_NAME.into())))?;
    show(
        diesel::insert_into(people::table)
            .values((people::id.eq(3), people::email.eq(ZOE)))
            .returning(Person::as_returning())
            .get_result(db)?,
    );
    let all = vec![
        (orders::id.eq(10), orders::email.eq(ADA), orders::total.eq(100)),
        (orders::id.eq(11), orders::email.eq(BOB), orders::total.eq(200)),
    ];
    show(diesel::insert_into(orders::table).values(all).execute(db)?);
    let check = (visit::person.eq(1), visit::reason.eq("check"));
    show(diesel::insert_into(visit::table).values(check).returning(Visit::as_returning()).get_result(db)?);
    Ok(())
}

fn search(db: &mut PgConnection) -> Outcome {
    let ids = people::table.select(people::id).order(people::id);
    for _ in 0..3 {
        same("all", people::table.filter(people::email.eq(ADA)).select(Person::as_select()).first(db)?, ada())?;
    }
    same("any", ids.filter(people::email.eq_any([ADA, ZOE])).load(db)?, vec![1, 3])?;
    same("not", ids.filter(not(people::email.eq(ADA))).load(db)?, vec![2, 3])?;
    same("none of", ids.filter(people::email.ne_all([ADA, ZOE])).load(db)?, vec![2])?;
    same("or", ids.filter(people::email.eq(ADA).or(people::email.eq(BOB))).load(db)?, vec![1, 2])?;
    same("null", ids.filter(people::name.is_null()).load(db)?, vec![3])?;
    same("uuid, int8", ids.filter(people::token.eq(token()).and(people::big.eq(BIG))).load(db)?, vec![1])?;
    same("not distinct", ids.filter(people::token.is_not_distinct_from(token())).load(db)?, vec![1])?;
    let theirs = orders::table.select(orders::email).filter(orders::total.gt(100));
    same("subquery", ids.filter(people::email.eq_any(theirs)).load(db)?, vec![2])?;
    same("exists", select(exists(people::table.filter(people::email.eq(ADA)))).get_result(db)?, true)?;
    let dynamic = people::table.into_boxed().filter(people::email.eq(BOB)).select(people::name);
    show(dynamic.load::<Option<String>>(db)?);
    let joined = people::table.inner_join(orders::table.on(orders::email.eq(people::email)));
    show(joined.select((people::name, orders::total)).order(orders::total).load::<(Option<String>, Option<i32>)>(db)?);
    show(
        visit::table
            .inner_join(people::table)
            .filter(people::email.eq(ADA))
            .select((people::name, visit::reason))
            .load::<(Option<String>, Option<String>)>(db)?,
    );
    let counted = people::table.left_join(visit::table).group_by((people::id, people::name)).order(people::id);
    show(counted.select((people::name, diesel::dsl::count(visit::id.nullable()))).load::<(Option<String>, i64)>(db)?);
    let found = people::table.find(1).select(Person::as_select()).first(db)?;
    show(Visit::belonging_to(&found).select(Visit::as_select()).load(db)?);
    show(
        people::table
            .select((count_star(), diesel::dsl::count(people::email).aggregate_distinct()))
            .first::<(i64, i64)>(db)?,
    );
    show(people::table.select(people::email).distinct().load::<String>(db)?.len());
    let (raw, name) = diesel::sql_query("select id, name from people where email = $1")
        .bind::<Text, _>(ADA)
        .get_result::<Named>(db)
        .map(|row| (row.id, row.name))?;
    show((raw, name));
    Ok(())
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Text)]
    name: String,
}

fn update(db: &mut PgConnection) -> Outcome {
    let changes = (
        people::name.eq("Augusta kanarie"),
        people::salary.eq(number("99999999.99")),
        people::born.eq(date("0001-01-01")),
        people::active.eq(None::<bool>),
    );
    show(diesel::update(people::table.filter(people::email.eq(ADA))).set(changes).execute(db)?);
    let changed: Person = diesel::update(people::table.find(1))
        .set((people::blob.eq(&b"\\'"[..]), people::seen.eq(seen())))
        .returning(Person::as_returning())
        .get_result(db)?;
    show(&changed);
    let saved = Person { name: Some("saved kanarie".into()), visits: Some(43), ..changed };
    let saved: Person = saved.save_changes(db)?;
    show((saved.name, saved.visits, saved.email));
    Ok(())
}

fn upsert(db: &mut PgConnection) -> Outcome {
    for (id, email, name) in [(20, ADA, "Countess kanarie"), (21, NEW, "New kanarie")] {
        let row = (people::id.eq(id), people::email.eq(email), people::name.eq(name));
        let put = diesel::insert_into(people::table).values(row).on_conflict(people::email).do_update();
        show(
            put.set(people::name.eq(excluded(people::name)))
                .returning((people::id, people::name))
                .get_result::<(i32, Option<String>)>(db)?,
        );
    }
    let row = (people::id.eq(22), people::email.eq(ADA));
    show(diesel::insert_into(people::table).values(row).on_conflict_do_nothing().execute(db)?);
    Ok(())
}

fn bulk_rows(db: &mut PgConnection) -> Outcome {
    let (ids, emails, names) = bulk(100, 300);
    let rows: Vec<_> = (0..300)
        .map(|at| (people::id.eq(ids[at]), people::email.eq(&emails[at]), people::name.eq(&names[at])))
        .collect();
    show(diesel::insert_into(people::table).values(&rows).execute(db)?);
    let found = people::table.filter(people::email.eq_any(&emails)).order(people::id).select(people::name);
    same("names", found.load::<Option<String>>(db)?, names.into_iter().map(Some).collect())?;
    let (_, emails, names) = bulk(800, 200);
    let lines: String = emails
        .iter()
        .zip(&names)
        .enumerate()
        .map(|(at, (email, name))| format!("{},{email},{name}\n", 800 + at))
        .collect();
    let into = diesel::copy_from(people::table).from_raw_data((people::id, people::email, people::name), |out| {
        std::io::Write::write_all(out, lines.as_bytes()).map_err(|error| Error::SerializationError(error.into()))
    });
    show(into.with_format(diesel::pg::CopyFormat::Csv).execute(db)?);
    let (ids, emails, _) = bulk(1000, 100);
    let rows: Vec<_> =
        ids.iter().zip(&emails).map(|(id, email)| (people::id.eq(id), people::email.eq(email))).collect();
    show(diesel::copy_from(people::table).from_insertable(&rows).execute(db)?);
    let copied = diesel::copy_to(people::table).load::<Person, _>(db)?.collect::<Result<Vec<_>, _>>()?;
    show((copied.len(), copied.iter().filter(|person| person.email.starts_with("bulk")).count()));
    let mut streamed = 0;
    for row in people::table.select(people::email).load_iter::<String, diesel::pg::PgRowByRowLoadingMode>(db)? {
        streamed += usize::from(row?.contains("kanarie"));
    }
    show(streamed);
    Ok(())
}

fn transaction(db: &mut PgConnection) -> Outcome {
    let put = |id: i32| diesel::insert_into(people::table).values((people::id.eq(id), people::email.eq(TX)));
    let ended = db.transaction::<(), Error, _>(|db| {
        put(60).execute(db)?;
        let inner = db.transaction::<usize, Error, _>(|db| put(61).execute(db)).expect_err("a duplicate");
        said(inner).expect("the server's own");
        show(people::table.filter(people::email.eq(TX)).select(people::id).for_update().load::<i32>(db)?);
        Err(Error::RollbackTransaction)
    });
    show(ended);
    same("rolled back", people::table.filter(people::email.eq(TX)).select(people::id).load::<i32>(db)?, vec![])?;
    let read = db
        .build_transaction()
        .serializable()
        .read_only()
        .run(|db| diesel::update(people::table.find(1)).set(people::name.eq("x")).execute(db));
    said(read.expect_err("read only"))
}

fn failures(db: &mut PgConnection) -> Outcome {
    for email in [ADA, &*"kanarie".repeat(20)] {
        let row = (people::id.eq(50), people::email.eq(email));
        said(diesel::insert_into(people::table).values(row).execute(db).expect_err("refused"))?;
    }
    said(diesel::insert_into(people::table).values(people::id.eq(50)).execute(db).expect_err("no address"))?;
    let much = people::salary.eq(number("100000000"));
    said(diesel::update(people::table.find(1)).set(much).execute(db).expect_err("too much"))?;
    for sql in ["select nonsense from people", "selec", "select 1/0", "update people set born = 'kanarie' where id = 1"]
    {
        said(diesel::sql_query(sql).execute(db).expect_err("refused"))?;
    }
    same("after", people::table.filter(people::email.eq(BOB)).select(people::id).load::<i32>(db)?, vec![2])
}

fn delete(db: &mut PgConnection) -> Outcome {
    let gone = diesel::delete(people::table.filter(people::email.eq(ZOE))).returning(people::name);
    same("returning", gone.get_results::<Option<String>>(db)?, vec![None])?;
    db.batch_execute("drop table visit")?;
    Ok(())
}

#[derive(Debug, QueryableByName)]
#[expect(dead_code, reason = "printed")]
struct Listed {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Integer)]
    ordinal_position: i32,
    #[diesel(sql_type = Text)]
    is_nullable: String,
}

fn tables(db: &mut PgConnection) -> Outcome {
    let sql = "select table_name::text, column_name::text, ordinal_position::int, is_nullable::text from information_schema.columns where table_schema = $1 order by 1, 3";
    diesel::sql_query(sql).bind::<Text, _>("public").load::<Listed>(db)?.into_iter().for_each(show);
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let mut db = PgConnection::establish(&arguments[1])?;
    db.batch_execute("set timezone = 'UTC'")?;
    println!("version {}", version("diesel"));
    if arguments[2] == "introspect" {
        steps! { "tables" => tables(&mut db) }
        return Ok(());
    }
    steps! {
        "create" => create(&mut db),
        "insert" => insert(&mut db),
        "search" => search(&mut db),
        "update" => update(&mut db),
        "upsert" => upsert(&mut db),
        "bulk" => bulk_rows(&mut db),
        "transaction" => transaction(&mut db),
        "failures" => failures(&mut db),
        "delete" => delete(&mut db),
    }
    Ok(())
}
