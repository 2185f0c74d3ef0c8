PYTHON    ?= python3
VENV      ?= .venv
# What pip installs: the editable package, or in CI the package as a user gets it.
PACKAGE   ?= -e ".[dev]"
TRAIN     ?= env=cartpole method=lambda
PYTEST    ?=
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

BIN     := $(abspath $(VENV))/bin
STAMP   := $(VENV)/.installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

CHECK_PYTHON := import sys; \
	sys.version_info >= (3, 10) or sys.exit("equirl needs Python 3.10 or newer, \
	not %d.%d: make PYTHON=python3.12" % sys.version_info[:2])
CHECK_VENV := import ensurepip, venv
# The alarm bounds name look-up and every address tried, which a socket timeout does not.
PROBE := import signal, urllib.request; signal.alarm(4); \
	urllib.request.urlopen("$(TORCH_CPU)/torch/")

.PHONY: help setup train test lint clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## create .venv with pinned dependencies (the other targets do it too)

train: $(STAMP) ## train on CartPole; another run: make train TRAIN="env=acrobot method=equizero"
	$(BIN)/equirl train $(TRAIN)

test: $(STAMP) ## run the tests; pytest's options: make test PYTEST="-m slow"
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal $(PYTEST)

# mypy cannot see through an editable install, so it is given an installed copy.
lint: $(STAMP) ## ruff, and mypy --strict on an installed copy of the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build $(VENV)/typed
	$(INSTALL) --no-deps --no-build-isolation --target $(VENV)/typed .
	cd $(VENV)/typed && $(BIN)/mypy --strict --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache -p equirl

clean: ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A torch that is already there is kept by the second pip; else that one takes PyPI's build.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	@$(PYTHON) -c '$(CHECK_VENV)' 2>/dev/null || { \
		echo "$(PYTHON) lacks the venv module (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@if nvidia-smi -L >/dev/null 2>&1; then \
		echo "NVIDIA GPU found: PyTorch comes from PyPI, with CUDA"; \
	elif $(PYTHON) -c '$(PROBE)' >/dev/null 2>&1 && \
		$(INSTALL) --no-deps --index-url $(TORCH_CPU) torch; then \
		echo "no NVIDIA GPU: PyTorch's CPU build installed"; \
	else \
		echo "no CPU build to be had from $(TORCH_CPU): PyTorch comes from PyPI"; \
	fi
	$(INSTALL) $(PACKAGE)
	@touch $@
