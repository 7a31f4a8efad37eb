# Two commands need nothing but Python 3.11+ and git: make quickstart, make test.
PYTHON ?= python3
VENV := .venv
BENCHMARKS := spine data search t2ranking_shape encode serve train
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= true

.PHONY: quickstart test test-slow lint dev data bench clean

quickstart: $(VENV)/.installed
	$(VENV)/bin/m3e quickstart $(if $(MODEL),--model $(MODEL))

test: lint
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-slow: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -m slow

dev: $(VENV)/.installed-dev

data: $(VENV)/.installed-data
	$(VENV)/bin/m3e data prepare m3e-commercial --out data/m3e-commercial
	$(VENV)/bin/m3e data prepare m3e-all --out data/m3e-all

bench: $(VENV)/.installed-dev
	for name in $(BENCHMARKS); do \
	  $(VENV)/bin/python benchmarks/$$name.py --json benchmarks/results/$$name.json || exit 1; \
	done

# pip has no lock file of its own, so each marker stands for one set of extras
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(PIP) install -q -e '.[e5]'
	touch $@

$(VENV)/.installed-data: $(VENV)/.installed
	$(PIP) install -q -e '.[e5,data]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install -q -e '.[dev]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) install -q -e '.[dev,all,peers]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
