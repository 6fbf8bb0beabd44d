"""What users with the same words or attributes have in common, for users without history.

The text "35 year old woman, librarian" names no item. A ridge regression from the words and attributes of users to
their profiles predicts a profile from it. Counts among users who share an attribute tell what is popular among them.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.model.feature_matrix import columns_of, one_hot

# The fewest users that a map, or the popularity of a group, is learned from.
_FEWEST = 20
_MOST_GROUPS = 256
# λ of the map, in users: profiles have length 1 here, and so have descriptions.
_RIDGE = 10.0
# Users that are added to the sums of the map at a time.
_BLOCK = 16_384
# Overall popularity is added to that of a group, with the weight of this many users.
_PRIOR = 50.0


class PredictedProfiles:
    """W: from M(d_u) and attributes to the direction of P_u, in the embedding space.

    Attributes:
        weights: (d + g, d) float32; no rows if there were too few users to learn from.
        labels: g attributes.
    """

    def __init__(self, weights: Vectors, labels: list[str]) -> None:
        self.weights, self.labels = weights, labels
        self._columns = {name: column for column, name in enumerate(labels)}

    @classmethod
    def fit(cls, users: Entities, labels: list[str]) -> PredictedProfiles:
        """Learn from the users that have a profile, and words or attributes.

        Args:
            users: with profiles of the training interactions.
            labels: attributes that count.
        """
        empty = cls(np.zeros((0, users.embeddings.shape[1]), np.float32), labels)
        norms = np.linalg.norm(users.profiles, axis=1)
        known = norms > 1e-6
        described = users.embeddings.any(axis=1) | (np.diff(one_hot(users.attributes, empty._columns).indptr) > 0)
        rows = np.flatnonzero(known & described)
        if len(rows) < _FEWEST:
            return empty
        mean = np.where(known, 1 / np.maximum(norms, 1e-6), 0) @ users.profiles / known.sum()
        width = users.embeddings.shape[1]
        gram, right = _RIDGE * np.eye(width + len(labels)), np.zeros((width + len(labels), width))
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            x = empty._features(users.take(some)).astype(np.float64)
            gram += x.T @ x
            right += x.T @ (users.profiles[some] / norms[some, None] - mean)
        return cls(np.linalg.solve(gram, right).astype(np.float32), labels)

    def profiles(self, users: Entities) -> Vectors:
        """(n, d) float32: the predicted difference of each profile from the mean profile; zero if nothing is known."""
        return self.mapped(users, self.weights)

    def mapped(self, users: Entities, weights: Vectors) -> Vectors:
        """(n, k) float32: what other weights, (d + g, k), say of the users; no rows say nothing."""
        if not len(weights):
            return np.zeros((len(users), weights.shape[1]), np.float32)
        if len(users) == 1 and not users.embeddings.any():
            d = users.embeddings.shape[1]
            rows = [d + column for column in columns_of(users.attributes[0], self._columns)]
            return np.asarray(weights[rows].sum(axis=0, keepdims=True))
        return np.asarray(self._features(users) @ weights, dtype=np.float32)

    def _features(self, users: Entities) -> Vectors:
        return np.hstack([users.embeddings, one_hot(users.attributes, self._columns).toarray()])


class AttributePopularity:
    """How much more popular an item is among users with an attribute than overall, as a difference of logarithms.

    Attributes:
        labels: g attributes.
        lifts: (g, items) float32.
    """

    def __init__(self, labels: list[str], lifts: NDArray[np.float32]) -> None:
        self.labels, self.lifts = labels, lifts
        self._columns = {name: column for column, name in enumerate(labels)}

    @classmethod
    def fit(cls, seen: sp.csr_matrix, users: Entities) -> AttributePopularity:
        """Count among the users with history; the most frequent attributes are groups."""
        warm = np.flatnonzero(np.diff(seen.indptr))
        held: dict[str, list[int]] = {}
        for row in warm.tolist():
            for label in set(users.attributes[row]):
                held.setdefault(label, []).append(row)
        large = sorted((-len(rows), label) for label, rows in held.items() if len(rows) >= _FEWEST)
        labels = sorted(label for _, label in large[:_MOST_GROUPS])
        overall = np.asarray(seen[warm].sum(axis=0), dtype=np.float64).ravel() / max(len(warm), 1)
        lifts = np.zeros((len(labels), seen.shape[1]), dtype=np.float32)
        for column, label in enumerate(labels):
            counts = np.asarray(seen[held[label]].sum(axis=0), dtype=np.float64).ravel()
            shares = (counts + _PRIOR * overall) / (len(held[label]) + _PRIOR)
            known = overall > 0
            lifts[column, known] = np.log(shares[known] / overall[known])
        return cls(labels, lifts)

    def of(self, users: Entities, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, m) float32: the sum over each user's attributes; 0 for items that came after the fit.

        Args:
            users: n users.
            rows: (m,), rows of items, -1 for others.
        """
        inside = (rows >= 0) & (rows < self.lifts.shape[1])
        if len(users) == 1:
            lifts = self.lifts[columns_of(users.attributes[0], self._columns)].sum(axis=0)
            return np.asarray(lifts[np.where(inside, rows, 0)] * inside)[None]
        hot = one_hot(users.attributes, self._columns)
        used, columns = np.unique(hot.indices, return_inverse=True)
        some = self.lifts[np.ix_(used, np.where(inside, rows, 0))] * inside
        groups = sp.csr_matrix((hot.data, columns, hot.indptr), shape=(len(users), len(used)))
        return np.asarray(groups @ some, dtype=np.float32)

    def mean_of(self, users: Entities, means: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1) float32: the mean of `of` over some items, from the mean of each group over them, (g,)."""
        sums = [means[columns_of(labels, self._columns)].sum() for labels in users.attributes]
        return np.array(sums, dtype=np.float32)[:, None]
