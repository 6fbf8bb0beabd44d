# `make demo` and `make test` set up .venv from the pinned constraints first; nothing else is needed but
# Python 3.11 to 3.13, git and, on Python 3.11, a C compiler.

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all check clean

demo: $(VENV)/.installed
	@$(BIN)/coldstart demo

test: $(VENV)/.installed
	@$(BIN)/python -m pytest -m "not slow"
	@$(BIN)/python -m pytest --doctest-modules coldstart_udfs recommender -q

test-all: $(VENV)/.installed
	@$(BIN)/python -m pytest

# Lint, formatting of imports, types.
check: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt setup.sh
	@sh setup.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) data feature_repo/data .pytest_cache .mypy_cache .ruff_cache
