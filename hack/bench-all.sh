#!/usr/bin/env bash
# Runs every bench, whatever the others say, puts the figures into docs/, and ends with an error where a target was missed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
missed=()
for name in follow objects life throughput fetch; do
    echo "=== $name"
    make --no-print-directory "bench-$name" || missed+=("$name")
done
cargo bench --quiet --workspace --bench growth || missed+=(growth)
[ "${#missed[@]}" = 0 ] || { echo "bench: a target is missed, or a bench failed: ${missed[*]}" >&2; exit 1; }
