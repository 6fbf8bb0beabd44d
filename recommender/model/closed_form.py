"""What is learned in closed form: the item metric A, the item–item weights B, and maps from texts to what is learned.

A and B are ridge regressions of users' histories on the items in them. A regresses on the feature matrix of the items,
and so reaches items that nobody has bought yet. B regresses on their identities, with a zero diagonal.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors
from recommender.model.feature_matrix import FeatureMatrix

# B covers at most this many items, the most frequent ones: it takes the inverse of a square matrix.
MOST_ITEMS = 4_096
# B keeps this many partners of an item, those with the largest weights.
_PARTNERS = 400


def item_metric(features: FeatureMatrix, ridge: float) -> Vectors:
    """A = (XᵀX + λI)⁻¹, (w, w) float32: P_uᵀ A x is the ridge regression of a user's history on item features.

    Where items are much fewer than columns, by the matrix inversion lemma: A = (I - Xᵀ(XXᵀ + λI)⁻¹X)/λ.

    Args:
        features: X, the feature matrix of the items that have history.
        ridge: λ, positive.
    """
    if 2 * len(features) >= features.width:
        gram = features.gram()
        gram[np.diag_indices_from(gram)] += ridge
        return _inverse(gram).astype(np.float32)
    X = features.toarray().astype(np.float64)
    inverse = _inverse(X @ X.T + ridge * np.eye(len(X)))
    metric = X.T @ (inverse @ X) / -ridge
    metric[np.diag_indices_from(metric)] += 1 / ridge
    return np.asarray((metric + metric.T) / 2, dtype=np.float32)


def in_item_metric(features: FeatureMatrix, profiles: Vectors, ridge: float) -> Vectors:
    """P·A, (k, w) float32, without computing A: for a few profiles, a fraction of the time.

    Args:
        features: as for `item_metric`.
        profiles: P, (k, w).
        ridge: λ, positive.
    """
    right = profiles.T.astype(np.float64)
    if 2 * len(features) >= features.width:
        return np.asarray(_solved(features.gram(), right, ridge).T, dtype=np.float32)
    X = features.toarray().astype(np.float64)
    return np.asarray((right - X.T @ _solved(X @ X.T, X @ right, ridge)).T / ridge, dtype=np.float32)


def regressed(features: FeatureMatrix, targets: NDArray[np.float32], ridge: float) -> NDArray[np.float32]:
    """(XᵀX + λI)⁻¹Xᵀ·targets, (w, k) float32: what the features of an item predict.

    Args:
        features: X, the feature matrix of n items.
        targets: (n, k), centred.
        ridge: λ, positive.
    """
    y = targets.astype(np.float64)
    if 2 * len(features) < features.width:
        X = features.toarray().astype(np.float64)
        return np.asarray(X.T @ _solved(X @ X.T, y, ridge), dtype=np.float32)
    right = np.vstack([features.dense.T.astype(np.float64) @ y, features.sparse.T @ y])
    return _solved(features.gram(), right, ridge).astype(np.float32)


def item_item_weights(history: sp.csr_matrix, ridge: float) -> sp.csr_matrix:
    """B, (items, items) float32: the weight of one item in a history for another; zero diagonal.

    EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8), without its
    smallest weights.

    Args:
        history: (users, items), weights of the training interactions.
        ridge: λ, positive.
    """
    counts = np.asarray((history > 0).sum(axis=0)).ravel()
    rows = np.sort(np.argsort(-counts, kind="stable")[: min(MOST_ITEMS, int((counts > 0).sum()))])
    block = history[:, rows]
    gram = np.asarray((block.T @ block).toarray(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    inverse = _inverse(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    if len(rows) > _PARTNERS:
        least = np.partition(np.abs(weights), len(rows) - _PARTNERS, axis=0)[len(rows) - _PARTNERS]
        weights[np.abs(weights) < least] = 0
    found = sp.coo_matrix(weights.astype(np.float32))
    shape = (history.shape[1], history.shape[1])
    return sp.csr_matrix((found.data, (rows[found.row], rows[found.col])), shape=shape)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric positive definite matrix; NumPy's general one is faster than LAPACK's for such matrices."""
    try:
        inverse = np.linalg.inv(matrix) if np.isfinite(matrix).all() else None
    except np.linalg.LinAlgError:
        inverse = None
    if inverse is None or not np.isfinite(inverse).all():
        raise ColdStartError(
            f"the ridge regression cannot be solved: its largest sum of products is {np.abs(matrix).max():g}; give "
            "weights of interactions in purchases, around 1, or a larger ridge"
        )
    return np.asarray((inverse + inverse.T) / 2)


def _solved(gram: NDArray[np.float64], right: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    gram[np.diag_indices_from(gram)] += ridge
    return np.asarray(cho_solve(cho_factor(gram, lower=True, overwrite_a=True, check_finite=False), right))
