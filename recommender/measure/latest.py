"""Which interactions are the latest, where the data have time at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
