"""Events as rows of the log, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.changes import Description
from recommender.serve.events.event import Event

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_row(number: int, event: Event) -> dict[str, Any]:
    """An event as a row of the table `events`."""
    return {
        "id": number, "user_id": event.user_id, "item_id": event.item_id, "event_type": event.event_type,
        "event_us": to_us(event.event_timestamp), "weight": event.weight, "rating": event.rating,
        "position": event.position, "query": event.query, "recommendation_id": event.recommendation_id,
    }  # fmt: skip


def to_event(row: Any) -> Event:
    """A row of the table `events` as an event."""
    return Event(
        row.user_id, row.item_id, row.event_type, from_us(row.event_us), row.weight, row.rating, row.position,
        row.query, row.recommendation_id,
    )  # fmt: skip


def to_description(row: Any) -> Description:
    """A row of the table `descriptions` as a description."""
    if row.entity not in ("user", "item"):
        raise ColdStartError("it describes neither a user nor an item")
    labels = None if row.attributes is None else json.loads(row.attributes)
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ColdStartError("its attributes are no list of texts")
    return Description(row.entity, row.entity_id, row.description, labels, from_us(row.event_us))


def read(rows: Iterable[Any], parse: Callable[[Any], T]) -> tuple[list[tuple[int, T]], list[tuple[int, str]]]:
    """The ids of rows with what they say, and the ids of rows that cannot be read with the type of the error.

    Such a row was written by a newer version, or by hand.
    """
    found, odd = [], []
    for row in rows:
        try:
            found.append((row.id, parse(row)))
        except Exception as error:  # whatever is wrong with one row, the others are read
            odd.append((row.id, type(error).__name__))
    return found, odd


def contents_digest(events: Sequence[Event]) -> bytes:
    """The same for the same events only."""
    values = [[*astuple(event)[:3], to_us(event.event_timestamp), *astuple(event)[4:]] for event in events]
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).digest()


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The moment, UTC."""
    return EPOCH + microseconds * _MICROSECOND
