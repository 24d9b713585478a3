#!/bin/sh
# Runs the tests with a compiled build: `scripts/test-compiled.sh [argument of pytest]...`. The browser tests and the bench are left out.
set -eu
cd "$(dirname "$0")/.."
environment=.venv-compiled

wheel=$(ls -t dist/channelstream-*-cp*.whl | head -n 1)
.venv/bin/python -m venv --clear --without-pip "$environment"
.venv/bin/python -m pip --python "$environment/bin/python" install --quiet --no-index --no-deps --disable-pip-version-check "$wheel"
# All else is that of the checkout, by its paths: Python does not read the .pth files there, of which one leads to src.
site() { "$1/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))"; }
printf '%s\n' "$(site .venv)" "$PWD/clients/python/src" >"$(site "$environment")/checkout.pth"
exec "$environment/bin/python" -m pytest -n "${WORKERS:-4}" --dist loadgroup -m "not browser" --ignore tests/bench "$@"
