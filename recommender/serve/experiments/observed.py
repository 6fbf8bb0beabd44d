"""What was seen of the users of an experiment, read from the database of the event log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Subquery, and_, func, select

from coldstart_client.experiments import Experiment, Metric
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import to_us

Numbers = NDArray[np.float64]
_MICROSECONDS = timedelta(microseconds=1)


@dataclass(frozen=True)
class Observed:
    """The users of an experiment, in the order of their first exposures.

    Their windows have one length, so they end in this order too: what is complete is always the beginning of the
    list, and later looks see the same users with the same numbers, and more.

    Attributes:
        places: (n,), the place of each user's arm among the arms; −1 in an interleaved experiment.
        exposures: (n,), rows of the exposure log of each.
        complete: the number of users whose window is over: the first ones.
        during: by event type, (complete, 2): number and total weight of events within the window.
        before: likewise, of the time of the same length before the first exposure.
    """

    places: NDArray[np.int64]
    exposures: NDArray[np.int64]
    complete: int
    during: dict[str, Numbers]
    before: dict[str, Numbers]

    def values(self, metric: Metric, *, before: bool = False) -> tuple[Numbers, Numbers | None]:
        """The numerators of a metric of the complete users, and its denominators if it has any, (complete,) each."""
        seen = self.before if before else self.during
        events, weight = seen[metric.event].T
        y = {"users": (events > 0).astype(np.float64), "events": events, "weight": weight}[metric.measure]
        return y, None if metric.per is None else seen[metric.per][:, 0]


def observed(log: EventLog, experiment: Experiment, at: datetime) -> Observed:
    """Read the users of an experiment as of now.

    Args:
        log: the event log.
        experiment: of which.
        at: this moment.

    Raises:
        EventLogError: the database cannot be read.
    """
    spec = experiment.spec
    window = timedelta(days=spec.window_days) // _MICROSECONDS
    until = to_us(min(at, experiment.stopped or at)) - window
    first = _first(experiment.name)
    metrics = (spec.metric, *spec.guards)
    types: set[str] = {kind for one in metrics for kind in (one.event, one.per) if kind is not None}
    events = schema.events
    done = (
        select(first.c.user_id, events.c.event_type, (events.c.event_us >= first.c.first_us).label("inside"),
               events.c.weight)
        .join(events, and_(
            events.c.user_id == first.c.user_id, events.c.event_type.in_(sorted(types)),
            events.c.event_us >= first.c.first_us - window, events.c.event_us < first.c.first_us + window,
        ))
        .where(first.c.first_us <= until).subquery()
    )  # fmt: skip
    groups = (done.c.user_id, done.c.event_type, done.c.inside)
    counted = select(*groups, func.count(), func.coalesce(func.sum(done.c.weight), 0.0)).group_by(*groups)
    with log.reading() as connection:
        users = connection.execute(select(first).order_by(first.c.first_us, first.c.user_id)).all()
        complete = sum(row.first_us <= until for row in users)
        rows = {row.user_id: place for place, row in enumerate(users[:complete])}
        seen = {part: {kind: np.zeros((complete, 2)) for kind in types} for part in (0, 1)}
        for user_id, kind, part, count, weight in connection.execute(counted):
            seen[int(part)][kind][rows[user_id]] = count, weight
    names = {arm.name: place for place, arm in enumerate(spec.arms)}
    return Observed(
        np.array([names.get(row.arm, -1) for row in users], np.int64),
        np.array([row.exposures for row in users], np.int64), complete, seen[1], seen[0],
    )  # fmt: skip


def preferences(log: EventLog, experiment: Experiment, at: datetime, complete: int) -> Numbers:
    """(complete,): of each user the credit of the second arm less that of the first, for events that cite a list.

    Args:
        log: the event log.
        experiment: an interleaved one.
        at: as for `observed`.
        complete: the number of users whose window is over, as `observed` says.

    Raises:
        EventLogError: the database cannot be read.
    """
    spec = experiment.spec
    window = timedelta(days=spec.window_days) // _MICROSECONDS
    first, shown, events = _first(experiment.name), schema.exposures, schema.events
    cited = (
        select(first.c.user_id, events.c.item_id, events.c.weight, shown.c.teams)
        .join(events, and_(
            events.c.user_id == first.c.user_id, events.c.event_type == spec.metric.event,
            events.c.event_us >= first.c.first_us, events.c.event_us < first.c.first_us + window,
        ))
        .join(shown, and_(
            shown.c.experiment == experiment.name, shown.c.user_id == first.c.user_id,
            shown.c.recommendation_id == events.c.recommendation_id,
        ))
    )  # fmt: skip
    with log.reading() as connection:
        order = select(first.c.user_id).order_by(first.c.first_us, first.c.user_id).limit(complete)
        rows = {user: row for row, user in enumerate(connection.execute(order).scalars())}
        credit = np.zeros(complete)
        for user_id, item_id, weight, teams in connection.execute(cited):
            arm = json.loads(teams or "{}").get(item_id)
            if user_id in rows and arm is not None:
                value = (weight or 0.0) if spec.metric.measure == "weight" else 1.0
                credit[rows[user_id]] += value if arm == spec.arms[1].name else -value
    return credit


def _first(name: str) -> Subquery:
    """Users with their arm, their first exposure and how many they had."""
    table = schema.exposures
    return (
        select(table.c.user_id, func.min(table.c.arm).label("arm"), func.min(table.c.exposed_us).label("first_us"),
               func.count().label("exposures"))
        .where(table.c.experiment == name).group_by(table.c.user_id).subquery()
    )  # fmt: skip


def arms_of(seen: Observed, count: int) -> Sequence[tuple[int, int, int]]:
    """Of each arm: users, exposures, complete users."""
    return [
        (int(mine.sum()), int(seen.exposures[mine].sum()), int(mine[: seen.complete].sum()))
        for mine in (seen.places == place for place in range(count))
    ]
