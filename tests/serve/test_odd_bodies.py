"""No body makes the service fail: it answers, or says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ODD = [
    None, True, 0, -1, 10**30, 1.5, 1e308, "", " ", "lamp", "ann", "\0", "é" * 300, "\ud800", "a=b", "size=10",
    "'; DROP TABLE events;--", "../../etc/passwd", "a\nb", "\u202e", 1e-300, "x" * 10_001, [], {}, ["lamp"], [None],
    ["lamp", "lamp"], {"lamp": 1}, {"a": 1e308}, {"lamp": -1e39}, [{"item_id": "lamp"}],
    [{"item_id": "lamp", "event_type": "cart"}] * 3, "2026-01-31T12:00:00Z", "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00+14:00", "2026-01-31T12:00:00",
]  # fmt: skip
USUAL = {"user_id": "ann", "item_id": "lamp", "description": "garden", "k": 3, "event_type": "view"}
FIELDS = {
    "/v1/recommend": ("user_id", "description", "session", "k", "exclude_seen", "among", "without", "attribute", "pin",
                      "boost", "diversity", "explain"),
    "/v1/audience": ("item_id", "description", "k", "exclude_seen"),
    "/v1/enrich": ("description", "k"),
    "/v1/explain": ("user_id", "description", "session", "item_id"),
    "/v1/events": ("user_id", "item_id", "event_type", "event_timestamp", "weight", "rating", "position", "query",
                   "recommendation_id"),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(start: Callable[..., Any]) -> Any:
    return start()


def bodies(path: str) -> st.SearchStrategy[Any]:
    known = {name: USUAL[name] for name in FIELDS[path] if name in USUAL}
    odd = st.dictionaries(st.sampled_from(FIELDS[path]), st.sampled_from(ODD), max_size=3)
    whole = odd.map(lambda changes: known | changes)
    return whole.map(lambda event: {"events": [event]}) if path == "/v1/events" else whole


@pytest.mark.parametrize("path", FIELDS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_no_body_makes_the_service_fail(client: Any, path: str, data: st.DataObject) -> None:
    body = data.draw(bodies(path))
    response = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code in (200, 202, 404, 422), response.text
    if response.status_code >= 400:
        assert response.json()["detail"]
