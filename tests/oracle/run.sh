#!/usr/bin/env bash
# pgveil's reading of SQL against PostgreSQL's own parser, on PostgreSQL 15's regression scripts and mutations of them.
#
#   tests/oracle/run.sh [FILE|FOLDER...]      more texts beside those of the suite
#
# Environment: MUTATIONS (1000000), SEED (0), CASE=n (shows mutation n of that seed and ends), REFUSED=1 (shows the texts of
# the corpus that pgveil refuses), CARGO. FREEZE=n writes tests/vectors/tokens.jsonl anew, from our own texts only.
#
# The parser is libpg_query of PostgreSQL 17 (crate pg_query 6): of the versions that pgveil serves the one that accepts
# most. It needs a C compiler and libclang (apt-get install gcc libc6-dev libclang1). The scripts come from Debian's source
# package, as for `make conformance`, and stay in target/conformance. The exit code is 0 only if nothing disagreed.
set -euo pipefail
cd "$(dirname "$0")/../.."

CARGO=${CARGO:-cargo}
cache=$PWD/target/conformance
say() { echo "oracle: $*" >&2; }
missing() { say "missing: $1"; say "  $2"; exit 1; }
. tests/conformance/source.sh

for program in cc tar bzip2 apt-get; do
  command -v "$program" >/dev/null || missing "$program" "apt-get install gcc libc6-dev tar bzip2 (Debian or Ubuntu only: the scripts come from Debian)"
done
ldconfig -p | grep -q 'libclang[-.]' || [ -n "${LIBCLANG_PATH:-}" ] || missing libclang "apt-get install libclang1-14, or set LIBCLANG_PATH"
download_source

# bindgen brings no headers of its own; the compiler's do.
export BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:--I$(cc -print-file-name=include)}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/oracle}"
# Not --locked: pgveil's own dependencies stand in that lock file too, and change more often than it.
$CARGO build --release --quiet --manifest-path tests/oracle/Cargo.toml
own=(tests/vectors/statements.sql tests/fuzz/corpus/guard_lexer tests/fuzz/corpus/plan)
if [ -n "${FREEZE:-}" ]; then
  "$CARGO_TARGET_DIR/release/pgveil-oracle" "${own[@]}" >tests/vectors/tokens.jsonl
  exit
fi
exec "$CARGO_TARGET_DIR/release/pgveil-oracle" "$cache/source/src/test/regress/sql" "${own[@]}" "$@"
