"""What an item gains by its age: worked out by hand, the same through every door."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.freshness import Births
from recommender.model.parameters import Parameters
from recommender.model.ranking import Rules
from recommender.model.recommender import HybridRecommender
from recommender.model.revising import described
from recommender.model.single import block_of, ranked
from recommender.model.weights import Weights
from tests.support.made_up_shop import LAMP, entities, made_up_shop, new, only, trained

LAST = np.datetime64("2024-03-01", "us")
FRESH = {"freshness": 2.0, "freshness_half_life": 4.0}
CAME = LAST - np.arange(20).astype("timedelta64[D]")


def fresh_shop(weights: Weights | None = None) -> HybridRecommender:
    """Item n came n days before the last interaction."""
    interactions, users, items = made_up_shop()
    late = interactions.timestamps - interactions.timestamps.max() + LAST
    parameters = replace(trained().parameters, **FRESH, **({"weights": weights} if weights else {}))
    return HybridRecommender(parameters).fit(replace(interactions, timestamps=late), users, items, came=CAME)


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return fresh_shop()


def test_half_of_it_is_left_after_a_half_life(model: HybridRecommender) -> None:
    plain = model.with_parameters(freshness=0.0)
    gain = model.score("u00", model.items.ids) - plain.score("u00", model.items.ids)
    np.testing.assert_allclose(gain[0, [0, 4, 8]], [2.0, 1.0, 0.5], atol=1e-5)


def test_ages_are_measured_at_the_last_interaction_or_at_another_moment(model: HybridRecommender) -> None:
    later = model.as_of(datetime(2024, 3, 5, tzinfo=UTC))
    plain = model.with_parameters(freshness=0.0).score("u00", ["i00"])
    assert later.score("u00", ["i00"]) - plain == pytest.approx(1.0, abs=1e-5)
    # What comes later than the moment is new, not newer than new.
    sooner = model.as_of(datetime(2023, 1, 1, tzinfo=UTC))
    assert sooner.score("u00", ["i00"]) - plain == pytest.approx(2.0, abs=1e-5)
    assert model.came_after(datetime(2024, 2, 28, 1, tzinfo=UTC)) == ["i00", "i01"]
    with pytest.raises(ColdStartError, match="has no time zone"):
        model.as_of(datetime(2024, 3, 5))


def test_another_moment_costs_no_other_arithmetic(model: HybridRecommender) -> None:
    later = model.as_of(datetime(2024, 3, 5, tzinfo=UTC))
    assert later.fitted.all_items is model.fitted.all_items
    both = later.with_parameters(freshness=0.0), model.with_parameters(freshness=0.0)
    np.testing.assert_array_equal(*(one.score(model.users.ids, model.items.ids) for one in both))


def test_one_by_one_is_all_at_once_and_the_parts_add_up(model: HybridRecommender) -> None:
    users = list(model.users.ids)
    table = model.recommend(users, 20, exclude_seen=False)
    scores = model.score(users, model.items.ids)
    of_item = {name: place for place, name in enumerate(model.items.ids)}
    of_user = {name: place for place, name in enumerate(users)}
    pairs = zip(table["user_id"], table["item_id"], strict=True)
    expected = [scores[of_user[user], of_item[item]] for user, item in pairs]
    np.testing.assert_allclose(table["score"], expected, atol=1e-5)
    np.testing.assert_allclose(table[["popularity", "lightfm", "history", "text"]].sum(axis=1), expected, atol=1e-4)
    none = np.zeros(0, np.int64), np.zeros(0, np.float32)
    one = ranked(block_of(model.fitted, model.fitted.users.take(np.array([3])), *none), Rules(20), seen=None)
    mine = table[table["user_id"] == users[3]]
    assert model.fitted.items.ids(one.rows) == list(mine["item_id"])
    np.testing.assert_allclose(one.scores, mine["score"], atol=1e-5)
    np.testing.assert_allclose(sum(one.parts.values()), one.scores, atol=1e-4)


def test_the_explanation_names_the_age_and_adds_up(model: HybridRecommender) -> None:
    moment = datetime(2024, 3, 1, 3, tzinfo=UTC)
    table = model.as_of(moment).explain("u00", "i00")
    (line,) = table[table["kind"] == "newness"].to_dict("records")
    assert line["term"] == "new: published 3 hours ago"
    assert line["value"] == pytest.approx(2 * 2 ** (-3 / 24 / 4), abs=1e-5)
    assert table["value"].sum() == pytest.approx(float(model.as_of(moment).score("u00", "i00")[0, 0]), abs=1e-4)


def test_without_weight_nobody_hears_of_ages() -> None:
    interactions, users, items = made_up_shop()
    parameters = trained().parameters
    told = HybridRecommender(parameters).fit(interactions, users, items, came=CAME)
    untold = HybridRecommender(parameters).fit(interactions, users, items)
    np.testing.assert_array_equal(told.score(users.ids, items.ids), untold.score(users.ids, items.ids))
    assert "published" not in " ".join(told.explain("u00", "i00")["term"])


def test_a_bundle_keeps_ages(model: HybridRecommender, tmp_path: Path) -> None:
    model.save(tmp_path / "bundle")
    loaded = HybridRecommender.load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.fitted.births.moments, CAME)
    ids = model.users.ids, model.items.ids
    np.testing.assert_allclose(loaded.score(*ids), model.score(*ids), atol=1e-5)


def test_items_that_come_later_have_the_moment_in_which_they_came(model: HybridRecommender) -> None:
    state = described(model.fitted, "item", new("lamp", LAMP, "put"), np.array([LAST]))
    assert state.births.moments[-1] == LAST
    # Other words do not make an item new.
    again = described(state, "item", new("other words", LAMP, "put"), np.array([LAST + np.timedelta64(9, "D")]))
    assert again.births.moments[-1] == LAST
    first = np.zeros(1, np.int64)
    one = Interactions(["u00"], ["first"], first, first, np.array([LAST]), np.ones(1, np.float32))
    grown = HybridRecommender.of(state)
    grown.partial_fit(one, Entities.nothing(["u00"], 3, "stub"), new("lamp", LAMP, "first"))
    assert list(grown.fitted.births.moments[-2:]) == [LAST, LAST]


def test_an_item_of_which_nobody_knows_when_it_came_gains_nothing() -> None:
    model = fresh_shop(only(text=(1.0, 1.0)))
    stranger = entities(["stranger"], ["lamp model 3"], model.items.embeddings[[3]])
    plain = model.with_parameters(freshness=0.0)
    np.testing.assert_array_equal(model.score("u00", stranger), plain.score("u00", stranger))


@pytest.mark.parametrize("given", [{"freshness": -1.0}, {"freshness_half_life": 0.0}, {"freshness": float("nan")}])
def test_weights_and_half_lives_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ColdStartError, match=next(iter(given))):
        Parameters(**given)


def test_without_a_table_of_dates_an_item_comes_with_its_first_interaction() -> None:
    interactions, _, _ = made_up_shop()
    births = Births.of(interactions)
    assert np.isnat(births.moments[[9, 19]]).all()
    days = births.days(np.array([0, 9, -1]))
    first = interactions.timestamps[interactions.items == 0].min()
    assert days[0] == pytest.approx((births.now - first) / np.timedelta64(1, "D"))
    assert np.isinf(days[1:]).all()
