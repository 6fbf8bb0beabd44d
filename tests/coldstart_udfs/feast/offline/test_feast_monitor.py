"""`feast monitor` on the template: stored features, and what the quality service served, by the README's own job."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from coldstart_udfs.feast.operations.stores import open_store
from tests.support.commands import ROOT, must

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def repo(shop: Path) -> Path:
    """A copy, because monitoring writes beside the definitions."""
    repo = shop / "monitored" / "feature_repo"
    shutil.copytree(shop / "feature_repo", repo, ignore=shutil.ignore_patterns("*.db", "__pycache__"))
    must("feast", "-c", repo, "apply", cwd=shop)
    must("feast", "-c", repo, "materialize", "2010-01-01T00:00:00", "2012-01-01T00:00:00", cwd=shop)
    return repo


def measured(repo: Path, kind: str) -> dict[str, dict[str, Any]]:
    with duckdb.connect() as con:
        table = repo / "feast_monitoring" / "feast_monitoring_feature_metrics.parquet"
        found = con.sql(f"FROM '{table}' WHERE data_source_type = '{kind}'")
        names = [column.lower() for column in found.columns]
        return {row[names.index("feature_name")]: dict(zip(names, row, strict=True)) for row in found.fetchall()}


def test_what_was_served_is_watched_through_the_log(repo: Path, shop: Path) -> None:
    page = (ROOT / "feature_repo" / "README.md").read_text()
    (job,) = re.findall(r"```python\n(from datetime import UTC, datetime\n\nimport pyarrow.*?)```", page, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(job, namespace)
    with duckdb.connect() as con:
        query = f"SELECT user_id, description IS NOT NULL FROM '{shop}/data/users.parquet' ORDER BY 1 LIMIT 99"
        rows = con.sql(query).fetchall()
    users = [name for name, _ in rows] + ["nobody"]
    namespace["log_served"](str(repo), users, ["none"] * 100)

    options = ("--source-type", "log", "--feature-service", "coldstart_quality")
    must("feast", "-c", repo, "monitor", "run", *options, cwd=shop)
    found = measured(repo, "log")
    assert found["user_embedding_norm"]["mean"] == pytest.approx(sum(said for _, said in rows) / 100, abs=1e-6)
    assert 0 < found["user_enriched_cosine"]["mean"] <= 1
    assert found["user_enriched_cosine"]["null_count"] == 1
    assert '"value": "true", "count": 1' in found["user_is_cold"]["histogram"]


def test_stored_features_are_watched_and_vectors_are_passed_over(repo: Path, shop: Path) -> None:
    store = open_store(repo)
    assert store.list_feature_views()
    must("feast", "-c", repo, "monitor", "run", "--feature-view", "user_profiles", cwd=shop)
    found = measured(repo, "batch")
    assert found["user_evidence"]["min_val"] >= 1
    assert "user_profile" not in found
