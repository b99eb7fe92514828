#!/usr/bin/env bash
# Runs Helm, which is built from the Go modules that hack/helm/go.mod pins when it is missing: `hack/helm.sh template …`.
# `hack/helm.sh --path` prints where the program is instead of running it.
#
#   TENANTRY_CACHE  where builds are kept (default: ~/.cache/tenantry)
set -euo pipefail
module=$(cd "$(dirname "${BASH_SOURCE[0]}")/helm" && pwd)
version=$(awk '{ for (i = 1; i < NF; i++) if ($i == "helm.sh/helm/v4") { print $(i + 1); exit } }' "$module/go.mod")
cache=${TENANTRY_CACHE:-${HOME:?set HOME or TENANTRY_CACHE}/.cache/tenantry}/tools/helm-$version
if [ ! -x "$cache/helm" ]; then
    command -v go >/dev/null || { echo "helm: needs Go (https://go.dev/dl) to build Helm from its modules" >&2; exit 1; }
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
fi
if [ ! -x "$cache/helm" ]; then
    echo "helm: building Helm $version into $cache (once; some minutes on 2 cores)" >&2
    # Flags of the caller's own Go work (-mod=vendor, a workspace) have no business here.
    export GOFLAGS='' GOWORK=off CGO_ENABLED=0
    unset GOOS GOARCH
    (cd "$module" && go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" \
        -o "$cache/helm.new" helm.sh/helm/v4/cmd/helm)
    mv "$cache/helm.new" "$cache/helm"
fi
if [ "${1:-}" = --path ]; then
    printf '%s\n' "$cache/helm"
    exit
fi
exec "$cache/helm" "$@"
