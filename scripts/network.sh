#!/bin/sh
# Installs `ip` for the tests in network namespaces, or prints why they will be skipped. Never fails.
set -eu
cd "$(dirname "$0")/.."

command -v ip >/dev/null && exit 0

skip() {
    echo "setup: the tests in network namespaces will be skipped: $1" >&2
    exit 0
}

[ "$(id -u)" -eq 0 ] || skip "they need root, and iproute2."
command -v apt-get >/dev/null || skip "no 'ip' on the PATH; install iproute2 with this system's package manager."
scripts/apt-install.sh iproute2 || skip "iproute2 could not be installed."
