"""Who may do what: it is decided before the body of a request is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.routing import APIRoute

from coldstart_udfs.errors import ColdStartError
from recommender.serve.keys import KeyFile
from recommender.serve.logs import log, place_of
from recommender.serve.problems import ProblemError
from recommender.serve.service import Service


class Caller(Protocol):
    """Who sends a request: the owner of an API key, or the subject of a token.

    Attributes:
        id: names the caller in logs, and counts their requests.
        scopes: what they may do, of `recommender.serve.keys.SCOPES`.
    """

    @property
    def id(self) -> str: ...  # noqa: D102

    @property
    def scopes(self) -> tuple[str, ...]: ...  # noqa: D102


def guarded(service: Service, scope: str) -> type[APIRoute]:
    """A class of routes that answer only who has a scope, as often as the rate allows.

    FastAPI reads and validates the body before it calls dependencies; a route of this class asks who it is first.
    """

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def authorised(request: Request) -> Response:
                await _authorise(service, request, scope)
                return await handle(request)

            return authorised

    return Guarded


async def _authorise(service: Service, request: Request, scope: str) -> None:
    if service.callers is None:
        _here(request.headers.get("host", ""))
        return
    what = "API key" if isinstance(service.callers, KeyFile) else "access token"
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    given = given.strip() if scheme.lower() == "bearer" else ""
    caller = await _caller(service.callers, given, what) if given else None
    if caller is None:
        form = "csk_…" if what == "API key" else "TOKEN"
        raise ProblemError(
            401, f"the request has no valid {what}; send one as `Authorization: Bearer {form}`",
            {"WWW-Authenticate": 'Bearer error="invalid_token"' if given else "Bearer"},
        )  # fmt: skip
    request.scope["key_id"] = caller.id
    if scope not in caller.scopes:
        raise ProblemError(
            403, f"the {what} has the scopes {', '.join(caller.scopes) or 'none'}; this needs {scope}",
            {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )  # fmt: skip
    if seconds := await service.rates.wait(caller.id):
        service.metrics.refused.labels("rate").inc()
        raise ProblemError(
            429, f"this {what.split()[-1]} may make {service.settings.rate} requests; ask again in {seconds} s",
            {"Retry-After": str(seconds)},
        )  # fmt: skip


async def _caller(callers: Any, given: str, what: str) -> Caller | None:
    try:
        found: Caller | None = callers.find(given) if isinstance(callers, KeyFile) else await callers.find(given)
    except ColdStartError as error:
        log.error(f"{what}s cannot be checked", **place_of(error))
        told = (
            "the service cannot read its API keys; `coldstart keys list` on its machine says why"
            if isinstance(callers, KeyFile) else "the issuer of access tokens does not answer; ask again later"
        )  # fmt: skip
        raise ProblemError(503, told, {"Retry-After": "5"}) from None
    return found


def _here(host: str) -> None:
    """Answer without keys under a name of this machine only.

    A page of another site could otherwise give its own name the address of this machine, and ask through a browser on
    it (DNS rebinding).
    """
    with contextlib.suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or ip_address(name).is_loopback:
            return
    raise ProblemError(
        421, "without keys the service answers under localhost and 127.0.0.1 alone; for another name create keys with "
        "`coldstart keys create` and start it with --keys",
    )  # fmt: skip
