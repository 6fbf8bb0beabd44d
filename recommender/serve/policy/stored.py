"""Read decisions and what they earned from the event log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import and_, func, select

from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import from_us, to_event
from recommender.serve.policy.explorations import Explorations
from recommender.serve.policy.rewards import Explored, earned


def from_log(log: EventLog, rewards: Mapping[str, float], window: timedelta) -> Explored:
    """Read the decisions of an event log, oldest first, with what they earned; see `earned`.

    Args:
        log: the event log.
        rewards: of event types.
        window: how long after a decision an event counts.

    Raises:
        EventLogError: the database cannot be read.
        ColdStartError: see `earned`.
    """
    decisions = [decision for decision, _ in Explorations(log).decisions()]
    events, explorations = schema.events, schema.explorations
    cites = and_(
        events.c.recommendation_id == explorations.c.recommendation_id, events.c.item_id == explorations.c.item_id
    )
    with log.reading() as connection:
        newest = connection.execute(select(func.max(events.c.event_us))).scalar()
        found = [to_event(row) for row in connection.execute(select(events).join(explorations, cites))]
    cited = [
        (str(one.recommendation_id), str(one.item_id), one.event_timestamp, kind)
        for one in found for kind, _ in one.rows
    ]  # fmt: skip
    return earned(decisions, cited, rewards, window, None if newest is None else from_us(newest))
