"""Online retrieval of enriched profiles, in process and over HTTP: part of `make bench-feast`.

The comparison is an on-demand view over the same inputs that returns the stored profile unchanged: the cost of Feast
without any arithmetic. Texts are real; a profile is the sum of the embeddings of two of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import Row, interleaved, short_texts
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, OnDemandFeatureView, ValueType
from feast.types import Array, Float32, Int64, String
from serving_load import load, serving

from coldstart_udfs import Encoder
from coldstart_udfs.feast import enriched_views

USERS = 1_000
FLOOR = """\
def passed(inputs):
    return {"passed_profile": list(inputs["user_profile"])}
"""


STORE = """
project: bench
provider: local
registry: registry.db
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""


def rows() -> list[Row]:
    """Measure in process, then over HTTP with `feast serve`."""
    with tempfile.TemporaryDirectory() as folder:
        return [*in_process(prepared(Path(folder))), *over_http(Path(folder))]


def in_process(store: FeatureStore) -> list[Row]:
    """Medians for one user and for 1,000 users."""
    result: list[Row] = []
    for count, repeats in ((1, 200), (USERS, 4)):
        asked = [{"user_id": f"user {number}"} for number in range(count)]
        seconds = interleaved({
            "plain": reading(store, "user_profiles:user_profile", asked, repeats),
            "floor": reading(store, "passed:passed_profile", asked, repeats),
            "enriched": reading(store, "user_enriched:user_enriched_profile", asked, repeats),
        })  # fmt: skip
        ms = {name: 1000 * value / repeats for name, value in seconds.items()}
        what = f"enriched profile of {count:,} user{'s' * (count > 1)} online, SQLite, `.to_dict()`"
        result += [
            (what, f"a view that returns the profile unchanged ({ms['floor']:.2f} ms)",
             f"**{ms['enriched'] / ms['floor']:.2f}×** ({ms['enriched']:.2f} ms)"),
            (what, f"a plain read of the stored profile ({ms['plain']:.2f} ms)",
             f"**{ms['enriched'] / ms['plain']:.2f}×** (the view that returns it unchanged: "
             f"{ms['floor'] / ms['plain']:.2f}×)"),
        ]  # fmt: skip
    return result


def over_http(repo: Path) -> list[Row]:
    """Latency with one client, 1 and 100 users per request, then 32 clients for a minute; one worker, same machine."""
    result: list[Row] = []
    with serving(repo) as port:
        for users, clients, seconds in ((1, 1, 15), (100, 1, 15), (1, 32, 60)):
            bodies = [
                {"features": ["user_enriched:user_enriched_profile"],
                 "entities": {"user_id": [f"user {(start + n) % USERS}" for n in range(users)]}}
                for start in range(0, USERS, 7)
            ]  # fmt: skip
            load(port, bodies, clients, 2)
            outcome = load(port, bodies, clients, seconds)
            median, slowest = 1000 * np.percentile(outcome.seconds, [50, 99])
            many = f"{clients} client{'s' * (clients > 1)}"
            result.append((
                f"`feast serve` over HTTP, {users} user{'s' * (users > 1)} per request, {many}, {seconds} s", "",
                f"p50 {median:.1f} ms, p99 {slowest:.1f} ms; {len(outcome.seconds):,} answers, "
                f"{len(outcome.errors)} errors",
            ))  # fmt: skip
    return result


def reading(store: FeatureStore, feature: str, asked: Sequence[Mapping[str, Any]], repeats: int) -> Callable[[], None]:
    """Return a call that reads one feature `repeats` times."""
    name = feature.partition(":")[2]

    def read() -> None:
        for _ in range(repeats):
            found = store.get_online_features([feature], asked).to_dict()
            assert len(found[name]) == len(asked)

    return read


def prepared(folder: Path) -> FeatureStore:
    """Return a store with 1,000 users online, with the views of the template."""
    texts = short_texts(USERS)
    embeddings = Encoder().encode(texts)
    (folder / "feature_store.yaml").write_text(STORE, encoding="utf-8")
    store = FeatureStore(repo_path=str(folder))
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    ids = [f"user {number}" for number in range(USERS)]
    common = {"user_id": ids, "event_timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    tables = {
        "user_profiles": pd.DataFrame({
            **common, "user_profile": list(embeddings + np.roll(embeddings, 1, axis=0)), "user_evidence": 2,
            "user_profile_fingerprint": Encoder().fingerprint,
        }),
        "user_descriptions": pd.DataFrame({
            **common, "user_embedding": list(embeddings), "user_text_fingerprint": Encoder().fingerprint,
        }),
    }  # fmt: skip
    types = {"user_evidence": Int64, "user_profile": Array(Float32), "user_embedding": Array(Float32)}
    views = []
    for table, frame in tables.items():
        path = str(folder / f"{table}.parquet")
        frame.to_parquet(path)
        fields = [Field(name=name, dtype=types.get(name, String)) for name in frame.columns[2:]]
        source = FileSource(name=f"{table}_source", path=path, timestamp_field="event_timestamp")
        views.append(FeatureView(name=table, entities=[user], schema=fields, source=source))
    namespace: dict[str, Any] = {}
    exec(FLOOR, namespace)  # noqa: S102 - the constant above
    enriched = enriched_views("user", views, description="user_embedding")
    floor = OnDemandFeatureView(
        name="passed", sources=views, schema=[Field(name="passed_profile", dtype=Array(Float32))],
        mode="python", udf=namespace["passed"], udf_string=FLOOR,
    )  # fmt: skip
    store.apply([user, *views, enriched.serving, floor])
    for table, frame in tables.items():
        store.write_to_online_store(table, frame)
    return store


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
