-- The scenario for psql: literals, COPY blocks, cursors, several statements in one message.
\set VERBOSITY sqlstate
\pset null '∅'
\encoding UTF8
set timezone = 'UTC';

\echo == insert
insert into people values (1, 'ada.kanarie@example.org', 'Ada kanarie', '1815-12-10', 1234.50, 0.1, true,
    '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '2026-03-01 12:30:00.25+02', '2026-03-01 06:15', -7, 42, 9007199254740993,
    '\x00ff10fed1'::bytea, '{"kanarie": [1,  2.50]}', 'first');
insert into people (id, email, name, born, active, note) values
    (2, 'bob.kanarie@example.org', E'Bob\n"kanarie" \\ \'quoted\'', date '1999-02-28', false, 'second'),
    (3, 'zoë.kanarie@example.org', U&'Zo\00EB kanarie 李', '0044-03-15 BC', null, 'third'),
    (4, $m$max.kanarie@example.org$m$, '', 'infinity', default, 'fourth');
insert into people (email, id, score, salary, small, big) values ('nan.kanarie@example.org', 5, 'NaN', -0.005, 32767, -9223372036854775808);
insert into orders values (10, 'ada.kanarie@example.org', 100), (11, 'zoë.kanarie@example.org', 200), (12, 'gone.kanarie@example.org', 300);

\echo == search
select id from people where email = 'ada.kanarie@example.org';
select id from people where 'bob.kanarie@example.org'::varchar = email;
select id from people where email = 'nobody.kanarie@example.org';
select id from people where email <> 'ada.kanarie@example.org' order by id;
select id from people where email in ('ada.kanarie@example.org', 'zoë.kanarie@example.org') order by id;
select id from people where email = any (array['ada.kanarie@example.org', 'bob.kanarie@example.org']) order by id;
select id from people where email not in ('ada.kanarie@example.org') order by id;
select id from people where token is not distinct from '6BA7B8109DAD11D180B400C04FD430C8' order by id;
select id from people where token is distinct from '{6ba7b810-9dad-11d1-80b4-00c04fd430c8}'::uuid order by id;
select id from people where big = 9007199254740993 or 5 = id order by id;
select id from people where born is null order by id;
select id from people where active is not null and note like 'f%' order by id;

\echo == read
\x on
select * from people where id = 1;
\x off
select id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note from people order by id;
select p.name as "Who", P."email" from people p order by p.id limit 2 offset 1;
select x.n from (select name as n, id from public.people) as x where x.id = 3;
with adults as (select id, name, born from people where id < 3) select name, born from adults order by id;
select p.name, o.total from people p join orders o on o.email = p.email order by o.id;
select o.total from orders o where o.email in (select email from people) order by o.id;
select count(*), count(name), count(distinct email) from people;
select email, count(*) from orders group by email order by count(*), 2 limit 0;
select count(*) from (select distinct email from orders) as d;
select name from people where id = 1 union all select name from people where id = 2;
select coalesce(name, null) from people where id = 2;
select exists (select 1 from people where email = 'ada.kanarie@example.org');
set datestyle = 'German';
set timezone = 'Asia/Kolkata';
select born, seen, woke from people where id in (1, 3) order by id;
set datestyle = 'ISO, MDY';
set timezone = 'UTC';
set bytea_output = 'escape';
select blob from people where id = 1;
set bytea_output = 'hex';
set extra_float_digits = 3;
select score from people where id = 1;
reset extra_float_digits;

insert into orders select 13, email, 400 from people where id = 2;
select email from orders group by email having email = 'bob.kanarie@example.org';

\echo == update
update people set name = 'Augusta kanarie', salary = 99999999.99, visits = null where email = 'ada.kanarie@example.org' returning id, name, salary, visits;
update people set (born, score) = ('2000-02-29', -1e-300) where id = 2 returning born, score;
update people set token = default, note = 'touched' where email = any ('{zoë.kanarie@example.org}') returning id, note, token;
update people set name = name where id = 3 returning name;

\echo == upsert
insert into people (id, email, name) values (20, 'ada.kanarie@example.org', 'Countess kanarie')
    on conflict (email) do update set name = excluded.name, note = 'upserted' returning id, email, name, note;
insert into people (id, email, name) values (21, 'new.kanarie@example.org', 'New kanarie')
    on conflict (email) do update set name = excluded.name returning id, name;
insert into people (id, email) values (22, 'new.kanarie@example.org') on conflict do nothing returning id;

\echo == copy
copy people (id, email, name, born, salary, active, note) from stdin;
30	tab.kanarie@example.org	tab\there kanarie	2001-01-01	1.10	t	copied
31	nul.kanarie@example.org	\N	\N	\N	\N	\N
32	esc.kanarie@example.org	back\\slash and new\nline kanarie	1970-01-01	0	f	
\.
copy people (id, name, email, born) from stdin (format csv, header true);
id,name,email,born
33,"comma, ""quoted"" kanarie",csv.kanarie@example.org,2020-12-31
34,,empty.kanarie@example.org,
35,"",blank.kanarie@example.org,1900-01-01
\.
copy orders to stdout;
copy orders (email, id) to stdout (format csv, header true, force_quote (email));
copy (select id, email, name, born, salary, active, note from people order by id) to stdout;
copy (select * from people order by id) to stdout (format csv, header true, force_quote (name));
copy (select id, name, born from people where email = 'tab.kanarie@example.org') to stdout;
copy (select name, id from people order by id limit 3) to stdout (format csv, delimiter ';');

\echo == cursor
begin;
declare c cursor for select id, name from people order by id;
fetch 2 from c;
fetch forward 2 from c;
move 1 from c;
fetch all from c;
close c;
commit;
\set FETCH_COUNT 3
select id, email from people order by id;
\unset FETCH_COUNT

\echo == several statements in one message
select name from people where id = 1 \; select email from people where id = 2 \; select 'plain';
begin \; insert into people (id, email, name) values (40, 'multi.kanarie@example.org', 'Multi kanarie') \; select name from people where id = 40 \; commit;

\echo == errors
insert into people (id, email) values (50, 'ada.kanarie@example.org');
insert into people (id, email) values (51, null);
insert into people (id, email) values (53, 'a-very-long-address-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on-and-on.kanarie@example.org');
insert into people (id, email, born) values (54, 'e1.kanarie@example.org', 'not a date');
insert into people (id, email, small) values (55, 'e2.kanarie@example.org', 40000);
insert into people (id, email, salary) values (56, 'e3.kanarie@example.org', 100000000);
insert into people (id, email, token) values (57, 'e4.kanarie@example.org', 'xyz');
select 1 / 0;
select count(*) from people where id between 50 and 57;

\echo == transaction
begin;
insert into people (id, email, name) values (60, 'tx.kanarie@example.org', 'Tx kanarie');
select name from people where email = 'tx.kanarie@example.org';
savepoint s;
insert into people (id, email) values (61, 'tx.kanarie@example.org');
select name from people where id = 60;
rollback to s;
select name from people where id = 60;
rollback;
select count(*) from people where id = 60;

\echo == delete
delete from people where email = 'bob.kanarie@example.org' returning id, name;
delete from people where email in ('csv.kanarie@example.org', 'nobody.kanarie@example.org');
select count(*) from people;
