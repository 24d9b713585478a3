#!/bin/sh
# Installs Debian packages without questions: `scripts/apt-install.sh PACKAGE...`, as root. Prints output on failure only.
set -eu

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "setup: apt-get install $*" >&2
if ! { apt-get update && apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    exit 1
fi
