PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install quickstart test test-all lint lock bench bench-check clean

install: $(STAMP)

$(STAMP): requirements.lock setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

quickstart: install
	$(BIN)/tfasr quickstart --work work/quickstart

test: install
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy tfasr pipelines
	$(BIN)/lint-imports

# Hours: every benchmark, three times, to benchmarks/results/DATE.json.
bench: install
	$(BIN)/python -m benchmarks.bench

bench-check: install
	$(BIN)/python -m benchmarks.bench --check

# Resolves every dependency again; needs the resolver `uv` on the PATH.
lock:
	uv pip compile setup.cfg --all-extras --override requirements-overrides.txt \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--output-file requirements.lock

clean:
	rm -rf .venv work
