//! What is sealed where.

use super::{APP, MASKED, WRITER, check};

const APPS: &[(&str, &str)] = &[
    // Reading.
    ("select id, email from users", "="),
    ("select * from users", "="),
    ("SELECT u.* FROM public.users AS u WHERE u.id = 7", "="),
    ("select email from only users", "="),
    ("table users", "="),
    ("select email from \"users\" where nickname like 'a%'", "="),
    ("select count(*), count(email), count(distinct email) from users", "="),
    ("select email from users where email is not null", "="),
    ("select email from users where full_name is null order by nickname", "="),
    ("select (u).email from users u", "="),
    // Searching with literals.
    ("select id from users where email = 'a@x'", "select id from users where email = {email 'a@x'}"),
    ("select id from users where 'a@x' = email", "select id from users where {email 'a@x'} = email"),
    ("select id from users where email <> 'a@x'", "select id from users where email <> {email 'a@x'}"),
    ("select id from users where email != E'a\\'x'", "select id from users where email != {email E'a\\'x'}"),
    ("select id from users where email = $$a@x$$", "select id from users where email = {email $$a@x$$}"),
    (
        "select id from users where email in ('a', 'b') and nickname in ('c')",
        "select id from users where email in ({email 'a'}, {email 'b'}) and nickname in ('c')",
    ),
    (
        "select id from users where email not in ('a', null)",
        "select id from users where email not in ({email 'a'}, null)",
    ),
    ("select id from users u where u.email = ('a')", "select id from users u where u.email = ({email 'a'})"),
    (
        "select id from users where public.users.email = 'a'",
        "select id from users where public.users.email = {email 'a'}",
    ),
    (
        "select id from users where clinic.public.users.email = 'a'",
        "select id from users where clinic.public.users.email = {email 'a'}",
    ),
    ("select id from users where email = 'a'::varchar", "select id from users where email = {email 'a'}::bytea"),
    (
        "select id from users where email = 'a'::character varying(320)",
        "select id from users where email = {email 'a'}::bytea",
    ),
    (
        "select id from users where email = cast('a' as text)",
        "select id from users where email = cast({email 'a'} as bytea)",
    ),
    ("select id from users where email = varchar 'a'", "select id from users where email = {email 'a'}"),
    (
        "select id from users where email is distinct from 'a'",
        "select id from users where email is distinct from {email 'a'}",
    ),
    // A cast that changes the value is made before it is sealed.
    ("select id from users where email = $1::varchar(3)", "select id from users where email = $1::bytea | $1=email"),
    (
        "select id from accounts where birth = '2020-01-01'::timestamp",
        "select id from accounts where birth = {birth '2020-01-01'}::bytea",
    ),
    (
        "select id from accounts where balance = 1.55::numeric(10,1)",
        "select id from accounts where balance = {balance 1.55}::bytea",
    ),
    ("select id from users where email is not distinct from null", "="),
    (
        "select id from users where email = any(array['a','b'])",
        "select id from users where email = any(array[{email 'a'},{email 'b'}])",
    ),
    (
        "select id from users where email = any(array['a','b']::varchar[])",
        "select id from users where email = any(array[{email 'a'},{email 'b'}]::bytea[])",
    ),
    ("select id from users where email = any('{a,b}')", "select id from users where email = any({email[] '{a,b}'})"),
    (
        "select id from users where email <> all('{a,b}'::text[])",
        "select id from users where email <> all({email[] '{a,b}'}::bytea[])",
    ),
    (
        "select id from users where (email, nickname) = ('a', 'b')",
        "select id from users where (email, nickname) = ({email 'a'}, 'b')",
    ),
    (
        "select id from users where (nickname, email) in (('n', 'a'), ('m', 'b'))",
        "select id from users where (nickname, email) in (('n', {email 'a'}), ('m', {email 'b'}))",
    ),
    ("select id from accounts where pin = 12", "select id from accounts where pin = {pin 12}"),
    ("select id from accounts where pin = -12", "select id from accounts where pin = {pin -12}"),
    ("select id from accounts where pin = - 12", "select id from accounts where pin = {pin -12}"),
    ("select id from accounts where pin in (-1, 2)", "select id from accounts where pin in ({pin -1}, {pin 2})"),
    ("select id from accounts where vip = true", "select id from accounts where vip = {vip true}"),
    (
        "select id from accounts where birth = date '2020-01-01'",
        "select id from accounts where birth = {birth '2020-01-01'}",
    ),
    (
        "select id from accounts where since = timestamp with time zone '2020-01-01'",
        "select id from accounts where since = {since '2020-01-01'}",
    ),
    (
        "select id from accounts where balance = 1.50::numeric(10,2)",
        "select id from accounts where balance = {balance 1.50}::bytea",
    ),
    (
        "select case email when 'a' then 1 else 2 end from users",
        "select case email when {email 'a'} then 1 else 2 end from users",
    ),
    // Parameters.
    ("select id from users where email = $1", "select id from users where email = $1 | $1=email"),
    (
        "select id from users where id = $1 and email = $2",
        "select id from users where id = $1 and email = $2 | $1=- $2=email",
    ),
    ("select id from users where email = $1::varchar", "select id from users where email = $1::bytea | $1=email"),
    (
        "select id from users where email = cast($1 as text) limit $2",
        "select id from users where email = cast($1 as bytea) limit $2 | $1=email $2=-",
    ),
    ("select id from users where email = any($1)", "select id from users where email = any($1) | $1=email[]"),
    (
        "select id from users where email = any($1::varchar[])",
        "select id from users where email = any($1::bytea[]) | $1=email[]",
    ),
    (
        "select id from users where email = $1 or nickname = $1",
        "select id from users where email = $2 or nickname = $1 | $1=-25 +1:email",
    ),
    (
        "select id from users where nickname = $1 or email = $1 or email <> $1",
        "select id from users where nickname = $1 or email = $2 or email <> $2 | $1=- +1:email",
    ),
    (
        "select 1 from users u join orders o on u.id = o.user_id where u.email = $1 and o.code = $1",
        "select 1 from users u join orders o on u.id = o.user_id where u.email = $1 and o.code = $2 | $1=email +1:code",
    ),
    (
        "select id from users where email = $1 or email = any($1)",
        "select id from users where email = $1 or email = any($2) | $1=email +1:email[]",
    ),
    (
        "select id from users where $1 is null or email = $1",
        "select id from users where $1 is null or email = $1 | $1=email",
    ),
    ("select $1, email from users where email = $1", "select $1, email from users where email = $2 | $1=- +1:email"),
    (
        "select id from users where (email, id) = ($1, $2)",
        "select id from users where (email, id) = ($1, $2) | $1=email $2=-",
    ),
    ("select $3 from users where email = $1", "select $3 from users where email = $1 | $1=email $2=- $3=-"),
    // Joins.
    ("select u.email from users u join orders o on u.email = o.email", "="),
    ("select * from users join orders using (email)", "="),
    ("select email from users u natural join (select email, id from orders) o", "="),
    ("select u.id from users u where u.email in (select email from orders)", "="),
    ("select u.id from users u where u.email not in (select o.email from orders o where o.total > 3)", "="),
    ("select u.id from users u where exists (select 1 from orders o where o.email = u.email)", "="),
    ("select u.id from users u where u.email = any(select email from orders)", "="),
    ("select u.id from users u where u.email = (select email from orders limit 1)", "="),
    (
        "select id from users where 'a' in (select email from orders)",
        "select id from users where {email 'a'} in (select email from orders)",
    ),
    (
        "select id from users where email in (select 'a' union all select $1)",
        "select id from users where email in (select {email 'a'} union all select $1) | $1=email",
    ),
    (
        "select u.id from users u join (values ('a'), ('b')) v(e) on u.email = v.e",
        "select u.id from users u join (values ({email 'a'}), ({email 'b'})) v(e) on u.email = v.e",
    ),
    (
        "select u.id from users u, unnest($1::text[]) e where u.email = e",
        "select u.id from users u, unnest($1::bytea[]) e where u.email = e | $1=email[]",
    ),
    (
        "select u.id from users u join lateral (select o.email from orders o where o.email = u.email and o.code = 'c') x on true",
        "select u.id from users u join lateral (select o.email from orders o where o.email = u.email and o.code = {code 'c'}) x on true",
    ),
    // Grouping.
    ("select email, count(*) from users group by email", "="),
    ("select email as e, count(*) from users group by 1 having count(*) > 1", "="),
    ("select distinct email from users", "="),
    ("select distinct on (email) email, id from users order by id", "="),
    ("select email from users union select email from orders", "="),
    ("select full_name from users union all select null", "="),
    ("select email from users except select email from orders", "="),
    (
        "select email, count(*) from users group by email having email = 'a'",
        "select email, count(*) from users group by email having email = {email 'a'}",
    ),
    ("select count(*) over (partition by email) from users", "="),
    // … by a row's key: the other columns of the row follow.
    ("select id, full_name, count(*) from users group by id, full_name, dob", "="),
    (
        "select u.id, (u.full_name), count(o.id) from users u left join orders o on o.user_id = u.id group by 1, u.full_name",
        "=",
    ),
    (
        "select o.id, o.user_id, u.id as n, u.dob as d from orders o left join users u on u.id = o.user_id group by 1, 2, n, d",
        "=",
    ),
    ("select count(*) from orders o, users u group by o.user_id, o.memo, (o.id, u.id), u.full_name", "="),
    ("select distinct * from users", "="),
    ("select count(distinct (id, full_name)), count(distinct (email, nickname)) from users", "="),
    ("select distinct u.*, o.total from users u join orders o on o.user_id = u.id", "="),
    // Wrappers.
    ("select coalesce(full_name, null) from users", "="),
    ("select coalesce(u.email, o.email) from users u left join orders o on o.user_id = u.id", "="),
    ("select coalesce(email, 'none') from users", "select coalesce(email, {email 'none'}) from users"),
    ("select case when id > 3 then email end from users", "="),
    ("select nullif(email, '') from users", "select nullif(email, {email ''}) from users"),
    ("select array_agg(email order by id) from users group by nickname", "="),
    ("select (array_agg(email))[1] from users", "="),
    ("select lag(full_name) over (order by id) from users", "="),
    ("select (select email from users where id = 1)", "="),
    ("select array(select email from users)", "="),
    ("select e from (select unnest(array_agg(email)) as e from users) x", "="),
    // CTEs and derived tables.
    (
        "with u as (select email as e from users) select e from u where e = 'a'",
        "with u as (select email as e from users) select e from u where e = {email 'a'}",
    ),
    (
        "with notes as (select email as body from users) select body from notes where body = 'a'",
        "with notes as (select email as body from users) select body from notes where body = {email 'a'}",
    ),
    (
        "select x.mail from (select email as mail from users) x where x.mail = $1",
        "select x.mail from (select email as mail from users) x where x.mail = $1 | $1=email",
    ),
    (
        "select x.b from (select id, email from users) x(a, b) where b = 'q'",
        "select x.b from (select id, email from users) x(a, b) where b = {email 'q'}",
    ),
    (
        "with recursive t(id, email) as (select id, email from users where id = 1 union all select u.id, u.email from users u join t on u.id = t.id + 1) select email from t where email = 'a'",
        "with recursive t(id, email) as (select id, email from users where id = 1 union all select u.id, u.email from users u join t on u.id = t.id + 1) select email from t where email = {email 'a'}",
    ),
    // Views.
    ("select mail from v_users where mail = 'a'", "select mail from v_users where mail = {email 'a'}"),
    ("select * from v_users", "="),
    // Names.
    (
        "select \"Email\" from \"Mixed Case\" where \"Email\" = 'a'",
        "select \"Email\" from \"Mixed Case\" where \"Email\" = {Email 'a'}",
    ),
    ("SELECT EMAIL FROM USERS WHERE EMAIL = 'a'", "SELECT EMAIL FROM USERS WHERE EMAIL = {email 'a'}"),
    (
        "select U&\"em\\0061il\" from U&\"us\\0065rs\" where U&\"em\\0061il\" = 'a'",
        "select U&\"em\\0061il\" from U&\"us\\0065rs\" where U&\"em\\0061il\" = {email 'a'}",
    ),
    ("select secret from shop.orders where secret = 'a'", "select secret from shop.orders where secret = {secret 'a'}"),
    ("select email from notes, users_copy c where c.id = notes.id and notes.email = 'a'", "refuse PV014"),
    ("select email from users_copy", "="),
    (
        "select/**/email/* 'x' */from users--\nwhere email='a'--",
        "select/**/email/* 'x' */from users--\nwhere email={email 'a'}--",
    ),
    // INSERT.
    (
        "insert into users (id, email, nickname) values (1, 'a', 'n')",
        "insert into users (id, email, nickname) values (1, {email 'a'}, 'n')",
    ),
    (
        "insert into users values (1, 'a', 'b', '2020-01-01')",
        "insert into users values (1, {email 'a'}, {full_name 'b'}, {dob '2020-01-01'})",
    ),
    (
        "insert into users (email, full_name) values ($1, $2), ($3, null), (default, 'z')",
        "insert into users (email, full_name) values ($1, $2), ($3, null), (default, {full_name 'z'}) | $1=email $2=full_name $3=email",
    ),
    ("insert into users default values", "="),
    (
        "insert into users (full_name, nickname) values ($1, $1)",
        "insert into users (full_name, nickname) values ($2, $1) | $1=-25 +1:full_name",
    ),
    (
        "insert into users (email, full_name) values ($1::varchar, $2::text) returning id, email",
        "insert into users (email, full_name) values ($1::bytea, $2::bytea) returning id, email | $1=email $2=full_name",
    ),
    ("insert into orders (email) select email from users", "="),
    ("insert into users (id, email) select 1, 'a'", "insert into users (id, email) select 1, {email 'a'}"),
    (
        "insert into users (id, email) select p0::int, p1::varchar from (values ($1, $2, 0), ($3, $4, 1)) as t(p0, p1, n) order by n returning id",
        "insert into users (id, email) select p0::int, p1::bytea from (values ($1, $2, 0), ($3, $4, 1)) as t(p0, p1, n) order by n returning id | $1=- $2=email $3=- $4=email",
    ),
    (
        "insert into users (email, full_name) select * from unnest($1::text[], $2::text[])",
        "insert into users (email, full_name) select * from unnest($1::bytea[], $2::bytea[]) | $1=email[] $2=full_name[]",
    ),
    (
        "insert into users (email) select unnest($1::text[])",
        "insert into users (email) select unnest($1::bytea[]) | $1=email[]",
    ),
    (
        "insert into users (id, email) values (1, 'a') on conflict (email) do update set email = excluded.email, nickname = 'x' where users.email <> 'b'",
        "insert into users (id, email) values (1, {email 'a'}) on conflict (email) do update set email = excluded.email, nickname = 'x' where users.email <> {email 'b'}",
    ),
    (
        "insert into users as u (id, full_name) values ($1, $2) on conflict (id) do update set full_name = $2",
        "insert into users as u (id, full_name) values ($1, $2) on conflict (id) do update set full_name = $2 | $1=- $2=full_name",
    ),
    (
        "insert into users (id, email) values (1, 'a') on conflict do nothing",
        "insert into users (id, email) values (1, {email 'a'}) on conflict do nothing",
    ),
    (
        "insert into users (email) values (coalesce($1, $2))",
        "insert into users (email) values (coalesce($1, $2)) | $1=email $2=email",
    ),
    (
        "insert into users (email) values (nullif($1, ''))",
        "insert into users (email) values (nullif($1, {email ''})) | $1=email",
    ),
    ("insert into v_users (id, mail) values (1, 'a')", "insert into v_users (id, mail) values (1, {email 'a'})"),
    (
        "with x as (insert into users (email) values ('a') returning id, email) select email from x where email = 'a'",
        "with x as (insert into users (email) values ({email 'a'}) returning id, email) select email from x where email = {email 'a'}",
    ),
    (
        "insert into accounts (pin, balance) values (-5, 1.5)",
        "insert into accounts (pin, balance) values ({pin -5}, {balance 1.5})",
    ),
    // UPDATE.
    ("update users set email = 'a' where id = 1", "update users set email = {email 'a'} where id = 1"),
    (
        "update only users set email = $1 where email = $2",
        "update only users set email = $1 where email = $2 | $1=email $2=email",
    ),
    ("update users set (email, nickname) = ('a', 'b')", "update users set (email, nickname) = ({email 'a'}, 'b')"),
    (
        "update users set (email, nickname) = row('a', 'b')",
        "update users set (email, nickname) = row({email 'a'}, 'b')",
    ),
    (
        "update users set (email, nickname) = (select 'a', 'b')",
        "update users set (email, nickname) = (select {email 'a'}, 'b')",
    ),
    ("update users set email = null, full_name = default", "="),
    (
        "update users set full_name = coalesce($1, full_name) where id = $2",
        "update users set full_name = coalesce($1, full_name) where id = $2 | $1=full_name $2=-",
    ),
    (
        "update users set full_name = case when $1 is not null then $1::text else full_name end",
        "update users set full_name = case when $1 is not null then $1::bytea else full_name end | $1=full_name",
    ),
    ("update orders o set email = u.email from users u where u.id = o.user_id", "="),
    (
        "update users u set email = v.e from (values (1, 'a'), (2, 'b')) v(id, e) where v.id = u.id returning u.email",
        "update users u set email = v.e from (values (1, {email 'a'}), (2, {email 'b'})) v(id, e) where v.id = u.id returning u.email",
    ),
    (
        "update users set nickname = 'x' where email = 'a' returning *",
        "update users set nickname = 'x' where email = {email 'a'} returning *",
    ),
    // DELETE.
    ("delete from users where email = 'a'", "delete from users where email = {email 'a'}"),
    (
        "delete from users u using orders o where u.email = o.email and o.code = 'c' returning u.email",
        "delete from users u using orders o where u.email = o.email and o.code = {code 'c'} returning u.email",
    ),
    ("delete from users", "="),
    // MERGE.
    (
        "merge into users u using (values (1, 'a')) v(id, e) on u.id = v.id when matched then update set email = v.e when not matched then insert (id, email) values (v.id, v.e)",
        "merge into users u using (values (1, {email 'a'})) v(id, e) on u.id = v.id when matched then update set email = v.e when not matched then insert (id, email) values (v.id, v.e)",
    ),
    // Others.
    ("explain select * from users where email = 'a'", "explain select * from users where email = {email 'a'}"),
    (
        "explain (analyze, costs off) delete from users where email = 'a'",
        "explain (analyze, costs off) delete from users where email = {email 'a'}",
    ),
    (
        "declare c cursor for select email from users where email = 'a'",
        "declare c cursor for select email from users where email = {email 'a'}",
    ),
    (
        "prepare p as select id from users where email = 'a' and id = $1",
        "prepare p as select id from users where email = {email 'a'} and id = $1",
    ),
    (
        "create view v as select id, email from users where email <> 'a'",
        "create view v as select id, email from users where email <> {email 'a'}",
    ),
    ("create table t as select email from users", "="),
    (
        "create or replace view v (a, b) with (security_barrier) as select id, email from users where email <> 'a' \
         with local check option",
        "create or replace view v (a, b) with (security_barrier) as select id, email from users where email <> {email 'a'} \
         with local check option",
    ),
    ("create materialized view v as select email from users with no data", "="),
    ("create unlogged table t (a) using heap with (fillfactor = 70) as select email from users with data", "="),
    ("create index i on users (email)", "="),
    ("alter table users add column x int default 3", "="),
    (
        "alter table users alter column full_name set default 'a'",
        "alter table users alter column full_name set default {full_name 'a'}",
    ),
    ("select 1; select id from users where email = 'a'", "select 1; select id from users where email = {email 'a'}"),
];

#[test]
fn a_cleared_application_reads_searches_and_writes() {
    check(APPS.iter().map(|(sql, expected)| {
        let expected = match *expected {
            "=" => format!("act: {sql}"),
            refused if refused.starts_with("refuse") => refused.to_owned(),
            text => format!("act: {text}"),
        };
        (APP, *sql, expected)
    }));
}

#[test]
fn a_masked_role_reads_and_groups_but_does_not_search() {
    let reads = [
        "select id, email, full_name from users where id = 1",
        "select count(*) from users where email is null",
        "select email, count(*) from users group by email",
        "select u.email from users u join orders o using (email)",
        "update users set nickname = 'x' where id = 3",
        "delete from users where id = 3",
        "insert into users (id, nickname) values (1, 'n')",
        "select coalesce(email, null) from users",
    ];
    check(reads.into_iter().map(|sql| (MASKED, sql, format!("act: {sql}"))));
}

#[test]
fn a_writer_stores_without_reading() {
    check([
        (
            WRITER,
            "insert into users (email) values ('a')",
            "act: insert into users (email) values ({email 'a'})".to_owned(),
        ),
        (
            WRITER,
            "update users set full_name = $1 where id = $2",
            "act: update users set full_name = $1 where id = $2 | $1=full_name $2=-".to_owned(),
        ),
    ]);
}
