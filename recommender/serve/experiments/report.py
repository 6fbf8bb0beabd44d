"""What an experiment says: numbers, and a decision in words."""

from __future__ import annotations

import math
from collections.abc import Sequence as Rows
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from coldstart_client.experiments import (
    ArmResult,
    Comparison,
    Experiment,
    FixedHorizon,
    Guard,
    Metric,
    Point,
    Preferred,
    RatioCheck,
    Report,
)
from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.log import EventLog
from recommender.serve.experiments import ratios
from recommender.serve.experiments.deciding import decision
from recommender.serve.experiments.fixed import compared
from recommender.serve.experiments.interleaving import Preference
from recommender.serve.experiments.observed import Observed, arms_of, observed, preferences
from recommender.serve.experiments.sequences import Sequence, Sums, asymptotic, betting

# Of a sequence, at most so many points are shown; by bets each of them takes long.
_POINTS, _POINTS_OF_BETS = 100, 30


def report_of(log: EventLog, experiment: Experiment, fixed: bool = False) -> Report:
    """What came of an experiment until now.

    Args:
        log: the event log.
        experiment: of which.
        fixed: add the comparison by a test with one look.

    Raises:
        ColdStartError: a metric that such a test does not take, or tea-tasting is not installed.
        EventLogError: the database cannot be read.
    """
    at = datetime.now(UTC)
    spec, seen = experiment.spec, observed(log, experiment, at)
    if spec.kind == "interleaving":
        return _interleaved(log, experiment, seen, at)
    shares = np.array([arm.share for arm in spec.arms])
    y, x = seen.values(spec.metric)
    places = seen.places[: seen.complete]
    counts = arms_of(seen, len(shares))
    arms = [
        ArmResult(name=arm.name, users=users, exposures=exposures, complete=complete,
                  value=_value(y, x, places == place))
        for place, (arm, (users, exposures, complete)) in enumerate(zip(spec.arms, counts, strict=True))
    ]  # fmt: skip
    report = Report(
        experiment=experiment, at=at, decision="", arms=arms, metric=_compare(experiment, seen, spec.metric, arms),
        guards=[one for guard in spec.guards for one in _compare(experiment, seen, guard, None)],
        sample_ratio=_ratio(seen, [arm.name for arm in spec.arms], shares / shares.sum()),
        fixed_horizon=_fixed(experiment, seen) if fixed else None,
    )  # fmt: skip
    return report.model_copy(update={"decision": decision(report)})


def _interleaved(log: EventLog, experiment: Experiment, seen: Observed, at: datetime) -> Report:
    spec = experiment.spec
    found = Preference.of(preferences(log, experiment, at, seen.complete), spec.error)
    counts, decided = (found.first, found.second), found.first + found.second
    names = [arm.name for arm in spec.arms]
    report = Report(
        experiment=experiment, at=at, decision="", metric=[], guards=[],
        arms=[
            ArmResult(name=name, users=len(seen.places), exposures=int(seen.exposures.sum()), complete=seen.complete,
                      value=count / decided if decided else None)
            for name, count in zip(names, counts, strict=True)
        ],
        sample_ratio=RatioCheck(mismatch=False, p=1.0, expected={}, seen={}),
        preference=Preferred(
            users=dict(zip(names, counts, strict=True)), share=found.second / decided if decided else None,
            low=found.low, high=found.high,
            verdict="better" if found.low > 0.5 else "worse" if found.high < 0.5 else "open",
        ),
    )  # fmt: skip
    return report.model_copy(update={"decision": decision(report)})


def _compare(
    experiment: Experiment, seen: Observed, metric: Metric, arms: Rows[ArmResult] | None
) -> list[Comparison]:
    """Each other arm with the first, in a metric; over time if the arms are given."""
    spec = experiment.spec
    y, x = seen.values(metric)
    places, found = seen.places[: seen.complete], []
    error = spec.error / (len(spec.arms) - 1)
    for place, arm in enumerate(spec.arms[1:], start=1):
        both = np.flatnonzero((places == 0) | (places == place))
        mine = places[both] == place
        most = min(_POINTS_OF_BETS if spec.method == "betting" else _POINTS, len(both))
        at = np.unique(np.linspace(1, len(both), most).astype(np.int64))
        at = at if arms is not None else at[-1:]
        if spec.method == "betting":
            share = arm.share / (arm.share + spec.arms[0].share)
            sequence = betting(mine, y[both], share, error, at)
        else:
            below = None if x is None else x[both]
            whole = asymptotic(Sums.of(~mine, y[both], below), Sums.of(mine, y[both], below), error, spec.planned_users)
            sequence = Sequence(whole.difference[at - 1], whole.low[at - 1], whole.high[at - 1])
        difference, low, high = sequence.last()
        up = not (isinstance(metric, Guard) and metric.harm == "up")
        base = _value(y, x, places == 0)
        found.append(Comparison(
            arm=arm.name, metric=metric.title, share=metric.is_share, difference=_finite(difference), low=_finite(low),
            high=_finite(high), relative=_finite(difference / base) if base else None,
            verdict="open" if low <= 0 <= high else "better" if (low > 0) == up else "worse",
            sequence=_points(at, sequence) if arms is not None else [],
        ))  # fmt: skip
    return found


def _points(at: NDArray[np.int64], sequence: Sequence) -> list[Point]:
    rows = zip(at.tolist(), sequence.difference.tolist(), sequence.low.tolist(), sequence.high.tolist(), strict=True)
    return [
        Point(users=users, difference=difference, low=low, high=high) for users, difference, low, high in rows
        if all(map(math.isfinite, (difference, low, high)))
    ]  # fmt: skip


def _ratio(seen: Observed, names: Rows[str], shares: NDArray[np.float64]) -> RatioCheck:
    places = seen.places[seen.places >= 0]
    p = ratios.always_valid_p(places, shares)
    counts = np.bincount(places, minlength=len(names)).tolist()
    return RatioCheck(
        mismatch=p < ratios.ALARM, p=p, expected=dict(zip(names, shares.tolist(), strict=True)),
        seen=dict(zip(names, counts, strict=True)),
    )  # fmt: skip


def _fixed(experiment: Experiment, seen: Observed) -> list[FixedHorizon]:
    spec = experiment.spec
    if spec.metric.per is not None:
        raise ColdStartError(f"a test with one look takes a metric without `per`; this one is {spec.metric.title}")
    (y, _), (before, _) = seen.values(spec.metric), seen.values(spec.metric, before=True)
    places, found = seen.places[: seen.complete], []
    for place, arm in enumerate(spec.arms[1:], start=1):
        both = np.flatnonzero((places == 0) | (places == place))
        error = spec.error / (len(spec.arms) - 1)
        numbers = compared(places[both] == place, y[both], before[both], error)
        if all(map(math.isfinite, numbers)):
            difference, low, high, p, left = numbers
            found.append(
                FixedHorizon(arm=arm.name, difference=difference, low=low, high=high, p=p, variance_left=left)
            )
    return found


def _value(y: NDArray[np.float64], x: NDArray[np.float64] | None, mine: NDArray[np.bool_]) -> float | None:
    below = float(mine.sum() if x is None else x[mine].sum())
    return float(y[mine].sum()) / below if below else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
