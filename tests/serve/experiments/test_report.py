"""What a report says of users in the database: their windows, the metric, guards, the ratio, the decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from coldstart_client.experiments import Arm, ExperimentRequest, Guard, Metric, Report
from coldstart_udfs.errors import ColdStartError
from recommender.serve.events import schema
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import to_us
from recommender.serve.experiments.exposures import Exposure
from recommender.serve.experiments.registry import Registry
from recommender.serve.experiments.report import report_of

NOW = datetime.now(UTC)
BEGAN = NOW - timedelta(days=30)
ARMS = [Arm(name="now"), Arm(name="more")]


def exposed(log: EventLog, users: Iterable[tuple[str, str, datetime]]) -> None:
    """Write exposures with moments of the past, as workers wrote them then."""
    rows = [asdict(Exposure("one", user, f"{at:%F}", arm, to_us(at), "x")) for user, arm, at in users]
    log.transaction(lambda connection: connection.execute(insert(schema.exposures), rows))


def running(log: EventLog, **given: Any) -> Registry:
    registry = Registry(log)
    registry.create(ExperimentRequest(name="one", arms=given.pop("arms", ARMS), **given))
    registry.start("one")
    return registry


def bought(user: str, at: datetime, kind: str = "purchase", **given: Any) -> Event:
    return Event(user, "mug", kind, at, **given)


def report(log: EventLog, registry: Registry, fixed: bool = False) -> Report:
    return report_of(log, registry.get("one"), fixed)


def crowd(log: EventLog, sizes: dict[str, int], buyers: dict[str, int], kind: str = "purchase") -> None:
    """Users of each arm who come in turn; some of an arm, evenly spread, do something on the next day."""
    users = [(f"{arm} {number}", arm, BEGAN + timedelta(minutes=number)) for arm, size in sizes.items()
             for number in range(size)]  # fmt: skip
    exposed(log, users)
    log.append([bought(f"{arm} {number * sizes[arm] // count}", BEGAN + timedelta(days=1), kind)
                for arm, count in buyers.items() for number in range(count)])  # fmt: skip


def test_only_what_users_do_within_their_windows_counts(log: EventLog) -> None:
    registry = running(log, metric=Metric(event="purchase", measure="weight"), guards=[Guard(event="return")])
    early, late = BEGAN, NOW - timedelta(days=6)
    exposed(log, [("ann", "now", early), ("bob", "more", early), ("cy", "more", late), ("dan", "now", early)])
    exposed(log, [("ann", "now", early + timedelta(days=3))])
    log.append([
        bought("ann", early, weight=2.0), bought("ann", early + timedelta(days=6.9), weight=3.0),
        bought("ann", early + timedelta(days=7), weight=100.0),
        bought("bob", early - timedelta(seconds=1), weight=100.0),
        bought("bob", early + timedelta(days=1), "view", weight=100.0), bought("cy", late, weight=100.0),
        bought("stranger", early, weight=100.0), bought("dan", early + timedelta(days=1)),
    ])  # fmt: skip
    found = report(log, registry)
    told = {arm.name: (arm.users, arm.exposures, arm.complete, arm.value) for arm in found.arms}
    assert told == {"now": (2, 3, 2, 2.5), "more": (2, 2, 1, 0.0)}
    assert "Too early: 3 users are too few" in found.decision
    assert "1 of 4 users have not had their 7 days" in found.decision


def test_a_ratio_divides_sums_over_users(log: EventLog) -> None:
    registry = running(log, metric=Metric(event="cart", measure="events", per="impression"))
    exposed(log, [("ann", "now", BEGAN), ("bob", "now", BEGAN)])
    log.append([bought(*each) for each in [("ann", BEGAN, "impression")] * 3])
    log.append([bought("bob", BEGAN, kind) for kind in ("impression", "cart")])
    found = report(log, registry)
    assert [arm.value for arm in found.arms] == [0.25, None]
    assert found.metric[0].metric == "cart events per impression"


def test_later_looks_see_the_same_users_and_more(log: EventLog) -> None:
    registry = running(log)
    crowd(log, {"now": 300, "more": 300}, {"now": 30, "more": 40})
    first = report(log, registry)
    exposed(log, [(f"later {number}", "now", NOW - timedelta(days=8)) for number in range(10)])
    second = report(log, registry)
    assert second.arms[0].complete == 310
    at_first = {point.users: point for point in first.metric[0].sequence}
    both = [point for point in second.metric[0].sequence if point.users in at_first]
    assert len(both) > 5
    assert all(point == at_first[point.users] for point in both)


@pytest.mark.parametrize("method", ["asymptotic", "betting"])
@pytest.mark.parametrize(
    ("buyers", "verdict", "words"),
    [
        ({"now": 40, "more": 200}, "better", "Use “more”: it is better than “now”. Users with a purchase: +20.0"),
        ({"now": 200, "more": 40}, "worse", "Keep “now”: the other arms are worse."),
        ({"now": 100, "more": 104}, "open", "No difference is shown yet."),
    ],
)
def test_the_decision_follows_from_the_interval(
    log: EventLog, method: Any, buyers: dict[str, int], verdict: str, words: str
) -> None:
    registry = running(log, method=method, planned_users=1_000)
    crowd(log, {"now": 800, "more": 800}, buyers)
    found = report(log, registry)
    (compared,) = found.metric
    assert compared.verdict == verdict
    assert compared.difference == pytest.approx((buyers["more"] - buyers["now"]) / 800, abs=0.005)
    assert found.decision.startswith(words)
    assert found.sample_ratio.mismatch is False


def test_a_guard_that_is_harmed_comes_before_a_gain(log: EventLog) -> None:
    registry = running(log, guards=[Guard(event="return", harm="up")], planned_users=1_000)
    crowd(log, {"now": 800, "more": 800}, {"now": 40, "more": 200})
    log.append([bought(f"more {number}", BEGAN + timedelta(days=1), "return") for number in range(150)])
    found = report(log, registry)
    assert [one.verdict for one in found.guards] == ["worse"]
    assert found.decision.startswith("Stop “more”: it does harm to a guard, users with a return.")


def test_arms_without_their_share_of_users_make_the_numbers_useless(log: EventLog) -> None:
    registry = running(log)
    crowd(log, {"now": 600, "more": 400}, {"now": 10, "more": 300})
    found = report(log, registry)
    assert found.sample_ratio.mismatch
    assert "(now 600, more 400), and chance does not explain it" in found.decision


def test_every_arm_is_compared_with_the_first(log: EventLog) -> None:
    registry = running(log, arms=[*ARMS, Arm(name="third")], planned_users=1_000)
    crowd(log, {"now": 400, "more": 400, "third": 400}, {"now": 20, "more": 20, "third": 150})
    found = report(log, registry)
    assert [(one.arm, one.verdict) for one in found.metric] == [("more", "open"), ("third", "better")]
    assert found.decision.startswith("Use “third”")


def test_users_whose_window_did_not_end_before_the_stop_are_left_out(log: EventLog) -> None:
    registry = running(log)
    exposed(log, [("ann", "now", BEGAN), ("bob", "now", BEGAN + timedelta(days=10))])
    registry.stop("one")
    stop = to_us(BEGAN + timedelta(days=14))
    log.transaction(lambda connection: connection.execute(update(schema.experiments).values(stopped_us=stop)))
    assert report(log, registry).arms[0].complete == 1


def test_the_test_with_one_look_is_there_if_it_is_asked_for(log: EventLog) -> None:
    registry = running(log)
    crowd(log, {"now": 300, "more": 300}, {"now": 30, "more": 90})
    assert report(log, registry).fixed_horizon is None
    (look,) = report(log, registry, fixed=True).fixed_horizon or []
    assert (look.difference, look.variance_left) == (pytest.approx(0.2), 1.0)
    assert look.p < 0.001


def test_a_ratio_has_no_test_with_one_look(log: EventLog) -> None:
    registry = running(log, metric=Metric(event="cart", measure="events", per="impression"))
    with pytest.raises(ColdStartError, match="takes a metric without `per`"):
        report(log, registry, fixed=True)


def test_of_nobody_the_report_says_so(log: EventLog) -> None:
    registry = running(log)
    assert report(log, registry).decision == "Too early. No user was exposed."
    (compared,) = report(log, registry).metric
    assert (compared.low, compared.difference, compared.sequence) == (None, None, [])
