# make demo   the main job on generated scenes: no data, no network but the package registries
# make test   the tests, with their coverage
# make lowest the oldest versions that pyproject.toml allows, tried: a demo of two steps and an export
# make check  what .ci/run calls: lint, types, test, docs
# Each target sets up what it needs in .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 2 # test processes, one thread each
COVERAGE ?= --cov --cov-report=term # of branches; it takes a third of the time of the tests, so check leaves it out
MINUTES ?= 30# of make fuzz
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt

.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # importing torch and its libraries takes 2.5 times as long where their bytecode is not kept
.PHONY: help lowest setup demo lint types test docs renew pictures bench fuzz gold check clean

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up .venv (a few minutes where nothing is cached)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/ready: pyproject.toml constraints.txt | $(BIN)/uv
	@$(INSTALL) --editable '.[export]'
	@touch $@

.venv/ready-dev: .venv/ready
	@$(INSTALL) --editable '.[dev]'
	@touch $@

setup: .venv/ready-dev

demo: .venv/ready
	$(BIN)/levelground demo --out demo

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/ready-dev
	$(BIN)/mypy

test: .venv/ready-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(COVERAGE)

docs: .venv/ready-dev
	$(BIN)/python docs/flags.py --check
	$(BIN)/python docs/stub.py --check
	$(BIN)/python docs/architecture.py --check
	$(BIN)/python docs/schemas.py --check
	$(BIN)/python docs/messages.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

renew: .venv/ready-dev
	$(BIN)/python docs/flags.py
	$(BIN)/python docs/stub.py
	$(BIN)/python docs/architecture.py
	$(BIN)/python docs/schemas.py
	$(BIN)/python docs/messages.py

pictures: demo .venv/ready-dev
	$(BIN)/python docs/pictures.py --study demo --notebooks

bench: .venv/ready-dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script --quick || true; done

lowest: $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct '.[export]'
	.venv-lowest/bin/levelground demo --steps 2 --scenes 12 --archs pspnet --budgets 1 --out .venv-lowest/demo
	.venv-lowest/bin/levelground export .venv-lowest/demo/runs/pspnet-tf_efficientnet_lite0-s0 --to onnx smp

fuzz: .venv/ready-dev
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/builders/fuzz.py --minutes $(MINUTES)

gold: .venv/ready-dev
	$(BIN)/python -m pytest tests/test_page.py tests/test_messages.py --gold --no-cov

check: # the tests take all processors, the rest take one each
	$(MAKE) --jobs=2 lint types docs
	$(MAKE) test COVERAGE=

clean:
	rm -rf .venv .venv-lowest demo site .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
