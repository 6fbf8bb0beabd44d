"""How many buyers a new item may be expected to get, and how far that may be off."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from coldstart_udfs.errors import ColdStartError
from recommender.model.closed_form import MAP_RIDGE, leverages
from recommender.model.demand import KnownDemand
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.fitted import Maps
from recommender.model.recommender import HybridRecommender
from tests.support.made_up_shop import COLD_ITEMS, LAMP, events, made_up_shop, new, shared, trained


def features(n: int, columns: int, seed: int = 0) -> FeatureMatrix:
    """n items of unit embeddings, and a few words each."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, 4)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    words = sp.random(n, columns - 4, density=0.3, random_state=seed, format="csr", dtype=np.float32)
    return FeatureMatrix(dense, words)


@pytest.mark.parametrize("columns", [12, 90])  # more items than columns, and far fewer
def test_predictions_are_those_of_maps_that_have_not_seen_the_item(columns: int) -> None:
    given, rng = features(40, columns), np.random.default_rng(1)
    buyers = rng.poisson(np.exp(2 + given.dense[:, 0]))
    targets = np.log1p(buyers)[:, None].astype(np.float32)
    known = KnownDemand.of(given, Maps.fit(given, targets, MAP_RIDGE).of(given)[:, 0], buyers)
    apart = []
    for item in range(40):
        others = np.delete(np.arange(40), item)
        without = Maps.fit(given.take(others), targets[others], MAP_RIDGE).of(given.take(np.array([item])))
        apart.append(float(without[0, 0]))
    # Leaving an item out moves the mean too, and the penalty of the embeddings a little.
    np.testing.assert_allclose(known.predicted, np.sort(apart), atol=0.03)
    np.testing.assert_array_equal(np.sort(known.buyers), np.sort(buyers))


def test_leverages_are_those_of_the_textbook_by_either_form() -> None:
    for columns in (12, 200):
        given = features(50, columns)
        X = given.toarray().astype(np.float64)
        hat = X @ np.linalg.solve(X.T @ X + 3.0 * np.eye(columns), X.T)
        spread = float(given.dense.var(axis=0).sum())
        assert spread > 0.5  # no embedding is stretched
        np.testing.assert_allclose(leverages(given, 3.0, np.array([4, 0, 49])), np.diag(hat)[[4, 0, 49]], atol=1e-9)


def test_nine_of_ten_new_items_lie_in_the_interval_rare_and_popular_ones_alike() -> None:
    rng = np.random.default_rng(2)
    given = features(3_000, 20)
    # Popular items vary three times as much as rare ones.
    spread = np.where(given.dense[:, 0] > 0, 0.9, 0.3)
    buyers = np.exp(4 + 2 * given.dense[:, 0] + spread * rng.normal(size=3_000)).astype(np.int64)
    known, later = np.arange(2_000), np.arange(2_000, 3_000)
    maps = Maps.fit(given.take(known), np.log1p(buyers[known, None]).astype(np.float32), MAP_RIDGE)
    found = KnownDemand.of(given.take(known), maps.of(given.take(known))[:, 0], buyers[known])
    low, middle, high = found.intervals(maps.of(given.take(later))[:, 0], 0.9).T
    inside = (low <= buyers[later]) & (buyers[later] <= high)
    popular = given.dense[later, 0] > 0
    for group in (popular, ~popular):
        assert 0.86 <= inside[group].mean() <= 0.95
    assert np.log(high / low)[popular].mean() > 1.5 * np.log(high / low)[~popular].mean()
    assert 0.45 <= (buyers[later] <= middle).mean() <= 0.55


def test_a_wider_level_is_a_wider_interval_and_few_items_are_all_that_is_known() -> None:
    known = KnownDemand(np.arange(5.0), np.array([4, 1, 9, 2, 30]))
    asked = np.array([2.0, 99.0], np.float32)
    np.testing.assert_array_equal(known.intervals(asked, 0.9), [[1, 4, 30]] * 2)
    np.testing.assert_array_equal(known.intervals(asked[:1], 0.3), [[2, 4, 9]])


def test_items_with_buyers_have_their_number_and_new_ones_an_interval() -> None:
    model = shared()
    table = model.expected_demand(["i00", *COLD_ITEMS])
    counts = model.fitted.counts
    assert table.loc[0, ["item_id", "buyers", "low", "high", "tier"]].tolist() == ["i00", counts[0], *[counts[0]] * 2,
                                                                                   "warm"]  # fmt: skip
    for _, row in table.iloc[1:].iterrows():
        assert row["tier"] == "cold"
        assert row["low"] <= row["buyers"] <= row["high"]
        assert row["low"] < row["high"]
    np.testing.assert_array_equal(table["percentile"], model.score(None, table["item_id"].tolist())[0])


def test_a_new_item_is_asked_for_by_its_words_alone() -> None:
    table = shared().expected_demand(new("lamp model 77", LAMP))
    assert table["item_id"].tolist() == ["new"]
    assert table["low"][0] > 0
    assert table["tier"][0] == "cold"


@pytest.mark.parametrize("level", [0, 1, -0.5, 90])
def test_a_level_out_of_range_is_named(level: float) -> None:
    with pytest.raises(ColdStartError, match=f"level is {level}"):
        shared().expected_demand(COLD_ITEMS, level=level)


def test_an_item_that_is_bought_after_the_fit_has_its_buyers_at_once() -> None:
    model = trained()
    interactions, users, items = made_up_shop()
    assert model.expected_demand("i09")["tier"][0] == "cold"
    model.partial_fit(events(users, items, [(0, 9), (1, 9)]), users, items)
    assert model.expected_demand("i09").loc[0, ["buyers", "low", "high"]].tolist() == [2, 2, 2]
    assert len(interactions.item_ids) == 20


def test_an_interval_survives_a_bundle(tmp_path: object) -> None:
    shared().save(f"{tmp_path}/bundle")
    read = HybridRecommender.load(f"{tmp_path}/bundle").expected_demand(COLD_ITEMS)
    assert read.equals(shared().expected_demand(COLD_ITEMS))
