"""`Connection`: HTTP on one connection, with an end to all that a client can draw out."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from recommender.serve.door import LONGEST_BODY
from recommender.serve.logs import log

# A connection is closed after so many seconds without a whole head of a request: request line and headers.
SLOWEST_HEAD = 10.0
# A client that does not read its answer is not waited for longer.
SLOWEST_READER = 30.0
LONGEST_HEAD = 64 * 1024
# A body in small chunks is this many times as long on the wire.
_LONGEST_REQUEST = 8 * LONGEST_BODY
# Below the usual limit of 1,024 open files, with room for those of the service itself.
MOST_CONNECTIONS = 800


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which by itself limits neither the time that headers take nor their length."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._end("too many connections")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request."""
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        # After an answer, whatever comes is the next head, or a body that nobody reads any more.
        if self._head is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        if self._received > (LONGEST_HEAD if self._head else _LONGEST_REQUEST):
            self._end("request too long")

    def on_message_begin(self) -> None:
        """Count the bytes of each request by themselves; those of a piece that begins several count for the last."""
        super().on_message_begin()
        self._received = 0

    def on_headers_complete(self) -> None:
        """The head is there; `Door` limits the time of the body."""
        if self._head is not None:
            self._head.cancel()
            self._head = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is not used; what is written to it has to be read first."""
        super().timeout_keep_alive_handler()
        self._await_reader()

    def _await_head(self) -> None:
        self._received = 0
        self._head = self.loop.call_later(SLOWEST_HEAD, self._end, "no whole head in time")

    def _await_reader(self) -> None:
        self._reader = self._reader or self.loop.call_later(SLOWEST_READER, self._end, "answer not read in time")

    def _end(self, why: str) -> None:
        """Drop the connection, and what waits to be sent on it: a slow client may not read the end either."""
        log.info("connection dropped", why=why)
        self._stop()
        self.transport.abort()

    def _stop(self) -> None:
        for timer in (self._head, self._reader):
            if timer is not None:
                timer.cancel()
        self._head = self._reader = None
