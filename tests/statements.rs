//! Shapes of statements, run through pgveil on sealed tables and directly on unsealed ones: the same columns, types,
//! rows and tags. What the resolver promises and what PostgreSQL describes must agree for every one of them.

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{PASSWORD, Site, connect, twins};

const SCHEMA: &str = "
    create table users (id int primary key, email varchar(80) unique, full_name text, dob date, pin int8, nickname text);
    create table orders (id int primary key, user_id int, email varchar(80), code varchar(20), total numeric);
    create view v_users as select id, email as mail, full_name as name, upper(nickname) as shout from users;";

const TWIN_VIEW_LAST: &str = "create view v_users as";

const POLICY: &str = r#"
version = 1
copies = "allow"
default_level = "internal"
[tables."public.users"]
subject = { kind = "user", key = "id" }
[tables."public.users".columns]
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
full_name = { level = "restricted", as = "text", encrypt = "randomized", mask = "name" }
dob = { level = "restricted", as = "date", encrypt = "randomized", mask = "date" }
pin = { level = "restricted", as = "int8", encrypt = "deterministic", mask = "null" }
[tables."public.orders".columns]
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email", same_as = "public.users.email" }
code = { level = "restricted", as = "varchar(20)", encrypt = "deterministic", mask = "null" }
[roles.app]
clearance = "restricted"
"#;

/// Literals; run in this order by the simple and the extended protocol.
const STATEMENTS: &[&str] = &[
    "insert into users values (1, 'a@x', 'Ada', '1980-01-02', 7, 'n1'), (2, 'b@x', null, null, -7, 'n2')",
    "insert into users (id, email, full_name) values (3, 'c@x', E'C\\'s'), (4, default, $$d$$) returning *",
    "insert into users (id, email) select 5, 'e@x' returning email, id",
    "insert into users (id, email) select v.i, v.e from (values (6, 'f@x'), (7, 'g@x')) v(i, e) returning id, email",
    "insert into users (id, email, pin) values (1, 'z@x', -1) on conflict (id) do update set email = excluded.email, pin = excluded.pin where users.email <> 'q' returning id, email, pin",
    "insert into orders values (1, 1, 'z@x', 'c1', 1.5), (2, 2, 'b@x', 'c2', 2), (3, 9, null, 'c1', null)",
    "insert into orders (id, email) select id + 10, email from users where id < 3 returning id, email",
    "select * from users order by id",
    "select u.*, o.code from users u join orders o on o.user_id = u.id order by u.id, o.id",
    "select * from users join orders using (email) order by users.id, orders.id",
    "select o.id, u.id, email from orders o full join (select id, email from users) u using (email) order by 1, 2",
    "select email from users where email = 'b@x'",
    "select id from users where email in ('b@x', 'c@x', 'nobody') order by id",
    "select id from users where email not in ('b@x') order by id",
    "select id from users where email <> 'b@x' order by id",
    "select id from users where email is distinct from 'b@x' order by id",
    "select id from users where email = any(array['b@x', 'c@x']::varchar[]) order by id",
    "select id from users where email = any('{b@x,\"c@x\"}') order by id",
    "select id from users where (email, id) = ('b@x', 2)",
    "select id from users where (id, email) in ((2, 'b@x'), (3, 'x')) order by id",
    "select id from users where pin = -7 or pin = 7::int order by id",
    "select id from users where pin in (-1, 2) order by id",
    "select id from users where email = cast('b@x' as varchar) and 'b@x'::text = email",
    "select id from users where full_name is null order by id",
    "select count(*), count(email), count(distinct email), count(full_name) from users",
    "select u.id from users u where u.email in (select email from orders) order by id",
    "select u.id from users u where exists (select 1 from orders o where o.email = u.email and o.code = 'c2') order by id",
    "select u.id from users u where u.email = (select o.email from orders o where o.code = 'c2')",
    "select id from users where 'b@x' in (select email from orders) order by id",
    "select u.id from users u join (values ('b@x'), ('c@x')) v(e) on u.email = v.e order by id",
    "select o.code, count(*) from orders o group by o.code order by 2, o.code is null",
    "select u.*, count(o.id) from users u left join orders o on o.user_id = u.id group by u.id, u.email, u.full_name, u.dob, u.pin, u.nickname order by u.id",
    "select o.code, u.id, u.full_name, count(*) from orders o left join users u on u.id = o.user_id group by o.code, u.id, 3 order by 2, 4",
    "select count(distinct (id, full_name)), count(distinct (email, pin)) from users",
    "select distinct u.* from users u join orders o on o.user_id in (u.id, 1) order by u.id",
    "select count(*) from (select email from users union select email from orders) x",
    "select count(*) from (select distinct code from orders) x",
    "select x.e from (select email as e, id from users) x where x.e = 'c@x'",
    "with c as (select email as e, id from users) select e, id from c where e <> 'c@x' order by id",
    "with recursive t(id, e) as (select id, email from users where id = 1 union all select u.id, u.email from users u join t on u.id = t.id + 1) select * from t order by id",
    "select coalesce(full_name, 'nobody'), coalesce(email, null), nullif(email, 'c@x') from users order by id",
    "select case when id > 2 then email end, case email when 'b@x' then 'it' else 'other' end from users order by id",
    "select array_agg(email order by id), (array_agg(email order by id))[2] from users",
    "select array(select full_name from users order by id)",
    "select lag(full_name) over (order by id), first_value(email) over (order by id) from users order by id",
    "select id, (select u.email from users u where u.id = o.user_id) from orders o order by id",
    "select email from users where id = 1 union all select null union all select email from orders where id = 2",
    "select mail, name, shout from v_users where mail = 'b@x'",
    "select dob, pin from users where id = 1",
    "table v_users limit 0",
    "select email from only users where id = 2 for no key update",
    "update users set email = 'B@x', full_name = 'Bob' where email = 'b@x' returning email, full_name",
    "update users set (email, pin) = ('b@x', 5) where id = 2 returning *",
    "update users set full_name = coalesce(null, full_name), dob = null where id = 1 returning full_name, dob",
    "update users u set email = v.e from (values (3, 'C@x'), (5, 'E@x')) v(id, e) where v.id = u.id returning u.id, u.email",
    "update orders o set email = u.email from users u where u.id = o.user_id returning o.id, o.email",
    "update users set pin = default, full_name = case when id = 3 then 'X' else full_name end where id = 3 returning pin, full_name",
    "with x as (update users set nickname = 'y' where email = 'B@x' or email = 'b@x' returning id, email) select email from x",
    "merge into users u using (values (2, 'm@x'), (50, 'n@x')) v(i, e) on u.id = v.i when matched then update set email = v.e when not matched then insert (id, email) values (v.i, v.e)",
    "delete from orders o using users u where o.email = u.email and u.email = 'C@x' returning o.id, u.email",
    "delete from users where email = 'n@x' returning id, email",
    "begin",
    "declare c cursor for select email, id from users where email <> 'q' order by id",
    "fetch 2 from c",
    "commit",
    "create table made as select id, email from users where email = 'm@x'",
    "select id, email from made",
    "drop table made",
    "select id, email, full_name, dob, pin, nickname from users order by id",
    "select id, user_id, email, code, total from orders order by id",
];

/// A value exactly as it is on the wire; a parameter in text form would do as well.
#[derive(Debug, PartialEq)]
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A parameter: its binary form follows the type that the server, or pgveil, says it has.
#[derive(Debug)]
enum Arg {
    Text(&'static str),
    Number(i64),
    Texts(&'static [&'static str]),
    Null,
}

impl ToSql for Arg {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, ty) {
            (Arg::Text(text), _) => text.to_sql(&Type::TEXT, out),
            (Arg::Number(number), &Type::INT8) => number.to_sql(ty, out),
            (Arg::Number(number), _) => i32::try_from(*number)?.to_sql(&Type::INT4, out),
            (Arg::Texts(texts), _) => texts.to_sql(ty, out),
            (Arg::Null, _) => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

use Arg::{Null, Number, Text, Texts};

/// Parameters.
const PREPARED: &[(&str, &[Arg])] = &[
    (
        "insert into users (id, email, full_name, pin) values ($1, $2, $3, $4) returning *",
        &[Number(1), Text("a@x"), Text("Ada"), Number(-3)],
    ),
    (
        "insert into users (id, email, full_name) values ($1, $2::varchar, $3::text), ($4, $5, null)",
        &[Number(2), Text("b@x"), Null, Number(3), Text("c@x")],
    ),
    (
        "insert into users (id, full_name, nickname) values ($1, $2, $2) returning full_name, nickname",
        &[Number(4), Text("twice")],
    ),
    (
        "insert into users (id, email) select p0::int, p1::varchar from (values ($1, $2, 0), ($3, $4, 1)) as t(p0, p1, n) order by n returning id, email",
        &[Text("5"), Text("e@x"), Text("6"), Text("f@x")],
    ),
    (
        "insert into users (id, email) select 20 + i, e from unnest($1::text[]) with ordinality as u(e, i) returning id, email",
        &[Texts(&["u1@x", "u2@x"])],
    ),
    (
        "insert into users (id, email) values ($1, coalesce($2, $3)) on conflict (email) do update set full_name = $4 returning id, email, full_name",
        &[Number(7), Null, Text("a@x"), Text("again")],
    ),
    ("insert into orders (id, user_id, email, code) values (1, 1, $1, $2)", &[Text("a@x"), Text("c1")]),
    ("select id, email from users where email = $1", &[Text("a@x")]),
    ("select id, email from users where email = $1::varchar and id = $2", &[Text("a@x"), Number(1)]),
    ("select id from users where email = any($1) order by id", &[Texts(&["a@x", "c@x"])]),
    ("select id from users where email = any($1::varchar[]) order by id", &[Texts(&["a@x", "zz"])]),
    ("select id from users where email <> all($1) order by id", &[Texts(&["a@x"])]),
    ("select id from users where email in ($1, $2) order by id", &[Text("a@x"), Text("b@x")]),
    ("select id from users where email = $1 or nickname = $1 order by id", &[Text("a@x")]),
    ("select $1::text as asked, email from users where email = $1", &[Text("a@x")]),
    ("select id from users where ($1::text is null or email = $1::text) order by id", &[Text("b@x")]),
    ("select id from users where ($1::text is null or email = $1::text) order by id", &[Null]),
    ("select u.id from users u join orders o on u.id = o.user_id where u.email = $1 and o.email = $1", &[Text("a@x")]),
    (
        "select u.id from users u join orders o on u.id = o.user_id where u.email = $1 and o.code = $2",
        &[Text("a@x"), Text("c1")],
    ),
    ("select id from users where (email, id) = ($1, $2)", &[Text("a@x"), Number(1)]),
    ("select id from users where pin = $1", &[Number(-3)]),
    ("select coalesce(full_name, $1) from users order by id", &[Text("nobody")]),
    ("select e.email from users e, unnest($1::text[]) x where e.email = x order by e.id", &[Texts(&["a@x", "b@x"])]),
    ("select id, email from users order by id limit $1 offset $2", &[Number(2), Number(1)]),
    ("update users set email = $1 where email = $2 returning id, email", &[Text("A@x"), Text("a@x")]),
    (
        "update users set full_name = coalesce($1, full_name), nickname = $2 where id = $3 returning full_name",
        &[Null, Text("n"), Number(1)],
    ),
    (
        "update users set (email, full_name) = ($1, $2) where id = $3 returning *",
        &[Text("A2@x"), Text("Ada2"), Number(1)],
    ),
    ("delete from users where email = $1 returning email", &[Text("b@x")]),
    (
        "with x as (insert into users (id, email) values ($1, $2) returning email) select email from x where email = $2",
        &[Number(60), Text("w@x")],
    ),
    ("select id, email, full_name, dob, pin, nickname from users order by id", &[]),
];

/// pgveil and the twin.
async fn both(name: &str) -> (Site, Client, Client) {
    let (tables, view) = SCHEMA.split_once(TWIN_VIEW_LAST).unwrap();
    let site = Site::new(name).schema(tables).policy(POLICY).start();
    // A view over the table would stop `pgveil apply`, so it is made afterwards.
    let view = format!("{TWIN_VIEW_LAST}{view}");
    site.sql(&view);
    site.sql("grant all on v_users to app");
    let app = site.client("app").await;
    let database = format!("{}_twin", site.database);
    let cluster = twins();
    cluster.sql("postgres", &format!("create database {database} owner app")).unwrap();
    cluster.sql_as("app", PASSWORD, &database, SCHEMA).unwrap();
    let twin = connect(&format!("postgresql://app:{PASSWORD}@127.0.0.1:{}/{database}", cluster.port())).await.unwrap();
    (site, app, twin)
}

fn code(error: &tokio_postgres::Error) -> String {
    let described = |e: &tokio_postgres::error::DbError| format!("{} {}", e.code().code(), e.message());
    format!("error {}", error.as_db_error().map_or_else(|| error.to_string(), described))
}

async fn simple(client: &Client, sql: &str) -> String {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => return code(&error),
    };
    let mut out = String::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                out += &format!("{}\n", cells.join(" | "));
            }
            SimpleQueryMessage::CommandComplete(rows) => out += &format!("({rows})\n"),
            SimpleQueryMessage::RowDescription(columns) => {
                let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
                out += &format!("{}\n", names.join(" | "));
            }
            _ => {}
        }
    }
    out
}

async fn prepared(client: &Client, sql: &str, args: &[Arg]) -> String {
    let statement = match client.prepare(sql).await {
        Ok(statement) => statement,
        Err(error) => return code(&error),
    };
    let types = statement.params().iter().map(Type::name).collect::<Vec<_>>().join(" ");
    let columns = statement.columns().iter().map(|column| format!("{}:{}", column.name(), column.type_().name()));
    let mut out = format!("({types}) -> {}\n", columns.collect::<Vec<_>>().join(" "));
    let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect();
    match client.query(&statement, &args).await {
        Ok(rows) => {
            for row in rows {
                let cells = (0..row.len())
                    .map(|at| row.get::<_, Option<Raw>>(at).map_or("NULL".into(), |raw| hex::encode(raw.0)));
                out += &format!("{}\n", cells.collect::<Vec<_>>().join(" | "));
            }
        }
        Err(error) => out += &code(&error),
    }
    out
}

#[tokio::test]
async fn literals_answer_as_an_unsealed_twin() {
    let (site, app, twin) = both("shapes_simple").await;
    let mut differing = String::new();
    for sql in STATEMENTS {
        let (found, expected) = (simple(&app, sql).await, simple(&twin, sql).await);
        if found != expected || found.contains("error") {
            differing += &format!("{sql}\n pgveil: {found}\n twin:   {expected}\n");
        }
    }
    assert!(differing.is_empty(), "{differing}");
    let sealed = "select count(*) from users where substr(email::bytea, 1, 2) <> '\\xfed1'";
    assert_eq!(site.sql(sealed), "0");
}

#[tokio::test]
async fn prepared_literals_answer_as_an_unsealed_twin() {
    let (_site, app, twin) = both("shapes_extended").await;
    let mut differing = String::new();
    for sql in STATEMENTS {
        let (found, expected) = (prepared(&app, sql, &[]).await, prepared(&twin, sql, &[]).await);
        if found != expected || found.contains("error") {
            differing += &format!("{sql}\n pgveil: {found}\n twin:   {expected}\n");
        }
    }
    assert!(differing.is_empty(), "{differing}");
}

#[tokio::test]
async fn parameters_answer_as_an_unsealed_twin() {
    let (_site, app, twin) = both("shapes_parameters").await;
    let mut differing = String::new();
    for (sql, args) in PREPARED {
        let (found, expected) = (prepared(&app, sql, args).await, prepared(&twin, sql, args).await);
        if found != expected || found.contains("error") {
            differing += &format!("{sql}\n pgveil: {found}\n twin:   {expected}\n");
        }
    }
    assert!(differing.is_empty(), "{differing}");
}

/// Randomized columns are told apart by their row's key: it must be one that holds, of the whole of the table.
#[tokio::test]
async fn rows_are_known_by_keys_that_hold() {
    let tables = [
        ("wide", "(id int, part int, note text, memo text, primary key (part, id) include (note))", ""),
        (
            "parted",
            "(id int, memo text, primary key (id)) partition by range (id)",
            "create table p1 partition of parted for values from (0) to (9)",
        ),
        ("loose", "(id int primary key deferrable, memo text)", ""),
        ("parent", "(id int primary key, memo text)", "create table child () inherits (parent)"),
        (
            "pending",
            "(id int not null, memo text) partition by range (id)",
            "create table p2 partition of pending for values from (0) to (9); alter table only pending add primary key (id)",
        ),
        ("keyless", "(id int unique not null, memo text)", ""),
    ];
    let mut schema = String::new();
    let mut policy = "version = 1\ndefault_level = \"internal\"\n[roles.app]\nclearance = \"restricted\"\n".to_owned();
    for (name, columns, more) in tables {
        schema += &format!("create table {name} {columns}; {more};\n");
        policy += &format!(
            "[tables.\"public.{name}\".columns]\nmemo = {{ level = \"restricted\", as = \"text\", encrypt = \"randomized\", mask = \"null\" }}\n"
        );
    }
    let site = Site::new("keys_that_hold").schema(&schema).policy(&policy).start();
    let app = site.client("app").await;
    for (name, key, holds) in [
        ("wide", "id, part", true),
        ("wide", "id", false),
        ("parted", "id", true),
        ("loose", "id", false),
        ("parent", "id", false),
        ("pending", "id", false),
        ("keyless", "id", false),
    ] {
        let grouped = app.simple_query(&format!("select {key}, memo from {name} group by {key}, memo")).await;
        let distinct = app.simple_query(&format!("select distinct {key}, memo from {name}")).await;
        for (result, word) in [(grouped, "GROUP BY"), (distinct, "DISTINCT")] {
            match result {
                Ok(_) => assert!(holds, "{name} by {key}"),
                Err(error) => assert!(!holds && code(&error).contains(word), "{name} by {key}: {}", code(&error)),
            }
        }
    }
}
