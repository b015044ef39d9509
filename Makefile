# Observer. `make` alone lists what there is.
SHELL := /bin/bash
# Installing and packing take the host's own Python, developing takes 3.11; PYTHON= names another for both.
HOST_PYTHON := $(or $(PYTHON),python3)
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test test-host trial lint bench drill day sweep dist bundle install uninstall pins clean

PREFIX ?= /usr/local
# Tests of the whole service mostly wait: two at a time halve the time, and each still has a processor.
WORKERS ?= 2
PINS := systemd/constraints.txt
TOOLS := build/tools
# An unpacked archive is a bundle; a checkout makes one first.
BUNDLE := $(if $(wildcard wheels),.,build/bundle)
# 1 or yes is on; nothing, 0 or no is off; anything else must not decide what is removed.
yes = $(if $(filter 1 yes,$($(1))),1,$(if $(filter-out 0 no,$($(1))),$(error $(1)=$($(1)): needs 1 or 0)))
INSTALLER = systemd/installer/install.py
WHERE = --destdir '$(DESTDIR)' $(if $(call yes,DRY_RUN),--dry-run)

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

# Only an unpacked archive lacks it.
setup.cfg pyproject.toml:
	@echo "make: this is an unpacked archive: only install, uninstall and help can be made here, the rest in a checkout" >&2; exit 1

# The pinned libraries first: what is tested is what is shipped.
$(STAMP): setup.cfg pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(PINS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

run: $(STAMP) ## record from the simulator until Ctrl-C; the archive grows in config/observer/
	@$(BIN)/observer demo

test: $(STAMP) ## the tests that need no root
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-host: $(STAMP) ## the tests that need root and a real host (installs what they need with apt)
	tests/host/prepare
	$(BIN)/python -m pytest tests/host

trial: $(STAMP) ## as root: a Debian in a container, Observer installed in it by systemd's rules, and shown
	@$(BIN)/python -m tests.host.trial

lint: $(STAMP) ## formatting, lint, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## speed and size against a bare loop, in one run
	$(BIN)/python -m tests.bench.measure

drill: $(STAMP) ## kill storms and cuts against the simulator's truth; as root also while disk faults come and go (about 35 minutes)
	$(BIN)/python -m tests.bench.storm

day: $(STAMP) ## as root: a trading day at 60 times the speed with some thirty faults, and its page build/day.html (about 15 minutes)
	tests/host/prepare
	$(BIN)/python -m tests.day

sweep: $(STAMP) ## as root: the writer dies, or fails, at each of its system calls in turn (about 20 minutes)
	tests/host/prepare
	$(BIN)/python -m tests.sweep
	OBSERVER_SWEEP_STEP=1 $(BIN)/python -m pytest tests/unit/test_placement.py -k "at_each_of_its_calls or each_call_that_fails" --timeout 1800

dist: $(TOOLS)/.made ## the archive that installs without a network: dist/observer-VERSION.tar.gz
	@$(TOOLS)/bin/python -B systemd/installer/bundle.py --archive dist

bundle: $(TOOLS)/.made
	@$(TOOLS)/bin/python -B systemd/installer/bundle.py

$(TOOLS)/.made: | setup.cfg
	@echo "preparing the build tools in $(TOOLS)"
	@$(HOST_PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	@touch $@

install: $(if $(wildcard wheels),,bundle) ## install or upgrade on this host, as root (DESTDIR=, PREFIX=, DRY_RUN=1)
	@$(HOST_PYTHON) -B $(BUNDLE)/$(INSTALLER) install $(WHERE) --prefix '$(PREFIX)'

uninstall: ## stop and remove it; configuration and archive stay (PURGE=1 removes them too, DRY_RUN=1)
	@$(HOST_PYTHON) -B $(INSTALLER) uninstall $(WHERE) $(if $(call yes,PURGE),--purge)

pins: $(STAMP) ## pin the newest libraries that fit, by hash, for all supported Pythons
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[pins]'
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --custom-compile-command 'make pins' --output-file $(PINS) setup.cfg

clean: ## remove what the targets above made, but no archive
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
