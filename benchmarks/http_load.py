"""Start `coldstart serve` or `feast serve` for a shop, and load it from asyncio in closed and open loops.

An open loop sends at fixed moments, whether earlier answers have come or not, and times each answer from the moment at
which its request was due: a server that stalls makes all requests late that were due meanwhile (coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Outcome:
    """What a load came to.

    Attributes:
        seconds: of each answer with a status below 400.
        statuses: how many answers had each status.
        elapsed: seconds of the whole.
        server: processor seconds of the service.
        client: processor seconds of this process.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    elapsed: float = 0.0
    server: float = 0.0
    client: float = 0.0

    def ms(self, percentile: float) -> float:
        """A percentile of the answers, in milliseconds."""
        return 1000 * float(np.percentile(self.seconds, percentile))

    def per_second(self) -> float:
        """Answers in a second."""
        return len(self.seconds) / self.elapsed

    def processor_ms(self) -> float:
        """Processor time of the service for each answer, in milliseconds."""
        return 1000 * self.server / max(sum(self.statuses.values()), 1)

    def share(self) -> float:
        """The share of this process in the processor time of both."""
        return self.client / max(self.client + self.server, 1e-9)


class Service:
    """A running service.

    Args:
        program: "coldstart" or "feast".
        options: of it; "{port}" is the port.
        shop: the folder where it runs.
        scratch: where its log is written.
    """

    def __init__(self, program: str, options: Sequence[str], shop: Path, scratch: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        command = [str(Path(sys.executable).with_name(program)), *(one.format(port=self.port) for one in options)]
        self._log = (scratch / f"{program}.log").open("w")
        self._process = subprocess.Popen(command, cwd=shop, stdout=self._log, stderr=self._log, start_new_session=True)

    def close(self) -> None:
        """Stop it and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        self._log.close()

    async def ready(self, said: str, times: int = 1) -> None:
        """Wait until its log says something, so many times.

        Raises:
            AssertionError: it has ended, or takes more than five minutes.
        """
        log = Path(self._log.name)
        for _ in range(3000):
            if log.read_text().count(said) >= times:
                return
            if self._process.poll() is not None:
                break
            await asyncio.sleep(0.1)
        raise AssertionError(f"the service is not ready; its log:\n{log.read_text()[-3000:]}")

    def pids(self) -> list[int]:
        """The processes of its session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(_fields(stat)[3]) == self._process.pid:
                    found.append(int(stat.parent.name))
        return found

    def processor_seconds(self) -> float:
        """Of all its processes."""
        used = (_fields(Path(f"/proc/{pid}/stat")) for pid in self.pids())
        return sum(int(one[11]) + int(one[12]) for one in used) / _TICK

    def largest_mib(self) -> float:
        """The memory of its largest process."""
        return max(int(_fields(Path(f"/proc/{pid}/stat"))[21]) for pid in self.pids()) * _PAGE / 2**20


def _fields(stat: Path) -> list[str]:
    """The fields after the name, which may have spaces."""
    return stat.read_text().rpartition(")")[2].split()


@contextlib.asynccontextmanager
async def serving(shop: Path, scratch: Path, workers: int = 1, events: str | None = None) -> AsyncIterator[Service]:
    """Run `coldstart serve` until the block ends.

    Args:
        shop: the folder with feature_repo and data/bundle.
        scratch: where logs and events are written.
        workers: processes.
        events: the URL of another event log.
    """
    log = events or f"sqlite:///{scratch / 'events.db'}"
    options = ["serve", "--port", "{port}", "--workers", str(workers), "--events", log]
    with contextlib.closing(Service("coldstart", options, shop, scratch)) as service:
        await service.ready('"event": "ready"', workers)
        yield service


@contextlib.asynccontextmanager
async def feast_serving(shop: Path, scratch: Path) -> AsyncIterator[Service]:
    """Run `feast serve` on the shop's repository until the block ends; with one worker, which it does not replace."""
    options = ["-c", str(shop / "feature_repo"), "serve", "-p", "{port}", "--no-access-log", "--max-requests", "0"]
    with contextlib.closing(Service("feast", options, shop, scratch)) as service:
        await service.ready("Application startup complete")
        yield service


class _Link:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: bytes) -> int:
        if self._streams is None or self._streams[0].at_eof():  # a server ends connections that are idle for long
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % path.encode()
        writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        return int(head[9:12])


async def closed(
    service: Service, path: str, bodies: Iterator[dict[str, Any]], clients: int, seconds: float
) -> Outcome:
    """Clients that each ask again as soon as they have an answer."""
    return await _measured(service, _closed(service.port, path, bodies, clients, seconds))


async def open_loop(
    service: Service, path: str, bodies: Iterator[dict[str, Any]], rate: float, seconds: float
) -> Outcome:
    """So many requests a second, at fixed moments."""
    return await _measured(service, _open(service.port, path, bodies, rate, seconds))


async def _measured(service: Service, run: Any) -> Outcome:
    server, client, began = service.processor_seconds(), time.process_time(), time.perf_counter()
    outcome: Outcome = await run
    outcome.elapsed = time.perf_counter() - began
    outcome.server, outcome.client = service.processor_seconds() - server, time.process_time() - client
    return outcome


async def _closed(
    port: int, path: str, bodies: Iterator[dict[str, Any]], clients: int, seconds: float
) -> Outcome:
    outcome, until = Outcome(), time.perf_counter() + seconds

    async def client() -> None:
        link = _Link(port)
        while (began := time.perf_counter()) < until:
            _note(outcome, await link.ask(path, json.dumps(next(bodies)).encode()), time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return outcome


async def _open(port: int, path: str, bodies: Iterator[dict[str, Any]], rate: float, seconds: float) -> Outcome:
    outcome, free = Outcome(), [_Link(port) for _ in range(4)]

    async def one(due: float, body: bytes) -> None:
        link = free.pop() if free else _Link(port)
        _note(outcome, await link.ask(path, body), time.perf_counter() - due)
        free.append(link)

    began, asked = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        body = json.dumps(next(bodies)).encode()
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(one(due, body)))
    await asyncio.gather(*asked)
    return outcome


def _note(outcome: Outcome, status: int, seconds: float) -> None:
    outcome.statuses[status] += 1
    if status < 400:
        outcome.seconds.append(seconds)
