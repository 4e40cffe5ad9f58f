PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/installed

PORT ?= 8501

.PHONY: install quickstart serve test test-all lint lock bench bench-check clean

install: $(STAMP)

$(STAMP): requirements.lock setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

quickstart: install
	$(BIN)/tfasr quickstart --work work/quickstart

# The demonstration model and its page, and a recording to send, where espeak-ng can speak one.
serve: install
	-$(BIN)/python -m tfasr.audio.say "three seven one, eight two, zero" work/speech.wav && \
		echo "send it: curl -F file=@work/speech.wav http://127.0.0.1:$(PORT)/v1/audio/transcriptions"
	$(BIN)/tfasr serve --model saved_models/digits --port $(PORT)

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
