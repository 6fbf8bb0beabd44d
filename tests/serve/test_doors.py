"""Who is let in, how often and with how much; what an error looks like; what is logged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from gzip import compress
from pathlib import Path
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

import recommender.serve.service as service
import recommender.serve.texts as texts
from coldstart_client import interviews, models
from coldstart_client.models import EventType
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import EVENT_WEIGHTS
from recommender.data.contract import TAKE_BACK
from recommender.serve.door import LONGEST_BODY
from recommender.serve.events.event import RATING
from recommender.serve.keys import KeyFile
from recommender.serve.rates import parsed

Client = Any
SCOPES = ("read", "feedback", "admin")
EVENTS = {"events": [{"user_id": "ann", "item_id": "mug", "event_type": "view"}]}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def by_scope(keys: KeyFile) -> dict[str, str]:
    return {scope: keys.create(scope, [scope])[0] for scope in SCOPES}


@pytest.fixture(scope="module")
def locked(start: Callable[..., Client], keys: KeyFile, by_scope: dict[str, str]) -> Client:
    return start(keys=keys._path, rate="80/minute")


@pytest.fixture(scope="module")
def client(start: Callable[..., Client]) -> Client:
    return start()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def problem(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert (said["status"], said["request_id"]) == (status, response.headers["x-request-id"])
    return str(said["detail"])


JSON = {"content-type": "application/json"}
CALLS = [
    ("POST", "/v1/recommend", {}, "read"),
    ("POST", "/v1/audience", {"item_id": "mug"}, "read"),
    ("POST", "/v1/enrich", {"description": "lamp"}, "read"),
    ("POST", "/v1/interview", {}, "read"),
    ("POST", "/v1/explain", {"item_id": "mug"}, "read"),
    ("GET", "/v1/users", None, "read"),
    ("GET", "/metrics", None, "read"),
    ("POST", "/v1/events", EVENTS, "feedback"),
    ("PUT", "/v1/items/x", {"description": "lamp"}, "admin"),
    ("PUT", "/v1/users/x", {"description": "lamps"}, "admin"),
    ("DELETE", "/v1/users/x", None, "admin"),
]


@pytest.mark.parametrize(("method", "path", "body", "needed"), CALLS)
def test_a_path_opens_to_a_key_with_its_scope_alone(
    locked: Client, by_scope: dict[str, str], method: str, path: str, body: Any, needed: str
) -> None:
    refused = locked.request(method, path, json=body)
    assert "no valid API key" in problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"
    other = next(scope for scope in SCOPES if scope != needed)
    forbidden = locked.request(method, path, json=body, headers=bearer(by_scope[other]))
    assert f"this needs {needed}" in problem(forbidden, 403)
    assert locked.request(method, path, json=body, headers=bearer(by_scope[needed])).status_code in (200, 202)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"no": "such field"}', b""])
@pytest.mark.parametrize(("method", "path", "needed"), [(m, p, n) for m, p, given, n in CALLS if given is not None])
def test_who_may_not_ask_learns_nothing_of_what_is_wrong_with_the_body(
    locked: Client, by_scope: dict[str, str], method: str, path: str, needed: str, body: bytes
) -> None:
    problem(locked.request(method, path, content=body, headers=JSON), 401)
    other = next(scope for scope in SCOPES if scope != needed)
    problem(locked.request(method, path, content=body, headers=JSON | bearer(by_scope[other])), 403)


def test_every_path_but_the_state_is_among_them(locked: Client) -> None:
    told = locked.get("/openapi.json").json()["paths"]
    found = {(method.upper(), path.split("{")[0]) for path, methods in told.items() for method in methods}
    assert found - {("GET", "/healthz"), ("GET", "/readyz")} == {
        (method, path.removesuffix("x") if path.endswith("/x") else path) for method, path, _, _ in CALLS
    }


def test_a_key_ends_when_it_is_revoked_or_expired(locked: Client, keys: KeyFile) -> None:
    whole, key = keys.create("short", ["read"])
    assert locked.post("/v1/recommend", json={}, headers=bearer(whole)).status_code == 200
    keys.revoke(key.id)
    problem(locked.post("/v1/recommend", json={}, headers=bearer(whole)), 401)
    late, _ = keys.create("late", ["read"], days=0)
    problem(locked.post("/v1/recommend", json={}, headers=bearer(late)), 401)


def test_a_path_with_a_wrong_id_is_refused_to_who_may_not_ask(locked: Client) -> None:
    problem(locked.delete("/v1/users/"), 401)
    problem(locked.put(f"/v1/items/{'x' * 300}", json={}), 401)


def test_a_refusal_says_by_its_header_what_is_missing(locked: Client, by_scope: dict[str, str]) -> None:
    unknown = locked.post("/v1/recommend", json={}, headers=bearer("unknown"))
    assert unknown.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    other = locked.post("/v1/recommend", json={}, headers=bearer(by_scope["admin"]))
    assert other.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="read"'
    for scheme in ("Basic", "Token", ""):
        problem(locked.post("/v1/recommend", json={}, headers={"Authorization": f"{scheme} {by_scope['read']}"}), 401)


@pytest.mark.parametrize("wrong", ["", "x", "csk_000000000000_" + "a" * 43, "é", "csk_" + "a" * 10_000])
def test_what_is_no_key_is_refused(locked: Client, wrong: str) -> None:
    problem(locked.post("/v1/recommend", json={}, headers={"Authorization": f"Bearer {wrong}".encode()}), 401)


def test_a_key_with_another_ending_is_refused(keys: KeyFile, by_scope: dict[str, str]) -> None:
    whole = by_scope["read"]
    assert keys.find(whole) is not None
    assert keys.find(whole[:-1] + ("A" if whole[-1] != "A" else "B")) is None


def test_a_file_of_keys_that_cannot_be_read_lets_nobody_in(
    locked: Client, keys: KeyFile, by_scope: dict[str, str]
) -> None:
    good = keys._path.read_text()
    one = json.loads(good)["keys"][0]
    wrong: list[Any] = [
        {"scopes": "read"}, {"sha256": 1}, {"sha256": "é"}, {"expires": "2026-01-01"}, {"expires": "soon"},
    ]  # fmt: skip
    try:
        for text in ("", "[]", *(json.dumps({"keys": [one | change]}) for change in wrong)):
            keys._path.write_text(text)
            detail = problem(locked.post("/v1/recommend", json={}, headers=bearer(by_scope["read"])), 503)
            assert detail.startswith("the service cannot read its API keys; `coldstart keys list`")
            with pytest.raises(ColdStartError, match="is no file of keys"):
                KeyFile(keys._path).all()
    finally:
        keys._path.write_text(good)
    assert locked.post("/v1/recommend", json={}, headers=bearer(by_scope["read"])).status_code == 200


def test_the_file_holds_hashes_and_nobody_else_reads_it(keys: KeyFile, by_scope: dict[str, str]) -> None:
    text = keys._path.read_text()
    assert not any(key[17:] in text for key in by_scope.values())
    assert keys._path.stat().st_mode & 0o777 == 0o600


def test_keys_are_refused_that_could_do_nothing_or_hide(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    with pytest.raises(ColdStartError, match=r"scopes are \['write'\]; give some of read, feedback, admin"):
        file.create("shop", ["write"])
    with pytest.raises(ColdStartError, match="the name is 'a\\\\nb'"):
        file.create("a\nb", ["read"])
    with pytest.raises(ColdStartError, match=r"has no key '0'; it has \[\]"):
        file.revoke("0")
    (tmp_path / "keys.json").write_text("[]")
    with pytest.raises(ColdStartError, match=r"is no file of keys: .*coldstart keys create"):
        file.all()


def test_a_key_may_ask_so_often_and_no_more(locked: Client, keys: KeyFile) -> None:
    whole, _ = keys.create("eager", ["read"])
    for _ in range(80):
        assert locked.get("/metrics", headers=bearer(whole)).status_code == 200
    refused = locked.get("/metrics", headers=bearer(whole))
    assert "this key may make 80/minute requests" in problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    with pytest.raises(ColdStartError, match="the rate is 'often'; give a number and a time, such as 600/minute"):
        parsed("often")


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "detail"),
    [
        ("GET", "/nowhere", {}, 404, "there is no such path"),
        ("GET", "/v1/recommend", {}, 405, "this path does not know the method"),
        ("POST", "/v1/recommend", {"content": b"{", "headers": JSON}, 422, "body.1: JSON"),
        ("POST", "/v1/recommend", {"content": b"\xff", "headers": JSON}, 400, "the body is no JSON"),
        ("POST", "/v1/recommend", {"content": b"{}"}, 415, "send the header `Content-Type: application/json`"),
        ("POST", "/v1/recommend", {"content": compress(b"{}"), "headers": JSON | {"Content-Encoding": "gzip"}}, 415,
         "the body is compressed; send it as it is"),
        ("PUT", "/v1/items/", {"json": {}}, 422, "path.item_id: String should have at least 1 character"),
        ("POST", "/v1/recommend", {"json": {"k": 0}}, 422, "body.k: Input should be greater than or equal to 1"),
        ("POST", "/v1/recommend", {"json": {"k": 51, "explain": True}}, 422, "explain takes k up to 50"),
        ("POST", "/v1/recommend", {"json": {"K": 1}}, 422, "body.K: Extra inputs are not permitted"),
        ("POST", "/v1/recommend", {"json": {"pin": ["gone"]}}, 404, "pin: 1 of 1 item_ids are not among the 4"),
        ("POST", "/v1/recommend", {"json": {"attribute": "a=b"}}, 422, "'a=b' is neither an item_id nor an attribute"),
        ("POST", "/v1/audience", {"json": {}}, 422, "no item is given; give item_id, description, or both"),
        ("POST", "/v1/explain", {"json": {"item_id": "gone"}}, 404, "item 'gone' is not among the 4"),
        ("POST", "/v1/enrich", {"json": {"description": "  "}}, 422, "body.description: String should match"),
        ("POST", "/v1/recommend", {"content": b"x" * (LONGEST_BODY + 1)}, 413, "a body may have 1048576 bytes"),
        ("POST", "/v1/recommend", {"content": (b"x" * 600_000 for _ in "12")}, 413, "a body may have 1048576"),
        ("POST", "/v1/events", {"json": {"events": []}}, 422, "body.events: List should have at least 1 item"),
        ("POST", "/v1/events", {"json": {"events": [{"user_id": "a", "event_type": "view"}]}}, 422, "needs an item_id"),
        ("POST", "/v1/events", {"json": EVENTS, "headers": {"Idempotency-Key": "k"}}, 422, "every event needs its"),
        ("POST", "/v1/recommend", {"content": b"[" * 100_000, "headers": JSON}, 400, "the body is no JSON"),
        ("PUT", "/v1/items/x", {"json": {"attributes": ["colour=\x1b[2J"]}}, 422, "body.attributes.0: String should"),
        ("PUT", "/v1/items/x", {"json": {"attributes": ["col\nour=red"]}}, 422, "body.attributes.0: String should"),
        ("PUT", "/v1/items/x%1Berror", {"json": {}}, 422, "path.item_id: String should match pattern"),
        ("POST", "/v1/events", {"json": {"events": [EVENTS["events"][0] | {"recommendation_id": "a\r\nb"}]}}, 422,
         "body.events.0.recommendation_id: String should match pattern"),
    ],
)  # fmt: skip
def test_every_error_is_a_problem_that_says_what_to_do(
    client: Client, method: str, path: str, sent: Any, status: int, detail: str
) -> None:
    assert detail in problem(client.request(method, path, **sent), status)


def test_beyond_its_queue_the_encoder_refuses(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_WAITING", 0)
    refused = client.post("/v1/recommend", json={"description": "a lamp"})
    assert "ask again in a second" in problem(refused, 429)
    assert refused.headers["retry-after"] == "1"
    assert client.post("/v1/recommend", json={"user_id": "ann"}).status_code == 200


def test_beyond_their_queue_audiences_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_MOST_AUDIENCES", 0)
    assert "audiences wait" in problem(client.post("/v1/audience", json={"item_id": "mug"}), 429)


def test_a_request_id_is_taken_over_unless_it_could_break_a_log(client: Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/healthz", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


# pragma: allowlist nextline secret
SECRET = "my sister lives in Ghent"


@pytest.fixture
def failing(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("recommender.serve.answers.ranked", fail)
    return client


def test_a_failure_of_the_service_is_a_problem_and_tells_nothing(failing: Client) -> None:
    with capture_logs() as lines:
        detail = problem(failing.post("/v1/recommend", json={"description": SECRET}), 500)
    assert detail == "the service failed; its log has more at this request_id"
    assert [line["error"] for line in lines if line["log_level"] == "error"] == ["RuntimeError"]
    assert SECRET not in json.dumps(lines)


def test_logs_hold_no_text_no_key_and_no_id_of_a_user(locked: Client, keys: KeyFile) -> None:
    whole, key = keys.create("all", SCOPES)
    with capture_logs() as lines:
        for method, path, body, _ in CALLS:
            told = body | {"description": SECRET} if body and "description" in body else body
            locked.request(method, path, json=told, headers=bearer(whole))
        locked.post("/v1/recommend", json={"description": SECRET, "k": 0}, headers=bearer(whole))
        locked.post("/v1/recommend", json={"description": SECRET, "user_id": "somebody"}, headers=bearer(whole))
    text = json.dumps(lines, default=str)
    assert [line["event"] for line in lines].count("request") == len(CALLS) + 2
    assert [line["action"] for line in lines if line["event"] == "audit"] == ["put item", "put user", "delete user"]
    assert all(line["key"] == key.id for line in lines)
    for hidden in (SECRET, whole, whole[17:], key.sha256, "somebody"):
        assert hidden not in text


def test_the_description_of_the_service_has_an_example_for_every_body(client: Client) -> None:
    told = client.get("/openapi.json").json()
    bodies = [
        method["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for methods in told["paths"].values() for method in methods.values() if "requestBody" in method
    ]  # fmt: skip
    assert len(bodies) == 8
    for name in bodies:
        for example in told["components"]["schemas"][name]["examples"]:
            home = interviews if name.startswith("Interview") else models
            getattr(home, name).model_validate(example)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "127.0.0.2"])
def test_without_keys_the_service_answers_under_names_of_this_machine(start: Callable[..., Client], host: str) -> None:
    assert start().post("/v1/recommend", json={"k": 1}, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "192.0.2.7", ""])
def test_without_keys_a_page_of_another_name_is_refused(start: Callable[..., Client], host: str) -> None:
    client = start()
    answer = client.request("DELETE", "/v1/users/ann", headers={"Host": host})
    assert answer.status_code == 421
    assert "coldstart keys create" in answer.json()["detail"]
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_service_with_keys_answers_under_any_name(locked: Client, by_scope: dict[str, str]) -> None:
    headers = {"Host": "shop.example", "Authorization": f"Bearer {by_scope['read']}"}
    assert locked.post("/v1/recommend", json={"k": 1}, headers=headers).status_code == 200


def test_every_event_type_of_the_data_contract_can_be_sent(start: Callable[..., Client]) -> None:
    assert set(get_args(EventType)) == {*EVENT_WEIGHTS, *TAKE_BACK, RATING}
    rest: dict[str, dict[str, Any]] = {"search": {"query": "a lamp"}, "rating": {"rating": 4}}
    events = [
        {"user_id": "typist", "item_id": "mug", "event_type": kind} | rest.get(kind, {}) for kind in get_args(EventType)
    ]
    answer = start().post("/v1/events", json={"events": events})
    assert (answer.status_code, answer.json()["accepted"]) == (202, len(events))


def test_what_is_put_of_a_user_is_answered_as_it_is_stored(start: Callable[..., Client]) -> None:
    words = "I knit, write to ann@example.com"
    answer = start().put("/v1/users/new", json={"description": words})
    assert answer.json() == {"id": "new", "description": "I knit, write to <EMAIL>"}
