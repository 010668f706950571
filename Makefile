# Everything starts from Python 3.11: `make run` needs nothing else on the machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

SECRETS := postgres_password app_password spine_password bus_password cache_password \
  api_key_pepper receipt_key audit_key webhook_key

junit = $(if $(JUNIT),--junitxml=$(JUNIT)/$(1).xml)
demo_flags = $(if $(EXIT),--exit,--serve) $(if $(FRESH),--fresh) $(if $(DATA),--data $(DATA))

.PHONY: help install run demo up down status test conformance faults faults-soak bench-audit bench-bus bench-bloat bench-semantic lint format types lock \
  secrets clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(INSTALLED): requirements.txt requirements-torch.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No '$(PYTHON)' on the PATH. Install Python 3.11, or name yours: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "'$(PYTHON)' is not Python 3.11, for which the requirements are pinned." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
# torch comes second: what it shares with the lock file is then already there, at its pinned version.
	$(BIN)/pip install --no-deps --require-hashes -r requirements.txt
	$(BIN)/pip install -r requirements-torch.txt
	$(BIN)/pip install --no-deps --no-build-isolation -e .
	@touch $@

install: $(INSTALLED) ## Make the virtual environment and install what is pinned

run: $(INSTALLED) ## Start the local stack, run the demonstration, keep serving (EXIT=1 ends after it, FRESH=1 wipes, DATA=file.jsonl)
	$(BIN)/perpetune demo $(demo_flags)

demo: run ## The same as run

up: $(INSTALLED) ## Start the local stack in the foreground; Ctrl-C stops it
	$(BIN)/perpetune up

down: $(INSTALLED) ## Stop the local stack from another terminal
	$(BIN)/python -m infra.local down

status: $(INSTALLED) ## Show the processes of the local stack
	$(BIN)/python -m infra.local status

# Most tests wait for processes; those that keep all cores busy come afterwards, one by one.
test: $(INSTALLED) ## Run all tests, or some: make test TESTS=tests/unit
ifdef TESTS
	$(BIN)/python -m pytest $(TESTS)
else
	$(BIN)/python -m pytest -m "not alone" -n auto --maxprocesses=4 --dist loadfile $(call junit,beside)
	$(BIN)/python -m pytest -m alone $(call junit,alone)
endif

# Everything a client of OpenAI's can ask, asked of a live stack (tests/conformance/REPORT.md); and what goes on between two
# stacks: a job trained by the other one, and a fine-tune that moves.
conformance: $(INSTALLED) ## Ask a live stack all that OpenAI's client can ask and write tests/conformance/REPORT.md
	CONFORMANCE=full CONFORMANCE_REPORT=tests/conformance/REPORT.md \
	  $(BIN)/python -m pytest tests/conformance -p no:randomly

# A page for those who decide whether to trust it: tests/faults/REPORT.md.
faults: $(INSTALLED) ## Do every fault at 20 seeded instants and write tests/faults/REPORT.md (SEED=n repeats a run)
	FAULTS=full FAULTS_SEED=$(SEED) FAULTS_REPORT=tests/faults/REPORT.md \
	  $(BIN)/python -m pytest tests/faults -m "not soak" -p no:randomly

faults-soak: $(INSTALLED) ## Do everything at once for ten minutes and write tests/faults/SOAK.md (SEED=n repeats a run)
	FAULTS=full FAULTS_SEED=$(SEED) FAULTS_REPORT=tests/faults/SOAK.md \
	  $(BIN)/python -m pytest tests/faults -m soak -p no:randomly

bench-audit: $(INSTALLED) ## Measure what the audit log costs and how fast it is checked
	$(BIN)/python -m tests.bench.audit

bench-bus: $(INSTALLED) ## Commands per second through the spine, beside plain Celery
	$(BIN)/python -m tests.bench.bus --durable

bench-bloat: $(INSTALLED) ## What a million messages do to the time it takes to claim one
	$(BIN)/python -m tests.bench.bloat

bench-semantic: $(INSTALLED) ## What the semantic level of an evaluation can tell, and what it cannot
	$(BIN)/python -m tests.bench.semantic

lint: $(INSTALLED) ## Check style and format
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .

format: $(INSTALLED) ## Format the code and repair what can be repaired
	$(BIN)/ruff check --no-cache --fix .
	$(BIN)/ruff format --no-cache .

types: $(INSTALLED) ## Check types
	$(BIN)/mypy

lock: $(INSTALLED) ## Write requirements.txt anew from pyproject.toml
	$(BIN)/python -m infra.lock

secrets: ## Make the secret files of docker-compose.yml that are missing
	@mkdir -p -m 0700 secrets && umask 077 && for name in $(SECRETS); do \
	  [ -e secrets/$$name ] || od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > secrets/$$name; \
	done
	@echo "The secrets are in ./secrets; containers read them as user 1000"

clean: ## Remove the virtual environment and caches; the state in .perpetune stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build ./*.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
