#!/usr/bin/env bash
# archive.sh ARCHIVE FOLDER CONFIG NAME...: writes an image of one layer, the folder, as `docker save` would.
# CONFIG is the image's "config" object as JSON. Needs neither Docker nor root; equal input, equal output.
# The archive is for `docker load`, `podman load`, `ctr images import`, `kind load image-archive`.
set -euo pipefail

archive=$1 folder=$2 config=$3
shift 3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
as_root=(--sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=a+rX,go-w)

tar "${as_root[@]}" -C "$folder" -cf "$work/layer.tar" .
layer=$(sha256sum <"$work/layer.tar") layer=${layer%% *}
case $(uname -m) in aarch64 | arm64) architecture=arm64 ;; *) architecture=amd64 ;; esac
printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$architecture" "$config" "$layer" >"$work/config.json"
names=$(printf '"%s",' "$@")
printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "${names%,}" >"$work/manifest.json"

mkdir -p "$(dirname "$archive")"
tar "${as_root[@]}" -C "$work" -cf "$archive" manifest.json config.json layer.tar
