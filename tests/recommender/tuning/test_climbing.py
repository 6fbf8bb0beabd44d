"""Coordinate ascent: never worse on the rankings it is given, and no other sum of weights."""

from __future__ import annotations

import numpy as np
import pytest

from recommender.tuning.climbing import Ranked, climb

MOST = 10.0


def made_up(seed: int, users: int = 60, items: int = 80, told: float = 1.0, importance: float = 1.0) -> Ranked:
    """Three parts: the first is what is wanted and noise, the second noise, the third the same for all users."""
    rng = np.random.default_rng(seed)
    wanted = rng.random((users, items)) < 0.08
    wanted[:, 0] |= ~wanted.any(axis=1)
    parts = [told * wanted + rng.normal(size=wanted.shape), rng.normal(size=wanted.shape), rng.normal(size=(1, items))]
    return Ranked([part.astype(np.float32) for part in parts], wanted, (rng.random(wanted.shape) < 0.95) | wanted,
                  rng.random(users), importance)  # fmt: skip


def quality(rankings: list[Ranked], weights: np.ndarray) -> float:
    values = [one.quality(one.scores(weights)) for one in rankings]
    importance = np.concatenate([np.full(len(one), one.importance) for one in rankings])
    return float(np.average(np.concatenate(values), weights=importance))


@pytest.mark.parametrize("seed", range(8))
def test_it_never_lowers_ndcg_of_the_rankings_and_keeps_the_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rankings = [made_up(seed), made_up(seed + 100, told=rng.random(), importance=0.2)]
    weights = rng.random((2, 3)) * (rng.random((2, 3)) < 0.8) + 0.01
    found = climb(rankings, weights, np.zeros(3), MOST)
    assert found.shape == weights.shape
    assert found.sum() == pytest.approx(weights.sum())
    assert quality(rankings, found) >= quality(rankings, weights) - 1e-9
    assert (found >= 0).all()


def test_a_part_that_tells_is_raised_even_from_nothing_and_noise_is_lowered() -> None:
    rankings = [made_up(seed, told=3.0) for seed in range(4)]
    weights = np.array([[0.0, 1.0, 0.5], [0.0, 1.0, 0.5]])
    found = climb(rankings, weights, np.zeros(3), MOST)
    assert (found[:, 0] > found[:, 1]).all()
    assert quality(rankings, found) > quality(rankings, weights) + 0.2


def test_the_least_weight_stays() -> None:
    rankings = [made_up(seed, told=3.0) for seed in range(3)]
    found = climb(rankings, np.full((2, 3), 1.0), np.array([0.0, 0.5, 0.0]), MOST)
    least = found / found.sum() * 6  # as before the sum was restored
    assert (least[:, 1] > 0).all()
    assert (found[:, 2] < found[:, 0]).all()


def test_of_no_rankings_weights_stay() -> None:
    weights = np.array([[0.3, 0.2, 0.0], [1.0, 0.0, 0.1]])
    np.testing.assert_array_equal(climb([], weights, np.zeros(3), MOST), weights)
    nobody = made_up(0).take(np.zeros(0, np.int64), np.arange(80))
    np.testing.assert_array_equal(climb([nobody], weights, np.zeros(3), MOST), weights)


def test_parts_are_weighed_by_how_much_a_user_is_a_known_one() -> None:
    ranked = made_up(1)
    weights = np.array([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0]])
    own = weights[0] + ranked.evidence[:, None] * (weights[1] - weights[0])
    expected = sum(own[:, [k]] * part for k, part in enumerate(ranked.parts))
    np.testing.assert_allclose(ranked.scores(weights), expected, atol=1e-5)
    some = ranked.take(np.array([5, 2]), np.array([0, 7, 9]))
    np.testing.assert_allclose(some.scores(weights), expected[np.ix_([5, 2], [0, 7, 9])], atol=1e-5)


def test_the_top_of_a_ranking_has_the_quality_of_the_whole_and_all_that_is_wanted() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(30, 700)).astype(np.float32), rng.normal(size=(1, 700)).astype(np.float32)]
    wanted = rng.random((30, 700)) < 0.02
    open_ = wanted | (rng.random((30, 700)) < 0.8)
    whole, weights = Ranked(parts, wanted, open_, np.ones(30), 1.0), np.ones((2, 2))
    top = whole.top(weights)
    assert top.wanted.shape == (30, 200)
    np.testing.assert_array_equal(top.wanted.sum(axis=1), wanted.sum(axis=1))
    np.testing.assert_allclose(top.quality(top.scores(weights)), whole.quality(whole.scores(weights)))
    both = whole.halves()
    np.testing.assert_array_equal(both[1].wanted, wanted[1::2])
    assert sum(map(len, both)) == 30
