#!/usr/bin/env bash
# Stops what hack/demo.sh started, by process id, and removes its state.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=${TENANTRY_DEMO_DIR:-$PWD/target/demo}
[ -d "$state" ] || exit 0
for name in operator simulator; do
    pid=$(cat "$state/$name.pid" 2>/dev/null || true)
    # A process id may have been given to somebody else meanwhile.
    if [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$state/$name.json"; then
        kill "$pid" 2>/dev/null || true
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
done
tests/cluster/down.sh "$state/cluster" >/dev/null 2>&1 || true
rm -rf "$state"
[ "${1:-}" = --quiet ] || echo "stopped"
