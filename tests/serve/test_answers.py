"""What the service answers, over HTTP in this process."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from coldstart_udfs.encoder.encoder import shared_encoder
from recommender.data.entities import describe
from recommender.model.recommender import HybridRecommender
from tests.support.small_shop import ITEMS, USERS

Client = Any
WORDS = "enamel signs for a garden"


@pytest.fixture(scope="module")
def client(start: Callable[..., Client]) -> Client:
    return start()


@pytest.fixture(scope="module")
def model(served_shop: Path) -> HybridRecommender:
    return HybridRecommender.load(served_shop / "data" / "bundle")


def answer(client: Client, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("name", USERS)
def test_a_known_user_gets_the_recommenders_list(client: Client, model: HybridRecommender, name: str) -> None:
    got = answer(client, "/v1/recommend", user_id=name, explain=True)
    expected = model.recommend(name, explain=True)
    assert (got["tier"], got["degraded"]) == ("warm", None)
    assert len(got["recommendation_id"]) == 32
    assert [one["item_id"] for one in got["items"]] == expected["item_id"].tolist()
    np.testing.assert_allclose([one["score"] for one in got["items"]], expected["score"], atol=1e-5)
    for one in got["items"]:
        assert sum(one["parts"].values()) == pytest.approx(one["score"], abs=1e-5)
        assert (one["reason"], one["description"]) == ("model", ITEMS[one["item_id"]])
    assert [one["because"] for one in got["items"]] == expected["because"].tolist()


def test_words_alone_make_a_cold_user_and_nothing_an_unknown_one(client: Client, model: HybridRecommender) -> None:
    encoder = shared_encoder(cache=False)
    expected = model.recommend(describe(encoder, ["new"], [WORDS]))
    got = answer(client, "/v1/recommend", description=WORDS)
    assert (got["tier"], got["degraded"]) == ("cold", None)
    assert [one["item_id"] for one in got["items"]] == expected["item_id"].tolist()
    np.testing.assert_allclose([one["score"] for one in got["items"]], expected["score"], atol=1e-5)
    nobody = answer(client, "/v1/recommend")
    assert nobody["tier"] == answer(client, "/v1/recommend", user_id="who")["tier"] == "unknown"
    assert len(nobody["items"]) == len(ITEMS)


def test_events_of_the_session_count_in_their_answer_alone(client: Client) -> None:
    before = answer(client, "/v1/recommend")
    session = [{"item_id": "pot", "event_type": "cart"}, {"item_id": "gone", "event_type": "view"}]
    got = answer(client, "/v1/recommend", session=session)
    assert (got["tier"], got["unknown_items"]) == ("warm", ["gone"])
    assert "pot" not in [one["item_id"] for one in got["items"]]
    assert any(one["parts"]["history"] != 0 for one in got["items"])
    after = answer(client, "/v1/recommend")
    assert after["items"] == before["items"]


def test_the_rules_of_a_shop_hold_and_say_what_they_did(client: Client) -> None:
    got = answer(client, "/v1/recommend", pin=["mug"], boost={"flag": 9}, without=["pot"], diversity=0.2)
    assert [(one["item_id"], one["reason"]) for one in got["items"]] == [
        ("mug", "pinned"), ("flag", "boosted"), ("lamp", "model"),
    ]  # fmt: skip
    some = answer(client, "/v1/recommend", user_id="ann", among=["lamp", "mug"], exclude_seen=False, k=1)
    assert [one["rank"] for one in some["items"]] == [1]
    assert some["items"][0]["item_id"] in ("lamp", "mug")
    assert answer(client, "/v1/recommend", user_id="ann", among=["lamp", "mug"])["items"] == []
    assert len(answer(client, "/v1/recommend", attribute="size=10")["items"]) == len(ITEMS)


def test_the_audience_of_an_item_known_or_described(client: Client, model: HybridRecommender) -> None:
    got = answer(client, "/v1/audience", item_id="pot")
    expected = model.audience("pot")
    assert [one["user_id"] for one in got["users"]] == expected["user_id"].tolist()
    np.testing.assert_allclose([one["score"] for one in got["users"]], expected["score"], atol=1e-5)
    for one in got["users"]:
        assert one["score"] == pytest.approx(sum(one["parts"].values()) + one["activity"], abs=1e-5)
    described = answer(client, "/v1/audience", description="brass lamp", k=2)
    assert (described["tier"], len(described["users"])) == ("cold", 2)


def test_a_text_becomes_a_profile_near_items_of_its_kind(client: Client, model: HybridRecommender) -> None:
    got = answer(client, "/v1/enrich", description=ITEMS["lamp"], k=2)
    assert (got["items"][0]["item_id"], len(got["items"])) == ("lamp", 2)
    assert got["items"][0]["cosine"] == pytest.approx(1, abs=1e-4)
    alpha = float(model.parameters.alpha_of(0.0))
    np.testing.assert_allclose(np.linalg.norm(got["profile"]), alpha, rtol=1e-5)


def test_an_explanation_adds_up_to_the_score(client: Client) -> None:
    got = answer(client, "/v1/explain", user_id="ann", item_id="pot")
    listed = answer(client, "/v1/recommend", user_id="ann", explain=True)["items"]
    (same,) = [one for one in listed if one["item_id"] == "pot"]
    assert sum(term["value"] for term in got["terms"]) == pytest.approx(got["score"])
    assert got["score"] == pytest.approx(same["score"], abs=1e-5)
    assert got["because"] == same["because"]


def test_events_count_in_the_next_answer_and_are_stored_once(client: Client) -> None:
    events = [{"user_id": "fay", "item_id": "pot", "event_type": "purchase", "event_timestamp": "2026-01-31T12:00:00Z",
               "recommendation_id": "f" * 32}]  # fmt: skip
    first = client.post("/v1/events", json={"events": events}, headers={"Idempotency-Key": "one"})
    again = client.post("/v1/events", json={"events": events}, headers={"Idempotency-Key": "one"})
    assert (first.status_code, first.json()["accepted"], first.json()["replayed"]) == (202, 1, False)
    assert again.json() == first.json() | {"replayed": True}
    got = answer(client, "/v1/recommend", user_id="fay")
    assert (got["tier"], got["degraded"]) == ("warm", None)
    assert "pot" not in [one["item_id"] for one in got["items"]]
    other = [events[0] | {"item_id": "mug"}]
    refused = client.post("/v1/events", json={"events": other}, headers={"Idempotency-Key": "one"})
    assert refused.status_code == 409
    assert client.get("/readyz").json()["pending_events"] == 1


def test_an_event_of_a_trained_user_moves_what_the_store_does_not_know_yet(client: Client) -> None:
    before = answer(client, "/v1/recommend", user_id="bob")
    assert "lamp" in [one["item_id"] for one in before["items"]]
    client.post("/v1/events", json={"events": [{"user_id": "bob", "item_id": "lamp", "event_type": "purchase"}]})
    after = answer(client, "/v1/recommend", user_id="bob")
    assert "lamp" not in [one["item_id"] for one in after["items"]]
    history = [{one["item_id"]: one["parts"]["history"] for one in got["items"]} for got in (before, after)]
    assert all(history[0][name] != pytest.approx(history[1][name], abs=1e-4) for name in history[1])


def test_what_is_put_is_recommended_and_recommended_to_at_once(client: Client) -> None:
    stored = client.put("/v1/items/bucket", json={"description": "enamel garden bucket", "attributes": ["size=10"]})
    assert stored.json() == {"id": "bucket", "description": "enamel garden bucket"}
    assert "bucket" in [one["item_id"] for one in answer(client, "/v1/recommend", attribute="size=10")["items"]]
    client.put("/v1/users/gil", json={"description": WORDS})
    got = answer(client, "/v1/recommend", user_id="gil")
    assert (got["tier"], got["degraded"]) == ("cold", None)
    client.put("/v1/users/cy", json={"description": WORDS})
    terms = answer(client, "/v1/explain", user_id="cy", item_id="pot")["terms"]
    assert WORDS in [term["term"] for term in terms if term["kind"] == "description"]
    receipt = client.delete("/v1/users/gil").json()
    assert receipt["removed"]["descriptions"] == 1
    assert answer(client, "/v1/recommend", user_id="gil")["tier"] == "unknown"


@pytest.mark.parametrize("name", ["a/b", "/", "a/", "../a", "'; DROP TABLE events; --", "\u202e\U0001f600", "a?b#c"])
def test_whoever_did_something_can_be_put_and_erased_whatever_their_id(client: Client, name: str) -> None:
    path = f"/v1/users/{quote(name, safe='')}"
    event = {"user_id": name, "item_id": "pot", "event_type": "purchase"}
    assert client.post("/v1/events", json={"events": [event]}).status_code == 202
    assert client.put(path, json={"description": WORDS}).json()["id"] == name
    removed = client.delete(path).json()["removed"]
    assert (removed["events"], removed["descriptions"]) == (1, 1)
    assert answer(client, "/v1/recommend", user_id=name)["tier"] == "unknown"


def test_private_data_in_a_users_words_are_replaced_before_anything_else(client: Client) -> None:
    got = answer(client, "/v1/enrich", description="brass lamps, mail jo@example.com")
    assert got["description"] == "brass lamps, mail <EMAIL>"


def test_the_state_is_told(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["degraded"], len(ready["bundle"])) == ("ok", None, 16)
    told = re.compile(r'coldstart_answers_total{tier="warm"} (\S+)')
    before = float(told.search(client.get("/metrics").text).group(1))
    answer(client, "/v1/recommend", user_id="ann")
    numbers = client.get("/metrics").text
    assert float(told.search(numbers).group(1)) == before + 1
    assert 'coldstart_request_seconds_count{route="/v1/recommend"}' in numbers
    assert "coldstart_pending_events" in numbers
