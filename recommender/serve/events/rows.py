"""Events as rows of the log, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

from recommender.serve.events.event import Event

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
