#!/usr/bin/env bash
# Prints the path of the manager, building it first when there is none for this source and this Go.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export GOFLAGS='' GOWORK=off CGO_ENABLED=0
hash=$({ cat main.go go.mod go.sum; go env GOVERSION GOARCH; } | sha256sum | cut -c1-16)
out=${TENANTRY_CACHE:-${HOME:?set HOME or TENANTRY_CACHE}/.cache/tenantry}/bench-manager/$hash
if [ ! -x "$out/manager" ]; then
    echo "bench: building the controller-runtime manager into $out (once; minutes)" >&2
    mkdir -p "$out"
    go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/manager.new" . >&2
    mv "$out/manager.new" "$out/manager"
fi
printf '%s\n' "$out/manager"
