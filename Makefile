# The commands of the README. Everything is installed into .venv; the demo and the integration tests also keep
# Elasticsearch (and Flink, if asked for) in the user's cache folder. Nothing else on the machine is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECORDS ?= 200000
SECONDS ?= 600

.PHONY: help demo test test-chaos test-elasticsearch-8 lint types unit integration bench fuzz docs clean

help:
	@echo "make demo           the whole way once, on this machine (KEEP=1 leaves the stack running)"
	@echo "make test           everything that is checked: lint, types, unit and integration tests"
	@echo "make test-chaos     kill every part of a streaming job at every moment, half an hour"
	@echo "make test-elasticsearch-8   the integration tests on the oldest release that is supported (fetched once, 760 MB)"
	@echo "make bench          what a million records cost, stage by stage"
	@echo "make fuzz           hostile input for every decoder, ten minutes each (SECONDS=60 for one)"
	@echo "make docs           the pages that are made from the code"
	@echo "make clean          remove the environment and what tools left behind"

# Touched last, so that an interrupted installation is done again. The demo needs none of the developers' tools.
$(VENV)/installed: EXTRA := dev
$(VENV)/runs: EXTRA := local
$(VENV)/installed $(VENV)/runs: pyproject.toml setup.py $(wildcard kernel/*.toml kernel/src/*.rs)
	@echo "Creating $(VENV) and installing the package: some 400 MB, a few minutes the first time ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on -e '.[$(EXTRA)]'
	@touch $@

demo: $(VENV)/runs
	$(BIN)/flowlogs demo --records $(RECORDS) $(if $(KEEP),--keep)

test: lint types
	$(BIN)/pytest

test-chaos: $(VENV)/installed
	FLOWLOGS_CHAOS=1 $(BIN)/pytest tests/streaming --durations=0

# Those of Flink use Elasticsearch no otherwise than the others.
test-elasticsearch-8: $(VENV)/installed
	FLOWLOGS_TEST_ELASTICSEARCH=8.14.1 $(BIN)/pytest -m "integration and not flink"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then cd kernel && cargo fmt --check && cargo clippy --quiet --release -- -D warnings; \
	else echo "No Rust with rustfmt and clippy: the kernel is not checked."; fi

types: $(VENV)/installed
	$(BIN)/mypy

unit: $(VENV)/installed
	$(BIN)/pytest -m "not integration"

integration: $(VENV)/installed
	$(BIN)/pytest -m integration

bench: $(VENV)/installed
	$(BIN)/python -c 'import flowlogs_reader' 2>/dev/null || $(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m benchmarks.stages $(if $(PURE),--pure)

# A crash is written to the working directory: put it into tests/fuzz/found/TARGET, where it becomes a test.
fuzz: $(VENV)/installed
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet -e '.[fuzz]'
	for target in notification text parquet; do $(BIN)/python -m tests.fuzz $$target -max_total_time=$(SECONDS) || exit 1; done

docs: $(VENV)/installed
	$(BIN)/python docs/reference.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
