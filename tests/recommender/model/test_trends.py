"""What time says of items: counted by hand, of the interactions of the fit alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.trends import Trends
from tests.support.made_up_shop import SPADE, entities, made_up_shop, new, only

START = np.datetime64("2024-01-01", "us")
SMALL = Parameters(components=4, epochs=2)


def at_days(*events: tuple[int, int, float], users: int = 4, items: int = 4) -> Interactions:
    """User, item, day."""
    rows, columns, days = (np.array(one) for one in zip(*events, strict=True))
    times = START + (days * 86_400e6).astype("timedelta64[us]")
    ids = [f"u{n}" for n in range(users)], [f"i{n}" for n in range(items)]
    return Interactions(*ids, rows, columns, times, np.ones(len(rows), np.float32))


def test_users_within_the_windows_and_days_since_the_first_are_counted() -> None:
    # Item 0 is lately wanted, twice by one user; item 1 was; item 2 is new; item 3 nobody has.
    trends = Trends.fit(at_days((0, 0, 99), (0, 0, 98), (1, 0, 80), (1, 1, 40), (2, 1, 0), (3, 2, 100)))
    users = [[1, 0, 1, 0], [2, 0, 1, 0], [2, 1, 1, 0]]
    np.testing.assert_allclose(trends.popularity, np.log1p(users), rtol=1e-6)
    np.testing.assert_allclose(trends.newness, -np.log1p([20, 100, 0, 0]), rtol=1e-6)


@pytest.mark.parametrize("window", [7, 30, 90])
def test_what_is_as_old_as_a_window_is_outside_it(window: int) -> None:
    trends = Trends.fit(at_days((0, 0, 200), (1, 1, 200 - window), (2, 2, 200 - window + 0.001)))
    place = (7, 30, 90).index(window)
    np.testing.assert_allclose(trends.popularity[place], np.log1p([1, 0, 1, 0]), rtol=1e-6)


def test_interactions_of_one_moment_have_no_trends() -> None:
    trends = Trends.fit(at_days((0, 0, 5), (1, 1, 5), (2, 0, 5)))
    assert not trends.popularity.any()
    assert not trends.newness.any()
    assert trends.popularity.shape == (3, 4)
    shop, users, items = made_up_shop()
    still = replace(shop, timestamps=np.full_like(shop.timestamps, START))
    of_time = replace(SMALL, weights=only(newness=(1, 1), popularity_7d=(1, 1)))
    model = HybridRecommender(of_time).fit(still, users, items)
    assert not model.score(users.ids, items.ids).any()


def two_seasons() -> tuple[Interactions, Entities, Entities]:
    """The first half of the catalogue is bought in the first year, and the other in the week after it."""
    users = entities([f"u{n}" for n in range(20)], [""] * 20, np.zeros((20, 3)))
    items = entities([f"i{n}" for n in range(10)], [f"thing {n}" for n in range(10)], np.eye(3)[np.arange(10) % 3])
    early = [(u, i, 36.0 * i + u) for u in range(20) for i in range(5)]
    late = [(u, 5 + i, 365.0 + i) for u in range(20) for i in range(5)]
    return at_days(*early, *late, users=20, items=10), users, items


def test_trends_are_of_the_interactions_of_the_fit_and_know_nothing_of_later_ones() -> None:
    interactions, users, items = two_seasons()
    early = interactions.items < 5
    known = interactions.select(early)
    model = fit(SMALL, known, *with_history(known, users, items), seen=interactions)
    expected = Trends.fit(known)
    np.testing.assert_array_equal(model.trends.popularity, expected.popularity)
    np.testing.assert_array_equal(model.trends.newness, expected.newness)
    assert not model.trends.popularity[:, 5:].any()
    assert expected.popularity[0, :5].any()
    # The same shop, had the later half never come, learns the same: bit by bit.
    alone = fit(SMALL, known, *with_history(known, users, items))
    np.testing.assert_array_equal(model.maps.weights, alone.maps.weights)


def test_an_item_without_history_has_the_trend_that_its_features_predict() -> None:
    interactions, users, items = two_seasons()
    known = interactions.select(interactions.items < 5)
    fitted = fit(replace(SMALL, weights=only(popularity_30d=(1, 1))), known, *with_history(known, users, items))
    model = HybridRecommender.of(fitted)
    stranger = new(items.descriptions[7], items.embeddings[7])
    np.testing.assert_allclose(model.score("u0", "i7"), model.score("u0", stranger), atol=1e-6)
    of_newness = model.with_parameters(weights=only(newness=(1, 1)))
    assert of_newness.score("u0", stranger)[0, 0] == 0
    assert np.ptp(of_newness.score("u0", list(items.ids)[:5])) > 0


def test_updates_leave_trends_as_of_the_fit() -> None:
    interactions, users, items = two_seasons()
    model = HybridRecommender(SMALL).fit(interactions, *with_history(interactions, users, items))
    before = model.fitted.trends
    fresh, thing = new("", np.zeros(3), "fresh"), new("spade", SPADE, "thing")
    moment, first = np.array([START + np.timedelta64(900, "D")]), np.zeros(1, np.int64)
    later = Interactions(["fresh"], ["thing"], first, first, moment, np.ones(1, np.float32))
    model.partial_fit(later, fresh, thing)
    assert model.fitted.trends is before
    assert np.isfinite(model.score("fresh", "thing")).all()


def test_what_a_user_did_long_ago_counts_less_than_what_they_do_now() -> None:
    trends = Trends.fit(at_days((0, 0, 99), (0, 1, 0), (1, 0, 99), (1, 1, 99), (2, 0, 0)))
    sums = [1 + 100**-0.5, 2, 100**-0.5]
    np.testing.assert_allclose(trends.activity[:3], np.log(sums), rtol=1e-6)
    assert not trends.activity[3:].any()  # nobody knows anything of them
    # Users who came after the fit, or had done nothing until then, are as active as their history is long.
    rows = np.array([1, 2, 3, len(trends.activity)])
    np.testing.assert_allclose(trends.activity_of(rows, np.array([2, 1, 4, 3])), np.log([2, sums[2], 4, 3]), rtol=1e-6)
    alone = Trends.fit(at_days((0, 0, 5), (1, 1, 5), (1, 0, 5)))
    np.testing.assert_allclose(alone.activity[:2], np.log([1, 2]), atol=1e-6)
