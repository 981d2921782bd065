# Everything for a fresh Debian 12, Ubuntu 22.04 or macOS machine with Python 3.11 or newer:
#   make run       set up what is missing, then open the window
#   make test      set up what is missing, then run every check (.ci/run does just this)
#   make lint | doctor | bench | venv | desktop | clean
# Settings: PYTHON=python3.12, VENV=.venv, TORCH_INDEX=auto|none|ADDRESS (see .ci/prepare.py), TESTS=tests/ui

VENV ?= .venv
TESTS ?= tests
PY = $(VENV)/bin/python
NEEDS = pyproject.toml .ci/constraints.txt .ci/prepare.py workbench/platform_checks.py

# Waiting OpenMP threads give their core back: training beside a live window is 20 times slower without.
export OMP_WAIT_POLICY ?= PASSIVE
export VENV PYTHON TORCH_INDEX

.PHONY: run test lint doctor bench venv desktop clean
.DEFAULT_GOAL = run

$(VENV)/.ready-%: $(NEEDS)
	@python=$$(sh .ci/find-python) && "$$python" .ci/prepare.py $*

run: $(VENV)/.ready-run
	@$(PY) -m workbench.library fetch starter >/dev/null || echo "The window opens without the starter model."
	@$(PY) -m ui

test: $(VENV)/.ready-test
	@$(PY) -m workbench.library fetch starter >/dev/null
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@if [ "$$(uname)" = Linux ]; then \
		echo "The smoke set in real windows (Xvfb):"; \
		QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1400x900x24" $(PY) -m pytest -q --no-header -m xvfb $(TESTS) || [ $$? -eq 5 ]; \
	fi
	@QT_QPA_PLATFORM=offscreen $(PY) -m pytest -q --no-header $(TESTS)

lint: $(VENV)/.ready-test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

doctor: $(VENV)/.ready-run
	@$(PY) -m workbench doctor

bench: $(VENV)/.ready-test
	@for what in decode prefill train cache ui; do $(PY) -m workbench bench $$what || exit 1; done

venv: $(VENV)/.ready-test
	@:

# An entry in the Linux desktop's menu that starts this checkout.
MENU = $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/applications
desktop: $(VENV)/.ready-run
	@mkdir -p "$(MENU)"
	@sed 's|^Exec=.*|Exec="$(abspath $(VENV))/bin/llm-workbench"|; s|^Icon=.*|Icon=$(CURDIR)/resources/icons/app.svg|' \
		resources/desktop/llm-workbench.desktop > "$(MENU)/llm-workbench.desktop"
	@echo "$(MENU)/llm-workbench.desktop"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
