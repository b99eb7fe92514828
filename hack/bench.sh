#!/usr/bin/env bash
# Runs one bench against the program of the image, which it builds, and writes target/bench/NAME.json. Servers are on
# loopback only.
#   hack/bench.sh NAME [ARGUMENT…]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${1:?which bench}
shift
mkdir -p target/bench
log=target/bench/build.log
tests/cluster/ensure.sh >/dev/null
hack/static.sh target/image >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
export TENANTRY_BENCH_COMMAND="hack/bench.sh $name${*:+ $*}"
exec cargo bench --quiet --workspace --bench "$name" -- --program target/image/tenantry "$@"
