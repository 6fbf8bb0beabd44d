"""The table of what was explored, in SQLite and in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from recommender.data.events import EventWeights
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.explorations import Explorations

DAY = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = 3_600.0


def decision(name: str, user: str = "ann", position: int = 2, hours: float = 0.0) -> Decision:
    contexts = np.arange(24, dtype=np.float32).reshape(2, 12)
    at = DAY + timedelta(hours=hours)
    return Decision(name, user, at, position, "ü", ("pot", "ü"), np.array([0.25, 0.75]), contexts, "thompson/1")


def test_what_was_drawn_is_read_again_and_settled_once(log: EventLog) -> None:
    table = Explorations(log)
    assert not table.any()
    table.add([decision("a"), decision("a", position=5)])
    table.add([decision("b", "", hours=3)])
    table.add([decision("gone")])
    table.withdraw("gone")
    assert table.any()
    (first, reward), *_ = table.decisions()
    assert (first.at, first.items, first.propensity, reward) == (DAY, ("pot", "ü"), 0.75, None)
    np.testing.assert_array_equal(first.contexts, decision("a").contexts)
    log.append([
        Event("x", "ü", "view", DAY + timedelta(minutes=5), recommendation_id="a"),
        Event("x", "ü", "cart", DAY + timedelta(minutes=59), recommendation_id="a"),
        Event("x", "ü", "purchase", DAY + timedelta(minutes=61), recommendation_id="a"),
        Event("x", "pot", "purchase", DAY, recommendation_id="a"),
    ])  # fmt: skip
    assert table.settled(0).items == []
    assert table.settle(DAY + timedelta(hours=2), WINDOW, EventWeights()) == 2
    assert table.settle(DAY + timedelta(hours=2), WINDOW, EventWeights()) == 0
    found = table.settled(0)
    assert (found.last, found.items, found.rewards.tolist()) == (2, ["ü", "ü"], [0.5, 0.5])
    np.testing.assert_array_equal(found.contexts, decision("a").contexts[[1, 1]])
    assert table.settle(DAY + timedelta(hours=4), WINDOW, EventWeights()) == 1
    assert (table.settled(2).last, table.settled(2).rewards.tolist()) == (3, [0.0])


def test_erasing_a_user_leaves_the_places_of_others(log: EventLog) -> None:
    table = Explorations(log)
    table.add([decision("a"), decision("a", position=3)])
    table.add([decision("b", "")])
    assert table.erasures() == 0
    assert log.erase_user("ann", dry_run=True).removed["explorations"] == 2
    assert log.erase_user("ann").removed["explorations"] == 2
    assert [one.recommendation_id for one, _ in table.decisions()] == ["b"]
    assert table.erasures() > 0
