"""What docs/how-to/scale-out.md says can be loaded, and its figures are those of the stores."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.commands import ROOT

PAGE = (ROOT / "docs" / "how-to" / "scale-out.md").read_text(encoding="utf-8")


@pytest.mark.slow  # it needs Ray
def test_the_feature_store_yaml_for_a_cluster_is_one_that_feast_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feast.repo_config import load_repo_config

    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "feature_store.yaml"
    path.write_text(text)
    monkeypatch.setenv("REGISTRY_PASSWORD", "one")
    monkeypatch.setenv("REDIS_PASSWORD", "two")
    config = load_repo_config(tmp_path, path)

    assert type(config.registry).__name__ == "SqlRegistryConfig"
    # pragma: allowlist nextline secret
    assert config.registry.path == "postgresql+psycopg://feast:one@registry.internal:5432/feast"
    assert type(config.online_store).__name__ == "RedisOnlineStoreConfig"
    assert config.online_store.connection_string.endswith("password=two")
    assert config.materialization_config.pull_latest_features
    for part in ("registry", "online_store"):
        unknown = set(getattr(config, part).model_dump()) - set(type(getattr(config, part)).model_fields)
        assert not unknown, f"{part} has keys that Feast does not know: {unknown}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_ray_parts_of_the_feature_store_yaml_are_known_to_feast() -> None:
    import yaml
    from feast.infra.compute_engines.ray.config import RayComputeEngineConfig
    from feast.infra.offline_stores.contrib.ray_offline_store.ray import RayOfflineStoreConfig

    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    given = yaml.safe_load(text)
    for part, known in (("batch_engine", RayComputeEngineConfig), ("offline_store", RayOfflineStoreConfig)):
        known(**given[part])
        assert set(given[part]) <= set(known.model_fields)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_an_entity_takes_as_many_bytes_online_as_the_page_says(redis_server: str, tmp_path: Path) -> None:
    import redis
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Array, Float32, Int64, String

    rows, fingerprint = 2_000, "onnx-int8-384-0123456789abcdef"
    vectors = np.random.default_rng(0).normal(size=(rows, 384)).astype(np.float32)
    frame = pd.DataFrame({
        "item_id": [f"item-{row:09}" for row in range(rows)], "event_timestamp": datetime.now(UTC),
        "item_profile": list(vectors), "item_evidence": 7, "item_profile_fingerprint": fingerprint,
        "item_embedding": list(vectors), "item_description": "twenty-seven characters, ok",
        "item_text_fingerprint": fingerprint,
    })  # fmt: skip
    frame.to_parquet(tmp_path / "items.parquet")
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    source = FileSource(name="items", path=str(tmp_path / "items.parquet"), timestamp_field="event_timestamp")
    views = [
        FeatureView(name="profiles", entities=[item], source=source, schema=[
            Field(name="item_profile", dtype=Array(Float32)), Field(name="item_evidence", dtype=Int64),
            Field(name="item_profile_fingerprint", dtype=String),
        ]),
        FeatureView(name="texts", entities=[item], source=source, schema=[
            Field(name="item_embedding", dtype=Array(Float32)), Field(name="item_description", dtype=String),
            Field(name="item_text_fingerprint", dtype=String),
        ]),
    ]  # fmt: skip
    server = redis.Redis.from_url(f"redis://{redis_server}")
    before = server.info("memory")["used_memory"]
    sqlite = tmp_path / "online.db"
    took = {}
    for kind, settings in (
        ("Redis", {"connection_string": redis_server}), ("SQLite", {"path": str(sqlite)}),
    ):  # fmt: skip
        config = RepoConfig(
            project=f"scale_{kind.lower()}", provider="local", registry=str(tmp_path / f"{kind}.db"),
            online_store={"type": kind.lower(), **settings}, entity_key_serialization_version=3,
        )  # fmt: skip
        store = FeatureStore(config=config)
        store.apply([item, source, *views])
        for view in views:
            names = ["item_id", "event_timestamp", *(field.name for field in view.features)]
            store.write_to_online_store(view.name, df=frame[names])
        used = server.info("memory")["used_memory"] - before if kind == "Redis" else sqlite.stat().st_size
        took[kind] = used / rows
    server.close()
    for kind, measured in took.items():
        (said,) = re.findall(rf"\| {kind} \| 2,000 \| .* \| ([\d,]+) \|\n", PAGE)
        assert measured == pytest.approx(float(said.replace(",", "")), rel=0.05)
