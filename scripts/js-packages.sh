#!/bin/sh
# Installs the JavaScript packages that the package.json of a folder names, for the tests with them, or prints why those will
# be skipped. Never fails.
set -eu
folder=$1
tests=$2
cd "$(dirname "$0")/../$folder"

stamp=node_modules/.installed
cmp -s package.json "$stamp" && exit 0

skip() {
    echo "setup: tests of $tests will be skipped: $1" >&2
    exit 0
}

command -v node >/dev/null && command -v npm >/dev/null || skip "no node and npm on the PATH."
npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts --fetch-retries=1 --fetch-timeout=20000 \
    >/dev/null 2>&1 || skip "npm could not install the packages of $folder."
cp package.json "$stamp"
