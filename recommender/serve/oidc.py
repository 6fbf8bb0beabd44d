"""Access tokens of an OpenID Connect issuer, in place of API keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from jwt import PyJWK

from coldstart_udfs.errors import ColdStartError
from recommender.serve.keys import SCOPES

# One algorithm for each kind of key: what a token says of its algorithm chooses nothing.
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
_SHORTEST_RSA = 2048
# Seconds: the issuer's keys are asked for again after `_FRESH`, and used until `_STALE` if it does not answer. It is
# asked once in `_PAUSE` at most, whatever tokens say.
_FRESH, _STALE, _PAUSE = 600.0, 86_400.0, 60.0
# By which the clocks of issuer and service may differ.
_LEEWAY = 30
_PATIENCE = 5.0
# What a token can raise that is none.
_INVALID = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_LONGEST_TOKEN, _LONGEST_ANSWER = 8 * 1024, 2**20


class IssuerError(ColdStartError):
    """The issuer does not answer, or says nothing that can be used."""


@dataclass(frozen=True)
class Subject:
    """Who a token is about.

    Attributes:
        id: the first 12 hexadecimal digits of the SHA-256 of the token's `sub`, which may name a person.
        scopes: of `SCOPES`, those in the token's `scope` or `scp`.
    """

    id: str
    scopes: tuple[str, ...]


class Tokens:
    """Checks access tokens: signature, issuer, audience and time.

    Args:
        issuer: its URL, as the tokens have it in `iss`.
        audience: which tokens have in `aud`.

    Raises:
        ColdStartError: the URL is not one of HTTPS, nor of this machine.
    """

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer, self._audience = _checked(issuer, "the issuer"), audience
        self._keys: dict[str, PyJWK] = {}
        self._asking = asyncio.Lock()
        self._asked = self._got = -_STALE
        self._failed: str | None = None

    async def find(self, token: str) -> Subject | None:
        """Who a token is about, unless it is not valid.

        Raises:
            IssuerError: the token has a key that only the issuer knows, and it does not answer.
        """
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            name = jwt.get_unverified_header(token).get("kid")
        except _INVALID:
            return None
        key = await self._key(name) if isinstance(name, str) else None
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token, key, algorithms=[key.algorithm_name], audience=self._audience, issuer=self._issuer,
                leeway=_LEEWAY, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except _INVALID:
            return None
        return Subject(hashlib.sha256(claims["sub"].encode("utf-8", "surrogatepass")).hexdigest()[:12], _scopes(claims))

    async def ask(self) -> None:
        """Ask the issuer for its keys.

        Raises:
            IssuerError: it does not answer, or says nothing that can be used.
        """
        self._asked = time.monotonic()
        place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            async with asyncio.timeout(2 * _PATIENCE), httpx.AsyncClient(timeout=_PATIENCE) as client:
                told = await _json(client, place)
                if told.get("issuer") != self._issuer:
                    raise IssuerError(f"{place} is of the issuer {told.get('issuer')!r}, not {self._issuer!r}; give "
                                      "--oidc as it stands there")  # fmt: skip
                answer = await _json(client, _checked(str(told.get("jwks_uri")), "its jwks_uri"))
            found = [key for key in map(_key_of, answer.get("keys") or ()) if key is not None]
        except ColdStartError as error:
            self._failed = str(error)
            raise
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, TypeError, RecursionError) as error:
            self._failed = f"{place} cannot be read: {type(error).__name__} {error}".strip()
            raise IssuerError(f"{self._failed}; is {self._issuer} the issuer, and up?") from None
        if not found:
            self._failed = f"{self._issuer} has no key for RS256 (2,048 bits or more) or ES256"
            raise IssuerError(f"{self._failed}; let it sign access tokens with one of them")
        self._keys = {str(key.key_id): key for key in found}
        self._failed, self._got = None, time.monotonic()

    async def _key(self, name: str) -> PyJWK | None:
        """A key of the issuer, by its `kid`; None if it has none of this name."""
        age, known = time.monotonic() - self._got, self._keys.get(name)
        if known is not None and (age < _FRESH or (age < _STALE and self._asking.locked())):
            return known
        async with self._asking:
            if time.monotonic() - self._asked >= _PAUSE:
                try:
                    await self.ask()
                except IssuerError:
                    if known is None:
                        raise
        known = self._keys.get(name) if time.monotonic() - self._got < _STALE else None
        if known is None and self._failed:
            raise IssuerError(self._failed)
        return known


async def _json(client: httpx.AsyncClient, url: str) -> Mapping[str, Any]:
    """The object at a URL; redirects are not followed."""
    content = b""
    async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > _LONGEST_ANSWER:
                raise ValueError(f"more than {_LONGEST_ANSWER} bytes")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _key_of(given: Any) -> PyJWK | None:
    """A key that signs tokens by one of the algorithms; None for others, such as secrets and keys to encrypt with."""
    algorithm = _ALGORITHMS.get(str(given.get("kty"))) if isinstance(given, dict) and given.get("kid") else None
    if algorithm is None or given.get("alg", algorithm) != algorithm or given.get("use", "sig") != "sig":
        return None
    try:
        key = PyJWK(given, algorithm)
    except jwt.PyJWTError:
        return None
    short = algorithm == "RS256" and key.key.key_size < _SHORTEST_RSA
    return None if short or given.get("crv", "P-256") != "P-256" else key


def _scopes(claims: Mapping[str, Any]) -> tuple[str, ...]:
    given = claims.get("scope", claims.get("scp"))
    names = given.split() if isinstance(given, str) else given if isinstance(given, list) else ()
    return tuple(scope for scope in SCOPES if scope in names)


def _checked(url: str, what: str) -> str:
    """A URL of HTTPS, or of this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        own = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        own = False
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and own)):
        raise IssuerError(f"{what} is {url!r}; give a URL that begins with https://")
    return url
