"""A user who is new here and known in a linked shop, as the service answers them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from coldstart_udfs.link import link_folder
from recommender.model.linked import LinkedRecommender
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.linking import BROUGHT_BACK, link
from recommender.serve.store import OTHER_LINK
from tests.support.small_shop import LAST, apply

Client = Any


@pytest.fixture(scope="module")
def shop(served_shop: Path, unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The served shop, linked to a shop of other people with the same encoder: eve looked at lamps there."""
    folder = tmp_path_factory.mktemp("linked")
    source, target = folder / "source", folder / "target"
    shutil.copytree(unapplied_shop, source)
    shutil.copytree(served_shop, target)
    profiles = source / "feature_repo" / "data" / "user_profiles.parquet"
    with duckdb.connect() as con:
        # The profiles of the first shop, under names that the second one does not know.
        con.execute(
            f"CREATE TABLE p AS SELECT * REPLACE (CASE user_id WHEN 'ann' THEN 'eve' ELSE user_id || ' there' END "
            f"AS user_id) FROM '{profiles}'"
        )
        con.execute(f"COPY p TO '{profiles}' (FORMAT parquet)")
        con.execute("COPY (SELECT DISTINCT user_id, NULL::VARCHAR AS description, true AS share FROM p) "
                    f"TO '{source / 'data' / 'users.parquet'}' (FORMAT parquet)")  # fmt: skip
    return target


@pytest.fixture(scope="module")
def linked(shop: Path, monkeypatch_module: pytest.MonkeyPatch) -> Path:
    # Four users are too few to learn a map from, and too few to say that it helps.
    monkeypatch_module.setattr("recommender.pipeline.linking.FEWEST", 2)
    link(shop.parent / "source", shop)
    apply(shop / "feature_repo").materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    return shop


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def answer(client: Client, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_profile_made_in_one_shop_serves_the_other(linked: Path, start: Callable[..., Client]) -> None:
    client = start(linked)
    model = LinkedRecommender(HybridRecommender.load(linked / "data" / "bundle"), linked / "feature_repo")
    if not model.link.about.strength:
        pytest.fail("the map of this shop must help, or the test says nothing")
    got, expected = answer(client, "/v1/recommend", user_id="eve", explain=True), model.recommend("eve", explain=True)
    assert (got["tier"], got["degraded"]) == ("linked", None)
    assert [one["item_id"] for one in got["items"]] == expected["item_id"].tolist()
    np.testing.assert_allclose([one["score"] for one in got["items"]], expected["score"], atol=1e-4)
    assert [one["because"] for one in got["items"]] == expected["because"].tolist()
    assert {one["reason"] for one in got["items"]} == {"model"}
    best = got["items"][0]
    explained = answer(client, "/v1/explain", user_id="eve", item_id=best["item_id"])
    assert explained["tier"] == "linked"
    assert explained["score"] == pytest.approx(best["score"], abs=1e-4)
    assert [one["kind"] for one in explained["terms"]].count("link") == 1
    # An event of the session makes a history here, and people who are known here are ranked as before.
    assert answer(client, "/v1/recommend", user_id="eve", session=[{"item_id": "mug"}])["tier"] == "warm"
    assert answer(client, "/v1/recommend", user_id="ann")["tier"] == "warm"
    assert {answer(client, "/v1/recommend", **who)["tier"] for who in ({"user_id": "who"}, {})} == {"unknown"}


def test_who_is_erased_in_the_other_shop_is_a_stranger_at_once(
    linked: Path, start: Callable[..., Client], tmp_path: Path
) -> None:
    from recommender.pipeline.linking import erase_from_targets

    shop = tmp_path / "target"
    shutil.copytree(linked, shop)
    store = apply(shop / "feature_repo")
    store.materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    client = start(shop)
    assert answer(client, "/v1/recommend", user_id="bob there")["tier"] == "linked"
    data = tmp_path / "data"
    data.mkdir()
    (data / "links.json").write_text(f'{{"targets": ["{shop}"]}}')
    erase_from_targets(data, "bob there")
    assert answer(client, "/v1/recommend", user_id="bob there")["tier"] == "unknown"


def test_who_is_erased_here_is_told_that_the_next_link_brings_them_back(
    linked: Path, start: Callable[..., Client], tmp_path: Path
) -> None:
    shop = tmp_path / "target"
    shutil.copytree(linked, shop)
    apply(shop / "feature_repo").materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    client = start(shop)
    receipt = client.delete("/v1/users/eve").json()
    assert BROUGHT_BACK in receipt["remains"]
    assert answer(client, "/v1/recommend", user_id="eve")["tier"] == "unknown"


def test_a_link_that_is_not_applied_or_damaged_degrades_answers(
    linked: Path, start: Callable[..., Client], tmp_path: Path
) -> None:
    shop = tmp_path / "target"
    shutil.copytree(linked, shop)
    (link_folder(shop / "feature_repo") / "link.json").write_text("{}")
    got = answer(start(shop), "/v1/recommend", user_id="eve")
    assert (got["tier"], got["degraded"]) == ("unknown", OTHER_LINK)
