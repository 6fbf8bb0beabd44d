"""Freshness: what an item gains by its age, which falls by half with each half-life.

A reader of a feed wants what came this morning; a shop's customers mostly do not care. The part is
w·exp(−ln 2 · age/half-life), the same for all users, for items with and without history. It is not standardised as
other parts are: ages change from one request to the next, and a score would change with the ages of the other items.
`recommender.tuning.freshness` chooses weight and half-life.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.interactions import Interactions

Moments = NDArray[np.datetime64]
_DAY = np.timedelta64(1, "D")
_UNKNOWN = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Births:
    """When items came.

    Attributes:
        moments: (items,) datetime64[us], UTC; NaT where it is not known.
        now: the moment at which ages are measured; NaT measures none.
    """

    moments: Moments
    now: np.datetime64

    @classmethod
    def of(cls, interactions: Interactions, came: Moments | None = None) -> Births:
        """As of the last interaction; without `came`, items come with their first interaction."""
        first = first_interactions(interactions) if came is None else came.astype("datetime64[us]")
        return cls(first, interactions.timestamps.max().astype("datetime64[us]"))

    def grown(self, moments: Moments) -> Births:
        """A version with more items at the end."""
        return replace(self, moments=np.concatenate([self.moments, moments.astype("datetime64[us]")]))

    def born(self, rows: NDArray[np.int64], moments: Moments) -> Births:
        """A version with the moments of some rows."""
        changed = self.moments.copy()
        changed[rows] = moments
        return replace(self, moments=changed)

    def days(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(m,), ages in days, at least 0; infinite where unknown, and for the row -1."""
        moments = np.append(self.moments, _UNKNOWN)[rows]
        ages = np.maximum((self.now - moments) / _DAY, 0.0)
        return np.asarray(np.where(np.isnan(ages), np.inf, ages), dtype=np.float64)


def utc(moment: datetime) -> np.datetime64:
    """A moment as ages are measured.

    Raises:
        ColdStartError: it has no time zone.
    """
    if moment.tzinfo is None:
        raise ColdStartError(f"the moment {moment} has no time zone; give one, such as datetime.now(UTC)")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def first_interactions(interactions: Interactions) -> Moments:
    """(items,), when each was first interacted with; NaT for those without interactions."""
    n = len(interactions.item_ids)
    latest = np.datetime64(np.iinfo(np.int64).max, "us")
    first = np.full(n, latest)
    np.minimum.at(first, interactions.items, interactions.timestamps.astype("datetime64[us]"))
    return np.asarray(np.where(first == latest, _UNKNOWN, first))


def decay(days: NDArray[np.floating[Any]], half_life: float) -> NDArray[np.float32]:
    """exp(−ln 2 · age/half-life), from 1 for what is new to 0.

    >>> decay(np.array([0.0, 1.0, 2.0, np.inf]), 1.0).tolist()
    [1.0, 0.5, 0.25, 0.0]
    """
    return np.asarray(np.exp2(-days / half_life), dtype=np.float32)


def told(days: float) -> str:
    """An age for people, in the largest unit of which there are two.

    >>> [told(days) for days in (0.0, 3 / 24, 1.2, 20.0, 400.0)]
    ['now', '3 hours ago', '29 hours ago', '20 days ago', '400 days ago']
    """
    minutes = round(days * 1440)
    if minutes < 1:
        return "now"
    if minutes < 120:
        return f"{minutes} minute{'s' * (minutes > 1)} ago"
    return f"{round(minutes / 60)} hours ago" if minutes < 2880 else f"{round(days)} days ago"
