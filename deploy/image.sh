#!/usr/bin/env bash
# image.sh [NAME]: builds the operator's image (default localhost/signalbox:dev) and prints its name. The image is
# one static binary and the machine's CA certificates on an empty base, run as user 65532. Neither Docker nor a
# pull is needed: the result is target/images/NAME.tar, for e2e/cluster/load-image, `docker load` or `podman load`.
# With Docker and a network, `docker build -f deploy/Dockerfile .` makes the same.
# image.sh --binary: builds no more than the binary, as the image will need it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
name=${1:-localhost/signalbox:dev}
ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ -s "$ca" ] || {
  echo "error: there are no CA certificates at $ca" >&2
  echo "  Install them (on Debian and Ubuntu: apt-get install ca-certificates), or set SSL_CERT_FILE." >&2
  exit 1
}
e2e/prerequisites image

# musl makes a static binary that needs no file of the system's. Where its standard library cannot be had, glibc
# can be linked in as well; name resolution by DNS and /etc/hosts, all that a pod needs, works in that too.
target=$(uname -m)-unknown-linux-musl
installed() { [ -d "$(rustc --print target-libdir --target "$target")" ]; }
installed || rustup target add "$target" >&2 || true
if ! installed; then
  echo "the Rust target $target cannot be had: linking glibc statically" >&2
  target=$(uname -m)-unknown-linux-gnu
  export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
fi
# librdkafka asks for the compiler by this name only, whatever it is built for.
[ "${target##*-}" != musl ] || export CC=${CC:-musl-gcc}
# OpenSSL, which librdkafka needs for TLS, is built and linked in as well: there is none for musl, and none of the system's in the
# image. It takes two minutes on two processors.
export OPENSSL_NO_VENDOR=0
echo "building the operator for $target ..." >&2
cargo build --release --locked --bin signalbox --target "$target" >&2
[ "$name" != --binary ] || exit 0

root=target/images/signalbox
rm -rf "$root"
install -D "${CARGO_TARGET_DIR:-target}/$target/release/signalbox" "$root/signalbox"
install -D -m 0644 "$ca" "$root/etc/ssl/certs/ca-certificates.crt"
archive=target/images/${name//[\/:]/_}.tar
deploy/archive.sh "$archive" "$root" '{"User":"65532:65532","Entrypoint":["/signalbox"],"ExposedPorts":{"8080/tcp":{}}}' "$name"
echo "the image $name is in $archive" >&2
echo "$name"
