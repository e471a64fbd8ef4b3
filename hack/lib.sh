# Shared by the scripts in this directory; source it, do not run it.
# It sets strict mode, finds the checkout and the cache, and has the few
# functions that more than one script needs.
# shellcheck shell=bash

set -euo pipefail

# The checkout that the sourcing script belongs to.
CRICKET_REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Downloads and built tools: outside the checkout, so that a fresh clone finds them.
CRICKET_CACHE=${CRICKET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cricket}
export CRICKET_REPO CRICKET_CACHE

# rustup's and Go's usual places, for shells that were not told of them.
for dir in "$HOME/.cargo/bin" /usr/local/go/bin /usr/sbin /sbin; do
  case ":$PATH:" in *":$dir:"*) ;; *) [ -d "$dir" ] && PATH=$PATH:$dir ;; esac
done
unset dir
export PATH

# note TEXT...: progress for a person, on standard error.
note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# die TEXT...: the script cannot go on.
die() { note "$@"; exit 1; }

# need_root: for what makes namespaces, mounts and cgroups.
need_root() { [ "$(id -u)" = 0 ] || die "must run as root"; }

# tools NAME...: builds the named tools if they are not in the cache and puts
# their directories first in PATH.
tools() {
  local name bin
  for name in "$@"; do
    bin=$("$CRICKET_REPO/hack/tools/build" "$name") || die "cannot build the tools of $name"
    PATH=$bin:$PATH
  done
}

# copy_programs DIRECTORY FILE...: copies that no build changes meanwhile, without what only debuggers read.
copy_programs() {
  local directory=$1 file
  shift
  for file in "$@"; do objcopy --strip-debug "$file" "$directory/$(basename "$file")"; done
}
