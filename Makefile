# Everything a contributor or a user starts with. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.installed-docs
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help install lint test test-slow fuzz demo docs clean

help:
	@echo "make install    make .venv and install clarice with the versions we test"
	@echo "make demo       simulate a molecule, reconstruct it, compare the map with the truth (minutes)"
	@echo "make lint       ruff, formatting and types"
	@echo "make test       lint, then the tests"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make fuzz       damage files in thousands of new ways and read them"
	@echo "make docs       build the documentation into site/"
	@echo "make clean      remove what these targets made, .venv excepted"

install: $(INSTALLED)

# The stamp is written last, so an interrupted installation is taken up again by the next call.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	  echo "make: $(PYTHON) is older than Python 3.11: pass another one, as in make install PYTHON=python3.12" >&2
	  exit 1
	}
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || {
	  echo "make: $(PYTHON) cannot make a virtual environment: on Debian, install the package python3-venv" >&2
	  exit 1
	}
	echo "installing clarice into $(VENV) (minutes the first time)"
	$(PIP_INSTALL) 'pip>=23.1'
	$(PIP_INSTALL) --editable '.[test]' --constraint constraints.txt
	touch $@
	echo installed: try $(BIN)/clarice --help

$(DOCS_INSTALLED): $(INSTALLED)
	@$(PIP_INSTALL) --editable '.[docs]' --constraint constraints.txt
	touch $@

lint: $(INSTALLED)
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Most tests keep one core busy: whole files are shared out, so that what a file prepares is prepared once.
test: lint
	@OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)
	@$(BIN)/pytest -m slow

fuzz: $(INSTALLED)
	@CLARICE_FUZZ_EXAMPLES=5000 $(BIN)/pytest tests/io/test_fuzz.py

# A second call finds the data there and the run finished, and goes on from wherever an interrupted one stopped.
demo: $(INSTALLED)
	@test -e demo/data/particles.star || $(BIN)/clarice simulate -o demo/data \
	    --molecule 3 --mass-kda 150 --particles 1500 --box 48 --snr 0.2 --seed 1
	$(BIN)/clarice run demo/data/particles.star -o demo/run --seed 1
	$(BIN)/clarice evaluate map demo/run/map.mrc --truth demo/data/map.mrc
	echo "report: demo/run/report.html"

docs: $(DOCS_INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	echo "documentation: site/index.html"

clean:
	@rm -rf demo site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
