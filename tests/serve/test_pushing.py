"""Profiles in Feast's online store after events: what `coldstart profiles` computes of the same events."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feast import FeatureStore
from structlog.testing import capture_logs

from coldstart_udfs.feast.operations.stores import online_rows, open_store
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.data.events import EventWeights
from recommender.data.tables import ingest
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.training import train
from recommender.serve import background, scheduled
from recommender.serve.events.event import Event
from recommender.serve.events.export import export
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from recommender.serve.pushing import Pushing
from tests.support.small_shop import LAST, apply, history, online

DAY = datetime(2011, 6, 2, tzinfo=UTC)


def did(user: str, item: str, kind: str = "purchase", hours: float = 0) -> Event:
    return Event(user, item, kind, DAY + timedelta(hours=hours))


def a_day() -> list[Event]:
    """Views, purchases, one that is returned, a user of the bundle and one who is new."""
    return [
        did("ann", "pot", "view", 1), did("bob", "lamp", "cart", 2), did("bob", "lamp", "purchase", 3.5),
        did("new", "mug", "view", 4), did("new", "flag", "purchase", 5), did("ann", "flag", "purchase", 6),
        did("ann", "flag", "return", 7), did("new", "pot", "impression", 8),
    ]  # fmt: skip


@pytest.fixture
def shop(served_shop: Path, tmp_path: Path) -> Path:
    shop = tmp_path / "shop"
    shutil.copytree(served_shop, shop, ignore=shutil.ignore_patterns("online_store.db*"))
    repo = shop / "feature_repo"
    apply(repo).materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    return shop


@pytest.fixture
def log(shop: Path) -> Iterator[EventLog]:
    with closing(EventLog.open(f"sqlite:///{shop / 'data' / 'events.db'}")) as opened:
        yield opened


def following(shop: Path, log: EventLog) -> tuple[Live, Pushing, FeatureStore]:
    repo = shop / "feature_repo"
    weights = EventWeights.of_settings(Enrichment.of_repo(repo))
    live = Live(shop / "data" / "bundle", log, weights=weights, poll=None)
    return live, Pushing(live, log, repo), open_store(repo)


def read(store: FeatureStore, *names: str) -> list[tuple[list[float], int] | None]:
    found = online(store, *names)
    profiles = zip(found["user_profile"], found["user_evidence"], strict=True)
    return [None if profile is None else (profile, evidence) for profile, evidence in profiles]


def ask(client: Any, name: str) -> list[tuple[str, float]]:
    answer = client.post("/v1/recommend", json={"user_id": name, "exclude_seen": False}).json()
    return [(one["item_id"], one["score"]) for one in answer["items"]]


def check_a_day(shop: Path, log: EventLog, tmp_path: Path) -> None:
    live, pushing, store = following(shop, log)
    for event in a_day():
        live.accept([event])
    assert pushing.step() == 3
    names = ["ann", "bob", "new"]
    served = read(store, *names)

    export(log, tmp_path / "exported")
    ingest(shop / "data", tmp_path / "tables", events=tmp_path / "exported")
    build_profiles(tmp_path / "tables", shop / "feature_repo")
    trained = history(store, *((name, DAY + timedelta(days=1)) for name in names))
    used = live.profiles_of(names)
    for row, told in enumerate(served):
        assert told is not None
        np.testing.assert_allclose(told[0], trained["user_profile"][row], atol=1e-5)
        np.testing.assert_allclose(used.profiles[row], trained["user_profile"][row], atol=1e-5)
        assert told[1] == used.evidence[row] == trained["user_evidence"][row]


def test_online_features_training_features_and_what_the_service_used_are_equal(
    shop: Path, log: EventLog, tmp_path: Path
) -> None:
    check_a_day(shop, log, tmp_path)


@pytest.mark.slow
def test_they_are_equal_when_events_age_too(unapplied_shop: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(unapplied_shop, shop)
    repo = shop / "feature_repo"
    replace(Enrichment.of_repo(repo), half_life_days=20.0).write(repo / ENRICHMENT_FILE)
    build_profiles(shop / "data", repo)
    apply(repo)
    train(shop / "data", repo, shop / "data" / "bundle", cutoff=datetime(2011, 5, 10, tzinfo=UTC))
    apply(repo).materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    with closing(EventLog.open(f"sqlite:///{tmp_path / 'events.db'}")) as log:
        check_a_day(shop, log, tmp_path)


def test_one_worker_pushes_until_it_ends(shop: Path, log: EventLog) -> None:
    live, first, store = following(shop, log)
    other, second, _ = following(shop, log)
    live.accept([did("new", "mug")])
    other.refresh()
    assert (first.step(), second.step(), first.step()) == (1, 0, 0)
    live.accept([did("new", "pot")])
    other.refresh()
    first.close()
    assert second.step() == 1  # what the first one has pushed is not pushed again, and nothing is left out
    assert second.step() == 0
    (told,) = read(store, "new")
    assert told is not None
    assert told[1] == 2


def test_what_a_materialize_has_overwritten_is_written_again(shop: Path, log: EventLog) -> None:
    live, pushing, store = following(shop, log)
    live.accept([did("ann", "pot")])
    assert pushing.step() == 1
    pushed = read(store, "ann")
    store.materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    assert read(store, "ann") != pushed
    assert pushing.step() == 1
    assert read(store, "ann") == pushed


def test_who_is_erased_while_they_are_pushed_is_not_in_the_store(shop: Path, log: EventLog) -> None:
    """Another worker has erased them, and this one does not know it yet."""
    live, pushing, store = following(shop, log)
    live.accept([did("ann", "pot"), did("bob", "pot")])
    log.erase_user("ann")
    rows = online_rows(store)
    assert rows is not None
    rows.erase(rows.find("user_id", "ann"))
    assert pushing.step() == 2
    assert rows.find("user_id", "ann") == []
    assert read(store, "bob") != [None]


def test_the_service_counts_nothing_twice(shop: Path, log: EventLog, start: Callable[..., Any]) -> None:
    live, pushing, store = following(shop, log)
    url = f"sqlite:///{shop / 'data' / 'events.db'}"
    live.accept(a_day())
    before = {name: ask(start(shop, events=url), name) for name in ("ann", "bob", "new")}
    assert pushing.step() == 3
    assert read(store, "new") != [None]
    assert {name: ask(start(shop, events=url), name) for name in before} == before


def wait_until(come: Callable[[], bool]) -> None:
    for _ in range(600):
        if come():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_service_pushes_by_itself_and_says_when_it_cannot(
    shop: Path, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_PUSH", 0.05)
    store, file = open_store(shop / "feature_repo"), shop / "feature_repo" / "data" / "online_store.db"
    with capture_logs() as lines:
        client = start(shop, push_profiles=True)

        def buy(item: str) -> None:
            event = {"user_id": "new", "item_id": item, "event_type": "purchase"}
            assert client.post("/v1/events", json={"events": [event]}).status_code == 202

        buy("mug")
        wait_until(lambda: read(store, "new") != [None])
        wait_until(lambda: "coldstart_pushed_profiles_total 1.0" in client.get("/metrics").text)
        file.rename(file.with_suffix(".away"))
        buy("pot")
        wait_until(lambda: re.search(r'failures_total{work="push profiles"} [1-9]', client.get("/metrics").text))
        file.with_suffix(".away").rename(file)
        wait_until(lambda: "coldstart_pushed_profiles_total 2.0" in client.get("/metrics").text)
    told = [line["failing"] for line in lines if line["event"] == "work beside the requests"]
    assert len(told) == 2
    assert "has no file; run `feast apply`" in told[0]
    assert told[1] is None


def test_a_service_counts_what_came_of_a_scheduled_run(
    served_shop: Path, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub stands for the process that learns."""
    monkeypatch.setattr(background, "_LEARN", 0.05)
    monkeypatch.setattr(scheduled.sys, "executable", "/bin/false")
    client = start(learn_every=1e-6, raw=served_shop)
    wait_until(lambda: re.search(r'learning_runs_total{result="refused"} [1-9]', client.get("/metrics").text))
