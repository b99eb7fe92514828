#!/usr/bin/env bash
# Measures `tenantry fetch` beside curl, and the pods of operator and fetch Jobs, and writes target/bench/fetch.json. What
# is measured is the program of the image. The pods need root and what tests/cluster/node-deps.sh installs; where the
# machine cannot run a node it says so and measures the process alone, but not in CI. Arguments go to the bench, like
# --rounds 9.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for program in curl sha256sum diff; do
    command -v "$program" >/dev/null || { echo "bench: needs $program" >&2; exit 1; }
done
status=0
tests/cluster/node-deps.sh || status=$?
[ "$status" = 0 ] || { [ "$status" = 77 ] && [ "${CI:-}" != true ]; } || exit "$status"
args=()
log=target/bench/build.log
mkdir -p target/bench
show() { cat "$log" >&2; exit 1; }
if [ "$status" = 0 ]; then
    tests/cluster/ensure.sh >/dev/null
    hack/helm.sh --path >/dev/null
    export TENANTRY_E2E_IMAGES=$PWD/target/bench
    IMAGE=localhost/tenantry:e2e ARCHIVE=$TENANTRY_E2E_IMAGES/e2e.tar hack/image.sh >"$log" 2>&1 || show
    args+=(--node)
else
    echo "bench: the pods are passed over: see above"
    hack/static.sh target/image >"$log" 2>&1 || show
fi
export TENANTRY_BENCH_COMMAND="hack/bench-fetch.sh${*:+ $*}"
exec cargo bench --quiet --workspace --bench fetch -- --program target/image/tenantry "${args[@]}" "$@"
