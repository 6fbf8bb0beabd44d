"""The online store and the bundle give one score: of what is stored, put, or said in the request."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from feast import FeatureStore
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.feast.operations.put import put
from coldstart_udfs.feast.operations.stores import open_store
from recommender.cli.app import app
from recommender.model.bundle import read_manifest
from recommender.model.known import KnownEntities
from recommender.model.recommender import HybridRecommender
from recommender.model.weights import PARTS, Weights
from recommender.pipeline.online import online_item, online_user
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.skew import bundle_skew
from recommender.pipeline.training import train
from recommender.tuning.divisions import Division
from tests.support.searching import tried
from tests.support.small_shop import BOUGHT, ITEMS, LAST, USERS, apply

WORDS = "enamel signs for a garden"


@pytest.fixture(scope="module")
def shop(unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That small shop, trained, its store materialised as of the end of the data."""
    shop = tmp_path_factory.mktemp("served") / "shop"
    shutil.copytree(unapplied_shop, shop)
    repo = shop / "feature_repo"
    apply(repo)
    train(shop / "data", repo, shop / "bundle", cutoff=datetime(2011, 5, 10, tzinfo=UTC))
    apply(repo).materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    return shop


@pytest.fixture(scope="module")
def model(shop: Path) -> HybridRecommender:
    """What training left, every part as loud as the others, so that nothing that is read can go unnoticed."""
    loaded = HybridRecommender.load(shop / "bundle")
    loud = dict.fromkeys(PARTS, (1.0, 1.0))
    return loaded.with_parameters(weights=Weights(warm=loud, cold=loud))


@pytest.fixture(scope="module")
def store(shop: Path) -> FeatureStore:
    return open_store(shop / "feature_repo")


@pytest.mark.parametrize("name", USERS)
def test_a_known_user_has_the_bundles_scores(store: FeatureStore, model: HybridRecommender, name: str) -> None:
    online = online_user(store, model, name)
    np.testing.assert_allclose(model.score(online, model.items), model.score(name, model.items), atol=1e-6)
    assert online.attributes[0] == ["country=France"]
    assert online.descriptions[0] == (USERS[name] or "")
    assert online.evidence[0] == sum(user == name for user, _ in BOUGHT)


@pytest.mark.parametrize("name", ITEMS)
def test_a_known_item_has_the_bundles_scores(store: FeatureStore, model: HybridRecommender, name: str) -> None:
    online = online_item(store, model, name)
    np.testing.assert_allclose(model.score(model.users, online), model.score(model.users, name), atol=1e-6)
    assert set(online.attributes[0]) == {"price=2^1", "size=10"}
    np.testing.assert_allclose(model.score(None, online), model.score(None, name))


def test_nothing_differs_between_the_bundle_and_the_online_store(shop: Path, store: FeatureStore) -> None:
    """An item whose one buyer bought nothing else has a history, and a zero profile."""
    found = {one.feature: one for one in bundle_skew(store, shop / "bundle")}
    assert found["item_profile"].compared == len(ITEMS)
    assert found["user_enriched_profile"].compared == len(USERS)
    assert {name: one.reasons for name, one in found.items() if one.different} == {}


def test_an_item_that_was_put_scores_as_the_same_words_in_the_request(
    store: FeatureStore, model: HybridRecommender
) -> None:
    put(store, "item", "bucket", "enamel garden bucket", [])
    stored, described = online_item(store, model, "bucket"), online_item(store, model, "pail", "enamel garden bucket")
    np.testing.assert_allclose(model.score(model.users, stored), model.score(model.users, described), atol=1e-6)
    assert np.ptp(model.score(model.users, stored)) > 0


def test_a_user_who_was_put_scores_as_the_same_words_in_the_request(
    store: FeatureStore, model: HybridRecommender
) -> None:
    put(store, "user", "eve", WORDS, [])
    stored, described = online_user(store, model, "eve"), online_user(store, model, "nobody", WORDS)
    np.testing.assert_allclose(model.score(stored, model.items), model.score(described, model.items), atol=1e-6)
    silent = online_user(store, model, "nobody")
    assert np.abs(model.score(described, model.items) - model.score(silent, model.items)).max() > 0.01


def test_attributes_that_were_put_count(store: FeatureStore, model: HybridRecommender) -> None:
    put(store, "item", "tin", "paper garden tin", ["price=3.5", "size=10"])
    put(store, "item", "can", "paper garden tin", [])
    assert online_item(store, model, "tin").attributes[0] == ["price=2^1", "size=10"]
    scores = [model.score(model.users, online_item(store, model, name)) for name in ("tin", "can")]
    assert np.abs(scores[0] - scores[1]).max() > 1e-4


def test_words_in_the_request_win_over_stored_ones_and_the_rest_stays(
    store: FeatureStore, model: HybridRecommender
) -> None:
    stored, asked = online_user(store, model, "cy"), online_user(store, model, "cy", WORDS)
    assert (asked.descriptions[0], asked.attributes) == (WORDS, stored.attributes)
    np.testing.assert_array_equal(asked.profiles, stored.profiles)
    np.testing.assert_array_equal(asked.embeddings, online_user(store, model, "nobody", WORDS).embeddings)
    # Blank words say nothing.
    np.testing.assert_array_equal(online_user(store, model, "cy", " \t").embeddings, stored.embeddings)


def test_what_the_online_store_lost_is_an_error_and_no_other_score(
    shop: Path, model: HybridRecommender, tmp_path: Path
) -> None:
    shutil.copytree(shop / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("*.db"))
    empty = apply(tmp_path / "feature_repo")
    with pytest.raises(ColdStartError, match="user ann has history and a description in the bundle but not in the onl"):
        online_user(empty, model, "ann")
    with pytest.raises(ColdStartError, match="item mug has a description in the bundle but not in the online store"):
        online_item(empty, model, "mug")
    assert online_item(empty, model, "mug", "blue china mug").descriptions == ["blue china mug"]


def test_what_came_after_the_cutoff_is_validated_with_the_words_that_it_came_with(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of the cut-off they are not there: parameters for new items would be chosen on items without a word.
    found: list[Division] = []

    def stop(parameters: object, divisions: list[Division], **_: object) -> None:
        found.extend(divisions)
        raise ColdStartError("seen enough")

    monkeypatch.setattr("recommender.pipeline.training.tune", stop)
    with pytest.raises(ColdStartError, match="seen enough"):
        train(shop / "data", shop / "feature_repo", shop / "none", cutoff=datetime(2011, 4, 20, tzinfo=UTC))
    spoken = {name: text or "" for name, text in USERS.items()}
    assert len(found) > 1
    for one in found:
        assert dict(zip(one.items.ids, one.items.descriptions, strict=True)) == ITEMS
        assert dict(zip(one.users.ids, one.users.descriptions, strict=True)) == spoken
        assert one.items.embeddings.any(axis=1).all()
        assert all(labels == ["country=France"] for labels in one.users.attributes)
    assert found[-1].in_time
    users, items = found[-1].users, found[-1].items
    # Nothing else has happened yet: pot and lamp were bought, flag and mug were not.
    assert dict(zip(items.ids, items.evidence.tolist(), strict=True)) == {"flag": 0, "lamp": 1, "mug": 0, "pot": 1}
    assert not users.profiles[[list(users.ids).index("ann"), list(users.ids).index("bob")]].any()


def test_what_was_taken_back_is_not_validated_on(shop: Path, tmp_path: Path) -> None:
    # After the cut-off there is one purchase, by a user with history.
    copy, cutoff = tmp_path / "shop", datetime(2011, 5, 25, tzinfo=UTC)
    shutil.copytree(shop, copy)
    train(copy / "data", copy / "feature_repo", tmp_path / "bundle", cutoff=cutoff)
    assert read_manifest(tmp_path / "bundle")["metrics"]["validation"]["rankings"] == 1

    take_back(copy / "data" / "interactions.parquet", *BOUGHT[0], LAST + timedelta(days=1))
    build_profiles(copy / "data", copy / "feature_repo")
    train(copy / "data", copy / "feature_repo", tmp_path / "bundle", cutoff=cutoff)
    assert read_manifest(tmp_path / "bundle")["metrics"] == {}


def take_back(interactions: Path, user: str, item: str, when: datetime) -> None:
    """Add a return to the table."""
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE events AS SELECT *, 'purchase' AS event_type FROM '{interactions}'")
        con.execute("INSERT INTO events VALUES (?, ?, ?, 'return')", [user, item, when])
        con.execute(f"COPY events TO '{interactions}'")


def test_a_search_is_kept_beside_the_bundle_and_repeated_by_nobody(unapplied_shop: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(unapplied_shop, shop)
    apply(shop / "feature_repo")
    command = ["train", "--data", shop / "data", "--repo", shop / "feature_repo", "--bundle", shop / "bundle",
               "--cutoff", "2011-05-10", "--search", 1]  # fmt: skip
    for _ in range(2):
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert result.exit_code == 0, result.output + str(result.exception)
        assert len(tried(shop / "bundle.search.jsonl")) == 1
        source = json.loads((shop / "bundle" / "manifest.json").read_text())["parameters"]["source"]
        assert source["epochs"] == "searched: the best of 1 settings on held-out interactions"
        assert source["epochs"] in result.output


def test_another_alpha_or_encoder_than_the_bundles_is_an_error(store: FeatureStore, model: HybridRecommender) -> None:
    other = model.with_parameters(alpha=model.parameters.alpha + 1)
    with pytest.raises(ColdStartError, match="run `feast apply` after `coldstart train`"):
        online_user(store, other, "ann")
    # α of users is no part of an item.
    online_item(store, other, "mug")
    items = KnownEntities(replace(model.items, fingerprint="of another encoder"))
    other = HybridRecommender.of(model.fitted.changed(items=items))
    with pytest.raises(FingerprintError, match="of another encoder"):
        online_item(store, other, "mug")
