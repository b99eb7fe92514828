#!/usr/bin/env bash
# usage: up.sh [STATE_DIR [flag of `testcluster up`]...]
# Starts a cluster that outlives this shell, or finds the one that runs, and prints the path of its kubeconfig.
# With the flag --node it runs pods (exit code 77: this machine cannot).
# STATE_DIR (default: ~/.cache/tenantry/cluster) gets kubeconfig, pid, up.json and up.log. down.sh stops it.
# With TENANTRY_TEST_KUBECONFIG no cluster is started: its path is printed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -n "${TENANTRY_TEST_KUBECONFIG:-}" ]; then
    [ -r "$TENANTRY_TEST_KUBECONFIG" ] || { echo "TENANTRY_TEST_KUBECONFIG=$TENANTRY_TEST_KUBECONFIG: no such file, or not readable" >&2; exit 1; }
    printf '%s\n' "$TENANTRY_TEST_KUBECONFIG"
    exit 0
fi
# shellcheck source=state.sh
. "$here/state.sh"
shift || true
binary=$("$here/ensure.sh")

mkdir -p "$state"
state=$(cd "$state" && pwd)
pid_file=$state/pid
exec 9>"$state/lock"
flock 9
if pid=$(running_pid); then
    echo "a cluster runs already (process $pid)" >&2
else
    # What a cluster left behind that was killed.
    rm -rf "$state/data" "$state/up.json" "$pid_file"
    # Its own session and no terminal, so that nothing of this shell ends it; not our lock either.
    setsid sh -c 'echo $$ >"$0"; exec "$@"' "$pid_file" \
        "$binary" up --ignore-stdin "--dir=$state/data" "--kubeconfig=$state/kubeconfig" "$@" \
        </dev/null >"$state/up.json" 2>"$state/up.log" 9>&- &
    child=$!
    until [ -s "$state/up.json" ]; do
        if ! kill -0 "$child" 2>/dev/null; then
            echo "the cluster did not start:" >&2
            cat "$state/up.log" >&2
            code=0
            wait "$child" || code=$?
            # 77 with --node: this machine cannot run one.
            exit "$((code == 0 ? 1 : code))"
        fi
        sleep 0.1
    done
fi
printf '%s\n' "$state/kubeconfig"
