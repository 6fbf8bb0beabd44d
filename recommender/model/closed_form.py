"""What is learned in closed form: the item metric A, the item–item weights B, and maps from texts to what is learned.

A and B are ridge regressions of users' histories on the items in them. A regresses on the feature matrix of the items,
and so reaches items that nobody has bought yet. B regresses on their identities, with a zero diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors
from recommender.model.feature_matrix import FeatureMatrix

# λ of the maps from the features of items to what else is learned of them.
MAP_RIDGE = 30.0
# B covers at most this many items, the most frequent ones: it takes the inverse of a square matrix.
MOST_ITEMS = 4_096
# B keeps this many partners of an item, those with the largest weights.
_PARTNERS = 400
# Of the embeddings of an encoder that spreads texts over all directions, the variance is above it (about 0.75 for
# sentence-transformers' English models); those of e5 lie in a narrow cone, and have 0.1 to 0.15.
_SPREAD = 0.5


@dataclass(frozen=True)
class LatentMoments:
    """Means, covariances and lengths of vectors.

    Attributes:
        mean: (c,) float32.
        covariance: (c, c) float64.
        length: the root of the mean square length.
    """

    mean: NDArray[np.float32]
    covariance: NDArray[np.float64]
    length: float

    @classmethod
    def of(cls, vectors: Vectors) -> LatentMoments:
        """Of n vectors, (n, c)."""
        exact = vectors.astype(np.float64)
        length = float(np.sqrt((exact**2).sum(axis=1).mean()))
        return cls(exact.mean(axis=0).astype(np.float32), np.atleast_2d(np.cov(exact.T, bias=True)), length)


def item_metric(features: FeatureMatrix, ridge: float) -> Vectors:
    """A = (XᵀX + Λ)⁻¹, (w, w) float32: P_uᵀ A x is the ridge regression of a user's history on item features.

    Λ is diagonal: λ for words and attributes, and less for embeddings that differ little (see `penalties`). Where items
    are much fewer than columns, by the matrix inversion lemma: A = Λ⁻¹ - Λ⁻¹Xᵀ(XΛ⁻¹Xᵀ + I)⁻¹XΛ⁻¹.

    Args:
        features: X, the feature matrix of the items that have history.
        ridge: λ, positive.
    """
    penalty = penalties(features, ridge)
    if 2 * len(features) >= features.width:
        gram = features.gram()
        gram[np.diag_indices_from(gram)] += penalty
        return _inverse(gram).astype(np.float32)
    X = features.toarray().astype(np.float64)
    Z = X / penalty
    metric = -(Z.T @ (_inverse(X @ Z.T + np.eye(len(X))) @ Z))
    metric[np.diag_indices_from(metric)] += 1 / penalty
    return np.asarray((metric + metric.T) / 2, dtype=np.float32)


def in_item_metric(features: FeatureMatrix, profiles: Vectors, ridge: float) -> Vectors:
    """P·A, (k, w) float32, without computing A: for a few profiles, a fraction of the time.

    Args:
        features: as for `item_metric`.
        profiles: P, (k, w).
        ridge: λ, positive.
    """
    penalty, right = penalties(features, ridge), profiles.T.astype(np.float64)
    if 2 * len(features) >= features.width:
        return np.asarray(_solved(features.gram(), right, penalty).T, dtype=np.float32)
    X = features.toarray().astype(np.float64)
    Z = X / penalty
    return np.asarray(right.T / penalty - _solved(X @ Z.T, Z @ right, 1.0).T @ Z, dtype=np.float32)


def regressed(features: FeatureMatrix, targets: NDArray[np.float32], ridge: float) -> NDArray[np.float32]:
    """(XᵀX + Λ)⁻¹Xᵀ·targets, (w, k) float32: what the features of an item predict; Λ is that of `item_metric`.

    Args:
        features: X, the feature matrix of n items.
        targets: (n, k), centred.
        ridge: λ, positive.
    """
    penalty, y = penalties(features, ridge), targets.astype(np.float64)
    if 2 * len(features) < features.width:
        X = features.toarray().astype(np.float64)
        Z = X / penalty
        return np.asarray(Z.T @ _solved(X @ Z.T, y, 1.0), dtype=np.float32)
    right = np.vstack([features.dense.T.astype(np.float64) @ y, features.sparse.T @ y])
    return _solved(features.gram(), right, penalty).astype(np.float32)


def leverages(features: FeatureMatrix, ridge: float, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(k,): x(XᵀX + Λ)⁻¹xᵀ of some items, the share of its own target in what `regressed` predicts of each.

    Args:
        features: X, the feature matrix of n items.
        ridge: λ, positive.
        rows: (k,), of X.
    """
    penalty = penalties(features, ridge)
    if 2 * len(features) < features.width:
        X = features.toarray().astype(np.float64)
        return np.asarray(1 - np.diag(_inverse((X / penalty) @ X.T + np.eye(len(X))))[rows])
    gram = features.gram()
    gram[np.diag_indices_from(gram)] += penalty
    root = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    some = features.take(rows).toarray().astype(np.float64)
    found = solve_triangular(root, some.T, lower=True, overwrite_b=True, check_finite=False)
    return np.asarray(np.einsum("ij,ij->j", found, found))


def penalties(features: FeatureMatrix, ridge: float) -> NDArray[np.float64]:
    """The diagonal of Λ, (w,): λ, and for embeddings whose variance v (summed over columns) is below 0.5 λ·v/0.5.

    It is the same as to stretch the embeddings until they differ as those of other encoders do: what an encoder's
    vectors have in common says nothing of an item, and their differences are to count as words do. A tenth of λ is the
    least, because embeddings that hardly differ hold little but noise.
    """
    known = features.dense[features.dense.any(axis=1)].astype(np.float64)
    spread = float(known.var(axis=0).sum()) if len(known) > 1 else _SPREAD
    penalty = np.full(features.width, ridge)
    penalty[: features.dense.shape[1]] *= min(1.0, max(spread / _SPREAD, 0.1))
    return penalty


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


def _solved(
    gram: NDArray[np.float64], right: NDArray[np.float64], penalty: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    gram[np.diag_indices_from(gram)] += penalty
    return np.asarray(cho_solve(cho_factor(gram, lower=True, overwrite_a=True, check_finite=False), right))
