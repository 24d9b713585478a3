#!/bin/sh
# Installs a redis-server for the tests of the Redis engine, or prints why they will be skipped. Never fails.
set -eu
cd "$(dirname "$0")/.."

[ -z "${CHANNELSTREAM_TEST_REDIS:-}" ] || exit 0
command -v redis-server >/dev/null && exit 0
command -v valkey-server >/dev/null && exit 0

skip() {
    echo "setup: the tests of the Redis engine will be skipped: $1" >&2
    exit 0
}

command -v apt-get >/dev/null || skip "no redis-server on the PATH; install one with this system's package manager."
[ "$(id -u)" -eq 0 ] || skip "no redis-server on the PATH; 'sudo apt-get install redis-server' brings one."
scripts/apt-install.sh redis-server || skip "redis-server could not be installed."
