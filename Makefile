# Two commands matter: `make demo` shows the house, `make test` proves it.
# Nothing but Python >= 3.11 is expected; everything else is brought by pip, and for the tests
# by apt-get where we are root on Debian. A stamp file says what is installed, so that a second
# call starts at once.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH ?=

.PHONY: help demo test test-fast test-long lint bench docs screens lock clean debian-packages

help:  ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(VENV)/.stamp-demo  ## Install, make sample members, run the main job, serve on port 8420
	$(BIN)/yinyom demo $(DEMO_ARGS)

test: $(VENV)/.stamp-test debian-packages  ## Everything but the full fault matrices (about 45 minutes)
	$(PYTEST) -n 2 -m "not long" $(PYTEST_ARGS)

test-fast: $(VENV)/.stamp-test debian-packages  ## What a change needs at once (at most 10 minutes)
	$(PYTEST) -n 2 -m "not slow and not long" $(PYTEST_ARGS)

test-long: $(VENV)/.stamp-test debian-packages  ## The full fault matrices
	$(PYTEST) -n 2 -m long --timeout 3600 $(PYTEST_ARGS)

lint: $(VENV)/.stamp-test  ## Style, types, layers, dependencies, docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/interrogate --quiet .

bench: $(VENV)/.stamp-bench debian-packages  ## Benchmarks as Markdown tables; BENCH=name runs one
	$(BIN)/python -m benchmarks $(BENCH)

docs: $(VENV)/.stamp-test  ## Check that every link and every path the documents name exists
	$(PYTEST) -p no:xdist tests/test_docs.py

screens: $(VENV)/.stamp-test debian-packages  ## Make the pictures of docs/screens from the demo's pages
	$(BIN)/python docs/screens/make.py

lock: $(VENV)/.stamp-venv  ## Pin one set of dependencies in uv.lock
	$(PIP) uv
	$(BIN)/uv lock

clean:  ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis \
		.import_linter_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

debian-packages:
	@.ci/debian-packages

$(VENV)/.stamp-venv:
	@.ci/virtual-environment $(PYTHON) $(VENV)
	@touch $@

# `--editable` leaves the sources where they are; the wheel has a test of its own.
$(VENV)/.stamp-demo: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) --editable .
	@touch $@

# The peers that the vault is measured against.
$(VENV)/.stamp-bench: $(VENV)/.stamp-test
	$(PIP) --editable '.[bench]'
	@touch $@

# hatchling builds the wheel that a test looks into, without asking a registry for it then.
# aics-tlog is a second, foreign judge of the log; it declares Python 3.12 and runs on 3.11.
$(VENV)/.stamp-test: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) --editable '.[test,dev]'
	@$(PIP) --no-deps --ignore-requires-python aics-tlog \
		|| echo "NOT INSTALLED: aics-tlog. The tests that let it judge our log are skipped." >&2
	@touch $(VENV)/.stamp-demo $@
