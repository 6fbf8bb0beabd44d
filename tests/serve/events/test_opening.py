"""A bundle is served with the event log that it was trained from."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.events.opening import open_log
from tests.support.made_up_shop import shared

VIEW = Event("ann", "mug", "view", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def bundle(tmp_path: Path, log: EventLog) -> Path:
    """A bundle that holds two of three entries of the log."""
    log.append([VIEW, VIEW, VIEW])
    shared().save(tmp_path / "bundle", about={"events": {"log": log.identity, "watermark": 2}})
    return tmp_path / "bundle"


def test_the_log_of_the_bundle_is_opened(bundle: Path, url: str) -> None:
    with closing(open_log(url, bundle)) as log:
        assert log.last == 3


def test_a_bundle_of_files_alone_takes_a_new_log(tmp_path: Path, url: str) -> None:
    shared().save(tmp_path / "bundle")
    with closing(open_log(url, tmp_path / "bundle")) as log:
        assert log.last == 0


def test_a_log_that_is_not_there_is_not_made(bundle: Path, tmp_path: Path) -> None:
    mistyped = tmp_path / "lgo" / "events.db"
    with pytest.raises(ColdStartError, match=r"there is no event log at sqlite:///.*lgo/events\.db; name the one that"):
        open_log(f"sqlite:///{mistyped}", bundle)
    assert not mistyped.parent.exists()


def test_a_database_without_a_log_stays_without(bundle: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(ColdStartError, match="there is no event log at"):
        open_log(f"sqlite:///{empty}", bundle)
    with closing(sqlite3.connect(empty)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


@pytest.mark.service
def test_a_database_of_postgresql_without_a_log_stays_without(tmp_path: Path, postgresql_url: str) -> None:
    import psycopg

    shared().save(tmp_path / "bundle", about={"events": {"log": "another", "watermark": 2}})
    with pytest.raises(ColdStartError, match="there is no event log at"):
        open_log(postgresql_url, tmp_path / "bundle")
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


@pytest.mark.parametrize(("entries", "found"), [(0, "it is empty"), (5, "its last entry is 5")])
def test_another_log_is_refused(bundle: Path, tmp_path: Path, entries: int, found: str) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    with closing(EventLog.open(other)) as log:
        log.append([VIEW] * entries)
    with pytest.raises(ColdStartError, match=rf"up to entry 2, and the log in --events is another one \({found}\)"):
        open_log(other, bundle)


def test_an_older_copy_of_the_log_is_refused(tmp_path: Path) -> None:
    """Its next entries would have the ids of those that the bundle holds, and would never count."""
    url, copy = f"sqlite:///{tmp_path}/events.db", tmp_path / "copy.db"
    with closing(EventLog.open(url)) as log:
        log.append([VIEW])
        name = log.identity
    shutil.copy(tmp_path / "events.db", copy)
    shared().save(tmp_path / "bundle", about={"events": {"log": name, "watermark": 2}})
    with pytest.raises(ColdStartError, match="an older copy, which ends at entry 1; name or restore"):
        open_log(f"sqlite:///{copy}", tmp_path / "bundle")
