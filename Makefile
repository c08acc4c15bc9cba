# make demo | make test | make lint: each creates .venv and installs what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
STAMP  := $(VENV)/.installed
export PATH := $(BIN):$(PATH)

.PHONY: demo test lint install clean
.DEFAULT_GOAL := demo

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Histill needs Python 3.11 to 3.13; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing into $(VENV): about 3 minutes and 6.5 GB, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	dvc repro
	@python -m stages summary

test: $(STAMP)
	python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	ruff format --check .
	ruff check .
	mypy

clean:
	rm -rf $(VENV) .store artifacts models reports plots metrics
