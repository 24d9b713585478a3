#!/bin/sh
# Runs one of examples/ with what it needs: its packages, and the server, unless CHANNELSTREAM_URL names one or one runs here.
set -eu
cd "$(dirname "$0")/.."

name=${1:-}
url=${CHANNELSTREAM_URL:-http://127.0.0.1:8000}
server=
app=

fail() {
    echo "example: $1" >&2
    exit 1
}

is_served() {
    .venv/bin/python -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=2)' "$url" 2>/dev/null
}

stop() {
    # shellcheck disable=SC2086 # either may be empty
    kill $server $app 2>/dev/null || true
    wait
}

case $name in
    django | fastapi | flask | pyramid)
        scripts/setup.sh examples
        program=.venv/bin/python source=app.py
        ;;
    node)
        command -v node >/dev/null || fail "node 18 or newer is needed."
        scripts/setup.sh run
        program=node source=app.js
        ;;
    *) fail "say which: make example NAME=django|fastapi|flask|node|pyramid" ;;
esac

trap stop EXIT
trap 'exit 0' TERM
trap 'server=; exit 0' INT # which the server has heard as well; told twice, it would not end in order
if [ -z "${CHANNELSTREAM_URL:-}" ] && ! is_served; then
    .venv/bin/channelstream &
    server=$!
fi
"$program" "examples/$name/$source" &
app=$!
echo "example: open http://127.0.0.1:${PORT:-5000} in two windows; Ctrl-C ends it" >&2
wait "$app"
