"""Historical retrieval with Feast's DuckDB store and with this one, and enrichment: part of `make bench-feast`.

100,000 entity rows, 4,167 users with 24 versions each, one feature of 384 floats in a file written by pandas. Each run
is a separate process, because memory is the peak of a process. Imports and opening the registry are not timed.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import ROUNDS, Row, short_texts

ENTITY_ROWS, USERS, VERSIONS, WIDTH = 100_000, 4_167, 24, 384
OURS = "coldstart_udfs.feast.ColdStartDuckDBOfflineStore"
STORES = {"ours": OURS, "stock": "duckdb"}


def rows() -> list[Row]:
    """Measure in a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder)
        return [*history(folder), *enrichment(folder)]


def history(folder: Path) -> list[Row]:
    """The same point-in-time joins with both stores; checksums of the results must be equal."""
    found: list[Row] = []
    for what, when in {"late": "after all versions", "join": "spread over the versions"}.items():
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in STORES}
        for _ in range(ROUNDS):
            for name, store in STORES.items():
                runs[name].append(process(what, store, folder))
        sums = {run["checksum"] for every in runs.values() for run in every}
        assert len(sums) == 1, f"the stores differ: {sums}"
        ours, stock = (medians(runs[name]) for name in STORES)
        found += [
            (f"point-in-time join, entity rows {when}", "Feast's `duckdb` store",
             f"**{stock['seconds'] / ours['seconds']:.1f}×** as fast ({ours['seconds']:.2f} s, "
             f"{stock['seconds']:.2f} s; processor time {ours['worked']:.2f} s, {stock['worked']:.2f} s)"),
            ("its memory", "Feast's `duckdb` store",
             f"**{ours['peak'] / stock['peak']:.2f}×** ({memory(ours)}, {memory(stock)}); after the imports "
             f"{(ours['peak'] - ours['start']) / (stock['peak'] - stock['start']):.2f}×"),
        ]  # fmt: skip
    return found


def enrichment(folder: Path) -> list[Row]:
    """Profiles and enriched profiles of every row with this store: from texts, and from stored embeddings."""
    sources = {"texts", "stored"}
    runs = {what: [process(what, OURS, folder) for _ in range(ROUNDS)] for what in sorted(sources, reverse=True)}
    told = {"texts": "from texts whose vectors are in the vector cache", "stored": "from stored embeddings"}
    found: list[Row] = []
    for what, run in ((what, medians(every)) for what, every in runs.items()):
        about = f"`get_historical_features` with enriched profiles {told[what]}, {ENTITY_ROWS:,} rows"
        found += [
            (about, "", f"**{run['seconds']:.2f} s** (processor time {run['worked']:.2f} s)"),
            ("its memory", "", f"**{memory(run)}**"),
        ]
    return found


def process(what: str, store: str, folder: Path) -> dict[str, Any]:
    """Run one measurement in a separate process."""
    print(f"{what} {store} …", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, what, store, str(folder)], stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def one(what: str, store: str, folder: Path) -> dict[str, Any]:
    """Measure one retrieval in this process."""
    import pandas as pd

    enriched = what in ("texts", "stored")
    features = open_store(store, folder, description=what if enriched else None)
    entities = pd.read_parquet(folder / "entities.parquet")
    if what == "late":
        entities["event_timestamp"] += pd.Timedelta(days=40)
    asked = ["users:profile"] if not enriched else [
        "stored:user_profile", "user_enriched_training:user_enriched_profile", "user_enriched_training:user_is_cold",
    ]  # fmt: skip
    start = peak()
    began, worked = time.perf_counter(), time.process_time()
    table = features.get_historical_features(entities, asked).to_arrow()
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    assert table.num_rows == ENTITY_ROWS
    result = {"seconds": seconds, "worked": worked, "start": start, "peak": peak()}
    return result if enriched else {**result, "checksum": checksum(table)}


def open_store(kind: str, folder: Path, *, description: str | None) -> Any:
    """Apply a repository with the generated files; the enriched views import the encoder."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Array, Float32, Int64, String

    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    users = FeatureView(
        name="users", entities=[user], ttl=timedelta(days=365), schema=[Field(name="profile", dtype=Array(Float32))],
        source=FileSource(
            name="users", path=str(folder / "users.parquet"), timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )  # fmt: skip
    objects: list[Any] = [user, users]
    if description:
        from coldstart_udfs.feast import enriched_views

        stored = FeatureView(
            name="stored", entities=[user],
            schema=[
                Field(name="user_profile", dtype=Array(Float32)), Field(name="user_evidence", dtype=Int64),
                Field(name="user_embedding", dtype=Array(Float32)), Field(name="user_text_fingerprint", dtype=String),
                Field(name="user_description", dtype=String),
            ],
            source=FileSource(name="stored", path=str(folder / "stored.parquet"), timestamp_field="event_timestamp"),
        )  # fmt: skip
        views = enriched_views(
            "user", stored, description="user_description" if description == "texts" else "user_embedding",
            request_description=False,
        )
        objects += [stored, views.training]
    place = folder / f"{kind.rpartition('.')[2]}.db"
    config = RepoConfig(
        project="bench", provider="local", registry=str(place), offline_store={"type": kind}, online_store=None,
        entity_key_serialization_version=3, repo_path=folder,
    )  # fmt: skip
    store = FeatureStore(config=config)
    store.apply(objects)
    return store


def generate(folder: Path) -> None:
    """Write random vectors, and entity rows spread over the time of the versions, a few before the first."""
    from coldstart_udfs.encoder.encoder import shared_encoder

    texts = short_texts(USERS)
    shared_encoder().encode(texts)
    drawn = f"list_transform(range({WIDTH}), lambda j: (hash(i * {WIDTH} + j + {{}}) % 100000) / 100000)::FLOAT[]"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"""
            COPY (
                SELECT 'u' || i // {VERSIONS} AS user_id, {drawn.format(0)} AS profile,
                    TIMESTAMPTZ '2024-01-01' + to_hours((i % {VERSIONS}) * 24 + (hash(i) % 7)::INT) AS event_timestamp,
                    TIMESTAMPTZ '2024-02-01' AS created
                FROM range({USERS * VERSIONS}) t(i)
            ) TO '{folder}/users.parquet'
        """)
        # pandas and pyarrow write pages of 1 MB; DuckDB writes pages of 100 MB.
        pq.write_table(pq.read_table(folder / "users.parquet"), folder / "users.parquet")
        con.execute(f"""
            COPY (
                SELECT 'u' || i AS user_id, {drawn.format(1)} AS user_profile, i AS user_evidence,
                    {drawn.format(2)} AS user_embedding, '{shared_encoder().fingerprint}' AS user_text_fingerprint,
                    $texts[1 + i % {len(texts)}] AS user_description,
                    TIMESTAMPTZ '2024-01-01' AS event_timestamp
                FROM range({USERS}) t(i)
            ) TO '{folder}/stored.parquet'
        """, {"texts": texts})
        con.execute(f"""
            COPY (
                SELECT 'u' || hash(i) % {USERS} AS user_id, i AS row,
                    TIMESTAMPTZ '2024-01-01' + to_minutes((hash(i + 7) % 40000)::INT) AS event_timestamp
                FROM range({ENTITY_ROWS}) t(i)
            ) TO '{folder}/entities.parquet'
        """)


def checksum(table: pa.Table) -> str:
    """Hash every value, in the order of the entity rows; NULL differs from an empty list."""
    table = table.take(np.argsort(table["row"].to_numpy()))
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        column = table[name].combine_chunks()
        digest.update(f"{name} {column.null_count}".encode())
        if pa.types.is_list(column.type):
            digest.update(np.diff(column.offsets.to_numpy()).tobytes())
            digest.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
            digest.update(column.flatten().to_numpy().tobytes())
        else:
            digest.update(repr(column.to_pylist()).encode())
    return digest.hexdigest()


def peak() -> float:
    """The peak memory of this process, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in ("seconds", "worked", "start", "peak")}


def memory(run: dict[str, float]) -> str:
    """Format the peak, and the part of it after the imports."""
    return f"{run['peak']:,.0f} MiB [{run['peak'] - run['start']:,.0f}]"


if __name__ == "__main__":
    _, what, store, place = sys.argv
    print(json.dumps(one(what, store, Path(place))))
