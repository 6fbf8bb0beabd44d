"""What a log answers: ids of what was written, and what is new in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from recommender.serve.events.event import Event

Side = Literal["user", "item"]


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to `EventLog.append`.

    Attributes:
        ids: the id of each event.
        replayed: whether the idempotency key was known, so that nothing was written.
    """

    ids: Sequence[int]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """A text and attributes ("column=value") that were put; None for attributes that stay as they are."""

    side: Side
    entity_id: str
    description: str
    attributes: Sequence[str] | None
    event_timestamp: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """What a log holds between two watermarks.

    Attributes:
        events: ids and events, in the order of the ids.
        descriptions: likewise.
        erasures: ids, and digests of user ids as `EventLog.digest_of` gives them. What is in `events` and
            `descriptions` of such a user came after the erasure.
        watermark: the id up to which this is everything.
        last: the id of the last entry of the log; greater than `watermark` if there is more to read.
        unreadable: ids of entries that this version cannot read, and why; they are in none of the others.
    """

    events: Sequence[tuple[int, Event]]
    descriptions: Sequence[tuple[int, Description]]
    erasures: Sequence[tuple[int, bytes]]
    watermark: int
    last: int
    unreadable: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class Erased:
    """What `EventLog.erase_user` has erased.

    Attributes:
        removed: the numbers of events, descriptions, exposures (to arms of experiments) and explorations (places that
            were explored).
        remains: sentences on where their bytes remain, and until when.
    """

    removed: Mapping[str, int]
    remains: Sequence[str]
