# Casemate, from a fresh machine: `make demo` or `make test`. Nothing is installed outside $(VENV).
PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .bench-venv
STUDY ?= study:digits-demo
PYTEST_ARGS ?=

PIP = -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
DEFINITION = pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint format bench-env bench clean

help:  ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) STUDY=$(STUDY) PYTEST_ARGS='$(PYTEST_ARGS)'"

venv: $(VENV)/.casemate  ## create the environment and install Casemate into it

# Exit code 1 is a verdict, not a failure: attacks break the demo's policy.
demo: $(VENV)/.casemate  ## train LeNet on digits, attack it, and write a report; needs no download
	$(VENV)/bin/casemate run $(STUDY) || test $$? -eq 1

test: $(VENV)/.casemate-test  ## run the tests
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.casemate-lint  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.casemate-lint  ## format the code and mend what can be mended by itself
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench-env: $(BENCH_VENV)/.casemate-bench  ## create another with the peers to compare with

bench: $(BENCH_VENV)/.casemate-bench  ## run the side-by-side benchmark
	$(BENCH_VENV)/bin/python -m benchmarks.evasion

clean:  ## remove environments and caches; results stay
	rm -rf $(VENV) $(BENCH_VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of packages, so that they are installed once and again only after a change.
$(VENV)/.casemate: $(DEFINITION) | $(VENV)/bin/python
	@echo "Installing Casemate into $(VENV); this takes a few minutes the first time."
	$(VENV)/bin/python $(PIP) --editable .
	@touch $@

$(VENV)/.casemate-test: $(VENV)/.casemate
	$(VENV)/bin/python $(PIP) --editable ".[dp,onnx,test]"
	@touch $@

$(VENV)/.casemate-lint: $(VENV)/.casemate
	$(VENV)/bin/python $(PIP) --editable ".[lint]"
	@touch $@

# Peers come without what they depend on: some ask for versions that cannot be had together.
$(BENCH_VENV)/.casemate-bench: $(DEFINITION) benchmarks/peers.txt | $(BENCH_VENV)/bin/python
	$(BENCH_VENV)/bin/python $(PIP) --editable .
	$(BENCH_VENV)/bin/python $(PIP) --no-deps --requirement benchmarks/peers.txt
	@touch $@

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
		{ echo "$(PYTHON) is missing or older than Python 3.10; name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $*
