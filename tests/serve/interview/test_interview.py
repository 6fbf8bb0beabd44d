"""Interviews over HTTP: the question, the list after the answers, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.small_shop import ITEMS

Client = Any


@pytest.fixture(scope="module")
def client(start: Callable[..., Client]) -> Client:
    return start()


def interview(client: Client, **body: Any) -> Any:
    response = client.post("/v1/interview", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer: Any) -> list[str]:
    return [one["item_id"] for one in answer["items"]]


def test_a_stranger_is_asked_about_an_item_and_gets_the_ordinary_list(client: Client) -> None:
    got = interview(client)
    listed = client.post("/v1/recommend", json={}).json()
    assert got["items"] == listed["items"]
    assert (got["tier"], got["answered"], got["learned"]) == ("unknown", 0, 0)
    question = got["question"]
    assert question["description"] == ITEMS[question["item_id"]]
    assert question["sentence"] == f"Do you like “{question['description']}”?"
    assert 0 < question["gain"] <= question["answerable"] <= 1


def test_every_item_is_asked_about_once_then_there_is_no_question(client: Client) -> None:
    answers: list[dict[str, str]] = []
    while (question := interview(client, answers=answers)["question"]) is not None:
        answers.append({"item_id": question["item_id"], "answer": "unknown"})
    assert sorted(one["item_id"] for one in answers) == sorted(ITEMS)


def test_a_yes_counts_as_an_event_of_the_session(client: Client) -> None:
    got = interview(client, answers=[{"item_id": "pot", "answer": "yes"}])
    session = [{"item_id": "pot", "event_type": "purchase"}]
    listed = client.post("/v1/recommend", json={"session": session}).json()
    assert (got["tier"], got["answered"]) == ("warm", 1)
    assert got["items"] == listed["items"]
    assert "pot" not in ids(got)
    assert 0 < got["learned"] < 1


def test_a_no_moves_like_items_down_and_is_not_recommended(client: Client) -> None:
    liked, disliked = (interview(client, answers=[{"item_id": "mug", "answer": one}]) for one in ("yes", "no"))
    assert "mug" not in ids(liked) + ids(disliked)
    scores = [{one["item_id"]: one["parts"]["history"] for one in got["items"]} for got in (liked, disliked)]
    assert all(scores[0][name] * scores[1][name] < 0 for name in ("lamp", "flag"))  # bought together with the mug


def test_an_answer_that_is_unknown_leaves_the_list_as_it_is(client: Client) -> None:
    before = interview(client)
    name = before["question"]["item_id"]
    after = interview(client, answers=[{"item_id": name, "answer": "unknown"}])
    assert after["items"] == before["items"]
    assert (after["answered"], after["learned"]) == (0, 0)
    assert after["question"]["item_id"] != name


def test_the_last_answer_about_an_item_counts(client: Client) -> None:
    changed = [{"item_id": "pot", "answer": "no"}, {"item_id": "pot", "answer": "yes"}]
    assert interview(client, answers=changed)["items"] == interview(client, answers=changed[1:])["items"]


def test_nobody_is_asked_about_what_they_have_or_what_a_rule_leaves_out(client: Client) -> None:
    got = interview(client, user_id="dan", without=["lamp"])  # dan has the pot
    assert got["question"]["item_id"] in ("flag", "mug")
    assert got["learned"] > 0
    only = interview(client, among=["flag", "lamp"], answers=[{"item_id": "flag", "answer": "no"}])
    assert only["question"]["item_id"] == "lamp"
    assert ids(only) == ["lamp"]


def test_a_description_changes_what_is_asked(client: Client) -> None:
    told = interview(client, description="enamel pots for a garden")
    assert told["tier"] == "cold"
    gains = [interview(client, description=words, among=["pot"])["question"]["answerable"]
             for words in ("enamel pots for a garden", "paper party flags")]  # fmt: skip
    assert gains[0] > gains[1]


def test_answers_about_attributes_are_boosts_and_unknown_ones_are_told(client: Client) -> None:
    got = interview(client, answers=[
        {"attribute": "size=10", "answer": "yes"}, {"attribute": "size=gone", "answer": "no"},
        {"item_id": "gone", "answer": "yes"},
    ])  # fmt: skip
    assert {one["reason"] for one in got["items"]} == {"boosted"}
    assert (got["unknown_items"], got["unknown_attributes"]) == (["gone"], ["size=gone"])


@pytest.mark.parametrize("answer", [
    {"answer": "yes"}, {"item_id": "pot", "attribute": "size=10", "answer": "yes"},
    {"item_id": "pot", "answer": "maybe"},
])  # fmt: skip
def test_an_answer_is_about_one_thing(client: Client, answer: dict[str, str]) -> None:
    assert client.post("/v1/interview", json={"answers": [answer]}).status_code == 422
