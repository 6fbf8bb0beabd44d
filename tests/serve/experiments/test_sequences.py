"""Intervals: they are those of the formulas, and hold at all looks together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.serve.experiments.fixed import compared, users_needed
from recommender.serve.experiments.ratios import ALARM, always_valid_p, evidence
from recommender.serve.experiments.sequences import (
    LEAST_USERS,
    Sums,
    asymptotic,
    bets,
    betting,
    precision,
    pseudo_outcomes,
    radius,
    reach,
    wealth,
)

ERROR = 0.05
HALVES = np.array([0.5, 0.5])


def sums(mine: np.ndarray, y: np.ndarray, x: np.ndarray | None = None) -> tuple[Sums, Sums]:
    return Sums.of(~mine, y, x), Sums.of(mine, y, x)


def people(rng: np.random.Generator, shape: Any, rate: float, lift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    mine = rng.random(shape) < 0.5
    return mine, (rng.random(shape) < rate * (1 + lift * mine)).astype(np.float64)


def test_the_radius_is_that_of_the_theorem() -> None:
    n, sigma, rho = 400, 2.0, 0.1
    by_hand = sigma * math.sqrt(2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / ERROR))
    found = radius(np.array([400.0]), np.array([sigma**2 / n]), ERROR, rho**2)
    assert found[0] == pytest.approx(by_hand)


def test_the_sequence_is_narrowest_in_proportion_at_the_planned_number_of_users() -> None:
    n = np.arange(100, 100_000, 10).astype(np.float64)
    widths = radius(n, 1 / n, ERROR, precision(5_000, ERROR)) * np.sqrt(n)
    assert n[widths.argmin()] == pytest.approx(5_000, rel=0.1)
    # About 2.4 times the users of an interval with one look.
    assert (widths.min() / 1.96) ** 2 == pytest.approx(2.4, abs=0.05)


def test_sums_are_means_and_ratios_with_the_variance_of_the_delta_method() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(1, 6, 500).astype(np.float64)
    y = rng.binomial(x.astype(int), 0.3).astype(np.float64)
    mean, variance = (each[-1] for each in Sums.of(np.ones(500), y).ratio())
    assert (mean, variance) == pytest.approx((y.mean(), y.var(ddof=1) / 500))
    ratio, variance = (each[-1] for each in Sums.of(np.ones(500), y, x).ratio())
    assert ratio == pytest.approx(y.sum() / x.sum())
    drawn = rng.integers(0, 500, (4_000, 500))
    assert variance == pytest.approx((y[drawn].sum(axis=1) / x[drawn].sum(axis=1)).var(), rel=0.1)


def test_there_is_no_interval_before_both_arms_have_users() -> None:
    mine, y = np.arange(2 * LEAST_USERS) % 2 == 1, np.ones(2 * LEAST_USERS)
    y[:7] = 0
    found = asymptotic(*sums(mine, y), ERROR, 1_000)
    assert np.isinf(found.high[:-1]).all()
    assert np.isfinite(found.high[-1])


@pytest.mark.parametrize(("rate", "planned"), [(0.01, 2_000), (0.2, 500)])
def test_equal_arms_are_seldom_told_apart_with_a_look_after_every_user(rate: float, planned: int) -> None:
    mine, y = people(np.random.default_rng(1), (400, 4_000), rate)
    found = asymptotic(*sums(mine, y), ERROR, planned)
    wrong = ((found.low > 0) | (found.high < 0)).any(axis=1).mean()
    z = pseudo_outcomes(mine, y, 0.5)
    bet = (wealth(z, bets(z, -2, 2, ERROR), 0, -2, 2) > -math.log(ERROR)).any(axis=1).mean()
    # With 400 runs at .05, more than .08 has a probability below .005.
    assert wrong <= 0.08
    assert bet <= 0.08


def test_arms_that_differ_are_told_apart_and_the_difference_is_inside() -> None:
    mine, y = people(np.random.default_rng(2), 20_000, 0.1, lift=0.5)
    by_limit = asymptotic(*sums(mine, y), ERROR, 10_000)
    by_bets = betting(mine, y, 0.5, ERROR, np.array([10, 1_000, 20_000]))
    for found in (by_limit, by_bets):
        difference, low, high = found.last()
        assert low < 0.05 < high
        assert low > 0
        assert difference == pytest.approx(0.05, abs=0.02)
    assert by_bets.low[0] < -0.5
    assert by_bets.high[0] > 0.5


def test_the_bounds_of_bets_are_where_the_capital_is_reached() -> None:
    mine, y = people(np.random.default_rng(3), 2_000, 0.2)
    _, low, high = betting(mine, y, 0.5, ERROR, np.array([2_000])).last()
    z = pseudo_outcomes(mine, y, 0.5)
    bet = bets(z, -2, 2, ERROR)
    outside = [wealth(z, bet, mean, -2, 2)[-1] for mean in (low - 1e-3, high + 1e-3)]
    inside = [wealth(z, bet, mean, -2, 2)[-1] for mean in (low + 1e-2, high - 1e-2)]
    assert min(outside) > -math.log(ERROR) > max(inside)


def test_unequal_shares_do_not_bias_bets() -> None:
    rng = np.random.default_rng(4)
    mine = rng.random((300, 3_000)) < 0.1
    y = (rng.random(mine.shape) < 0.3).astype(np.float64)
    z = pseudo_outcomes(mine, y, 0.1)
    low, high = -reach(0.1), reach(0.1)
    assert z.mean() == pytest.approx(0, abs=0.01)
    assert (wealth(z, bets(z, low, high, ERROR), 0, low, high) > -math.log(ERROR)).any(axis=1).mean() <= 0.09


def test_planned_shares_raise_no_alarm_and_lost_users_do() -> None:
    rng = np.random.default_rng(5)
    shares = np.array([0.2, 0.8])
    wrong = [always_valid_p((rng.random(3_000) < 0.8).astype(np.int64), shares) < 0.05 for _ in range(200)]
    assert np.mean(wrong) <= 0.09
    assert always_valid_p((rng.random(3_000) < 0.9).astype(np.int64), shares) < ALARM
    assert always_valid_p(np.array([], np.int64), shares) == 1
    # By hand: one head of a coin whose prior is symmetric says nothing.
    assert evidence(np.array([1.0, 0.0]), HALVES) == pytest.approx(0)


def test_the_test_with_one_look_is_helped_by_what_users_did_before() -> None:
    rng = np.random.default_rng(6)
    treated, before = rng.random(4_000) < 0.5, rng.gamma(1, 10, 4_000)
    y = before + rng.normal(0, 3, 4_000) + 1.0 * treated
    difference, low, high, p, left = compared(treated, y, before, ERROR)
    assert low < 1 < high
    assert difference == pytest.approx(1, abs=0.3)
    assert p < 1e-6
    assert left == pytest.approx(9 / 109, abs=0.03)
    _, wide_low, wide_high, _, whole = compared(treated, y, np.zeros(4_000), ERROR)
    assert whole == 1
    assert (high - low) < (wide_high - wide_low) / 2
    assert math.isnan(compared(treated, np.zeros(4_000), before, ERROR)[0])


def test_the_users_needed_are_those_of_the_formula() -> None:
    rate, effect = 0.05, 0.1
    by_hand = 2 * 2 * rate * (1 - rate) * (1.95996 + 0.84162) ** 2 / (rate * effect) ** 2
    assert users_needed(rate, effect) == pytest.approx(by_hand, rel=0.01)
    with pytest.raises(ColdStartError, match="must lie between 0 and 1"):
        users_needed(0.9, 0.5)
