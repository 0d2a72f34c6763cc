#!/usr/bin/env bash
# pgbench direct, through PgBouncer and through pgveil, interleaved, on a private throw-away PostgreSQL.
#
#   bench/e2e.sh            all cells; see README "How fast it is" for how to read them
#
# Environment: ROUNDS (5) runs of each cell and target, SECONDS_EACH (3), CLIENTS ("1 8"), MODES ("prepared simple"),
# SCALE (10) of pgbench, PEOPLE (1000) sealed rows, PGBIN, PGVEIL (default: a release build), DURABILITY (intent),
# CELLS ("passthrough unprotected read write").
#
# Durability of PostgreSQL itself is off: this measures protocol and proxy, not the disk under PostgreSQL. pgveil's
# access log is fsynced as configured: with `intent`, reads and writes of sealed columns wait for the disk.
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-3} CLIENTS=${CLIENTS:-1 8} MODES=${MODES:-prepared simple}
SCALE=${SCALE:-10} PEOPLE=${PEOPLE:-1000} DURABILITY=${DURABILITY:-intent}
CELLS=${CELLS:-passthrough unprotected read write}
PGBIN=${PGBIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)}
[ -n "$PGBIN" ] || PGBIN=$(pg_config --bindir)
PGBOUNCER=$(command -v pgbouncer || command -v /usr/sbin/pgbouncer || true)
if [ -z "${PGVEIL:-}" ]; then
  cargo build --release --locked --quiet --bin pgveil
  PGVEIL=$PWD/target/release/pgveil
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/pgveil-bench.XXXXXX")
chmod 755 "$dir"
pids=()
owner=$(id -un)
[ "$(id -u)" != 0 ] || owner=postgres
as_owner() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  as_owner "$PGBIN/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap finish EXIT

free_port() { # four ports nobody listens on
  local port
  while :; do
    port=$((20000 + RANDOM % 40000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}
direct=$(free_port) bouncer=$(free_port) veil=$(free_port) admin=$(free_port)
password=$(head -c 18 /dev/urandom | base64)
export PGPASSWORD=$password PGSSLMODE=disable PGGSSENCMODE=disable PGCONNECT_TIMEOUT=10

start_postgres() {
  mkdir "$dir/data" "$dir/socket"
  [ "$(id -u)" != 0 ] || chown postgres "$dir/data" "$dir/socket"
  as_owner "$PGBIN/initdb" -D "$dir/data" -U "$owner" --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $direct
unix_socket_directories = '$dir/socket'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
CONF
  as_owner "$PGBIN/pg_ctl" -D "$dir/data" -w -l "$dir/data/server.log" start >/dev/null
  admin_sql postgres "create role bench login password '$password'; create role pgveil login password '$password'"
  admin_sql postgres "create database plain owner bench" "create database app owner pgveil"
  "$PGBIN/pgbench" -q -i -s "$SCALE" -h 127.0.0.1 -p "$direct" -U bench plain >/dev/null 2>&1
  "$PGBIN/pgbench" -q -i -s "$SCALE" -h 127.0.0.1 -p "$direct" -U pgveil app >/dev/null 2>&1
  sql "$direct" pgveil app "create table people (id int primary key, email varchar(320), full_name text)"
  sql "$direct" pgveil app "grant all on all tables in schema public to bench"
}

admin_sql() { # database, statements as the superuser
  local database=$1; shift
  local statement
  for statement in "$@"; do
    "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir/socket" -p "$direct" -U "$owner" -d "$database" -c "$statement"
  done
}

sql() { # port, role, database, statement
  "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$1" -U "$2" -d "$3" -c "$4"
}

start_bouncer() {
  [ -n "$PGBOUNCER" ] || return 0
  echo "\"bench\" \"$password\"" >"$dir/users"
  cat >"$dir/pgbouncer.ini" <<CONF
[databases]
* = host=127.0.0.1 port=$direct
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $bouncer
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $dir/users
pool_mode = session
default_pool_size = 100
max_client_conn = 200
log_connections = 0
log_disconnections = 0
CONF
  chmod 644 "$dir/users" "$dir/pgbouncer.ini"
  as_owner "$PGBOUNCER" "$dir/pgbouncer.ini" >/dev/null 2>"$dir/pgbouncer.log" &
  pids+=($!)
}

start_pgveil() {
  cat >"$dir/policy.toml" <<'POLICY'
version = 1
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id        = { level = "internal" }
email     = { level = "restricted", data = "pii", as = "varchar(320)", encrypt = "deterministic", mask = "email" }
full_name = { level = "restricted", data = "pii", as = "text", encrypt = "randomized", mask = "name" }
[roles.bench]
clearance = "restricted"
POLICY
  printf '%s\n' "$(head -c 24 /dev/urandom | base64)" >"$dir/passphrase"
  chmod 600 "$dir/passphrase"
  cat >"$dir/pgveil.toml" <<CONF
[listen]
postgres = "127.0.0.1:$veil"
admin = "127.0.0.1:$admin"
[upstream]
host = "127.0.0.1"
port = $direct
[control]
url = "postgresql://pgveil@127.0.0.1:$direct/app"
[databases]
passthrough = ["plain"]
[policy]
path = "policy.toml"
[keys]
provider = "file"
path = "keyring.toml"
passphrase_file = "passphrase"
[audit]
dir = "audit"
durability = "$DURABILITY"
CONF
  (cd "$dir" && "$PGVEIL" keys init && "$PGVEIL" apply) >"$dir/setup.log" 2>&1 || { cat "$dir/setup.log" >&2; exit 1; }
  (cd "$dir" && exec "$PGVEIL" serve >"$dir/pgveil.log" 2>&1) &
  pids+=($!)
  for _ in $(seq 200); do
    (exec 3<>"/dev/tcp/127.0.0.1/$veil") 2>/dev/null && break
    sleep 0.05
  done
  local values
  values=$(seq "$PEOPLE" | sed "s/.*/(&, 'person&@example.com', 'Person Number &')/" | paste -sd,)
  sql "$veil" bench app "insert into people values $values" || { cat "$dir/pgveil.log" >&2; exit 1; }
}

scripts() {
  cat >"$dir/read.sql" <<SCRIPT
\\set id random(1, $PEOPLE)
select email, full_name from people where id = :id;
SCRIPT
  cat >"$dir/write.sql" <<SCRIPT
\\set id random(1, $PEOPLE)
update people set full_name = 'Person Renamed' where id = :id;
SCRIPT
  # Past the proxy a literal would violate the sealed type: direct writes the same number of bytes as they are stored.
  cat >"$dir/write_direct.sql" <<SCRIPT
\\set id random(1, $PEOPLE)
update people set full_name = full_name where id = :id;
SCRIPT
}

# cell → database, pgbench arguments by target, targets
targets_of() {
  case $1 in
    passthrough) if [ -n "$PGBOUNCER" ]; then echo direct pgbouncer pgveil; else echo direct pgveil; fi ;;
    *) echo direct pgveil ;;
  esac
}
port_of() { case $1 in direct) echo "$direct" ;; pgbouncer) echo "$bouncer" ;; pgveil) echo "$veil" ;; esac; }
database_of() { case $1 in passthrough) echo plain ;; *) echo app ;; esac; }
script_of() { # cell, target
  case $1/$2 in
    write/direct) echo "-f $dir/write_direct.sql" ;;
    read/* | write/*) echo "-f $dir/$1.sql" ;;
    *) echo -S ;;
  esac
}

run() { # cell, target, mode, clients → transactions per second
  local out
  # shellcheck disable=SC2046
  if ! out=$("$PGBIN/pgbench" -n -M "$3" -c "$4" -j 1 -T "$SECONDS_EACH" -s "$SCALE" $(script_of "$1" "$2") \
    -h 127.0.0.1 -p "$(port_of "$2")" -U bench "$(database_of "$1")" 2>&1); then
    echo "$1 $2 $3 $4: $(grep -iE 'error|fatal' <<<"$out" | head -1)" >&2
    return 1
  fi
  sed -n 's/^tps = \([0-9.]*\) (without.*/\1/p' <<<"$out"
}

median() { sort -g | awk '{v[NR]=$1} END {if (NR==0) print "-"; else printf "%.3f\n", (NR%2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }

cell() { # cell, mode, clients
  local results=$dir/results order target round tps base
  : >"$results"
  read -ra order <<<"$(targets_of "$1")"
  for round in $(seq "$ROUNDS"); do
    for target in "${order[@]}"; do
      tps=$(run "$1" "$target" "$2" "$3") || return 0
      echo "$round $target $tps" >>"$results"
    done
    # The order rotates, so that a drift of the machine hits every target alike.
    order=("${order[@]:1}" "${order[0]}")
  done
  read -ra order <<<"$(targets_of "$1")"
  for target in "${order[@]}"; do
    tps=$(awk -v t="$target" '$2==t {print $3}' "$results" | median)
    printf '| %-11s | %-8s | %3s | %-9s | %9.0f ' "$1" "$2" "$3" "$target" "$tps"
    for base in direct pgbouncer; do
      printf '| %s ' "$(awk -v t="$target" -v b="$base" '$2==b {d[$1]=$3} $2==t {v[$1]=$3}
        END {for (r in v) if (r in d) print v[r]/d[r]}' "$results" | median)"
    done
    printf '| %6.1f |\n' "$(awk -v n="$3" -v t="$tps" 'BEGIN {print n * 1e6 / t}')"
  done
}

start_postgres
start_bouncer
start_pgveil
scripts
echo "$("$PGBIN/postgres" --version), $("$PGVEIL" --version)$([ -z "$PGBOUNCER" ] || "$PGBOUNCER" --version | sed -n '1s/^/, /p')"
echo "$(nproc) CPUs, $ROUNDS rounds of $SECONDS_EACH s, access log: $DURABILITY; medians"
echo "| cell        | mode     |  cl | target    |       tps | /direct | /pgbouncer | us per transaction |"
echo "|---|---|---|---|---|---|---|---|"
for name in $CELLS; do
  for mode in $MODES; do
    for clients in $CLIENTS; do
      cell "$name" "$mode" "$clients"
    done
  done
done
