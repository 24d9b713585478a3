#!/bin/sh
# Installs clients and server SDKs of Pusher's protocol for the tests with them, or prints why those will be skipped. Never fails.
set -eu
cd "$(dirname "$0")/.."
wanted=tests/clients/pusher

skip() {
    echo "setup: tests with $1 of Pusher will be skipped: $2" >&2
}

install_node() {
    stamp=$wanted/node_modules/.installed
    cmp -s "$wanted/package.json" "$stamp" && return
    command -v node >/dev/null && command -v npm >/dev/null || {
        skip "the JavaScript clients" "no node and npm on the PATH."
        return
    }
    (cd "$wanted" && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts --fetch-retries=1 \
        --fetch-timeout=20000 >/dev/null 2>&1) || {
        skip "the JavaScript clients" "npm could not install them."
        return
    }
    cp "$wanted/package.json" "$stamp"
}

# In an environment of its own: it brings packages that the server's tests do not know.
install_python() {
    stamp=.venv-pusher/.installed
    cmp -s "$wanted/requirements.txt" "$stamp" && return
    .venv/bin/python -m venv --clear .venv-pusher &&
        .venv-pusher/bin/pip install --quiet --disable-pip-version-check --requirement "$wanted/requirements.txt" || {
        skip "the Python SDK" "pip could not install it."
        return
    }
    cp "$wanted/requirements.txt" "$stamp"
}

install_node
install_python
