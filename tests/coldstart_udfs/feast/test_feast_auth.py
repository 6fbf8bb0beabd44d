"""Permissions as feature_repo/README.md gives them: a real `feast serve`, asked with tokens of different roles.

No identity provider is at hand. `Issuer` stands for one: discovery and JWKS over HTTP, tokens signed with its RSA key.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.commands import ROOT, free_port, must, wait_for

pytestmark = pytest.mark.service

TEXT = {"features": ["user_descriptions:user_description"]}
VECTORS = {"feature_service": "coldstart_vectors"}


class Issuer:
    """A tiny OpenID Connect issuer, for tests."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        pages: dict[str, Any] = {"/jwks": {"keys": [{**jwk, "kid": "test", "use": "sig", "alg": "RS256"}]}}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(pages[self.path]).encode())

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.discovery_url = f"{self.url}/.well-known/openid-configuration"
        pages["/.well-known/openid-configuration"] = {
            "issuer": self.url, "jwks_uri": f"{self.url}/jwks",
            "token_endpoint": f"{self.url}/token", "authorization_endpoint": f"{self.url}/authorize",
        }  # fmt: skip
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, *roles: str, **claims: Any) -> str:
        usual = {
            "preferred_username": "somebody", "iss": self.url, "aud": "feast", "exp": int(time.time()) + 600,
            "resource_access": {"feast": {"roles": list(roles)}},
        }  # fmt: skip
        return jwt.encode({**usual, **claims}, self._key, algorithm="RS256", headers={"kid": "test"})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def repo(shop: Path, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's repository with `auth:` in its configuration and the README's permissions.py."""
    repo = tmp_path_factory.mktemp("auth") / "feature_repo"
    # Not its registry: that one knows where the shop's own online store is.
    shutil.copytree(shop / "feature_repo", repo, ignore=shutil.ignore_patterns("registry.db", "serve.log"))
    with (repo / "feature_store.yaml").open("a") as file:
        file.write(f"auth:\n  type: oidc\n  auth_discovery_url: {issuer.discovery_url}\n")
        file.write(f"  client_id: feast\n  audience: feast\n  issuer: {issuer.url}\n")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "feature_repo" / "README.md").read_text(), re.DOTALL | re.M)
    (permissions,) = [block for block in blocks if "Permission(" in block]
    (repo / "permissions.py").write_text(permissions)
    must("feast", "-c", repo, "apply", cwd=repo)
    return repo


@pytest.fixture(scope="module")
def port(repo: Path) -> Iterator[int]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(repo), "serve", "--port", str(port)]
    with (repo / "serve.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_for(port, server)
            yield port
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def described(shop: Path) -> str:
    """A user who wrote something."""
    with duckdb.connect() as con:
        users = f"'{shop}/data/users.parquet'"
        found = con.execute(f"SELECT min(user_id) FROM {users} WHERE description IS NOT NULL").fetchone()
    assert found
    return str(found[0])


def ask(port: int, token: str | None, body: dict[str, Any], path: str = "get-online-features") -> tuple[int, Any]:
    """Status and answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read() or "null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def entities(user: str, **asked: Any) -> dict[str, Any]:
    both = "feature_service" in asked
    return {**asked, "entities": {"user_id": [user], **({"item_id": ["nothing"]} if both else {})}}


def test_the_role_vectors_reads_enriched_profiles_and_embeddings_and_no_word(
    port: int, issuer: Issuer, described: str
) -> None:
    status, answer = ask(port, issuer.token("vectors"), entities(described, **VECTORS))
    assert status == 200
    names = answer["metadata"]["feature_names"]
    assert {"user_enriched_profile", "user_embedding", "user_profile", "item_enriched_profile"} <= set(names)
    assert not [name for name in names if name.endswith(("_description", "_attributes"))
                and name not in ("user_has_description", "item_has_description")]  # fmt: skip
    vector = answer["results"][names.index("user_embedding")]["values"][0]
    assert len(vector) == 384


@pytest.mark.parametrize(
    "asked",
    [
        TEXT,
        {"feature_service": "coldstart_serving"},
        # One view holds both, and features by name are checked by view: the service is the door.
        {"features": ["user_descriptions:user_embedding"]},
        {"features": ["user_enriched:user_is_cold"]},
    ],
    ids=str,
)
def test_the_role_vectors_is_refused_texts_and_the_role_texts_reads_both(
    port: int, issuer: Issuer, described: str, asked: dict[str, Any]
) -> None:
    body = entities(described, **asked)
    status, answer = ask(port, issuer.token("vectors"), body)
    assert status == 403
    assert "FeastPermissionError" in answer
    assert ask(port, issuer.token("texts"), body)[0] == 200


def test_the_role_texts_reads_words_and_vectors(port: int, issuer: Issuer, described: str) -> None:
    status, answer = ask(port, issuer.token("texts"), entities(described, **TEXT))
    assert status == 200
    assert answer["results"][1]["values"][0]
    assert ask(port, issuer.token("texts"), entities(described, **VECTORS))[0] == 200


def test_without_a_role_nothing_is_read(port: int, issuer: Issuer, described: str) -> None:
    assert [ask(port, issuer.token(), entities(described, **asked))[0] for asked in (TEXT, VECTORS)] == [403, 403]


def test_a_missing_expired_or_foreign_token_is_refused(port: int, issuer: Issuer, described: str) -> None:
    stranger = Issuer()
    tokens = [
        None, "nonsense", issuer.token("texts", exp=1), issuer.token("texts", aud="another"),
        issuer.token("texts", iss=stranger.url), stranger.token("texts", iss=issuer.url),
    ]  # fmt: skip
    stranger.close()
    assert [ask(port, token, entities(described, **TEXT))[0] for token in tokens] == [401] * len(tokens)


def test_the_role_operator_writes_and_readers_do_not(port: int, issuer: Issuer) -> None:
    body = {
        "feature_view_name": "user_profiles",
        "df": {"user_id": ["written here"], "user_profile": [[0.0] * 384], "user_evidence": [0],
               "user_profile_fingerprint": ["x"], "event_timestamp": ["2011-12-31T00:00:00Z"]},
    }  # fmt: skip
    roles = ("vectors", "texts", "operator")
    found = [ask(port, issuer.token(role), body, "write-to-online-store")[0] for role in roles]
    assert found == [403, 403, 200]
