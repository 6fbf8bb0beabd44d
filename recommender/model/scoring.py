"""The arithmetic of a score: R' = R + γ·P_u'ᵀ A P_i' and further parts, each standardised per user and weighed.

Each part is centred by a user's mean over the warm items, the items with history in training, and divided by the
user's own deviation over them, so that a pair's score depends on nothing else in the request. It is then bent,
sign(z)·log(1 + |z|), because the best items of a part lie many deviations above the others; parts that are logarithms
already are bent beyond three deviations only. Then it is multiplied by its weight for such a user and such an item
(`recommender.model.weights`). Freshness is added as it is (`recommender.model.freshness`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.model.closed_form import LatentMoments
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.user_side import Scores, UserSide
from recommender.model.weights import OF_WARM_ITEMS

# Scores of one block of users and all items, at most: 4 MB of float32, which a cache holds a few times over.
_BLOCK = 1_000_000
# A deviation below this share of the lengths of the two vectors behind a score is rounding.
_ROUNDING = np.float32(2e-3)
# The furthest that a part goes, after it is bent.
_FURTHEST = np.float32(8)
# Up to here, parts that are logarithms are not bent.
_STRAIGHT = np.float32(3)
_LOGARITHMS = ("popularity", "popularity_7d", "popularity_30d", "popularity_90d", "newness")
# The parts that are the same for all users with the same attributes and without words.
_OF_ATTRIBUTES = ("predicted_profile", "attribute_popularity")
_MOST_SHARED = 512
# The windows of `Fitted.trend_of`.
_TRENDS = {"popularity_7d": 0, "popularity_30d": 1, "popularity_90d": 2}


@dataclass(frozen=True)
class Block:
    """Scores of n users and any items, part by part.

    Attributes:
        users: the users.
    """

    users: UserSide
    _scales: dict[str, Scores] = field(default_factory=dict, repr=False)
    # Of one user and all items, by part: what is added to the score.
    _weighed: dict[str, Scores] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, fitted: Fitted, users: Entities, history: sp.csr_matrix | None = None) -> Block:
        """Of n users; see `UserSide.of`."""
        return cls(UserSide.of(fitted, users, history))

    def centred(self, part: str, items: ItemSide) -> Scores:
        """(n, m), or (1, m) where it is the same for all users: a part less its mean over the warm items."""
        side, fitted = self.users, self.users.fitted
        if part in ("lightfm", "lightfm_map"):
            c = items.latent.shape[1]
            vectors, bias, mean = items.latent, items.bias, fitted.latent_moments.mean
            if part == "lightfm_map":
                vectors, bias, mean = items.mapped[:, :c], items.mapped[:, c], fitted.mapped_moments.mean
            scores = (vectors @ side.latent[0])[None] if side.is_one else side.latent @ vectors.T
            scores += bias
            scores -= (side.latent @ mean[:-1] + mean[-1])[:, None]
            return np.asarray(scores * side.in_lightfm[:, None])
        if items.entities is None and part in side.alike:
            return side.alike[part][0][:, items.rows]
        if part in _DIRECTIONS:
            direction = getattr(side, _DIRECTIONS[part])
            return np.asarray(items.features.dot(direction).T - (direction @ fitted.mean_features)[:, None])
        if part == "item_item":
            known = fitted.in_partners(items.rows)
            mean = side.expected.sum(axis=1, keepdims=True) / np.float32(max(len(fitted.warm_rows), 1))
            return np.asarray((side.expected[:, np.where(known, items.rows, 0)] - mean) * known)
        if part == "attribute_popularity":
            lifts = fitted.attribute_popularity.of(side.entities, items.rows)
            return np.asarray((lifts - side.mean_lift) * ~items.cold)
        found, warm = self._of_items(part, items), self._of_items(part, fitted.warm_items)
        centred = found - warm.mean(dtype=np.float64)
        return np.asarray(np.where(items.cold & (part in OF_WARM_ITEMS), 0, centred), dtype=np.float32)[None]

    def scale(self, part: str) -> Scores:
        """(n, 1), or (1, 1): the deviation of a part over the warm items; not less than what is rounding."""
        if part not in self._scales:
            side, fitted = self.users, self.users.fitted
            if part in ("lightfm", "lightfm_map"):
                moments = fitted.latent_moments if part == "lightfm" else fitted.mapped_moments
                self._scales[part] = _latent_scale(side.latent, moments)
            else:
                self._keep_scale(part, self.centred(part, fitted.warm_items))
        return self._scales[part]

    def standard(self, part: str, items: ItemSide) -> Scores:
        """(n, m), or (1, m): a part in deviations from its mean, bent."""
        fitted = self.users.fitted
        key = self._shared(part) if items is fitted.all_items else None
        if key is not None and key in fitted.shared_parts:
            return fitted.shared_parts[key]
        scores = self.centred(part, items)
        if items is fitted.all_items and part not in self._scales and part not in ("lightfm", "lightfm_map"):
            self._keep_scale(part, scores[:, fitted.warm_rows] if len(items.cold_rows) else scores)
        scores /= self.scale(part)
        bent = _bent(scores, part)
        if key is not None and len(fitted.shared_parts) < _MOST_SHARED:
            bent.flags.writeable = False
            fitted.shared_parts[key] = bent
        return bent

    def _shared(self, part: str) -> tuple[str, ...] | None:
        """What is the same for all whose part is the same; None if it is of these users alone."""
        users = self.users.entities
        if part in _OF_ATTRIBUTES and len(users) == 1 and not users.embeddings.any():
            return part, *users.attributes[0]
        return (part,) if part in _LOGARITHMS else None

    def total(self, items: ItemSide) -> Scores:
        """R' of every user with every item, (n, m) float32."""
        weights, n, cold = self.users.fitted.parameters.weights, self.users.n, items.cold_rows
        total = np.zeros((len(n), len(items)), np.float32)
        total[:, cold] = np.float32(weights.cold_offset)
        if self.users.fitted.parameters.freshness:
            total += self.users.fitted.freshness_of(items)
        for part, of_warm, of_cold in zip(weights.parts, *weights.of_all(n, self.users.told), strict=True):
            scores = self.standard(part, items)
            own = scores if scores.shape == total.shape and scores.flags.writeable else None
            at_cold = scores[:, cold] * of_cold[:, None]
            weighed = np.multiply(scores, of_warm[:, None], out=own)
            weighed[:, cold] = at_cold
            total += weighed
            if self.users.is_one and items is self.users.fitted.all_items:
                self._weighed[part] = weighed
        return total

    def weight(self, part: str, users: NDArray[np.int64], cold: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(pairs,): the weight of a part for some users of this block, each with an item, cold or not."""
        weights, n, told = self.users.fitted.parameters.weights, self.users.n[users], self.users.told[users]
        return np.where(cold, weights.of(part, n, cold=True, told=told), weights.of(part, n, told=told))

    def parts(
        self, items: ItemSide, users: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """The parts of the scores of some pairs; what is missing from a score is the part of the user's history.

        Args:
            items: m items.
            users: (pairs,), rows of this block.
            columns: (pairs,), rows of `items`.

        Returns:
            popularity, lightfm and text, (pairs,) each.
        """
        side, fitted = self.users, self.users.fitted
        cold = items.cold[columns]
        found = {name: np.zeros(len(users)) for name in ("popularity", "lightfm", "text")}
        found["popularity"] += fitted.parameters.weights.cold_offset * cold
        if fitted.parameters.freshness:
            found["popularity"] += fitted.freshness_of(items)[columns]
        for part in fitted.parameters.weights.parts:
            group = GROUPS[part]
            if group is None or (part == "text" and not side.described.any()):
                continue
            if part in self._weighed and items is fitted.all_items and part not in ("lightfm", "text"):
                found[group] += self._weighed[part][0, columns]
                continue
            centred = self._paired(part, items, users, columns)
            scale = np.broadcast_to(self.scale(part), (len(side.n), 1))[users, 0]
            factor = self.weight(part, users, cold) * slope(part, centred, scale)
            if part == "text":  # what the description adds; the rest is of the history
                centred = self._in_direction(side.text_direction, items, users, columns)
            if part == "lightfm":
                bias = (items.bias[columns] - fitted.latent_moments.mean[-1]) * side.in_lightfm[users]
                found["popularity"] += factor * bias
                centred = centred - bias
            found[group] += factor * centred
        return found

    def _paired(
        self, part: str, items: ItemSide, users: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(pairs,): `centred` of some pairs, without computing it of all."""
        side, fitted = self.users, self.users.fitted
        if part in ("lightfm", "lightfm_map"):
            c = items.latent.shape[1]
            if part == "lightfm":
                vectors = np.column_stack([items.latent[columns], items.bias[columns]])
                vectors -= fitted.latent_moments.mean
            else:
                vectors = items.mapped[columns, : c + 1] - fitted.mapped_moments.mean
            products = np.einsum("ij,ij->i", side.latent[users], vectors[:, :c], dtype=np.float64)
            return np.asarray((products + vectors[:, c]) * side.in_lightfm[users])
        if items.entities is None and part in side.alike:
            return np.asarray(side.alike[part][0][users, items.rows[columns]], dtype=np.float64)
        if part in _DIRECTIONS:
            return self._in_direction(getattr(side, _DIRECTIONS[part]), items, users, columns)
        distinct, column = np.unique(columns, return_inverse=True)
        scores = np.broadcast_to(self.centred(part, items.take(distinct)), (len(side.n), len(distinct)))
        return np.asarray(scores[users, column], dtype=np.float64)

    def _in_direction(
        self, direction: Vectors, items: ItemSide, users: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        mean = (direction @ self.users.fitted.mean_features)[users]
        return items.features.paired(columns, direction, users) - mean

    def _of_items(self, part: str, items: ItemSide) -> NDArray[np.float32]:
        fitted = self.users.fitted
        if part == "popularity":
            return fitted.demand if items is fitted.all_items else fitted.demand_of(items)
        return fitted.newness_of(items) if part == "newness" else fitted.trend_of(items, _TRENDS[part])

    def _keep_scale(self, part: str, centred: Scores) -> None:
        """Measure the deviation of a part, from its scores of all warm items."""
        squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float32) / np.float32(max(centred.shape[1], 1))
        deviation = np.sqrt(squares)[:, None]
        least: Scores | float = float(_ROUNDING)
        if part in _DIRECTIONS:
            side, length = self.users, np.float32(self.users.fitted.feature_length)
            # Far enough above the floor, it does not matter how long the direction is exactly.
            if part in side.alike and (deviation[:, 0] >= 2 * _ROUNDING * length * side.alike[part][1]).all():
                least = 0.0
            else:
                least = _ROUNDING * length * np.linalg.norm(getattr(side, _DIRECTIONS[part]), axis=1, keepdims=True)
        elif part == "item_item":
            least = _ROUNDING * np.abs(self.users.expected).max(axis=1, initial=0, keepdims=True)
        self._scales[part] = _at_least(deviation, least)


# Parts that are products of the feature matrix with one direction for each user.
_DIRECTIONS = {
    "text": "direction", "neighbour_text": "neighbour_direction", "predicted_profile": "predicted_direction",
}  # fmt: skip
OF_METRIC = tuple(_DIRECTIONS)
# Where the parts stand in a table of recommendations; None is the history.
GROUPS = {
    "lightfm": "lightfm", "lightfm_map": "lightfm", "popularity": "popularity", "popularity_7d": "popularity",
    "popularity_30d": "popularity", "popularity_90d": "popularity", "newness": "popularity", "text": "text",
    "neighbour_text": None, "item_item": None, "predicted_profile": "text", "attribute_popularity": "popularity",
}  # fmt: skip


def slope(part: str, centred: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float64]:
    """What a centred score is multiplied by when it is standardised and bent: its terms are multiplied by the same."""
    z = np.asarray(np.abs(centred / scale), dtype=np.float64)
    factor = _bent(z.copy(), part) / np.maximum(z, 1e-12)
    return np.asarray(np.where(z > 1e-6, factor, 1) / scale, dtype=np.float64)


def _bent(scores: Scores, part: str) -> Scores:
    """sign(z)·log(1 + |z|), of logarithms sign(z)·(3 + log(|z| - 2)) beyond ±3; at most 8 either way.

    Changes and returns the array.
    """
    size = np.abs(scores)
    if part in _LOGARITHMS:
        beyond = np.maximum(size - _STRAIGHT, 0)
        size -= beyond
        size += np.log1p(beyond)
    else:
        size += 1
        np.log(size, out=size)
    np.minimum(size, _FURTHEST, out=size)
    return np.copysign(size, scores, out=scores)


def blocks(fitted: Fitted, users: Entities) -> Iterator[tuple[int, Block]]:
    """Users in blocks whose scores with all items are small enough to hold: where each begins, and the block."""
    size = max(_BLOCK // max(len(fitted.items), fitted.item_metric.shape[0]), 1)
    for start in range(0, max(len(users), 1), size):  # of no users, one empty block
        yield start, Block.of(fitted, users.take(np.arange(start, min(start + size, len(users)))))


def standard_parts(fitted: Fitted, users: Entities, parts: Sequence[str], columns: NDArray[np.int64]) -> list[Scores]:
    """Parts of the scores of n users with some known items, bent: (n, items) each, or (1, items)."""
    block, items = Block.of(fitted, users), fitted.all_items
    if len(columns) < len(items):
        items = items.take(columns)
    return [block.standard(part, items) for part in parts]


def _latent_scale(latent: Vectors, moments: LatentMoments) -> Scores:
    vectors = np.hstack([latent, np.ones((len(latent), 1))])
    squares = ((vectors @ moments.covariance) * vectors).sum(axis=1)
    length = np.sqrt((vectors * vectors).sum(axis=1)) * moments.length
    return _at_least(np.sqrt(np.maximum(squares, 0))[:, None], _ROUNDING * length[:, None])


def _at_least(deviation: Scores, least: Scores | float) -> Scores:
    """A deviation to divide by; 1 where there is nothing at all, so that zeros stay zeros."""
    found = np.maximum(deviation, least)
    return np.where(found > 0, found, 1).astype(np.float32)
