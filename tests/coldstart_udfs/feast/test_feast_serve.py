"""`feast serve` as a real process, asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from benchmarks.serving_load import ask, load, serving
from coldstart_udfs import Encoder

pytestmark = pytest.mark.service

PROFILE = "user_enriched_request:user_enriched_profile"
FLAGS = ["user_enriched_request:user_is_cold", "user_enriched_request:user_has_description"]


@pytest.fixture(scope="module")
def port(shop: Path) -> Iterator[int]:
    with serving(shop / "feature_repo") as port:
        yield port


@pytest.fixture(scope="module")
def users(shop: Path) -> tuple[str, str]:
    """One with a description, one without."""
    with duckdb.connect() as con:
        query = f"SELECT user_id, description IS NULL FROM '{shop}/data/users.parquet' ORDER BY user_id"
        rows = con.sql(query).fetchall()
    return next(name for name, bare in rows if not bare), next(name for name, bare in rows if bare)


def asked(users: list[str], texts: list[str | None]) -> dict[str, Any]:
    return {"features": [PROFILE, *FLAGS], "entities": {"user_id": users, "request_description": texts}}


def test_known_undescribed_and_unknown_users_over_http(port: int, users: tuple[str, str]) -> None:
    described, bare = users
    found = ask(port, asked([described, bare, "nobody", "nobody"], [None, None, "a red lamp", None]))
    profiles = np.array(found["user_enriched_profile"])
    assert found["user_is_cold"] == [False, False, True, True]
    assert found["user_has_description"] == [True, False, True, False]
    assert np.linalg.norm(profiles[0]) > 0
    assert np.linalg.norm(profiles[1]) > 0
    np.testing.assert_allclose(profiles[2], Encoder().encode(["a red lamp"])[0], atol=1e-6)
    assert not profiles[3].any()


def test_full_names_over_http(port: int, users: tuple[str, str]) -> None:
    body = {**asked([users[0]], [None]), "full_feature_names": True}
    assert len(ask(port, body)["user_enriched_request__user_enriched_profile"][0]) == 384


def test_a_request_without_its_description_is_refused_with_the_name_of_the_field(port: int) -> None:
    with pytest.raises(AssertionError, match="request_description"):
        ask(port, {"features": [PROFILE], "entities": {"user_id": ["nobody"]}})


def test_thirty_two_clients_for_a_minute_meet_no_error(port: int, users: tuple[str, str]) -> None:
    texts: list[str | None] = ["a red lamp", None, "vintage tea cups for a garden party"]
    bodies = [asked([user], [text]) for user in (*users, "nobody") for text in texts]
    outcome = load(port, bodies, clients=32, seconds=60)
    assert outcome.errors == []
    assert len(outcome.seconds) > 32
