# modelrelease: `make help` says what there is. Everything a target needs it installs itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# The clusters' programs collect garbage less often: a fifth less CPU for twice the memory.
export GOGC ?= 400

.PHONY: help demo playground test check format crds docs lock bench images binaries clean install-manifest docs-metrics

CODE := operator tests e2e bench conftest.py
# `make check` has run these.
FAST := tests/core tests/api tests/sim tests/docs
# They mostly wait, so three clusters side by side take as long as the slowest.
INSIDE := $(PY) -m e2e.cluster run -- $(abspath $(PY)) -m pytest -q -m inside
PAGES := e2e/test_tutorial.py
TROUBLE := e2e/test_argocd.py e2e/test_outages.py

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(STAMP) ## Bring up a real cluster and release models under real traffic (first time up to 20 minutes, then 5)
	@$(PY) -m e2e.demo

playground: $(STAMP) ## Bring up the same parts and open a shell in them, for README.md and docs/tutorial.md
	@$(PY) -m e2e.playground

test: check ## Run all tests, on a real API server and a real cluster (installs and builds what they need)
	@$(PY) -m e2e.cluster binaries
	@$(PY) -m e2e.cluster binaries argocd miniredis
	@$(PY) -m e2e.images
	@$(PY) -m pytest tests e2e -q -n 5 --dist loadfile --no-loadscope-reorder -m "not inside" $(addprefix --ignore=,$(FAST))
	@echo "on three clusters at the same time: the main job here; $(PAGES) and $(TROUBLE) are shown as they end"
	@logs=$$(mktemp -d); failed=0; \
	  $(INSIDE) $(PAGES) > $$logs/pages 2>&1 & pages=$$!; \
	  $(INSIDE) $(TROUBLE) > $$logs/trouble 2>&1 & trouble=$$!; \
	  $(INSIDE) e2e $(addprefix --ignore=,$(PAGES) $(TROUBLE)) || failed=1; \
	  wait $$pages || failed=1; cat $$logs/pages; \
	  wait $$trouble || failed=1; cat $$logs/trouble; \
	  rm -r $$logs; exit $$failed

check: $(STAMP) ## Run the fast checks: format, lint, types, import contracts, generated files, pure tests
	@$(VENV)/bin/ruff format --check -q $(CODE)
	@$(VENV)/bin/ruff check -q $(CODE)
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache > /tmp/modelrelease-imports.$$$$ || { cat /tmp/modelrelease-imports.$$$$; exit 1; }; rm -f /tmp/modelrelease-imports.$$$$
	@$(PY) -m modelrelease.cli.crds --check crds
	@$(PY) -m modelrelease.cli.diagram --check
	@$(PY) -m modelrelease.cli.reference --check
	@$(PY) -m pytest tests/core tests/api tests/sim tests/docs -q

format: $(STAMP) ## Format the code and mend what the linter can mend
	@$(VENV)/bin/ruff format -q $(CODE)
	@$(VENV)/bin/ruff check -q --fix $(CODE)

crds: $(STAMP) ## Generate crds/ from the models
	@$(PY) -m modelrelease.cli.crds crds

docs: $(STAMP) ## Generate docs/reference/ and docs/state-machine.md
	@$(PY) -m modelrelease.cli.diagram
	@$(PY) -m modelrelease.cli.reference

bench: $(STAMP) ## Measure the statistics again and write the tables of docs/statistics.md and docs/gates.md
	@$(PY) -m bench.evidence
	@$(PY) -m bench.gates

docs-metrics: $(STAMP) ## Write the table of metrics in docs/operating.md
	@$(PY) -m modelrelease.engine.metrics_page docs/operating.md

install-manifest: $(STAMP) ## Render the chart into dist/install.yaml, for kubectl apply -f
	@$(PY) -m e2e.install_manifest dist/install.yaml

images: $(STAMP) ## Build the images of the operator and of the model server
	@$(PY) -m e2e.images

binaries: $(STAMP) ## Build Kubernetes and what runs beside it from Go modules, once
	@$(PY) -m e2e.cluster binaries

LOCK := env -u PIP_FIND_LINKS $(VENV)/bin/uv pip compile -q --no-config --generate-hashes --no-emit-index-url --python-version 3.11 --no-header
lock: $(STAMP) ## Pin the dependencies again, with hashes
	@$(PY) -m pip install -q uv
	@$(LOCK) pyproject.toml -o requirements.lock
	@$(LOCK) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	@$(LOCK) e2e/model_server/requirements.in -c requirements-dev.lock -o e2e/model_server/requirements.lock
	@echo 'setuptools' | $(LOCK) - -c requirements-dev.lock -o requirements-build.lock

$(STAMP): requirements-dev.lock pyproject.toml
	@echo "installing the Python environment (about two minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -q --no-compile --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(PY) -m pip install -q --no-compile --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(PY) -m compileall -q -j 0 $(VENV)/lib || true # on all cores; where pip writes none, each start would compile thousands of files
	@touch $(STAMP)

clean: ## Remove the environment and caches of this checkout (programs and images under ~/.cache/modelrelease stay)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info operator/*.egg-info
