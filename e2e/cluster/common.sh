# What the scripts of this folder share. Sourced, not run.
# shellcheck shell=bash

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
repo=$(dirname "$(dirname "$here")")

# Everything that is slow to make is kept here, outside the tree, named by a hash of what it was made from.
cache=${SIGNALBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/signalbox}

kubernetes=v1.36.3
cluster=signalbox

say() { echo "$*" >&2; }

# die WHAT WHAT-TO-DO...: every message says what to do about it.
die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  %s\n' "${@:2}" >&2
  exit 1
}

# digest PATH...: one short hash of files and of all files below folders, by content, name and mode.
digest() {
  (cd "$here" && find "$@" -type f -printf '%m %p\0' | LC_ALL=C sort -z |
    while read -r -d '' mode file; do echo "$mode $file $(sha256sum <"$file")"; done) | sha256sum | cut -c1-16
}

# locked NAME COMMAND...: runs the command while no other process runs one under the same name.
locked() {
  mkdir -p "$cache/lock"
  (
    flock 9
    "${@:2}" 9>&-
  ) 9>"$cache/lock/$1"
}

# tools_in_path FOLDER: makes kubectl, helm and kind available, linked in FOLDER.
tools_in_path() {
  mkdir -p "$1"
  ln -sf "$("$here/program" kind)" "$("$here/program" helm)" "$1/"
  ln -sf "$("$here/program" kube)" "$1/kubectl"
}
