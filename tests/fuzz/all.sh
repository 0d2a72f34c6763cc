#!/bin/sh
# Fuzzes every target, one after the other: tests/fuzz/all.sh SECONDS [TARGET...]
#
# New inputs go to target/fuzz/corpus (the committed ones in tests/fuzz/corpus are read, never written), what breaks a
# target to target/fuzz/artifacts. One table at the end; the exit code is 0 only if nothing was found.
# To keep what was learnt: cargo +nightly fuzz cmin --fuzz-dir tests/fuzz TARGET target/fuzz/corpus/TARGET
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-600}
[ $# -eq 0 ] || shift
fuzz=$PWD/tests/fuzz
out=$PWD/target/fuzz
if ! command -v cargo-fuzz >/dev/null || ! rustup toolchain list 2>/dev/null | grep -q nightly; then
    echo "fuzz: needs nightly Rust and cargo-fuzz: rustup toolchain install nightly && cargo install cargo-fuzz" >&2
    exit 1
fi
targets=${*:-$(sed -n 's/^name = "\(.*\)"$/\1/p' "$fuzz/Cargo.toml" | grep -v '^pgveil-fuzz$')}
mkdir -p "$out/logs"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$out/build}"
found=0
table=
for target in $targets; do
    mkdir -p "$out/corpus/$target" "$out/artifacts/$target"
    dict=
    [ ! -f "$fuzz/dict/$target" ] || dict="-dict=$fuzz/dict/$target"
    result="no finding"
    # shellcheck disable=SC2086
    cargo +nightly fuzz run --fuzz-dir "$fuzz" "$target" "$out/corpus/$target" "$fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 $dict \
        -artifact_prefix="$out/artifacts/$target/" >"$out/logs/$target" 2>&1 || { result="FOUND, see $out/logs/$target"; found=1; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/logs/$target")
    table="$table$(printf '%-16s %10s runs  %s' "$target" "${runs:-0}" "$result")
"
    printf '%s: %s runs, %s\n' "$target" "${runs:-0}" "$result"
done
printf '\n%s' "$table"
exit $found
