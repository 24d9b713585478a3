#!/bin/sh
# Installs nginx and HAProxy for the tests of the server behind them, or prints why those will be skipped. Never fails.
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/usr/local/sbin"

command -v nginx >/dev/null && command -v haproxy >/dev/null && exit 0

skip() {
    echo "setup: the tests behind proxies will be skipped: $1" >&2
    exit 0
}

command -v apt-get >/dev/null || skip "no nginx or no haproxy on the PATH; install both with this system's package manager."
[ "$(id -u)" -eq 0 ] || skip "no nginx or no haproxy on the PATH; 'sudo apt-get install nginx-light haproxy' brings them."
scripts/apt-install.sh nginx-light haproxy || skip "nginx and haproxy could not be installed."
