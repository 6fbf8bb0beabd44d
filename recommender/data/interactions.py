"""`Interactions`: events of users with items."""

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
    """Events of users with items, validated on construction.

    Every row is positive evidence until it is returned. Returns are not rows; they set `returned` of the events that
    they take back. The rows therefore contain everything that a user has seen; `weighted` selects what counts.

    Attributes:
        user_ids: all known users, including those without interactions.
        item_ids: all known items, including those without interactions.
        users: (n,) int64, row numbers in `user_ids`.
        items: (n,) int64, row numbers in `item_ids`.
        timestamps: (n,) datetime64[us], UTC.
        weights: (n,) float32, positive.
        event_types: names of event types.
        events: (n,) int64, row numbers in `event_types`; by default all are 'interaction'.
        returned: (n,) datetime64[us], UTC, time at which the event was returned; by default NaT (never).

    Raises:
        ContractError: arrays of different length, a row number out of range, a weight that is not positive, or a
            repeated id.
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
            raise ContractError(f"all arrays of interactions must have one length; the lengths are {lengths}")
        for name, ids in ((USER_ID, self.user_ids), (ITEM_ID, self.item_ids), (EVENT_TYPE, self.event_types)):
            if len(set(ids)) != len(ids):
                raise ContractError(f"{len(ids) - len(set(ids))} of {len(ids)} {name}s are repeated; make them unique")
        known = (("users", self.user_ids), ("items", self.item_ids), ("events", self.event_types))
        for name, ids in known:
            rows = getattr(self, name)
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(ids)):
                raise ContractError(f"{name} has rows {rows.min()} to {rows.max()}, but there are {len(ids)} {name}")
        if not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise ContractError(f"weights must be positive and finite; the smallest is {self.weights.min()}")

    def __len__(self) -> int:
        return len(self.users)

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """Return the interactions where `mask` is true; the known ids stay the same."""
        return replace(self, **{name: getattr(self, name)[mask] for name in _COLUMNS})

    def pairs(self) -> Interactions:
        """Return one interaction per user and item: summed weights, earliest timestamp, ordered by user and item.

        Event types and returns are ignored; call `weighted` first to apply them.
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
        """Apply event weights, returns and ageing as of a moment.

        The weight of a row is multiplied by the weight of its type, by the recency, and, if the event was returned
        before `now`, by 1 minus the weight of a return. Rows with the weight 0 are removed. All rows of the result have
        one event type.

        Args:
            weights: weights by event type, and the half-life.
            now: the moment from which ages are counted, UTC.

        Raises:
            ContractError: an interaction is not earlier than `now`.
        """
        moment = _moment(now)
        if len(self) and self.timestamps.max() >= moment:
            late = int((self.timestamps >= moment).sum())
            raise ContractError(
                f"{late:,} of {len(self):,} interactions are not earlier than {moment}; select only earlier ones"
            )
        factors = np.array([weights.of(name) for name in self.event_types], np.float32)[self.events]
        back = self.returned < moment
        if back.any():
            factors[back] *= np.float32(1 - weights.of(RETURN))
        kept = factors > 0
        if not np.isinf(weights.half_life_days):
            days = (moment - self.timestamps) / np.timedelta64(1, "D")
            # A positive lower bound keeps very old events in the history.
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
