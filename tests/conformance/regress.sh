#!/usr/bin/env bash
# PostgreSQL 15's own regression and isolation suites, run direct and through pgveil; the results must be equal byte by byte.
#
#   tests/conformance/regress.sh       everything; exit code 0 only if nothing differs that is not in `expected/`
#
# Two cases, each run direct and through pgveil, each run on a fresh copy of its case's cluster:
#   passthrough   pgveil serves the suite's database without a policy;
#   protected     that database is the policy's own: `pgveil apply` has sealed columns of one table of it, which the
#                 suite does not know. The direct run has the same table, so that catalog queries see the same database.
# In the direct runs too pgveil is up, and watches the catalog: only the way differs.
#
# Nothing is filtered: each suite's folder of results is compared with `diff -r`. The suites themselves see to it that
# no output holds a port, a process id or a time. What differs by design (DESIGN §4 pins two settings on a protected
# database) stands with its reason in `expected/CASE-SUITE.diff`; any difference beyond that file, or less than it, is
# a failure.
#
# Environment: SUITES ("regress isolation"), CASES ("passthrough protected"), PGBIN, PGVEIL (default: a release build),
# TESTS (only these tests, in one group each; for looking into a difference).
#
# Downloads and compiled C functions are kept in target/conformance; results, logs and differences are left there too.
set -euo pipefail
cd "$(dirname "$0")/../.."

SUITES=${SUITES-regress isolation} CASES=${CASES-passthrough protected}
PGBIN=${PGBIN:-/usr/lib/postgresql/15/bin}
PGXS=${PGBIN%/bin}/lib/pgxs/src/test
cache=$PWD/target/conformance
say() { echo "regress: $*" >&2; }
missing() { say "missing: $1"; say "  $2"; exit 1; }
. tests/conformance/source.sh

needs() {
  local program
  [ -x "$PGBIN/postgres" ] || missing "PostgreSQL 15's server, $PGBIN/postgres" "apt-get install postgresql-15, or set PGBIN"
  for program in "$PGXS/regress/pg_regress" "$PGXS/isolation/pg_isolation_regress" "$PGXS/isolation/isolationtester"; do
    [ -x "$program" ] || missing "$program" "apt-get install postgresql-client-15"
  done
  for program in cc tar bzip2 apt-get dpkg-deb diff; do
    command -v "$program" >/dev/null || missing "$program" "apt-get install gcc libc6-dev tar bzip2 dpkg diffutils (Debian or Ubuntu only: the sources come from Debian)"
  done
  [ "$(id -u)" != 0 ] || command -v runuser >/dev/null || missing runuser "PostgreSQL refuses to run as root: apt-get install util-linux"
  [ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1 || missing "the user postgres" "PostgreSQL refuses to run as root: apt-get install postgresql-common"
}

# The newest server headers that download. Headers newer than the server may declare functions that it does not have.
download_headers() {
  local version running
  [ ! -e "$cache/include/postgres.h" ] || return 0
  own_lists
  mkdir -p "$cache/download"
  running=$("$PGBIN/postgres" --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')
  for version in $(apt_versions binary | sort -rV) none; do
    [ "$version" != none ] || missing "PostgreSQL 15's server headers" "no postgresql-server-dev-15 up to $running downloads"
    [ "$(printf '%s\n' "$running" "${version%-*}" | sort -V | tail -1)" = "$running" ] || continue
    (cd "$cache/download" && own_apt download "postgresql-server-dev-15=$version" >/dev/null 2>&1) && break
    say "postgresql-server-dev-15 $version does not download; trying an older one"
  done
  rm -rf "$cache/dev" "$cache/include"
  dpkg-deb -x "$(ls "$cache/download/postgresql-server-dev-15_${version/:/%3a}"_*.deb)" "$cache/dev"
  mv "$cache/dev/usr/include/postgresql/15/server" "$cache/include"
  rm -rf "$cache/dev"
}

# The C functions the suite loads.
compile() {
  local unit
  mkdir -p "$cache/lib"
  for unit in src/test/regress/regress contrib/spi/refint contrib/spi/autoinc; do
    [ "$cache/lib/${unit##*/}.so" -nt "$cache/source/$unit.c" ] || cc -O2 -fPIC -shared -w -Werror=implicit-function-declaration -fno-strict-aliasing -fwrapv \
      -DREFINT_VERBOSE -I "$cache/include" -I "$cache/source/contrib/spi" -o "$cache/lib/${unit##*/}.so" "$cache/source/$unit.c"
  done
}

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
  "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$server" -U "$owner" -d "$database" "${@/#/--command=}"
}

start_server() { as_owner "$PGBIN/pg_ctl" -D "$dir/data" -w -t 120 -l "$dir/server.log" start >/dev/null; }
stop_server() { as_owner "$PGBIN/pg_ctl" -D "$dir/data" -w -t 120 -m fast stop >/dev/null; }

# The clusters that runs start from: pg_regress's own settings for a database; in the protected one a sealed table.
make_clusters() {
  as_owner "$PGBIN/initdb" -D "$dir/data" -U "$owner" --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  as_owner tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $server
unix_socket_directories = ''
fsync = off
max_prepared_transactions = 2
CONF
  start_server
  sql postgres "create role pgveil login"
  local database setting
  for database in regression isolation_regression keeper; do
    sql postgres "create database $database template template0"
    for setting in "lc_messages to 'C'" "lc_monetary to 'C'" "lc_numeric to 'C'" "lc_time to 'C'" \
      "bytea_output to 'hex'" "timezone_abbreviations to 'Default'"; do
      sql postgres "alter database $database set $setting"
    done
  done
  seal keeper
  stop_server
  as_owner cp -a "$dir/data" "$dir/data.passthrough"
  start_server
  seal regression
  seal isolation_regression
  stop_server
  as_owner cp -a "$dir/data" "$dir/data.protected"
}

seal() { # database
  sql "$1" "create table public.conformance_patient (id int primary key, email varchar(320), full_name text, ward text)" \
    "alter table public.conformance_patient owner to pgveil" "grant create on database $1 to pgveil"
  configure "$1"
  veil_command apply
}

configure() { # the database of [control]
  as_owner tee "$dir/veil/policy.toml" >/dev/null <<POLICY
version = 1
default_level = "internal"
[tables."public.conformance_patient"]
subject = { kind = "patient", key = "id" }
[tables."public.conformance_patient".columns]
email     = { level = "restricted", data = "pii", as = "varchar(320)", encrypt = "deterministic", mask = "email" }
full_name = { level = "restricted", data = "pii", as = "text", encrypt = "randomized", mask = "name" }
ward      = { level = "internal" }
[roles.$owner]
clearance = "restricted"
POLICY
  as_owner tee "$dir/veil/pgveil.toml" >/dev/null <<CONF
[listen]
postgres = "127.0.0.1:$veil"
admin = "127.0.0.1:$admin"
allow_trust = true
[upstream]
host = "127.0.0.1"
port = $server
[control]
url = "postgresql://pgveil@127.0.0.1:$server/$1"
[databases]
passthrough = [$(printf '%s\n' postgres regression isolation_regression | sed "/^$1\$/d; s/.*/\"&\"/" | paste -sd,)]
[policy]
path = "policy.toml"
[keys]
path = "$1.keyring.toml"
passphrase_file = "passphrase"
[audit]
dir = "audit.$1"
CONF
  [ -e "$dir/veil/$1.keyring.toml" ] || veil_command keys init
}

veil_command() {
  as_owner "$PGVEIL" "$@" --config "$dir/veil/pgveil.toml" >"$dir/command.log" 2>&1 || { cat "$dir/command.log" >&2; exit 1; }
}

start_veil() { # name of the run
  (cd "$dir" && if [ "$owner" = postgres ]; then set -- runuser -u postgres --; else set --; fi
    exec "$@" "$PGVEIL" serve --config "$dir/veil/pgveil.toml") >"$cache/results/$1.pgveil.log" 2>&1 &
  veil_pid=$!
  for _ in $(seq 300); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$veil") 2>/dev/null || return 0
    sleep 0.1
  done
  cat "$cache/results/$1.pgveil.log" >&2
  exit 1
}

stop_veil() { # name of the run
  kill "$veil_pid" 2>/dev/null || { say "pgveil has ended by itself:"; tail -20 "$cache/results/$1.pgveil.log" >&2; broken=1; }
  wait "$veil_pid" 2>/dev/null || true
  veil_pid=''
}

database_of() { case $1 in regress) echo regression ;; isolation) echo isolation_regression ;; esac; }
program_of() { case $1 in regress) echo regress/pg_regress ;; isolation) echo isolation/pg_isolation_regress ;; esac; }
schedule_of() { case $1 in regress) echo parallel_schedule ;; isolation) echo isolation_schedule ;; esac; }

# One suite, one way: results go to target/conformance/results/CASE/SUITE.WAY. Server, files and folders are called the
# same in each run, because error messages and \d show them.
run() { # case, suite, direct|pgveil
  local name=$1.$2.$3 suite=$2 port=$server database chosen started
  database=$(database_of "$suite")
  rm -rf "$dir/data" "$dir/out"
  as_owner cp -a "$dir/data.$1" "$dir/data"
  as_owner mkdir "$dir/out"
  start_server
  case $1 in passthrough) configure keeper ;; protected) configure "$database" ;; esac
  start_veil "$name"
  [ "$3" = direct ] || port=$veil
  chosen=(--schedule="$cache/source/src/test/$suite/$(schedule_of "$suite")")
  [ -z "${TESTS:-}" ] || read -r -a chosen <<<"$TESTS"
  started=$(date +%s.%N)
  (cd "$dir/out" && as_owner env PGHOST=127.0.0.1 PGSSLMODE=disable PGGSSENCMODE=disable "$PGXS/$(program_of "$suite")" \
    --use-existing --dbname="$database" --host=127.0.0.1 --port="$port" --user="$owner" --bindir="$PGBIN" \
    --inputdir="$cache/source/src/test/$suite" --dlpath="$cache/lib" --outputdir="$dir/out" \
    --max-concurrent-tests=20 "${chosen[@]}") >"$cache/results/$name.log" 2>&1 || true
  elapsed[$name]=$(date +%s.%N | awk -v from="$started" '{print $1 - from}')
  stop_veil "$name"
  stop_server || { broken=1; say "the server had ended: $name"; }
  mkdir -p "$cache/results/$1"
  cp -r "$dir/out/results" "$cache/results/$1/$suite.$3"
  cp "$dir/out/regression.diffs" "$cache/results/$name.failed" 2>/dev/null || true
  cp "$dir/server.log" "$cache/results/$name.server.log" && rm "$dir/server.log"
}

# Leaves the difference in CASE.SUITE.diff; fails if it is not the expected one. From diff's own lines, never from the
# results, the command, the files' times and the line numbers are taken out: versions of the suite shift them.
compare() { # case, suite
  local found=$cache/results/$1.$2.diff expected=$PWD/tests/conformance/expected/$1-$2.diff
  (cd "$cache/results/$1" && diff -r -U0 "$2.direct" "$2.pgveil" || true) |
    sed -E '/^diff -r /d; s/^((---|\+\+\+) [^\t]+)\t.*/\1/; s/^@@ .* @@$/@@/' >"$found"
  [ -e "$expected" ] || expected=/dev/null
  diff <(sed '/^#/d' "$expected") "$found" >"$found.unexpected"
}

count() { grep -cE "\.\.\. +$1" "$cache/results/$2.log" || true; }

line() { # case, suite, way, verdict
  local name=$1.$2.$3
  printf '| %-11s | %-9s | %-6s | %4s | %6s | %7.1f | %5.2f | %s |\n' "$1" "$2" "$3" "$(count ok "$name")" "$(count FAILED "$name")" \
    "${elapsed[$name]}" "$(awk -v a="${elapsed[$name]}" -v b="${elapsed[$1.$2.direct]}" 'BEGIN {print a / b}')" "$4"
}

needs
download_source
download_headers
compile
if [ -z "${PGVEIL:-}" ]; then
  cargo build --release --locked --quiet --bin pgveil
  PGVEIL=$PWD/target/release/pgveil
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/pgveil-conformance.XXXXXX")
veil_pid='' broken=0
declare -A elapsed
trap finish EXIT
chmod 755 "$dir"
mkdir "$dir/veil" && head -c 24 /dev/urandom | base64 >"$dir/veil/passphrase" && chmod 600 "$dir/veil/passphrase"
[ "$(id -u)" != 0 ] || chown -R postgres "$dir"
rm -rf "$cache/results" && mkdir -p "$cache/results"
server=$(free_port) veil=$(free_port) admin=$(free_port)
make_clusters
echo "$("$PGBIN/postgres" --version); suites of $(sed -n "s/^PACKAGE_VERSION='\(.*\)'/\1/p" "$cache/source/configure"); $("$PGVEIL" --version); $(nproc) CPUs"
echo "| case        | suite     | way    |   ok | failed | seconds | ratio | results |"
echo "|---|---|---|---|---|---|---|---|"
for case in $CASES; do
  for suite in $SUITES; do
    run "$case" "$suite" direct
    line "$case" "$suite" direct ""
    run "$case" "$suite" pgveil
    if ! compare "$case" "$suite"; then
      verdict="DIFFER: $(grep -cE "^(--- $suite.direct/|Only in )" "$cache/results/$case.$suite.diff") files, see target/conformance/results/$case.$suite.diff"
      broken=1
    elif [ -s "$cache/results/$case.$suite.diff" ]; then
      verdict="equal but for tests/conformance/expected/$case-$suite.diff"
    else
      verdict="equal"
    fi
    line "$case" "$suite" pgveil "$verdict"
  done
done
exit "$broken"
