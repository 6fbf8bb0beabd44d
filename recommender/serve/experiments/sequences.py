"""Confidence sequences: intervals that hold at all looks together, however often one looks.

The asymptotic one is of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021, Time-uniform central limit theory and
asymptotic confidence sequences, https://arxiv.org/abs/2103.06476), the betting one of Waudby-Smith and Ramdas (2020,
Estimating means of bounded random variables by betting, https://arxiv.org/abs/2010.09686).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

# An interval by the central limit theorem needs so many users in each arm.
LEAST_USERS = 50
# No bet risks more than this share of the capital that could be lost.
_BOLDEST = 0.5
_GRID = 41
_ZOOMS = 3


@dataclass(frozen=True)
class Sums:
    """Of the users of one arm, after each of n users of both arms, (…, n) each.

    Attributes:
        users: how many users the arm has.
        y: the sum of the numerators y.
        x: the sum of the denominators x.
        yy: of y².
        xy: of x·y.
        xx: of x².
    """

    users: Numbers
    y: Numbers
    x: Numbers
    yy: Numbers
    xy: Numbers
    xx: Numbers

    @classmethod
    def of(cls, mine: ArrayLike, y: ArrayLike, x: ArrayLike | None = None) -> Sums:
        """Add up along the last axis.

        Args:
            mine: (…, n), whether a user is of this arm.
            y: (…, n), the users' numerators.
            x: (…, n), their denominators; None is 1 for everybody.
        """
        inside = np.asarray(mine, np.float64)
        own = inside * np.asarray(y, np.float64)
        users, sums, squares = (np.cumsum(each, axis=-1) for each in (inside, own, own * own))
        if x is None:
            return cls(users, sums, users, squares, sums, users)
        below = inside * np.asarray(x, np.float64)
        rest = (np.cumsum(each, axis=-1) for each in (own * below, below * below))
        return cls(users, sums, np.cumsum(below, axis=-1), squares, *rest)

    def ratio(self) -> tuple[Numbers, Numbers]:
        """Σy/Σx, and its variance by the delta method: Var(y − (Σy/Σx)·x) / (mean x)² / users; NaN without users.

        With x = 1 these are the mean and its variance. The delta method for ratios of sums over users: Deng, Knoblich
        and Lu (2018, https://arxiv.org/abs/1803.06336).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.y / self.x
            spread = np.maximum(self.yy - 2 * ratio * self.xy + ratio**2 * self.xx, 0)
            return ratio, spread / self.x**2 * self.users / np.maximum(self.users - 1, 1)


@dataclass(frozen=True)
class Sequence:
    """A difference after each of n users, with its interval, (…, n) each.

    Attributes:
        difference: the estimate; NaN while there is none.
        low: the lower bound; −∞ while there is none.
        high: likewise.
    """

    difference: Numbers
    low: Numbers
    high: Numbers

    def last(self) -> tuple[float, float, float]:
        """The difference and its bounds after the last user, of one experiment."""
        if not self.difference.size:
            return math.nan, -math.inf, math.inf
        return float(self.difference[-1]), float(self.low[-1]), float(self.high[-1])


def precision(planned: float, error: float) -> float:
    """ρ², which makes an asymptotic sequence narrowest, in proportion, after `planned` users (arXiv 2103.06476)."""
    twice = -2 * math.log(error)
    return (twice + math.log(twice + 1)) / planned


def radius(n: Numbers, variance: Numbers, error: float, rho2: float) -> Numbers:
    """Half the width of an asymptotic confidence sequence (arXiv 2103.06476, theorem 2.2).

    Args:
        n: how many users were seen.
        variance: of the estimate after them; the theorem's σ²/n.
        error: the probability that the sequence ever misses, in the limit.
        rho2: see `precision`.
    """
    t = n * rho2
    return np.asarray(np.sqrt(variance * (t + 1) / t * (np.log(t + 1) - 2 * math.log(error))))


def asymptotic(control: Sums, arm: Sums, error: float, planned: float) -> Sequence:
    """The sequence of the difference of two arms, after each user.

    There is no interval until both arms have `LEAST_USERS`.

    Args:
        control: what is compared with.
        arm: what is compared.
        error: the probability that the sequence ever misses.
        planned: see `precision`.
    """
    (base, of_base), (other, of_other) = control.ratio(), arm.ratio()
    n = control.users + arm.users
    half = radius(np.maximum(n, 1), of_base + of_other, error, precision(planned, error))
    known = (np.minimum(control.users, arm.users) >= LEAST_USERS) & np.isfinite(half)
    difference = other - base
    half = np.where(known, half, np.inf)
    found = np.where(np.isfinite(difference), difference, 0)
    return Sequence(difference, found - half, found + half)


def pseudo_outcomes(mine: NDArray[np.bool_], y: ArrayLike, share: float) -> Numbers:
    """(…, n): (y − m)/share for users of the arm, −(y − m)/(1 − share) for those of the control.

    m is the mean over the users before. Given these, the expectation is the difference of the arms' means, whatever m
    is (Horvitz and Thompson 1952); m makes the variance small. With y between 0 and 1 they lie within `reach`.
    """
    values = np.asarray(y, np.float64)
    before = np.cumsum(values, axis=-1) - values
    centred = values - before / np.maximum(np.arange(values.shape[-1]), 1)
    return np.asarray(centred * np.where(mine, 1 / share, -1 / (1 - share)))


def reach(share: float) -> float:
    """How far pseudo-outcomes of numbers between 0 and 1 are from 0 at most."""
    return 1 / min(share, 1 - share)


def bets(z: Numbers, low: float, high: float, error: float) -> Numbers:
    """(…, n): how much to bet on each outcome, decided by those before it (arXiv 2010.09686, equations 26 and 27).

    Args:
        z: (…, n), outcomes between low and high.
        low: the least outcome.
        high: the greatest.
        error: see `betting`.
    """
    count = np.arange(1, z.shape[-1] + 1)
    width = high - low
    x = (z - low) / width
    mean = (0.5 + np.cumsum(x, axis=-1)) / (count + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2, axis=-1)) / (count + 1)
    before = np.concatenate([np.full((*z.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    return np.asarray(np.sqrt(2 * math.log(2 / error) / (before * count * np.log(count + 1))) / width)


def wealth(z: Numbers, bet: Numbers, mean: float, low: float, high: float) -> Numbers:
    """(…, n): the logarithm of the hedged capital against a mean: half bets that it is more, half that it is less.

    If it is the mean, the capital ever exceeds 1/error with probability `error` at most.
    """
    up = np.minimum(bet, _BOLDEST / max(mean - low, 1e-12))
    down = np.minimum(bet, _BOLDEST / max(high - mean, 1e-12))
    both = (np.cumsum(np.log1p(sign * some * (z - mean)), axis=-1) for sign, some in ((1, up), (-1, down)))
    return np.asarray(np.maximum(*both) - math.log(2))


def betting(mine: NDArray[np.bool_], y: ArrayLike, share: float, error: float, at: NDArray[np.int64]) -> Sequence:
    """The sequence of the difference of two arms' means of numbers between 0 and 1, valid for any number of users.

    Args:
        mine: (n,), whether a user is of the arm that is compared.
        y: (n,), 0 to 1.
        share: the probability of the arm among the two.
        error: the probability that the sequence ever misses.
        at: (p,), after which users to give it, from 1, ascending.

    Returns:
        Arrays (p,).
    """
    z, high = pseudo_outcomes(mine, y, share), reach(share)
    bet = bets(z, -high, high, error)
    bounds = [_bounds(z[:n], bet[:n], -high, high, error) for n in at.tolist()]
    lows, highs = np.array(bounds).reshape(-1, 2).T
    difference = Sums.of(mine, y).ratio()[0] - Sums.of(~mine, y).ratio()[0]
    return Sequence(difference[at - 1], lows, highs)


def _bounds(z: Numbers, bet: Numbers, low: float, high: float, error: float) -> tuple[float, float]:
    """The outermost means between −1 and 1 against which the capital is below 1/error, by a grid that is refined."""
    grid, kept = np.linspace(-1, 1, _GRID), (-1.0, 1.0)
    for _ in range(_ZOOMS):
        capital = np.array([_last_wealth(z, bet, mean, low, high) for mean in grid.tolist()])
        inside = np.flatnonzero(capital < -math.log(error))
        if not len(inside):  # it lies between two points of the grid: there the capital is least
            inside = np.array([int(capital.argmin())])
        kept = float(grid[max(inside[0] - 1, 0)]), float(grid[min(inside[-1] + 1, _GRID - 1)])
        grid = np.linspace(*kept, _GRID)
    return kept


def _last_wealth(z: Numbers, bet: Numbers, mean: float, low: float, high: float) -> float:
    up = np.minimum(bet, _BOLDEST / max(mean - low, 1e-12))
    down = np.minimum(bet, _BOLDEST / max(high - mean, 1e-12))
    both = (float(np.log1p(sign * some * (z - mean)).sum()) for sign, some in ((1, up), (-1, down)))
    return max(both) - math.log(2)
