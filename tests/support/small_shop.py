"""A shop of four users and four items, from the template's own definitions, for the tests of the feature store."""

from __future__ import annotations

import importlib.util
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, FeatureViewState, OnDemandFeatureView

from coldstart_udfs.feast.operations.stores import open_store
from recommender.cli.app import init
from recommender.pipeline.profiles import build_profiles

USERS = {"ann": "I collect brass lamps, mostly Edwardian", "bob": None, "cy": "party supplies for my café ☕",
         "dan": "garden cafe, vintage enamel signs"}  # fmt: skip
ITEMS = {"lamp": "brass table lamp", "pot": "enamel garden pot", "flag": "paper party flags", "mug": "blue china mug"}
BOUGHT = [("ann", "lamp"), ("ann", "mug"), ("bob", "flag"), ("bob", "mug"), ("cy", "flag"), ("cy", "lamp"),
          ("dan", "pot")]  # fmt: skip
LAST = datetime(2011, 6, 1, tzinfo=UTC)


def apply(repo: Path) -> FeatureStore:
    """What `feast apply` does, in this process."""
    spec = importlib.util.spec_from_file_location("definitions_of_a_test", repo / "feature_definitions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = (Entity, FeatureView, OnDemandFeatureView, FeatureService)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)
        FeatureStore(repo_path=str(repo)).apply([value for value in vars(module).values() if isinstance(value, kinds)])
    return open_store(repo)


def build(shop: Path) -> None:
    """Its folder with tables and Feast sources, before `feast apply`."""
    init(shop)
    data = shop / "data"
    data.mkdir()
    with duckdb.connect() as con:
        con.execute("CREATE TABLE users (user_id VARCHAR, description VARCHAR, country VARCHAR)")
        con.executemany("INSERT INTO users VALUES (?, ?, 'France')", list(USERS.items()))
        con.execute("CREATE TABLE items (item_id VARCHAR, description VARCHAR, price DOUBLE, size VARCHAR)")
        con.executemany("INSERT INTO items VALUES (?, ?, 3.5, '10')", list(ITEMS.items()))
        con.execute("CREATE TABLE interactions (user_id VARCHAR, item_id VARCHAR, event_timestamp TIMESTAMPTZ)")
        moments = [LAST - timedelta(days=9 * number) for number in range(len(BOUGHT))]
        con.executemany("INSERT INTO interactions VALUES (?, ?, ?)",
                        [(*pair, moment) for pair, moment in zip(BOUGHT, moments, strict=True)])  # fmt: skip
        for table in ("users", "items", "interactions"):
            con.execute(f"COPY {table} TO '{data / table}.parquet' (FORMAT parquet, COMPRESSION zstd)")
    build_profiles(data, shop / "feature_repo")


def stuck(store: FeatureStore, name: str) -> None:
    """The registry as a `feast materialize` leaves it that is killed while it writes a view."""
    view = store.get_feature_view(name)
    view.state = FeatureViewState.MATERIALIZING
    store.registry.apply_feature_view(view, store.project, commit=True)


def online(store: FeatureStore, *names: str) -> dict[str, list[Any]]:
    rows = [{"user_id": name, "item_id": "none"} for name in names]
    return store.get_online_features(store.get_feature_service("coldstart_serving"), rows).to_dict()


def history(store: FeatureStore, *asked: tuple[str, datetime]) -> pd.DataFrame:
    names, moments = zip(*asked, strict=True)
    entities = pd.DataFrame({"user_id": names, "item_id": "none", "event_timestamp": moments, "row": range(len(asked))})
    service = store.get_feature_service("coldstart_training")
    return store.get_historical_features(entities, service).to_df().set_index("row").sort_index()
