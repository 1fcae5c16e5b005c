# Everything a contributor runs. Each target makes the environment it needs by itself.
#
#   make demo              survey the standard library with real worker processes
#   make test              all that must hold: lint, types, imports, docs, tests
#   make help              the other targets
#
# PYTHON=/path/to/python chooses the interpreter, VENV=directory the environment; ARGS='-k name'
# goes on to the program that the target runs; PROCESSES=1 runs all tests one after another.

VENV ?= .venv
PYTHON ?=
ARGS ?=
# How many processes share out the whole of the tests; most tests wait more than they compute.
PROCESSES ?= 4

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
BASE := $(VENV)/.base-installed
DEV := $(VENV)/.dev-installed

# The published Dramatiq 2.x, which the tests in tests/interop run beside this library.
VENV_2X := .venv-2x
FLEET_2X := $(VENV_2X)/.installed-2.2.1-rabbitmq

# A second type checker, too large for every run.
VENV_PYRIGHT := .venv-pyright
PYRIGHT := $(VENV_PYRIGHT)/.installed-1.40.2

# Checks run side by side; where make can, it prints each one's output in one piece.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# A part of the tests, which ARGS choose, runs in one process: starting others takes seconds. One
# that dies ends the run: the test that ended it would end the next one too.
PARALLEL := $(if $(strip $(ARGS))$(filter 1,$(PROCESSES)),,-n $(PROCESSES) --max-worker-restart 0)

.DEFAULT_GOAL := help
.PHONY: help demo test checks lint imports types pyright docs pytest benchmark chaos pictures coverage format test-all-pythons clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-26s%s\n", $$1, $$2 }'

$(BASE): pyproject.toml scripts/create-venv
	@scripts/create-venv $(VENV) $(PYTHON)
	@echo "Installing the library into $(VENV) ..."
	@$(PIP) install --quiet --editable .
	@touch $@

# Dependency groups need pip 25.1; a new environment may hold an older one.
$(DEV): $(BASE) scripts/install-servers
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@scripts/install-servers $(BIN)/python
	@echo "Installing the development tools into $(VENV) ..."
	@$(PIP) install --quiet --group dev
	@touch $@

$(FLEET_2X): scripts/create-venv scripts/install-servers
	@scripts/create-venv $(VENV_2X) $(PYTHON)
	@$(VENV_2X)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	@scripts/install-servers $(VENV_2X)/bin/python
	@echo "Installing the published Dramatiq 2.2.1 into $(VENV_2X) ..."
	@$(VENV_2X)/bin/python -m pip install --quiet 'dramatiq[redis,memcached,rabbitmq]==2.2.1'
	@touch $@

$(PYRIGHT): scripts/create-venv
	@scripts/create-venv $(VENV_PYRIGHT) $(PYTHON)
	@$(VENV_PYRIGHT)/bin/python -m pip --disable-pip-version-check install --quiet basedpyright==1.40.2
	@touch $@

demo: $(BASE) ## Run the example on real input: the sources of the standard library.
	@$(BIN)/python -m examples.stdlib_survey $(ARGS)

test: $(DEV) $(FLEET_2X) ## Run all that CI runs.
	@$(MAKE) --no-print-directory --jobs=2 --keep-going $(SYNC) checks
	@$(MAKE) --no-print-directory pytest

checks: lint imports types docs

lint: $(DEV) ## Check style, format and spelling.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

imports: $(DEV) ## Check that imports run one way.
	$(BIN)/lint-imports --no-logo

types: $(DEV) ## Check the types of the library and of the typing tests.
	$(BIN)/mypy

pyright: $(DEV) $(PYRIGHT) ## Check the typing tests with pyright, too (downloads 300 MB once).
	$(VENV_PYRIGHT)/bin/basedpyright --pythonpath $(BIN)/python --project tests/typing

docs: $(DEV) ## Build the documentation; warnings are errors.
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

pytest: $(DEV) $(FLEET_2X) ## Run the tests alone, or those that ARGS choose.
	$(BIN)/pytest $(PARALLEL) $(ARGS)

benchmark: $(DEV) ## Measure; ARGS='--peers dramatiq_sqlite --rounds 1' narrows it down.
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(DEV) $(FLEET_2X) ## Kill real processes for some minutes and print what became of the messages.
	@DRAMATIQ_CHAOS=full $(BIN)/pytest tests/chaos -m chaos --timeout 1800 $(ARGS)

pictures: $(DEV) ## Make the documentation's pictures of the dashboard anew.
	DRAMATIQ_SCREENSHOTS=1 $(BIN)/pytest tests/dashboard/test_browser.py -q -k 'accessible and sqlite' $(ARGS)

coverage: $(DEV) $(FLEET_2X) ## Run the tests and show the lines and branches they leave out.
	$(BIN)/pytest --cov --cov-report=term $(PARALLEL) $(ARGS)

format: $(DEV) ## Rewrite the sources in the project's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-all-pythons: ## Run the tests on every supported Python that is installed.
	@failed=""; for python in $$(scripts/find-python --all); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "== Python $$version ($$python)"; \
		$(MAKE) --no-print-directory pytest VENV=.venv-$$version PYTHON=$$python \
			|| failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "Tests failed on Python$$failed." >&2; exit 1; fi

clean: ## Remove environments, caches and built files.
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build dist docs/_build htmlcov .coverage .coverage.*
