"""Slow and endless clients, over raw sockets to a real server with what every request passes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

import recommender.serve.connection as connection
import recommender.serve.door as door
from recommender.serve import problems
from recommender.serve.metrics import Metrics
from tests.support.servers import serving, wait_until

Connect = Callable[[], socket.socket]
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
# More than sockets hold on both sides.
LARGE = 64 * 2**20
# Many times what the limits are set to here.
PIECES = 400


def _app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(door.Door, metrics=Metrics())
    problems.install(app)

    @app.get("/")
    async def short() -> str:
        return "short"

    @app.get("/large")
    async def large() -> Response:
        return Response(b"x" * LARGE)

    @app.post("/")
    async def body(request: Request) -> int:
        return len(await request.body())

    @app.post("/unread")
    async def unread() -> Response:
        return Response("no", 401)

    return app


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    monkeypatch.setattr(connection, "SLOWEST_HEAD", 0.2)
    monkeypatch.setattr(connection, "SLOWEST_READER", 0.2)
    monkeypatch.setattr(connection, "LONGEST_HEAD", 4096)
    monkeypatch.setattr(door, "SLOWEST_BODY", 0.8)
    with serving(_app()) as running:
        yield running


@pytest.fixture
def connect(server: uvicorn.Server) -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(("127.0.0.1", server.config.port), timeout=20))


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes; a server that does not is an error of the socket's timeout."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(2**20):
            found += piece
    return bytes(found)


def answer(client: socket.socket) -> bytes:
    """One short answer, of a connection that stays open."""
    found = b""
    while not found.endswith(b'"short"'):
        piece = client.recv(4096)
        assert piece, found
        found += piece
    return found


def drip(client: socket.socket, piece: bytes) -> bool:
    """Send a piece over and over; whether the server has closed the connection."""
    pause = threading.Event()
    for _ in range(PIECES):
        try:
            client.sendall(piece)
        except ConnectionError:
            return True
        pause.wait(0.01)
    return False


def test_a_connection_on_which_nothing_comes_is_closed(connect: Connect) -> None:
    assert rest(connect()) == b""


DRIPS = [(b"", b"\r\n"), (b"GET /", b"a"), (b"GET / HTTP/1.1\r\nHost: here\r\nX-Slow: ", b"a")]


@pytest.mark.parametrize(("begun", "piece"), DRIPS)
def test_headers_that_drip_in_are_not_waited_for(connect: Connect, begun: bytes, piece: bytes) -> None:
    client = connect()
    client.sendall(begun)
    assert drip(client, piece)


@pytest.mark.parametrize(("begun", "piece"), DRIPS)
def test_headers_that_drip_in_after_an_answer_are_not_waited_for(connect: Connect, begun: bytes, piece: bytes) -> None:
    client = connect()
    client.sendall(GET)
    answer(client)
    client.sendall(begun)
    assert drip(client, piece)


def test_a_connection_that_pauses_between_requests_stays_open(connect: Connect) -> None:
    client = connect()
    for _ in range(2):
        client.sendall(GET[:20])
        client.sendall(GET[20:])
        assert answer(client).startswith(b"HTTP/1.1 200")
        threading.Event().wait(0.4)
    client.sendall(GET)
    answer(client)


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\nX-Long: ", b"GET /"])
def test_a_head_without_end_is_not_read(connect: Connect, begun: bytes) -> None:
    client = connect()
    with contextlib.suppress(ConnectionError):
        client.sendall(begun)
        for _ in range(64):
            client.sendall(b"a" * 1024)
    assert b"200" not in rest(client)


def test_headers_below_the_limit_are_read_however_they_arrive(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nX-Long: ")
    for _ in range(3):
        client.sendall(b"a" * 1000)
    client.sendall(b"\r\n\r\n")
    answer(client)


def test_a_body_has_its_own_time(connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 2\r\n\r\na")
    threading.Event().wait(0.4)
    client.sendall(b"b")
    assert rest(client).endswith(b"\r\n\r\n2")


def test_a_body_that_drips_in_is_answered_with_408(connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\na")
    assert rest(client).startswith(b"HTTP/1.1 408")


def test_a_body_that_nobody_reads_is_not_waited_for(connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST /unread HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\na")
    assert client.recv(4096).startswith(b"HTTP/1.1 401")
    assert drip(client, b"a")


def test_whoever_does_not_read_the_answer_is_cut_off(connect: Connect, server: uvicorn.Server) -> None:
    client = connect()
    client.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
    wait_until(lambda: len(server.server_state.connections) == 1)
    wait_until(lambda: not server.server_state.connections)
    assert len(rest(client)) < LARGE


def test_more_connections_than_can_be_served_are_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 2)
    clients = [connect(), connect()]
    for client in clients:
        client.sendall(GET)
        answer(client)
    assert rest(connect()) == b""
    clients[0].sendall(GET)
    answer(clients[0])


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: here\r\nX-A: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nX-A : b\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
    ],
    ids=["two lengths", "two different lengths", "NUL in a header", "space before the colon", "TLS"],
)  # fmt: skip
def test_what_two_servers_could_read_differently_is_refused(connect: Connect, head: bytes) -> None:
    client = connect()
    client.sendall(head)
    assert rest(client).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "given", [b"a\nSet-Cookie: b=c", b"a\rSet-Cookie: b=c", b"a\n\n<script>", b"\xc4\x8d\xc4\x8aX: y"]
)
def test_a_header_of_a_request_adds_none_to_the_answer(connect: Connect, given: bytes) -> None:
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nX-Request-ID: " + given + b"\r\n\r\n")
    answered = rest(client)
    assert answered.startswith(b"HTTP/1.1 ")
    for injected in (b"set-cookie", b"<script>", b"x: y", given):
        assert injected not in answered.lower()
