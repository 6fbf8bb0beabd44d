"""The event log in PostgreSQL, where transactions run side by side; what both databases do is in test_log.py."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from tests.support.event_writer import WRITER
from tests.support.made_up_shop import shared

pytestmark = pytest.mark.service


@pytest.fixture
def url(postgresql_url: str) -> str:
    return postgresql_url


def plain(url: str) -> str:
    """As psycopg reads it."""
    return url.replace("+psycopg", "")


def view(user: str) -> Event:
    return Event(user, "i1", "view", datetime(2026, 1, 1, tzinfo=UTC))


def test_events_of_a_transaction_that_is_still_open_are_not_skipped(log: EventLog, url: str) -> None:
    """Another writer has its ids first and commits last; a reader in between must not step over them."""
    log.append([view("before")])
    with psycopg.connect(plain(url)) as slow, ThreadPoolExecutor(1) as pool:
        slow.execute("UPDATE log_state SET last = last + 1")
        columns = "id, user_id, item_id, event_type, event_us"
        slow.execute(f"INSERT INTO events ({columns}) VALUES (2, 'slow', 'i', 'view', 0)")
        fast = pool.submit(log.append, [view("fast")])
        with pytest.raises(TimeoutError):
            fast.result(timeout=0.5)
        seen = log.after(0)
        assert [event.user_id for _, event in seen.events] == ["before"]
        slow.commit()
        assert list(fast.result(timeout=30).ids) == [3]
    assert [event.user_id for _, event in log.after(seen.watermark).events] == ["slow", "fast"]


def test_two_processes_that_write_at_once_never_hide_events_from_a_reader(log: EventLog, url: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, "50", name], stdout=subprocess.DEVNULL) for name in "ab"
    ]
    followed: list[int] = []
    watermark = 0
    while any(writer.poll() is None for writer in writers) or log.after(watermark).events:
        changes = log.after(watermark)
        followed += [number for number, _ in changes.events]
        watermark = changes.watermark
    assert [writer.returncode for writer in writers] == [0, 0]
    assert followed == [number for number, _ in log.after(0).events] == list(range(1, 801))


def test_commits_of_postgresql_are_synchronous_whatever_the_database_says(url: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        name = connection.execute("SELECT current_database()").fetchone()
        assert name is not None
        connection.execute(f"ALTER DATABASE {name[0]} SET synchronous_commit = off")
    log = EventLog.open(url)
    with log._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    log.close()


def test_a_lost_connection_is_an_error_and_the_next_append_works(log: EventLog, url: str) -> None:
    log.append([view("u1")])
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    assert list(log.append([view("u2")]).ids) == [2]


def test_no_database_is_an_error_that_says_so(url: str) -> None:
    with pytest.raises(ColdStartError, match=r"the event log cannot be opened: .*see that the database is there"):
        EventLog.open(f"{url}_missing")


def test_workers_know_the_same_after_events_returns_and_an_erasure(log: EventLog, url: str, tmp_path: Path) -> None:
    shared().save(tmp_path / "bundle")
    with closing(EventLog.open(url)) as other, Live(tmp_path / "bundle", log, poll=None) as one:
        second = Live(tmp_path / "bundle", other, poll=None)
        one.put_user("gone", "I live in a flat")
        second.accept([view("gone"), view("new")], key="k")
        assert one.accept([view("gone"), view("new")], key="k").replayed
        one.accept([Event("new", "i2", "purchase", datetime(2026, 1, 1, tzinfo=UTC)), view("new")])
        receipt = one.forget_user("gone")
        assert receipt.removed == {"events": 1, "descriptions": 1, "exposures": 0, "explorations": 0, "bundles": 0}
        assert "until its next VACUUM" in receipt.remains[0]
        second.refresh()
        restarted = Live(tmp_path / "bundle", other, poll=None)
        for live in (one, second, restarted):
            assert (live.pending, "gone" in live.model.users.ids) == (3, False)
            assert live.watermark == one.watermark
