#!/usr/bin/env bash
# Runs the tests that need a node: builds the image, installs the chart with Helm, and looks at what the operator does in
# its pod. Needs root; installs what is missing (tests/cluster/node-deps.sh). Where the machine cannot run a node it says
# so and passes over the suite, but not in CI. Arguments go to the test program, like the name of a test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
status=0
tests/cluster/node-deps.sh || status=$?
if [ "$status" = 77 ] && [ "${CI:-}" != true ]; then
    echo "e2e: the suite e2e_node is passed over: see above"
    exit 0
fi
[ "$status" = 0 ] || exit "$status"
# The node by itself: it runs pods, and leaves nothing behind.
if [ "$#" = 0 ]; then tests/cluster/test-node.sh; fi
hack/helm.sh --path >/dev/null
export TENANTRY_E2E_IMAGES=$PWD/target/e2e
mkdir -p "$TENANTRY_E2E_IMAGES"
for tag in e2e e2e-next; do
    IMAGE=localhost/tenantry:$tag ARCHIVE=$TENANTRY_E2E_IMAGES/$tag.tar hack/image.sh >"$TENANTRY_E2E_IMAGES/$tag.log" 2>&1 ||
        { cat "$TENANTRY_E2E_IMAGES/$tag.log" >&2; exit 1; }
    tail -n 1 "$TENANTRY_E2E_IMAGES/$tag.log"
done
# The tests wait more than they compute; those that must run alone see to that.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
# With the features of hack/test.sh, so that there is one build for both; the operator is the image's, which has none.
exec cargo test --workspace --features crash-points --test e2e_node -- --include-ignored "$@"
