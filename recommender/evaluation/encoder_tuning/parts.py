"""Which items an encoder learns from, and which are set aside to stop the tuning and to judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.measure.latest import LATEST, latest
from recommender.measure.splits import of_items, pair_matrix, stable_share

# Shares of the items, by group.
GUARD, STOPPING = 0.2, 0.2

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """The parts of a shop's data.

    Attributes:
        learned: (items,), those that are learned from.
        stopping: (items,), set aside: their ranking tells when to stop.
        guard: (items,), set aside: their ranking decides about the encoder.
        later: (interactions,), those from the cut-off on; None if no moment divides them.
        taken: (users, items), 1 for what users took before the cut-off.
        seed: of the hash that drew the items.
    """

    learned: Mask
    stopping: Mask
    guard: Mask
    later: Mask | None
    taken: sp.csr_matrix
    seed: int

    @property
    def known(self) -> sp.csr_matrix:
        """(users, items): the pairs of `taken` that are learned from."""
        return of_items(self.taken, self.learned)

    def told(self) -> dict[str, int]:
        """The numbers of items and interactions, for a manifest."""
        return {
            "seed": self.seed, "items learned from": int(self.learned.sum()),
            "items for stopping": int(self.stopping.sum()), "items for the guard": int(self.guard.sum()),
            "later interactions": 0 if self.later is None else int(self.later.sum()),
        }  # fmt: skip


def parts_of(
    interactions: Interactions, groups: Sequence[str], weights: EventWeights, *, seed: int,
    cutoff: datetime | None = None, in_time: bool = True,
) -> Parts:
    """Divide the items by group, and the interactions at the cut-off.

    Args:
        interactions: all interactions.
        groups: of each item; items of one group are set aside together.
        weights: of events; one whose weight is 0 does not count as taken.
        seed: of the hash that draws the items.
        cutoff: interactions from it on are not learned from, UTC if it has no time zone; None: about the latest 15 %.
        in_time: False: all interactions are learned from, whatever their time.

    Raises:
        ColdStartError: a cut-off outside the data, or no item in one of the parts.
    """
    shares = np.array([stable_share(group, f"tuning items {seed}") for group in groups])
    guard, stopping = shares < GUARD, (shares >= GUARD) & (shares < GUARD + STOPPING)
    later = _later(interactions, cutoff) if in_time else None
    counted = interactions.select(np.isnat(interactions.returned) & (True if later is None else ~later))
    if len(counted):
        counted = counted.weighted(weights, counted.timestamps.max() + np.timedelta64(1, "us"))
    taken = pair_matrix(counted)
    warm = np.asarray(taken.sum(axis=0)).ravel() > 0
    found = Parts(warm & ~guard & ~stopping, warm & stopping, guard, later, taken, seed)
    if not (found.learned.any() and found.stopping.any() and (found.guard & warm).any()):
        raise ColdStartError(
            f"{int(warm.sum())} items with interactions are too few to set two fifths of them aside; tune an encoder "
            "for a shop with at least some hundred items"
        )
    return found


def _later(interactions: Interactions, cutoff: datetime | None) -> Mask | None:
    times = interactions.timestamps
    if cutoff is None:
        return latest(times, LATEST)
    moment = cutoff if cutoff.tzinfo is None else cutoff.astimezone(UTC).replace(tzinfo=None)
    later = np.asarray(times >= np.datetime64(moment, "us"))
    if later.all() or not later.any():
        raise ColdStartError(
            f"the cut-off {moment:%Y-%m-%d} does not divide the interactions; choose one after {str(times.min())[:19]} "
            f"and at most {str(times.max())[:19]}"
        )
    return later
