# `make` lists the targets. Every target first installs what it needs into .venv.

BIN := .venv/bin
ARGS ?=
SCENARIO ?= quick
SEED ?=
NAME ?=
# Processes that share the tests: twice the cores, since many tests wait.
WORKERS ?= $(shell echo $$((2 * $$(nproc))))
# Processes of `make test-fast`: fewer, since each imports all tests and few of these tests wait.
FAST_WORKERS ?= $(shell nproc)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup
# Tests that cover all of core/, apps/, auth/ and wire/ in this process; other tests start servers.
CORE_TESTS := tests/core tests/wire tests/apps/test_app.py tests/apps/test_client.py tests/apps/test_grants.py tests/apps/test_key_ring.py tests/apps/test_keys.py tests/apps/test_pusher_app.py tests/apps/test_wanted_facts.py tests/apps/test_webhooks.py tests/auth tests/engines/test_sqlite.py tests/engines/test_sqlite_restart.py tests/test_tracing.py

.DEFAULT_GOAL := help
.PHONY: help run example test test-fast compiled-wheel test-compiled coverage check bench bench-peers bench-engines simulate faults autobahn format options doctor-page screenshots clean ready-run \
        ready-dev ready-system \
        check-format check-lint check-types check-layers check-words core-coverage

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

run: ready-run ## Serve on 127.0.0.1:8000 with the demo; ARGS="-p 9000" passes flags.
	@exec $(BIN)/python scripts/serve.py $(ARGS)

example: ## Run an example with the server: NAME=django, echo, fastapi, flask, node, pyramid or tokens.
	@exec scripts/example.sh $(NAME)

test: ready-dev ready-system ## Run all tests; ARGS="tests/api -x" passes arguments, WORKERS=1 uses one process.
	$(PYTEST) $(ARGS)

test-fast: ready-dev ## Run the tests that need no browser, no other server and no real time.
	$(PYTEST) -n $(FAST_WORKERS) -m "not slow" --hypothesis-profile fast $(ARGS)

compiled-wheel: ready-dev ## Build a wheel whose hot paths are compiled, for this machine and Python, into dist/ (docs/deployment.md).
	rm -rf build dist/channelstream-*-cp*.whl
	CHANNELSTREAM_COMPILED=1 $(BIN)/python -m build --wheel --no-isolation --skip-dependency-check

test-compiled: compiled-wheel ready-system ## Run the tests with that wheel instead of src/, except those of the bench and in a browser.
	@WORKERS=$(WORKERS) scripts/test-compiled.sh $(ARGS)

coverage: ready-dev ready-system ## Show the coverage of all tests; half as fast as `make test`.
	$(PYTEST) --cov --cov-report=term $(ARGS)
	@$(MAKE) --no-print-directory core-coverage

check: ready-dev ## Check format, lint, types, layers, words, tests and branch coverage of core/, apps/, auth/ and wire/: every change must pass.
	@$(MAKE) --no-print-directory check-format
	@$(MAKE) --no-print-directory check-lint
	@$(MAKE) --no-print-directory check-types
	@$(MAKE) --no-print-directory check-layers
	@$(MAKE) --no-print-directory check-words
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory core-coverage

bench: ready-run ## Measure the server; SCENARIO=name[,name] selects scenarios, reports go to bench-results/.
	@exec $(BIN)/channelstream bench --scenario "$(SCENARIO)" --output bench-results $(ARGS)

simulate: ready-dev ## Run the simulator with SEED, or with a hundred random seeds (docs/proof.md).
	@exec $(BIN)/python -m tests.simulation $(SEED) $(ARGS)

faults: ready-dev ready-system ## Inject faults into nodes and Redis under load, and print figures; ARGS="killed-node" selects a scenario.
	@exec $(BIN)/python -m tests.e2e.faults $(ARGS)

autobahn: ready-dev ## Run the Autobahn suite against the server's WebSockets; it needs Python 2.7. ARGS="--all" adds compression (docs/proof.md).
	@exec scripts/autobahn.sh $(ARGS)

bench-peers: ready-run ## Measure other servers under the same load, in the same run (docs/performance.md).
	@exec $(BIN)/python -m channelstream.bench.peers --output bench-results $(ARGS)

bench-engines: ready-run ready-system ## Measure the cost of the shared engine, in one run (docs/scaling.md).
	@exec $(BIN)/python -m channelstream.bench.engines --output bench-results $(ARGS)

format: ready-dev ## Format the code and apply the linter's fixes.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

options: ready-run ## Write docs/options.md from the table of options.
	$(BIN)/python -m channelstream.config > docs/options.md

doctor-page: ready-dev ## Write docs/doctor.md from what `doctor` says about ten broken set-ups.
	WRITE_DOCTOR_PAGE=1 $(BIN)/python -m pytest -q -n 0 tests/cli/doctor/test_page.py

screenshots: ready-dev ready-system ## Take the screenshots in docs/img again, from the real pages.
	$(BIN)/python scripts/screenshots.py

clean: ## Remove .venv and all files that tools have written.
	rm -rf .venv .venv-autobahn .venv-compiled .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist clients/python/build clients/python/dist bench-results clients/js/node_modules tests/clients/pusher/node_modules examples/echo/node_modules

ready-run:
	@scripts/setup.sh run

ready-dev:
	@scripts/setup.sh dev

ready-system:
	@scripts/browser.sh
	@scripts/redis.sh
	@scripts/network.sh
	@scripts/proxies.sh
	@scripts/js-packages.sh clients/js "the JavaScript client's types and package"
	@scripts/js-packages.sh tests/clients/pusher "JavaScript clients of Pusher"

check-format: ready-dev
	$(BIN)/ruff format --check

check-lint: ready-dev
	$(BIN)/ruff check

check-types: ready-dev
	$(BIN)/mypy

check-layers: ready-dev
	$(BIN)/python -m pytest tests/test_layers.py

check-words: ready-dev
	$(BIN)/python -m pytest tests/test_words.py

core-coverage: ready-dev
	$(PYTEST) $(CORE_TESTS) --cov=channelstream.core --cov=channelstream.apps --cov=channelstream.auth --cov=channelstream.wire --cov-report=term --cov-fail-under=100
