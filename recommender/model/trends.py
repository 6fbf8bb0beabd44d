"""Time: how many users an item had lately, how long it has had any, and how much users do lately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.data.interactions import Interactions

# Days before the last interaction.
WINDOWS = (7, 30, 90)
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Trends:
    """Of the items and users at a fit, as of its last interaction.

    Attributes:
        popularity: (3, items) float32, log(1 + users) within the last 7, 30 and 90 days.
        newness: (items,) float32, -log(1 + days since the first interaction); 0 for items without.
        activity: (users,) float32, log Σ (1 + days since)^-½ over the interactions of a user; 0 for users without.
            Without times, it is the logarithm of their number. The need for something falls as a power of the time
            since it was last needed, with an exponent of about ½ (Anderson and Schooler 1991, "Reflections of the
            environment in memory"), so there is no half-life to be chosen.
    """

    popularity: NDArray[np.float32]
    newness: NDArray[np.float32]
    activity: NDArray[np.float32]

    @classmethod
    def fit(cls, interactions: Interactions) -> Trends:
        """Count in the interactions of a fit; what items have is zero where they have no time."""
        n = len(interactions.item_ids)
        now = interactions.timestamps.max()
        fading = 1 / np.sqrt(1 + (now - interactions.timestamps) / _DAY)
        sums = np.bincount(interactions.users, fading, minlength=len(interactions.user_ids))
        activity = np.log(np.where(sums > 0, sums, 1)).astype(np.float32)
        if now == interactions.timestamps.min():
            return cls(np.zeros((len(WINDOWS), n), np.float32), np.zeros(n, np.float32), activity)
        width = max(n, 1)
        counted = []
        for days in WINDOWS:
            late = interactions.timestamps > now - days * _DAY
            pairs = np.unique(interactions.users[late] * width + interactions.items[late])
            counted.append(np.log1p(np.bincount(pairs % width, minlength=n)))
        first = np.full(n, now)
        np.minimum.at(first, interactions.items, interactions.timestamps)
        return cls(np.array(counted, np.float32), -np.log1p((now - first) / _DAY).astype(np.float32), activity)

    def activity_of(self, rows: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.float32]:
        """(users,) float32: `activity` of some users with history.

        Args:
            rows: (users,), rows of the recommender. What users do who came after the fit counts as done now.
            n: (users,), how many items they have.
        """
        known = np.zeros(len(rows), np.float32)
        inside = rows < len(self.activity)
        known[inside] = self.activity[rows[inside]]
        return np.where(known, known, np.log(np.maximum(n, 1))).astype(np.float32)
