"""λ of the item metric: what is tried is what a fit with it gives, and another is chosen where it is surely better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.tuning.divisions import Division
from recommender.tuning.rankings import Rankings
from recommender.tuning.ridge import choose_ridge, with_ridge
from recommender.tuning.weights import FITTED, tune
from tests.support.made_up_shop import entities
from tests.support.shop_of_words import DEPTH, Shop, divided, shop_of_words

SMALL = Parameters(components=4, epochs=2)


def blurred(seed: int) -> Shop:
    """Items whose embeddings are their kind and, in as many directions as there are items, noise."""
    interactions, users, items = shop_of_words(200, seed=seed)
    noise = 0.1 * np.random.default_rng(seed).normal(size=(len(items), len(items)))
    vectors = np.hstack([items.embeddings, noise.astype(np.float32)])
    people = entities(users.ids, [""] * len(users), np.zeros((len(users), vectors.shape[1])))
    return interactions, people, entities(items.ids, [""] * len(items), vectors)


def cold_division(shop: Shop, place: int) -> Division:
    """One item of each kind is new."""
    return divided(shop, shop[0].items % DEPTH == 2 + place)


def of(parameters: Parameters, divisions: list[Division]) -> tuple[list[Fitted], list[Rankings]]:
    fits = [fit(parameters, one.learned, one.users, one.items) for one in divisions]
    sets = [
        Rankings.of(one, division, np.random.default_rng(place))
        for place, (one, division) in enumerate(zip(fits, divisions, strict=True))
    ]
    return fits, sets


def test_rankings_under_another_ridge_are_those_of_a_fit_with_it() -> None:
    division = cold_division(blurred(0), 0)
    (default,), (rankings,) = of(SMALL, [division])
    (other,), (expected,) = of(replace(SMALL, metric_ridge=30.0), [division])
    changed, found = with_ridge(default, rankings, 30.0)
    assert changed.parameters.metric_ridge == 30.0
    np.testing.assert_allclose(changed.item_metric, other.item_metric, atol=1e-6)
    assert found.users.ids == expected.users.ids
    for one, another in zip(found.ranked.parts, expected.ranked.parts, strict=True):
        np.testing.assert_allclose(one, another, atol=1e-3)
    assert any(not np.allclose(a, b) for a, b in zip(found.ranked.parts, rankings.ranked.parts, strict=True))


def test_a_ridge_that_hears_noise_is_replaced() -> None:
    shop = blurred(0)
    divisions = [cold_division(shop, place) for place in range(2)]
    noisy = replace(SMALL, metric_ridge=1e-6)
    assert choose_ridge(*of(noisy, divisions)) in (2.0, 30.0)
    tuned = tune(noisy, divisions)
    assert tuned.parameters.metric_ridge in (2.0, 30.0)
    assert tuned.parameters.source["metric_ridge"] == FITTED
    last = divisions[-1]
    expected = fit(replace(tuned.parameters, lightfm_seeds=1), last.learned, last.users, last.items)
    np.testing.assert_allclose(tuned.fitted.item_metric, expected.item_metric, atol=1e-5)


@pytest.mark.parametrize("asked", [0, 9])
def test_of_fewer_than_ten_rankings_of_new_items_nothing_is_chosen(asked: int) -> None:
    shop = blurred(1)
    interactions, *features = shop
    new = interactions.items % DEPTH == 2
    buyers = np.unique(interactions.users[new])[:asked]
    wanted = new & np.isin(interactions.users, buyers)
    left = wanted | ~new
    division = divided((interactions.select(left), *features), wanted[left])
    assert choose_ridge(*of(replace(SMALL, metric_ridge=1e-6), [division])) is None
