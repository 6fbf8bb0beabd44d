"""Explored places in the event log, with what they earned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from recommender.cli.app import app
from recommender.serve.events.event import Event
from recommender.serve.events.export import export
from recommender.serve.events.log import EventLog
from recommender.serve.policy.contexts import WIDTH
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.explorations import Explorations
from recommender.serve.policy.exported import from_export
from recommender.serve.policy.stored import from_log

DAY = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = timedelta(days=1)


def write(log: EventLog, count: int) -> None:
    """Places of every other hour; every fourth is bought an hour later, the others are viewed."""
    rng = np.random.default_rng(1)
    places = Explorations(log)
    for number in range(count):
        at = DAY + timedelta(hours=2 * number)
        p = rng.dirichlet(np.ones(3))
        places.add([Decision(
            f"r{number}", "" if number % 5 == 0 else f"u{number}", at, 3, "lamp", ("lamp", "pot", "rug"), p,
            rng.normal(size=(3, WIDTH)).astype(np.float32), "thompson/1",
        )])  # fmt: skip
        kind = "purchase" if number % 4 == 0 else "view"
        log.append([Event(f"u{number}", "lamp", kind, at + timedelta(hours=1), recommendation_id=f"r{number}")])
        # Of the same answer another item, and the same item of no answer.
        log.append([
            Event(f"u{number}", "pot", "purchase", at + timedelta(hours=1), recommendation_id=f"r{number}"),
            Event(f"u{number}", "lamp", "purchase", at + timedelta(hours=1)),
        ])  # fmt: skip


def test_a_log_says_the_same_as_its_export(log: EventLog, tmp_path: Path) -> None:
    write(log, 40)
    export(log, tmp_path / "out")
    found, exported = from_log(log, {"purchase": 1.0}, WINDOW), from_export(tmp_path / "out", {"purchase": 1.0}, WINDOW)
    # The last event is an hour after the last place: of the last 12 hours and more nothing is known yet.
    assert (len(found.decisions), found.waiting) == (28, 12)
    assert list(found.rewards) == [float(number % 4 == 0) for number in range(28)]
    assert (exported.rewards, exported.waiting) == (found.rewards, found.waiting)
    for one, other in zip(found.decisions, exported.decisions, strict=True):
        assert (one.recommendation_id, one.user_id, one.at, one.items) == (
            other.recommendation_id, other.user_id, other.at, other.items
        )  # fmt: skip
        assert np.array_equal(one.probabilities, other.probabilities)
        assert np.array_equal(one.contexts, other.contexts)


def test_the_command_reads_the_event_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    log = EventLog.open(url)
    write(log, 60)
    log.close()
    found = CliRunner().invoke(app, ["experiment", "replay", "--events", url, "--policy", "logged"])
    assert found.exit_code == 0, found.output
    assert "48 explored places of 48 users, 2026-03-01 to 2026-03-04; purchases in 1,000 places" in found.output
    assert "│ logged │ 250 (" in found.output
    assert "12 places are left out: 24h after them are not over yet" in found.output


def test_there_has_to_be_a_log(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["experiment", "replay", "--events", f"sqlite:///{tmp_path}/none.db"])
    assert "there is no event log at" in str(found.exception)


def test_a_log_without_explored_places_has_no_decisions(log: EventLog) -> None:
    log.append([Event("u1", "lamp", "purchase", DAY, recommendation_id="r1")])
    assert from_log(log, {"purchase": 1.0}, WINDOW).decisions == []
