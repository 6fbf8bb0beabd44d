"""Event logs, and the small shop: trained, materialised and served."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from recommender.serve.events.log import EventLog


@pytest.fixture(scope="session")
def served_shop(unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with its features in the online store and a bundle in data/bundle.

    Every part of a score is as loud as the others, so that nothing that is read can go unnoticed.
    """
    from recommender.model.recommender import HybridRecommender
    from recommender.model.weights import PARTS, Weights
    from recommender.pipeline.training import train
    from tests.support.small_shop import LAST, apply

    shop = tmp_path_factory.mktemp("served") / "shop"
    shutil.copytree(unapplied_shop, shop)
    repo = shop / "feature_repo"
    apply(repo)
    bundle = shop / "data" / "bundle"
    train(shop / "data", repo, bundle, cutoff=datetime(2011, 5, 10, tzinfo=UTC))
    loud = dict.fromkeys(PARTS, (1.0, 1.0))
    HybridRecommender.load(bundle).with_parameters(weights=Weights(warm=loud, cold=loud)).save(bundle)
    apply(repo).materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    return shop


@pytest.fixture(scope="module")
def start(served_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start a service on the shop, or on another one, with an event log of its own; gives a client."""
    from fastapi.testclient import TestClient

    from recommender.serve.app import create_app
    from recommender.serve.settings import Settings

    with ExitStack() as stack:

        def started(shop: Path = served_shop, **settings: Any) -> TestClient:
            events = f"sqlite:///{tmp_path_factory.mktemp('events') / 'events.db'}"
            places = {"repo": shop / "feature_repo", "bundle": shop / "data" / "bundle", "data": None}
            given = places | {"events": events} | settings
            return stack.enter_context(TestClient(create_app(Settings(**given)), "http://127.0.0.1"))

        yield started


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
