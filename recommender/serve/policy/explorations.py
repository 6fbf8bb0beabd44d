"""The table `explorations`: what was drawn for reserved places, and the rewards of it once they are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, literal_column, select, update

from recommender.data.contract import TAKE_BACK
from recommender.data.events import EventWeights
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import from_us, to_event, to_us
from recommender.serve.policy.contexts import WIDTH
from recommender.serve.policy.decisions import Decision

_TABLE = schema.explorations
# Rows that are read or settled at once.
_PIECE = 5_000


@dataclass(frozen=True)
class Settled:
    """Explored places whose reward is known, in the order in which it became so.

    Attributes:
        last: the number of the last of them, by which the next ones are asked for.
        items: n ids of the items that were shown.
        contexts: (n, 12) float32, of these items.
        rewards: (n,), from 0 to 1.
    """

    last: int
    items: list[str]
    contexts: NDArray[np.float32]
    rewards: NDArray[np.float64]


class Explorations:
    """Explored places in the database of an event log. Any number of threads and processes may write and read.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def add(self, decisions: Sequence[Decision]) -> None:
        """Write what was drawn for one answer; it is durable when this returns.

        Raises:
            EventLogError: the database cannot be written.
        """
        rows = [_row(one) for one in decisions]
        self._log.transaction(lambda connection: connection.execute(insert(_TABLE), rows))

    def withdraw(self, recommendation_id: str) -> None:
        """Remove what was drawn for an answer that was not given.

        Raises:
            EventLogError: the database cannot be written.
        """
        gone = delete(_TABLE).where(_TABLE.c.recommendation_id == recommendation_id)
        self._log.transaction(lambda connection: connection.execute(gone))

    def any(self) -> bool:
        """Whether anything was ever explored.

        Raises:
            EventLogError: the database cannot be read.
        """
        with self._log.reading() as connection:
            return connection.execute(select(_TABLE.c.position).limit(1)).first() is not None

    def settle(self, before: datetime, window: float, weights: EventWeights) -> int:
        """Write the rewards of the explored places from before a moment that have none yet; how many there were.

        The reward of a place is the greatest weight of an event that cites the recommendation and the item, in
        purchases and at most 1, if it happened within the window; else 0.

        Args:
            before: the moment; the window of what was drawn before it has passed.
            window: seconds after the answer in which an event counts.
            weights: by event type.

        Raises:
            EventLogError: the database cannot be read or written.
        """

        def write(connection: Connection) -> int:
            state = schema.log_state
            # Whoever settles holds this row until the commit, so numbers become visible in their order.
            connection.execute(update(state).values(last=state.c.last))
            last = connection.execute(select(func.max(_TABLE.c.settled))).scalar() or 0
            open_ones = and_(_TABLE.c.settled.is_(None), _TABLE.c.at_us <= to_us(before))
            found = connection.execute(
                select(_TABLE.c.recommendation_id, _TABLE.c.position, _TABLE.c.item_id, _TABLE.c.at_us)
                .where(open_ones).order_by(_TABLE.c.at_us, _TABLE.c.recommendation_id, _TABLE.c.position).limit(_PIECE)
            ).all()  # fmt: skip
            if not found:
                return 0
            rewards = _rewards(connection, and_(open_ones, _TABLE.c.at_us <= found[-1].at_us), window, weights)
            rows = [
                {"of": one.recommendation_id, "at": one.position, "number": last + number,
                 "worth": rewards.get((one.recommendation_id, one.item_id), 0.0)}
                for number, one in enumerate(found, start=1)
            ]  # fmt: skip
            connection.execute(
                update(_TABLE).where(
                    _TABLE.c.recommendation_id == bindparam("of"), _TABLE.c.position == bindparam("at")
                ).values(settled=bindparam("number"), reward=bindparam("worth")), rows,
            )  # fmt: skip
            return len(rows)

        done: int = self._log.transaction(write)
        return done

    def settled(self, after: int) -> Settled:
        """The explored places with a reward after a number; none if there are no more.

        Raises:
            EventLogError: the database cannot be read.
        """
        table = _TABLE.c
        with self._log.reading() as connection:
            rows = connection.execute(
                select(table.settled, table.item_id, table["items"], table.contexts, table.reward)
                .where(table.settled > after).order_by(table.settled).limit(_PIECE)
            ).all()  # fmt: skip
        contexts = np.zeros((len(rows), WIDTH), np.float32)
        for number, row in enumerate(rows):
            contexts[number] = _matrix(row.contexts)[json.loads(row._mapping["items"]).index(row.item_id)]
        return Settled(
            rows[-1].settled if rows else after, [row.item_id for row in rows], contexts,
            np.array([row.reward for row in rows], np.float64),
        )  # fmt: skip

    def erasures(self) -> int:
        """The id of the last erasure of a user; 0 if there was none.

        Raises:
            EventLogError: the database cannot be read.
        """
        with self._log.reading() as connection:
            return int(connection.execute(select(func.max(schema.erasures.c.id))).scalar() or 0)

    def decisions(self) -> Iterator[tuple[Decision, float | None]]:
        """All that was drawn, oldest first, and the reward; None while it is not known.

        Raises:
            EventLogError: the database cannot be read.
        """
        table, after = _TABLE.c, (-1, "", 0)
        while True:
            later = (
                (table.at_us > after[0])
                | ((table.at_us == after[0]) & (table.recommendation_id > after[1]))
                | ((table.at_us == after[0]) & (table.recommendation_id == after[1]) & (table.position > after[2]))
            )
            with self._log.reading() as connection:
                rows = connection.execute(
                    select(_TABLE).where(later).order_by(table.at_us, table.recommendation_id, table.position)
                    .limit(_PIECE)
                ).all()  # fmt: skip
            for row in rows:
                yield _decision(row), row.reward
            if len(rows) < _PIECE:
                return
            after = rows[-1].at_us, rows[-1].recommendation_id, rows[-1].position


def reward_of(event: Any, weights: EventWeights) -> float:
    """What an event says of the item that was shown: its weight, in purchases, at most 1.

    What takes something back says nothing here.
    """
    found = (weights.by_type.get(kind, 0.0) * weight for kind, weight in event.rows if kind not in TAKE_BACK)
    return float(min(max(found, default=0.0) / max(weights.of("purchase"), 1e-9), 1.0))


def _rewards(
    connection: Connection, which: Any, window: float, weights: EventWeights
) -> dict[tuple[str, str], float]:
    """The greatest reward by recommendation and item."""
    events = schema.events
    cited = and_(
        events.c.recommendation_id == _TABLE.c.recommendation_id, events.c.item_id == _TABLE.c.item_id,
        events.c.event_us <= _TABLE.c.at_us + literal_column(str(int(window * 1e6))),
    )  # fmt: skip
    found: dict[tuple[str, str], float] = {}
    for row in connection.execute(select(events).select_from(events.join(_TABLE, cited)).where(which)):
        event = to_event(row)
        key = str(event.recommendation_id), str(event.item_id)
        found[key] = max(found.get(key, 0.0), reward_of(event, weights))
    return found


def _row(one: Decision) -> dict[str, Any]:
    return {
        "recommendation_id": one.recommendation_id, "position": one.position, "user_id": one.user_id,
        "at_us": to_us(one.at), "item_id": one.item_id, "items": json.dumps(one.items, ensure_ascii=False),
        "probabilities": one.probabilities.astype("<f8").tobytes(), "contexts": one.contexts.astype("<f4").tobytes(),
        "policy": one.policy,
    }  # fmt: skip


def _decision(row: Any) -> Decision:
    return Decision(
        row.recommendation_id, row.user_id, from_us(row.at_us), row.position, row.item_id,
        tuple(json.loads(row._mapping["items"])), np.frombuffer(row.probabilities, "<f8"), _matrix(row.contexts),
        row.policy,
    )  # fmt: skip


def _matrix(contexts: bytes) -> NDArray[np.float32]:
    return np.frombuffer(contexts, "<f4").reshape(-1, WIDTH)
