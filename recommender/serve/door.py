"""What every request passes: an id, limits on size and time, a log line, metrics, and an answer to every error."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from recommender.serve import problems
from recommender.serve.logs import log, place_of
from recommender.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LONGEST_BODY = 2**20
# A body that has not arrived after so many seconds is not waited for.
SLOWEST_BODY = 10.0
# More requests than this at once are refused: each would wait longer than anybody does.
MOST_AT_ONCE = 256
_TOO_LARGE = f"a body may have {LONGEST_BODY} bytes; send fewer events or ids at once"
_TOO_SLOW = f"the body did not arrive within {SLOWEST_BODY:.0f} seconds"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Door:
    """ASGI middleware.

    Args:
        app: what is behind it.
        metrics: count and time requests.
    """

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._inside = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, headers = time.perf_counter(), dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"], (b"x-request-id", request_id.encode()), (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]  # fmt: skip
            await send(message)

        async def refuse(code: int, detail: str, extra: dict[str, str] | None = None) -> None:
            await problems.response(request_id, code, detail, extra)(scope, receive, answer)

        self._inside += 1
        try:
            if self._inside > MOST_AT_ONCE:
                await refuse(503, f"more than {MOST_AT_ONCE} requests at once; ask again in a second",
                             {"Retry-After": "1"})  # fmt: skip
                return
            length = headers.get(b"content-length", b"0")
            if not length.isdigit() or int(length) > LONGEST_BODY:
                await refuse(413, _TOO_LARGE)
                return
            await self._app(scope, _Limited(receive), answer)
        except Exception as error:
            log.error("request failed", request_id=request_id, **place_of(error))
            if status:
                raise
            await refuse(500, "the service failed; its log has more at this request_id")
        finally:
            self._inside -= 1
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - began
            self._metrics.seconds.labels(route).observe(seconds)
            self._metrics.requests.labels(route, status).inc()
            log.info(
                "request", request_id=request_id, method=scope["method"], route=route, status=status,
                ms=round(1000 * seconds, 2), key=scope.get("key_id"), **scope.get("told", {}),
            )  # fmt: skip


class _Limited:
    """The body of a request, as long as it is short and in time."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes, self._whole = receive, 0, False
        self._until: float | None = None

    async def __call__(self) -> Message:
        if self._whole:  # what comes now is the end of the connection
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + SLOWEST_BODY
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, _TOO_SLOW, {"Connection": "close"}) from None
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > LONGEST_BODY:
            raise HTTPException(413, _TOO_LARGE)
        return message
