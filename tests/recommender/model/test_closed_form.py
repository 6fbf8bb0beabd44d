"""What is learned in closed form is what the textbook's formulas say, by whichever way it is computed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recommender.model.closed_form import in_item_metric, item_item_weights, item_metric, regressed
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.fitted import Maps

RIDGES = (0.5, 8.0, 30.0)


def features(n: int, dense: int = 6, words: int = 14, seed: int = 0) -> FeatureMatrix:
    """n items with embeddings and a few words each."""
    rng = np.random.default_rng(seed)
    sparse = sp.random(n, words, density=0.2, random_state=seed, format="csr", dtype=np.float32)
    return FeatureMatrix(rng.normal(size=(n, dense)).astype(np.float32), sparse)


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("n", [1, 3, 9, 10, 11, 200])
def test_the_item_metric_is_the_inverse_however_many_items_there_are(n: int, ridge: float) -> None:
    # With fewer than half as many items as columns, by the dual form.
    given = features(n)
    X = given.toarray().astype(np.float64)
    primal = np.linalg.inv(X.T @ X + ridge * np.eye(20))
    metric = item_metric(given, ridge)
    assert metric.dtype == np.float32
    np.testing.assert_allclose(metric, primal, atol=1e-5 / ridge)
    np.testing.assert_array_equal(metric, metric.T)
    profiles = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    np.testing.assert_allclose(in_item_metric(given, profiles, ridge), profiles @ primal, atol=1e-4 / ridge)


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("n", [1, 3, 9, 10, 11, 200])
def test_maps_are_ridge_regression(n: int, ridge: float) -> None:
    from sklearn.linear_model import Ridge

    given, rng = features(n), np.random.default_rng(1)
    targets = rng.normal(size=(n, 4)).astype(np.float32)
    expected = Ridge(alpha=ridge, fit_intercept=False, solver="cholesky").fit(given.toarray(), targets).coef_.T
    found = regressed(given, targets, ridge)
    assert (found.shape, found.dtype) == ((20, 4), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_map_predicts_the_mean_of_what_has_no_features_and_leans_to_it_the_more_the_larger_the_ridge() -> None:
    given, rng = features(300), np.random.default_rng(2)
    truth = rng.normal(size=(20, 3))
    targets = (given.toarray() @ truth + [10, 20, 30]).astype(np.float32)
    nothing = FeatureMatrix(np.zeros((1, 6), np.float32), sp.csr_matrix((1, 14), dtype=np.float32))
    errors = []
    for ridge in (1e-3, 30.0, 1e6):
        maps = Maps.fit(given, targets, ridge)
        np.testing.assert_allclose(maps.of(nothing)[0], targets.mean(axis=0), rtol=1e-5)
        errors.append(float(np.abs(maps.of(given) - targets).mean()))
    assert errors[0] < errors[1] < errors[2]
    far = Maps.fit(given, targets, 1e6).of(given)
    np.testing.assert_allclose(far, np.tile(targets.mean(axis=0), (300, 1)), atol=0.1)


def in_a_cone(given: FeatureMatrix, width: float) -> tuple[FeatureMatrix, FeatureMatrix]:
    """The items with embeddings of a small variance around a large mean; and with these stretched until it is 0.5."""
    close = (1 + width * given.dense).astype(np.float32)
    stretch = np.sqrt(0.5 / close.astype(np.float64).var(axis=0).sum())
    return FeatureMatrix(close, given.sparse), FeatureMatrix((stretch * close).astype(np.float32), given.sparse)


@pytest.mark.parametrize("n", [9, 200])
def test_embeddings_in_a_narrow_cone_count_as_if_they_were_stretched(n: int) -> None:
    close, stretched = in_a_cone(features(n), 0.15)
    S = np.ones(20)
    S[:6] = (stretched.dense / close.dense).mean()
    X = stretched.toarray().astype(np.float64)
    plain = np.linalg.inv(X.T @ X + 8.0 * np.eye(20))
    np.testing.assert_allclose(item_metric(close, 8.0), S[:, None] * plain * S, atol=1e-4)
    profiles = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    np.testing.assert_allclose(in_item_metric(close, profiles, 8.0), (profiles * S) @ plain * S, atol=1e-3)
    targets = np.random.default_rng(2).normal(size=(n, 4)).astype(np.float32)
    learned = regressed(close, targets, 8.0)
    np.testing.assert_allclose(close.toarray() @ learned, X @ plain @ X.T @ targets, atol=1e-3)


def test_embeddings_that_hardly_differ_are_stretched_no_further() -> None:
    given = features(40)
    same = FeatureMatrix(np.ones((40, 6), np.float32), given.sparse)
    X = same.toarray().astype(np.float64)
    expected = np.linalg.inv(X.T @ X + np.diag([0.8] * 6 + [8.0] * 14))
    np.testing.assert_allclose(item_metric(same, 8.0), expected, atol=1e-5)


def test_item_item_weights_are_each_items_regression_on_the_others() -> None:
    # EASE by its definition: column j is the ridge regression of item j on all other items.
    rng = np.random.default_rng(3)
    history = sp.csr_matrix((rng.random((60, 8)) < 0.4) * rng.integers(1, 4, (60, 8)), dtype=np.float32)
    found = item_item_weights(history, 5.0).toarray()
    X = history.toarray().astype(np.float64)
    for item in range(8):
        others = np.delete(np.arange(8), item)
        Y = X[:, others]
        expected = np.linalg.solve(Y.T @ Y + 5.0 * np.eye(7), Y.T @ X[:, item])
        np.testing.assert_allclose(found[others, item], expected, atol=1e-5)
    assert not np.diag(found).any()
