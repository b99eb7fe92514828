#!/usr/bin/env bash
# Compiles `tenantry` as one static binary and puts it and the CA roots into a folder: what the image is made of.
#   hack/static.sh FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:?where to}
target=$(rustc --version --verbose | awk '/^host:/ { print $2 }')
# With the target named, the flag does not reach build scripts and macros. glibc 2.34 and later resolves host names in
# a static binary without any file of its own (files and DNS are built in).
export "CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUSTFLAGS=-C target-feature=+crt-static -C relocation-model=static"
cargo build --release --locked --target "$target" --package tenantry --bin tenantry
binary=${CARGO_TARGET_DIR:-target}/$target/release/tenantry
if readelf --program-headers "$binary" 2>/dev/null | grep --quiet INTERP; then
    echo "static: $binary still wants a dynamic loader" >&2
    exit 1
fi
if grep --quiet --text TENANTRY_CRASH_POINTS "$binary"; then
    echo "static: $binary was built with the feature crash-points, which is for tests only" >&2
    exit 1
fi
roots=${TENANTRY_CA_ROOTS:-/etc/ssl/certs/ca-certificates.crt}
[ -r "$roots" ] || { echo "static: no CA roots in $roots: install ca-certificates, or name a PEM file in TENANTRY_CA_ROOTS" >&2; exit 1; }
mkdir -p "$out"
install --mode 0755 "$binary" "$out/tenantry"
install --mode 0644 "$roots" "$out/ca-certificates.crt"
