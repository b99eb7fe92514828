#!/usr/bin/env bash
# usage: node.sh load ARCHIVE [STATE_DIR]: puts the images of an archive into the node of the cluster that
# `up.sh STATE_DIR --node` started (default: ~/.cache/tenantry/cluster), and prints the names that pods call them by.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "$#" -lt 2 ] || [ "$1" != load ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
archive=$2
shift 2
# shellcheck source=state.sh
. "$here/state.sh"
[ -S "$state/data/node/containerd.sock" ] || { echo "no node runs in $state: start it with $here/up.sh $state --node" >&2; exit 1; }
exec "$("$here/ensure.sh")" node load --dir "$state/data" "$archive"
