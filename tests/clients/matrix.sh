#!/usr/bin/env bash
# What people use to talk to PostgreSQL, each as its ordinary user writes it, direct and through pgveil: one table.
#
#   tests/clients/matrix.sh              every client; the README's table is written anew; exit code 0 only if the steps
#                                        that fail are those of differences.md, which says why
#   CLIENTS="psycopg2 asyncpg" …/matrix.sh  only these; the README stays
#
# A private cluster has two databases with the tables of schema.sql and a jsonb column, which Django asks for: `twin`,
# which pgveil has never seen, and `shop`, sealed under policy.toml. Each client runs the same script against both and
# prints, per step, what it got; a step passes when it did not fail and both answers are the same to the letter. Then it
# looks at the catalog with its own means as `app` and as `analyst`, who sees masks: it must find the relations and
# columns of the twin, each once. A client that is not on this machine is skipped by name; with CI=1 that is a failure.
#
# Environment: CLIENTS, PGBIN, PGVEIL (default: a debug build), CLIENTS_TRACE=1 (stack traces in the transcripts).
# Transcripts, the proxy's log and the differences stay in target/clients/matrix.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/clients
out=$PWD/target/clients/matrix
everyone="psycopg-text psycopg-binary psycopg2 asyncpg pg8000 sqlalchemy-psycopg2 sqlalchemy-psycopg sqlalchemy-asyncpg
  django-psycopg django-binding django-psycopg2 node-postgres knex postgres.js typeorm jdbc-extended jdbc-simple jdbc-cached
  go-pgx go-pgx-simple go-pq dbd-pg-server dbd-pg-text
  sqlx diesel tokio-postgres psql pg_dump pgbench"
PGBIN=${PGBIN:-$(pg_config --bindir)}
PYTHON=$PWD/target/clients/venv-matrix/bin/python
MODULES=$PWD/target/clients/node-matrix
JDBC=/usr/share/java/postgresql.jar
RUST=$PWD/target/clients/rust
say() { echo "clients: $*" >&2; }

owner=$(id -un)
[ "$(id -u)" != 0 ] || owner=postgres
as_owner() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

finish() {
  [ -z "$veil_pid" ] || kill "$veil_pid" 2>/dev/null || true
  as_owner "$PGBIN/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$dir"
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

sql() { # database, statements as the superuser, past the proxy
  local database=$1
  shift
  PGOPTIONS='-c client_min_messages=warning' "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$server" -U "$owner" -d "$database" "${@/#/--command=}"
}

make_cluster() {
  local role
  as_owner "$PGBIN/initdb" -D "$dir/data" -U "$owner" --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  as_owner tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $server
unix_socket_directories = ''
fsync = off
max_prepared_transactions = 5
CONF
  as_owner tee "$dir/data/pg_hba.conf" >/dev/null <<CONF
host all $owner 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
CONF
  as_owner "$PGBIN/pg_ctl" -D "$dir/data" -w -t 120 -l "$dir/server.log" start >/dev/null
  for role in pgveil app analyst; do sql postgres "create role $role login password '$password'"; done
  for database in twin shop; do
    sql postgres "create database $database owner pgveil"
    PGPASSWORD=$password "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$server" -U pgveil -d "$database" -f "$here/schema.sql"
    sql "$database" "alter table people add profile jsonb" "grant all on all tables in schema public to app, analyst" "grant create on schema public to app" \
      "alter default privileges for role app in schema public grant all on tables to analyst"
  done
}

make_veil() {
  mkdir "$dir/veil"
  head -c 24 /dev/urandom | base64 >"$dir/veil/passphrase" && chmod 600 "$dir/veil/passphrase"
  cat "$here/policy.toml" - >"$dir/veil/policy.toml" <<POLICY
[tables."public.people".columns.profile]
level = "restricted"
as = "jsonb"
encrypt = "randomized"
mask = "null"
POLICY
  cat >"$dir/veil/pgveil.toml" <<CONF
[listen]
postgres = "127.0.0.1:$veil"
admin = "127.0.0.1:$admin"
[upstream]
host = "127.0.0.1"
port = $server
[control]
url = "postgresql://pgveil:$password@127.0.0.1:$server/shop"
[policy]
path = "policy.toml"
[keys]
path = "keyring.toml"
passphrase_file = "passphrase"
[audit]
dir = "audit"
CONF
  (cd "$dir/veil" && "$PGVEIL" keys init && "$PGVEIL" apply) >"$out/apply.log" 2>&1 || { cat "$out/apply.log" >&2; exit 1; }
  (cd "$dir/veil" && exec "$PGVEIL" serve --config pgveil.toml) >"$out/pgveil.log" 2>&1 &
  veil_pid=$!
  for _ in $(seq 300); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$veil") 2>/dev/null || return 0
    sleep 0.1
  done
  cat "$out/pgveil.log" >&2
  exit 1
}

# Both databases as they were: what a client left behind must not reach the next one.
reset() {
  local database
  for database in twin shop; do
    sql "$database" "do \$\$ declare name text; begin
        for name in select c.oid::regclass::text from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')
          and relname not in ('people', 'orders') loop execute 'drop table if exists ' || name || ' cascade'; end loop; end \$\$" \
      "truncate people, orders cascade"
  done
}

url() { echo "postgresql://$2:$password@127.0.0.1:$([ "$1" = twin ] && echo "$server" || echo "$veil")/$1"; }

# The command of a client: its transcript on stdout. Clients of `make test` have one step, their whole scenario.
client() { # name, url, scenario|introspect
  case $1:$3 in
    psycopg-*:introspect) "$PYTHON" "$here/python/catalog_client.py" "$2" "$3" psycopg; return ;;
    asyncpg:introspect) "$PYTHON" "$here/python/catalog_client.py" "$2" "$3" asyncpg; return ;;
    node-postgres:introspect) PGVEIL_NODE_CLIENTS=$MODULES node "$here/node/pg_client.js" "$2" "$3"; return ;;
  esac
  case $1 in
    psycopg-*) module psycopg && whole "$PYTHON" "$here/psycopg_scenario.py" "$2" "${1#psycopg-}" ;;
    asyncpg) module asyncpg && whole "$PYTHON" "$here/asyncpg_scenario.py" "$2" ;;
    node-postgres) node -p "'version ' + require('$MODULES/node_modules/pg/package.json').version" && whole env PGVEIL_NODE_CLIENTS="$MODULES" node "$here/node_scenario.js" "$2" ;;
    psycopg2 | pg8000) "$PYTHON" "$here/python/$1_client.py" "$2" "$3" ;;
    sqlalchemy-*) "$PYTHON" "$here/python/sqlalchemy_client.py" "$2" "$3" "${1#*-}" ;;
    django-*) "$PYTHON" "$here/python/django_client.py" "$2" "$3" "${1#*-}" ;;
    knex | postgres.js | typeorm) PGVEIL_NODE_CLIENTS=$MODULES node "$here/node/${1%.js}_client.js" "$2" "$3" ;;
    jdbc-*) java -cp "$JDBC" "$here/java/JdbcClient.java" "$2" "$3" "${1#jdbc-}" ;;
    go-pgx*) go_run "$here/go/pgx_client.go" "$2" "$3" "$([ "$1" = go-pgx-simple ] && echo simple || echo extended)" "$(debian golang-github-jackc-pgx-v4-dev)" ;;
    sqlx | diesel | tokio-postgres) "$RUST/debug/${1//-/_}_client" "$2" "$3" ;;
    psql | pg_dump | pgbench) bash "$here/libpq/$1_client.sh" "$2" "$3" ;;
    dbd-pg-*) perl "$here/perl/dbd_pg_client.pl" "$2" "$3" "${1#dbd-pg-}" ;;
    go-pq) go_run "$here/go/pq_client.go" "$2" "$3" "$(debian golang-github-lib-pq-dev)" ;;
    *) false ;;
  esac
}

# The version that Debian's package brings.
debian() { dpkg-query -W -f '${Version}' "$1" | sed 's/-[^-]*$//'; }

rust_clients() { cargo build --locked --quiet --manifest-path "$here/rust/Cargo.toml" --target-dir "$RUST" >"$out/rust.log" 2>&1; }

go_run() { GO111MODULE=off GOPATH=/usr/share/gocode go run "$here/go/steps.go" "$@"; }

# What the client needs and is not there.
lacks() {
  case $1 in
    psycopg* | asyncpg | pg8000 | sqlalchemy-* | django-*) [ -x "$PYTHON" ] || echo "target/clients/venv-matrix" ;;
    node-postgres | knex | postgres.js | typeorm) [ -d "$MODULES/node_modules" ] || echo "target/clients/node-matrix" ;;
    jdbc-*) [ -e "$JDBC" ] && command -v javac >/dev/null || echo "$JDBC, javac" ;;
    sqlx | diesel | tokio-postgres) rust_clients || echo "what $here/rust is built from" ;;
    psql | pg_dump | pgbench) [ -x "$PGBIN/$1" ] || echo "$PGBIN/$1" ;;
    dbd-pg-*) perl -MDBD::Pg -e 1 2>/dev/null || echo "DBD::Pg" ;;
    go-*) [ -d /usr/share/gocode/src/github.com/jackc/pgx/v4 ] && [ -d /usr/share/gocode/src/github.com/lib/pq ] && command -v go >/dev/null || echo "go with pgx and lib/pq" ;;
  esac
}

module() { "$PYTHON" -c "from importlib.metadata import version; print('version', version('$1'))"; }

whole() {
  echo "## scenario"
  "$@" 2>&1 || echo "failed: it ended with $?"
}

has_catalog() { [ "$1" != pgbench ]; }

# Which steps of the second transcript failed, or are not as in the first; the first's own failures too.
compare() { # direct, pgveil -> "passed steps", then a line per failed step
  awk '
    function done() { if (step != "") { text[file, step] = body; if (file == 1) order[++steps] = step } }
    FNR == 1 { done(); file++; step = ""; body = "" }
    /^version / { next }
    /^## / { done(); step = substr($0, 4); body = ""; next }
    /^failed: / { if (!((file, step) in how)) how[file, step] = substr($0, 9) }
    { body = body $0 "\n" }
    END {
      done()
      if (!steps) lines = "start: no step was reached\n"
      for (i = 1; i <= steps; i++) {
        s = order[i]
        if ((1, s) in how) lines = lines s ": fails direct: " how[1, s] "\n"
        else if (!((2, s) in text)) lines = lines s ": not reached\n"
        else if ((2, s) in how) lines = lines s ": " how[2, s] "\n"
        else if (text[1, s] != text[2, s]) lines = lines s ": answers differ\n"
        else passed++
      }
      print passed + 0, steps + 0
      printf "%s", lines
    }' "$1" "$2"
}

# One mode of one client, both ways; sets passed, steps and appends to $out/$client.failed.
both() { # client, role, mode
  local way name=$1.$2.$3 result
  for way in twin shop; do
    timeout 300 "$BASH" -c "$(declare -f client module whole debian go_run); client '$1' '$(url "$way" "$2")' '$3'" >"$out/$name.$way" 2>"$out/$name.$way.err" \
      || echo "failed: ended early: $(tail -n 1 "$out/$name.$way.err" | cut -c 1-200)" >>"$out/$name.$way"
  done
  result=$(compare "$out/$name.twin" "$out/$name.shop")
  read -r passed steps <<<"$result"
  sed "1d; s/^/$2: /" <<<"$result" >>"$out/$1.failed"
}

rows() {
  local client missing scenario app analyst passed steps version names
  printf '| client | version | scenario | catalog as app | catalog as analyst | what fails |\n|---|---|---|---|---|---|\n'
  for client in ${CLIENTS:-$everyone}; do
    missing=$(lacks "$client")
    if [ -n "$missing" ]; then
      say "$client is skipped: $missing is not there (.ci/needs clients)"
      echo "$client" >>"$out/skipped"
      continue
    fi
    : >"$out/$client.failed"
    reset
    both "$client" app scenario
    scenario="$passed of $steps"
    app=- analyst=-
    if has_catalog "$client"; then
      reset
      both "$client" app introspect
      app="$passed of $steps"
      both "$client" analyst introspect
      analyst="$passed of $steps"
    fi
    version=$(sed -n 's/^version //p' "$out/$client.app.scenario.twin")
    names=$(sed 's/^\([a-z]*: [a-z_]*\): .*/\1/; s/^app: //' "$out/$client.failed" | paste -sd, | sed 's/,/, /g')
    printf '| %s | %s | %s | %s | %s | %s |\n' "$client" "$version" "$scenario" "$app" "$analyst" "$names"
    sed "s/^/    $client: /" "$out/$client.failed" >&2
    for names in $(sed 's/^\([a-z]*\): \([a-z_]*\): .*/\1:\2/' "$out/$client.failed"); do
      grep -q "^| $client | ${names#app:} |" "$here/differences.md" || echo "$client $names" >>"$out/unexplained"
    done
  done
}

# The README's table is the last full run's.
into_readme() {
  awk -v table="$out/table.md" '
    /^<!-- clients -->$/ { print; print ""; while ((getline line < table) > 0) print line; print ""; inside = 1 }
    /^<!-- \/clients -->$/ { inside = 0 }
    !inside { print }' README.md >"$out/README.md"
  cat "$out/README.md" >README.md
}

if [ -z "${PGVEIL:-}" ]; then
  cargo build --locked --quiet --bin pgveil
  PGVEIL=$PWD/target/debug/pgveil
fi
export here PYTHON MODULES JDBC RUST PGBIN PYTHONDONTWRITEBYTECODE=1
rm -rf "$out" && mkdir -p "$out"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pgveil-clients.XXXXXX")
veil_pid='' password=kept-for-the-clients
trap finish EXIT
chmod 755 "$dir"
if [ "$(id -u)" = 0 ]; then mkdir "$dir/data" && chown postgres "$dir/data" && touch "$dir/server.log" && chown postgres "$dir/server.log"; fi
server=$(free_port) veil=$(free_port) admin=$(free_port)
make_cluster
make_veil
rows | tee "$out/table.md"
[ -n "${CLIENTS:-}" ] || [ -e "$out/skipped" ] || into_readme
if [ -e "$out/unexplained" ]; then
  say "not in tests/clients/differences.md:"
  cat "$out/unexplained" >&2
  exit 1
fi
case "${CI:-}" in 1 | true) [ ! -e "$out/skipped" ] ;; esac
