"""The names that users import, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

HEAVY = (
    "duckdb", "feast", "lightfm", "numpy", "pandas", "pyarrow", "scipy", "sentence_transformers", "sklearn", "torch",
)  # fmt: skip


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "package", ["recommender", "coldstart_client.client", "coldstart_udfs", "recommender.model", "recommender.cli"]
)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print(sorted(set(sys.modules) & set({HEAVY})))"
    assert python("-c", code) == "[]\n"


@pytest.mark.parametrize("package", ["recommender", "coldstart_client", "coldstart_udfs"])
def test_every_name_that_a_package_lists_is_there_and_no_other(package: str) -> None:
    module = __import__(package)
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match=f"has no attribute 'nothing'; it has .*{module.__all__[0]}"):
        _ = module.nothing


def test_one_import_gives_a_python_user_everything() -> None:
    from recommender import Entities, HybridRecommender, Interactions, describe, install_stubs, model, register
    from recommender.data import entities, interactions
    from recommender.sql import catalogue

    assert HybridRecommender is model.HybridRecommender
    assert (Entities, describe) == (entities.Entities, entities.describe)
    assert Interactions is interactions.Interactions
    assert (register, install_stubs) == (catalogue.register, catalogue.install_stubs)


def test_paths_in_users_files_lead_where_they_led() -> None:
    """They stand in registries, feature_store.yaml, dbt profiles and definitions, so they never move."""
    from coldstart_udfs import profile, settings
    from coldstart_udfs.feast import ColdStartDuckDBOfflineStore, ColdStartDuckDBOfflineStoreConfig, Enricher
    from coldstart_udfs.feast.ray import Embedding

    assert profile.Enrichment is settings.Enrichment
    for found in (Enricher, Embedding, ColdStartDuckDBOfflineStore, ColdStartDuckDBOfflineStoreConfig):
        assert isinstance(found, type)
    assert find_spec("coldstart_udfs.dbt")  # to import it takes dbt, which has an environment of its own


def test_the_command_line_is_recommender_cli_main(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recommender.cli import main

    monkeypatch.setattr("sys.argv", ["coldstart", "--help"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert "coldstart" in capsys.readouterr().out


def test_python_m_recommender_sql_writes_the_reference_of_both_catalogues() -> None:
    page = python("-m", "recommender.sql")
    assert page.startswith("# ")
    for function in ("embed(", "enrich(", "recommend(", "audience("):
        assert function in page
