"""Interleaving: two arms fill one list in turns, and users show by what they do which arm's items they prefer.

Team draft of Radlinski, Kurup and Joachims (2008, How does clickthrough data reflect retrieval quality?,
https://doi.org/10.1145/1458082.1458092). Who sees both arms compares them, so that fewer users are needed than for an
A/B test; it says which list is preferred, and not by how much a number of the shop changes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.serve.experiments.assignment import part_of
from recommender.serve.experiments.ratios import evidence

# The shares that are tried for the interval.
_GRID = np.linspace(0.001, 0.999, 999)


@dataclass(frozen=True)
class Preference:
    """What the users who decided prefer.

    Attributes:
        first: how many prefer the first arm.
        second: how many prefer the second one.
        low: the lower bound of the share of those who prefer the second arm; valid at every look.
        high: the upper bound.
    """

    first: int
    second: int
    low: float
    high: float

    @classmethod
    def of(cls, signs: NDArray[np.float64], error: float) -> Preference:
        """Of users, each with the credit of the second arm less that of the first.

        A user of equal lists is as likely to prefer one as the other. Those without a preference say nothing.

        Args:
            signs: (n,), above 0 for those who prefer the second arm.
            error: the probability that the interval ever misses.
        """
        counts = np.array([(signs < 0).sum(), (signs > 0).sum()], np.float64)
        inside = _GRID[evidence(counts, np.column_stack([1 - _GRID, _GRID])) < -math.log(error)]
        step = float(_GRID[1] - _GRID[0])
        low, high = max(float(inside.min(initial=1)) - step, 0.0), min(float(inside.max(initial=0)) + step, 1.0)
        return cls(int(counts[0]), int(counts[1]), low, high)


def drafted(first: Sequence[str], second: Sequence[str], fixed: Collection[str], seed: str) -> list[tuple[str, int]]:
    """One list of two: the team with fewer picks takes its best item that is left; a coin decides when even.

    Args:
        first: item ids of the first arm, the best first.
        second: of the second arm.
        fixed: items that come first in both lists, and are of no team.
        seed: of the coin.

    Returns:
        Item ids as many as the longer list has, each with 0 or 1 for its team, −1 for those of no team.

    >>> drafted(["a", "b", "c"], ["a", "c", "d"], (), "x")
    [('a', 0), ('c', 1), ('d', 1)]
    """
    lists, picks = (first, second), [0, 0]
    found = {item: -1 for item in first if item in fixed}
    while len(found) < max(map(len, lists)):
        coin = part_of(seed, str(len(found))) < 0.5
        order = [0, 1] if picks[0] < picks[1] or (picks[0] == picks[1] and coin) else [1, 0]
        left = [(team, item) for team in order for item in lists[team] if item not in found][:1]
        if not left:
            break
        team, item = left[0]
        found[item], picks[team] = team, picks[team] + 1
    return list(found.items())
