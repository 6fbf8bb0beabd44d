"""Who did something with what, when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from recommender.data.contract import EVENT_TYPE, INTERACTION, ITEM_ID, RETURN, USER_ID, ContractError
from recommender.data.events import EventWeights

_NEVER = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Interactions:
    """Who did something with what, when: checked once, passed everywhere.

    Every row speaks for the item until it is taken back. Returns are no rows: they stand in `returned` of what they
    took back. So the rows are all that a user has seen, and `weighted` leaves what counts.

    Attributes:
        user_ids: all known users, those without interactions included.
        item_ids: all known items, likewise.
        users: (n,) int64, rows of `user_ids`.
        items: (n,) int64, rows of `item_ids`.
        timestamps: (n,) datetime64[us], UTC.
        weights: (n,) float32, positive.
        event_types: the names of types of events.
        events: (n,) int64, rows of `event_types`; 'interaction' for all unless given.
        returned: (n,) datetime64[us], UTC, when the event was taken back; NaT (never) for all unless given.

    Raises:
        ContractError: arrays of different length, a row number out of range, a weight that is not
            positive, an id that stands twice.
    """

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    weights: NDArray[np.float32]
    event_types: Sequence[str] = (INTERACTION,)
    events: NDArray[np.int64] = None  # type: ignore[assignment]
    returned: NDArray[np.datetime64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.events is None:
            object.__setattr__(self, "events", np.zeros(len(self.users), np.int64))
        if self.returned is None:
            object.__setattr__(self, "returned", np.full(len(self.users), _NEVER))
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(lengths.values())) > 1:
            raise ContractError(f"the arrays of interactions differ in length: {lengths}")
        for name, ids in ((USER_ID, self.user_ids), (ITEM_ID, self.item_ids), (EVENT_TYPE, self.event_types)):
            if len(set(ids)) != len(ids):
                raise ContractError(f"{len(ids) - len(set(ids))} of {len(ids)} {name}s stand there twice")
        known = (("users", self.user_ids), ("items", self.item_ids), ("events", self.event_types))
        for name, ids in known:
            rows = getattr(self, name)
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(ids)):
                raise ContractError(f"{name} holds rows {rows.min()} to {rows.max()}; there are {len(ids)} {name}")
        if not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise ContractError(f"weights must be positive and finite; the smallest is {self.weights.min()}")

    def __len__(self) -> int:
        return len(self.users)

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """The interactions where `mask` holds; the known ids stay the same."""
        return replace(self, **{name: getattr(self, name)[mask] for name in _COLUMNS})

    def pairs(self) -> Interactions:
        """One interaction per user and item: weights added up, the earliest timestamp, ordered by user and item.

        Types of events and returns are not looked at: call `weighted` first to have them count.
        """
        keys = self.users * len(self.item_ids) + self.items
        order = np.lexsort((self.timestamps, keys))
        unique, first = np.unique(keys[order], return_index=True)
        weights = np.add.reduceat(self.weights[order], first) if len(first) else self.weights
        return Interactions(
            self.user_ids, self.item_ids, unique // max(len(self.item_ids), 1), unique % max(len(self.item_ids), 1),
            self.timestamps[order][first], weights.astype(np.float32),
        )  # fmt: skip

    def weighted(self, weights: EventWeights, now: datetime | np.datetime64) -> Interactions:
        """What counts at a moment, and how much: weights times that of the event's type, times recency.

        What was taken back before `now` keeps what the weight of a return leaves of it; a later return is not known
        yet. Rows with nothing left drop out. The types are used up: all rows of the result are of one.

        Args:
            weights: of types of events, and the half-life.
            now: UTC; the ages of events are counted from here.

        Raises:
            ContractError: an interaction is of `now` or later, so that it cannot be known.
        """
        moment = _moment(now)
        if len(self) and self.timestamps.max() >= moment:
            late = int((self.timestamps >= moment).sum())
            raise ContractError(
                f"{late:,} of {len(self):,} interactions are not known at {moment}; select those before it"
            )
        factors = np.array([weights.of(name) for name in self.event_types], np.float32)[self.events]
        back = self.returned < moment
        if back.any():
            factors[back] *= np.float32(1 - weights.of(RETURN))
        kept = factors > 0
        if not np.isinf(weights.half_life_days):
            days = (moment - self.timestamps) / np.timedelta64(1, "D")
            # An event however old stays one.
            factors *= np.maximum(np.exp2(-days / weights.half_life_days), 1e-30).astype(np.float32)
        result = replace(
            self, weights=np.where(kept, self.weights * factors, 1).astype(np.float32), event_types=(INTERACTION,),
            events=np.zeros(len(self), np.int64), returned=np.full(len(self), _NEVER),
        )  # fmt: skip
        return result if kept.all() else result.select(kept)


_COLUMNS = ("users", "items", "timestamps", "weights", "events", "returned")


def _moment(now: datetime | np.datetime64) -> np.datetime64:
    if isinstance(now, datetime):
        return np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us")
    return np.datetime64(now)
