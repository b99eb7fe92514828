#!/usr/bin/env bash
# Checks licences, sources and doubled versions of the dependencies with cargo-deny, which is built when it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=0.20.2
root=${TENANTRY_CACHE:-$HOME/.cache/tenantry}/tools/cargo-deny-$version
if [ ! -x "$root/bin/cargo-deny" ]; then
    echo "building cargo-deny $version into $root" >&2
    mkdir -p "$root"
    exec 9>"$root/lock"
    flock 9
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    [ -x "$root/bin/cargo-deny" ] || cargo install cargo-deny --version "$version" --locked --quiet --root "$root" --target-dir "$build"
fi
exec "$root/bin/cargo-deny" check --hide-inclusion-graph bans licenses sources
