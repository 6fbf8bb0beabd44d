"""The page for people: it is whole in itself, and a browser runs its own script alone."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from coldstart_client import models as schemas


@pytest.fixture(scope="module")
def page(start: Callable[..., Any]) -> Any:
    return start().get("/")


def test_the_page_loads_nothing_and_only_its_own_script_may_run(page: Any) -> None:
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"https?://|\bsrc=|<link|@import|\son\w+=", page.text) == []
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    policy = page.headers["content-security-policy"]
    assert f"script-src 'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")


def test_what_it_asks_is_what_the_service_knows(page: Any) -> None:
    """The names in its requests, so that a renamed field does not leave the page behind."""
    for field in ("description", "session", "without", "explain", "k"):
        assert field in schemas.RecommendRequest.model_fields
        assert re.search(rf"\b{field}\b", page.text)
    assert re.search(r"body\[`\$\{side\}_id`\]", page.text)
    assert {"user_id"} <= schemas.RecommendRequest.model_fields.keys()
    assert {"item_id"} <= schemas.AudienceRequest.model_fields.keys()


def test_every_field_and_list_has_a_name_for_those_who_do_not_see_it(page: Any) -> None:
    fields = re.findall(r'<(?:input|textarea) id="([\w-]+)"', page.text)
    assert fields
    assert set(fields) <= set(re.findall(r'<label for="([\w-]+)"', page.text))
    assert '<html lang="en">' in page.text
