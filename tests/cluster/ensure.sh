#!/usr/bin/env bash
# Prints the path of a usable `testcluster`, building it first when there is none for this source and this Go.
# Beside it lie links named kubectl, etcd, kube-apiserver, … and the program `pause` of a node's pods.
#
#   TENANTRY_CACHE           where builds are kept (default: ~/.cache/tenantry)
#   KUBEBUILDER_ASSETS       a directory with etcd, kube-apiserver, kubectl and perhaps kube-controller-manager:
#                            these are run, and what is there needs no building
#   TENANTRY_TEST_KUBECONFIG a cluster to test on: nothing of Kubernetes is built when a kubectl is on PATH
set -euo pipefail

say() { printf 'testcluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
components=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet)

[ "$(uname -s)" = Linux ] || die "only Linux can run it (it relies on the kernel to end its processes); name a cluster in TENANTRY_TEST_KUBECONFIG instead"
command -v go >/dev/null || die "needs Go (https://go.dev/dl) to build Kubernetes from its modules"

# Which of the two builds: all of Kubernetes (minutes), or only the starter of given binaries (seconds).
flavour=full
if [ -n "${TENANTRY_TEST_KUBECONFIG:-}" ]; then
    [ -r "$TENANTRY_TEST_KUBECONFIG" ] || die "TENANTRY_TEST_KUBECONFIG=$TENANTRY_TEST_KUBECONFIG: no such file, or not readable"
    if [ -x "${KUBEBUILDER_ASSETS:-}/kubectl" ] || command -v kubectl >/dev/null; then flavour=external; fi
elif [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    for name in etcd kube-apiserver kubectl; do
        [ -x "$KUBEBUILDER_ASSETS/$name" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no program $name: add it, or unset the variable"
    done
    # Without a controller manager nothing makes ServiceAccounts or collects garbage: then ours is built.
    if [ -x "$KUBEBUILDER_ASSETS/kube-controller-manager" ]; then flavour=external; fi
fi

cd "$here"
# Flags of the caller's own Go work (-mod=vendor, a workspace) have no business here.
export GOFLAGS='' GOWORK=off CGO_ENABLED=0
unset GOOS GOARCH
sources=$(find . pause -maxdepth 1 -name '*.go' ! -name '*_test.go' | LC_ALL=C sort)
# shellcheck disable=SC2086 # file names of ours, without spaces
hash=$({ cat $sources go.mod go.sum ensure.sh; go env GOVERSION GOARCH; } | sha256sum | cut -c1-16)
cache=${TENANTRY_CACHE:-${HOME:?set HOME or TENANTRY_CACHE}/.cache/tenantry}/testcluster
out=$cache/$hash-$flavour
binary=$out/testcluster

if [ ! -x "$binary" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock -n 9 || { say "another build is going on, waiting for it"; flock 9; }
fi
if [ ! -x "$binary" ]; then
    kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
    IFS=. read -r major minor _ <<<"${kubernetes#v}"
    case $flavour in
        full) say "building Kubernetes $kubernetes from its Go modules into $out (once; about 5 minutes on 2 cores)" ;;
        external) say "building the starter of clusters into $out" ;;
    esac
    # Clients refuse an API server whose version they cannot parse, and a plain `go build` leaves it without one.
    version=k8s.io/component-base/version
    flags="-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=$minor"
    flags+=" -X $version.gitTreeState=clean -X $version.gitCommit=unknown -X $version.buildDate=1970-01-01T00:00:00Z"
    rm -rf "$out.new"
    mkdir -p "$out.new"
    started=$SECONDS
    # -v names each package as it is compiled: count those, pass everything else on.
    go build -v -trimpath -buildvcs=false -tags "$flavour" -ldflags "$flags" -o "$out.new/testcluster" . 2> >(
        awk '/^go: downloading / { if (++got % 100 == 0) print "testcluster: " got " modules downloaded"; next }
             /^[^ #:]+$/         { if (++done % 200 == 0) print "testcluster: " done " packages compiled"; next }
             { print }' >&2
    ) || die "the build failed: see above"
    go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out.new/pause" ./pause || die "the build of pause failed: see above"
    for name in "${components[@]}"; do ln -s testcluster "$out.new/$name"; done
    rm -rf "$out"
    mv "$out.new" "$out"
    say "built in $((SECONDS - started)) s, $(du -h "$binary" | cut -f1)"
    # Builds of older sources, untouched for two weeks.
    find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +14 -exec rm -rf {} +
fi
# Marks the build as in use for the clearing above.
touch "$out"
printf '%s\n' "$binary"
