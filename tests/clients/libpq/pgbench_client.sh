#!/usr/bin/env bash
# pgbench: its own tables, and a script of searches and writes of sealed columns, in each of its three protocols.
# Usage: pgbench_client.sh URL scenario|introspect
. "$(dirname "$0")/steps.sh"
folder=$(dirname "$0")
version pgbench

bench() { "$PGBIN/pgbench" --no-vacuum --random-seed 42 --define small_of=-3 "$@" "$url" 2>&1 | grep -E 'actually processed|failed|aborted|ERROR'; }
written() {
  sql 'select count(*), count(distinct big), count(visits) from people'
  sql 'select id, email, big, visits, small, score, active from people order by id limit 40'
  sql 'delete from people'
}
sealed() { bench --protocol "$1" --file "$folder/pgbench.sql" --client 3 --transactions 40; written; }

init() { "$PGBIN/pgbench" --initialize --init-steps dtgvp --foreign-keys --quiet "$url" 2>&1 | grep -vE '^(done in|creating|vacuuming|dropping|generating|[0-9])'; sql 'select count(*) from pgbench_accounts'; }
own() {
  for protocol in simple extended prepared; do bench --protocol "$protocol" --builtin tpcb-like --client 2 --transactions 50; done
  sql 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), count(*) from pgbench_history'
}
simple() { sealed simple; }
extended() { sealed extended; }
prepared() { sealed prepared; }
pipeline() {
  printf '%s\n' '\set id random(1, 50)' '\startpipeline' 'insert into people (id, email, visits) values (:id, :id, 7) on conflict do nothing;' \
    'select visits from people where email = :id;' '\endpipeline' >"$work/pipeline.sql"
  bench --protocol extended --file "$work/pipeline.sql" --client 1 --transactions 60
  written
}
dropped() { "$PGBIN/pgbench" --initialize --init-steps d --quiet "$url" 2>&1 | grep -v '^d'; sql "select count(*) from pg_class where relname like 'pgbench%'"; }

if [ "$mode" = scenario ]; then
  for name in init own simple extended prepared pipeline dropped; do step "$name"; done
fi
