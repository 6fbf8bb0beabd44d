"""The typed client, against a real service; and against a stub that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from coldstart_client import (
    Arm,
    AsyncClient,
    AudienceRequest,
    Client,
    EnrichRequest,
    EntityRequest,
    EventsRequest,
    ExperimentRequest,
    ExplainRequest,
    FeedbackEvent,
    ProblemError,
    RecommendRequest,
    SessionEvent,
)
from recommender.serve.app import create_app
from recommender.serve.keys import SCOPES, KeyFile
from recommender.serve.settings import Settings
from tests.support.servers import serving

ANN = RecommendRequest(user_id="ann", k=2)
VIEW = FeedbackEvent(user_id="ann", item_id="mug", event_type="view")
DATED = FeedbackEvent(user_id="ann", item_id="mug", event_type="view", event_timestamp=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def service(served_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and key."""
    folder = tmp_path_factory.mktemp("client")
    key, _ = KeyFile(folder / "keys.json").create("all", SCOPES)
    settings = Settings(
        served_shop / "feature_repo", served_shop / "data" / "bundle", None, f"sqlite:///{folder}/events.db",
        folder / "keys.json",
    )  # fmt: skip
    with serving(create_app(settings), lifespan=True) as server:
        yield f"http://127.0.0.1:{server.config.port}", key


@pytest.fixture
def client(service: tuple[str, str]) -> Iterator[Client]:
    with Client(*service) as client:
        yield client


def test_every_call_answers_with_its_model(client: Client) -> None:
    answer = client.recommend(ANN)
    assert (answer.tier, len(answer.items)) == ("warm", 2)
    session = RecommendRequest(session=[SessionEvent(item_id="mug", event_type="cart")], k=1)
    assert client.recommend(session).tier == "warm"
    assert client.audience(AudienceRequest(item_id="mug")).users
    assert client.enrich(EnrichRequest(description="a lamp")).profile
    assert client.explain(ExplainRequest(user_id="ann", item_id="mug")).terms
    cited = VIEW.model_copy(update={"recommendation_id": answer.recommendation_id})
    assert client.send_events(EventsRequest(events=[cited])).accepted == 1
    assert client.put_item("new", EntityRequest(description="a lamp")).id == "new"
    assert client.put_user("new", EntityRequest(description="lamps")).description == "lamps"
    assert client.delete_user("new").removed["descriptions"] == 1
    assert client.ready().status == "ok"
    arms = [Arm(name="now"), Arm(name="more", gamma=2.0)]
    assert client.create_experiment(ExperimentRequest(name="text", arms=arms)).state == "draft"
    assert client.start_experiment("text").state == "running"
    assert client.experiment_report("text").arms[0].name == "now"
    assert client.experiment_report("text", fixed=True).fixed_horizon == []
    assert client.stop_experiment("text").state == "stopped"
    assert [one.name for one in client.list_experiments().experiments] == ["text"]


def test_the_client_has_a_call_for_every_path(client: Client, service: tuple[str, str]) -> None:
    paths = httpx.get(f"{service[0]}/openapi.json").json()["paths"]
    found = {(method, path) for path, methods in paths.items() for method in methods}
    names = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")} - {"close"}
    # The page of numbers is for Prometheus, and /healthz for those who restart processes.
    assert len(found - {("get", "/metrics"), ("get", "/healthz")}) == len(names)


def test_both_clients_answer_alike(client: Client, service: tuple[str, str]) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(*service) as other:
            return await asyncio.gather(
                other.recommend(ANN), other.audience(AudienceRequest(item_id="mug")),
                other.enrich(EnrichRequest(description="a lamp")),
                other.explain(ExplainRequest(user_id="ann", item_id="mug")), other.ready(),
            )  # fmt: skip

    recommended, audience, enriched, explained, ready = asyncio.run(ask())
    same = {"recommendation_id", "bundle"}
    assert recommended.model_dump(exclude=same) == client.recommend(ANN).model_dump(exclude=same)
    assert audience.users == client.audience(AudienceRequest(item_id="mug")).users
    assert enriched.profile == client.enrich(EnrichRequest(description="a lamp")).profile
    assert explained.terms == client.explain(ExplainRequest(user_id="ann", item_id="mug")).terms
    assert ready.bundle == client.ready().bundle


def test_both_clients_store(client: Client, service: tuple[str, str]) -> None:
    lamp, lamps = EntityRequest(description="a lamp"), EntityRequest(description="lamps")

    async def put() -> list[str]:
        async with AsyncClient(*service) as other:
            return [one.id for one in await asyncio.gather(other.put_item("one", lamp), other.put_user("one", lamps))]

    assert asyncio.run(put()) == [client.put_item("one", lamp).id, client.put_user("one", lamps).id] == ["one", "one"]


@pytest.mark.parametrize("name", ["a/b", "a b", "ü", "a?b#c", "a%2Fb", "..x", "a;b&c=d", "'; DROP TABLE events;--"])
def test_ids_arrive_as_they_are(client: Client, name: str) -> None:
    assert client.put_user(name, EntityRequest(description="lamps")).id == name
    assert client.recommend(RecommendRequest(user_id=name)).tier == "cold"
    assert client.delete_user(name).removed["descriptions"] == 1
    assert client.recommend(RecommendRequest(user_id=name)).tier == "unknown"


def test_an_error_carries_what_the_service_says(client: Client, service: tuple[str, str]) -> None:
    with pytest.raises(ProblemError, match=r"404 Not Found: pin: 1 of 1 item_ids") as error:
        client.recommend(RecommendRequest(pin=["gone"]))
    assert error.value.problem.status == 404
    assert error.value.problem.request_id
    with Client(service[0], lambda: "unknown") as stranger, pytest.raises(ProblemError, match="401 Unauthorized"):
        stranger.recommend(ANN)
    with pytest.raises(ValueError, match=r"the id '\.\.' cannot be in a path"):
        client.delete_user("..")


def test_events_with_a_key_are_stored_once(client: Client) -> None:
    first = client.send_events(EventsRequest(events=[DATED]), idempotency_key="k1")
    again = client.send_events(EventsRequest(events=[DATED]), idempotency_key="k1")
    assert (first.replayed, again.replayed, again.ids) == (False, True, first.ids)
    with pytest.raises(ProblemError, match="409 Conflict"):
        client.send_events(EventsRequest(events=[DATED, DATED]), idempotency_key="k1")


Answer = tuple[int, dict[str, str], str] | None
BUSY: Answer = (429, {"Retry-After": "0"}, "")
FAILED: Answer = (503, {"Retry-After": "0"}, "")
BROKEN: Answer = None
DONE: Answer = (202, {}, json.dumps({"accepted": 1, "ids": [1], "replayed": False}))


@contextmanager
def stub(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """A stub of the service that answers this, in this order; and the bodies that it got."""
    left, got = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            answer = left.pop(0)
            self.close_connection = True
            if answer is None:
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()


EVENTS = EventsRequest(events=[DATED])
Send = Callable[[str, str | None, int], Any]


def sync_events(url: str, key: str | None, retries: int) -> Any:
    with Client(url, retries=retries) as client:
        return client.send_events(EVENTS, key)


def async_events(url: str, key: str | None, retries: int) -> Any:
    async def send() -> Any:
        async with AsyncClient(url, retries=retries) as client:
            return await client.send_events(EVENTS, key)

    return asyncio.run(send())


SENDERS = pytest.mark.parametrize("send", [sync_events, async_events])


@SENDERS
@pytest.mark.parametrize(
    ("key", "answers"),
    [(None, [BUSY, BUSY, DONE]), ("k", [BUSY, FAILED, DONE]), ("k", [BROKEN, DONE]), ("k", [FAILED, BROKEN, DONE])],
)
def test_events_are_sent_again_if_that_cannot_store_them_twice(
    send: Send, key: str, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldstart_client.core._AFTER_A_BREAK", 0.01)
    with stub(*answers) as (url, got):
        assert send(url, key, 2).accepted == 1
    assert len(got) == len(answers)
    assert len(set(got)) == 1


@SENDERS
@pytest.mark.parametrize(
    ("key", "answers", "raised"),
    [
        (None, [FAILED], ProblemError), (None, [BROKEN], httpx.RemoteProtocolError),
        ("k", [BUSY, BUSY, BUSY], ProblemError), ("k", [(429, {}, "")], ProblemError),
        ("k", [(429, {"Retry-After": "3600"}, "")], ProblemError), ("k", [(503, {}, "")], ProblemError),
        ("k", [(500, {"Retry-After": "0"}, "")], ProblemError), ("k", [(502, {}, "<html>")], ProblemError),
        ("k", [(429, {"Retry-After": "-1"}, "")], ProblemError),
        ("k", [(429, {"Retry-After": "soon"}, "")], ProblemError),
    ],
)  # fmt: skip
def test_events_are_not_sent_again_otherwise(
    send: Send, key: str | None, answers: list[Answer], raised: type[Exception]
) -> None:
    with stub(*answers) as (url, got), pytest.raises(raised):
        send(url, key, 2)
    assert len(got) == len(answers)


def test_retries_can_be_turned_off() -> None:
    with stub(BUSY) as (url, got), pytest.raises(ProblemError) as error:
        sync_events(url, "k", 0)
    assert (len(got), error.value.retry_after) == (1, 0)


@pytest.mark.parametrize("answer", [(202, {}, "{}"), (202, {}, "<html>"), (502, {}, "<html>"), (307, {}, "")])
def test_another_server_than_the_service_is_told(answer: Answer) -> None:
    with stub(answer) as (url, _), pytest.raises(ProblemError, match="does not answer as the service does") as error:
        sync_events(url, None, 2)
    assert error.value.problem.status == answer[0]  # type: ignore[index]


def test_only_what_was_said_is_sent() -> None:
    """So that a newer client can call an older service."""
    with stub(DONE) as (url, got):
        sync_events(url, None, 0)
    assert json.loads(got[0]) == {"events": [DATED.model_dump(mode="json", exclude_unset=True)]}
    assert set(json.loads(got[0])["events"][0]) == {"user_id", "item_id", "event_type", "event_timestamp"}


def test_what_gives_no_answer_is_not_waited_for() -> None:
    silent = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            silent.wait(10)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with Client(url, timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
            client.ready()
        silent.set()
        server.shutdown()
