"""New items in reserved places: how many, which, how they were drawn, what is logged, and what is learned from it."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.stats import chi2

import recommender.serve.background as background
import recommender.serve.policy.exploring as exploring
import recommender.serve.service as service
from coldstart_client.models import MOST_ROWS
from recommender.data.events import EventWeights
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog, EventLogError
from recommender.serve.live import Live
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.explorations import Explorations
from recommender.serve.policy.learner import Learner
from recommender.serve.policy.sampler import UNIFORM
from recommender.serve.settings import Settings
from tests.support.commands import free_port, wait_for
from tests.support.made_up_shop import COLD_ITEMS, shared
from tests.support.servers import wait_until
from tests.support.small_shop import ITEMS

Client = Any
SHARE = 0.3
KINDS, THINGS = ("red", "old", "glass", "wooden"), ("lamp", "garden pot", "mug", "flag", "tin")
NEW = {f"n{number:02}": f"{KINDS[number % 4]} {THINGS[number % 5]}" for number in range(20)}
USERS = ("ann", "zoe", None)  # zoe is new


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('explored') / 'events.db'}"


@pytest.fixture(scope="module")
def client(start: Callable[..., Client], url: str) -> Client:
    """A service that explores 0.3 of the places of lists, with 20 new items that it has seen no reward of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exploring, "generator", lambda: np.random.default_rng(7))
        opened = start(explore=SHARE, events=url)
    for name, text in NEW.items():
        assert opened.put(f"/v1/items/{name}", json={"description": text, "attributes": ["size=new"]}).is_success
    return opened


@pytest.fixture(scope="module")
def answers(client: Client) -> list[Any]:
    return [recommend(client, user_id=USERS[number % 3], k=6, explain=number < 9) for number in range(300)]


def recommend(client: Client, **body: Any) -> Any:
    response = client.post("/v1/recommend", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def explored(answer: Any) -> list[Any]:
    return [item for item in answer["items"] if item["reason"] == "exploration"]


def number(client: Client, metric: str) -> float:
    return float(client.get("/metrics").text.split(f"\n{metric} ")[1].split()[0])


def logged(url: str) -> list[Decision]:
    with closing(EventLog.open(url)) as log:
        return [one for one, _ in Explorations(log).decisions()]


def test_the_share_of_places_is_as_stated(answers: list[Any]) -> None:
    counts = [len(explored(one)) for one in answers]
    assert set(counts) == {1, 2}  # 1.8 in the mean
    deviation = math.sqrt(0.8 * 0.2 / len(answers))
    assert abs(np.mean(counts) - 6 * SHARE) < 4 * deviation
    assert {len(one["items"]) for one in answers} == {6}
    places = Counter(item["rank"] for one in answers for item in explored(one))
    assert set(places) == {2, 3, 4, 5, 6}  # the best item stays where it is


def test_only_new_items_are_explored_and_the_answer_says_so(answers: list[Any]) -> None:
    found = [item for one in answers for item in explored(one)]
    assert {item["item_id"] for item in found} <= set(NEW)
    assert len({item["item_id"] for item in found}) > 10
    for one in answers:
        ids = [item["item_id"] for item in one["items"]]
        assert len(ids) == len(set(ids))
    said = {item["because"] for one in answers[:9] for item in explored(one)}
    assert all(text.startswith("it is new, and is shown to learn who wants it; ") for text in said)


def test_the_other_items_are_those_of_the_list_without_exploration(client: Client, url: str) -> None:
    before = len(logged(url))
    plain = recommend(client, user_id="ann", k=6, explore=False)
    assert explored(plain) == []
    assert len(logged(url)) == before
    mixed = recommend(client, user_id="ann", k=6)
    others = [item["item_id"] for item in mixed["items"] if item["reason"] != "exploration"]
    assert others == [item["item_id"] for item in plain["items"]][: len(others)]


def test_what_is_logged_is_what_was_answered(answers: list[Any], url: str) -> None:
    rows = {(one.recommendation_id, one.position): one for one in logged(url)}
    for number, answer in enumerate(answers):
        for item in explored(answer):
            row = rows[answer["recommendation_id"], item["rank"]]
            assert (row.item_id, row.user_id) == (item["item_id"], USERS[number % 3] or "")
    assert all(one.policy == "thompson/1" for one in rows.values())


def test_propensities_are_the_distribution_that_was_drawn_from(answers: list[Any], url: str) -> None:
    drawn, expected = np.zeros(20), np.zeros(20)
    for one in logged(url):
        assert one.probabilities.sum() == pytest.approx(1)
        assert one.probabilities.min() >= UNIFORM / len(one.items)
        order = np.argsort(-one.probabilities, kind="stable")
        expected[: len(order)] += one.probabilities[order]
        drawn[order.tolist().index(one.items.index(one.item_id))] += 1
    likely = expected > 5
    statistic = float(((drawn - expected)[likely] ** 2 / expected[likely]).sum())
    assert statistic < chi2.ppf(0.999, likely.sum())
    assert expected[0] > 1.5 * expected.sum() / 20  # it is not the uniform distribution


def test_rules_and_what_is_seen_hold_for_explored_items(client: Client) -> None:
    event = {"user_id": "ann", "item_id": "n03", "event_type": "view"}
    assert client.post("/v1/events", json={"events": [event]}).status_code == 202
    pinned = ["mug", "n05"]
    for _ in range(40):
        answer = recommend(
            client, user_id="dan", k=6, pin=pinned, without=["n01", "n02"], among=[*ITEMS, *list(NEW)[:12]],
        )  # fmt: skip
        assert [item["item_id"] for item in answer["items"][:2]] == pinned
        assert {item["reason"] for item in answer["items"][:2]} == {"pinned"}
        assert {item["item_id"] for item in explored(answer)} <= set(list(NEW)[:12]) - {"n01", "n02", "n05"}
        assert "n03" not in [item["item_id"] for item in recommend(client, user_id="ann", k=8)["items"]]
    everything = recommend(client, k=MOST_ROWS, attribute="size=new")
    assert len(everything["items"]) == len(NEW)
    assert explored(everything) == []  # no new item is left that is not on the list


def test_a_catalogue_without_new_items_gets_the_models_list(start: Callable[..., Client], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    exploring_one, plain = start(explore=0.5, events=url), start()
    for user in ("ann", None):
        assert recommend(exploring_one, user_id=user)["items"] == recommend(plain, user_id=user)["items"]
    assert logged(url) == []


def test_a_degraded_service_explores_nothing(
    start: Callable[..., Client], served_shop: Path, url: str, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(served_shop, shop)
    for file in (shop / "feature_repo").rglob("*.db"):
        file.unlink()
    broken = start(shop, explore=0.5, events=url)
    assert broken.get("/readyz").json()["degraded"]
    before = len(logged(url))
    assert [explored(recommend(broken, user_id=user, k=6)) for user in ("ann", None)] == [[], []]
    assert len(logged(url)) == before


@pytest.mark.parametrize("how", ["it cannot be written", "it does not answer"])
def test_what_cannot_be_logged_is_not_explored(
    client: Client, url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    add, late = Explorations.add, threading.Event()

    def failing(self: Explorations, decisions: Any) -> None:
        if how == "it cannot be written":
            raise EventLogError("the disk is full")
        late.wait(30)
        add(self, decisions)

    before = logged(url)
    monkeypatch.setattr(Explorations, "add", failing)
    monkeypatch.setattr(exploring, "PAUSE", 0.0)
    plain = recommend(client, user_id="bob", k=6, explore=False)["items"]
    assert recommend(client, user_id="bob", k=6)["items"] == plain
    late.set()
    monkeypatch.setattr(Explorations, "add", add)
    assert number(client, "coldstart_unlogged_explorations_total") > 0
    answer = recommend(client, user_id="bob", k=6)
    assert explored(answer)
    wait_until(lambda: len(logged(url)) == len(before) + len(explored(answer)))


def test_erasing_a_user_erases_what_was_explored_with_them(client: Client, answers: list[Any], url: str) -> None:
    mine = [one for one in logged(url) if one.user_id == "zoe"]
    rest = [one for one in logged(url) if one.user_id != "zoe"]
    removed = client.delete("/v1/users/zoe").json()["removed"]
    assert removed["explorations"] == len(mine) > 0
    assert [(one.recommendation_id, one.position) for one in logged(url)] == [
        (one.recommendation_id, one.position) for one in rest
    ]


def test_rewards_are_learned_and_workers_draw_alike(
    start: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_EXPLORE", 0.05)
    monkeypatch.setattr(service, "_LOOK", 0.05)
    url = f"sqlite:///{tmp_path}/events.db"
    first = start(explore=0.5, events=url, explore_window=5.0)
    for name, text in NEW.items():
        first.put(f"/v1/items/{name}", json={"description": text})
    long_ago = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    bought = set()
    for _ in range(60):
        answer = recommend(first, k=6)
        for item in explored(answer):
            if item["item_id"] in ("n01", "n02"):
                bought.add((answer["recommendation_id"], item["item_id"]))
                event = {"user_id": "guest", "item_id": item["item_id"], "event_type": "cart",
                         "recommendation_id": answer["recommendation_id"], "event_timestamp": long_ago}  # fmt: skip
                first.post("/v1/events", json={"events": [event]})
    assert len(bought) > 3

    def rewards() -> dict[tuple[str, str], float | None]:
        with closing(EventLog.open(url)) as log:
            return {(one.recommendation_id, one.item_id): reward for one, reward in Explorations(log).decisions()}

    wait_until(lambda: None not in rewards().values())
    assert {key for key, reward in rewards().items() if reward} == bought
    assert {reward for reward in rewards().values() if reward} == {0.5}  # a cart weighs half a purchase
    second = start(explore=0.5, events=url)
    before = len(rewards())
    wait_until(lambda: {number(one, "coldstart_learned_places") for one in (first, second)} == {before})
    for one in (first, second):
        recommend(one, user_id="cy", k=6)
    a, b = {one.recommendation_id: one for one in reversed(logged(url)[before:])}.values()
    assert a.items == b.items
    # One has taken in the items one by one, the other all at once: their numbers differ in the last digits.
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=0.01)
    np.testing.assert_allclose(a.contexts, b.contexts, atol=1e-5)


# --- what a learner makes of the log


@pytest.fixture
def log(tmp_path: Path) -> Any:
    opened = EventLog.open(f"sqlite:///{tmp_path}/events.db")
    yield opened
    opened.close()


@pytest.fixture
def live(log: EventLog, tmp_path: Path) -> Any:
    shared().save(tmp_path / "bundle")
    with Live(tmp_path / "bundle", log, poll=None) as opened:
        yield opened


def show(log: EventLog, number: int, user: str = "u03", item: str = COLD_ITEMS[0], hours: float = 48.0) -> None:
    at = datetime.now(UTC) - timedelta(hours=hours)
    contexts = np.random.default_rng(number).normal(size=(2, 12)).astype(np.float32)
    contexts[:, 0] = 1
    items = COLD_ITEMS if item in COLD_ITEMS else (item, COLD_ITEMS[0])
    Explorations(log).add([
        Decision(f"r{number}", user, at, 3, item, tuple(items), np.array([0.5, 0.5]), contexts, "thompson/1")
    ])  # fmt: skip


def buy(log: EventLog, number: int, kind: str = "purchase", hours: float = 47.0, item: str = COLD_ITEMS[0]) -> None:
    at = datetime.now(UTC) - timedelta(hours=hours)
    log.append([Event("u30", item, kind, at, recommendation_id=f"r{number}")])


def learner(live: Live, log: EventLog) -> Learner:
    made = Learner(live, log, 86_400.0, EventWeights())
    made.step()
    return made


def test_a_reward_counts_when_its_window_has_passed_and_the_greatest_counts(live: Live, log: EventLog) -> None:
    show(log, 1)
    buy(log, 1, "view")
    buy(log, 1, "cart")
    buy(log, 1, "return")
    show(log, 2)
    buy(log, 2, hours=20)  # 28 hours after the answer
    show(log, 3)
    buy(log, 3, item=COLD_ITEMS[1])  # another item than the one that was shown
    show(log, 4, hours=1)
    buy(log, 4, hours=0.5)
    made = learner(live, log)
    assert [reward for _, reward in Explorations(log).decisions()] == [0.5, 0.0, 0.0, None]
    shown = made.policy.posterior.items[COLD_ITEMS[0]]
    assert (shown.n, shown.reward) == (3, 0.5)
    buy(log, 2, hours=46)  # it comes too late: the reward was written down
    made.step()
    assert made.policy.posterior.items[COLD_ITEMS[0]].reward == 0.5


def test_a_restart_gives_the_same_posterior_and_so_does_another_worker(live: Live, log: EventLog) -> None:
    one = learner(live, log)
    other = Learner(live, log, 86_400.0, EventWeights())
    for number in range(30):
        show(log, number)
        if number % 4 == 0:
            buy(log, number)
        if number % 7 == 0:
            one.step()
    one.step()
    other.step()
    again = learner(live, log)
    for found in (other, again):
        # Not exactly: the same numbers are added up in other portions.
        np.testing.assert_allclose(found.policy.posterior.weights, one.policy.posterior.weights, rtol=1e-5)
        assert found.policy.posterior.items[COLD_ITEMS[0]].n == 30
    one.close()


def test_who_is_erased_is_unlearned(live: Live, log: EventLog) -> None:
    for number in range(10):
        show(log, number, user="u03" if number % 2 else "")
        buy(log, number)
    made = learner(live, log)
    assert made.policy.posterior.items[COLD_ITEMS[0]].n == 10
    assert live.forget_user("u03").removed["explorations"] == 5
    made.step()
    assert made.policy.posterior.items[COLD_ITEMS[0]].n == 5


@pytest.mark.parametrize("reads", [0, 1])
def test_after_a_read_that_failed_nothing_is_missing_and_nothing_counts_twice(
    live: Live, log: EventLog, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    for number in range(10):
        show(log, number, user="u03" if number % 2 else "")
    made = learner(live, log)
    live.forget_user("u03")
    for number in range(10, 13):
        show(log, number)
    settled, done = Explorations.settled, []

    def failing(explorations: Explorations, after: int) -> Any:
        done.append(after)
        if len(done) > reads:
            raise EventLogError("stub: the database is gone")
        return settled(explorations, after)

    with monkeypatch.context() as patch:
        patch.setattr(Explorations, "settled", failing)
        with pytest.raises(EventLogError, match="stub"):
            made.step()
    made.step()
    again = learner(live, log).policy.posterior
    assert made.policy.posterior.items[COLD_ITEMS[0]].n == again.items[COLD_ITEMS[0]].n == 8
    np.testing.assert_allclose(made.policy.posterior.weights, again.weights)


def test_items_leave_exploration_when_they_are_decided(live: Live, log: EventLog) -> None:
    for number in range(400):
        show(log, number, item=COLD_ITEMS[number % 2], hours=48 - number / 1e4)
        if number < 10 and number % 2 == 0:
            buy(log, number)
    posterior = learner(live, log).policy.posterior
    assert posterior.verdicts == {COLD_ITEMS[0]: "above", COLD_ITEMS[1]: "below"}
    assert posterior.decided == set(COLD_ITEMS)


def test_an_item_that_was_decided_is_left_out_when_it_comes_back(live: Live, log: EventLog) -> None:
    for number in range(6):
        show(log, number, item="later")
        buy(log, number, item="later")
    policy = learner(live, log).policy
    assert policy.decided_among(live.model.fitted.items).tolist() == []
    live.put_item("later", "a lamp")
    items = live.model.fitted.items
    assert items.ids(policy.decided_among(items)) == ["later"]


def test_another_bundle_begins_in_its_own_scale(live: Live, log: EventLog, tmp_path: Path) -> None:
    for number in range(10):
        show(log, number)
    made = learner(live, log)
    before = made.policy
    shared().with_parameters(alpha=2.0).save(tmp_path / "bundle")
    live.refresh()
    made.step()
    assert (made.policy.bundle, made.policy.settled) == (live.bundle_id, before.settled)
    assert made.policy.posterior.items[COLD_ITEMS[0]].n == 10


# --- a crash

SERVICE = """
import os, signal, sys
from pathlib import Path
import uvicorn
from recommender.serve.app import create_app
from recommender.serve.policy.explorations import Explorations
from recommender.serve.settings import Settings

if sys.argv[4] == "before":
    Explorations.add = lambda self, decisions: os.kill(os.getpid(), signal.SIGKILL)
shop = Path(sys.argv[1])
settings = Settings(shop / "feature_repo", shop / "data" / "bundle", None, sys.argv[2], explore=0.5)
uvicorn.run(create_app(settings), port=int(sys.argv[3]), log_config=None)
"""


@pytest.mark.service
@pytest.mark.parametrize("killed", ["before", "never"])
def test_killed_between_draw_and_log_nothing_was_shown_and_nothing_counts(
    served_shop: Path, tmp_path: Path, killed: str
) -> None:
    url, port = f"sqlite:///{tmp_path}/events.db", free_port()
    with closing(EventLog.open(url)) as log:
        for name, text in NEW.items():
            log.put("item", name, text)
    with subprocess.Popen([sys.executable, "-c", SERVICE, str(served_shop), url, str(port), killed]) as server:
        try:
            wait_for(port, server)
            asked = {"url": f"http://127.0.0.1:{port}/v1/recommend", "json": {"k": 6}, "timeout": 60}
            if killed == "before":
                with pytest.raises(httpx.HTTPError):
                    httpx.post(**asked)
                assert logged(url) == []
            else:
                assert len(explored(httpx.post(**asked).json())) == len(logged(url)) == 3
        finally:
            server.kill()


def test_the_settings_travel_to_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDSTART_SERVE", "")
    given = Settings(Path("r"), Path("b"), None, "sqlite://", explore=0.2, explore_window=60.0)
    given.to_environment()
    assert Settings.of_environment() == given
