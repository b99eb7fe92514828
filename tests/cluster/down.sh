#!/usr/bin/env bash
# usage: down.sh [STATE_DIR]: stops the cluster that up.sh started there, and removes what it left. Fine when none runs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=state.sh
. "$here/state.sh"
[ -d "$state" ] || exit 0
state=$(cd "$state" && pwd)
pid_file=$state/pid
exec 9>"$state/lock"
flock 9
if pid=$(running_pid); then
    kill "$pid"
    # It ends its components and removes its data first; past the limit it is made to, and they end with it.
    for _ in $(seq 300); do
        running_pid >/dev/null || break
        sleep 0.1
    done
    if pid=$(running_pid); then kill -KILL "$pid"; fi
fi
rm -rf "$state/data" "$state/up.json" "$state/up.log" "$state/kubeconfig" "$pid_file" "$state/lock"
rmdir "$state" 2>/dev/null || true
