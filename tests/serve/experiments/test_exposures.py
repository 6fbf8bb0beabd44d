"""The log of exposures: once a day, all that was collected, nobody who was erased."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

import recommender.serve.experiments.exposures as exposures
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog, EventLogError
from recommender.serve.experiments.exposures import ExposureLog


def rows(log: EventLog) -> list[tuple[str, str, str, str]]:
    table = schema.exposures
    with log.reading() as connection:
        found: list[Any] = list(connection.execute(select(table).order_by(table.c.experiment, table.c.user_id)))
    return [(row.experiment, row.user_id, row.arm, row.recommendation_id) for row in found]


def test_a_user_is_written_once_for_an_experiment_and_day(log: EventLog) -> None:
    first, other = ExposureLog(log), ExposureLog(log)
    for answer in ("1", "2"):
        first.add("a", "ann", "now", answer, 0)
        first.add("b", "ann", "more", answer, 0)
    assert rows(log) == []
    assert first.flush() == 2
    other.add("a", "ann", "now", "3", 0)  # another worker
    other.flush()
    assert rows(log) == [("a", "ann", "now", "1"), ("b", "ann", "more", "1")]


def test_answers_that_two_arms_filled_are_all_written(log: EventLog) -> None:
    one = ExposureLog(log)
    for answer in ("1", "2"):
        one.add("a", "ann", "", answer, 0, teams="{}")
    assert one.flush() == 2
    assert len(rows(log)) == 2


def test_what_many_threads_collect_is_written(log: EventLog) -> None:
    one = ExposureLog(log)

    def work(number: int) -> None:
        one.add("a", f"user {number}", "now", "1", 0)
        if number % 10 == 0:
            one.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    one.flush()
    assert len(rows(log)) == 200


def test_a_database_that_cannot_be_written_costs_nothing(sqlite_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ExposureLog(sqlite_log)
    one.add("a", "ann", "now", "1", 0)

    def fail(*_: object) -> None:
        raise EventLogError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_log, "transaction", fail)
        with pytest.raises(EventLogError):
            one.flush()
    one.add("a", "bob", "now", "2", 0)
    assert one.flush() == 2
    assert [row[1] for row in rows(sqlite_log)] == ["ann", "bob"]


def test_of_more_than_fits_the_oldest_are_given_up_and_counted(
    sqlite_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "MOST_WAITING", 2)
    counts: list[tuple[str, int]] = []
    one = ExposureLog(sqlite_log, lambda *given: counts.append(given))
    for name in ("ann", "bob", "cy"):
        one.add("a", name, "now", "1", 0)
    one.flush()
    assert [row[1] for row in rows(sqlite_log)] == ["bob", "cy"]
    assert counts == [("lost", 1), ("written", 2)]


def test_erasing_a_user_erases_their_exposures_and_those_on_the_way(log: EventLog) -> None:
    one = ExposureLog(log)
    one.add("a", "ann", "now", "1", log.last)
    one.add("a", "bob", "now", "1", log.last)
    one.flush()
    one.add("b", "ann", "now", "2", log.last)  # not written yet
    one.add("b", "bob", "now", "2", log.last)
    assert log.erase_user("ann", dry_run=True).removed["exposures"] == 1
    assert log.erase_user("ann").removed["exposures"] == 1
    assert one.flush() == 1
    assert [row[:2] for row in rows(log)] == [("a", "bob"), ("b", "bob")]
    one.add("c", "ann", "now", "3", log.last)  # came back
    one.flush()
    assert [row[:2] for row in rows(log)] == [("a", "bob"), ("b", "bob"), ("c", "ann")]
