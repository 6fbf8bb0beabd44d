"""What users of experiments are answered, over HTTP in this process, by one worker and by two."""

from __future__ import annotations

import gc
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from coldstart_client.experiments import Arm, ExperimentRequest
from recommender.model.bundle import bundle_id, read_manifest
from recommender.model.recommender import HybridRecommender
from recommender.pipeline import bundles
from recommender.serve.answers import Moment
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.experiments import serving
from recommender.serve.experiments.exposures import ExposureLog
from recommender.serve.experiments.registry import Registry
from recommender.serve.experiments.variants import OF_TEXT
from recommender.serve.live import Live
from tests.support.made_up_shop import events, shared
from tests.support.services import until

Client = Any
Serve = Callable[..., AbstractContextManager[Client]]
WORDS = "enamel signs for a garden"
NAMES = [f"user {number}" for number in range(40)]


@pytest.fixture
def serve(served_shop: Path, tmp_path: Path) -> Serve:
    """Serves a shop until the block ends, with the event log of the test."""
    from fastapi.testclient import TestClient

    from recommender.serve.app import create_app
    from recommender.serve.settings import Settings

    @contextmanager
    def served(shop: Path = served_shop, explore: float = 0.0) -> Iterator[Client]:
        settings = Settings(
            shop / "feature_repo", shop / "data" / "bundle", None, url_of(tmp_path), explore=explore
        )  # fmt: skip
        with TestClient(create_app(settings), "http://127.0.0.1") as client:
            yield client

    return served


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/log/events.db"


def ask(client: Client, user: str | None, **body: Any) -> Any:
    named = body if user is None else body | {"user_id": user}
    response = client.post("/v1/recommend", json=named)
    assert response.status_code == 200, response.text
    return response.json()


def run(client: Client, *arms: dict[str, Any], name: str = "one", **given: Any) -> None:
    made = client.post("/v1/experiments", json={"name": name, "arms": [{"name": "now"}, *arms], **given})
    assert (made.status_code, made.json()["state"]) == (201, "draft"), made.text
    assert client.post(f"/v1/experiments/{name}/start").json()["state"] == "running"
    until(lambda: name in ask(client, "user 0")["experiments"] or given.get("share"))


def exposures(url: str) -> list[tuple[str, str, str, str]]:
    log, table = EventLog.open(url), schema.exposures
    with log.reading() as connection:
        found: list[Any] = list(connection.execute(select(table).order_by(table.c.experiment, table.c.user_id)))
    log.close()
    return [(row.experiment, row.user_id, row.arm, row.recommendation_id) for row in found]


def expected(model: HybridRecommender, user: str, arm: dict[str, Any]) -> list[float]:
    """The scores by another way: the parameters are changed by hand."""
    parameters = model.parameters
    weights = parameters.weights.as_json()
    for side in ("warm", "cold"):
        for part, pair in weights[side].items():
            factor = arm.get("gamma", 1.0) if part in ("text", "neighbour_text") else 1.0
            if arm.get("text") is False and part in OF_TEXT:
                factor = 0.0
            weights[side][part] = [value * factor for value in pair]
    alpha = parameters.alpha * arm.get("alpha", 1.0) if arm.get("text", True) else 0.0
    changed = model.with_parameters(alpha=alpha, weights=type(parameters.weights).of_json(weights))
    return [float(score) for score in changed.recommend(user)["score"]]


@pytest.mark.parametrize("arm", [{"gamma": 3.0}, {"alpha": 0.2}, {"text": False}, {"gamma": 0.0}])
def test_an_arm_is_answered_with_its_parameters(start: Any, served_shop: Path, arm: dict[str, Any]) -> None:
    model = HybridRecommender.load(served_shop / "data" / "bundle")
    client = start()
    plain = {user: ask(client, user)["items"] for user in ("ann", "cy", "dan")}
    guest = ask(client, None, description=WORDS)["items"]
    run(client, {"name": "new", "share": 1_000, **arm}, seed="s")
    for user, before in plain.items():
        got = ask(client, user)
        assert got["experiments"] == {"one": "new"}
        scores = [one["score"] for one in got["items"]]
        np.testing.assert_allclose(scores, expected(model, user, arm), atol=1e-5)
        assert scores != [one["score"] for one in before]
        first = got["items"][0]
        told = client.post("/v1/explain", json={"user_id": user, "item_id": first["item_id"]}).json()
        assert told["score"] == pytest.approx(first["score"], abs=1e-5)
    now = ask(client, None, description=WORDS)
    assert (now["experiments"], now["items"]) == ({}, guest)


def test_workers_agree_and_learn_of_start_and_stop(serve: Serve, tmp_path: Path) -> None:
    url = url_of(tmp_path)
    with serve() as one, serve() as two:
        assert ask(one, "ann")["experiments"] == {}
        run(one, {"name": "new", "gamma": 2.0}, share=0.5)
        run(two, {"name": "other", "alpha": 2.0}, name="two", layer="page")
        until(lambda: all(ask(client, name)["experiments"] for client in (one, two) for name in NAMES[:1]))
        inside = [ask(one, name)["experiments"] for name in NAMES]
        assert inside == [ask(two, name)["experiments"] for name in NAMES]
        assert {arm.get("one") for arm in inside} == {None, "now", "new"}
        assert {arm["two"] for arm in inside} == {"now", "other"}
        assert two.post("/v1/experiments/one/stop").json()["state"] == "stopped"
        until(lambda: not any("one" in ask(client, name)["experiments"] for client in (one, two) for name in NAMES))
    seen = exposures(url)
    assert {(row[0], row[1], row[2]) for row in seen} >= {
        (experiment, name, arm) for name, arms in zip(NAMES, inside, strict=True) for experiment, arm in arms.items()
    }
    assert len({row[:2] for row in seen}) == len(seen)


def test_exposures_are_written_with_the_answer_and_when_the_service_stops(serve: Serve, tmp_path: Path) -> None:
    url = url_of(tmp_path)
    with serve() as client:
        run(client, {"name": "new"})
        answer = ask(client, "ann")
        ask(client, "ann")
    assert [row for row in exposures(url) if row[1] == "ann"] == [
        ("one", "ann", answer["experiments"]["one"], answer["recommendation_id"])
    ]
    with serve() as again:
        assert ask(again, "ann")["experiments"] == answer["experiments"]  # known at once after a restart
        report = again.get("/v1/experiments/one/report").json()
        assert sum(arm["users"] for arm in report["arms"]) == 2
        # The bundle of the shop knows nobody of this name, and stays as it is for other tests.
        removed = again.delete("/v1/users/user 0").json()["removed"]
        assert removed["exposures"] == 1
    assert [row[1] for row in exposures(url)] == ["ann"]


@pytest.fixture
def shop(served_shop: Path, tmp_path: Path) -> tuple[Path, str]:
    """The shop with a second bundle beside the serving one, and its id."""
    folder = tmp_path / "shop"
    shutil.copytree(served_shop, folder)
    bundle, other = folder / "data" / "bundle", folder / "data" / "bundle.candidate"
    model = HybridRecommender.load(bundle)
    users, items = model.users.take(np.array([0])), model.items.take(np.array([1]))
    model.partial_fit(events(users, items, [(0, 0)]), users, items)
    model.save(other)
    bundles.refuse(bundle, other, "another one")
    name = bundle_id(read_manifest(other))
    assert name != bundle_id(read_manifest(bundle))
    return folder, name


def test_a_bundle_of_an_arm_is_loaded_follows_the_log_and_stays(serve: Serve, shop: tuple[Path, str]) -> None:
    folder, name = shop
    kept = bundles.kept_folder(folder / "data" / "bundle") / name
    with serve(folder) as client:
        serving_id = ask(client, "ann")["bundle"]
        run(client, {"name": "new", "bundle": name, "share": 1_000})
        assert ask(client, "ann")["bundle"] == name
        assert ask(client, None)["bundle"] == serving_id
        assert (kept / "in-experiment").exists()
        # A new item is in the lists of the arm as soon as the arm's bundle has followed the log.
        client.put("/v1/items/new", json={"description": "a new lamp"})
        until(lambda: "new" in [one["item_id"] for one in ask(client, "ann", k=50)["items"]])
        client.post("/v1/experiments/one/stop")
        until(lambda: ask(client, "ann")["bundle"] == serving_id)
        until(lambda: not (kept / "in-experiment").exists())


def test_where_bundles_are_compared_no_arm_pays_for_exploration(serve: Serve, shop: tuple[Path, str]) -> None:
    folder, name = shop
    with serve(folder, explore=0.5) as client:
        for number in range(8):
            client.put(f"/v1/items/new {number}", json={"description": "a new lamp"})
        reasons = lambda user: {one["reason"] for one in ask(client, user, k=6, exclude_seen=False)["items"]}  # noqa: E731
        assert "exploration" in reasons("user 0")
        run(client, {"name": "new", "bundle": name})
        assert {ask(client, one)["experiments"]["one"] for one in NAMES} == {"now", "new"}
        assert set.union(*map(reasons, NAMES)) == {"model"}
        assert "exploration" in reasons(None)


def test_states_of_bundles_that_served_before_are_let_go(tmp_path: Path, sqlite_log: EventLog) -> None:
    model = shared()
    model.save(tmp_path / "bundle")
    registry = Registry(sqlite_log)
    registry.create(ExperimentRequest(name="one", arms=[Arm(name="now", gamma=1.5), Arm(name="more", gamma=2.0)]))
    registry.start("one")
    earlier = []
    with Live(tmp_path / "bundle", sqlite_log, poll=None) as live:
        shown = serving.Experiments(registry, ExposureLog(sqlite_log), live, lambda _: live, poll=None)
        for number in range(3):
            state = model.with_parameters(alpha=float(number)).fitted
            earlier.append(weakref.ref(state))
            for name in NAMES:
                answered = shown.moment(Moment(state, state, f"bundle {number}"), shown.of(name, lambda: "warm"))
                assert answered.fitted is not state
                assert answered.bundle == f"bundle {number}"
        del state, answered
        gc.collect()
        assert [one() is None for one in earlier] == [True, True, False]
        shown.close()


def test_who_was_assigned_before_an_experiment_stopped_gets_the_list_of_the_arm(
    tmp_path: Path, sqlite_log: EventLog, shop: tuple[Path, str]
) -> None:
    folder, name = shop
    registry = Registry(sqlite_log)
    registry.create(ExperimentRequest(name="one", arms=[Arm(name="now"), Arm(name="new", bundle=name, share=1_000)]))
    registry.start("one")
    kept = bundles.kept_folder(folder / "data" / "bundle") / name
    with Live(folder / "data" / "bundle", sqlite_log, poll=None) as live:
        shown = serving.Experiments(
            registry, ExposureLog(sqlite_log), live, lambda _: Live(kept, sqlite_log, poll=None), poll=None
        )
        now, assigned = Moment(live.model.fitted, live.base, live.bundle_id), shown.of("ann", lambda: "warm")
        assert assigned.arms["one"].name == "new"
        registry.stop("one")
        shown.refresh()
        assert shown.of("ann", lambda: "warm").arms == {}
        assert shown.moment(now, assigned).bundle == name
        shown.close()


def test_a_bundle_that_an_experiment_shows_is_not_removed(shop: tuple[Path, str]) -> None:
    folder, name = shop
    bundle = folder / "data" / "bundle"
    held = bundles.held(bundle, name)
    os.utime(held / "manifest.json", (0, 0))  # the oldest: its turn is first
    for number in range(bundles.KEPT + 2):
        other = bundles.kept_folder(bundle) / f"f{number}"
        shutil.copytree(bundle, other)
    bundles.promote(bundle, bundles.kept_folder(bundle) / "f0")
    assert held.is_dir()
    assert len(bundles.kept(bundle)) < bundles.KEPT + 4
    bundles.release(bundle, [])
    bundles.promote(bundle, bundle)
    assert not held.is_dir()


def test_without_its_bundle_an_experiment_puts_nobody_in_any_arm(
    serve: Serve, shop: tuple[Path, str]
) -> None:
    folder, name = shop
    with serve(folder) as client:
        run(client, {"name": "new", "bundle": name})
    shutil.rmtree(bundles.kept_folder(folder / "data" / "bundle") / name)
    with capture_logs() as lines, serve(folder) as client:
        assert [ask(client, one)["experiments"] for one in NAMES] == [{}] * len(NAMES)
    (line,) = [line for line in lines if line["event"] == "bundle of an arm"]
    assert f"no bundle '{name}' is kept" in line["failing"]
    assert serving.POLL_SECONDS <= 1


def test_two_arms_fill_one_list_and_the_log_says_which_item_is_whose(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        plain = ask(client, "ann", k=4, exclude_seen=False, pin=["pot"])["items"]
        run(client, {"name": "new", "gamma": 0.0}, kind="interleaving")
        got = ask(client, "ann", k=4, exclude_seen=False, pin=["pot"])
        assert got["experiments"] == {"one": "interleaved"}
        assert {one["item_id"] for one in got["items"]} == {one["item_id"] for one in plain}
        assert [one["rank"] for one in got["items"]] == [1, 2, 3, 4]
        assert got["items"][0]["item_id"] == "pot"
        assert client.get("/v1/experiments/one/report").json()["decision"] == (
            "Too early. 2 of 2 users have not had their 7 days yet after they first saw an arm."
        )  # fmt: skip
    log, table = EventLog.open(url_of(tmp_path)), schema.exposures
    with log.reading() as connection:
        (row,) = connection.execute(select(table).where(table.c.user_id == "ann")).all()
    log.close()
    teams = json.loads(row.teams)
    assert row.recommendation_id == got["recommendation_id"]
    assert teams.keys() == {one["item_id"] for one in got["items"][1:]}
    assert set(teams.values()) == {"now", "new"}


def test_errors_say_what_to_do(start: Any) -> None:
    client = start()
    arms = [{"name": "a"}, {"name": "b"}]
    assert client.get("/v1/experiments/none/report").status_code == 404
    assert client.post("/v1/experiments/none/start").json()["detail"] == (
        "there is no experiment 'none'; there are none"
    )  # fmt: skip
    assert client.post("/v1/experiments", json={"name": "one", "arms": arms}).status_code == 201
    assert client.post("/v1/experiments", json={"name": "one", "arms": arms, "share": 0.5}).status_code == 409
    assert [one["name"] for one in client.get("/v1/experiments").json()["experiments"]] == ["one"]
    client.post("/v1/experiments/one/stop")
    assert client.post("/v1/experiments/one/start").status_code == 409
    lost = [{"name": "a"}, {"name": "b", "bundle": "00000000"}]
    wrong = client.post("/v1/experiments", json={"name": "two", "arms": lost})
    assert (wrong.status_code, "which is not kept beside" in wrong.json()["detail"]) == (422, True)
