#!/usr/bin/env bash
# usage: node-deps.sh: makes this machine able to run a node of the test cluster (`testcluster up --node`), and says so.
# Installs Debian packages for the programs that are missing, then tries what a node does: namespaces, mounts, control
# groups. Exit code 77 and one sentence: this machine cannot run a node, a suite that needs one is to be skipped.
set -euo pipefail

say() { printf 'node: %s\n' "$*" >&2; }
incapable() { say "this machine cannot run a node: $*"; exit 77; }

[ "$(uname -s)" = Linux ] || incapable "it is not Linux"
[ "$(id -u)" = 0 ] || incapable "only root may mount and make namespaces; run as root"
# Programs of the system's are not on everybody's PATH.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A program, and the Debian package that has it. Whoever has the program from elsewhere keeps it.
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need containerd containerd
need ctr containerd
need containerd-shim-runc-v2 containerd
need runc runc
need buildah buildah
need unshare util-linux
[ -x /usr/lib/cni/loopback ] || [ -x /opt/cni/bin/loopback ] || missing+=(containernetworking-plugins)

if [ "${#missing[@]}" -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null || incapable "it has no apt-get to install ${missing[*]} with"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Another installation may be going on.
    apt=(apt-get -o DPkg::Lock::Timeout=300)
    { "${apt[@]}" --quiet update && "${apt[@]}" --quiet install --yes --no-install-recommends "${missing[@]}"; } >&2 ||
        incapable "apt-get could not install ${missing[*]}: see above"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# shellcheck disable=SC2016 # for the inner shell
why=$(unshare --mount --pid --fork --mount-proc sh -euc '
    mount -t tmpfs tmpfs "$1"
    mkdir "$1/upper" "$1/work"
    mount -t overlay overlay -o "lowerdir=/run,upperdir=$1/upper,workdir=$1/work" /run
    mount --make-rshared /
' sh "$scratch" 2>&1) || incapable "it may not make namespaces and mount in them: $why"

group=$(awk '$3 == "cgroup" && $2 ~ /\/pids$/ { print $2; exit }' /proc/mounts)
[ -n "$group" ] || group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$group" ] || incapable "no control groups are mounted (neither cgroup2 nor the controller pids)"
group=$group/tenantry-try-$$
why=$(mkdir "$group" 2>&1 && rmdir "$group" 2>&1) || incapable "it may not make control groups: $why"

say "ready: $(containerd --version | awk '{ print "containerd", $3 }'), $(runc --version | head -n 1), $(buildah --version | cut -d' ' -f1-3)"
