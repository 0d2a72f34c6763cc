#!/usr/bin/env bash
# psql: the scenario of `make test` step by step, \copy, \gdesc, \gset, and what \d and its kin list.
# Usage: psql_client.sh URL scenario|introspect
. "$(dirname "$0")/steps.sh"
here_sql=$(dirname "$0")/../scenario.sql
version psql

meta() {
  "$PGBIN/psql" -X -q -A -d "$url" <<'SQL'
\copy people (id, email, name) from program 'printf "70\tcopied.kanarie@example.org\tcopied kanarie\n"'
\copy (select id, email, name from people where id = 70) to stdout (format csv, header true)
select id, email as mail, born, salary, token from people where email = 'copied.kanarie@example.org' \gdesc
select id, name as found from people where email = 'copied.kanarie@example.org' \gset
\echo :id :found
select name from people where email = :'found' or email = 'copied.kanarie@example.org' \gx
\set AUTOCOMMIT off
update people set name = 'gone kanarie' where id = 70;
\if :{?found}
rollback;
\endif
select id, name from people where id = 70;
commit;
\set ON_ERROR_ROLLBACK on
\set VERBOSITY terse
begin;
insert into people (id, email) values (71, 'copied.kanarie@example.org');
select name from people where id = 70;
commit;
SQL
}

error_detail() { "$PGBIN/psql" -X -q -d "$url" -c "insert into people (id, email) values (71, 'copied.kanarie@example.org')" || true; }

# Names, not types: those of sealed columns are pgveil's domains.
described() { "$PGBIN/psql" -X -q -A -F ' ' -P footer=off -d "$url" -c "\\d $1" | cut -d ' ' -f 1; }
tables() { "$PGBIN/psql" -X -q -A -t -d "$url" -c '\dt' -c '\dp people'; }
columns() { described orders; described people; }
indexes() { "$PGBIN/psql" -X -q -A -t -d "$url" -c '\di'; }

if [ "$mode" = scenario ]; then
  "$PGBIN/psql" -X -q -d "$url" -f "$here_sql" 2>&1 | sed 's/^== \(.*\)/## \1/; s/^## \(.*\)/## \L\1/; /^## /s/ \([^#]\)/_\1/g; s/^##_/## /'
  step meta
  step error_detail
else
  step tables
  step columns
  step indexes
fi
