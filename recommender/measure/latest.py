"""Which interactions are the latest, where the data have time at all, and how many of them are of new items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recommender.data.interactions import Interactions

# The share of the interactions that is set aside as the latest ones.
LATEST = 0.15
# Each part needs this share of the interactions. If one moment holds nearly all of them, their order says nothing.
SMALLEST_PART = 0.05


def latest(timestamps: NDArray[np.datetime64], share: float) -> NDArray[np.bool_] | None:
    """Return which rows are after all others, in whole moments.

    Args:
        timestamps: (n,) datetime64.
        share: about the share of rows that are wanted.

    Returns:
        (n,) bool, or None if no moment divides the rows into two parts of at least `SMALLEST_PART`.

    >>> days = np.array(["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"], "datetime64[us]")
    >>> latest(days, 0.25).tolist(), latest(days[1:3], 0.25)
    ([False, False, False, True], None)
    """
    if not len(timestamps):
        return None
    moment = np.sort(timestamps)[int((1 - share) * (len(timestamps) - 1))]
    for rows in (timestamps > moment, timestamps >= moment):
        if SMALLEST_PART <= rows.mean() <= 1 - SMALLEST_PART:
            return np.asarray(rows)
    return None


# The share of pairs of cold items in a list of both kinds: where the data cannot tell, and its bounds.
COLD_SHARE = 0.05
_FEWEST_COLD, _MOST_COLD = 0.02, 0.5


def cold_share_of(interactions: Interactions) -> float:
    """Return how often users with history take new items, as a split at the latest 15 % of the interactions shows.

    Of the pairs of user and item whose first interaction is among the latest ones, whose user has earlier ones, and
    that were not returned: the share whose item has no earlier interaction of anybody.

    Returns:
        a share from 0.02 to 0.5; 0.05 (`COLD_SHARE`) if the data have no time or no such pairs.

    >>> days = np.array(["2024-01-01"] * 8 + ["2024-01-02"] * 2, "datetime64[us]")
    >>> users, items = np.array([0, 1] * 5), np.array([0] * 7 + [1, 1, 2])
    >>> cold_share_of(Interactions(["a", "b"], ["x", "y", "z"], users, items, days, np.ones(10, np.float32)))
    0.5
    """
    later = latest(interactions.timestamps, LATEST)
    if later is None:
        return COLD_SHARE
    width = len(interactions.item_ids)
    keys = interactions.users * width + interactions.items
    new = np.unique(keys[later & np.isnat(interactions.returned)])
    new = new[~np.isin(new, keys[~later])]
    known_users = np.bincount(interactions.users[~later], minlength=len(interactions.user_ids)) > 0
    known_items = np.bincount(interactions.items[~later], minlength=width) > 0
    new = new[known_users[new // width]]
    if not len(new):
        return COLD_SHARE
    return float(np.clip((~known_items[new % width]).mean(), _FEWEST_COLD, _MOST_COLD))
