"""Embeddings and behaviour profiles, made in DuckDB by the SQL files of the Feast repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from coldstart_udfs import connect
from coldstart_udfs.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from coldstart_udfs.profile import ENRICHMENT_FILE, Enrichment
from recommender.data import load

SOURCES = ("item_descriptions", "user_descriptions", "item_profiles", "user_profiles")


def build_profiles(
    data: Path, repo: Path, *, report: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> dict[str, int]:
    """Write the parquet sources of a Feast repository from the contract's tables.

    Runs `sql/descriptions.sql` of the repository once and `sql/profiles.sql` for each snapshot.

    Args:
        data: the folder with items, users and interactions.
        repo: the Feast repository; its `data` folder receives the files.
        report: told (stage, done, total).

    Returns:
        The number of rows by source.

    Raises:
        ColdStartError: the data contract is broken, or a SQL file is missing or fails.
    """
    scripts = {name: _read(repo / "sql" / f"{name}.sql") for name in ("descriptions", "profiles")}
    settings = Enrichment.of_repo(repo)
    encoder = shared_encoder(settings.model, backend=settings.backend)
    # What "auto" came to here is what every reader of these vectors opens.
    settings = replace(settings, backend=encoder.backend)
    fingerprint = encoder.fingerprint
    with connect(enrichment=settings) as con:
        load(con, data)
        # Each thread holds its own lists of vectors: one thread took 2.6 GB and was no slower than two with 3.4.
        con.execute("SET threads = 1; SET preserve_insertion_order = false")
        con.execute("SET VARIABLE fingerprint = $1", [fingerprint])
        texts = _distinct_descriptions(con)
        before = encoder.stats.hits + encoder.stats.encoded
        encoder.on_progress = lambda stats: report("embeddings", stats.hits + stats.encoded - before, texts)
        try:
            _run(con, repo / "sql" / "descriptions.sql", scripts["descriptions"])
        finally:
            encoder.on_progress = None
        moments = snapshots(con)
        previous = datetime(1, 1, 1, tzinfo=UTC)
        for number, moment in enumerate(moments):
            report("profiles as of each month", number, len(moments))
            con.execute("SET VARIABLE previous = $1::TIMESTAMPTZ", [previous])
            con.execute("SET VARIABLE as_of = $1::TIMESTAMPTZ", [moment])
            _run(con, repo / "sql" / "profiles.sql", scripts["profiles"])
            previous = moment
        report("profiles as of each month", len(moments), len(moments))
        with staged(repo / "data") as scratch:
            for source in SOURCES:
                key = source.partition("_")[0] + "_id"
                con.execute(
                    f"COPY (FROM {source} ORDER BY event_timestamp, {key}) TO '{scratch / source}.parquet' "
                    f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{embedding_fingerprint: '{fingerprint}'}})"
                )
        settings.write(repo / ENRICHMENT_FILE)
        return {source: con.sql(f"SELECT count(*) FROM {source}").fetchall()[0][0] for source in SOURCES}


def snapshots(con: duckdb.DuckDBPyConnection) -> list[datetime]:
    """The moments that profiles are taken at: the first of each month, then just after the last event."""
    rows = con.execute("""
        WITH span AS (SELECT min(event_timestamp) AS low, max(event_timestamp) AS high FROM interactions)
        SELECT unnest(range(date_trunc('month', low) + INTERVAL 1 MONTH, high, INTERVAL 1 MONTH)) FROM span
    """).fetchall()
    last = con.execute("SELECT max(event_timestamp) FROM interactions").fetchall()[0][0]
    moments = [row[0].astimezone(UTC) for row in rows]
    return [*moments, last.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)]


def _distinct_descriptions(con: duckdb.DuckDBPyConnection) -> int:
    both = "SELECT description FROM items UNION ALL SELECT description FROM users"
    return int(con.execute(f"SELECT count(DISTINCT description) FROM ({both})").fetchall()[0][0])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ColdStartError(f"{path} does not exist; `coldstart init` makes a repository that has it") from None


def _run(con: duckdb.DuckDBPyConnection, path: Path, script: str) -> None:
    try:
        con.execute(script)
    except duckdb.Error as error:
        raise ColdStartError(f"{path} failed: {error}") from None
