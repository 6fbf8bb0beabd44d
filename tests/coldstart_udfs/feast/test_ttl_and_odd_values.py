"""A ttl, requests that are no text, and vectors with NaN: the same online and in history, or named."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Float32, Int64, String

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from coldstart_udfs.feast import enriched_views
from coldstart_udfs.feast.operations import skew as reasons
from coldstart_udfs.feast.operations.skew import measure_skew

NOW = pd.Timestamp.now("UTC").floor("s")
MEMBER = Entity(name="member", join_keys=["member_id"], value_type=ValueType.STRING)
ONES = np.ones(384, "f4")
BAD = {"nan": np.where(np.arange(384) == 3, np.nan, ONES), "infinite": np.where(np.arange(384) == 3, -np.inf, ONES)}
SHOWN = ["member_is_cold", "member_has_description", "member_enriched_cosine"]


def members(ttl: timedelta | None = None) -> FeatureView:
    return FeatureView(
        name="members", entities=[MEMBER], ttl=ttl or timedelta(0),
        source=FileSource(name="members_source", path="members.parquet", timestamp_field="event_timestamp"),
        schema=[
            Field(name="bio", dtype=String), Field(name="taste", dtype=Array(Float32)), Field(name="n", dtype=Int64),
        ],
    )  # fmt: skip


def open_repo(folder: Path, source: FeatureView) -> FeatureStore:
    """Members `warm`, `nan` and `infinite` with a profile 40 days old, and `new` with one of today."""
    names = ["warm", "new", *BAD]
    pq.write_table(pa.table({
        "member_id": names, "bio": ["garden cafe"] * len(names), "n": [3] * len(names), "event_timestamp": [
            NOW - pd.Timedelta(days=1 if name == "new" else 40) for name in names
        ],
        "taste": pa.array([BAD.get(name, ONES).tolist() for name in names], pa.list_(pa.float32())),
    }), folder / "members.parquet")  # fmt: skip
    views = enriched_views("member", source, description="bio", profile="taste", evidence="n", backend="torch")
    store = FeatureStore(config=RepoConfig(
        project="members", registry=str(folder / "registry.db"), repo_path=folder, entity_key_serialization_version=3,
        offline_store={"type": "coldstart_udfs.feast.ColdStartDuckDBOfflineStore"},
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
    ))  # fmt: skip
    services = [
        FeatureService(name=name, features=[view]) for name, view in zip(views._fields, views, strict=True)
    ]
    both = FeatureService(name="both", features=[source, views.serving])
    store.apply([MEMBER, source, *views, *services, both])
    store.materialize((NOW - pd.Timedelta(days=100)).to_pydatetime(), NOW.to_pydatetime())
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)
        return open_repo(tmp_path_factory.mktemp("members"), members())


def online(store: FeatureStore, *names: str) -> dict[str, list[Any]]:
    return store.get_online_features(
        store.get_feature_service("serving"), [{"member_id": name} for name in names]
    ).to_dict()


def history(store: FeatureStore, *names: str, service: str = "training", **columns: Any) -> pd.DataFrame:
    rows = pd.DataFrame({"member_id": names, "event_timestamp": NOW, **columns})
    return store.get_historical_features(rows, store.get_feature_service(service)).to_df()


def request(store: FeatureStore, text: Any) -> dict[str, list[Any]]:
    row = {"member_id": "warm", "request_description": text}
    return store.get_online_features(store.get_feature_service("request"), [row]).to_dict()


@pytest.mark.parametrize("asked", [5, 5.5, True, b"lamp", ["red lamp", "mug"], {"text": "lamp"}])
def test_a_request_that_is_no_text_is_an_error_online_and_in_history(store: FeatureStore, asked: Any) -> None:
    with pytest.raises(ColdStartError, match=r"request_description of row 1 is .* is no text; give one string"):
        request(store, asked)
    with pytest.raises(ColdStartError, match=r"request_description of row 1 is .* is no text"):
        history(store, "warm", service="request", request_description=[asked])


def test_a_request_without_a_text_takes_the_stored_one(store: FeatureStore) -> None:
    stored = online(store, "warm")["member_enriched_profile"]
    for nothing in (None, float("nan"), "", " "):
        assert request(store, nothing)["member_enriched_profile"] == stored
    assert request(store, "red lamp")["member_enriched_profile"] != stored


@pytest.mark.parametrize("name", BAD)
def test_a_vector_with_nan_counts_as_none_online_and_in_history(store: FeatureStore, name: str) -> None:
    with pytest.warns(ColdStartWarning, match="taste: 1 of 2 vectors hold NaN or infinity and count as missing"):
        served = online(store, "warm", name)
    with pytest.warns(ColdStartWarning, match="taste: 1 of 2 vectors"):
        trained = history(store, "warm", name)
    assert np.isfinite(served["member_enriched_profile"]).all()
    np.testing.assert_allclose(
        served["member_enriched_profile"], trained["member_enriched_profile"].tolist(), atol=1e-6
    )
    assert np.linalg.norm(served["member_enriched_profile"][1]) == pytest.approx(1)  # the description alone
    assert served["member_enriched_cosine"][1] is None
    assert pd.isna(trained["member_enriched_cosine"][1])


@pytest.mark.parametrize("wrong", [BAD["nan"], BAD["infinite"]])
def test_the_offline_store_takes_no_vector_with_nan(store: FeatureStore, tmp_path: Path, wrong: np.ndarray) -> None:
    rows = pd.DataFrame({
        "member_id": ["a", "b"], "bio": None, "n": 1, "event_timestamp": NOW, "taste": [ONES, wrong.astype("f4")],
    })  # fmt: skip
    before = history(store, "warm")
    with pytest.raises(ColdStartError, match=r"1 of 2 vectors of column taste hold NaN.*Nothing was written"):
        store.write_to_offline_store("members", rows, reorder_columns=True)
    pd.testing.assert_frame_equal(history(store, "warm"), before)
    assert history(store, "b")["member_is_cold"].tolist() == [True]


def test_skew_takes_a_vector_with_nan_for_missing_as_reading_does(store: FeatureStore) -> None:
    with pytest.warns(ColdStartWarning):
        trained = history(store, "warm", *BAD)
    with pytest.warns(ColdStartWarning):
        measured = measure_skew(store, trained, service="both")
    found = {one.feature: one for one in measured}
    assert {name: one.reasons for name, one in found.items() if one.different} == {}
    assert (found["taste"].compared, found["member_enriched_profile"].compared) == (1, 3)


def test_a_ttl_is_warned_of_where_the_views_are_made() -> None:
    with pytest.warns(ColdStartWarning, match=r"members has a ttl of 30 days.*remove the ttl") as warned:
        enriched_views("member", members(timedelta(days=30)), description="bio", profile="taste", evidence="n")
    assert [Path(one.filename).name for one in warned] == [Path(__file__).name]


def test_skew_names_the_ttl(tmp_path: Path) -> None:
    with pytest.warns((ColdStartWarning, RuntimeWarning)):
        store = open_repo(tmp_path, members(timedelta(days=30)))
    assert online(store, "warm")["member_is_cold"] == [False]
    trained = history(store, "warm", "new")
    assert trained["member_is_cold"].tolist() == [True, False]
    for service in ("serving", "both"):  # without the inputs, and with them
        found = {one.feature: one for one in measure_skew(store, trained, service=service)}
        assert found["member_is_cold"].reasons == {reasons.EXPIRED: 1}
        assert found["member_is_cold"].faulty == 1
        assert found["member_is_cold"].examples == ["member_id=warm"]
    assert {found[name].reasons[reasons.EXPIRED] for name in ("bio", "taste", "n")} == {1}
