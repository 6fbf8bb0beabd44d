"""Scores of shops in which something is missing: bounded, finite, the same alone and in company, and explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.weights import MOST, PARTS, Weights
from tests.support.made_up_shop import LAMP, SPADE, entities, events, made_up_shop, new, only, weighing

Shop = tuple[Interactions, Entities, Entities]
EVERYTHING = weighing(**dict.fromkeys(PARTS, (1.0, 1.0)))
LOUDEST = weighing(**dict.fromkeys(PARTS, (MOST, MOST)))


def one_text() -> Shop:
    """All items say the same."""
    interactions, users, items = made_up_shop()
    same = replace(items, descriptions=["thing"] * 20, attributes=[["a=b"]] * 20, embeddings=np.tile(LAMP, (20, 1)))
    return (interactions, *with_history(interactions, users, same))


def one_warm_item() -> Shop:
    """Everybody has the same item, and nothing else was ever sold."""
    _, users, items = made_up_shop()
    interactions = events(users, items, [(u, 3) for u in range(40)])
    return (interactions, *with_history(interactions, users, items))


def one_user() -> Shop:
    """Nobody else has ever bought anything."""
    _, users, items = made_up_shop()
    interactions = events(users, items, [(7, i) for i in range(12)])
    return (interactions, *with_history(interactions, users, items))


def one_pair() -> Shop:
    """One user has one item, and there are no others."""
    users, items = entities(["u"], [""], np.zeros((1, 3))), entities(["i"], ["lamp"], LAMP[None])
    interactions = events(users, items, [(0, 0)])
    return (interactions, *with_history(interactions, users, items))


def no_text() -> Shop:
    """Nothing is known of items and users but their ids."""
    interactions, users, items = made_up_shop()
    bare = [
        replace(side, descriptions=[""] * len(side), attributes=[[]] * len(side),
                embeddings=np.zeros_like(side.embeddings), profiles=np.zeros_like(side.profiles))
        for side in (users, items)
    ]  # fmt: skip
    return (interactions, *with_history(interactions, *bare))


def one_moment() -> Shop:
    """The interactions have no time."""
    interactions, users, items = made_up_shop()
    moments = np.full_like(interactions.timestamps, interactions.timestamps[0])
    return replace(interactions, timestamps=moments), users, items


def heavy_and_light() -> Shop:
    """Weights of interactions from a thousandth to a thousand."""
    interactions, users, items = made_up_shop()
    weights = np.logspace(-3, 3, len(interactions)).astype(np.float32)
    interactions = replace(interactions, weights=np.random.default_rng(0).permutation(weights))
    return (interactions, *with_history(interactions, users, items))


def one_favourite() -> Shop:
    """A thousand others have one item: what is popular lies very far above the rest."""
    shop, users, items = made_up_shop()
    crowd = entities([f"v{n}" for n in range(1000)], [""] * 1000, np.zeros((1000, 3)))
    everyone = users.join(crowd)
    pairs = [*zip(shop.users.tolist(), shop.items.tolist(), strict=True), *((40 + n, 0) for n in range(1000))]
    interactions = events(everyone, items, pairs)
    return (interactions, *with_history(interactions, everyone, items))


SHOPS: dict[str, tuple[Callable[[], Shop], dict[str, Any]]] = {
    "as usual": (made_up_shop, {}),
    "one text": (one_text, {}),
    "one warm item": (one_warm_item, {}),
    "one user": (one_user, {}),
    "one pair": (one_pair, {}),
    "no text at all": (no_text, {}),
    "one moment": (one_moment, {}),
    "heavy and light": (heavy_and_light, {}),
    "one favourite": (one_favourite, {}),
    "LightFM learned nothing": (made_up_shop, {"learning_rate": 1e-6}),
    "a ridge of nothing": (made_up_shop, {"metric_ridge": 1e-6, "item_item_ridge": 1e-6}),
}


@cache
def fitted(name: str) -> HybridRecommender:
    make, changes = SHOPS[name]
    return HybridRecommender(Parameters(components=8, epochs=5, weights=EVERYTHING, **changes)).fit(*make())


@pytest.fixture(params=SHOPS)
def model(request: pytest.FixtureRequest) -> HybridRecommender:
    return fitted(request.param)


def asked(model: HybridRecommender) -> Entities:
    """Known users, with words and without, and strangers of all kinds."""
    known = model.users.take(np.arange(min(len(model.users), 12)))
    spoken = replace(known, descriptions=["a spade please"] * len(known), embeddings=np.tile(SPADE, (len(known), 1)))
    spoken = replace(spoken, ids=[f"{name} spoken" for name in known.ids], profiles=known.profiles * 1000)
    strangers = new("a lamp", LAMP).join(new("", np.zeros(3), "nobody"))
    farmer = new("lamp " * 50, 1e-6 * LAMP, "farmer", ["home=farm"])
    return known.join(spoken).join(strangers).join(farmer)


def offered(model: HybridRecommender) -> Entities:
    """All known items, and new ones with words and without."""
    thing = new("spade model", SPADE, "thing", ["category=spade"])
    return model.items.join(thing).join(new("", np.zeros(3), "nothing")).join(new("zebra", -100 * LAMP, "far"))


@pytest.mark.parametrize("weights", [EVERYTHING, LOUDEST], ids=["usual", "loudest"])
def test_no_score_reaches_a_thousand(model: HybridRecommender, weights: Weights) -> None:
    scores = model.with_parameters(weights=weights).score(asked(model), offered(model))
    assert np.isfinite(scores).all()
    assert np.abs(scores).max() < 1e3
    assert scores.dtype == np.float32


def test_a_pair_alone_has_the_score_that_it_has_in_company(model: HybridRecommender) -> None:
    users, items = asked(model), offered(model)
    together = model.score(users, items)
    rng = np.random.default_rng(0)
    for user, item in zip(rng.integers(0, len(users), 25), rng.integers(0, len(items), 25), strict=True):
        alone = model.score(users.take(np.array([user])), items.take(np.array([item])))
        np.testing.assert_allclose(alone[0, 0], together[user, item], atol=1e-4)
    by_id = model.score(model.users.ids, model.items.ids)
    known = by_id[: min(len(model.users), 12)]
    np.testing.assert_allclose(known, together[: len(known), : len(model.items)], atol=1e-4)


def test_terms_add_up_to_the_score(model: HybridRecommender) -> None:
    users, items = asked(model), offered(model)
    scores = model.score(users, items)
    rng = np.random.default_rng(1)
    for user, item in zip(rng.integers(0, len(users), 12), rng.integers(0, len(items), 12), strict=True):
        table = model.explain(users.take(np.array([user])), items.take(np.array([item])))
        assert np.isfinite(table.value).all()
        assert table.value.sum() == pytest.approx(float(scores[user, item]), abs=1e-4)


def test_parts_add_up_to_the_score(model: HybridRecommender) -> None:
    ranking = model.recommend(asked(model), k=30)
    parts = ranking[["popularity", "lightfm", "history", "text"]]
    assert np.isfinite(parts.to_numpy()).all()
    np.testing.assert_allclose(parts.sum(axis=1), ranking.score, atol=1e-4)


def test_pins_come_first_and_boosts_lift_over_everything(model: HybridRecommender) -> None:
    ids = list(model.items.ids)
    pinned, lifted = ids[-1], ids[len(ids) // 2]
    loud = model.with_parameters(weights=LOUDEST)
    for users in (asked(model).take(np.array([row])) for row in (0, len(asked(model)) - 2)):
        ranking = loud.recommend(users, k=len(ids), exclude_seen=False, pin=[pinned], boost={lifted: 2e3})
        assert ranking.item_id[0] == pinned
        assert ranking.item_id[: 2 if lifted != pinned else 1].tolist()[-1] == lifted
        assert set(ranking.item_id) == set(ids)
        lowered = loud.recommend(users, k=len(ids), exclude_seen=False, boost={lifted: -2e3})
        assert lowered.item_id.iloc[-1] == lifted


def test_demand_is_a_percentile(model: HybridRecommender) -> None:
    demand = model.score(None, offered(model))
    assert ((demand >= 0) & (demand <= 100)).all()


def test_where_lightfm_has_learned_nothing_it_is_no_more_than_any_other_part() -> None:
    model = fitted("LightFM learned nothing")
    alone = model.with_parameters(weights=only(lightfm=(1.0, 1.0)))
    scores = alone.score(model.users.ids, model.items.ids)
    assert np.abs(scores).max() < np.log1p(20)  # in deviations, bent: of twenty items none lies further


def test_of_one_text_text_says_nothing() -> None:
    model = fitted("one text")
    texts = only(text=(1.0, 1.0), neighbour_text=(1.0, 1.0), predicted_profile=(1.0, 1.0), lightfm_map=(1.0, 1.0))
    scores = model.with_parameters(weights=texts).score(asked(model), model.items.ids)
    np.testing.assert_allclose(scores, 0, atol=1e-2)


def test_a_favourite_is_as_far_ahead_as_the_logarithm_of_its_buyers_and_a_runaway_less() -> None:
    buyers = np.r_[np.arange(1, 60), 200, 2_000]
    users, items = entities([f"u{n:04}" for n in range(2_000)], [""] * 2_000, np.zeros((2_000, 3))), entities(
        [f"i{n:02}" for n in range(61)], [""] * 61, np.zeros((61, 3)))  # fmt: skip
    shop = events(users, items, [(user, item) for item, n in enumerate(buyers.tolist()) for user in range(n)])
    model = HybridRecommender(Parameters(components=2, epochs=1, weights=only(popularity=(1.0, 1.0)))).fit(
        shop, *with_history(shop, users, items)
    )
    logs = np.log1p(buyers)
    z = (logs - logs.mean()) / logs.std()
    scores = model.score("u1999", items.ids)[0]
    assert z[-2] < 3 < z[-1]
    np.testing.assert_allclose(scores[:-1], z[:-1], atol=1e-4)
    assert z[-2] < scores[-1] < z[-1] - 0.2
