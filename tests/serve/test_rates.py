"""How often who may ask, with and without the Redis that counts."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import recommender.serve.rates as rates
from coldstart_udfs.errors import ColdStartError
from recommender.serve.metrics import Metrics
from recommender.serve.rates import Rates
from tests.support.commands import free_port, wait_for


@pytest.fixture
def silent() -> Iterator[str]:
    """A Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"


def alone(metrics: Metrics) -> float:
    return float(metrics.registry.get_sample_value("coldstart_rates_alone_total") or 0)


def asked(where: str, times: int, metrics: Metrics) -> list[int]:
    async def ask() -> list[int]:
        counted = Rates("3/minute", where, metrics)
        try:
            return [await counted.wait("shop") for _ in range(times)]
        finally:
            await counted.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("where", ["redis://127.0.0.1:1", "silent"])
def test_while_redis_does_not_answer_each_process_counts_by_itself(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_PAUSE", 60.0)
    metrics = Metrics()
    with capture_logs() as lines:
        waits = asked(request.getfixturevalue("silent") if where == "silent" else where, 5, metrics)
    assert waits[:3] == [0, 0, 0]
    assert min(waits[3:]) >= 1
    assert alone(metrics) == 5
    assert [line["event"] for line in lines] == ["rates counted in each process"]


def test_what_redis_counts_is_not_counted_in_memory() -> None:
    metrics = Metrics()
    assert asked("memory://", 4, metrics)[:3] == [0, 0, 0]
    assert alone(metrics) == 0


@pytest.mark.parametrize("where", ["redsi://:secret@here", "nowhere", "redis://:secret@a:b"])
def test_a_place_that_cannot_count_is_said_before_the_service_starts(where: str) -> None:
    with pytest.raises(ColdStartError, match=r"cannot be counted in .*; give memory:// or redis://HOST:PORT") as error:
        Rates("3/minute", where)
    assert "secret" not in str(error.value)


@pytest.mark.service
def test_when_redis_answers_again_it_counts_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rates, "_PAUSE", 0.0)
    port, metrics = free_port(), Metrics()
    redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]

    async def ask() -> list[int]:
        workers = [Rates("3/minute", f"redis://127.0.0.1:{port}", metrics) for _ in range(2)]
        assert await workers[0].wait("shop") == 0
        with subprocess.Popen(redis, stdout=subprocess.DEVNULL) as server:
            try:
                wait_for(port, server)
                return [await workers[number % 2].wait("shop") for number in range(4)]
            finally:
                for worker in workers:
                    await worker.close()
                server.terminate()

    with capture_logs() as lines:
        waits = asyncio.run(ask())
    assert waits[:3] == [0, 0, 0]
    assert waits[3] >= 1
    assert alone(metrics) == 1
    assert [line["event"] for line in lines] == [
        "rates counted in each process", "rates counted over all processes again"
    ]  # fmt: skip
