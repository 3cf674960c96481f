# make demo: a whole search, training and export on a fresh machine (about 10 minutes on two cores).
# make test: the tests.  make lint: ruff, mypy, import-linter.
# make architectures: 10,000 random architectures of every space and variant, examined (an hour; it goes on where it ended).
# make fuzz: every reader of files against 10,000 bad inputs (hours on a busy machine; goes on where it was stopped).
# make faults: every fault of tests/faults, with counts of what was lost, repeated and equal (about 20 minutes).
# make bench: every benchmark, small (about 5 minutes); their --help says how to measure in full.
# Each makes the virtual environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test architectures faults fuzz lint bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)
	bash experiments/demo.sh demo "$(CURDIR)/$(BIN)/nasperc"

test: $(STAMP)
	$(BIN)/pytest -n 2 --no-loadscope-reorder

architectures: $(STAMP)
	$(BIN)/python tests/search_spaces/random_architectures.py

faults: $(STAMP)
	$(BIN)/pytest tests/faults -m "faults or not faults"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The thesis's proxy workload needs a GPU: `python benchmarks/proxy_gpu.py --minutes 9 --out FILE` there.
SMALL := --device cpu --crop 96 --crops 24 --batch 4 --iterations 6 --width 32 --architectures 3

bench: $(STAMP)
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/roi_ops.py
	$(BIN)/python benchmarks/segmenters.py --size 320x427 --step-size 160x224 --backbone mobilenet_v2 --rounds 3
	$(BIN)/python benchmarks/deform_conv_cuda.py --size 128
	$(BIN)/python benchmarks/video_latency.py --rounds 7
	$(BIN)/python benchmarks/proxy_step.py --set proxy.finetune=false
	$(BIN)/python benchmarks/proxy_step.py --recipe dynamic_cell --set video.static.epochs=0.1
	$(BIN)/python benchmarks/cache_read.py --megabytes 128 --rounds 5
	$(BIN)/python benchmarks/content_hash.py --rounds 3 --set proxy.finetune=false
	$(BIN)/python benchmarks/controller_update.py --candidates 60
	$(BIN)/python benchmarks/controllers.py --synthetic --controllers random,evolution,surrogate --seeds 5 --budget 100 \
		--out build/controller_runs
	$(BIN)/python benchmarks/search_overhead.py --nothing 300
	$(BIN)/python benchmarks/search_overhead.py --candidates 12 --set proxy.iterations=20 --set proxy.finetune=false
	$(BIN)/python benchmarks/long_run.py --candidates 300 --every 100
	$(BIN)/python benchmarks/proxy_gpu.py $(SMALL)

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[dev,fuzz]"
	$(BIN)/python tests/fuzz/long_run.py --inputs 10000 --seed 0 --out build/fuzz

clean:
	rm -rf $(VENV) build dist *.egg-info demo
