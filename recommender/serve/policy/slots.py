"""Which places of a list are reserved for exploration."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError

MOST = 0.5


def check_share(share: float) -> float:
    """The share, if it is possible.

    Raises:
        ColdStartError: it is not from 0 to 0.5.
    """
    if not 0 <= share <= MOST:
        raise ColdStartError(f"the share of explored places is {share}; give a number from 0 (none) to {MOST} (half)")
    return share


def number_of_slots(places: int, share: float, rng: np.random.Generator) -> int:
    """How many places of a list are explored: `share * places`, in the mean over lists.

    >>> [number_of_slots(10, 0.1, np.random.default_rng(seed)) for seed in range(3)]
    [1, 1, 1]
    >>> sum(number_of_slots(4, 0.1, np.random.default_rng(seed)) for seed in range(1_000))
    380
    """
    # 0.1 * 30 is a little more than 3.
    wanted = round(share * places, 9)
    whole = math.floor(wanted)
    return whole + int(rng.random() < wanted - whole)


def positions_of(slots: int, places: int, pinned: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The explored places of a list, counted from 0, in order.

    They are drawn from all places below the pinned items, and below the first one that is not pinned unless there is no
    other. So an item's place says nothing of the item, and the best item stays where it is.

    Args:
        slots: how many places are wanted; fewer if there are fewer.
        places: of the list.
        pinned: how many items at its top are pinned.
        rng: draws.
    """
    free = np.arange(min(pinned + 1, places), places)
    if not len(free):
        free = np.arange(pinned, places)
    return np.sort(rng.choice(free, min(slots, len(free)), replace=False))
