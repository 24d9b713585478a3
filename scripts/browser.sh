#!/bin/sh
# Installs a Chromium for the browser tests, or prints why they will be skipped. Never fails.
set -eu
cd "$(dirname "$0")/.."

for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null && exit 0
done

skip() {
    echo "setup: the browser tests will be skipped: $1" >&2
    exit 0
}

command -v apt-get >/dev/null || skip "no Chromium on the PATH; install one with this system's package manager."
[ "$(id -u)" -eq 0 ] || skip "no Chromium on the PATH; 'sudo apt-get install chromium-headless-shell' brings one."
scripts/apt-install.sh chromium-headless-shell || scripts/apt-install.sh chromium || skip "Chromium could not be installed."
