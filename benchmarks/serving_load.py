"""Start `feast serve` for a repository, and send requests to it from many clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Outcome:
    """Seconds of each response, and the errors."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(repo: Path, *options: str) -> Iterator[int]:
    """Run `feast serve` on a free port until the block ends; yield the port when the server responds."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    log = repo / "serve.log"
    program = Path(sys.executable).with_name("feast")
    # By default, Feast replaces a worker after 1,000 requests; a single worker is then unavailable for seconds.
    told = ["-p", str(port), "--no-access-log", "--max-requests", "0", *options]
    command = [str(program), "-c", str(repo), "serve", *told]
    # A separate process group, because the workers are the server's children.
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True) as server:
        try:
            _wait(port, server, log)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def ask(port: int, body: dict[str, Any], connection: http.client.HTTPConnection | None = None) -> dict[str, list[Any]]:
    """Request online features; return the values by feature name.

    Raises:
        AssertionError: the response is an error; the message contains it.
    """
    with contextlib.ExitStack() as stack:
        link = connection
        if link is None:
            link = stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)))
        link.request("POST", "/get-online-features", json.dumps(body), {"Content-Type": "application/json"})
        response = link.getresponse()
        text = response.read()
    if response.status != 200:
        raise AssertionError(f"status {response.status}: {text.decode()[:500]}")
    answer = json.loads(text)
    names = answer["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, answer["results"], strict=True)}


def load(port: int, bodies: Sequence[dict[str, Any]], clients: int, seconds: float) -> Outcome:
    """Ask from `clients` threads at once, each on a connection that it keeps, for some seconds."""
    outcome = Outcome()
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for turn in range(10**9):
            if time.monotonic() > until:
                return link.close()
            began = time.perf_counter()
            try:
                ask(port, bodies[(number + turn) % len(bodies)], link)
                outcome.seconds.append(time.perf_counter() - began)
            except Exception as error:
                outcome.errors.append(repr(error))
                link.close()
        return None

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def _wait(port: int, server: subprocess.Popen[Any], log: Path) -> None:
    for _ in range(1200):
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(link):
            link.request("GET", "/health")
            if link.getresponse().status == 200:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"feast serve does not answer on port {port}; its log:\n{log.read_text()[-3000:]}")
