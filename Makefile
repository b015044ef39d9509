# Observer. `make` alone lists what there is.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test test-host lint bench drill clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

run: $(STAMP) ## record from the simulator until Ctrl-C; the archive grows in config/observer/
	@$(BIN)/observer demo

test: $(STAMP) ## the tests that need no root
	$(BIN)/python -m pytest

test-host: $(STAMP) ## the tests that need root and a real host (installs what they need with apt)
	tests/host/prepare
	$(BIN)/python -m pytest tests/host

lint: $(STAMP) ## formatting, lint, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## speed and size against a bare loop, in one run
	$(BIN)/python -m tests.bench.measure

drill: $(STAMP) ## kill storms against the simulator's truth (about 15 minutes)
	$(BIN)/python -m tests.bench.storm

clean: ## remove what the targets above made, but no archive
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
