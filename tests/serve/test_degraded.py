"""A store that is out of order or out of step with the bundle: labelled answers, and never an error."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import recommender.serve.service as service
import recommender.serve.store as store_of_service
from coldstart_udfs.feast.operations.stores import open_store
from recommender.model.recommender import HybridRecommender
from recommender.serve.store import (
    CLOSED,
    LACKING,
    MATERIALIZING,
    OTHER_ALPHA,
    OTHER_ENCODER,
    REGISTRY,
    UNREADABLE,
    OnlineStore,
)
from tests.support.small_shop import LAST, apply, stuck

Client = Any


@pytest.fixture
def shop(served_shop: Path, tmp_path: Path) -> Path:
    """A copy that a test may break, with a store of its own, which is applied but empty."""
    shop = tmp_path / "shop"
    shutil.copytree(served_shop, shop, ignore=shutil.ignore_patterns("*.db*"))
    apply(shop / "feature_repo")
    return shop


@pytest.fixture
def filled(shop: Path) -> Path:
    """With the rows of the store."""
    open_store(shop / "feature_repo").materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    return shop


@pytest.fixture
def model(served_shop: Path) -> HybridRecommender:
    return HybridRecommender.load(served_shop / "data" / "bundle")


def ask(client: Client, name: str = "ann") -> tuple[list[str], str | None]:
    response = client.post("/v1/recommend", json={"user_id": name})
    assert response.status_code == 200, response.text
    got = response.json()
    return [one["item_id"] for one in got["items"]], got["degraded"]


def await_state(client: Client, reason: str | None) -> None:
    for _ in range(600):
        if client.get("/readyz").json()["degraded"] == reason:
            return
        time.sleep(0.1)
    raise AssertionError(f"never {reason}")


def own(model: HybridRecommender, name: str = "ann") -> list[str]:
    return model.recommend(name)["item_id"].tolist()


def test_rows_that_are_missing_are_taken_from_the_bundle(
    shop: Path, start: Callable[..., Client], model: HybridRecommender
) -> None:
    client = start(shop)
    assert ask(client) == (own(model), LACKING)
    assert f'coldstart_degraded_answers_total{{reason="{LACKING}"}}' in client.get("/metrics").text
    # Who is new has nothing to lack.
    assert ask(client, "who")[1] is None


def test_without_a_registry_the_bundle_answers(
    shop: Path, start: Callable[..., Client], model: HybridRecommender
) -> None:
    (shop / "feature_repo" / "data" / "registry.db").unlink()
    client = start(shop)
    assert ask(client) == (own(model), CLOSED)
    assert client.get("/readyz").json()["degraded"] == CLOSED


def test_a_store_that_breaks_while_it_serves(
    filled: Path, start: Callable[..., Client], model: HybridRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_LOOK", 0.05)
    monkeypatch.setattr(store_of_service, "_PAUSE", 0.0)
    client = start(filled)
    assert ask(client) == (own(model), None)
    with closing(sqlite3.connect(filled / "feature_repo" / "data" / "online_store.db")) as connection, connection:
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%user_profiles'").fetchone()
        connection.execute(f'ALTER TABLE "{table}" RENAME TO gone')
    assert ask(client) == (own(model), UNREADABLE)
    with closing(sqlite3.connect(filled / "feature_repo" / "data" / "online_store.db")) as connection, connection:
        connection.execute(f'ALTER TABLE gone RENAME TO "{table}"')
    assert ask(client)[0] == own(model)
    # A `feast apply` that is killed while it writes leaves a registry of 0 bytes: what is stored is served on.
    registry = filled / "feature_repo" / "data" / "registry.db"
    content = registry.read_bytes()
    registry.write_bytes(b"")
    await_state(client, REGISTRY)
    assert ask(client) == (own(model), REGISTRY)
    registry.write_bytes(content)
    await_state(client, None)
    assert ask(client) == (own(model), None)


def test_a_store_whose_file_is_taken_away_and_put_back_is_noticed(
    filled: Path, start: Callable[..., Client], model: HybridRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_LOOK", 0.05)
    client = start(filled)
    assert ask(client) == (own(model), None)
    file = filled / "feature_repo" / "data" / "online_store.db"
    file.rename(file.with_suffix(".away"))
    await_state(client, UNREADABLE)
    assert ask(client) == (own(model), UNREADABLE)
    assert not file.exists()
    shutil.copy(file.with_suffix(".away"), file)
    await_state(client, None)
    assert ask(client) == (own(model), None)
    # Another one takes its place, and it is empty.
    with closing(sqlite3.connect(file.with_suffix(".new"))) as connection, connection:
        connection.execute("CREATE TABLE another (a)")
    file.with_suffix(".new").replace(file)
    await_state(client, UNREADABLE)
    assert ask(client)[0] == own(model)


def test_a_bundle_that_breaks_while_it_serves(
    filled: Path, start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_LOOK", 0.05)
    manifest = filled / "data" / "bundle" / "manifest.json"
    good = manifest.read_bytes()
    with capture_logs() as lines:
        client = start(filled)
        for content, state in ((b"{", service._NOT_FOLLOWING), (good, None)):
            manifest.write_bytes(content)
            await_state(client, state)
            time.sleep(0.2)
    assert [line["degraded"] for line in lines if line["event"] == "state changed"] == [service._NOT_FOLLOWING, None]


def test_a_materialize_that_was_killed(filled: Path, model: HybridRecommender) -> None:
    stuck(open_store(filled / "feature_repo"), "user_profiles")
    store = OnlineStore(filled / "feature_repo")
    assert store.check(model) == MATERIALIZING
    found = store.read("user", "ann", model.fingerprint)
    assert found is not None
    assert found.profile is not None


@pytest.mark.service
def test_answers_go_on_while_feast_materializes_and_when_it_is_killed(
    filled: Path, start: Callable[..., Client], model: HybridRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_LOOK", 0.05)
    client, repo = start(filled), filled / "feature_repo"
    registry, program = repo / "data" / "registry.db", Path(sys.executable).with_name("feast")
    until = (LAST + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    command = [str(program), "-c", str(repo), "materialize", "2010-01-01T00:00:00", until]
    for killed in (False, True):
        before, answers = registry.stat().st_mtime_ns, []
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                answers.append(ask(client))
                if killed and registry.stat().st_mtime_ns != before:
                    process.kill()
        assert (process.returncode == 0) != killed
        answers.append(ask(client))
        assert {tuple(items) for items, _ in answers} == {tuple(own(model))}
        assert {degraded for _, degraded in answers} <= {None, MATERIALIZING, REGISTRY}
    apply(repo)
    stuck(open_store(repo), "user_profiles")
    await_state(client, MATERIALIZING)
    assert ask(client) == (own(model), MATERIALIZING)


def test_another_alpha_or_another_encoder(filled: Path, model: HybridRecommender) -> None:
    store = OnlineStore(filled / "feature_repo")
    assert store.check(model) is None
    settings = filled / "feature_repo" / "enrichment.json"
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps(values | {"alpha": values["alpha"] + 1}))
    apply(filled / "feature_repo")
    assert store.check(model) == OTHER_ALPHA
    with pytest.raises(store_of_service.StoreError, match=OTHER_ALPHA):
        store.read("user", "ann", model.fingerprint)
    settings.write_text(json.dumps(values))
    apply(filled / "feature_repo")
    assert store.check(model) is None
    with pytest.raises(store_of_service.StoreError, match=OTHER_ENCODER):
        store.read("user", "ann", "another")
