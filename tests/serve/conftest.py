"""The small shop, trained, materialised and served."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recommender.model.recommender import HybridRecommender
from recommender.model.weights import PARTS, Weights
from recommender.pipeline.training import train
from tests.support.small_shop import LAST, apply


@pytest.fixture(scope="session")
def served_shop(unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with its features in the online store and a bundle in data/bundle.

    Every part of a score is as loud as the others, so that nothing that is read can go unnoticed.
    """
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
            given = {"repo": shop / "feature_repo", "bundle": shop / "data" / "bundle", "events": events} | settings
            return stack.enter_context(TestClient(create_app(Settings(**given))))

        yield started
