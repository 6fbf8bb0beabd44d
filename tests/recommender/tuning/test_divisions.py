"""What is set aside by chance: all of some items and groups, all but the first few of some users, and some pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recommender.data.interactions import Interactions
from recommender.tuning.divisions import by_chance, draws
from recommender.tuning.validation import held_out
from tests.support.made_up_shop import entities, events
from tests.support.shop_of_words import shop_of_words


@pytest.fixture(scope="module")
def train() -> Interactions:
    return shop_of_words(1000)[0]


def groups(train: Interactions, size: int = 1) -> list[str]:
    return [str(row // size) for row in range(len(train.item_ids))]


def items_set_aside(train: Interactions, held: np.ndarray) -> np.ndarray:
    """(items,), true where all interactions are set aside."""
    return np.array([held[train.items == row].all() for row in range(len(train.item_ids))])


def test_groups_of_items_are_set_aside_together(train: Interactions) -> None:
    by_item = items_set_aside(train, by_chance(train, groups(train, 3), 0))
    assert len(np.unique(by_item.reshape(-1, 3), axis=0)) == 2
    assert (by_item.reshape(-1, 3).all(axis=1) == by_item.reshape(-1, 3).any(axis=1)).all()
    assert 0.05 < by_item.mean() < 0.4


def test_some_users_keep_nothing_or_their_first_one_three_or_five_and_of_the_others_some_pairs_leave() -> None:
    rng = np.random.default_rng(0)
    people = entities([f"u{n}" for n in range(600)], [""] * 600, np.zeros((600, 3)))
    things = entities([f"i{n}" for n in range(100)], [""] * 100, np.zeros((100, 3)))
    pairs = rng.permutation([(u, int(i)) for u in range(600) for i in rng.permutation(100)[:30]])
    train = events(people, things, pairs)
    held = by_chance(train, groups(train), 0)
    rest = ~items_set_aside(train, held)[train.items]  # items that are set aside leave no user anything
    shares = np.array([held[rest & (train.users == row)].mean() for row in range(len(train.user_ids))])
    kept: Counter[int] = Counter()
    new = np.flatnonzero(shares > 0.6)
    for row in new.tolist():
        mine = np.flatnonzero(train.users == row)
        mine = mine[np.argsort(train.timestamps[mine])]
        left = np.flatnonzero(~held[mine])
        # What is left is among the first five: pairs among them may be drawn as of everybody.
        assert (left < 5).all()
        kept[int(left.max() + 1) if len(left) else 0] += 1
    assert 0.05 < len(new) / len(train.user_ids) < 0.15
    assert 0.3 < kept[0] / len(new) < 0.8  # half of them keep nothing
    assert min(kept[1], kept[3], kept[5]) > 0
    others = rest & ~np.isin(train.users, new)
    assert 0.07 < held[others].mean() < 0.13


def test_all_interactions_of_a_pair_go_the_same_way(train: Interactions) -> None:
    twice = train.select(np.repeat(np.arange(len(train)), 2))
    held = by_chance(twice, groups(train), 0)
    old = ~items_set_aside(twice, held)[twice.items]
    shares = np.array([held[twice.users == row].mean() for row in range(len(train.user_ids))])
    old &= ~np.isin(twice.users, np.flatnonzero(shares > 0.6))  # the first few of new users are counted one by one
    np.testing.assert_array_equal(held[::2][old[::2]], held[1::2][old[1::2]])


def test_the_same_seed_and_draw_are_the_same_and_others_draw_others(train: Interactions) -> None:
    one = by_chance(train, groups(train), 3, 1)
    np.testing.assert_array_equal(one, by_chance(train, groups(train), 3, 1))
    for other in (by_chance(train, groups(train), 3, 2), by_chance(train, groups(train), 4, 1)):
        assert (one != other).mean() > 0.1
        both = items_set_aside(train, one) & items_set_aside(train, other)
        assert both.sum() < 0.6 * items_set_aside(train, one).sum()
    np.testing.assert_array_equal(by_chance(train, groups(train), 3), by_chance(train, groups(train), 3, 0))


def test_what_is_drawn_of_items_does_not_depend_on_what_else_there_is(train: Interactions) -> None:
    # A hash decides: an item that is set aside is set aside in half of the data too.
    whole = items_set_aside(train, by_chance(train, groups(train), 0))
    half = train.select(np.arange(len(train)) % 2 == 0)
    assert (items_set_aside(half, by_chance(half, groups(train), 0)) >= whole).all()


def test_of_nothing_nothing_is_drawn(train: Interactions) -> None:
    nothing = train.select(np.zeros(len(train), bool))
    assert by_chance(nothing, groups(train), 0).shape == (0,)
    assert draws(nothing) == 6


@pytest.mark.parametrize(("users", "expected"), [(10, 6), (170, 6), (210, 5), (250, 4), (350, 3), (5000, 3)])
def test_few_users_are_drawn_from_more_often(users: int, expected: int) -> None:
    people = entities([f"u{n}" for n in range(users)], [""] * users, np.zeros((users, 3)))
    things = entities(["i"], [""], np.zeros((1, 3)))
    assert draws(events(people, things, [(u, 0) for u in range(users)])) == expected


def test_where_nothing_is_the_latest_a_single_choice_is_made_on_what_is_drawn_by_chance() -> None:
    interactions, _, items = shop_of_words()
    still = replace(interactions, timestamps=np.full_like(interactions.timestamps, interactions.timestamps[0]))
    drawn = by_chance(still, items.ids, 0)
    for kind in ("temporal", "item_cold", "warm"):
        np.testing.assert_array_equal(held_out(still, items, kind, items.ids, 0), drawn)
