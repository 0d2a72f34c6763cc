-- SQL that shows, or tells of, what policy hides: one shape per line, a group per comment line. Read by tests/shapes.rs.
-- Statements of a shape are separated by " ;; "; each runs in BEGIN … ROLLBACK. In front of a line: "! " not in a
-- transaction, "~ " the answer has times or numbers of the run's own in it, "? " it tells of hidden rows by what the README
-- does not promise to hide (plans, sizes, unique and foreign keys), "^ " only the proxy redacts it. {ssn} and the like are values of row 2, {hidden} of
-- row 3, {email} and {secret} are sealed; " <- a | b" are parameters. "@call OID a | b" is a fast-path call.

-- whole rows
select p from people p
select people from people
select p::text from people p
select (p) from only people p
select row(p.*) from people p
select row(p.*)::text from people p
select (select p from people p where id = 2)
select p.* is not null, p from people p order by p
select array(select p from people p)
select array_agg(p) from people p
select array_agg(p)::text from people p
select unnest(array_agg(p)) from people p
select (unnest(array_agg(p))).* from people p
select x from (select * from people) x
select coalesce(p, null) from people p
select max(p::text) from people p
select p from people p where p is distinct from null
values ((select p from people p where id = 1))
select concat(p.*) from people p
select concat_ws('|', p.*) from people p
select format('%s', p) from people p
select format('%L %I', p.ssn, p.note) from people p
select quote_literal(p) from people p
select p || '' from people p
select textin(record_out(p)) from people p
select record_send(p) from people p
select array_to_string(array[p], ',') from people p
table people
table only people
select * from only people
select * from people as p (a, b, c, d, e, f, g, h, i, j)
select * from people natural join (select id from people) i

-- JSON and XML
select to_jsonb(p) from people p
select to_json(p) from people p
select row_to_json(p) from people p
select row_to_json(row(ssn, note, salary)) from people
select json_agg(p) from people p
select jsonb_agg(to_jsonb(p) - 'id') from people p
select json_object_agg(id, p) from people p
select jsonb_object_agg(id, ssn) from people
select json_build_array(p, ssn) from people p
select jsonb_each_text(to_jsonb(p)) from people p
select json_populate_record(null::people, to_json(p)) from people p
select (jsonb_populate_record(p, '{}')).* from people p
select jsonb_path_query(to_jsonb(p), '$.*') from people p
select jsonb_path_exists(to_jsonb(p), '$.ssn ? (@ starts with "park")') from people p
select jsonb_pretty(doc) from people
select doc ->> 'k', doc #>> '{n,0}', doc @> '{"n": [1]}' from people
select jsonb_array_elements(doc -> 'n'), jsonb_object_keys(doc) from people
select xmlforest(ssn, note, tags) from people
select xmlelement(name p, xmlattributes(ssn as s), note) from people
select xmlagg(xmlelement(name n, ssn)) from people
select xmlconcat(xmlcomment(ssn)) from people
select xpath('/n/text()', xmlelement(name n, ssn)) from people
select x.* from people p, xmltable('/n' passing xmlelement(name n, p.ssn) columns v text path '.') x
select query_to_xml('select * from people', true, true, '')
select query_to_xml('select * from public.people', true, false, '')
select query_to_xml_and_xmlschema('select * from people', true, true, '')
select table_to_xml('people', true, true, '')
select table_to_xml('public.people', true, true, '')
select schema_to_xml('public', true, false, '')
select database_to_xml(true, false, '')
select cursor_to_xml('c', 9, true, false, '') from (select 1) x
select query_to_xmlschema('select ssn from people', true, true, '')
select table_to_xml_and_xmlschema('people', true, true, '')
select * from ts_stat('select to_tsvector(''simple'', ssn) from people')
select * from ts_stat('select to_tsvector(''simple'', note) from public.people')
select ts_rewrite('a'::tsquery, 'select ''a''::tsquery, ssn::tsquery from people')
declare c cursor for select * from people ;; select cursor_to_xml('c', 9, true, false, '')

-- functional notation and names
select ssn(p) from people p
select (p).ssn from people p
select (p).* from people p
select p.text from people p
select text(p) from people p
select name(p) from people p
select "text"(p), varchar(p) from people p
select "ssn" from "people"
select people.ssn from public.people
select "public"."people"."ssn" from "public" . "people"
select public . people . note from public . people
select U&"\0073sn" from people
select U&"!0073sn" uescape '!' from U&"p\0065ople"
select ssn /* from open */ from /* open */ people -- open
select/**/ssn/**/from/**/public/**/./**/people
select SsN from PeOpLe
select "SSN" from people
select s.ssn from people s(id, ssn)
select s.id from people s(x, id)
select a_column_whose_name_is_longer_than_sixty_three_bytes_and_is_cut_off_here from wide
select a_column_whose_name_is_longer_than_sixty_three_bytes_and_is_cut_of from wide
select * from a_table_whose_name_is_longer_than_sixty_three_bytes_and_is_cut_off_here
select * from catalog_name.public.people
select * from information_schema.people
select * from people tablesample system (100)
select ssn from people tablesample bernoulli (100) repeatable (1)
select ctid, ssn from people
select tableoid::regclass, ctid, note from people
~ select xmin, xmax, cmin, p from people p
select * from people where ctid = '(0,2)'
select currtid2('public.people', '(0,1)')
select * from other.people
select * from pgveil_lens_analyst_public.people
select * from pgveil_lens_support_public.people
select p from pgveil_lens_analyst_public.people p
select * from owners.people_all
select * from owners.people_mat
select pg_typeof(p), pg_column_size(p.ssn), pg_column_size(p) from people p

-- expressions
select ssn || '', note || ssn from people
select left(ssn, 3), right(ssn, 4), substr(ssn, 2) from people
select substring(ssn from 1 for n) from people, generate_series(1, 12) n
select reverse(ssn), upper(note), initcap(note), lpad(ssn, 50), repeat(ssn, 2) from people
select md5(ssn), sha256(note::bytea), hashtext(ssn), hashtextextended(note, 1) from people
select encode(ssn::bytea, 'hex'), encode(ssn::bytea, 'base64') from people
select encode(convert_to(note, 'UTF8'), 'escape'), ssn::bytea from people
select convert_to(ssn, 'SJIS'), convert_from(convert_to(ssn, 'LATIN1'), 'LATIN1') from people
select ascii(ssn), length(ssn), octet_length(note), bit_length(note) from people
select translate(ssn, 'parkiet', 'PARKIET'), overlay(ssn placing 'X' from 1) from people
select regexp_matches(ssn, '(.)(.)', 'g') from people
select regexp_split_to_table(note, ''), string_to_array(ssn, null) from people
select regexp_replace(ssn, '^p', 'q'), split_part(ssn, 'k', 2) from people
select string_to_table(note, null) from people
select to_tsvector(p::text) from people p
select to_tsvector('simple', ssn), ts_headline(note, 'x'::tsquery) from people
select to_tsvector('simple', note) @@ to_tsquery('simple', 'park:*') from people
select array_to_json(tags), tags[1], array_length(tags, 1), cardinality(tags) from people
select unnest(tags), array_position(tags, 'x') from people
select salary, salary + 1, salary / 7, -salary, salary::text, to_char(salary, '999,999,999'), to_hex(salary) from people
select born, born + 1, extract(doy from born), age(born, '2000-01-01'), to_char(born, 'YYYY-MM-DD') from people
select case when ssn like 'park%' then 1 else 0 end from people
select nullif(ssn, '{ssn}'), greatest(ssn, 'pb'), least(note, 'pz') from people
select ssn collate "C" < 'pb', ssn ^@ 'par', starts_with(ssn, 'par') from people
select int4range(salary, salary + 1), numrange(salary, null), daterange(born, born, '[]') from people
select cast(ssn as name), ssn::char(5), note::varchar(4) from people
select p.loud, lower(p.loud) from people p
select quote_nullable(note), to_json(note), ssn::bytea::text from people
select set_byte(ssn::bytea, 0, 0), get_byte(note::bytea, 3), get_bit(note::bytea, 3) from people

-- aggregates, windows, sets
select min(ssn), max(ssn), min(note), max(salary), sum(salary), avg(salary), stddev(salary) from people
select string_agg(ssn, ','), string_agg(note, ';' order by note) from people
select array_agg(ssn), array_agg(note order by ssn), array_agg(tags) from people
select mode() within group (order by ssn), percentile_disc(0.5) within group (order by salary) from people
select ssn, count(*) from people group by ssn
select note, count(*) from people group by note having note > 'p'
select ssn, note, grouping(ssn) from people group by grouping sets ((ssn), (note), ())
select ssn, salary, count(*) from people group by cube (ssn, salary)
select distinct on (ssn) ssn, id from people order by ssn
select id from people order by ssn
select id from people order by salary desc, note
select id, rank() over (order by ssn), lag(ssn) over (order by id), first_value(note) over (order by id) from people
select nth_value(ssn, 2) over w, ntile(2) over w from people window w as (order by salary)
select corr(salary, ascii(ssn)), bit_xor(salary), every(note like 'park%') from people
select ssn from people union select note from people
select ssn from people except select 'x'
select ssn from people intersect select ssn from people
with p as (select * from people) select * from p
with p as materialized (select ssn from people) select * from p
with recursive r(n, t) as (select 1, ssn::text from people union all select n + 1, substr(t, 2) from r where n < 4) select * from r
with recursive w(p) as (select p from people p) search depth first by p set o select * from w
select l.* from people p, lateral (select p.ssn, p.note) l
select l.* from open o left join lateral (select * from people p where p.id = o.id) l on true
select v.what, p.ssn from visits v join people p on p.id = v.person
select a.ssn from people a join people b using (ssn)
select * from people full join visits on false
select * from rows from (generate_series(1, 2), unnest((select tags from people where id = 1))) x
select (select string_agg(ssn, '') from people), exists (select from people where ssn > 'parl')

-- probes
select count(*) from people where ssn = '{ssn}'
select id from people where ssn = '{ssn}'
select id from people where ssn = $1 <- {ssn}
select id from people where note = $1 or mail = $2 <- {note} | {mail}
select id from people where ssn = '{hidden}'
select count(*) from people where note = '{note}' or mail = '{mail}' or '{tags}' = any (tags)
select id from people where ssn like 'park%ssn2'
select id from people where note ilike 'PARK%' or note similar to 'par(k|q)%' or note ~ '^pa'
select id from people where ssn between 'park' and 'parl'
select id from people where ssn > 'parkiet' and ssn < 'parkieu'
select id from people where left(ssn, 4) = 'park'
select id from people where substr(note, 2, 1) = 'a'
select id from people where ssn in ('x', 'y', '{ssn}', 'z')
select id from people where salary in (select 73100000 + n from generate_series(1, 200) n)
select id from people where ssn = any (array(select 'parkietssn' || n from generate_series(1, 200) n))
select id from people where salary between 73100000 and 73100200
select id from people where born = '1973-05-12' or born < '1973-06-01'
select g.v, p.id from (values ('{ssn}'), ('wrong')) g(v) join people p on p.ssn = g.v
select g.v, exists (select 1 from people p where p.ssn = g.v) from (values ('{ssn}'), ('wrong')) g(v)
select count(*) filter (where ssn like 'park%'), count(*) filter (where note like 'park%') from people
select exists (select 1 from people where ssn = '{ssn}')
select id from people where not ssn <> '{ssn}'
select id from people where (ssn, note) = ('{ssn}', '{note}')
select id from people where (ssn, note) > ('parkiet', '')
select id from people p where p::text like '%park%'
select id from people p where to_jsonb(p) @> '{"id": 2}' and to_jsonb(p)::text like '%arkiet%'
select id from people where doc @> '{"k": "{doc}"}' or doc ? 'k'
select id from people where tags @> array['{tags}'] or tags && array['{tags}']
select id from people where md5(ssn) = md5('{ssn}')
select id from people where hashtext(ssn) = hashtext('{ssn}')
select id from people where case when ssn like 'park%' then 1 / (id - id) = 1 else true end
select id from people where 1 / (case when ssn = '{ssn}' then 0 else 1 end) = 1
select 1 / (case when count(*) > 0 then 0 else 1 end) from people where note = '{note}'
select id from people where gone = '{gone}'
select id from people where loud = upper('{ssn}')
select count(*) from people where city like 'verschol%'
select count(*) from people where not shown
select id from people where id = 3
select v.id, v.person, p.city from visits v left join people p on p.id = v.person order by v.id
select person from visits v where not exists (select from people p where p.id = v.person)

-- errors
select ssn::int from people
select note::numeric from people
select note::date from people where id = 2
select ssn::uuid from people
select note::jsonb from people
select (note || '{')::json from people
select note::xml, ('<' || note)::xml from people
select ssn::point from people
select ssn::inet from people
select note::regclass from people
select note::regproc from people
select ssn::regrole from people
select ssn::tsquery, (ssn || ' ' || note)::tsquery from people
select tags::int[] from people
select (ssn || '{')::text[] from people
select '2000-01-01'::timestamp at time zone ssn from people
select date_trunc(ssn, now()) from people
select extract(epoch from note::interval) from people
select to_date(note, 'YYYY-MM-DD') from people
select decode(ssn, 'hex') from people
select encode('a', ssn) from people
select convert_from('a', note) from people
select current_setting(ssn) from people
select set_config(ssn, note, true) from people
select to_number(note, ssn), to_timestamp(note, 'YYYY') from people
select regexp_match('a', '(' || ssn) from people
select 'a' similar to 'a' escape ssn from people
select nextval(ssn) from people
select has_table_privilege(note, 'select') from people
select pg_get_serial_sequence('visits', ssn) from people
select to_regclass(note), to_regtype(ssn), pg_relation_size(ssn) from people
select jsonb_path_query('{}', ssn::jsonpath) from people
select setseed(salary) from people
select chr(salary), repeat(ssn, salary) from people
select factorial(salary), 2 ^ salary, salary * salary from people
select salary::smallint from people
select make_date(salary, 1, 1), make_interval(secs => 'NaN') from people
select ('x' || ssn)::bit(8) from people
insert into open (id, word) select 1, ssn from people
insert into open (id, word) select id / 0, ssn from people
insert into strict (id, word) select id, ssn from people
insert into strict (id, word) select id, note from people where id = 2
create temp table t (s text check (s <> s)) ;; insert into t select ssn from people
create temp table t (s text unique) ;; insert into t select ssn from people union all select ssn from people
create temp table t (s text, exclude (s with =)) ;; insert into t select note from people union all select note from people
create temp table t (s text) partition by list (s) ;; insert into t select ssn from people
create temp table t (s text not null, n int not null) ;; insert into t select ssn, null from people
create temp table t (s varchar(3)) ;; insert into t select ssn from people
insert into people (id, ssn) values (9, '{ssn}')
insert into people (id, ssn, shown) values (2, 'x', true)
insert into people (id, city, shown) values (3, 'x', true)
update people set ssn = '{ssn}' where id = 1
update people set id = 3 where id = 2
update people set ssn = null, note = 'x' returning note
insert into visits (person) values (999)
delete from people where id = 2
create domain desk.d as text check (value not like 'p%') ;; select ssn::desk.d, note::desk.d from people
create type desk.e as enum ('a') ;; select ssn::desk.e from people

-- DO, notices, dynamic SQL
do $$ declare r record; begin for r in select * from people loop raise notice '%', r; end loop; end $$
do $$ declare r record; begin for r in select * from public.people loop raise warning '% %', r.ssn, r.note; end loop; end $$
do $$ declare r people; begin select * into r from people where id = 2; raise exception '%', r; end $$
do $$ declare r people%rowtype; begin select * into r from people limit 1; raise info '%', r; end $$
do $$ declare t text; begin select ssn into t from people where id = 2; raise exception using message = t, detail = t, hint = t, errcode = '22012'; end $$
do $$ declare t text; begin select ssn into t from people where id = 2; raise exception using message = 'm', hint = t, errcode = '42501'; end $$
do $$ declare t text; begin select ssn into t from people where id = 2; raise exception using message = t, column = t, constraint = t, datatype = t, table = t, schema = t, errcode = '23505'; end $$
do $$ declare t text; begin select ssn into t from people where id = 2; raise exception '%', t using errcode = '0A000'; end $$
do $$ declare t text; begin select ssn into t from people where id = 2; raise exception using errcode = upper(substr(t, 1, 5)); end $$
do $$ declare t text; begin select ssn into t from people where id = 2; raise notice using message = t, hint = t; end $$
do $$ declare t text; begin execute 'select ss' || 'n from peo' || 'ple where id = 2' into t; raise notice '%', t; end $$
do $$ declare t text; begin execute format('select string_agg(ssn, %L) from %I.%I', ',', 'public', 'people') into t; raise notice '%', t; end $$
do $$ declare t text; begin execute 'set local search_path = public'; execute 'select max(ssn) from people' into t; raise notice '%', t; end $$
do $$ begin execute 'select * from nowhere_' || (select ssn from people where id = 2); end $$
do $$ declare n int; begin select ssn::int into n from people where id = 2; exception when others then raise notice '%', sqlerrm; end $$
do $$ begin perform 1 / (case when ssn = '{ssn}' then 0 else 1 end) from people; exception when division_by_zero then raise notice 'guessed'; end $$
do $$ declare t text; begin select most_common_vals::text into t from pg_stats where tablename = 'people' and attname = 'note'; raise notice '%', t; end $$
do $$ begin assert (select ssn from people where id = 2) is null, (select ssn from people where id = 2); end $$
do language plpgsql 'begin perform set_config(''application_name'', (select ssn from people where id = 2), true); end'
do $$ declare c refcursor; r record; begin open c for execute 'table people'; fetch c into r; raise notice '%', r; end $$
do $$ declare t text; begin update people set city = city returning ssn into t; raise notice '%', t; end $$
do $$ declare p people; begin p := (select p from people p where id = 2); raise notice '%', p.ssn; end $$

-- functions of one's own
create function pg_temp.f() returns setof public.people language sql as 'select * from public.people' ;; select * from pg_temp.f()
create function pg_temp.f() returns setof text language sql as 'select ssn from people' ;; select pg_temp.f()
create function desk.f() returns setof text language sql as 'select ssn from public.people' ;; select desk.f()
create function desk.f() returns setof text language sql set search_path = public as 'select ssn from people' ;; select desk.f()
create function desk.f() returns setof text language sql begin atomic select ssn from people; end ;; select desk.f()
create function desk.f() returns text language plpgsql as $$ begin return (select string_agg(p::text, ';') from public.people p); end $$ ;; select desk.f()
create function desk.f() returns text language plpgsql security definer as $$ begin return (select string_agg(ssn, ';') from people); end $$ ;; select desk.f()
create function desk.f() returns table (a text) language plpgsql as $$ begin return query execute 'select ssn::text from peo' || 'ple'; end $$ ;; select * from desk.f()
create procedure desk.p() language plpgsql as $$ declare t text; begin select ssn into t from people where id = 2; raise notice '%', t; end $$ ;; call desk.p()
create procedure desk.p(inout t text) language sql as 'select ssn from people where id = 2' ;; call desk.p(null)
create function pg_temp.f(text) returns bool language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$ ;; select id from people where pg_temp.f(ssn)
create function desk.f(text) returns bool language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$ ;; select id from people where desk.f(city) and desk.f(note)
create function desk.f(text) returns bool language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$ ;; select id from public.people where desk.f(city) and id = 1
create function desk.f(anyelement) returns bool language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$ ;; select count(*) from people p where desk.f(p)
create function desk.f(public.people) returns text language sql as 'select $1.ssn' ;; select p.f, desk.f(p) from people p
create function pg_temp.f(text, text) returns bool language plpgsql as $$ begin raise notice '% %', $1, $2; return $1 = $2; end $$ ;; create operator pg_temp.=== (leftarg = text, rightarg = text, function = pg_temp.f) ;; select id from people where ssn operator(pg_temp.===) 'x'::text
create function pg_temp.f(text, text) returns text language plpgsql as $$ begin raise notice '%', $2; return $2; end $$ ;; create aggregate pg_temp.g(text) (sfunc = pg_temp.f, stype = text) ;; select pg_temp.g(ssn) from people
create table desk.t (s text) ;; create function desk.f() returns trigger language plpgsql as $$ begin raise notice '%', new; return new; end $$ ;; create trigger t before insert on desk.t for each row execute function desk.f() ;; insert into desk.t select ssn from people
create table desk.t (s text) ;; create rule r as on insert to desk.t do also select new.s ;; insert into desk.t select ssn from people
create table desk.t (id int references public.people, s text) ;; insert into desk.t values (2), (3) ;; select * from desk.t
create function desk.length(text) returns text language sql as 'select $1' ;; set local search_path = desk, public, pg_catalog ;; select length(ssn::text) from people
create function desk.f(text) returns bool language plpgsql cost 0.0001 leakproof as $$ begin raise notice '%', $1; return true; end $$ ;; select id from people where desk.f(city)
create function desk.f(int) returns bool language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$ ;; select id from people where desk.f(id) and desk.f(salary)
create function desk.f(text, text) returns bool language plpgsql as $$ begin raise notice '% %', $1, $2; return true; end $$ ;; create operator desk.= (leftarg = text, rightarg = text, function = desk.f) ;; set local search_path = desk, pg_catalog, public ;; select id from people where ssn::text = 'x'::text
create function desk.f(text, text) returns text language sql as 'select $1' ;; create function pgveil.mask_email(text) returns text language sql as 'select $1' ;; select mail from people
create or replace function pgveil.mask_email(text) returns text language sql as 'select $1' ;; select mail from people
create or replace view pgveil_lens_analyst_public.people as select * from public.people ;; select * from people
create rule r as on select to people do instead select * from public.people ;; select * from people
create function desk.f() returns trigger language plpgsql as $$ begin raise notice '% %', old, new; return new; end $$ ;; create trigger t instead of update on people for each row execute function desk.f() ;; update people set city = city
create type desk.r as (a int, b text, c text) ;; select (p.id, p.ssn, p.note)::desk.r from people p
create type desk.r as (ssn text) ;; select json_populate_record(null::desk.r, to_json(p)) from people p
create function desk.f(variadic text[]) returns text language sql as 'select array_to_string($1, chr(44))' ;; select desk.f(ssn, note, mail) from people
create function desk.f(out a text, out b text) returns setof record language sql as 'select ssn, note from public.people' ;; select * from desk.f()
create function desk.f() returns setof text language plpgsql as $$ declare t text; begin for t in select ssn from people where ssn = '{ssn}' loop return next 'hit'; end loop; end $$ ;; select desk.f()
create function desk.f() returns text language plpgsql as $$ declare m text; begin perform ssn::int from public.people where id = 2; return 'none'; exception when others then get stacked diagnostics m = message_text; return m; end $$ ;; select desk.f()
create function desk.f() returns text language plpgsql as $$ declare m text; begin insert into public.people (id, ssn) values (9, '{ssn}'); return 'none'; exception when others then get stacked diagnostics m = pg_exception_detail; return sqlstate || m; end $$ ;; select desk.f()

-- copies, cursors, prepared statements
create temp table t as select * from people ;; select * from t
create temp table t as table public.people ;; select ssn from t
select * into temp t from people ;; table t
select ssn as s into temp t from public.people ;; select s from t
create table desk.t as select * from people ;; select * from desk.t
create table desk.t (like public.people including all) ;; insert into desk.t (id, ssn) select id, ssn from people ;; select * from desk.t
create temp table t () inherits (public.people) ;; select * from t
create temp view t as select * from people ;; select * from t
create view desk.t as select * from public.people ;; select * from desk.t
create view desk.t with (security_barrier = false) as select id, ssn from people ;; select * from desk.t
create materialized view desk.t as select * from people ;; select * from desk.t
create temp table t as execute q ;; table t
prepare q as select * from people ;; create temp table t as execute q ;; table t
prepare q as select * from people ;; execute q
prepare q (text) as select id, note from public.people where ssn = $1 ;; execute q ('{ssn}')
prepare q as select ssn from people ;; set local search_path = public ;; execute q
? prepare q as select ssn from people ;; explain (verbose) execute q
declare c cursor for select * from people ;; fetch all from c
declare c scroll cursor for select p from people p ;; move last from c ;; fetch prior from c
declare c binary cursor for select ssn, salary, born from people ;; fetch forward 9 from c
declare c cursor with hold for table people ;; fetch 2 c
declare c cursor for select * from people for update ;; fetch c ;; update people set city = city where current of c returning *
~ declare c cursor for select ssn from people ;; select * from pg_cursors
prepare q as select id from people where ssn = '{ssn}' ;; select statement from pg_prepared_statements
create function desk.f(refcursor) returns refcursor language plpgsql as $$ begin open $1 for select * from people; return $1; end $$ ;; select desk.f('c') ;; fetch all from c
copy people to stdout
copy public.people (id, ssn, note) to stdout with (format csv, header)
copy people (ssn) to stdout (format binary)
copy (select * from people) to stdout
copy (table public.people) to stdout (format csv, force_quote *)
copy (select ssn, note from people) to stdout (format binary)
copy (update people set city = city returning *) to stdout
copy open from '/etc/hostname'
copy people to '/tmp/pgveil-shape'
copy people to program 'cat'
copy (select lo_from_bytea(0, ssn::bytea) from people) to program 'cat > /dev/null'
~ select lo_get(lo_from_bytea(0, ssn::bytea)) from people
~ select lo_export(lo_from_bytea(0, ssn::bytea), '/tmp/pgveil-shape') from people

-- writes
insert into open (id, word) select id + 10, ssn from people returning *
insert into open (id, word) select id + 10, p::text from people p ;; select * from open order by id
insert into open values (1, 'x') on conflict (id) do update set word = (select ssn from people where id = 2) returning word
insert into people (id, ssn, city, shown) values (2, 'x', 'c', true) on conflict (id) do update set city = people.ssn returning *
insert into people (id, city, shown) values (2, 'c', true) on conflict (id) do update set city = people.city where people.ssn = '{ssn}' returning id
insert into people (id, city, shown) values (3, 'c', true) on conflict do nothing returning id
insert into people (id, shown) values (3, true) on conflict (id) do update set shown = true returning city
insert into people as p (id, shown) values (3, true) on conflict (id) do update set city = p.city || '!' returning *
insert into public.people as p (id, shown) values (3, true) on conflict (id) do update set shown = p.city like 'v%' where p.city > 'u' returning id
with x as (insert into people (id, shown) values (3, true) on conflict (id) do update set shown = true returning *) select * from x
prepare up as insert into people (id, shown) values (3, true) on conflict (id) do update set shown = true returning city ;; execute up
do $$ declare c text; begin insert into people (id, shown) values (3, true) on conflict (id) do update set shown = true returning city into c; raise notice '%', c; end $$
create function desk.f() returns text language sql as $$ insert into public.people as p (id, shown) values (3, true) on conflict (id) do update set shown = true returning city $$ ;; select desk.f()
insert into patients as p (id, city) values (2, 'x') on conflict (id) do update set city = p.pin returning city
update people set city = ssn returning city
update people set city = note where id = 2 returning *
update people set city = city returning people, *
update open set word = p.ssn from people p where p.id = open.id returning open.*, p.*
update open set word = 'x' from people p where p.ssn = '{ssn}' and open.id = 1 returning open.id
update people set shown = true returning *
update people set (city) = (select string_agg(loud, ',') from people) where id = 1 returning city
update visits set what = what returning *
delete from open using people p where p.ssn = '{ssn}' returning open.id, p
delete from people returning *
delete from visits returning what, visits
merge into open o using people p on o.id = p.id when matched then update set word = p.ssn when not matched then insert values (p.id + 10, p.note) ;; select * from open order by id
merge into people p using (values (2)) v(i) on p.id = v.i when matched and p.ssn = '{ssn}' then update set city = 'hit' when not matched then do nothing
merge into public.people p using open o on p.id = o.id when matched then update set city = p.note ;; select city from people
with w as (update people set city = city returning *) select * from w
with w as (insert into open select id + 10, ssn from people returning word) select * from w
? insert into people (id, city, shown) values (60, 'c', true)
? insert into people (id, city, shown) values (60, 'c', true) on conflict do nothing returning id
? insert into visits (person) values (60)
? update people set id = 60 where id = 2 returning id
lock table people ;; select 1
select * from people for update
truncate open ;; insert into open select id, note from people ;; select * from open order by id

-- plans, statistics, catalogs
~ explain (analyze, verbose) select * from people where ssn = '{ssn}'
? explain (analyze, costs off, timing off, summary off) select id from people where ssn like 'park%'
? explain select * from people where ssn = '{ssn}'
explain (verbose, costs off) select p from people p where salary > 1
explain (generic_plan) select * from people where ssn = $1
? explain (format json) select count(*) from people where not shown
? create function desk.f() returns setof text language plpgsql as $$ begin return query execute 'explain select * from people'; end $$ ;; select desk.f()
select * from pg_stats where tablename = 'people' order by schemaname, attname
select most_common_vals, histogram_bounds from pg_stats where attname in ('ssn', 'note', 'pin', 'code', 'what') order by schemaname, tablename, attname
select * from pg_stats_ext
select * from pg_stats_ext_exprs
select stavalues1, stavalues2 from pg_statistic
select stxdmcv from pg_statistic_ext_data
select pg_mcv_list_items(stxdmcv) from pg_statistic_ext_data
~ select query from pg_stat_activity
~ select * from pg_stat_get_activity(null)
select pg_get_viewdef('people'::regclass), pg_get_viewdef('owners.people_all'::regclass)
select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'public.people'::regclass order by conname
select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = 'public.people'::regclass order by adnum
select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'public.people'::regclass order by 1
select attname, attmissingval from pg_attribute where attrelid = 'public.people'::regclass order by attnum
select has_column_privilege('public.people', 'ssn', 'select'), has_table_privilege('public.people', 'select')
select * from information_schema.columns where table_name = 'people' and table_schema = 'public' order by column_name
select view_definition from information_schema.views order by table_schema, table_name
select routine_definition from information_schema.routines where routine_schema in ('public', 'desk', 'owners') order by specific_name
select * from information_schema.column_privileges where table_name = 'people' and grantee = current_user order by table_schema, column_name, privilege_type
select relname, relkind from pg_class where relname = 'people' order by relkind
select pg_read_file('postgresql.conf'), pg_ls_dir('base')
select pg_read_binary_file(pg_relation_filepath('public.people'))
select * from pg_file_settings, pg_hba_file_rules
~ select pg_logical_emit_message(true, 'x', ssn) from people
~ select pg_current_logfile(), pg_relation_filepath('people')
select row_security_active('people'), pg_relation_size('people') > 0, count(*) from people
select ipad, opad from pgveil.lens_key
select * from pgveil.columns
select scram from pgveil.scram_verifier('app')
select brin_summarize_new_values('public.people_pkey'), gin_clean_pending_list('people_pkey')
lock public.people in access share mode ;; select c.oid::regclass::text, c.relname, a.attname, array_to_string(s.most_common_vals::text[], ',') from pg_class c join pg_attribute a on a.attrelid = c.oid left join pg_stats s on s.tablename = c.relname and s.attname = a.attname where c.relname = 'people' and a.attnum > 0 order by c.oid, a.attnum
copy public.people (id, ssn, mail, born, salary, note, gone, doc, tags) to stdout
set local row_security = off ;; select * from people

-- session, roles, path
set local search_path = public ;; select ssn from people
set local search_path = public ;; select p from people p
set local search_path = pg_catalog, public ;; select note from people
set local search_path = '' ;; select note from public.people
select set_config('search_path', 'public', true), (select string_agg(ssn, ',') from people)
select set_config('search' || '_path', 'public', true) ;; select ssn, note from people
begin ;; set search_path = public ;; table people
alter role current_user set search_path = public ;; table people
create temp table people (id int, ssn text) ;; insert into people select id, ssn from public.people ;; select * from people
create temp view people as select * from public.people ;; select * from people
set local role pgveil ;; table public.people
set local role shapes_reader ;; table public.people
set local role pgveil_lens ;; table public.people
reassign owned by pgveil_lens to current_user ;; table public.people
alter default privileges grant select on tables to public ;; table people
set local role none ;; table public.people
set session authorization pgveil ;; table public.people
set session authorization default ;; table people
reset session authorization ;; table people
reset all ;; table people
! discard all ;; table people
! reset search_path ;; select ssn from people
! set search_path = public ;; select ssn, salary from people
! select set_config('search_path', 'public', false) ;; select p from people p
! set client_encoding = 'SJIS' ;; select ssn from people
! set client_encoding = 'UTF16' ;; select ssn from people
! set names 'LATIN1' ;; select 'parkiet' = ssn, convert_to(ssn, 'SJIS') from people
set local standard_conforming_strings = off ;; select 'a\' || ssn from people --'
set local bytea_output = 'escape' ;; select ssn::bytea from people
set local DateStyle = 'German' ;; select born from people
set local xmloption = document ;; select xmlparse(content ssn) from people
~ select set_config('application_name', ssn, true) from people
! select set_config('application_name', (select ssn from people where id = 2), false) ;; show application_name
! select set_config('TimeZone', (select ssn from people where id = 2), false)
select set_config('app.x', (select string_agg(ssn, ',') from people), true) ;; show app.x
select set_config('app.x', (select p::text from public.people p where id = 2), true) ;; select current_setting('app.x')
~ select set_config('application_name', note, true) from people ;; select application_name from pg_stat_activity where pid = pg_backend_pid()
! listen c ;; select pg_notify('c', ssn) from people
! listen c ;; select pg_notify('c', p::text) from people p where id = 2
! listen c ;; do $$ begin perform pg_notify('c', (select note from people where id = 2)); end $$
! listen c ;; do $$ begin execute 'notify c, ' || quote_literal((select ssn from people where id = 2)); end $$
~ set local log_statement = 'all' ;; set local client_min_messages = 'debug5' ;; select ssn from people
~ set local debug_print_plan = on ;; set local client_min_messages = 'log' ;; select id from people where ssn = '{ssn}'
! @call 2923 select * from people | t | f | x
! @call 2923 select * from public.people | t | f | x
! @call 2926 select * from people | t | f | x
! @call 2078 search_path | public | f

-- what the tables' own code says
^ update guarded set city = 'taken' where id = 2
^ update guarded set city = 'unable' where id = 2
^ update guarded set city = 'denied' where id = 2
^ update guarded set city = 'missing' where id = 2
^ update guarded set city = 'wrong' where id = 2
^ update guarded set city = 'noted'
^ update guarded set city = 'warned' where id = 2 returning *
^ insert into guarded (id, city) values (2, 'x') on conflict (id) do update set city = 'unable'
^ with w as (update guarded set city = 'taken' returning id) select * from w
^ create function desk.f() returns text language plpgsql as $$ begin update guarded set city = 'denied' where id = 2; return 'x'; end $$ ;; select desk.f()
! ^ listen c ;; update guarded set city = 'notified' where id = 2 ;; update guarded set city = 'town'
! ^ listen "c" ;; update public.guarded set city = 'notified' ;; update guarded set city = 'town' returning city
! ^ listen c ;; begin ;; update guarded set city = 'notified' ;; update guarded set city = 'town' ;; commit

-- sealed columns
select email, secret, pin from patients
select * from patients
table public.patients
select p from patients p
select p::text, to_jsonb(p) from patients p
select row(p.*) from patients p
select email::text, secret::bytea, encode(email, 'escape') from patients
select email::bytea from patients
select coalesce(email, null), nullif(secret, null) from patients
select max(email), string_agg(email, '') from patients
select array_agg(email), array_agg(secret) from patients
select array(select email from patients)
select (array_agg(secret))[1] from patients
select e from (select email as e from patients) x
select email from patients union select secret from patients
select email from patients union all select null
with w as (select secret s from patients) select * from w
select lag(email) over (order by id), first_value(secret) over () from patients
select query_to_xml('select * from patients', true, true, '')
select query_to_xml('select * from public.patients', true, false, '')
select table_to_xml('public.patients', true, false, '')
do $$ declare r record; begin for r in select * from patients loop raise notice '%', r; end loop; end $$
create function pg_temp.f() returns setof public.patients language sql as 'select * from public.patients' ;; select * from pg_temp.f()
create function desk.f() returns setof pgveil.sealed_text language sql as 'select secret from patients' ;; select desk.f()
create temp table t as select * from patients ;; select * from t
create temp table t (e pgveil.sealed_varchar, x bytea) ;; insert into t select email, email from patients ;; select * from t
create temp table t (e pgveil.sealed_text) ;; insert into t select email from patients ;; select e from t
create view desk.t as select * from patients ;; select * from desk.t
declare c binary cursor for select email, secret from patients ;; fetch all from c
copy patients to stdout
copy patients (email, secret) to stdout (format binary)
copy (select * from patients) to stdout (format csv)
update patients set city = city returning *
update patients set secret = email returning secret
update patients set email = email returning patients
insert into patients (id, email) values (9, '{email}')
insert into patients (id, email) values (9, '{email}') on conflict (email) do nothing returning *
insert into open (id, word) select id + 10, encode(email, 'hex') from patients returning word
update open set word = (select encode(secret, 'base64') from patients where id = 2) returning word
delete from patients returning email, secret
select id from patients where email = '{email}'
select id from patients where email = $1 <- {email}
select id from patients where email in ('{email}', 'x')
select id from patients where secret = '{secret}'
select id from patients where email like 'e%'
select id from patients where length(email) > 90
select g.v from (values ('{email}')) g(v) join patients p on p.email = g.v
select count(*) from patients group by email
select id from patients order by email
select a.id, b.id from patients a join patients b on a.email = b.email
select substr(email, 21, 16) from patients
select get_byte(email, 0), md5(email), sha256(secret) from patients
select convert_from(email, 'LATIN1') from patients
select email::text::int from patients
select pg_column_size(secret), octet_length(email) from patients
select most_common_vals from pg_stats where tablename = 'patients' order by attname
explain select * from patients where email is not null
select set_config('app.x', (select secret::text from patients where id = 2), true) ;; show app.x
! listen c ;; select pg_notify('c', encode(secret, 'base64')) from patients
! @call 2923 select * from patients | t | f | x

-- partitions, children, views, large objects
select * from parts
select * from only parts
select pin from parts_north
select * from public.parts_south where pin > 'a'
select p from parts_north p union all select p from parts_south p
select * from beings
select * from only beings
select code from animals
select a from public.animals a
select * from beings *
select tableoid::regclass, b.code from beings b
select pin from parts p where region = 'north' and pin = '{pin}'
select what from visits
select v, (select p from people p where p.id = v.person) from visits v
select p.note from visits v, public.people p where v.person = p.id
insert into parts (id, region, pin) values (1, 'north', '{pin}')
create table desk.leaf partition of public.parts for values in ('east') ;; select * from desk.leaf
create table desk.kid () inherits (public.beings) ;; select * from desk.kid
alter table public.people no inherit public.beings ;; table people
alter view people rename to persons ;; table public.people
drop view people ;; table people
grant select on public.people to public ;; table public.people
create policy p on public.people using (true) ;; table people
select dblink('dbname=' || current_database(), 'select ssn from people')
select * from dblink_connect('host=127.0.0.1 user=pgveil')
load 'plpgsql' ;; table public.people
create extension file_fdw ;; select 1
create language plpython3u ;; select 1
create server s foreign data wrapper postgres_fdw ;; select 1
comment on table people is 'x' ;; select obj_description('people'::regclass)
security label on table people is 'x'
vacuum people
analyze verbose people
! vacuum (verbose) public.people
cluster verbose people
reindex (verbose) table people
refresh materialized view owners.people_mat
create index on people (ssn) ;; select 1
create statistics desk.s on ssn, note from public.people ;; select 1
create publication p for table people ;; select 1
select txid_status(1), pg_export_snapshot() is null, ssn from people
select string_agg(relname, ',' order by relname) from pg_class where relname like 'parkiet%'
select pg_terminate_backend(0), ssn from people
select * from pg_get_keywords() k, people p where k.word = 'abort'
select convert_from(string_agg(ssn, '')::bytea, 'UTF8') from people
select json_agg(x) from (select ssn as "a", note as "b" from people) x
select * from json_to_recordset((select json_agg(p) from people p)) as x(ssn text, note text)
select * from jsonb_to_record((select to_jsonb(p) from people p where id = 2)) as x(ssn text, tags text[])
