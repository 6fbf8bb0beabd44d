"""The small shop, applied and materialised, for each test anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from feast import FeatureStore

from coldstart_udfs.feast.operations.stores import open_store
from tests.support.small_shop import LAST, apply


@pytest.fixture
def make_shop(unapplied_shop: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of that shop, applied and materialised, with another online store if one is given."""

    def make(online: str | None = None) -> Path:
        # Copied before it is applied: a registry keeps the place of its online store.
        shop = tmp_path / "shop"
        shutil.copytree(unapplied_shop, shop)
        repo = shop / "feature_repo"
        if online:
            config = (repo / "feature_store.yaml").read_text()
            start, end = config.index("online_store:"), config.index("entity_key_serialization_version")
            (repo / "feature_store.yaml").write_text(config[:start] + online + config[end:])
        apply(repo).materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
        return shop

    return make


@pytest.fixture
def small(make_shop: Callable[..., Path]) -> Path:
    return make_shop()


@pytest.fixture
def store(small: Path) -> FeatureStore:
    return open_store(small / "feature_repo")
