"""What the service says of itself to Prometheus."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import recommender.serve.service as service
import recommender.serve.texts as texts
from recommender.model.known import KnownEntities
from recommender.serve.drift import Drift
from recommender.serve.keys import KeyFile
from tests.support.made_up_shop import LAMP, SPADE, entities, shared

Client = Any
HOUR = timedelta(hours=1)
Numbers = dict[tuple[str, ...], float]


def numbers(client: Client, **headers: str) -> Numbers:
    """Every sample, by its name and the values of its labels."""
    text = client.get("/metrics", headers=headers).text
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text) for one in family.samples
    }  # fmt: skip


def awaited(client: Client, name: tuple[str, ...], right: Callable[[float], bool]) -> float:
    """A number that the service writes when it next looks at its state."""
    for _ in range(200):
        if right(value := numbers(client)[name]):
            return value
        time.sleep(0.05)
    raise AssertionError(f"{name} is {value}")


@pytest.fixture
def client(start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(service, "_LOOK", 0.05)
    return start()


def test_series_of_known_labels_begin_at_zero(start: Callable[..., Client]) -> None:
    found = numbers(start())
    for full in ("encoder", "audiences", "rate"):
        assert found["coldstart_refused_total", full] == 0
    assert [found["coldstart_answers_total", tier] for tier in ("warm", "linked", "cold", "unknown")] == [0] * 4
    assert found["coldstart_workers",] == 1


def test_what_is_full_is_named(
    start: Callable[..., Client], client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(texts, "MOST_WAITING", 0)
        patched.setattr(service, "_MOST_AUDIENCES", 0)
        assert client.post("/v1/enrich", json={"description": "a lamp"}).status_code == 429
        assert client.post("/v1/audience", json={"item_id": "mug"}).status_code == 429
    found = numbers(client)
    assert (found["coldstart_refused_total", "encoder"], found["coldstart_refused_total", "audiences"]) == (1, 1)
    assert found["coldstart_requests_total", "/v1/enrich", "429"] == 1
    key, _ = KeyFile(tmp_path / "keys.json").create("shop", ["read"])
    limited, header = start(keys=tmp_path / "keys.json", rate="1/hour"), {"Authorization": f"Bearer {key}"}
    assert [limited.post("/v1/recommend", json={}, headers=header).status_code for _ in range(3)] == [200, 429, 429]
    other, _ = KeyFile(tmp_path / "keys.json").create("watch", ["read"])
    assert numbers(limited, Authorization=f"Bearer {other}")["coldstart_refused_total", "rate"] == 2


def test_events_and_how_long_they_wait_for_training(client: Client) -> None:
    now = datetime.now(UTC)
    assert numbers(client)["coldstart_pending_age_seconds", "oldest"] == 0
    events = [
        {"user_id": "ann", "item_id": "mug", "event_type": kind, "event_timestamp": (now - hours * HOUR).isoformat()}
        for kind, hours in (("view", 5), ("view", 3), ("cart", 2))
    ]
    assert client.post("/v1/events", json={"events": events}).status_code == 202
    assert awaited(client, ("coldstart_pending_events",), lambda value: value > 0) == 3
    found = numbers(client)
    assert (found["coldstart_events_total", "view"], found["coldstart_events_total", "cart"]) == (2, 1)
    assert found["coldstart_feedback_seconds_count",] == 1
    assert found["coldstart_pending_age_seconds", "oldest"] == pytest.approx(5 * 3600, abs=60)
    assert found["coldstart_pending_age_seconds", "newest"] == pytest.approx(2 * 3600, abs=60)


def test_the_log_is_followed_and_the_bundle_has_a_date(client: Client, served_shop: Path) -> None:
    before = numbers(client)["coldstart_followed_timestamp_seconds",]
    awaited(client, ("coldstart_followed_timestamp_seconds",), lambda value: value > before)
    written = (served_shop / "data" / "bundle" / "manifest.json").stat().st_mtime
    assert numbers(client)["coldstart_bundle_timestamp_seconds",] == pytest.approx(written)


def test_texts_of_users_are_compared_once_and_those_of_items_never(client: Client) -> None:
    for said in ("a brass lamp for the table", "a brass lamp for the table"):
        assert client.post("/v1/recommend", json={"description": said}).status_code == 200
    assert client.post("/v1/audience", json={"description": "a mug"}).status_code == 200
    awaited(client, ("coldstart_user_texts_total", "near"), lambda value: value > 0)
    found = numbers(client)
    assert (found["coldstart_user_texts_total", "near"], found["coldstart_user_texts_total", "far"]) == (1, 0)
    assert (found["coldstart_texts_total", "encoded"], found["coldstart_texts_total", "remembered"]) == (2, 1)


def unit(vector: Any) -> np.ndarray:
    return np.asarray(vector, np.float32) / np.float32(np.linalg.norm(vector))


def test_drift_is_the_way_of_the_mean_by_the_variance() -> None:
    base, drift = shared().fitted, Drift()
    for vector in (LAMP, SPADE) * 25:
        drift.add(unit(vector))
    assert drift.measure(base).drift == pytest.approx(0, abs=0.01)
    drift.forget()
    for _ in range(50):
        drift.add(unit(LAMP))
    # The mean moves from (½, ½, 0.1) to (1, 0, 0.1): by ½, and the variance is 1 − 0.51.
    assert drift.measure(base).drift == pytest.approx(0.5 / 0.49, abs=0.1)


def test_a_text_is_far_if_no_item_is_closer_to_it_than_items_are_to_each_other() -> None:
    axes = np.eye(40, 41, dtype=np.float32)  # items that have nothing in common
    items, nobody = ([f"i{n}" for n in range(40)], axes), ([], axes[:0])
    of = [KnownEntities(entities(ids, ["" for _ in ids], vectors)) for ids, vectors in (items, nobody)]
    base: Any = SimpleNamespace(items=of[0], users=of[1])
    drift = Drift()
    for vector in (axes[3], unit(axes[0] + axes[1]), np.eye(1, 41, 40, dtype=np.float32)[0], -axes[3]):
        drift.add(vector)
    assert drift.measure(base) == (2, 2, 0.0)
    assert drift.measure(base) == (0, 0, 0.0)  # each text is counted once, and four are too few for a mean


def test_vectors_of_another_encoder_are_left_out() -> None:
    drift = Drift()
    drift.add(unit([1, 1]))
    assert drift.measure(shared().fitted) == (0, 0, 0.0)


WORKER = """
import os, signal, sys
from recommender.serve.metrics import Metrics
metrics = Metrics()
metrics.out_of_step.set(sys.argv[1] == "killed")
metrics.workers.set(1)
metrics.tiers.labels("warm").inc()
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
print(metrics.text().decode())
"""


def test_a_worker_that_was_killed_counts_on_and_says_nothing_of_the_moment(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def worker(how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WORKER, how], env=environment, capture_output=True, text=True, check=False
        )

    assert worker("killed").returncode < 0
    lives = worker("lives")
    assert lives.returncode == 0, lives.stderr
    assert "coldstart_workers 1.0\n" in lives.stdout
    assert "coldstart_degraded 0.0\n" in lives.stdout
    assert 'coldstart_answers_total{tier="warm"} 2.0\n' in lives.stdout
