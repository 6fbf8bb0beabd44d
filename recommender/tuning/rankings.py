"""Rankings of a division with the parts of their scores, so that weights can be tried without computing them again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.model.fitted import Fitted
from recommender.model.scoring import standard_parts
from recommender.model.weights import PARTS, Weights
from recommender.tuning.climbing import Ranked
from recommender.tuning.divisions import Division
from recommender.tuning.held_out_rankings import HeldOutRankings, Mask

# The fewest rankings that a choice is made on.
FEWEST = 10
# The most users of a division, and the most scores of a part that are kept of them: of all they want, and with others.
_MOST_USERS, _MOST_WANTED, _MOST_SCORES = 600, 7_200_000, 2_400_000
# The fewest users, however many items they want.
_FEWEST_USERS = 100


@dataclass(frozen=True)
class Rankings:
    """Some users of a division, some items, and the parts of their scores.

    Attributes:
        users: those that want something.
        columns: (items,), rows of the items.
        ranked: of all of them.
        cold: (items,).
        in_time: whether what is wanted is later.
        crowding: how many items that nobody ever took come on each known one, beside how many new ones that somebody
            took: 1 if what was not taken yet is as much as what was new in this division.
    """

    users: Entities
    columns: NDArray[np.int64]
    ranked: Ranked
    cold: Mask
    in_time: bool
    crowding: float = 1.0

    @classmethod
    def of(cls, fitted: Fitted, division: Division, rng: np.random.Generator) -> Rankings:
        """Users with something wanted, fewer if that is very many items; the candidates are items that anybody has."""
        users = rng.permutation(np.unique(division.wanted.users))
        new = np.diff(fitted.seen.whole.indptr)[users] == 0
        users = np.concatenate([users[~new][: _MOST_USERS * 2 // 3], users[new][: _MOST_USERS // 3]])
        while len(users) >= 2 * _FEWEST_USERS and len(users) * _n_items_of(users, division) > _MOST_WANTED:
            users = users[::2]
        rankings = HeldOutRankings.of_users(division.wanted, fitted, users)
        had = np.asarray(fitted.seen.whole.astype(bool).sum(axis=0)).ravel() > 0
        had[division.wanted.items] = True
        cold = fitted.all_items.cold
        known, new, never = (int(some.sum()) for some in (had & ~cold, had & cold, ~had))
        crowding = never / (known + new) / (new / known) if known and new else 1.0
        wanted = rankings.wanted.any(axis=0)
        others = rng.permutation(np.flatnonzero(had & ~wanted))
        most = max(_MOST_SCORES // max(len(users), 1) - int(wanted.sum()), 100)
        columns = np.sort(np.concatenate([np.flatnonzero(wanted), others[:most]]))
        rows = np.flatnonzero(rankings.wanted.any(axis=1))
        some = rankings.users.take(rows)
        parts = standard_parts(fitted, some, PARTS, columns)
        weights = fitted.parameters.weights
        n = np.diff(fitted.history.take(rankings.rows[rows]).indptr)
        block = np.ix_(rows, columns)
        ranked = Ranked(
            parts, rankings.wanted[block], ~rankings.known[block], weights.evidence(n).astype(np.float64), 1.0
        )
        return cls(some, columns, ranked, cold[columns], division.in_time, crowding)

    def side(self, name: str, importance: float) -> Ranked:
        """Those users that want an item of a side, among its items."""
        columns = np.flatnonzero(self.cold if name == "cold" else ~self.cold)
        rows = np.flatnonzero(self.ranked.wanted[:, columns].any(axis=1))
        return replace(self.ranked.take(rows, columns), importance=importance)


def _n_items_of(users: NDArray[np.int64], division: Division) -> int:
    """How many items some users want."""
    return len(np.unique(division.wanted.items[np.isin(division.wanted.users, users)]))


def weights_of(weights: Weights, side: str) -> NDArray[np.float64]:
    """(2, k): the weights of all parts for "warm" or "cold" items; for users without evidence, and with much."""
    pairs = weights.warm if side == "warm" else weights.cold
    return np.array([pairs.get(part, (0.0, 0.0)) for part in PARTS]).T
