#!/bin/sh
# Runs one of examples/. Installs its packages, and starts the server, unless CHANNELSTREAM_URL names one or one runs already.
set -eu
cd "$(dirname "$0")/.."

name=${1:-}
url=${CHANNELSTREAM_URL:-http://127.0.0.1:8000}
server=
app=
options= # "needed" if the example needs options that a server which runs already may not have

fail() {
    echo "example: $1" >&2
    exit 1
}

# Prints the server's default port, or a free one if another program uses it.
free_port() {
    .venv/bin/python - <<'EOF'
import socket
for port in (8000, 0):
    try:
        with socket.create_server(("127.0.0.1", port)) as free:
            print(free.getsockname()[1])
            break
    except OSError:
        pass
EOF
}

# Succeeds if a program can listen at a port.
is_free() {
    .venv/bin/python - "$1" 2>/dev/null <<'EOF'
import socket, sys
socket.create_server(("127.0.0.1", int(sys.argv[1]))).close()
EOF
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
    echo)
        command -v npm >/dev/null || fail "node 18 or newer is needed, with npm."
        scripts/setup.sh examples
        [ -d examples/echo/node_modules/pusher-js ] || (cd examples/echo && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts) ||
            fail "npm could not install the packages of examples/echo."
        program=.venv/bin/python source=app.py
        options=needed
        export PUSHER_APP_ID="${PUSHER_APP_ID:-1}" PUSHER_KEY="${PUSHER_KEY:-chat}" PUSHER_SECRET="${PUSHER_SECRET:-secret}"
        export CHANNELSTREAM_PUSHER_APP_ID=$PUSHER_APP_ID CHANNELSTREAM_PUSHER_KEY=$PUSHER_KEY CHANNELSTREAM_PUSHER_SECRET=$PUSHER_SECRET
        ;;
    tokens)
        scripts/setup.sh examples
        program=.venv/bin/python source=app.py
        options=needed
        export CHANNELSTREAM_SECRET="${CHANNELSTREAM_SECRET:-$(.venv/bin/python -c 'import secrets; print(secrets.token_hex())')}"
        export CHANNELSTREAM_TOKEN_MAX_AGE_S="${CHANNELSTREAM_TOKEN_MAX_AGE_S:-600}"
        ;;
    node)
        command -v node >/dev/null || fail "node 18 or newer is needed."
        scripts/setup.sh run
        program=node source=app.js
        ;;
    "") fail "say which: make example NAME=django|echo|fastapi|flask|node|pyramid|tokens" ;;
    *) fail "there is no example '$name': make example NAME=django|echo|fastapi|flask|node|pyramid|tokens" ;;
esac

at=${PORT:-5000}
is_free "$at" || fail "port $at is in use: take another one, as in PORT=5001 make example NAME=$name"

trap stop EXIT
trap 'exit 0' TERM
trap 'server=; exit 0' INT # the server has received Ctrl-C as well; a second signal would skip its drain
if [ -z "${CHANNELSTREAM_URL:-}" ] && { [ -n "$options" ] || ! .venv/bin/python scripts/is_served.py "$url"; }; then
    port=$(free_port)
    url=http://127.0.0.1:$port
    .venv/bin/channelstream -p "$port" &
    server=$!
fi
export CHANNELSTREAM_URL="$url"
"$program" "examples/$name/$source" &
app=$!
echo "example: open http://127.0.0.1:$at and again in a private window; Ctrl-C ends it" >&2
wait "$app"
