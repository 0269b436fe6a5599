# The two that matter: `make run` serves http://localhost:3000, `make test` checks everything.
# Both make .venv themselves and need only Python 3.11 or later; the JavaScript tests need a Node with npm.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
# Every folder with a package.json is a project of its own; one with dependencies has a lock beside it.
FIND_IN_TREE := find . \( -name node_modules -o -name '.*' -not -name . \) -prune -o -name

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test lint language format types layers test-python test-js coverage soak bench docs lock dev clean release

help:  ## Show what can be asked for
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

# --- Running ---------------------------------------------------------------------------------------------------------

run: $(VENV)/.stamp-run  ## Serve http://localhost:3000 (PORT, DATABASE_URL and the like are read from the environment)
	@exec $(BIN)/orbital serve

# --- The environment -------------------------------------------------------------------------------------------------

$(VENV)/pyvenv.cfg:
	@for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo "Orbital needs Python 3.11 or later, and found none: neither python3 nor python3.11 to python3.14 is on PATH with such a version." >&2; \
		echo "Install one (https://www.python.org/downloads/, or: apt-get install python3 python3-venv), then run make again." >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)."; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found has no venv module. On Debian and Ubuntu: apt-get install python3-venv, then run make again." >&2; \
		exit 1; \
	fi; \
	if ! "$$found" -m venv $(VENV); then \
		echo "$$found could not make $(VENV), for the reason above. If this folder cannot be written to, name others: VENV=~/orbital-venv ORBITAL_DATA_DIR=~/orbital-data make run" >&2; \
		exit 1; \
	fi

# All locks hold the same versions, so either order of installing ends in the same place.
$(VENV)/.stamp-run: requirements/run.txt requirements/build.txt pyproject.toml hatch_build.py | $(VENV)/pyvenv.cfg
	@$(PYTHON) -c '' || { echo "$(VENV) is broken (did its Python move?). Remove it, then run make again." >&2; exit 1; }
	@echo "Installing what the server needs; the next time this is skipped."
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.stamp-site: requirements/site.txt $(VENV)/.stamp-dev
	@echo "Installing what the documentation's pages need; the next time this is skipped."
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements/site.txt
	@touch $@

$(VENV)/.stamp-dev: requirements/dev.txt $(VENV)/.stamp-run
	@echo "Installing what the tests need; the next time this is skipped."
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

# Status 0 if the Node that runs it is one that `engines` allows. If the machine's is older, the Node that ./package.json
# names is installed; `npm run` in a package below finds it, since npm puts each parent's node_modules/.bin on PATH.
NODE_SUFFICES := const n = (text) => text.match(/\d+/g).map(Number), [a, b] = n(process.versions.node), \
	[c, d] = n(require("./package.json").engines.node); process.exit(a > c || (a === c && b >= d) ? 0 : 1)

dev: $(VENV)/.stamp-dev $(VENV)/.stamp-site  ## Install what the tests need, Python and JavaScript
	@command -v npm >/dev/null || { echo "The JavaScript parts need a Node with npm (https://nodejs.org/); none is on PATH." >&2; exit 1; }
	@$(FIND_IN_TREE) package-lock.json -print | sort | while read -r lock; do \
		folder=$$(dirname "$$lock"); \
		if [ "$$folder" = . ] && node -e '$(NODE_SUFFICES)'; then continue; fi; \
		if [ ! -e "$$folder/node_modules/.package-lock.json" ] || [ "$$lock" -nt "$$folder/node_modules/.package-lock.json" ]; then \
			echo "npm ci in $$folder"; (cd "$$folder" && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json); \
		fi; \
	done

# --- Checking --------------------------------------------------------------------------------------------------------

test: dev  ## Check everything: lint, types, layers, and every test but the soaks
	@# Two at a time, in this order, for two cores; each one's words come together.
	@$(MAKE) --no-print-directory --output-sync=target -j2 lint types layers test-js test-python

lint: language $(VENV)/.stamp-dev  ## Run ruff (rules and format), vulture (dead code), codespell and the word table
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/vulture
	$(BIN)/codespell

language: $(VENV)/.stamp-dev  ## Find constructions that the project does not use (tests/language/table.toml)
	@$(PYTHON) tests/language/check.py

format: $(VENV)/.stamp-dev  ## Let ruff format and mend what it can
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

types: $(VENV)/.stamp-dev  ## Run mypy, strictly
	$(BIN)/mypy

layers: $(VENV)/.stamp-dev  ## Hold the floors: imports point down
	$(BIN)/lint-imports

# Tests wait more than they work: three processes share two cores. Each has servers and databases of its own.
WORKERS ?= 3

# The core is measured by its own unit tests: what only another test reaches is not proven there. All others run untraced.
test-python: dev  ## Run the Python tests; the core at 100 % of its branches
	$(BIN)/coverage run -m pytest -q tests/unit/core
	$(BIN)/coverage report
	$(PYTHON) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests --ignore=tests/unit/core

# Tracing makes the tests slower, so `make test` leaves it out, and a test may take longer before it counts as hung.
coverage: dev  ## Run all Python tests and hold each room of the package above its floor, servers included
	@rm -f .coverage.*
	$(BIN)/coverage run --rcfile=tests/coverage.toml -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-o faulthandler_timeout=900 tests
	$(BIN)/coverage combine -q --rcfile=tests/coverage.toml
	$(PYTHON) -m tests.coverage_floors

# A package says in its scripts what it has: lint, types, test.
test-js: dev  ## Run each JavaScript package's lint, types and tests
	@$(FIND_IN_TREE) package.json -print | sort | while read -r manifest; do \
		folder=$$(dirname "$$manifest"); \
		for script in lint types test; do (cd "$$folder" && npm run --silent --if-present "$$script" </dev/null); done; \
	done

soak: dev  ## Run the tests that take minutes, and mutation testing of the core
	$(PYTHON) -m tests.mutation
	$(PYTHON) -m pytest -q tests -m soak -s -o faulthandler_timeout=0

bench: dev  ## Measure, each figure beside a peer's of the same minute
	@for bench in fan_out groups append idle; do $(PYTHON) -m bench $$bench; done
	@$(PYTHON) -m bench fan_out --nodes 2

docs: $(VENV)/.stamp-dev  ## Write the pages again that are made out of code, help texts and tests
	$(PYTHON) -m orbital_relay.config.reference > docs/reference/settings.md
	$(PYTHON) -m orbital_relay.server.ops.metrics > docs/reference/metrics.md
	$(PYTHON) -m orbital_relay.server.http.reference > docs/reference/http.md
	$(PYTHON) -m orbital_relay.server.http.docs.javascript > clients/javascript/src/api-types.js
	$(PYTHON) -m tests.docs.pages
	$(PYTHON) -m tests.docs.diagrams

# --- Publishing ------------------------------------------------------------------------------------------------------

# The same commit makes the same bytes: every file in the archives has the time of the commit.
dist: $(VENV)/.stamp-dev  ## Build sdist and wheel into dist/, check them, and list what they depend on (SBOM)
	rm -rf dist
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(PYTHON) -m hatchling build -d dist
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o dist/orbital-relay.cdx.json requirements/run.txt

release:  ## Make the commit and the tag of VERSION, with its chapter of the changelog
	@$(PYTHON) tools/release.py "$(VERSION)"

site: $(VENV)/.stamp-site  ## Build the documentation as pages that need no network, into var/site
	$(BIN)/mkdocs build --strict --quiet

# --- Keeping ---------------------------------------------------------------------------------------------------------

# The locks name versions and hashes, never where to fetch them: that is the machine's to say.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" --no-annotate

lock: $(VENV)/.stamp-dev  ## Resolve the locked requirements again (UPGRADE=1 to take newer versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra server --extra postgres --extra redis --extra media -o requirements/run.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group build -c requirements/run.txt -o requirements/build.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra e2ee -c requirements/run.txt -o requirements/e2ee.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra e2ee --group dev -c requirements/run.txt -c requirements/build.txt -o requirements/dev.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group site -c requirements/dev.txt -o requirements/site.txt

clean:  ## Remove what was made, the data in var/ aside
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache
	find . -name node_modules -prune -exec rm -rf {} +
