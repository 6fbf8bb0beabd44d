"""LightFM's silent traps (shared/TRAPS.md), each made impossible: a test for each, whose name says the trap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from coldstart_udfs.errors import ColdStartError
from recommender.model.bundle import BundleError
from recommender.model.fitted import Maps
from recommender.model.known import KnownEntities
from recommender.model.lightfm import Factors, FeatureSpace
from recommender.model.predicted import AttributePopularity
from recommender.model.recommender import HybridRecommender
from recommender.model.requests import UnknownIdError
from recommender.model.rows import SparseRows
from tests.support.made_up_shop import LAMP, SPADE, entities, every_score, made_up_shop, new, shared, trained


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return shared()


def test_trained_with_features_and_asked_without_them_is_not_possible(model: HybridRecommender) -> None:
    # LightFM would take row numbers for features. Ids carry their features here: by id or as features, one score.
    score, user, item = model.score("u03", "i12"), model.users.take(np.array([3])), model.items.take(np.array([12]))
    np.testing.assert_allclose(model.score(user, "i12"), score, atol=1e-5)
    np.testing.assert_allclose(model.score("u03", item), score, atol=1e-5)
    # Features that were left out are nothing known, not somebody else's.
    silent = entities(["x"], [""], np.zeros((1, 3)))
    np.testing.assert_array_equal(model.score("u03", silent), model.score("u03", "x", unknown="popularity"))


@pytest.mark.parametrize("beyond", [20, 41, np.int64(25), -1, "i20"])
def test_an_item_id_past_the_catalogue_is_an_error_not_a_feature_row(model: HybridRecommender, beyond: Any) -> None:
    for ask in (model.score, model.explain):
        with pytest.raises(UnknownIdError, match="1 of 1 item_ids are not among the 20 that the recommender knows"):
            ask("u00", beyond)
    with pytest.raises(UnknownIdError, match="1 of 1 item_ids"):
        model.audience([beyond])


def fewer(model: HybridRecommender, name: str) -> HybridRecommender:
    """A recommender one of whose arrays has lost a row or a column."""
    fitted = model.fitted
    f, popularity, space = fitted.factors, fitted.attribute_popularity, fitted.item_space
    outside = fitted.item_item.copy()
    outside.indices[0] = len(model.items)
    changed: dict[str, tuple[str, Any]] = {
        "user features": ("factors", Factors(f.users[:-1], f.items, f.biases)),
        "item features": ("factors", Factors(f.users, f.items[:-1], f.biases)),
        "item features' dimensions": ("factors", Factors(f.users, f.items[:, :-1], f.biases)),
        "biases": ("factors", Factors(f.users, f.items, f.biases[:-1])),
        "item metric": ("item_metric", fitted.item_metric[:-1, :-1]),
        "item metric's columns": ("item_metric", fitted.item_metric[:, :-1]),
        "words": ("item_space", FeatureSpace(space.ids[1:], space.vocabulary, 0.3)),
        "history": ("history", SparseRows(fitted.history.whole[:-1])),
        "history's items": ("history", SparseRows(sp.csr_matrix(np.ones((40, 21), np.float32)))),
        "item–item weights": ("item_item", outside),
        "profiles": ("items", KnownEntities(replace(model.items, profiles=model.items.profiles[:, :-1]))),
        "users' vectors": ("users", KnownEntities(replace(model.users, embeddings=np.zeros((40, 2), np.float32)))),
        "attributes": ("attribute_popularity", AttributePopularity(popularity.labels[:-1], popularity.lifts)),
        "maps": ("maps", Maps(fitted.maps.weights[:, :-1], fitted.maps.centre)),
        "maps' rows": ("maps", Maps(fitted.maps.weights[:-1], fitted.maps.centre)),
        "maps' means": ("maps", Maps(fitted.maps.weights, fitted.maps.centre[:-1])),
        "windows": ("trends", replace(fitted.trends, popularity=fitted.trends.popularity[:2])),
        "items with trends": (
            "trends",
            replace(fitted.trends, popularity=fitted.trends.popularity[:, :5], newness=fitted.trends.newness[:5]),
        ),
        "newness": ("trends", replace(fitted.trends, newness=fitted.trends.newness[:-1])),
        "activity": ("trends", replace(fitted.trends, activity=np.zeros(41, np.float32))),
    }
    attribute, value = changed[name]
    return HybridRecommender.of(fitted.changed(**{attribute: value}))


@pytest.mark.parametrize(
    "name",
    ["user features", "item features", "item features' dimensions", "biases", "item metric", "item metric's columns",
     "words", "history", "history's items", "item–item weights", "profiles", "users' vectors", "attributes",
     "maps", "maps' rows", "maps' means", "windows", "items with trends", "newness", "activity"],
)  # fmt: skip
def test_a_feature_matrix_with_too_few_columns_is_refused(
    model: HybridRecommender, tmp_path: Path, name: str
) -> None:
    fewer(model, name).save(tmp_path)
    with pytest.raises(BundleError, match="train again"):
        HybridRecommender.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["embeddings", "profiles"])
def test_features_that_are_no_numbers_are_an_error_not_a_score(
    model: HybridRecommender, name: str, value: float
) -> None:
    vectors = np.array([[value, 0, 0]], np.float32)
    with pytest.raises(ColdStartError, match=f"{name} must be a matrix of finite numbers"):
        model.score(replace(new("x", LAMP), **{name: vectors}), "i00")
    shop, users, items = made_up_shop()
    with pytest.raises(ColdStartError, match="finite"):
        HybridRecommender().fit(shop, users, replace(items, **{name: np.repeat(vectors, 20, axis=0)}))


@pytest.mark.parametrize("weight", [1e10, 1e19, 1e30])
def test_weights_that_no_sum_of_squares_can_hold_are_an_error_not_a_score(weight: float) -> None:
    interactions, users, items = made_up_shop()
    heavy = replace(interactions, weights=np.full(len(interactions), weight, np.float32))
    with np.errstate(all="ignore"), pytest.raises(ColdStartError, match=r"cannot be solved.*around 1, or a larger"):
        HybridRecommender().fit(heavy, users, items)


def test_a_learning_rate_that_diverges_is_a_named_error() -> None:
    with pytest.raises(ColdStartError, match=r"LightFM diverged at learning rate 1e\+30; try a smaller one"):
        trained(learning_rate=1e30)


QUESTIONS: dict[str, Callable[[HybridRecommender], Any]] = {
    "np.int64 id": lambda m: m.score(np.int64(3), "i00"),
    "np.int64 ids": lambda m: m.recommend(np.arange(3)),
    "dense matrix": lambda m: m.recommend(np.zeros((2, 3))),
    "dense row": lambda m: m.score("u00", np.ones(20)),
    "None among ids": lambda m: m.score(["u00", None], "i00"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_ids_of_numpy_and_dense_arrays_are_a_named_error_or_an_answer(model: HybridRecommender, question: str) -> None:
    with pytest.raises(UnknownIdError, match="are not among the"):
        QUESTIONS[question](model)


def test_empty_lists_are_empty_answers(model: HybridRecommender) -> None:
    assert model.score([], []).shape == (0, 0)
    assert model.recommend([]).empty
    assert model.audience([]).empty
    nobody = model.users.take(np.zeros(0, np.int64))
    assert model.recommend(nobody).empty
    assert model.score(nobody, model.items.ids).shape == (0, 20)


def test_an_unseen_identity_is_zero_and_unseen_words_have_no_column() -> None:
    _, users, items = made_up_shop()
    space = FeatureSpace.fit(items, 0.3)
    row = space.matrix(new("lamp zebra", LAMP, attributes=["category=lamp", "category=boat"])).toarray()[0]
    found = [name for name, value in zip(space.names, row, strict=True) if value]
    assert found == [("word", "lamp"), ("attribute", "category=lamp")]
    assert not space.matrix(new("", SPADE)).nnz
    assert FeatureSpace.fit(users, 1.0).matrix(new("", SPADE, "u00")).nnz == 1


def test_an_unseen_users_vector_is_the_sum_of_what_is_known_of_them(model: HybridRecommender) -> None:
    farmer = new("", np.zeros(3), attributes=["home=farm"])
    space, factors = model.fitted.user_space, model.fitted.factors
    place = space.names.index(("attribute", "home=farm"))
    latent = space.matrix(farmer) @ factors.users
    np.testing.assert_array_equal(latent[0], factors.users[place])
    assert not space.knows(["new"]).any()


def test_an_id_repeated_in_attributes_counts_once(model: HybridRecommender) -> None:
    once, twice = (new("spade", SPADE, attributes=["category=spade"] * n) for n in (1, 2))
    np.testing.assert_array_equal(model.score("u00", once), model.score("u00", twice))


def arrays_of(model: HybridRecommender) -> dict[str, np.ndarray]:
    fitted = model.fitted
    return {
        "users": fitted.factors.users, "items": fitted.factors.items, "biases": fitted.factors.biases,
        "item_metric": fitted.item_metric, "item_item": fitted.item_item.toarray(),
        "predicted": fitted.predicted_profiles.weights, "lifts": fitted.attribute_popularity.lifts,
        "maps": fitted.maps.weights, "trends": fitted.trends.popularity,
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"lightfm_seeds": 3, "seed": 5}])
def test_one_thread_and_a_seed_give_bit_identical_results(changes: dict[str, int]) -> None:
    one, other = trained(**changes), trained(**changes)
    for name, array in arrays_of(one).items():
        np.testing.assert_array_equal(array, arrays_of(other)[name], err_msg=name)
    np.testing.assert_array_equal(every_score(one), every_score(other))
    assert one.recommend(["u00", "u39"], explain=True).equals(other.recommend(["u00", "u39"], explain=True))


def test_another_seed_is_another_fit_so_that_the_test_above_can_fail() -> None:
    assert not np.array_equal(trained(seed=0).fitted.factors.items, trained(seed=1).fitted.factors.items)


def test_the_feature_matrix_is_never_narrower_than_what_it_is_multiplied_by(model: HybridRecommender) -> None:
    # Words and attributes that training did not see add no column to a product.
    vocabulary = model.fitted.item_space.vocabulary
    stranger = vocabulary.feature_matrix(new("zebra crossing", LAMP, attributes=["category=zebra"]))
    assert stranger.width == len(model.fitted.item_metric)
    assert not stranger.sparse.nnz
