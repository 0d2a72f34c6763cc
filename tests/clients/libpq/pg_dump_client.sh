#!/usr/bin/env bash
# pg_dump and pg_restore: rows as COPY, as INSERTs, in an archive, in parallel; taken out, put back and taken out again.
# Usage: pg_dump_client.sh URL scenario|introspect
. "$(dirname "$0")/steps.sh"
version pg_dump

dump() { "$PGBIN/pg_dump" -d "$url" --table public.people --table public.orders "$@"; }
plain() { sed '/^--/d; /^$/d; /^SET /d; /^SELECT pg_catalog/d; /^\\\(un\)\?restrict/d'; }

insert() {
  sql "insert into people (id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note, profile) values
    (1, 'ada.kanarie@example.org', 'Ada kanarie', '1815-12-10', 1234.50, 0.1, true, '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '2026-03-01 10:30:00.25+00', '2026-03-01 06:15', -7, 42,
     9007199254740993, '\\x00ff10fed1', '{\"kanarie\": [1,  2.50]}', 'first', '{\"b\": 1, \"a\": null}'),
    (2, 'bob.kanarie@example.org', E'Bob\\n\"kanarie\" \\'x\\' \\\\ \\t', 'infinity', 'nan', '-infinity', false, null, '0044-03-15 BC', null, null, null, null, '', null, '', null)" \
    "insert into people (id, email) values (3, 'zoë.kanarie@example.org')" \
    "insert into orders values (10, 'ada.kanarie@example.org', 100), (11, 'bob.kanarie@example.org', null)"
}

data() { dump --data-only | tee "$work/first" | plain; }
inserts() { dump --data-only --column-inserts --rows-per-insert 2 | tee "$work/inserts" | plain; }
archive() { dump --data-only --format custom --file "$work/archive" && "$PGBIN/pg_restore" --data-only -f - "$work/archive" | plain; }
parallel() { dump --data-only --format directory --jobs 2 --file "$work/directory" && "$PGBIN/pg_restore" -f - "$work/directory" | plain; }

# put back, then as it was
again() { dump --data-only | plain | diff - <(plain <"$work/first") && sql 'select id, email, born, name from people order by id'; }
emptied() { sql 'truncate people, orders'; }
restore() { emptied; "$PGBIN/pg_restore" -d "$url" --data-only --single-transaction "$work/archive"; again; }
restore_parallel() { emptied; "$PGBIN/pg_restore" -d "$url" --data-only --jobs 2 "$work/directory"; again; }
restore_text() { emptied; "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -d "$url" -f "$work/first" >/dev/null; again; }
restore_inserts() { emptied; "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -d "$url" -f "$work/inserts" >/dev/null; again; }

# pg_dump's own list of relations, columns and constraints; the types apart.
definitions() { dump --schema-only --no-owner --no-acl --no-comments | plain | sed 's/^    \([a-z]*\) [^ ]*.*$/    \1/; s/^    ADD/    ADD/'; }
types() { dump --schema-only --no-owner --no-acl | plain; }

if [ "$mode" = scenario ]; then
  for name in insert data inserts archive parallel restore restore_parallel restore_text restore_inserts types; do step "$name"; done
else
  step definitions
fi
