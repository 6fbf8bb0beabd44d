"""Servers that run in a thread of the tests' process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def serving(app: Any, *, lifespan: bool = False) -> Iterator[uvicorn.Server]:
    """An application behind the service's own connections, on a free port of this machine: `config.port`."""
    server = uvicorn.Server(uvicorn.Config(
        app, http="recommender.serve.connection:Connection", log_config=None, access_log=False,
        lifespan="on" if lifespan else "off", timeout_graceful_shutdown=1,
    ))  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.config.port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            assert server.started
            yield server
        finally:
            server.should_exit = True
            thread.join()


def wait_until(come: Callable[[], bool]) -> None:
    """Until something has come; an error after a minute."""
    waiting = threading.Event()
    for _ in range(3000):
        if come():
            return
        waiting.wait(0.02)
    raise AssertionError("it did not come")
