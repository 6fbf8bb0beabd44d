"""Learning from the log: a candidate is compared with what serves on events that neither knows."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.app import init
from recommender.data.events import EventWeights
from recommender.data.tables import ingest
from recommender.model.bundle import read_manifest
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.bundles import journal, kept_folder, rollback
from recommender.pipeline.forget import bundles_with
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.training import train
from recommender.serve import learning
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.learning import Learned, learn
from recommender.serve.live import Live
from recommender.serve.settings import VARIABLE, Settings
from recommender.serve.shadow import Comparison, compare
from recommender.serve.store import OnlineStore
from tests.support.made_up_shop import shared
from tests.support.small_shop import apply
from tests.support.word_model import BACKEND, word_model

T = datetime(2024, 1, 1, tzinfo=UTC)
ITEMS, USERS = 200, 60


def bought(user: str, item: str, hours: float = 0, kind: str = "purchase") -> Event:
    return Event(user, item, kind, T + timedelta(hours=hours))


def lamps_for_flats() -> list[Event]:
    """What the users of the made-up shop take next: of their own kind."""
    model = shared()
    seen = model.fitted.seen_by(model.users.ids).toarray()
    return [
        bought(user, f"i{10 * (row // 20) + column:02}") for row, user in enumerate(model.users.ids)
        for column in range(9) if not seen[row, 10 * (row // 20) + column]
    ]  # fmt: skip


def test_a_recommender_is_neither_better_nor_worse_than_itself() -> None:
    found = compare(shared(), shared(), lamps_for_flats(), EventWeights())
    assert found.rankings == 40
    assert found.current == found.candidate > 0.5
    assert (found.low, found.high) == (0, 0)


def test_a_worse_recommender_is_told_from_a_better_one() -> None:
    class Reversed(HybridRecommender):
        def score(self, *asked: object, **settings: object) -> np.ndarray:
            return -super().score(*asked, **settings)  # type: ignore[arg-type]

    worse = Reversed.of(shared().fitted)
    found = compare(shared(), worse, lamps_for_flats(), EventWeights())
    assert found.high < 0
    assert compare(worse, shared(), lamps_for_flats(), EventWeights()).low > 0


def test_what_was_seen_or_counts_nothing_or_is_unknown_is_no_ranking() -> None:
    seen = shared().fitted.seen_by(["u00"])
    old = shared().items.ids[seen.indices[0]]
    events = [bought("u00", old), bought("u01", "i15", kind="impression"), bought("u02", "nowhere"),
              bought("u03", "i15", kind="return")]  # fmt: skip
    assert compare(shared(), shared(), events, EventWeights()) == Comparison(0, 0.0, 0.0, -np.inf, np.inf)
    assert compare(shared(), shared(), [bought("a guest", "i15")], EventWeights()).rankings == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = ("thing", *(f"kind{kind}" for kind in range(5)))
    return word_model(tmp_path_factory.mktemp("model") / "words", words)


def events_of(seed: int, count: int) -> list[Event]:
    """Users take things of their own kind, after what the raw files tell."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        user = draw.randrange(USERS)
        item = 5 * draw.randrange(ITEMS // 5) + user % 5
        found.append(bought(f"u{user}", f"i{item}", 24 * 60 + 100 * seed + number / 10))
    return found


@pytest.fixture
def shop(tmp_path: Path, model: str) -> Path:
    folder = tmp_path / "shop"
    init(folder)
    repo, raw, draw = folder / "feature_repo", folder / "raw", random.Random(0)
    Enrichment(model=model, backend=BACKEND).write(repo / ENRICHMENT_FILE)
    raw.mkdir()
    rows = ["user_id,item_id,event_timestamp"]
    for number in range(400):
        user = draw.randrange(USERS)
        item = 5 * draw.randrange(ITEMS // 5) + user % 5
        rows.append(f"u{user},i{item},{(T + timedelta(hours=3 * number)).isoformat()}")
    (raw / "interactions.csv").write_text("\n".join(rows) + "\n")
    (raw / "items.csv").write_text("item_id,description\n" + "".join(f"i{n},thing kind{n % 5}\n" for n in range(ITEMS)))
    (raw / "users.csv").write_text("user_id,description\n" + "".join(f"u{n},\n" for n in range(USERS)))
    ingest(raw, folder / "data")
    build_profiles(folder / "data", repo)
    apply(repo)
    return folder


@pytest.fixture
def sqlite_log(shop: Path) -> Iterator[EventLog]:
    log = EventLog.open(f"sqlite:///{shop / 'data' / 'events.db'}")
    yield log
    log.close()


@pytest.fixture
def run(shop: Path, sqlite_log: EventLog) -> Callable[[], Learned | None]:
    data = shop / "data"
    return lambda: learn(
        sqlite_log, shop / "raw", data, shop / "feature_repo", data / "bundle", data / "exported"
    )


@pytest.mark.slow
@pytest.mark.service
def test_a_scheduled_run_that_is_killed_leaves_what_serves_as_it_was(
    shop: Path, sqlite_log: EventLog, run: Callable[[], Learned | None]
) -> None:
    """The process that a service starts, with a real Feast, killed at two moments; then it runs to its end."""
    bundle, repo, data = shop / "data" / "bundle", shop / "feature_repo", shop / "data"
    assert run() is not None
    served = {path.name: path.read_bytes() for path in bundle.iterdir()}
    settings = Enrichment.of_repo(repo)
    sqlite_log.append(events_of(1, 400))
    given = Settings(repo, bundle, data, f"sqlite:///{data / 'events.db'}", raw=shop / "raw")
    environment = {**os.environ, VARIABLE: json.dumps(asdict(given), default=str)}
    command = [sys.executable, "-m", "recommender.serve.scheduled"]
    shutil.rmtree(data / "exported")
    made = [data / "exported" / "users.parquet", data / ".bundle.candidate.lock"]
    for moment in made:
        with subprocess.Popen(command, env=environment) as process:
            while not moment.exists():
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
        assert {path.name: path.read_bytes() for path in bundle.iterdir()} == served
        assert (Enrichment.of_repo(repo).alpha, Enrichment.of_repo(repo).source) == (settings.alpha, settings.source)
        assert Live(bundle, sqlite_log, poll=None).pending == 400
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert read_manifest(bundle)["events"] == {"log": sqlite_log.identity, "watermark": 320}
    assert Enrichment.of_repo(repo).alpha == HybridRecommender.load(bundle).parameters.alpha
    store = OnlineStore(repo)  # applied and materialised
    assert store.check(HybridRecommender.load(bundle)) is None
    assert store.read("user", "u1", HybridRecommender.load(bundle).fingerprint) is not None
    assert not (data / "bundle.candidate").exists()
    assert subprocess.run(command, env=environment, check=False).returncode == 3


@pytest.mark.slow
def test_who_is_erased_while_a_candidate_is_trained_is_in_no_bundle(
    shop: Path, sqlite_log: EventLog, run: Callable[[], Learned | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = shop / "data" / "bundle"
    run()
    sqlite_log.append(events_of(1, 400))

    def slowly(*arguments: Any, **settings: Any) -> HybridRecommender:
        trained = train(*arguments, **settings)
        assert "u1" in trained.users.ids
        sqlite_log.erase_user("u1")
        return trained

    monkeypatch.setattr(learning, "train", slowly)
    done = run()
    assert done is not None
    folders = [bundle, kept_folder(bundle) / done.entry.bundle]
    assert [len(bundles_with(folder, "user", "u2")) for folder in folders] == [1, 1]
    assert [len(bundles_with(folder, "user", "u1")) for folder in folders] == [0, 0]
    tables = [shop / "data" / "users.parquet", shop / "feature_repo" / "data" / "user_profiles.parquet"]
    known = [set(pq.read_table(table)["user_id"].to_pylist()) for table in tables]
    assert [("u1" in ids, "u2" in ids) for ids in known] == [(False, True)] * 2


@pytest.mark.slow
def test_a_night_of_learning_after_another(
    shop: Path, sqlite_log: EventLog, run: Callable[[], Learned | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = shop / "data" / "bundle"
    first = run()
    assert first is not None
    assert (first.entry.step, first.comparison) == ("promoted", None)

    sqlite_log.append(events_of(1, 400))
    live = Live(bundle, sqlite_log, poll=None)
    assert live.pending == 400
    second = run()
    assert second is not None
    assert second.comparison is not None
    assert second.comparison.rankings >= learning.FEWEST
    assert second.entry.step == "promoted", second.entry.why
    held = read_manifest(bundle)["events"]
    assert held == {"log": sqlite_log.identity, "watermark": 320}  # a fifth was held back
    live.refresh()
    assert (live.pending, live.watermark) == (80, 400)
    assert run() is None  # what was held back waits for newer events
    assert live.bundle_id == second.entry.bundle

    # A candidate that is worse is refused, its settings are taken back, and nothing of it is tried again.
    sqlite_log.append(events_of(2, 200))
    settings = (shop / "feature_repo" / ENRICHMENT_FILE).read_text()
    worse = Comparison(100, 0.5, 0.4, -0.2, -0.1)
    monkeypatch.setattr(learning, "compare", lambda *_: worse)
    third = run()
    assert third is not None
    assert third.entry.step == "refused"
    assert (shop / "feature_repo" / ENRICHMENT_FILE).read_text() == settings
    assert read_manifest(bundle)["id"] == second.entry.bundle
    assert run() is None
    assert not (shop / "data" / "bundle.candidate").exists()

    rollback(bundle)
    live.refresh()
    assert (live.bundle_id, live.pending, live.watermark) == (first.entry.bundle, 600, 600)
    assert run() is None  # what was rolled back is not promoted again by itself
    assert [entry.step for entry in journal(bundle)] == ["promoted", "promoted", "refused", "rolled back"]
