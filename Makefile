# One command each: `make help`. Nothing here needs root or a running service.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
TORCH ?= torch==2.13.0
TRITON ?= triton==3.6.0
T ?=
DO ?= help
PY := .venv/bin/python
STAMP := .venv/.installed
# Tools that only read settings need neither a secret nor a server.
CHECK_ENV := DEBUG=1 DJANGO_SETTINGS_MODULE=marketplace.settings LOG_LEVEL=CRITICAL \
  DATABASE_POOL_TIMEOUT=0.2 PYTHONWARNINGS=ignore
OPENAPI := marketplace/api/openapi.yaml
RESULTS := inference/bench/results

# Threads that spin while they wait take the cores from the other processes of a test.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup run demo manage test test-slow lint format lock openapi bench-market bench-billing bench-pages bench-clients screenshots bench quality clean chromium node pango

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the pinned dependencies (the other commands do it themselves)

# torch goes first and apart: it is the one package of which machines have builds of their own.
# Triton comes with it where it computes on a GPU; elsewhere it comes last, to test kernels with.
$(STAMP): requirements.lock | pango
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Mercato needs Python 3.11 or newer, and $(PYTHON) is older or absent." \
	       "Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(PY) || { echo "Creating .venv"; $(PYTHON) -m venv .venv; }
	@$(PY) -c 'import importlib.metadata as m, sys; v = m.version("torch").split("+")[0]; \
	  sys.exit(f"torch=={v}" != "$(TORCH)")' 2>/dev/null || { \
	  echo "Installing $(TORCH) (the largest part: minutes on a slow line)"; \
	  $(PY) -m pip install -qq --disable-pip-version-check "$(TORCH)"; }
	@echo "Installing the other $$(grep -c == requirements.lock) packages (1 to 3 minutes)"
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps -r requirements.lock
	@$(PY) -c 'import triton' 2>/dev/null || test "$$(uname -s)" != Linux || { \
	  echo "Installing $(TRITON)"; \
	  $(PY) -m pip install -qq --disable-pip-version-check --no-deps "$(TRITON)"; }
	@$(PY) -m pip check >/dev/null || { $(PY) -m pip check >&2; exit 1; }
	@touch $@
	@echo "Set-up is done"

run: $(STAMP) ## Run the whole market on http://127.0.0.1:8000 (PORT=n, STRIPE=standin) until Ctrl-C
	@exec $(PY) -m marketplace.local run

demo: $(STAMP) ## Start a fresh market, play the whole story over HTTP, stop (PORT=n)
	@exec $(PY) -m marketplace.local demo

manage: $(STAMP) ## Run a command of manage.py on the market of `make run` (DO="audit")
	@exec $(PY) -m marketplace.local manage $(DO)

test: $(STAMP) chromium node ## Run the tests (T=path runs some)
	$(PY) -m pytest -n 2 -m "not slow and not gpu" $(T)

test-slow: $(STAMP) chromium node ## Run the tests that take long
	$(PY) -m pytest -m "slow and not gpu" $(T)

lint: $(STAMP) ## Check style, templates, layers, types, migrations and the API schema
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	git ls-files -z 'templates/*.html' 'marketplace/**.html' | \
	  xargs -0 -r .venv/bin/djade --target-version 5.2 --check
	PYTHONPATH=marketplace/client .venv/bin/lint-imports --no-cache
	$(CHECK_ENV) $(PY) -m mypy
	$(CHECK_ENV) $(PY) manage.py makemigrations --check --dry-run
	@fresh=$$(mktemp); trap 'rm -f "$$fresh"' EXIT; \
	  $(CHECK_ENV) $(PY) manage.py spectacular --validate --fail-on-warn --file "$$fresh"; \
	  diff -u $(OPENAPI) "$$fresh" || { echo "$(OPENAPI) is stale: run \`make openapi\`" >&2; exit 1; }

format: $(STAMP) ## Rewrite Python and templates in the agreed style
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .
	git ls-files -z 'templates/*.html' 'marketplace/**.html' | \
	  xargs -0 -r .venv/bin/djade --target-version 5.2

openapi: $(STAMP) ## Write the committed API schema anew
	$(CHECK_ENV) $(PY) manage.py spectacular --validate --fail-on-warn --file $(OPENAPI)

lock: $(STAMP) ## Resolve requirements.lock anew from pyproject.toml (UPGRADE=1 takes newer ones)
	$(PY) -m pip install -qq --disable-pip-version-check uv
	@constraint=$$(mktemp); trap 'rm -f "$$constraint"' EXIT; echo "$(TORCH)" > "$$constraint"; \
	  .venv/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --constraint "$$constraint" $(if $(UPGRADE),--upgrade) \
	    --no-annotate --no-header --quiet --output-file requirements.lock
	@sed -i.bak -E '/^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/d' requirements.lock
	@rm -f requirements.lock.bak

bench-market: $(STAMP) ## Measure the market itself: submits/s, dispatch, platform tax
	@exec $(PY) -m marketplace.local bench

bench-billing: $(STAMP) ## Measure what money costs, beside what is aimed at (OUT=file keeps it)
	@exec $(PY) -m tests.billing.bench $(if $(OUT),--out $(OUT))

bench-pages: $(STAMP) chromium ## Measure pages with 100,000 jobs: p50, p95, LCP, CLS, bytes (OUT=file keeps it)
	@exec $(PY) -m tests.pages.bench $(if $(OUT),--out $(OUT))

bench-clients: $(STAMP) ## Measure 500 followers and 500 held answers on one web process (OUT=file keeps it)
	@exec $(PY) -m tests.clients.bench $(if $(OUT),--out $(OUT))

screenshots: $(STAMP) chromium ## Photograph the main pages of a fresh market into templates/docs/images
	@exec $(PY) -m tests.pages.screenshots $(if $(OUT),--out $(OUT))

bench: $(STAMP) ## Measure the engine beside diffusers and cache-dit (OUT=file keeps it)
	@exec $(PY) -m inference bench $(if $(OUT),--out $(OUT))

quality: $(STAMP) ## Measure what each optimisation costs and gains; fails above the declared loss (OUT=folder)
	@$(PY) -m inference quality --model starter-image --prompts 500 \
	    --out $(or $(OUT),$(RESULTS))/quality-cpu.json
	@exec $(PY) -m inference quality --model starter-video --prompts 96 \
	    --out $(or $(OUT),$(RESULTS))/quality-video-cpu.json

clean: ## Remove caches and pictures; .venv and var/ stay
	rm -rf out dist build staticfiles .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing chromium for the browser tests"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } \
	    >/dev/null 2>&1 || echo "chromium could not be installed: the browser tests will skip"; \
	else echo "chromium is not installed: the browser tests will skip"; fi

# Debian 12 has Node 18, which is enough.
node:
	@{ command -v node && command -v npm; } >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Node for the tests of clients from npm"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends nodejs npm; } >/dev/null 2>&1 || \
	  echo "Node could not be installed: the tests of clients from npm will skip"; \
	else echo "Node is not installed: the tests of clients from npm will skip"; fi

# What WeasyPrint draws PDF files with; without it everything else works.
PANGO := libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core
pango:
	@$(PYTHON) -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("pangoft2-1.0"))' \
	  2>/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Pango for PDF files"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PANGO); } \
	    >/dev/null 2>&1 || echo "Pango could not be installed: PDF files will not be made"; \
	else echo "Pango is not installed: PDF files will not be made (Debian: $(PANGO))"; fi
