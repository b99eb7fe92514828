#!/usr/bin/env bash
# Builds the container image with buildah, podman or docker, whichever is there. Nothing is fetched but crates.
#   IMAGE    its name and tag (default: localhost/tenantry and the version, which the chart takes)
#   ARCHIVE  a file to write it to as an archive, which `ctr images import` and `docker load` read
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(awk -F'"' '/^version/ { print $2; exit }' Cargo.toml)
image=${IMAGE:-localhost/tenantry:$version}
hack/static.sh target/image

args=(--build-context binary=target/image --build-arg "VERSION=${image##*:}" --file Dockerfile --tag "$image")
args+=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
if command -v buildah >/dev/null; then
    export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
    old=$(buildah images --quiet "$image" 2>/dev/null || true)
    buildah build --layers=false "${args[@]}" .
    # What carried the name before has none now.
    if [ -n "$old" ]; then buildah rmi "$old" >/dev/null 2>&1 || true; fi
    save() { buildah push --quiet "$image" "docker-archive:$1:$image"; }
elif command -v podman >/dev/null; then
    podman build "${args[@]}" .
    save() { podman save --output "$1" "$image"; }
elif docker info >/dev/null 2>&1; then
    docker build "${args[@]}" .
    save() { docker save --output "$1" "$image"; }
else
    echo "image: needs buildah, podman, or docker with an engine: apt-get install buildah" >&2
    exit 1
fi
if [ -n "${ARCHIVE:-}" ]; then
    rm -f "$ARCHIVE"
    save "$ARCHIVE"
    echo "image: $image in $ARCHIVE, $(du --bytes "$ARCHIVE" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
else
    echo "image: $image"
fi
