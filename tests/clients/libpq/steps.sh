# What a client of the matrix that is a program of PostgreSQL's own is made of: steps, each of which prints what it got
# (see matrix.sh). Sourced, with URL and scenario|introspect as arguments.
url=$1 mode=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PGTZ=UTC PGOPTIONS='-c client_min_messages=warning'

sql() { "$PGBIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$url" "${@/#/--command=}"; }

# A step is a function; it fails with the first of its commands that does.
step() {
  echo "## $1"
  local ended=0
  (set -euo pipefail; "$1") >"$work/step" 2>&1 || ended=$?
  sed 's/^/   /' "$work/step"
  [ "$ended" = 0 ] || echo "failed: it ended with $ended: $(tail -n 1 "$work/step" | cut -c 1-200)"
}

version() { echo "version $("$PGBIN/$1" --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')"; }
