"""A small real shop, brought up once with the real commands, and a stub encoder for unit tests of SQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import prometheus_client  # noqa: F401  (before Feast, which makes it share numbers between the services of this process)
import pytest

from tests.support.commands import RAW, free_port, must, wait_for
from tests.support.encoders import StubEncoder


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


@pytest.fixture
def stub() -> StubEncoder:
    return StubEncoder()


@pytest.fixture
def con(stub: StubEncoder) -> Iterator[duckdb.DuckDBPyConnection]:
    from coldstart_udfs import connect

    with connect(model=stub) as connection:  # type: ignore[arg-type]
        yield connection


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


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL of our own, as "user@host:port", in a new folder. It does not run as root."""
    programs = [Path(name).parent for name in [shutil.which("initdb")] if name]
    programs += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "these tests need PostgreSQL (Debian: apt-get install postgresql)"
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        if owner:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        control = [str(programs[-1] / "pg_ctl"), "-D", str(data), "-w"]

        def must_run(*command: str) -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)

        must_run(*control, "init", "-o", "-U shop --auth trust --no-sync -E UTF8 --locale C")
        must_run(*control, "start", "-l", str(folder / "log"), "-o", f"-p {port} -h 127.0.0.1 -k {folder}")
        try:
            yield f"shop@127.0.0.1:{port}"
        finally:
            must_run(*control, "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


@pytest.fixture(scope="session")
def unapplied_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of four users and four items with its sources, before `feast apply`; copy it before it is applied."""
    from tests.support.small_shop import build

    shop = tmp_path_factory.mktemp("unapplied") / "shop"
    build(shop)
    return shop
