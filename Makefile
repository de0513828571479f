# Two targets are enough to begin with: `make demo` and `make test`.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := stepwire gateway executor_svc router_svc vector_svc model_svc
GENERATED := build/generated
# Those whose figures stand in a table that they write themselves.
BENCHMARKS := executor model vector
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header $(LOCK_FLAGS)
# Hundreds of processes start in a test, and eleven in a demo: each would compile all that it
# imports, for a second or two, where a machine or image forbids Python to keep the outcome.
unexport PYTHONDONTWRITEBYTECODE
# How many test processes share the machine; each runs a Postgres and a RabbitMQ of its own.
# One more than the cores of a small machine, as tests wait for a third of their time.
TEST_PROCESSES ?= 3
# How long chaos reigns, once every oracle has been seen red on a build that is broken.
MINUTES ?= 5

.PHONY: help demo test lint style types collect proto proto-check bench chaos up down lock clean rabbitmq redis

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed rabbitmq ## Set up, start everything, run the main example.
	@$(BIN)/stepwire demo

test: $(VENV)/.installed-dev rabbitmq redis ## Lint, then all tests, against a real Postgres and RabbitMQ.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint collect
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

chaos: $(VENV)/.installed-dev rabbitmq ## Seeded faults for MINUTES=n, against every promise.
	@$(BIN)/python -m tests.chaos --broken all --minutes $(MINUTES)

# Beside mypy, which takes one core: what all test processes import is compiled once, not by each.
collect: $(VENV)/.installed-dev
	@told=$$($(BIN)/python -m pytest --collect-only --quiet 2>&1) || { echo "$$told"; exit 1; }

# Apart, so that mypy has a core for itself and is waited for by nothing.
lint: style types proto-check ## Style, types, import rules, generated code.

style: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy $(PACKAGES) deploy/observability

up: $(VENV)/.installed rabbitmq ## Start everything and leave it running.
	@$(BIN)/stepwire up --detach

down: ## Stop it.
	@if [ -x $(BIN)/stepwire ]; then $(BIN)/stepwire down; fi

bench: $(VENV)/.installed-dev rabbitmq ## Run every benchmark, and write the tables of docs/benchmarks.md.
	@set -o pipefail; for name in $(BENCHMARKS); do \
		$(BIN)/python -m bench.$$name --json | $(BIN)/python -m bench.tables $$name || exit 1; done
	@$(BIN)/python -m bench.router --load

proto: build/googleapis/.exported ## Generate stepwire/api and the gateway's descriptors.
	$(BIN)/buf format --write protos
	$(BIN)/buf lint
	$(BIN)/buf generate
	$(BIN)/python -m gateway.descriptors

proto-check: build/googleapis/.exported ## Check the protos, and that what they generate is committed.
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint
	rm -rf $(GENERATED)
	$(BIN)/buf generate --output $(GENERATED)
	diff --recursive --exclude='*.pyc' --exclude=__pycache__ --exclude=__init__.py \
		$(GENERATED)/stepwire/api stepwire/api

lock: $(VENV)/.installed-dev ## Resolve the lock files anew; LOCK_FLAGS=--upgrade for newer versions.
	$(LOCK) pyproject.toml tools/lock.in --output-file requirements.lock
	$(LOCK) pyproject.toml tools/lock.in --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock
	$(LOCK) pyproject.toml tools/lock.in --extra gpu --constraint requirements.lock \
		--no-emit-package onnxruntime --output-file requirements-gpu.lock

clean: down ## Remove the environment and all that was built; data under .stepwire stays.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

rabbitmq:
	@tools/bootstrap.sh rabbitmq

# Not both at a time: apt-get is for one.
redis: | rabbitmq
	@tools/bootstrap.sh redis

# A new lock file, or a change of the package's own definition, installs anew.
$(VENV)/.installed: requirements.lock pyproject.toml
	@tools/bootstrap.sh environment requirements.lock
	@touch $@

# Has all that requirements.lock has, at the same versions.
$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml
	@tools/bootstrap.sh environment requirements-dev.lock
	@touch $@ $(VENV)/.installed

build/googleapis/.exported: $(VENV)/.installed-dev Makefile
	@mkdir -p build/googleapis/google/{api,rpc}
	@source=$$($(BIN)/python -c 'import google.api as package; print(package.__path__[0])')/.. && \
		cp "$$source"/api/{annotations,http,httpbody}.proto build/googleapis/google/api/ && \
		cp "$$source"/rpc/status.proto build/googleapis/google/rpc/
	@touch $@
