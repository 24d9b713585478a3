#!/bin/sh
# Runs the Autobahn suite against the server's WebSockets. Installs it into .venv-autobahn first; it needs Python 2.7.
# WSTEST=... names the program of a suite that is installed already, PYTHON27=... the interpreter.
set -eu
cd "$(dirname "$0")/.."

suite=.venv-autobahn
stamp=$suite/.installed

fail() {
    echo "autobahn: $1" >&2
    exit 1
}

find_python27() {
    for candidate in ${PYTHON27:-python2.7 "$HOME"/.pyenv/versions/2.7.*/bin/python2.7}; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    fail "the suite needs Python 2.7 with pip, or WSTEST=... that names the program wstest of an installed suite."
}

pip() {
    "$suite/bin/pip" --quiet --disable-pip-version-check install "$@" 2>/dev/null || fail "$* could not be installed."
}

# Each line needs the ones before it. These are the last versions for Python 2.7 that work with each other.
install() {
    rm -rf "$suite"
    python=$(find_python27)
    "$python" -m pip --quiet --disable-pip-version-check install --target "$suite/tool" virtualenv==20.15.1 2>/dev/null ||
        fail "virtualenv could not be installed."
    PYTHONPATH=$suite/tool "$python" -m virtualenv --quiet "$suite"
    pip setuptools==44.0.0 wheel==0.36.2 incremental==16.10.1
    pip cffi==1.15.1 cryptography==3.3.2 pyOpenSSL==19.1.0
    pip --no-build-isolation Twisted==19.10.0
    pip --no-build-isolation autobahntestsuite==25.10.1
    touch "$stamp"
}

if [ -z "${WSTEST:-}" ]; then
    [ -f "$stamp" ] || install
    WSTEST=$suite/bin/wstest
fi
exec .venv/bin/python -m tests.autobahn "$@" "$WSTEST"
