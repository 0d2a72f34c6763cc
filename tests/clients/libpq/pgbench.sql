\set id random(1, 50) + 1000 * (:client_id + 1)
\set visits random(1, 1000000)
\set big 9007199254740993 + :id
insert into people (id, email, big, visits, small, score, active) values (:id, :id, :big, :visits, 1, 0.5, true)
  on conflict (id) do update set visits = excluded.visits, big = excluded.big;
select id, visits, big, score, active from people where big = :big \gset
update people set small = :small_of where big = :big and id = :id;
begin;
select visits as seen from people where id = :id \gset
update people set visits = :seen where id = :id returning visits;
end;
