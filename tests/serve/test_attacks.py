"""Attacks that docs/explanation/security.md names and no other file tries; the tests that the page names are there."""

from __future__ import annotations

import ast
import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recommender.serve.keys as keys_module
from recommender.serve.keys import SCOPES, KeyFile
from tests.support.commands import ROOT

Client = Any
PAGE = ROOT / "docs" / "explanation" / "security.md"
EVENT = {"user_id": "ann", "item_id": "mug", "event_type": "view", "event_timestamp": "2026-01-01T00:00:00Z"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(start: Callable[..., Client]) -> Client:
    return start()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_that_unpacks_to_much_is_not_unpacked(
    client: Client, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    bomb = compress(b'{"description": "' + b"a" * 50_000_000 + b'"}')
    assert len(bomb) < 100_000
    answer = client.post("/v1/recommend", content=bomb, headers=JSON | {"Content-Encoding": encoding})
    assert (answer.status_code, "the body is compressed" in answer.json()["detail"]) == (415, True)


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b'{"diversity": NaN}', (422,)), (b'{"diversity": 1e999}', (422,)), (b'{"boost": {"mug": NaN}}', (422,)),
        (b'{"boost": {"mug": -Infinity}}', (422,)), (b'{"k": ' + b"9" * 5_000 + b"}", (400,)),
        (b'{"k": 1e400}', (422,)), (b'{"a":' * 50_000, (400,)), (b'{"k": 1, "k": 2}', (200,)),
        (b'{"__class__": {"__init__": 1}}', (422,)), (b'"' + b"\\ud800" * 100 + b'"', (422,)),
    ],
)  # fmt: skip
def test_json_that_parsers_stumble_over_is_refused(client: Client, content: bytes, statuses: tuple[int, ...]) -> None:
    assert client.post("/v1/recommend", content=content, headers=JSON).status_code in statuses


def test_a_page_of_another_site_can_send_nothing_through_a_browser(client: Client) -> None:
    """What a browser sends without asking first is no JSON; what it asks for first is not granted."""
    origin = {"Origin": "https://evil.example"}
    for simple in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain;a/json"):
        answer = client.post("/v1/events", content=b'{"events": []}', headers=origin | {"Content-Type": simple})
        assert answer.status_code in (415, 422)
        answer = client.post("/v1/recommend", content=b"{}", headers=origin | {"Content-Type": simple})
        assert answer.status_code in (415, 422)
    asked = client.options("/v1/users/ann", headers=origin | {"Access-Control-Request-Method": "DELETE"})
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]


def test_an_idempotency_key_is_of_the_api_key_that_sent_it(start: Callable[..., Client], keys: KeyFile) -> None:
    """Nobody can take another's key to learn what they stored, or to have their events dropped as known."""
    client = start(keys=keys._path)
    own, other = (keys.create(name, SCOPES)[0] for name in ("own", "other"))

    def send(key: str, item: str) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "1"}
        return client.post("/v1/events", json={"events": [EVENT | {"item_id": item}]}, headers=headers)

    assert (send(own, "mug").status_code, send(own, "mug").json()["replayed"]) == (202, True)
    assert send(own, "lamp").status_code == 409
    assert (send(other, "lamp").status_code, send(other, "lamp").json()["replayed"]) == (202, True)
    assert send(own, "mug").json()["ids"] != send(other, "lamp").json()["ids"]


def test_every_key_is_compared_and_in_constant_time(keys: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the public part is known, the rest is right or nothing is: one comparison of two hashes."""
    whole, key = keys.create("shop", ["read"])
    keys.all()
    compared: list[tuple[int, int]] = []
    compare = keys_module.hmac.compare_digest

    def counted(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(keys_module.hmac, "compare_digest", counted)
    given = [whole, whole[:-1] + ("A" if whole[-1] != "A" else "B"), f"csk_{'0' * 12}_{whole[17:]}", "csk_", "x" * 1000]
    assert [keys.find(one) == key for one in given] == [True, False, False, False, False]
    assert compared == [(64, 64)] * len(given)


@pytest.mark.parametrize("name", ["../bundle", "..", "/etc", "a/../../b", "", ".", "bundle\x00"])
def test_a_name_of_a_bundle_leads_nowhere_else(served_shop: Path, name: str) -> None:
    from recommender.model.bundle import BundleError
    from recommender.pipeline.bundles import promote

    with pytest.raises(BundleError, match="is kept beside"):
        promote(served_shop / "data" / "bundle", name)


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 20
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"
