"""The recommender on a made-up shop whose right answers are known by construction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.bundle import BundleError, read_manifest
from recommender.data import Interactions
from recommender.features import Entities, FeatureSpace, with_history
from recommender.model import HybridRecommender, Parameters, UnknownIdError

# Two tastes. Users u0…u19 buy lamps, u20…u39 spades; items i0…i9 are lamps, i10…i19 spades; i9 and i19 are new.
LAMP, SPADE = np.array([1, 0, 0.1], np.float32), np.array([0, 1, 0.1], np.float32)


def entities(ids: list[str], texts: list[str], vectors: np.ndarray) -> Entities:
    vectors = np.asarray(vectors, np.float32)
    return Entities(ids, texts, [[] for _ in ids], vectors, np.zeros_like(vectors), np.zeros(len(ids)), "stub")


def new(text: str, vector: np.ndarray, name: str = "new") -> Entities:
    return entities([name], [text], vector[None])


@pytest.fixture(scope="module")
def shop() -> tuple[Interactions, Entities, Entities]:
    users = entities([f"u{n:02}" for n in range(40)], [""] * 40, np.zeros((40, 3)))
    texts = [f"{word} model {n}" for word in ("lamp", "spade") for n in range(10)]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(20, 3))
    items = entities([f"i{n:02}" for n in range(20)], texts, np.repeat([LAMP, SPADE], 10, axis=0) + noise)
    pairs = [(u, 10 * (u // 20) + i) for u in range(40) for i in range(9) if (u + i) % 3]
    rows, columns = np.array(pairs).T
    times = np.datetime64("2024-01-01", "us") + np.arange(len(pairs)).astype("timedelta64[h]")
    interactions = Interactions(users.ids, items.ids, rows, columns, times, np.ones(len(pairs), np.float32))
    return (interactions, *with_history(interactions, users, items))


@pytest.fixture(scope="module")
def model(shop: tuple[Interactions, Entities, Entities]) -> HybridRecommender:
    return HybridRecommender(Parameters(components=8, epochs=10, gamma_cold=4.0)).fit(*shop)


def test_a_warm_user_is_offered_more_of_his_taste_and_nothing_he_has(
    model: HybridRecommender, shop: tuple[Interactions, Entities, Entities]
) -> None:
    ranking = model.recommend("u00", k=4)
    assert set(ranking.item_id) == {"i00", "i03", "i06", "i09"}
    assert ranking["rank"].tolist() == [1, 2, 3, 4]
    assert set(ranking.rung) == {"warm"}
    assert model.recommend("u00", k=20, exclude_seen=False).shape[0] == 20


def test_a_user_who_does_not_exist_is_understood_by_his_words(model: HybridRecommender) -> None:
    ranking = model.recommend(new("spades please", SPADE), k=10)
    assert set(ranking.item_id) == {f"i{n}" for n in range(10, 20)}
    assert set(ranking.rung) == {"cold"}
    assert not ranking.behaviour.any()


def test_a_product_that_does_not_exist_finds_the_right_users(model: HybridRecommender) -> None:
    ranking = model.audience(new("lamp model new", LAMP), k=20)
    assert set(ranking.user_id) == {f"u{n:02}" for n in range(20)}
    assert all(text.startswith("lamp") for text in ranking.bought_alike)


def test_the_three_parts_add_up_to_the_score(model: HybridRecommender) -> None:
    for ranking in (model.recommend(["u00", "u25"], k=20), model.recommend(new("x", LAMP)), model.audience(["i05"])):
        total = ranking.text + ranking.behaviour + ranking.popularity
        np.testing.assert_allclose(total, ranking.score, atol=1e-6)


def test_a_score_does_not_depend_on_what_else_is_asked(model: HybridRecommender) -> None:
    everything = model.score(model.users.ids, model.items.ids)
    assert everything.shape == (40, 20)
    np.testing.assert_allclose(model.score("u07", "i13"), everything[7:8, 13:14], atol=1e-5)
    ranking = model.recommend("u07", k=3)
    rows = [model.items.ids.index(name) for name in ranking.item_id]
    np.testing.assert_allclose(ranking.score, everything[7, rows], atol=1e-5)


def test_unknown_ids_raise_or_get_popularity_labelled(model: HybridRecommender) -> None:
    with pytest.raises(UnknownIdError, match=r"1 of 2 user_ids.*'who'"):
        model.recommend(["u00", "who"])
    ranking = model.recommend(["who", "u00"], k=3, unknown="popularity")
    assert ranking.groupby("user_id").rung.first().to_dict() == {"who": "unknown", "u00": "warm"}
    who = ranking[ranking.user_id == "who"]
    np.testing.assert_allclose(who.score, who.popularity, atol=1e-6)
    with pytest.raises(ColdStartError, match="'raise' and 'popularity'"):
        model.score("who", "i00", unknown="zero")


def every_score(model: HybridRecommender) -> np.ndarray:
    return model.score(model.users.ids, model.items.ids)


def test_one_seed_gives_identical_results(
    model: HybridRecommender, shop: tuple[Interactions, Entities, Entities]
) -> None:
    again = HybridRecommender(model.parameters).fit(*shop)
    np.testing.assert_array_equal(every_score(model), every_score(again))


def test_a_bundle_gives_the_same_answers_after_loading(model: HybridRecommender, tmp_path: Path) -> None:
    model.save(tmp_path / "bundle", about={"note": "kept"})
    loaded = HybridRecommender.load(tmp_path / "bundle")
    np.testing.assert_array_equal(every_score(model), every_score(loaded))
    assert loaded.parameters == model.parameters
    assert read_manifest(tmp_path / "bundle")["note"] == "kept"
    model.save(tmp_path / "bundle")
    assert len(list((tmp_path / "bundle").iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "alter", "missing", "foreign", "no json", "nothing"])
def test_a_damaged_bundle_is_a_named_error(model: HybridRecommender, tmp_path: Path, damage: str) -> None:
    model.save(tmp_path)
    (arrays,) = tmp_path.glob("*.npz")
    manifest = tmp_path / "manifest.json"
    data = arrays.read_bytes()
    if damage == "cut":
        arrays.write_bytes(data[:-100])
    elif damage == "alter":
        arrays.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "missing":
        arrays.unlink()
    elif damage == "foreign":
        manifest.write_text(json.dumps({"format": 99}))
    elif damage == "no json":
        manifest.write_text("{")
    else:
        manifest.unlink()
    with pytest.raises(BundleError):
        HybridRecommender.load(tmp_path)


def test_features_of_another_encoder_are_refused(
    model: HybridRecommender, shop: tuple[Interactions, Entities, Entities]
) -> None:
    with pytest.raises(FingerprintError, match=r"'other'.*'stub'"):
        model.recommend(replace(new("x", LAMP), fingerprint="other"))
    interactions, users, items = shop
    with pytest.raises(FingerprintError):
        HybridRecommender().fit(interactions, users, replace(items, fingerprint="other"))


def test_features_of_other_ids_are_refused(shop: tuple[Interactions, Entities, Entities]) -> None:
    interactions, users, items = shop
    with pytest.raises(ColdStartError, match="features of 39 users do not match the 40 users"):
        HybridRecommender().fit(interactions, users.take(np.arange(39)), items)


def test_features_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ColdStartError, match="finite"):
        new("x", np.array([np.nan, 0, 0], np.float32))


def test_an_unseen_identity_has_no_column_and_unseen_words_none(shop: tuple[Interactions, Entities, Entities]) -> None:
    _, _, items = shop
    space = FeatureSpace.fit(items, 0.3, 0)
    row = space.matrix(new("lamp zebra", LAMP)).toarray()[0]
    assert not row[: len(space.ids)].any()
    words = row[len(space.ids) : len(space.ids) + len(space.tokens)]
    assert [token for token, value in zip(space.tokens, words, strict=True) if value] == ["lamp"]
    codes = row[len(space.ids) + len(space.tokens) :]
    assert codes.sum() == pytest.approx(1)
