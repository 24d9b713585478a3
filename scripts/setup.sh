#!/bin/sh
# Prepares .venv: `scripts/setup.sh run` installs the server, `examples` adds packages of the examples, `dev` adds the test tools.
# Does nothing if the pyproject.toml files have not changed since the last installation.
set -eu
cd "$(dirname "$0")/.."

what=${1:-run}
stamp=.venv/.installed
# The key contains the path of the checkout: programs in a .venv that was moved no longer start.
key="$(cat pyproject.toml clients/python/pyproject.toml | sha256sum) $(pwd -P)"

fail() {
    echo "setup: $1" >&2
    exit 1
}

# Each kind of setup includes the kinds before it.
kinds_that_hold() {
    case $1 in
        run) echo run examples dev ;;
        examples) echo examples dev ;;
        dev) echo dev ;;
    esac
}

is_installed() {
    [ -f "$stamp" ] || return 1
    for kind in $(kinds_that_hold "$what"); do
        grep -qxF "$kind $key" "$stamp" && return
    done
    return 1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed (on Debian 12: apt-get install python3); PYTHON=... names one."
}

# Debian has ensurepip in a separate package; without it a new environment has no pip.
need_ensurepip() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$python cannot make virtual environments; install $package (sudo apt-get install $package) and try again."
    fi
    scripts/apt-install.sh "$package" || fail "$package could not be installed."
}

make_venv() {
    python=$(find_python)
    need_ensurepip
    echo "setup: making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv
}

# The pip of Debian 12 warns of a package without a wheel that it would build in an older way.
pip_install() {
    PIP_USE_PEP517=1 .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore "$@"
}

install() {
    echo "setup: installing packages ($what); this takes a minute the first time" >&2
    [ "$what" = run ] || pip_install "pip>=25.1" # the first that knows --group (PEP 735)
    case $what in
        run) pip_install --editable ".[bench]" --editable clients/python ;;
        examples) pip_install --editable ".[bench]" --editable clients/python --group examples ;;
        dev) pip_install --editable ".[bench,otel]" --editable clients/python --group dev --group examples ;;
    esac
    echo "$what $key" >"$stamp"
}

case $what in
    run | examples | dev) ;;
    *) fail "usage: scripts/setup.sh run|examples|dev" ;;
esac
# One at a time: targets of make may run side by side, and pip does not share a .venv. The file is of this checkout only.
exec 9<pyproject.toml
if command -v flock >/dev/null && ! flock --nonblock 9; then
    echo "setup: waiting for another one, which installs packages" >&2
    flock 9 || : # Some file systems of a network have no locks for a file that is only read.
fi
is_installed && exit 0
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || { [ -f "$stamp" ] && ! grep -qF "$(pwd -P)" "$stamp"; }; then
    make_venv
fi
install
