# carousel. `make help` lists the targets; all but `clean` set the environment up first.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench docs sanitize accuracy random differential clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## make .venv, build the kernels, install everything for users and developers

$(INSTALLED): pyproject.toml CMakeLists.txt constraints/cpu.txt $(shell find csrc -type f)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "scikit-build-core>=0.10" "nanobind>=2.9" "numpy>=2" "cmake>=3.24" "ninja>=1.11"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip install --quiet --no-build-isolation -c constraints/cpu.txt \
		--config-settings=cmake.define.CAROUSEL_WERROR=ON -e ".[dev,docs]"
	touch $@

demo: setup ## the tutorials' sine wave and the airline passengers: forecasts and plots in demo/
	$(BIN)/carousel demo all --out demo

test: setup ## all tests, the code of README and docs included, with coverage
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term

check: setup ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup ## our layers against torch.nn on this machine, about a minute: table, bench/layers.csv, .png
	$(BIN)/carousel bench

docs: setup ## HTML pages in docs/_build
	$(BIN)/sphinx-build -W -q docs docs/_build

sanitize: setup ## the kernels under AddressSanitizer and UBSan, every instruction set of this machine; then threads
	PATH="$(abspath $(BIN)):$$PATH" bash tests/sanitize.sh

accuracy: setup ## exp, sigmoid and tanh of all 2^32 float32 values on every instruction set, about half an hour
	for isa in $$($(BIN)/python -c "from carousel import _core; print(*_core.isas())"); do \
		CAROUSEL_ISA=$$isa $(BIN)/python tests/test_kernel_math.py --every || exit 1; done

random: setup ## 100,000 random problems against the reference on every instruction set, about half an hour
	for isa in $$($(BIN)/python -c "from carousel import _core; print(*_core.isas())"); do \
		CAROUSEL_ISA=$$isa $(BIN)/python tests/random_problems.py 100000 || exit 1; done

differential: setup ## 20,000 random modules and calls against torch.nn, about ten minutes
	$(BIN)/python -W ignore tests/differential.py --cases 20000

clean: ## remove what was built
	rm -rf build bench demo docs/_build $(VENV)
