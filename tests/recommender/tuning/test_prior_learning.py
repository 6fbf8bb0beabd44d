"""Small shops drawn from large ones, and priors learned where it is known what helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.model.parameters import Parameters
from recommender.model.weights import PARTS, Weights
from recommender.tuning.prior_learning import Episodes, learn_level
from recommender.tuning.small_shops import GIVEN, Episode, Shop, draw_shop, episode
from tests.support.made_up_shop import events
from tests.support.shop_of_words import shop_of_words

SHOP = Shop("words", *shop_of_words(60))
# 30 candidates: 20 with history, 10 without.
USERS, ITEMS, COLD = 40, 30, 10


def episode_of(rng: np.random.Generator, *, misleads: bool) -> Episode:
    """LightFM's score of new items is noise, or points away from what is wanted; the other parts say a little."""
    cold = np.arange(ITEMS) >= ITEMS - COLD
    wanted = np.zeros((USERS, ITEMS), dtype=bool)
    wanted[np.arange(USERS), rng.integers(0, ITEMS, USERS)] = True
    wanted[np.arange(USERS), rng.integers(ITEMS - COLD, ITEMS, USERS)] = True
    parts = np.zeros((len(PARTS), USERS, ITEMS), np.float16)
    parts[PARTS.index("text")] = wanted * 0.7 + rng.normal(scale=0.6, size=wanted.shape)
    direction = -2.0 if misleads else 2.0
    parts[PARTS.index("lightfm")] = cold * (direction * wanted + rng.normal(scale=0.3, size=wanted.shape))
    everything = np.ones_like(wanted)
    return Episode(
        parts, wanted, everything, np.broadcast_to(cold, wanted.shape), np.full(USERS, 0.5, np.float32),
        np.arange(USERS), Weights(), Weights(),
    )  # fmt: skip


def test_a_small_shop_knows_its_own_users_and_asks_for_what_came_later() -> None:
    small = draw_shop(SHOP, 20, 0)
    interactions, users, _ = shop_of_words(60)
    everything = np.zeros((60, len(SHOP.items)), dtype=bool)
    everything[interactions.users, interactions.items] = True
    assert len(small.members) == 20
    assert list(small.learned.user_ids) == list(small.members.ids)
    known = small.history.toarray() > 0
    assert not (known & small.wanted).any()
    np.testing.assert_array_equal(known | small.wanted, everything[small.rows])
    latest = np.zeros((60, len(SHOP.items)), "datetime64[us]")
    latest[interactions.users, interactions.items] = interactions.timestamps
    members, strangers = 0, set()
    for row, before, after in zip(small.rows, known, small.wanted, strict=True):
        assert not before.any() or latest[row][before].max() < latest[row][after].min()
        if users.ids[row] in small.members.ids:
            members += 1
            assert after.sum() == everything[row].sum() // 5
        else:
            strangers.add(int(before.sum()))
    assert members > 0
    assert strangers == set(GIVEN)
    assert list(draw_shop(SHOP, 20, 1).members.ids) != list(small.members.ids)


def test_what_others_do_is_no_part_of_a_small_shop() -> None:
    """Whoever is not drawn may do something else: nothing that is learned changes."""
    interactions, users, items = shop_of_words(60)
    small = draw_shop(SHOP, 20, 0)
    own = set(small.members.ids)
    pairs = [
        (user, item if users.ids[user] in own else (item + 7) % len(items))
        for user, item in zip(interactions.users.tolist(), interactions.items.tolist(), strict=True)
    ]
    other = draw_shop(Shop("other", events(users, items, pairs), users, items), 20, 0)
    np.testing.assert_array_equal(other.learned.users, small.learned.users)
    np.testing.assert_array_equal(other.learned.items, small.learned.items)


def test_an_episode_ranks_for_any_weights_without_training_again() -> None:
    found = episode(SHOP, 20, 0, Parameters(components=8, epochs=3))
    assert found is not None
    before = Weights()
    after = Weights(warm=before.warm | {"text": (2.0, 0.0)}, cold={"text": (1.0, 1.0)}, cold_offset=-0.5)
    total = found.scores(before)
    np.testing.assert_allclose(found.rescored(total, before, after), found.scores(after), atol=1e-4)
    assert found.quality(after).shape == (len(found.rows),)
    # Words say which kind a user buys.
    blind = replace(before, warm={"lightfm": (1.0, 1.0)}, cold={"lightfm": (1.0, 1.0)})
    assert found.quality(after).mean() > found.quality(blind).mean()


def test_what_harms_in_all_shops_is_given_up() -> None:
    rng = np.random.default_rng(0)
    shops = {f"{n}": [episode_of(rng, misleads=True)] for n in range(5)}
    told: list[str] = []
    level = learn_level(Episodes(20, shops), told=told.append)
    assert level.weights.cold["lightfm"] == (0.0, 0.0)
    assert level.weights.warm["lightfm"] == Weights().warm["lightfm"]
    assert any("lightfm of cold items" in step for step in told)


def test_what_helps_in_one_shop_and_harms_in_another_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    shops = {f"{n}": [episode_of(rng, misleads=n % 2 == 0)] for n in range(6)}
    level = learn_level(Episodes(20, shops))
    assert level.weights.cold["lightfm"] == Weights().cold["lightfm"]


def test_a_left_out_shop_has_no_say() -> None:
    rng = np.random.default_rng(0)
    shops = {f"{n}": [episode_of(rng, misleads=n > 0)] for n in range(5)}
    others = [name for name in shops if name != "0"]
    of_others = {name: shops[name] for name in others}
    assert learn_level(Episodes(20, shops), others) == learn_level(Episodes(20, of_others))


def test_two_shops_are_too_few() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ColdStartError, match="a prior needs 3"):
        learn_level(Episodes(20, {f"{n}": [episode_of(rng, misleads=True)] for n in range(2)}))
