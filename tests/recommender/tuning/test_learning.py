"""The softmax over lists: what tells gets weight, what does not gets none, and what was drawn stands for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from recommender.tuning.learning import Lists, draw_lists, learn

MOST = 10.0


def made_up(
    n: int = 300, items: int = 120, *, told: float = 1.5, by_known: bool = False, seed: int = 0
) -> Lists:
    """Lists whose first part tells what is wanted, the second does not; the third is nought.

    With `by_known` it tells it of users with much evidence alone.
    """
    rng = np.random.default_rng(seed)
    evidence = (rng.random(n) < 0.5).astype(np.float64) if by_known else rng.random(n)
    truth = rng.normal(size=(n, items))
    taste = told * truth * (evidence[:, None] if by_known else 1) + rng.gumbel(size=truth.shape)
    wanted = taste >= np.sort(taste, axis=1)[:, [-3]]
    parts = [part.astype(np.float32) for part in (truth, rng.normal(size=truth.shape), np.zeros((1, items)))]
    return draw_lists(parts, wanted, np.ones_like(wanted), evidence, 1.0, rng)


@pytest.mark.parametrize("each", [0.0, 0.5])
def test_the_part_that_tells_is_found_and_the_others_get_next_to_nothing(each: float) -> None:
    found = learn(made_up(), np.full((2, 3), 0.5), np.zeros(3), MOST, each=each, pull=3.0)
    assert found.shape == (2, 3)
    assert (found[:, 0] > 0.8).all()
    assert (found[:, 1] < 0.1).all()


def test_a_part_that_tells_of_known_users_alone_counts_for_them_alone() -> None:
    found = learn(made_up(600, by_known=True), np.full((2, 3), 0.5), np.zeros(3), MOST, each=0.5, pull=3.0)
    assert found[1, 0] > 0.8
    assert found[0, 0] < 0.15


def test_weights_keep_within_their_bounds() -> None:
    least = np.array([0.0, 0.05, 0.0])
    found = learn(made_up(told=50.0), np.full((2, 3), 0.5), least, 1.0, each=0.5, pull=0.0)
    assert (found >= least).all()
    assert found.max() <= 1.0
    assert found[0, 0] == 1.0
    backwards = made_up()
    backwards.parts[..., 0] *= -1
    turned = learn(backwards, np.full((2, 3), 0.5), least, MOST, each=0.5, pull=3.0)
    assert (turned[:, 0] < 0.01).all()  # no weight is negative


def test_few_lists_stay_nearer_to_the_prior_than_many() -> None:
    prior = np.tile([0.2, 1.0, 0.0], (2, 1))
    shares = []
    for n in (10, 100, 1000):
        found = learn(made_up(n), prior, np.zeros(3), MOST, each=0.5, pull=30.0)
        shares.append(float((found[:, 1] / found.sum(axis=1)).mean()))
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] < 0.1


def test_the_weights_are_where_the_loss_is_least() -> None:
    lists = made_up(80)

    def loss(weights: np.ndarray) -> float:
        """By its definition, list by list."""
        total = 0.0
        for row in range(len(lists)):
            own = weights[0] + lists.evidence[row] * (weights[1] - weights[0])
            scores, wanted = lists.parts[row].astype(np.float64) @ own, lists.wanted[row]
            counted = scores + lists.log_counts[row]
            everything = logsumexp(counted)
            total -= 0.5 * (logsumexp(counted[wanted]) - everything) + 0.5 * (scores[wanted] - everything).mean()
        return total

    found = learn(lists, np.full((2, 3), 0.5), np.zeros(3), MOST, each=0.5, pull=1e-9)
    best = loss(found)
    for row, part in ((0, 0), (1, 0), (0, 1), (1, 1)):
        for step in (-0.05, 0.05):
            other = found.copy()
            other[row, part] = max(other[row, part] + step, 0.0)
            assert loss(other) >= best - 1e-6


def test_what_is_drawn_stands_for_all() -> None:
    rng = np.random.default_rng(0)
    wanted = np.zeros((2, 1000), bool)
    wanted[0, :100], wanted[1, 7] = True, True
    open_ = np.ones_like(wanted)
    open_[1, 500:] = False
    parts = [np.arange(1000, dtype=np.float32)[None], rng.normal(size=wanted.shape).astype(np.float32)]
    lists = draw_lists(parts, wanted, open_, np.array([0.0, 1.0]), 0.2, rng)
    assert lists.parts.shape == (2, 210, 2)
    assert lists.wanted.sum(axis=1).tolist() == [60, 1]
    np.testing.assert_allclose(np.exp(lists.log_counts).sum(axis=1), [1000, 500])
    there = lists.log_counts > -np.inf
    for row in range(2):
        items = lists.parts[row, there[row], 0].astype(int)
        assert len(set(items)) == len(items)
        assert open_[row, items].all()
        np.testing.assert_array_equal(wanted[row, items], lists.wanted[row, there[row]])
        np.testing.assert_array_equal(lists.parts[row, there[row], 1], parts[1][row, items])
    assert lists.importance.tolist() == [0.2, 0.2]


def test_lists_are_joined_and_those_of_nobody_add_none() -> None:
    some = made_up(5)
    nobody = draw_lists(
        [np.zeros((0, 9), np.float32), np.zeros((1, 9), np.float32), np.zeros((0, 9), np.float32)],
        np.zeros((0, 9), bool), np.zeros((0, 9), bool), np.zeros(0), 1.0, np.random.default_rng(0),
    )  # fmt: skip
    assert len(nobody) == 0
    assert len(Lists.joined([some, nobody, some])) == 10


def test_of_a_list_of_wanted_items_alone_nothing_else_is_drawn() -> None:
    everything = np.ones((1, 4), bool)
    lists = draw_lists([np.ones((1, 4), np.float32)], everything, everything, np.ones(1), 1.0, np.random.default_rng(0))
    assert (lists.log_counts > -np.inf).sum() == lists.wanted.sum() == 4
