"""A small real shop, brought up once with the real commands, and a stub encoder for unit tests of SQL."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "examples" / "online_retail"


def pytest_report_header() -> str:
    return f"duckdb {duckdb.__version__}"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither use nor fill the machine's vector cache."""
    home = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


class StubEncoder:
    """No model: a text's vector is drawn from its hash. For unit tests of what happens around the encoder."""

    name = backend = fingerprint = "stub"
    dimensions = 4
    max_tokens = 8
    device = "cpu"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.prompts: set[str] = set()

    def truncated(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text.split()) > self.max_tokens for text in texts], dtype=bool)

    def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
        unique = list(dict.fromkeys(texts))
        self.prompts.add(prompt)
        self.seen += unique
        if "poison" in unique:
            raise ValueError("this text cannot be encoded")
        vectors = {text: self.vector(text) for text in unique}
        return np.array([vectors[text] for text in texts], dtype=np.float32).reshape(len(texts), 4)

    @staticmethod
    def vector(text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        vector = np.random.default_rng(seed).normal(size=4).astype(np.float32)
        return vector / np.linalg.norm(vector)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubEncoder:
    encoder = StubEncoder()
    monkeypatch.setattr("coldstart_udfs.arrow_functions.shared_encoder", lambda model, cache, backend: encoder)
    return encoder


@pytest.fixture
def con(stub: StubEncoder) -> Iterator[duckdb.DuckDBPyConnection]:
    from coldstart_udfs import connect

    with connect() as connection:
        yield connection


Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of this environment, in a process of its own, as a user runs it."""
    program = Path(sys.executable).with_name(str(command[0]))
    return subprocess.run(
        [str(program), *map(str, command[1:])], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def must(*command: str | Path, cwd: Path) -> str:
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own, as "host:port", that keeps nothing on disk."""
    program = shutil.which("redis-server")
    assert program, "these tests need redis-server (Debian: apt-get install redis-server)"
    port = free_port()
    log = (tmp_path_factory.mktemp("redis") / "log").open("w")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with log, subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(log.name).parent) as server:
        try:
            wait_for(port, server)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[Any], seconds: float = 60) -> None:
    """Until a server of ours answers on its port."""
    until = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"no answer on port {port} after {seconds:.0f} s; exit status {server.poll()}")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """220 customers of Online Retail: ingested, embedded, applied, materialised. Every other one has a description.

    Online Retail's customers wrote nothing; here the text of a product stands for the words of half of them.
    """
    folder = tmp_path_factory.mktemp("shops") / "shop"
    must("coldstart", "init", folder, cwd=folder.parent)
    raw = folder / "raw"
    raw.mkdir()
    with duckdb.connect() as con:
        con.execute(f"""
            COPY (
                SELECT * FROM '{RAW}/transactions.parquet'
                WHERE customer_id IN (
                    SELECT customer_id FROM '{RAW}/transactions.parquet' WHERE customer_id IS NOT NULL
                    GROUP BY 1 HAVING count(*) BETWEEN 10 AND 60 ORDER BY hash(customer_id) LIMIT 220
                )
            ) TO '{raw}/transactions.parquet'
        """)
    shutil.copy(RAW / "ingest.sql", raw)
    must("coldstart", "ingest", "raw", cwd=folder)
    with duckdb.connect() as con:
        users = folder / "data" / "users.parquet"
        con.execute(f"CREATE TABLE users AS FROM '{users}'")
        con.execute(f"CREATE TABLE items AS FROM '{folder / 'data' / 'items.parquet'}'")
        con.execute("""
            UPDATE users SET description = (SELECT description FROM items ORDER BY item_id LIMIT 1)
            WHERE hash(user_id) % 2 = 0
        """)
        con.execute(f"COPY users TO '{users}'")
    must("coldstart", "profiles", cwd=folder)
    must("feast", "-c", "feature_repo", "apply", cwd=folder)
    must("feast", "-c", "feature_repo", "materialize", "2010-01-01T00:00:00", "2012-01-01T00:00:00", cwd=folder)
    return folder
