# `make demo` and `make test` set up .venv from the pinned constraints first; nothing else is needed but
# Python 3.11 to 3.13, git and, on Python 3.11, a C compiler.

VENV := .venv
BIN := $(VENV)/bin

# The SQL tests run on older releases of DuckDB too: the long-term one, which is the oldest that works, and the last of 1.x.
DUCKDB_OLDEST := 1.4.5
DUCKDB_BEFORE := 1.5.6
SQL_TESTS := tests/coldstart_udfs/sql tests/coldstart_udfs/tabular tests/recommender/data tests/coldstart_udfs/text/test_generated_texts.py \
	tests/coldstart_udfs/text/test_coverage.py tests/docs/test_sql_recipes.py tests/recommender/sql tests/recommender/cli/test_shell.py

# What runs everywhere and within minutes, in WORKERS processes; the tests of a file stay in one of them.
WORKERS := 2
EVERYDAY := -n $(WORKERS) --dist loadfile -m "not slow and not service"

.PHONY: setup demo test test-services test-all test-matrix test-duckdb-oldest test-duckdb-before test-feast-universal \
	bench-encoder bench-languages bench-sql bench-text bench-feast bench-scale bench-serve bench-soak bench-adapting \
	bench-pictures bench-classify bench-experiments bench-replay bench-interview bench-helpdesk bench-feed bench-feed-put \
	bench-tuning bench-prior bench-link bench-rating bench-annotation bench-facts bench-ads bench-exploration \
	bench-recommender docs docs-serve check clean

setup: $(VENV)/.installed

demo: $(VENV)/.installed
	@$(BIN)/coldstart demo

test: $(VENV)/.installed
	@$(BIN)/python -m pytest $(EVERYDAY)
	@$(BIN)/python -m pytest --doctest-modules coldstart_client coldstart_udfs recommender --ignore=coldstart_udfs/dbt.py --ignore=recommender/serve/events/migrations -q

# Tests that start real servers and tools: Redis and PostgreSQL (redis-server and postgresql have to be there), feast serve, dbt, notebooks.
test-services: $(VENV)/.installed $(VENV)/dbt/.installed
	@$(BIN)/python -m pytest -m "service and not slow"

test-all: $(VENV)/.installed-all $(VENV)/dbt/.installed $(VENV)/mlflow/.installed test-duckdb-oldest test-duckdb-before
	@$(BIN)/python -m pytest

test-matrix: $(VENV)/.installed test-duckdb-oldest test-duckdb-before
	@$(BIN)/python -m pytest $(EVERYDAY) $(SQL_TESTS)

test-duckdb-oldest: $(VENV)/duckdb-$(DUCKDB_OLDEST)/.installed
	@PYTHONPATH=$(CURDIR)/$(<D) $(BIN)/python -m pytest $(EVERYDAY) $(SQL_TESTS)

test-duckdb-before: $(VENV)/duckdb-$(DUCKDB_BEFORE)/.installed
	@PYTHONPATH=$(CURDIR)/$(<D) $(BIN)/python -m pytest $(EVERYDAY) $(SQL_TESTS)

# Feast's own tests of offline stores, with its DuckDB store and with ours: make test-feast-universal SUITE=a checkout of Feast
test-feast-universal: $(VENV)/feast-universal/.installed
	@$(VENV)/feast-universal/bin/python tests/feast_universal/compare.py $(SUITE)

# These measure on this machine and write their section of docs/explanation/performance.md; they take minutes and want it to themselves.
bench-encoder: $(VENV)/.installed-all
	@$(BIN)/python benchmarks/bench_encoder.py

# Needs folders of data sets: DATA= names the folder that holds polis-vtaiwan, polis-austria and grocery-store.
bench-languages: $(VENV)/.installed-all
	@$(BIN)/python benchmarks/bench_languages.py $(DATA)

bench-sql: $(VENV)/.installed-all $(VENV)/duckdb-$(DUCKDB_BEFORE)/.installed
	@$(BIN)/python benchmarks/bench_sql.py $(CURDIR)/$(VENV)/duckdb-$(DUCKDB_BEFORE)

bench-text: $(VENV)/.installed
	@$(BIN)/python benchmarks/bench_text.py

bench-feast: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_feast.py

# The whole path at growing sizes; SIZES="100000 1000000" chooses them. An interrupted run continues.
bench-scale: $(VENV)/.installed
	@$(BIN)/python benchmarks/bench_scale.py $(SIZES)

# `coldstart serve` under load, for a shop in whose folder `make demo` has run: SHOP= is another folder than this one.
bench-serve: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_serve.py $(SHOP)

# The same for MINUTES= under reads and events: errors, and memory over time.
MINUTES := 10
bench-soak: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_soak.py $(or $(SHOP),$(CURDIR)) $(MINUTES)

# Simulates shops whose parameters adapt; a few minutes. Writes docs/explanation/adapting.md.
bench-adapting: $(VENV)/.installed
	@$(BIN)/python benchmarks/bench_adapting.py

# Pictures of products; DATA= names the folder that holds grocery-store. Writes its section of docs/explanation/pictures.md; minutes.
bench-pictures: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_pictures.py $(DATA)

# Labels from a few examples: its sections of docs/explanation/classification.md, from banking77 and clinc150 in DATA=. Minutes; SETS=banking77 chooses one.
bench-classify: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_classify.py --data-dir $(DATA) $(if $(SETS),--sets $(SETS)) $(if $(DRAWS),--draws $(DRAWS))

# Simulates experiments: false positives and the users that they need; minutes.
bench-experiments: $(VENV)/.installed
	@$(BIN)/python benchmarks/bench_experiments.py

# Off-policy estimates on 1,000 made-up logs and on Open Bandit's samples; writes docs/explanation/replay.md.
bench-replay: $(VENV)/.installed-all
	@$(BIN)/python benchmarks/bench_replay.py

# Questions to new users: writes its section of docs/explanation/interview.md, from the data sets in DATA=, a folder of folders.
bench-interview: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_interview.py --data-dir $(DATA) $(if $(SETS),--sets $(SETS)) $(if $(DRAWS),--draws $(DRAWS))

# Who answers a question, and what a conversation is about: writes its sections of docs/explanation/helpdesk.md.
bench-helpdesk: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_helpdesk.py $(DATA)

# A feed replayed in time, from the data sets in DATA=, a folder of folders: writes its sections of docs/explanation/feed.md.
bench-feed: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_feed.py --data-dir $(DATA) $(if $(SETS),--sets $(SETS))

# Seconds until every worker lists a new article, for a shop in whose folder `coldstart demo feed` has run.
bench-feed-put: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_feed_put.py $(or $(SHOP),$(CURDIR)/data/feed)

# Encoders before and after `coldstart encoder tune`: writes its section of docs/explanation/tuning.md. An interrupted run continues.
bench-tuning: $(VENV)/.installed-all
	@$(BIN)/python -W ignore benchmarks/bench_tuning.py --data-dir $(DATA) $(if $(SETS),--sets $(SETS)) $(if $(SEEDS),--seeds $(SEEDS))

# Priors for small shops, one domain left out at a time: writes docs/explanation/priors.md and the public prior, from the data
# sets in DATA=, a folder of folders. About an hour; an interrupted run continues.
bench-prior: $(VENV)/.installed-all
	@$(BIN)/python -W ignore benchmarks/bench_prior.py --data-dir $(DATA)

# Links between two shops: writes its section of docs/explanation/linking.md, from complete-journey and grocery-store in DATA=.
bench-link: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_link.py --data-dir $(DATA)

# Intervals of the buyers of new items: its section of docs/explanation/ratings.md, from the data sets in DATA=, a folder of folders.
bench-rating: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_rating.py --data-dir $(DATA) $(if $(SETS),--sets $(SETS))

# What labels of `coldstart annotate` bring on new items: its section of docs/how-to/annotate.md, from the data sets in DATA=.
bench-annotation: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_annotation.py --data-dir $(DATA)

# What facts add to attributes, on new items: its sections of docs/explanation/facts.md. DATA has Complete Journey and shops with a table facts.
bench-facts: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_facts.py --data-dir $(DATA) $(if $(SETS),--sets $(SETS)) $(if $(SEEDS),--seeds $(SEEDS))

# Who redeems coupons of a campaign: its section and plot in docs/explanation/advertising.md, from complete-journey in DATA=.
bench-ads: $(VENV)/.installed
	@$(BIN)/python -W ignore benchmarks/bench_ads.py --data-dir $(DATA)

# Exploration of new items, simulated on the tables and the bundle of a shop: its section and plot in docs/explanation/exploration.md.
bench-exploration: $(VENV)/.installed-all
	@$(BIN)/python -W ignore benchmarks/bench_exploration.py $(or $(SHOP),$(CURDIR))

# Writes docs/explanation/quality.md, from Online Retail, and from the data sets in DATA=, a folder of folders, if it is given.
# SETS="online-retail polis-austria" chooses data sets; SEEDS= and TUNING= are those of `coldstart evaluate`, ONLY= is a section.
bench-recommender: $(VENV)/.installed-all $(VENV)/rectools/.installed
	@$(BIN)/python -W ignore benchmarks/bench_recommender.py $(if $(DATA),--data-dir $(DATA)) \
		$(if $(SETS),--sets $(SETS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(TUNING),--tuning $(TUNING)) $(if $(ONLY),--only $(ONLY))

# The documentation: reference pages from the code, then the site in docs/_build. A broken link is an error.
docs: $(VENV)/.installed
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build
	@echo "The documentation is in docs/_build/index.html."

# Shows it at http://localhost:8000; PORT= chooses another port.
PORT := 8000
docs-serve: docs
	@$(BIN)/python -m http.server --bind localhost --directory docs/_build $(PORT)

# Lint, formatting of imports, types; weak points and secrets in the code. A line that is no secret says so above it.
check: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/bandit -q -c pyproject.toml -r coldstart_client coldstart_udfs recommender
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

$(VENV)/.installed: pyproject.toml constraints.txt setup.sh
	@sh setup.sh $(VENV)
	@touch $@

# What only slow tests and benchmarks need.
$(VENV)/.installed-all: $(VENV)/.installed
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --editable '.[dev,notebook,ray,bench]'
	@touch $@

# Another DuckDB beside the one in the environment: what stands on PYTHONPATH is found first.
$(VENV)/duckdb-%/.installed: $(VENV)/.installed
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --upgrade --target $(@D) duckdb==$*
	@touch $@

# dbt wants other versions of protobuf and pathspec than the rest: an environment with what SQL needs, and dbt.
$(VENV)/dbt/.installed: $(VENV)/.installed examples/dbt_shop/requirements.txt
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check -r examples/dbt_shop/requirements.txt
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

# What copies records of runs to MLflow runs beside MLflow alone.
$(VENV)/mlflow/.installed: $(VENV)/.installed examples/mlflow/requirements.txt
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check -r examples/mlflow/requirements.txt
	@touch $@

# Feast's tests pin another pytest.
$(VENV)/feast-universal/.installed: $(VENV)/.installed tests/feast_universal/requirements.txt
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check -r tests/feast_universal/requirements.txt
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

# RecTools wants NumPy below 2 on Python 3.11.
$(VENV)/rectools/.installed: $(VENV)/.installed
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check rectools==0.19.0 lightfm-next==1.19.0
	@touch $@

.PRECIOUS: $(VENV)/duckdb-%/.installed

clean:
	rm -rf $(VENV) data docs/_build feature_repo/data .pytest_cache .mypy_cache .ruff_cache
