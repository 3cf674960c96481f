# make demo: a whole search, training and export on a fresh machine (about 10 minutes on two cores).
# make test: the tests.  make lint: ruff, mypy, import-linter.  Each makes the virtual environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)
	bash experiments/demo.sh demo "$(CURDIR)/$(BIN)/nasperc"

test: $(STAMP)
	$(BIN)/pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/proxy_step.py
	$(BIN)/python benchmarks/controllers.py --synthetic --controllers random,evolution,surrogate --seeds 5 --budget 100 \
		--out build/controller_runs

clean:
	rm -rf $(VENV) build dist *.egg-info demo
