"""A registry that an earlier release wrote goes on serving.

`tests/fixtures/registry-before-the-move.db` was written by `feast apply` of the template when the modules had other
places: what it names (`coldstart_udfs.feast.Enricher`, the store's class in feature_store.yaml) must still be there.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feast import FeatureStore

from coldstart_udfs.feast.operations.stores import open_store
from tests.support.commands import ROOT
from tests.support.small_shop import ITEMS, LAST, USERS, apply, history

REGISTRY = ROOT / "tests" / "fixtures" / "registry-before-the-move.db"
Answers = dict[str, list[Any]]


@pytest.fixture(scope="module")
def now(unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """The small shop under the template as it is now."""
    shop = tmp_path_factory.mktemp("older") / "shop"
    shutil.copytree(unapplied_shop, shop)
    apply(shop / "feature_repo").materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    return open_store(shop / "feature_repo")


@pytest.fixture(scope="module")
def before(now: FeatureStore) -> FeatureStore:
    """A copy of it with the older registry in place of its own: as after an upgrade without `feast apply`."""
    repo = Path(now.repo_path)
    copy = repo.parent / "upgraded" / repo.name
    shutil.copytree(repo, copy)
    shutil.copy(REGISTRY, copy / "data" / "registry.db")
    return open_store(copy)


def same(found: Answers, expected: Answers) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        for value, wanted in zip(found[name], values, strict=True):
            if isinstance(wanted, float | list) and name not in ("user_attributes", "item_attributes"):
                np.testing.assert_allclose(value, wanted, atol=1e-6, err_msg=name)
            else:
                assert value == wanted, name


def test_it_lists_what_the_template_defines(before: FeatureStore, now: FeatureStore) -> None:
    for kind in ("entities", "feature_views", "on_demand_feature_views", "feature_services"):
        names = [{one.name for one in getattr(store, f"list_{kind}")()} for store in (before, now)]
        assert names[0] == names[1]
        assert names[0], kind


def test_words_in_the_request_give_the_same_numbers(before: FeatureStore, now: FeatureStore) -> None:
    rows = [{"user_id": name, "request_description": text} for name in (*USERS, "nobody")
            for text in ("a red lamp", None)]  # fmt: skip
    answers = [
        store.get_online_features(store.get_feature_service("coldstart_request"), rows).to_dict()
        for store in (before, now)
    ]
    assert len(answers[0]["user_enriched_profile"][0]) == 384
    assert answers[0]["user_is_cold"][-2:] == [True, True]
    same(*answers)


def test_stored_features_of_users_and_items_are_enriched_alike(before: FeatureStore, now: FeatureStore) -> None:
    rows = [{"user_id": user, "item_id": item} for user, item in zip(USERS, ITEMS, strict=True)]
    answers = [
        store.get_online_features(store.get_feature_service("coldstart_serving"), rows).to_dict()
        for store in (before, now)
    ]
    assert np.linalg.norm(answers[0]["item_enriched_profile"], axis=1).all()
    same(*answers)


def test_history_is_enriched_alike(before: FeatureStore, now: FeatureStore) -> None:
    asked = [(name, LAST - timedelta(days=days)) for name in USERS for days in (0, 30)]
    found, expected = (
        {name: [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
         for name, values in history(store, *asked).items() if name.startswith("user_enriched")}
        for store in (before, now)
    )  # fmt: skip
    assert {"user_enriched_profile", "user_enriched_cosine"} <= found.keys()
    same(found, expected)
