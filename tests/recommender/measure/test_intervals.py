"""Intervals must contain the truth as often as they say, whatever the values share."""

from __future__ import annotations

import numpy as np
import pytest

from recommender.measure.intervals import ByItem, intervals

USERS, ITEMS, DRAWS = 100, 40, 5


def half_width(found: np.ndarray) -> float:
    return float(np.diff(found)[0, 0] / 2)


def test_an_interval_is_around_the_mean_and_has_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal([0.0, 0.5], 1, size=(2_000, 2))
    found = intervals(values, np.arange(2_000), np.zeros(2_000, np.int64))
    np.testing.assert_allclose(found.mean(axis=1), values.mean(axis=0))
    np.testing.assert_allclose(np.diff(found)[:, 0], 2 * 1.96 / np.sqrt(2_000), rtol=0.05)


def test_the_same_users_in_every_draw_are_not_new_evidence() -> None:
    one = np.random.default_rng(0).normal(size=(300, 1))
    five, users = np.tile(one, (5, 1)), np.tile(np.arange(300), 5)
    of_one, of_five = intervals(one, np.arange(300), np.zeros(300, int)), intervals(five, users, users * 0 + 7)
    np.testing.assert_allclose(of_one, of_five)
    assert half_width(intervals(five, users, np.repeat(np.arange(5), 300))) > 0.99 * half_width(of_one)


def test_the_mean_is_that_of_the_draws_however_many_users_each_has() -> None:
    values, draws = np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([0, 0, 0, 1])
    assert intervals(values, np.arange(4), draws).mean() == pytest.approx(0.5)


def test_what_all_users_of_a_draw_share_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    users, draws = np.tile(np.arange(USERS), DRAWS), np.repeat(np.arange(DRAWS), USERS)
    noise = rng.normal(size=(len(users), 1))
    shared = noise + np.array([-1, 1, -0.5, 0.5, 0])[draws][:, None]
    assert half_width(intervals(shared, users, draws)) > 3 * half_width(intervals(noise, users, draws))
    # One draw cannot tell; its items can.
    first = draws == 0
    alone = intervals(shared[first], users[first], draws[first])
    np.testing.assert_allclose(half_width(alone), half_width(intervals(noise[first], users[first], draws[first])))


def test_an_item_on_which_every_user_agrees_is_one_observation() -> None:
    """All want one of two items; a method is better at one and worse at the other, by the same."""
    items = np.arange(USERS) % 2
    values = np.where(items == 0, 0.5, -0.5)[:, None]
    by_item = ByItem(np.array([[25.0], [-25.0]]), np.array([50.0, 50.0]), np.arange(2), np.zeros(2, int))
    zeros = np.zeros(USERS, int)
    assert half_width(intervals(values, np.arange(USERS), zeros)) < 0.11
    assert half_width(intervals(values, np.arange(USERS), zeros, by_item)) > 1


def test_the_values_of_a_single_user_tell_nothing_and_no_difference_is_exact() -> None:
    assert np.isinf(intervals(np.ones((3, 1)), np.zeros(3, int), np.arange(3))).all()
    assert intervals(np.zeros((40, 1)), np.arange(40) % 20, np.arange(40) // 20).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("draws", "of_users", "of_draws", "of_items"),
    [(5, 0, 0, 0), (5, 0.5, 0, 0), (5, 0, 0.3, 0), (5, 0, 0.05, 0), (5, 0, 0, 0.5), (5, 0.3, 0.1, 0.1), (1, 0, 0, 0.5)],
)
def test_the_interval_contains_the_truth_at_least_as_often_as_it_says(draws, of_users, of_draws, of_items) -> None:
    """Differences that are 0 on average, with effects of users, draws and items that go on through their values."""
    rng, rounds = np.random.default_rng(0), 300
    contained = 0
    for _ in range(rounds):
        user_effects = of_users * rng.normal(size=(USERS, 1))
        by_user, by_item, shares = [], [], []
        for _ in range(draws):
            wanted = rng.random((USERS, ITEMS)) < 0.1
            wanted[np.arange(USERS), rng.integers(0, ITEMS, USERS)] = True
            # As differences of NDCG are: mostly 0.
            noise = np.where(rng.random((USERS, ITEMS)) < 0.3, rng.normal(size=(USERS, ITEMS)), 0)
            effects = user_effects + of_draws * rng.normal() + of_items * rng.normal(size=ITEMS)
            gains = np.where(wanted, noise + effects, 0) / wanted.sum(axis=1, keepdims=True)
            by_user.append(gains.sum(axis=1))
            by_item.append(gains.sum(axis=0))
            shares.append((wanted / wanted.sum(axis=1, keepdims=True)).sum(axis=0))
        items = ByItem(
            np.concatenate(by_item)[:, None], np.concatenate(shares), np.arange(draws * ITEMS),
            np.repeat(np.arange(draws), ITEMS),
        )  # fmt: skip
        users = np.tile(np.arange(USERS), draws)
        ((low, high),) = intervals(np.concatenate(by_user)[:, None], users, np.repeat(np.arange(draws), USERS), items)
        contained += bool(low <= 0 <= high)
    assert contained > (0.95 - 2 * np.sqrt(0.95 * 0.05 / rounds)) * rounds
