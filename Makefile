# `make demo` and `make test` do everything on a fresh machine that has Python 3.11 or newer, virtual environment included.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	$(BIN)/memctx demo

test: export OMP_NUM_THREADS = 1
test: export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
test: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n 2

# A stamp is written only after its install succeeded, so an interrupted one is taken up again.
$(VENV)/demo.stamp: pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[langgraph]"
	touch $@

# torch first and by itself: another build of it is chosen by `make test TORCH="torch --index-url ..."`.
$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	$(PIP) $(TORCH)
	$(PIP) --editable ".[dev]"
	touch $(VENV)/demo.stamp $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
