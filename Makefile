# `make help` lists what a person or CI runs; every target installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
PYTHON ?= python3
BOOT := .cache/uv
# A pinned uv of our own, so that what is on PATH does not matter.
UV := $(BOOT)/bin/uv
# --compile-bytecode: where PYTHONDONTWRITEBYTECODE is set, each start would compile all that it imports.

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(UV):
	@echo "» uv $(UV_VERSION)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=")'
	@$(PYTHON) -m venv $(BOOT) || { echo "python3-venv is missing: run 'apt-get install python3-venv'"; exit 1; }
	@$(BOOT)/bin/pip install -q --disable-pip-version-check uv==$(UV_VERSION)

.venv/.installed: locks/dev.txt | $(UV)
	@echo "» .venv: the platform and its tests (1.3 GB)"
	@$(UV) venv -q --allow-existing --python "$$(command -v $(PYTHON))" .venv
	@$(UV) pip sync -q --compile-bytecode --require-hashes --python .venv locks/dev.txt
	@$(UV) pip install -q --no-deps --python .venv -e .
	@touch $@

.venv-serving/.installed: locks/serving.txt | $(UV)
	@echo "» .venv-serving: what the server's image holds, and nothing else"
	@$(UV) venv -q --allow-existing --python "$$(command -v $(PYTHON))" .venv-serving
	@$(UV) pip sync -q --compile-bytecode --require-hashes --python .venv-serving locks/serving.txt
	@$(UV) pip install -q --no-deps --python .venv-serving -e .
	@touch $@

.venv-checkov/.installed: locks/checkov.txt | $(UV)
	@echo "» .venv-checkov: a security linter, whose pins don't agree with ours"
	@$(UV) venv -q --allow-existing --python "$$(command -v $(PYTHON))" .venv-checkov
	@$(UV) pip sync -q --compile-bytecode --require-hashes --python .venv-checkov locks/checkov.txt
	@touch $@

install: .venv/.installed .venv-serving/.installed ## Install both Python environments from the locks

services: ## Install PostgreSQL, Redis and git where they are missing (apt, as root)
	@scripts/install-services

tools: install ## Build the Go programs that the tests use: some into .cache/bin, those the cluster has too into its cache
	@scripts/build-tools
	@cd tests/cluster && ../../.venv/bin/python -m harness.binaries prometheus argocd oauth2-proxy

api-server: install ## Build etcd and the Kubernetes API server, for `make validate`
	@scripts/build-api-server

render: install tools ## Write what Argo CD would apply to build/render, one folder an environment
	@rm -rf build/render
	@.venv/bin/plumbline tree render --out build/render

validate: install tools api-server .venv-checkov/.installed ## Ask a real API server about every object of every environment (BASE=origin/main)
	@.venv/bin/plumbline tree validate $(if $(TREE),--root $(TREE) --foreign) $(if $(BASE),--base $(BASE))

diff: install tools ## What this branch changes in each environment, as Markdown (BASE=origin/main)
	@.venv/bin/plumbline tree diff $(if $(TREE),--root $(TREE)) $(if $(BASE),--base $(BASE))

versions: install tools ## Write docs/versions.md from what pins them
	@.venv/bin/python scripts/versions.py > docs/versions.md

estimators: install ## Try every estimator and write docs/estimators.md (a minute)
	@.venv/bin/python scripts/estimators.py > docs/estimators.md

dev: install services ## A platform on this machine until Ctrl-C: MLflow, PostgreSQL, Redis, a git remote; then `source .dev/env`
	@.venv/bin/python scripts/dev.py

dev-clean: install ## Remove what `make dev` keeps between its starts
	@.venv/bin/python scripts/dev.py --clean

demo: install services ## From data to a served, promoted, measured model on this machine (FULL=1: all the data)
	@.venv/bin/python scripts/demo.py $(if $(FULL),--full) $(if $(KEEP),--keep)

lint: install ## Format, lint, strict types, and that each extra declares what is imported
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/mypy tests/cluster/conftest.py
	@.venv/bin/python scripts/dependencies.py

test: install services tools api-server .venv-checkov/.installed lint ## Everything that needs no cluster: lint, unit and integration tests
	@scripts/run-tests $(PYTEST)

coverage: ## The same with its coverage, in half an hour
	@COVERAGE=1 $(MAKE) test

unit: install ## The tests that need Python alone, in a minute and a half
	@scripts/run-tests $(if $(PYTEST),tests/unit $(PYTEST),unit)

trees: install tools api-server ## 50 legal trees before the API server, and the unit tests on one of them (TREES, SEED)
	@TREES=$${TREES:-50} .venv/bin/pytest tests/integration/tree/test_trees.py $(PYTEST)
	@rm -rf .cache/another-tree && mkdir -p .cache/another-tree
	@.venv/bin/python tests/trees.py .cache/another-tree $${SEED:-0}
	@cd .cache/another-tree && PYTHONPATH=$$PWD/app-src .venv/bin/pytest tests/unit tests/integration/render

histories: install services ## 200 random histories end with git, cluster and registry in agreement (HISTORIES, SEED)
	@HISTORIES=$${HISTORIES:-200} EVENTS=$${EVENTS:-25} .venv/bin/pytest tests/integration/promotion/test_histories.py $(PYTEST)

mutants: install services tools api-server ## Send every known-bad release through the real path, and write docs/mutants.md (5 minutes)
	@.venv/bin/pytest tests/mutants $(PYTEST)
	@[ -n "$(PYTEST)" ] || { mkdir -p build && PYTHONPATH=.:scripts:tests .venv/bin/python -m mutants.pages > build/mutants.md && \
	  mv build/mutants.md docs/mutants.md; }

gitea: install ## Build a real Gitea (minutes, once) and let promotion write by its pull requests
	@scripts/build-gitea
	@.venv/bin/pytest tests/integration/promotion/test_gitea.py $(PYTEST)

fuzz: install services ## Every operation of the running server, with 1,000 examples each (FUZZ_EXAMPLES)
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-1000} .venv/bin/pytest tests/integration/serving/test_fuzz.py $(PYTEST)

verdicts: install ## Simulate every verdict with cluster effects and planted faults, and print the figures of docs/verdicts.md
	@VERDICTS=full .venv/bin/pytest tests/verdicts --durations=0 --durations-min=5 --timeout 1200 $(PYTEST)

bench: install services ## Measure the model server and its peers, write docs/benchmarks.md (15 minutes)
	@PYTHONPATH=tests:scripts .venv/bin/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS))

soak: install services ## Is the model server's memory flat over ten million requests? (REQUESTS, MINUTES)
	@PYTHONPATH=tests:scripts .venv/bin/python -m bench.soak $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(MINUTES),--minutes $(MINUTES))

bench-lock: $(UV) ## Resolve the peers of the benchmark into tests/bench/locks again
	@for peer in tests/bench/locks/*.in; do \
	  echo "» $${peer%.in}.txt"; \
	  $(UV) pip compile -q --generate-hashes --no-header --python-version 3.11 $$peer -o $${peer%.in}.txt; \
	done

cluster-up: install tools ## Start a single-node Kubernetes that runs clusters/local or another ENV, as root (docs/testing.md)
	@cd tests/cluster && ../../.venv/bin/python -m harness up $(ENV)

cluster-test: install ## Run the tests of tests/cluster against it, those of its environment
	@.venv/bin/pytest tests/cluster -v -s --durations=0 --durations-min=5 $(PYTEST)

cluster-down: install ## Stop it; nothing of it stays
	@cd tests/cluster && ../../.venv/bin/python -m harness down

format: install ## Rewrite the code in the project's format
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

workflows: install ## Render the graphs of argo/ to the YAML beside them
	@.venv/bin/python -m argo.render

lock: $(UV) ## Resolve pyproject.toml into locks/ again
	@for extra in dev serving mlflow-server platform checkov; do \
	  echo "» locks/$$extra.txt"; \
	  $(UV) pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --extra $$extra \
	    $$([[ $$extra =~ ^(dev|checkov)$$ ]] || echo "-c locks/dev.txt") pyproject.toml -o locks/$$extra.txt; \
	done

clean: ## Remove what make installed and built here
	@rm -rf .venv .venv-serving .venv-checkov .cache build dist .coverage*

.PHONY: help coverage install services tools api-server render validate diff versions estimators dev dev-clean demo lint test unit trees histories mutants gitea fuzz verdicts bench soak bench-lock cluster-up cluster-test cluster-down format workflows lock clean
