"""Coordinate ascent of weights on NDCG@20."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.measure.metrics import ndcg

Floats = NDArray[np.float64]
_FACTORS = (0.0, 0.5, 0.7, 1.4, 2.0)
# From nothing, in shares of the sum of weights.
_BEGINNINGS = (0.05, 0.15)
_ROUNDS = 3
# Standard errors by which a step has to be better: the best of many tries looks better than it is.
_SURE = 1.0
# What is measured of a ranking: the items that score best with the first weights, the wanted ones before all others.
_TOP = 200


@dataclass(frozen=True)
class Ranked:
    """The parts of the scores of l users with m items.

    Attributes:
        parts: k arrays, (l, m) or (1, m).
        wanted: (l, m).
        open_: (l, m), the candidates.
        evidence: (l,), how much each user is a known one, 0 to 1.
        importance: of each user.
    """

    parts: Sequence[NDArray[np.float32]]
    wanted: NDArray[np.bool_]
    open_: NDArray[np.bool_]
    evidence: Floats
    importance: float

    def take(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Ranked:
        """These users and items."""
        parts = [part[np.ix_(rows, columns)] if len(part) > 1 else part[:, columns] for part in self.parts]
        block = np.ix_(rows, columns)
        return Ranked(parts, self.wanted[block], self.open_[block], self.evidence[rows], self.importance)

    def halves(self) -> list[Ranked]:
        """Every other user, and the others."""
        columns = np.arange(self.wanted.shape[1])
        return [self.take(np.arange(start, len(self), 2), columns) for start in (0, 1)]

    def top(self, weights: Floats) -> Ranked:
        """The same users, each with the 200 items that score best, the wanted ones before all others."""
        if self.wanted.shape[1] <= _TOP:
            return self
        order = np.where(self.open_, self.scores(weights), -np.inf)
        order[self.wanted] = np.inf
        columns = np.sort(np.argpartition(-order, _TOP - 1, axis=1)[:, :_TOP], axis=1)
        rows = np.arange(len(self))[:, None]
        parts = [part[0 if len(part) == 1 else rows, columns] for part in self.parts]
        return Ranked(parts, self.wanted[rows, columns], self.open_[rows, columns], self.evidence, self.importance)

    def __len__(self) -> int:
        return len(self.wanted)

    def of(self, part: int, weights: Floats) -> NDArray[np.float32]:
        """(l, m): one part, weighed; `weights` is (2,)."""
        own = weights[0] + self.evidence * (weights[1] - weights[0])
        return np.asarray(self.parts[part] * own[:, None].astype(np.float32))

    def scores(self, weights: Floats) -> NDArray[np.float32]:
        """(l, m): all parts, weighed; `weights` is (2, k)."""
        total = np.zeros(self.wanted.shape, np.float32)
        for part in range(len(self.parts)):
            if weights[:, part].any():
                total += self.of(part, weights[:, part])
        return total

    def quality(self, scores: NDArray[np.float32]) -> Floats:
        """(l,): NDCG@20 of each."""
        return ndcg(scores, self.wanted, self.open_)


def climb(rankings: Sequence[Ranked], weights: Floats, least: Floats, most: float) -> Floats:
    """Change one weight after the other as long as NDCG@20 of the rankings rises for sure.

    Only the items are ranked that are wanted or come first with the weights to begin with.

    Args:
        rankings: to measure on.
        weights: (2, k), to begin with.
        least: (k,), the least weight of each part.
        most: the largest weight.

    Returns:
        (2, k), with the sum of all weights as it was: rankings do not depend on it.
    """
    rankings = [one.top(weights) for one in rankings if len(one)]
    if not rankings:
        return weights
    best, totals = weights.copy(), [one.scores(weights) for one in rankings]
    importance = np.concatenate([np.full(len(one), one.importance) for one in rankings])
    importance /= importance.sum()
    values = np.concatenate([one.quality(total) for one, total in zip(rankings, totals, strict=True)])
    for _ in range(_ROUNDS):
        changed = False
        for row, part in np.ndindex(*best.shape):
            now = best[row, part]
            sum_ = best[row].sum()
            tried = {now * factor for factor in _FACTORS} | {sum_ * share for share in _BEGINNINGS if not now}
            found = None
            for value in sorted({float(np.clip(one, least[part], most)) for one in tried} - {now}):
                step = best[:, part].copy()
                step[row] = value
                new = [
                    total + one.of(part, step - best[:, part]) for one, total in zip(rankings, totals, strict=True)
                ]
                after = np.concatenate([one.quality(total) for one, total in zip(rankings, new, strict=True)])
                gains = after - values
                gain = float(importance @ gains)
                error = float(np.sqrt(((importance * (gains - gain)) ** 2).sum()))
                if gain > _SURE * error and (found is None or gain > found[0]):
                    found = gain, step, new, after
            if found:
                _, best[:, part], totals, values = found
                changed = True
        if not changed:
            break
    return np.asarray(best * (weights.sum() / max(best.sum(), 1e-9)))
