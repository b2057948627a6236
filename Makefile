# Every target does its own set-up; only Python 3.11+, git and make are needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One thread per process: two threads on a busy small machine spin and run many times slower.
export OMP_NUM_THREADS ?= 1
JOBS ?= 2

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.core
	$(BIN)/selva demo --output demo_out

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(JOBS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m "slow and not weights and not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --no-error-summary -p selva_audio
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

clean:
	rm -rf $(VENV) demo_out build dist *.egg-info

# torch first and pinned, so that a machine with a CPU build at hand takes that one.
$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable ".[dev]"
	touch $@
