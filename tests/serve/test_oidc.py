"""Access tokens of an issuer that runs here, with keys made here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs
from typer.testing import CliRunner

import recommender.serve.oidc as oidc
from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.serve.oidc import IssuerError, Tokens

AUDIENCE = "coldstart"
RSA_KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC_KEY = ec.generate_private_key(ec.SECP256R1())
Client = Any


class Issuer:
    """An issuer on this machine: what it answers can be changed, and what it was asked is counted."""

    def __init__(self) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer.answering.wait(20)
                content = json.dumps(issuer.answers.get(self.path)).encode()
                self.send_response(200 if self.path in issuer.answers else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.asked: list[str] = []
        self.answering = threading.Event()
        self.answering.set()
        self.answers: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [
                RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "rsa", "use": "sig", "alg": "RS256"},
                ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True) | {"kid": "ec"},
            ]},
        }  # fmt: skip
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def token(self, key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
        now = datetime.now(UTC)
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "office", "exp": now + timedelta(minutes=5), "scope": "read"}
        whole = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(whole, key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture(scope="module")
def shared() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def client(start: Callable[..., Client], shared: Issuer) -> Client:
    return start(issuer=shared.url, audience=AUDIENCE)


def status(client: Client, token: str, path: str = "/v1/recommend", body: Any = None) -> int:
    answer = client.post(path, json=body or {}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200 or answer.json()["status"] == answer.status_code
    return int(answer.status_code)


def unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    def encoded(part: Any) -> str:
        content = part if isinstance(part, bytes) else json.dumps(part).encode()
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    return ".".join([encoded(header), encoded(claims), encoded(signature)])


def test_tokens_of_both_kinds_of_keys_are_taken(client: Client, shared: Issuer) -> None:
    assert status(client, shared.token()) == 200
    assert status(client, shared.token(EC_KEY, "ES256", "ec")) == 200


@pytest.mark.parametrize(
    ("claims", "read", "feedback"),
    [
        ({"scope": "openid read"}, 200, 403), ({"scope": "feedback"}, 403, 202), ({"scope": None}, 403, 403),
        ({"scope": None, "scp": ["read", "feedback"]}, 200, 202), ({"scope": "reading"}, 403, 403),
        ({"scope": None, "scp": "read"}, 200, 403), ({"scope": {"read": True}}, 403, 403),
    ],
)  # fmt: skip
def test_the_scopes_of_a_token_open_paths(
    client: Client, shared: Issuer, claims: Any, read: int, feedback: int
) -> None:
    events = {"events": [{"user_id": "ann", "item_id": "mug", "event_type": "view"}]}
    token = shared.token(**claims)
    header = {"Authorization": f"Bearer {token}"}
    assert status(client, token) == read
    assert client.post("/v1/events", json=events, headers=header).status_code == feedback


NOW = datetime.now(UTC)
WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - timedelta(minutes=2)},
    "never expires": {"exp": None},
    "not valid yet": {"nbf": NOW + timedelta(hours=1)},
    "issued in the future": {"iat": NOW + timedelta(hours=1)},
    "another audience": {"aud": "shop"},
    "other audiences": {"aud": ["shop", "coldstart2"]},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "another issuer with the same beginning": {"iss": "http://127.0.0.1"},
    "no issuer": {"iss": None},
    "about nobody": {"sub": None},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=list(WRONG_CLAIMS))
def test_a_token_with_wrong_claims_is_refused(client: Client, shared: Issuer, claims: dict[str, Any]) -> None:
    assert status(client, shared.token(**claims)) == 401


def test_a_token_signed_by_somebody_else_is_refused(client: Client, shared: Issuer) -> None:
    assert status(client, shared.token(OTHER_KEY)) == 401
    assert status(client, shared.token(EC_KEY, "ES256", "rsa")) == 401
    head, claims, signature = shared.token().split(".")
    admin = shared.token(scope="admin").split(".")[1]
    assert status(client, f"{head}.{admin}.{signature}") == 401
    assert status(client, f"{head}.{claims}.") == 401


def test_a_token_chooses_neither_algorithm_nor_key(client: Client, shared: Issuer) -> None:
    good = jwt.decode(shared.token(), options={"verify_signature": False})
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("none", "None", "NONE", ""):
        assert status(client, unsigned({"alg": algorithm, "kid": "rsa"}, good)) == 401
    # The public key as a secret: what a verifier does that believes `alg`.
    header = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}
    signed = unsigned(header, good).rpartition(".")[0]
    assert status(client, unsigned(header, good, hmac.digest(public, signed.encode(), "sha256"))) == 401
    for algorithm in ("RS512", "PS256"):
        assert status(client, shared.token(algorithm=algorithm)) == 401
    own = RSAAlgorithm.to_jwk(OTHER_KEY.public_key(), as_dict=True)
    for headers in ({"jwk": own, "kid": "rsa"}, {"jku": "http://127.0.0.1:1/keys", "kid": "rsa"}):
        assert status(client, jwt.encode(good, OTHER_KEY, "RS256", headers=headers)) == 401
    assert status(client, shared.token(kid=None)) == 401


@pytest.mark.parametrize(
    "token",
    ["a", "a.b.c", "..", unsigned({}, {}), unsigned([], []), unsigned({"alg": "RS256", "kid": 1}, {}),
     unsigned({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": False}, {}), unsigned(b"[" * 5000, b""),
     unsigned({"alg": "RS256", "kid": "rsa"}, b"\xff"), "a" * 10_000, "csk_000000000000_" + "a" * 43],
    ids=lambda token: token[:20],
)  # fmt: skip
def test_what_is_no_token_is_refused(client: Client, token: str) -> None:
    assert status(client, token) == 401


def test_logs_name_the_subject_by_a_digest(client: Client, shared: Issuer) -> None:
    with capture_logs() as lines:
        token = shared.token(scope="admin", sub="ann@example.com")
        client.put("/v1/items/mug2", json={"description": "a mug"}, headers={"Authorization": f"Bearer {token}"})
    audit = next(line for line in lines if line["event"] == "audit")
    assert audit["key"] == hashlib.sha256(b"ann@example.com").hexdigest()[:12]
    assert "ann@example.com" not in json.dumps(lines)
    assert token not in json.dumps(lines)


def found(tokens: Tokens, *given: str) -> list[Any]:
    """Who the tokens are about, in one event loop; an IssuerError takes the place of its answer."""

    async def find() -> list[Any]:
        answers: list[Any] = []
        for token in given:
            try:
                answers.append(await tokens.find(token))
            except IssuerError as error:
                answers.append(error)
        return answers

    return asyncio.run(find())


def test_the_issuer_is_asked_once_a_minute_at_most(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(issuer.url, AUDIENCE)
    unknown = [issuer.token(OTHER_KEY, kid=f"new{number}") for number in range(5)]
    assert found(tokens, issuer.token(), *unknown, issuer.token())[1:-1] == [None] * 5
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    # A minute later: the issuer has a new key.
    monkeypatch.setattr(oidc, "_PAUSE", 0.0)
    new = RSAAlgorithm.to_jwk(OTHER_KEY.public_key(), as_dict=True) | {"kid": "new1"}
    issuer.answers["/keys"] = {"keys": [new]}
    assert found(tokens, unknown[1])[0].scopes == ("read",)
    # The key that the issuer has no more ends.
    assert found(tokens, issuer.token()) == [None]


def test_who_comes_first_asks_for_all(issuer: Issuer) -> None:
    tokens = Tokens(issuer.url, AUDIENCE)

    async def find() -> list[Any]:
        return await asyncio.gather(*(tokens.find(issuer.token()) for _ in range(20)))

    assert all(asyncio.run(find()))
    assert len(issuer.asked) == 2


def test_who_has_a_known_key_does_not_wait_for_another_to_ask(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(issuer.url, AUDIENCE)
    assert found(tokens, issuer.token())[0] is not None
    monkeypatch.setattr(oidc, "_FRESH", -1.0)
    monkeypatch.setattr(oidc, "_PAUSE", 0.0)
    issuer.answering.clear()

    async def find() -> list[Any]:
        first = asyncio.create_task(tokens.find(issuer.token()))
        while len(issuer.asked) < 3:
            await asyncio.sleep(0.01)
        second = await tokens.find(issuer.token())
        waiting = not first.done()
        issuer.answering.set()
        return [waiting, second, await first]

    waiting, second, first = asyncio.run(find())
    assert waiting
    assert second == first


def test_an_issuer_that_is_down_lets_known_keys_count(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(issuer.url, AUDIENCE)
    assert found(tokens, issuer.token())[0] is not None
    issuer.answers.clear()
    monkeypatch.setattr(oidc, "_FRESH", -1.0)
    monkeypatch.setattr(oidc, "_PAUSE", 0.0)
    assert found(tokens, issuer.token())[0] is not None
    assert len(issuer.asked) == 3
    # Nobody can say whether a key that is not known is one of the issuer's.
    assert isinstance(found(tokens, issuer.token(kid="new"))[0], IssuerError)
    monkeypatch.setattr(oidc, "_STALE", -1.0)
    assert isinstance(found(tokens, issuer.token())[0], IssuerError)


def test_without_keys_of_the_issuer_the_service_answers_503(start: Callable[..., Client], issuer: Issuer) -> None:
    issuer.answers.clear()
    client = start(issuer=issuer.url, audience=AUDIENCE)
    for _ in range(2):
        answer = client.post("/v1/recommend", json={}, headers={"Authorization": f"Bearer {issuer.token()}"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["detail"] == "the issuer of access tokens does not answer; ask again later"
    assert client.post("/v1/recommend", json={}).status_code == 401
    assert client.get("/healthz").status_code == 200
    assert len(issuer.asked) == 1


SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
SHORT = RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), as_dict=True)
LONG_CURVE = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/.well-known/openid-configuration", None, "cannot be read: ValueError it is no JSON object"),
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example"}, "of the issuer 'https://evil.exam"),
        ("/.well-known/openid-configuration", {"issuer": "SELF"}, "its jwks_uri is 'None'"),
        ("/.well-known/openid-configuration", {"issuer": "SELF", "jwks_uri": "file:///etc/passwd"}, "its jwks_uri is"),
        ("/.well-known/openid-configuration", {"issuer": "SELF", "jwks_uri": "http://10.0.0.1/"}, "its jwks_uri is"),
        ("/keys", {"keys": []}, "has no key for RS256"),
        ("/keys", {"keys": [SECRET]}, "has no key for RS256"),
        ("/keys", {"keys": [SHORT | {"kid": "short"}]}, "has no key for RS256"),
        ("/keys", {"keys": [LONG_CURVE | {"kid": "long"}]}, "has no key for RS256"),
        ("/keys", {"keys": [RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "a", "use": "enc"}]},
         "has no key for RS256"),
        ("/keys", {"keys": 5}, "cannot be read: TypeError"),
        ("/keys", {"keys": ["x" * 2**20]}, "cannot be read: ValueError more than 1048576 bytes"),
    ],
)  # fmt: skip
def test_an_issuer_that_says_nothing_usable_is_refused(issuer: Issuer, path: str, answer: Any, said: str) -> None:
    whole = {name: issuer.url if value == "SELF" else value for name, value in answer.items()} if answer else answer
    issuer.answers[path] = whole
    with pytest.raises(IssuerError) as error:
        asyncio.run(Tokens(issuer.url, AUDIENCE).ask())
    assert said in str(error.value)


@pytest.mark.parametrize("url", ["http://login.example.com", "login.example.com", "file:///etc/passwd", "", "https://"])
def test_an_issuer_without_https_is_refused(url: str) -> None:
    with pytest.raises(ColdStartError, match="give a URL that begins with https://"):
        Tokens(url, AUDIENCE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--oidc", "https://login.example.com"], "--oidc is given without the other; add --audience AUD"),
        (["--audience", "coldstart"], "--audience is given without the other; add --oidc ISSUER"),
        (["--oidc", "http://127.0.0.1:1", "--audience", "coldstart"], "is http://127.0.0.1:1 the issuer, and up?"),
        (["--oidc", "https://a", "--audience", "b", "--keys", "k"], "--keys and --oidc are both given; give one"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_issuer_is_said_before_the_service_starts(
    served_shop: Path, options: list[str], said: str
) -> None:
    places = ["--repo", str(served_shop / "feature_repo"), "--bundle", str(served_shop / "data" / "bundle")]
    refused = CliRunner().invoke(app, ["serve", *places, *options])
    assert isinstance(refused.exception, ColdStartError)
    assert said in str(refused.exception)
