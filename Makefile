# `make demo` and `make test` set up .venv from the pinned constraints first; nothing else is needed but
# Python 3.11 to 3.13, git and, on Python 3.11, a C compiler.

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all bench-encoder check clean

demo: $(VENV)/.installed
	@$(BIN)/coldstart demo

test: $(VENV)/.installed
	@$(BIN)/python -m pytest -m "not slow"
	@$(BIN)/python -m pytest --doctest-modules coldstart_udfs recommender -q

test-all: $(VENV)/.installed-all
	@$(BIN)/python -m pytest

# Measures on this machine and writes docs/performance.md; takes some minutes and wants the machine to itself.
bench-encoder: $(VENV)/.installed-all
	@$(BIN)/python benchmarks/bench_encoder.py

# Lint, formatting of imports, types.
check: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt setup.sh
	@sh setup.sh $(VENV)
	@touch $@

# What only slow tests and benchmarks need.
$(VENV)/.installed-all: $(VENV)/.installed
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --editable '.[dev,ray,bench]'
	@touch $@

clean:
	rm -rf $(VENV) data feature_repo/data .pytest_cache .mypy_cache .ruff_cache
