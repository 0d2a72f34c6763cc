select 1
select 1, 'a', null, true, false, 1.5, .5, 1e10, $1
select * from users
select u.* from users u
select u.id, u.email as "E" from public.users as u where u.id = $1
select distinct email from users
select distinct on (country) country, email from users order by country, id desc nulls last
select count(*), count(distinct email), sum(x) filter (where y > 1) from users group by country having count(*) > 1
select a from t group by grouping sets ((a), (b), ())
select a from t group by rollup (a, b), cube (c)
select a from t order by a using <, b collate "C" asc nulls first limit 10 offset 5
select a from t limit all
select a from t offset 5 rows fetch first 10 rows only
select a from t order by a fetch next 1 row with ties
select a from t for update of t nowait
select a from t for no key update skip locked
select a from t for share
select a from t for key share
select all a from t
select a.b.c from a.b
select (t).a, (t.c).b[1] from t
! select (f(x)).* from t
select t from t
select a[1], a[1:2], a[:2], a[1:], a[:], a[i][j] from t
select array[1,2,3], array[[1,2],[3,4]], array(select 1), '{1,2}'::int[]
select row(1, 2), (1, 2), row()
select row(a, b) = row(1, 2), (a, b) in ((1, 2), (3, 4)) from t
select case when a then 1 when b then 2 else 3 end, case a when 1 then 'x' end from t
select coalesce(a, b, 'x'), nullif(a, ''), greatest(1, 2), least(a, b) from t
select cast(a as text), a::varchar(10), a::numeric(10,2)[], a::timestamp(3) with time zone, a::double precision, a::character varying(10) from t
select date '2020-01-01', timestamp '2020-01-01 00:00', timestamp with time zone '2020-01-01', time '10:00', interval '1 day', interval '1' day, interval '1-2' year to month, interval(3) '1 sec'
select int4 '1', bool 'true', numeric '1.5', text 'x', varchar 'x', json '{}', jsonb '{}', uuid '00000000-0000-0000-0000-000000000000', bytea '\x00'
! select point '(1,2)', inet '10.0.0.1', citext 'x', pg_catalog.date '2020-01-01', "T" 'x'
select a is null, a is not null, a is true, a is not false, a is unknown, a is distinct from b, a is not distinct from b from t
select a isnull, a notnull from t
select a between 1 and 2, a not between symmetric 1 and 2 from t
select a like 'x%', a not like 'x' escape '!', a ilike 'x', a similar to 'x', a not similar to 'x' escape '#' from t
select a in (1, 2), a not in (select 1), a = any($1), a <> all(array[1,2]), a = some(select 1) from t
select exists (select 1), not exists (select 1 from t)
select a and b or not c from t
select a || b, a + b - c * d / e % f ^ g, -a, +a, @a, |/a, ||/a, ~a, a & b, a | b, a # b, a << 1, a >> 1 from t
select a -> 'x', a ->> 'x', a #> '{a}', a #>> '{a}', a @> b, a <@ b, a ? 'x', a ?| array['x'], a ?& array['x'], a #- '{a}', a @? '$', a @@ '$' from t
select a ~ 'x', a ~* 'x', a !~ 'x', a !~* 'x', a ~~ 'x', a !~~ 'x', a ~~* 'x', a !~~* 'x' from t
select a && b, a -|- b, a <-> b, a <#> b, a <=> b, a %> b, a &< b, a &> b, a <<| b, a |>> b, a ^@ b from t
select a operator(pg_catalog.+) b from t
select a at time zone 'UTC', (a at time zone $1)::date from t
select a collate "de_DE" from t
select extract(year from a), extract(epoch from now()), date_part('day', a) from t
! select substring(a from 1 for 2), substring(a, 1, 2), substring(a from 'x'), substring(a similar 'x' escape '#'), position('x' in a), overlay(a placing 'x' from 1 for 2), trim(both 'x' from a), trim(leading from a), trim(a) from t
select current_date, current_time(2), current_timestamp, localtime, localtimestamp(3), current_user, session_user, user, current_role, current_catalog, current_schema
select now(), pg_catalog.now(), f(a => 1, b := 2), f(variadic array[1]), f(distinct a), f(all a), f(a order by b desc), string_agg(a, ',' order by b), percentile_cont(0.5) within group (order by a) from t
select sum(a) over (partition by b order by c rows between unbounded preceding and current row exclude ties), row_number() over w, lag(a, 1) over (w range 1 preceding) from t window w as (partition by b)
select sum(a) over (), rank() over (order by a groups between 1 preceding and 1 following) from t
! select xmlelement(name foo, xmlattributes(a as b), c), xmlforest(a, b as c), xmlconcat(a, b), xmlparse(content a), xmlserialize(content a as text), xmlpi(name foo), xmlexists('x' passing a) from t
select normalize(a, nfc), a is normalized, a is nfd normalized from t
select U&'d\0061t\+000061', U&"d\0061t" from t
select E'a\n\'b' from t
select 'a'¶  'b'
select $$a'b$$, $x$a$x$
select b'101', x'1F', N'abc'
select a from t where (a, b) > (1, 2)
select a from t where (a, b) overlaps (c, d)
! select a from t1, t2 as x, only t3, t4 *
select a from only (t)
! select a from t1 join t2 on t1.a = t2.a left join t3 using (a, b) right outer join t4 on true full join t5 using (a) as j cross join t6 natural join t7 natural left join t8
select * from (t1 join t2 on true) as j (a, b)
select * from (select 1) x, (values (1, 'a'), (2, 'b')) v (id, name)
select * from lateral (select 1) x, t left join lateral f(t.a) on true
! select * from f(1) as g, f(2) with ordinality as h (a, b), f(3) as (a int, b text), f(4) i (a text)
! select * from rows from (f(1), g(2) as (a int)) with ordinality as x (a, b)
select * from unnest($1::text[], $2::int[]) as u (a, b), generate_series(1, 10) g
select * from t tablesample bernoulli (10) repeatable (1), u tablesample system (5)
select * from json_to_recordset('[]') as x (a int, b text)
select * from xmltable('/r' passing x columns a int path 'a', b for ordinality)
select * from t as x (a, b, c)
select * from t format, u sample, v top
select a b, c "d", e as f from t
select a as select, b as "from", c as end from t
select a value, b name, c type, d date from t
select from t
! select
select a from t union all select b from u union select c from v intersect select d from w except all select e from x order by 1
(select a from t limit 1) union (select b from u order by 1)
((select 1))
values (1, 'a'), (2, 'b') order by 1 limit 1
table t
table only t
with a as (select 1), b (x, y) as materialized (select 2, 3), c as not materialized (select 4) select * from a, b, c
with recursive t (n) as (values (1) union all select n + 1 from t where n < 100) select sum(n) from t
! with recursive t as (select 1 as a union select a from t) search depth first by a set o cycle a set c using p select * from t
with x as (insert into t values (1) returning *) select * from x
with x as (delete from t returning id), y as (update u set a = 1 returning id) select * from x, y
with x as (select 1) insert into t select * from x
with x as (select 1) update t set a = (select * from x)
with x as (select 1) delete from t using x
select a into b from c
select a into temp table b from c
insert into t values (1, 'a', null, default)
insert into t (a, b) values ($1, $2), ($3, $4)
insert into public."T" as x (a, b[1], c.d) values (1, 2, 3)
insert into t default values
insert into t select * from u
insert into t (a) (select 1)
insert into t table u
insert into t (a) overriding system value values (1)
insert into t overriding user value select 1
insert into t values (1) on conflict do nothing
insert into t (a) values (1) on conflict (a) do update set a = excluded.a, b = t.b + 1 where t.c > 1 returning *
! insert into t (a) values (1) on conflict (lower(a) collate "C" text_ops) where b > 1 do update set (a, b) = (excluded.a, excluded.b)
insert into t (a) values (1) on conflict on constraint t_pkey do update set a = default returning a as x, b
insert into t as u (a) values (1) on conflict (a) do update set a = u.a
insert into t (a) with x as (select 1) select * from x
insert into users (email, name) values (lower($1), coalesce($2, 'x')) returning id, email
update t set a = 1, b = default, c = c + 1 where d = $1 returning *
update only t as x set (a, b) = (1, 2), (c, d) = (select 3, 4), (e) = row(5) where x.f = 1
update t set a[1] = 2, b.c = 3
update t set a = u.a from u join v on true where t.id = u.id
update t x set a = 1 where current of c
update t set set = 1
delete from t
delete from only t as x using u, v where x.a = u.a returning x.*
delete from t where current of c
merge into t using u on t.a = u.a when matched and t.b > 1 then update set c = u.c when matched then delete when not matched then insert (a, b) values (u.a, u.b)
merge into t as x using (select 1) as u on x.a = u.a when matched then do nothing when not matched then insert default values
merge into only t using u on true when not matched and u.a then insert values (1)
select 1;
explain select 1
explain (analyze, buffers, format json) select * from t
explain analyze verbose insert into t values (1)
prepare p (int, text) as select $1, $2
execute p (1, 'x')
deallocate p
declare c no scroll cursor with hold for select * from t
! declare c insensitive binary cursor for select 1
fetch 10 from c
fetch forward all in c
! fetch absolute -1 c
! move backward 5 from c
close c
! begin isolation level serializable read only deferrable
start transaction
commit and chain
rollback to savepoint s
savepoint s
release savepoint s
set search_path to a, b
set local x.y = 'z'
set time zone 'UTC'
set session characteristics as transaction isolation level read committed
show search_path
reset all
discard all
listen x
notify x, 'payload'
unlisten *
lock table t in access exclusive mode nowait
truncate table only t, u restart identity cascade
! vacuum (full, analyze) t (a, b)
analyze t
! cluster t using i
! reindex table concurrently t
! refresh materialized view concurrently v with no data
call p(1, 'x')
! do $$ begin perform 1; end $$
! do language plpgsql 'begin end'
! copy t (a, b) from stdin with (format csv, header)
copy (select 1) to stdout
! checkpoint
load 'x'
comment on column t.a is 'x'
grant select (a, b), insert on table t to role_a with grant option
! grant connect on database d to r
revoke all on all tables in schema public from public
! grant r to s with admin option
create table t (a int primary key, b text not null default 'x' check (b <> ''), c numeric(10,2) references u (id) on delete cascade, unique (a, b), constraint k foreign key (a) references u)
! create table if not exists t (a int generated always as identity, b int generated always as (a * 2) stored, like u including all) inherits (v) partition by range (a) with (fillfactor = 70) tablespace x
create table t partition of u for values from (1) to (10)
create table t as select * from u with no data
create temp table t (a int) on commit drop
create unlogged table t (a serial, b bytea, c jsonb, d timestamptz, e "My Type", f public.t[])
create unique index concurrently if not exists i on t using btree (lower(a) desc nulls last, b text_pattern_ops) include (c) with (fillfactor = 70) where a > 1
! create or replace view v (a, b) with (security_barrier) as select 1, 2 with local check option
! create materialized view v as select 1 with no data
create or replace function f(a int, out b text) returns setof record language sql stable as $$ select 1 $$
! create function f() returns int language sql begin atomic select 1; end
! create procedure p() language plpgsql as 'begin end'
create trigger t before insert or update of a on u for each row when (new.a is distinct from old.a) execute function f()
create type e as enum ('a', 'b')
create type c as (a int, b text)
! create domain d as text not null check (value <> '')
! create sequence s start with 1 increment by 2 owned by t.a
create schema if not exists s authorization r
create extension if not exists x with schema s
create role r with login password 'x' nosuperuser in role a
create policy p on t as permissive for select to r using (a = 1) with check (b = 2)
! create rule r as on insert to t do instead (insert into u values (new.a); delete from v)
! create database d owner r encoding 'UTF8'
! create publication p for table t
! create statistics s on a, b from t
create server s foreign data wrapper w options (host 'x')
alter table t add column a int, drop column b cascade, alter column c type text using c::text, alter d set not null
alter table t rename column a to b
alter table only t enable row level security
alter table t add constraint c check (a > 1) not valid
! alter table t attach partition u for values in (1, 2)
alter role r set search_path = x
alter index i rename to j
alter type e add value 'c' after 'b'
! alter sequence s restart with 10
alter function f(int) owner to r
! alter default privileges in schema s grant select on tables to r
drop table if exists t, u cascade
drop function f(int, text)
! drop index concurrently i
drop view v restrict
drop schema s cascade
! drop owned by r
! reassign owned by a to b
! security label on table t is 'x'
! import foreign schema s from server x into y
select a::int::text, (a)::int, -1::int, a.b::text, f(x)::int[1] from t
select "select", "a""b" from "T".t
select a/*c*/,b--d¶from t
select * from t where a = 'x'and b = 1 or c
select count(*) from (select 1 union select 2) as x
select a from t where b = (select max(b) from t) and c in (select d from e where e.f = t.g)
select * from a where not (b = 1 or c = 2) and (d = 3)
select json_build_object('a', 1), jsonb_path_query(a, '$.x[*] ? (@.y > 1)'), a['x']['y'] from t
! select a.* , b.*::text from a, b
select sum(a) filter (where b = 'x') over (partition by c) from t
! select a from t where a = any(array['x', 'y']::text[]) and b = all (values (1), (2))
select pg_catalog.set_config('search_path', '', false)
select * from pg_catalog.pg_class c where c.oid operator(pg_catalog.=) '16384' and relname operator(pg_catalog.~) '^(t)$' collate pg_catalog.default
select ceil(a), floor(a), convert(a, 'x', 'y'), log(a), substr(a, 1), min(a), max(b), map(a), left(a, 1), right(a, 1), replace(a, 'x', 'y'), if(a) from t
select cast(null as text), cast('1' as int) + 1, null::bytea
select interval '1' week, interval '1' year, '1'::interval day to second
! select timestamp without time zone 'x', time with time zone 'x', char 'x', character varying 'x', bit '1', bit varying '1', double precision '1', national character 'x'
! select treat(a as b), collation for (a) from t
select grouping(a), a from t group by a
! select a from t group by distinct a, b
! select a from t group by all a
select 1 as "A" where true group by () having true
select merge_action()
select * from t where a = $1::varchar and b in ($2::text, $3::text) and c = coalesce($4::int, 5)
select a.id as a_id, a.email as a_email from users as a where a.email = $1::VARCHAR limit $2::INTEGER
insert into t (a, b) select p0::VARCHAR, p1::INTEGER from (values ($1::VARCHAR, $2::INTEGER, 0)) as imp_sen(p0, p1, sen_counter) order by sen_counter returning t.id, t.id as id__1
select t0."id", t0."email" from "public"."users" as t0 where (t0."email" = $1 and 1=1) order by t0."id" asc limit $2 offset $3
! insert into t (a) values (1) on conflict (a) where b > 1 do update set a = 1
insert into t (a) values (1) on conflict (lower(a)) do nothing
insert into t (a) values (1) on conflict (a, lower(b)) do nothing
update t set (a, b) = (1, 2)
update t set (a, b) = (select 3, 4)
update t set (a, b) = row(5, 6)
update t set (a) = row(5)
update t set a = row(5)
update only t set a = 1
update t as x set a = 1
update t x set a = 1
! update t * set a = 1
delete from t as x using u, v where x.a = u.a returning x.*
delete from t x where a = 1
delete from only t
delete from t using u join v on true where t.a = u.a
! select * from a join b using (x) as j
select * from a natural join b
select * from a natural left join b
select * from f(2) with ordinality as h (a, b)
select * from f(2) with ordinality
! select * from f(3) as (a int, b text)
select * from f(4) i (a text)
select * from f(4) as i (a text, b int)
select * from f(4) i (a, b)
select substring(a from 1 for 2) from t
select substring(a from 'x') from t
select substring(a for 2) from t
! select substring(a similar 'x' escape '#') from t
select overlay(a placing 'x' from 1 for 2) from t
select overlay(a placing 'x' from 1) from t
select trim(both 'x' from a) from t
! select trim(leading from a) from t
! select trim(from a) from t
! select trim(both from a, 'x') from t
select trim(a, 'x') from t
select position('x' in a) from t
select f(variadic array[1])
select f(all a) from t
select string_agg(distinct a, ',' order by a) from t
select percentile_cont(0.5) within group (order by a) from t
select sum(a) over (order by c rows between unbounded preceding and current row exclude ties) from t
select sum(a) over (rows 1 preceding exclude no others), max(b) over (rows 1 preceding exclude current row) from t
select lag(a, 1) over (w range 1 preceding) from t window w as (partition by b)
select lag(a, 1) over (w order by x) from t window w as (partition by b)
! select xmlelement(name foo, 'x') from t
! select xmlelement(name foo, xmlattributes(a as b), c) from t
select xmlparse(content a) from t
select xmlforest(a, b as c)
select a not between 1 and 2 from t
select a from only t
! select a from t *
select a from ((t join u on true) join v on true)
merge into t using u on t.a = u.a when not matched then do nothing
merge into t using u on t.a = u.a when not matched then insert default values
merge into t using u on t.a = u.a when matched then update set (a, b) = (1, 2)
insert into t (a, b) values (1, (select 2)), (default, array[1])
insert into t as x values (1) on conflict (a) do update set a = x.a || excluded.a where x.b is null returning x.a, xmax
select a from t where b = 'x' for update
select 1 union (select 2 limit 1) order by 1
select a from t order by 1 for update of t skip locked limit 1
select a from t limit 1 for update
select (select 1), array(select 2), exists(select 3)
select (1, 'a')::u, (row(1, 'a')::u).a
select ((t.a).b).c from t
! select (select t from t limit 1).*
! select t.*::text from t
select count(t.*), count(distinct (a, b)) from t
select -1, - 1, +1, - -1, -a.b, not not a
select a::int + 1, (a + 1)::int, a::int::text || 'x', -a::int
select a < b is true from t
select a in (1) = true from t
select not a = b, not a in (1), not a is null from t
select a or b and c is null from t
select a collate "C" = b collate "C" from t
select a || b = c || d from t
select a -> 'b' = 'c', a ->> 'b' like 'c%' from t
select a at time zone 'x' = b from t
select a between b and c and d from t
select a is distinct from b and c from t
select a like b || '%' from t
select a % 2 = 0 from t
select a[1] = 2, a[1].b, (a[1]).b from t
select case a when b then c end = d from t
select a = any (select b from t), a = any (array[1]) and c from t
select a > all ('{1,2}') from t
select cast(a as int) = 1 from t
select interval '1 day' * 2, now() - interval '1' day, date '2020-01-01' + 1
select a.b(1) from t
select s.f(1), "S"."F"(1)
select f(*) from t
select f(a, b => c) from t
select $1::int = a, a = $1::text::citext from t
select distinct a, b from t order by a
select all 1
! select name 'x'
! select citext 'x' from t
! select f(1) 'x'
select varchar(10) 'x', numeric(3,1) '1.5', timestamp(3) 'x', time(3) with time zone 'x', interval(3) 'x'
select a "x", b x, c as x from t
select a.left from t a
select user from users
select "user" from users
select current_user, user, session_user from t
select date from t where date = '2020-01-01'
select time, timestamp, interval, year, month, day from t
select text, name, value, key, type, status, position, level, role, path, line, point from t
select a from t where text = 'x' and name like 'y'
select date(a), int4(a), text(a), bool(a), uuid(a), name(a) from t
select t.date, t.time, t.timestamp, t.interval, t.values, t.end, t.case, t.user from t
select first, last, next, offset_x, row, rows, "limit" from t
select a from t where row = 1
select a row, b rows from t
select a from t start
! select a from t global, u partition
select a from t view join u on true
select a from t cluster where a = 1
insert into t (date, time, name, value, "user", "order") values (1, 2, 3, 4, 5, 6)
update t set date = 1, name = 2, value = 3, "order" = 4, offset_ = 5, key = 6
select a from public.user
select a from t where (a = 1) is true
select a from t where a = 1 and (b = 2 or c = 3) or not (d = 4)
select array_agg(a order by b desc) filter (where c) from t
select unnest(array[1, 2]), generate_series(1, 2)
select json_agg(t) from t
select to_json(t.*), row_to_json(row(a, b)) from t
select a from t where (select count(*) from u) > 1
select a from t, lateral (select b from u where u.c = t.c) x
select a from t left join lateral (select b from u) x on true
select a from t join u on t.a = u.a and u.b = 'x' join v using (c)
select a from t inner join u on t.a = u.a
select a from t cross join u cross join lateral f(u.a) z
select a from t join (u join v on u.a = v.a) on t.a = u.a
select a from t t1 join t t2 on t1.a = t2.a
select t.a from x.t, y.t
select a from t where a ~ '^x' and b !~* 'y'
select greatest(a, 'x'), least(a, $1), nullif(a, 'x'), coalesce(null, $1, 'y') from t
select a from t group by 1 having count(*) > $1 order by count(*) desc limit $2
select a from t where a in ($1, $2) or (a, b) in (($1, $2)) or (a, b) = ($1, $2)
select a from t where a = $1 and b = any($2::text[]) and c <> all($3) and d in (select e from u where f = $4)
select a from t where exists (select 1 from u where u.a = t.a and u.b = $1)
with a as (select 1), b as (insert into t values ($1) returning id) select * from a, b
with a (x) as (values (1), (2)) delete from t using a where t.x = a.x
select a from t where a operator(public.=) 'x'
select a from t where a = 'x'::public.citext
select a from t where a = all (select 1 union select 2)
select a from t window w as (order by a), v as (w)
select a from t fetch first row only
select a from t order by a fetch first 5 rows with ties
select a from t offset 1 row
select a from t limit 5 offset 10
select a from t offset 10 limit 5
