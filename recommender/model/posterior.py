"""What is known of a user's profile P_u, as a normal distribution, and what an answer adds to it.

Bayesian ridge regression (Bishop 2006, Pattern Recognition and Machine Learning, section 3.3) on the profile. Whether a
user wants item i is y_i = m_i + v_i·z + noise: m_i is what is expected of everybody, and z ~ N(0, I) are the user's
places along the r directions in which the profiles of the training users differ most, as the item metric A sees them.
Each answer is a rank-one update, and how much it will narrow the distribution does not depend on what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.user_side import UserSide

# Directions of profiles; users, and the items with most users, that they are learned from.
DIRECTIONS, _MOST_USERS, _MOST_ITEMS = 48, 2_048, 4_096
# The part of the variance of an answer that no profile explains, at least.
_LEAST_NOISE = 0.25
# An attribute of fewer users says nothing; the most frequent ones are kept.
_FEWEST, _MOST_ATTRIBUTES = 20, 256

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """What is expected of anybody about n things: items or attributes.

    Attributes:
        vectors: (n, r) float32, v.
        expected: (n,), m: the share of users who want each.
        noise: (n,), the variance of an answer around what the profile says.
    """

    vectors: Vectors
    expected: Numbers
    noise: Numbers

    @classmethod
    def of(cls, vectors: Vectors, share: Numbers) -> Shares:
        """Of things that a share of the users wants."""
        spread = share * (1 - share)
        told = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        return cls(vectors, share, np.maximum(spread - told, _LEAST_NOISE * spread))

    def joined(self, other: Shares) -> Shares:
        """These, followed by the others."""
        return Shares(
            np.concatenate([self.vectors, other.vectors]), np.concatenate([self.expected, other.expected]),
            np.concatenate([self.noise, other.noise]),
        )  # fmt: skip


@dataclass(frozen=True)
class ProfilePrior:
    """How the profiles of users are spread.

    Attributes:
        directions: (w, r) float32; an item with the row x of the feature matrix has v = x·directions.
        users: number of training users.
        attributes: g attributes of items, "column=value".
        of_attributes: what is expected of them; a user wants an attribute who has an item with it.
    """

    directions: Vectors
    users: int
    attributes: Sequence[str]
    of_attributes: Shares

    @classmethod
    def of(cls, fitted: Fitted, directions: int = DIRECTIONS) -> ProfilePrior:
        """Learn from the histories of the training users: the r largest principal components of P_uᵀ A x_i.

        Each item counts once in a history. Of more users than 2,048, so many are read, spread evenly; of more items
        than 4,096, those with most users.

        Args:
            fitted: the state of the recommender.
            directions: r, at most.
        """
        from sklearn.utils.extmath import randomized_svd

        history = fitted.history.whole
        found = np.flatnonzero(np.diff(history.indptr) > 0)
        users = found[np.linspace(0, len(found) - 1, min(len(found), _MOST_USERS)).astype(np.int64)]
        taken = sp.csr_matrix(history[users].astype(bool), dtype=np.float32)
        items = np.sort(np.argsort(-fitted.counts, kind="stable")[:_MOST_ITEMS])
        profiles = fitted.all_items.features.summed(taken)
        profiles -= profiles.mean(axis=0)
        mapped = profiles @ fitted.item_metric
        told = np.ascontiguousarray(fitted.all_items.features.take(items).dot(mapped).T)
        left, sizes, _ = randomized_svd(told, max(min(directions, *told.shape), 1), random_state=0)
        left = np.asarray(left[:, sizes > 1e-6 * max(float(sizes.max()), 1e-12)])
        # told = left·sizes·rightᵀ and mapped·x is what is told of any item x: its part along `left` gives v.
        vectors = mapped.T @ left / np.sqrt(len(users))
        names, shares = _attributes(fitted, taken, left * np.sqrt(len(users)))
        return cls(np.asarray(vectors, np.float32), len(found), names, shares)

    def of_items(self, fitted: Fitted, items: ItemSide) -> Shares:
        """What is expected of items, known or not: of those without buyers what their words say."""
        counts = np.expm1(np.maximum(fitted.demand_of(items).astype(np.float64), 0))
        share = np.clip((counts + 0.5) / (self.users + 1), 1e-6, 0.5)
        return Shares.of(items.features.dot(np.ascontiguousarray(self.directions.T)), share)


def _attributes(fitted: Fitted, taken: sp.csr_matrix, places: Vectors) -> tuple[list[str], Shares]:
    """The attributes that are neither rare nor everybody's, and the regression of who has each on z, (users, r)."""
    names, columns = [], []
    by_count = sorted(fitted.rows_with.items(), key=lambda one: (-fitted.counts[one[1]].sum(), one[0]))
    for name, rows in by_count[: 2 * _MOST_ATTRIBUTES]:
        having = np.diff(sp.csr_matrix(taken[:, rows]).indptr) > 0
        if len(rows) > 1 and _FEWEST <= having.sum() <= len(having) - _FEWEST:
            names.append(name)
            columns.append(having)
    share = np.array([column.mean() for column in columns[:_MOST_ATTRIBUTES]])
    centred = np.array(columns[:_MOST_ATTRIBUTES], np.float64).reshape(len(share), taken.shape[0]) - share[:, None]
    return names[:_MOST_ATTRIBUTES], Shares.of(np.asarray(centred @ places / taken.shape[0], np.float32), share)


@dataclass(frozen=True)
class ProfilePosterior:
    """What is known of one user's profile.

    Attributes:
        things: what can be asked about.
        mean: (r,), of z.
        covariance: (r, r), of z.
    """

    things: Shares
    mean: Numbers
    covariance: Numbers

    @classmethod
    def before(cls, things: Shares, described: Numbers | None = None) -> ProfilePosterior:
        """Of a user who has not answered yet.

        Args:
            things: what can be asked about.
            described: (n,), what the user's description adds, α·M(d)ᵀ A x_i (see `described`); None without one.
        """
        r = things.vectors.shape[1]
        if described is not None:
            things = replace(things, expected=things.expected + described)
        return cls(things, np.zeros(r), np.eye(r))

    def after(self, row: int, value: float) -> ProfilePosterior:
        """After an answer about the thing in a row: 1 for yes, 0 for no."""
        vector = self.things.vectors[row].astype(np.float64)
        spread = self.covariance @ vector
        variance = float(vector @ spread) + float(self.things.noise[row])
        surprise = value - float(self.things.expected[row]) - float(vector @ self.mean)
        return replace(
            self, mean=self.mean + spread * (surprise / variance),
            covariance=self.covariance - np.outer(spread, spread) / variance,
        )  # fmt: skip

    def expected(self) -> Numbers:
        """(n,), the expected answers; they may lie beyond 0 and 1."""
        return np.asarray(self.things.expected + self.things.vectors @ self.mean)

    def uncertainty(self, gram: Numbers) -> float:
        """The variance of what is ranked, summed over items.

        Args:
            gram: (r, r), Σ v·vᵀ over the items that are ranked.
        """
        return float(np.einsum("ij,ij->", self.covariance, gram))

    def reductions(self, rows: NDArray[np.int64], gram: Numbers) -> Numbers:
        """(q,), by how much each answer reduces `uncertainty`.

        The answer to a question with the vector v reduces the variance of item t by (v_tᵀ S v)² / (vᵀ S v + noise),
        whatever the answer is; S is the covariance.

        Args:
            rows: (q,), what is asked about.
            gram: as for `uncertainty`.
        """
        vectors = self.things.vectors[rows].astype(np.float64)
        spread = vectors @ self.covariance
        gained = np.einsum("ij,ij->i", spread @ gram, spread)
        return np.asarray(gained / (np.einsum("ij,ij->i", spread, vectors) + self.things.noise[rows]))


def described(side: UserSide, items: ItemSide) -> Numbers | None:
    """(m,), what the description of one user adds to what is expected of items; None without one.

    It is α·M(d)ᵀ A (x_i - x̄), the mean of the prior less that of everybody.
    """
    if not side.described.any():
        return None
    direction = side.text_direction
    return np.asarray(items.features.dot(direction)[:, 0] - direction[0] @ side.fitted.mean_features, np.float64)
