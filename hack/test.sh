#!/usr/bin/env bash
# Runs all tests and tells how many ran in each suite. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Built once and kept outside the work tree; the suites would build it themselves, without showing progress.
if [ -z "${TENANTRY_TEST_KUBECONFIG:-}" ]; then
    echo "test cluster: $(tests/cluster/ensure.sh)"
fi
echo "helm: $(hack/helm.sh --path)"
# The suites wait more than they compute: more of them at once than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# With the crash points, which do nothing unless a suite asks for them: so there is one build for all. The image has none.
cargo test --workspace --features crash-points --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

echo
echo "suite                                                   passed  failed ignored"
awk '
    /^ *Running /      { suite = $2; if ($2 == "unittests") suite = $2 " " $3; sub(/\(.*/, "", suite); split($0, part, "deps/"); if ($2 == "unittests") { name = part[2]; sub(/-[0-9a-f]+\).*/, "", name); suite = "unit tests of " name } }
    /^ *Doc-tests /    { suite = "doc tests of " $2 }
    /^test result:/    { printf "%-55s %6d %7d %7d\n", suite, $4, $6, $8; passed += $4; failed += $6; skipped += $8 }
    END                { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }
' "$log"
exit "$status"
