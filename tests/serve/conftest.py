from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from recommender.serve.events.log import EventLog


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an event log that does not exist yet, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log' / 'events.db'}"
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    import psycopg

    name = f"events_{uuid4().hex}"
    with psycopg.connect(f"postgresql://{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://{postgresql_server}/{name}"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    opened = EventLog.open(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_log(tmp_path: Path) -> Iterator[EventLog]:
    """A log in SQLite: `log.db` in the folder of the test."""
    opened = EventLog.open(f"sqlite:///{tmp_path / 'log' / 'events.db'}")
    yield opened
    opened.close()
