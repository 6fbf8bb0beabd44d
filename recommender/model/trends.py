"""Time: how many users an item had lately, and how long it has had any."""

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
    """Of the items at a fit, as of its last interaction.

    Attributes:
        popularity: (3, items) float32, log(1 + users) within the last 7, 30 and 90 days.
        newness: (items,) float32, -log(1 + days since the first interaction); 0 for items without.
    """

    popularity: NDArray[np.float32]
    newness: NDArray[np.float32]

    @classmethod
    def fit(cls, interactions: Interactions) -> Trends:
        """Count in the interactions of a fit; all is zero where they have no time."""
        n = len(interactions.item_ids)
        now = interactions.timestamps.max()
        if now == interactions.timestamps.min():
            return cls(np.zeros((len(WINDOWS), n), np.float32), np.zeros(n, np.float32))
        width = max(n, 1)
        counted = []
        for days in WINDOWS:
            late = interactions.timestamps > now - days * _DAY
            pairs = np.unique(interactions.users[late] * width + interactions.items[late])
            counted.append(np.log1p(np.bincount(pairs % width, minlength=n)))
        first = np.full(n, now)
        np.minimum.at(first, interactions.items, interactions.timestamps)
        return cls(np.array(counted, np.float32), -np.log1p((now - first) / _DAY).astype(np.float32))
