from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recommender.serve.events.log import EventLog


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of an event log that does not exist yet."""
    return f"sqlite:///{tmp_path / 'log' / 'events.db'}"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    opened = EventLog.open(url)
    yield opened
    opened.close()
