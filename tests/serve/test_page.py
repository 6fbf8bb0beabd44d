"""The page for people, without a browser: what it may load and run, and that it asks what the service knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from coldstart_client import interviews, models

LOADED = ("page/style.css", "page/page.js")
FILES = (*LOADED, "page/interview.js")


@pytest.fixture(scope="module")
def client(start: Callable[..., Any]) -> Any:
    return start()


@pytest.fixture(scope="module")
def page(client: Any) -> Any:
    return client.get("/")


def test_it_loads_nothing_but_its_own_files(client: Any, page: Any) -> None:
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert sorted(re.findall(r'(?:src|href)="([^"]+)"', page.text)) == sorted(LOADED)
    for text in (page.text, *(client.get(f"/{name}").text for name in FILES)):
        assert re.findall(r"https?://|@import|\burl\(['\"]|\son\w+=\"|<style|style=", text) == []


@pytest.mark.parametrize("path", ["/", *(f"/{name}" for name in FILES)])
def test_a_browser_runs_its_script_alone_and_parses_no_text_as_html(client: Any, path: str) -> None:
    policy = client.get(path).headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "require-trusted-types-for 'script'"} <= {
        *policy
    }
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_what_it_asks_and_shows_is_what_the_service_knows(client: Any) -> None:
    """The names in its requests and answers, so that a renamed field does not leave the page behind."""
    script = "".join(client.get(f"/{name}").text for name in FILES[1:])
    asked = {"description", "session", "without", "explain", "k", "among", "exclude_seen"}
    assert asked <= models.RecommendRequest.model_fields.keys()
    answers = {"item_id", "answer"}
    assert answers <= interviews.InterviewAnswer.model_fields.keys()
    asked |= answers | {"answers"}
    shown = {
        models.Recommendations: {"tier", "degraded", "unknown_items", "items"},
        interviews.InterviewQuestion: {"item_id", "description", "sentence"}, interviews.Interview: {"question"},
        models.Enriched: {"other_language", "words", "behaviour", "evidence", "alpha", "items"},
        models.Audience: {"tags", "other_language", "users"}, models.KnownUser: {"user_id", "evidence"},
        models.Health: {"bundle", "degraded", "pending_events"},
    }  # fmt: skip
    for model, fields in shown.items():
        assert fields <= model.model_fields.keys(), model
    for field in asked.union(*shown.values()):
        assert re.search(rf"\b{field}\b", script), field


def test_every_field_has_a_label(page: Any) -> None:
    fields = re.findall(r'<(?:input|textarea) id="([\w-]+)"', page.text)
    assert len(fields) == 3
    assert set(fields) <= set(re.findall(r'<label for="([\w-]+)"', page.text))
    assert '<html lang="en">' in page.text


def test_known_users_are_spread_over_those_with_history(client: Any) -> None:
    found = client.get("/v1/users?k=2").json()["users"]
    assert len({one["user_id"] for one in found}) == 2
    assert all(one["evidence"] > 0 for one in found)
    assert all(client.post("/v1/enrich", json={"user_id": one["user_id"]}).json()["behaviour"] > 0 for one in found)
    assert client.get("/v1/users?k=0").status_code == 422


def test_a_profile_says_how_much_of_it_is_words_and_how_much_behaviour(client: Any) -> None:
    def ask(**body: Any) -> dict[str, Any]:
        found: dict[str, Any] = client.post("/v1/enrich", json=body).json()
        return found

    words = ask(description="a lamp")
    assert (words["evidence"], words["behaviour"], words["words"] > 0) == (0, 0, True)
    both = ask(description="a lamp", session=[{"item_id": "mug", "event_type": "purchase"}])
    assert both["evidence"] == 1
    assert both["behaviour"] > 0
    assert both["alpha"] <= words["alpha"]
    known = ask(user_id="ann")
    assert (known["behaviour"] > 0, known["tier"]) == (True, "warm")
    assert client.post("/v1/enrich", json={}).status_code == 422


def test_the_text_of_a_product_has_tags_and_a_foreign_text_is_named(client: Any) -> None:
    answer = client.post("/v1/audience", json={"description": "red metal lunch box for children", "explain": True})
    tags = {(tag["group"], tag["label"]) for tag in answer.json()["tags"]}
    assert {("colour", "red"), ("material", "metal")} <= tags
    assert answer.json()["other_language"] is None
    foreign = client.post("/v1/enrich", json={"description": "我喜欢在家里烤蛋糕，也喜欢园艺", "explain": True})
    assert foreign.json()["other_language"] == "zh"
