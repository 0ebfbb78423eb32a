# Everything runs in .venv, which the first target that needs it makes from requirements.lock.
PYTHON ?= $(or $(shell cat .venv/.python 2>/dev/null),python3)
EXTRA ?= $(shell cat .venv/.extra 2>/dev/null)
BIN := .venv/bin
READY := .venv/.ready
FAIL = { echo "jaxnn:$(1)" >&2; exit 1; }
# uv is fast, but knows neither pip's settings nor, on its own, the system's certificates: what it cannot fetch, pip tries
UV = UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
PIP = $(BIN)/python -m pip install --quiet --retries 1
REASON = $$({ grep -m 1 -iE 'certificate|connection|refused|timed out|no space|no matching' setup.log || tail -n 1 setup.log; } | sed 's/^ *//')
NO_PACKAGES = cannot install the packages: $(REASON) (setup.log has all)
INSTALL = { $(UV) $(1) || { echo "uv failed, now pip" && $(PIP) $(1); }; } >setup.log 2>&1 || $(call FAIL, $(NO_PACKAGES))

ifneq ($(filter-out cuda tpu,$(EXTRA)),)
$(error jaxnn: there is no EXTRA=$(EXTRA): cuda or tpu)
endif
# an interpreter other than the one that .venv was made with makes it anew; another extra is installed beside
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
ifneq ($(PYTHON),$(shell cat .venv/.python 2>/dev/null))
.PHONY: $(READY)
CLEAR := --clear
endif
endif
ifneq ($(strip $(EXTRA)),$(strip $(shell cat .venv/.extra 2>/dev/null)))
.PHONY: $(READY)
endif

.PHONY: help setup experiment experiments test guide docs bench check check-full format lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

setup: $(READY)  ## make .venv; PYTHON=python3.12 picks the interpreter, EXTRA=cuda or EXTRA=tpu adds an accelerator

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c '' 2>/dev/null || $(call FAIL, no Python runs as '$(PYTHON)': say which one with PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  $(call FAIL, $(PYTHON) is $$($(PYTHON) --version 2>&1) but 3.11 or newer is needed: name one with PYTHON=python3.12)
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  $(call FAIL, $(PYTHON) lacks the venv module: install it (Debian and Ubuntu: apt install python3-venv) or name another with PYTHON=)
	@echo "jaxnn: making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(CLEAR) .venv 2>setup.log || $(call FAIL, cannot make .venv; the reason is in setup.log)
	@$(PIP) -c requirements.lock uv >setup.log 2>&1 || $(call FAIL, $(NO_PACKAGES))
	@$(call INSTALL, -r requirements.lock $(if $(strip $(EXTRA)),".[$(EXTRA)]"))
	@$(call INSTALL, --no-deps --no-build-isolation -e .)
	@rm -f setup.log && echo '$(PYTHON)' >.venv/.python && echo '$(EXTRA)' >.venv/.extra && touch $@

experiment: $(READY)  ## run one: make experiment NAME=mnist_cnn ARGS="--epochs 3"
	@$(BIN)/python -m experiments $(NAME) $(ARGS)

experiments: $(READY)  ## list the experiments, with the time that each takes on 2 CPU cores
	@$(BIN)/python -m experiments --list

test: $(READY)  ## the tests
	@$(BIN)/python -m pytest $(ARGS)

guide: $(READY)  ## run every experiment and write the guided pages in docs (half an hour); ARGS=--render only writes them
	@$(BIN)/python docs/guide.py $(ARGS)

docs: $(READY)  ## build the site in docs/_build; ARGS=serve shows it on http://localhost:8000
	@$(BIN)/python docs/api.py
	@$(BIN)/sphinx-build -q -W -E --keep-going docs docs/_build
	@if [ "$(ARGS)" = serve ]; then $(BIN)/python -u -m http.server --bind localhost --directory docs/_build; fi

bench: .venv-bench/.ready  ## race against PyTorch, Flax and NumPy, in an environment of its own; ARGS=step runs one race alone
	@.venv-bench/bin/python -m benchmarks $(ARGS)

.venv-bench/.ready: requirements.lock benchmarks/requirements.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install -q -r requirements.lock -r benchmarks/requirements.txt
	@.venv-bench/bin/python -m pip install -q --no-deps --no-build-isolation -e . && touch $@

check: $(READY)  ## format, lint, types
	@$(BIN)/ruff format --check --quiet . || $(call FAIL, not formatted: make format)
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/pyrefly check --summary=none

check-full: $(READY)  ## the long checks, of what is committed (WORDS="..." picks those whose titles have a word of these)
	@$(BIN)/python tests/check_full.py $(WORDS)

format: $(READY)  ## format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet --output-format concise . ; $(BIN)/ruff format --quiet .

lock: $(READY)  ## solve requirements.lock anew from pyproject.toml, for every Python and platform at once
	@UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev \
	  --no-annotate --no-header pyproject.toml -o requirements.lock

clean:  ## remove .venv and what the tools left (runs/ stays)
	@rm -rf .venv .venv-bench docs/_build .pytest_cache .ruff_cache setup.log *.egg-info
	@find . -name __pycache__ -prune -exec rm -rf {} +
