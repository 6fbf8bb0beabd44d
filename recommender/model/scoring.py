"""The arithmetic of a score: R' = R + γ·P_u'ᵀ A P_i', its parts standardised per user.

Each part is centred by a user's mean over the items with history in training, so that a pair's score depends on
nothing else in the request. LightFM's score, popularity and what follows from text alone are divided by the user's own
deviation over these items. What follows from history is divided by the usual deviation among all users, so that a
history counts for more the longer it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.model.closed_form import MOST_ITEMS
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.fitted import Fitted, ItemSide

Scores: TypeAlias = NDArray[np.floating[Any]]

# Scores of one block of users and all items, at most: 16 MB of float32, a few times over.
_BLOCK = 4_000_000
# How many users tell what deviation is usual.
_SAMPLE = 500


@dataclass(frozen=True)
class UserSide:
    """n users as the arithmetic needs them.

    Attributes:
        fitted: the state of the recommender.
        entities: what is known of them.
        history: (n, items), the weights of what they did.
        described: (n, w), what their descriptions add to their profiles.
        latent: (n, c), LightFM's vectors.
        trust: (n,), the weight of LightFM's score beside popularity, 0 to 1.
        gamma: (n,), γ of each.
        cold: (n,), true without history.
    """

    fitted: Fitted
    entities: Entities
    history: sp.csr_matrix
    described: FeatureMatrix
    latent: Vectors
    trust: NDArray[np.float32]
    gamma: NDArray[np.float32]
    cold: NDArray[np.bool_]

    @classmethod
    def of(cls, fitted: Fitted, users: Entities) -> UserSide:
        """Users, known or not; their profiles are the given ones."""
        settings, vocabulary = fitted.parameters, fitted.item_space.vocabulary
        history = fitted.history_of(users.ids)
        weights = settings.alpha_of(users.evidence).astype(np.float32)
        dense = weights[:, None] * users.embeddings
        words = sp.csr_matrix(sp.diags(weights) @ vocabulary.tfidf(users.descriptions))
        words.resize(len(users), len(vocabulary.words) + len(vocabulary.attributes))
        n = np.diff(history.indptr)
        cold = (n == 0) & ~users.profiles.any(axis=1)
        if settings.predicted_profile_weight and cold.any():
            # The weight was chosen for users without history; a history says more than a prediction.
            dense[cold] += settings.predicted_profile_weight * fitted.predicted_profiles.profiles(users)[cold]
        known = fitted.user_space.knows(users.ids) & (n > 0)
        half = settings.lightfm_half_trust
        share = n / np.maximum(n + half, 1e-9) if np.isfinite(half) else np.zeros(len(n))
        trust = np.where(known, share, 0).astype(np.float32)
        has_text = users.embeddings.any(axis=1) | (np.diff(words.indptr) > 0)
        gamma_cold = np.where(has_text, settings.gamma_cold, settings.gamma_attributes)
        gamma = np.where(cold, gamma_cold, settings.gamma).astype(np.float32)
        latent = np.asarray(fitted.user_space.matrix(users) @ fitted.factors.users)
        return cls(fitted, users, history, FeatureMatrix(dense, words), latent, trust, gamma, cold)

    @cached_property
    def expected(self) -> sp.csr_matrix:
        """(n, items), history·B."""
        return sp.csr_matrix(self.history @ self.fitted.widened(self.fitted.item_item))

    @cached_property
    def past(self) -> Vectors:
        """(n, w), their profiles in the feature matrix's columns, without their descriptions."""
        features = self.fitted.all_items.features
        smoothing = np.float32(self.fitted.parameters.item_item_smoothing)
        words = (self.history @ features.sparse).toarray()
        past: Vectors = np.hstack([self.entities.profiles, words]) + smoothing * features.summed(self.expected)
        return past

    @cached_property
    def text(self) -> Vectors:
        """(n, w), what their descriptions add to it."""
        return self.described.toarray()

    @cached_property
    def text_direction(self) -> Vectors:
        """(n, w), what their descriptions add to P_u'ᵀ A."""
        d, metric = self.described.dense.shape[1], self.fitted.item_metric
        return np.asarray(self.described.dense @ metric[:d] + self.described.sparse @ metric[d:])

    def directions(self) -> Vectors:
        """(n, w), P_u'ᵀ A."""
        fitted = self.fitted
        if len(fitted.items) > MOST_ITEMS:
            found: Vectors = self.past @ fitted.item_metric + self.text_direction
            return found
        # What each item in a history adds is the same for all users: less to add up than the metric to multiply by.
        d = self.described.dense.shape[1]
        directions = self.entities.profiles @ fitted.item_metric[:d]
        directions += self.history @ fitted.text_directions
        return np.asarray(directions + self.text_direction if self.described.any() else directions)


@dataclass(frozen=True)
class Moments:
    """A user's mean and deviation of one part over the items with history in training; (n, 1) each."""

    mean: Scores
    deviation: Scores

    @classmethod
    def of(cls, scores: Scores) -> Moments:
        """Of rows of scores."""
        mean = scores.mean(axis=1, keepdims=True)
        return cls(mean, spread(scores.std(axis=1, keepdims=True), mean))

    def standard(self, scores: Scores) -> Scores:
        """In deviations from the mean."""
        return (scores - self.mean) / self.deviation


def spread(deviation: Scores, mean: Scores) -> Scores:
    """A deviation to divide by: 1 where there is none but rounding, so that equal scores stay equal."""
    return np.where(deviation > 1e-6 * np.abs(mean) + 1e-9, deviation, 1).astype(np.float32)


@dataclass(frozen=True)
class Block:
    """Scores of n users and any items, before they are added up.

    Attributes:
        users: the users.
        directions: (n, w), P_u'ᵀ A.
        expected: (n, b + 1), history·B of the items that B knows, then a column of zeros.
        of_text, of_expected, of_lightfm, of_popularity: the moments of each part.
    """

    users: UserSide
    directions: Vectors
    expected: Vectors
    of_text: Moments
    of_expected: Moments
    of_lightfm: Moments
    of_popularity: Moments

    @classmethod
    def of(cls, fitted: Fitted, users: Entities) -> Block:
        """Everything about n users that does not depend on the items of the request."""
        side = UserSide.of(fitted, users)
        directions, expected = side.directions(), _expected(side)
        mean = (directions @ fitted.mean_features)[:, None]
        expected_mean = _mean_expected(fitted, expected)
        # Only users without history are measured by their own deviation.
        cold = np.flatnonzero(side.cold)
        deviation = np.full((len(users), 1), fitted.usual_deviations[0], np.float32)
        deviation[cold] = spread(_text_deviations(fitted, directions[cold]), mean[cold])
        usual = np.full((len(users), 1), fitted.usual_deviations[1])
        means, covariance = fitted.latent_moments
        latent = np.hstack([side.latent, np.ones((len(users), 1))])
        lightfm = (latent @ means)[:, None]
        deviations = np.sqrt(np.maximum(np.einsum("ij,ij->i", latent @ covariance, latent), 0))[:, None]
        return cls(
            side, directions, expected, Moments(mean, deviation), Moments(expected_mean, usual),
            Moments(lightfm.astype(np.float32), spread(deviations, lightfm)),
            Moments.of(_popularity(side, fitted.warm_items, fitted.demand[fitted.warm_rows])),
        )  # fmt: skip

    def raw(self, items: ItemSide) -> tuple[Scores, Scores, Scores, Scores]:
        """P_u'ᵀ A x_i, B's, LightFM's and popularity's scores, not standardised.

        Each is (n, m), popularity (1, m) where it is the same for all.
        """
        fitted = self.users.fitted
        text = items.features.dot(self.directions).T
        expected = self.expected[:, fitted.partner_columns(items.rows)]
        lightfm = self.users.latent @ items.latent.T
        lightfm += items.bias
        return text, expected, lightfm, _popularity(self.users, items, _demand(fitted, items))

    def total(self, items: ItemSide) -> Scores:
        """R' of every user with every item, (n, m) float32."""
        fitted = self.users.fitted
        text, expected, lightfm, popularity = self.raw(items)
        trust = self.users.trust[:, None]
        text -= self.of_text.mean
        text *= self.text_weights(items)
        lightfm -= self.of_lightfm.mean
        lightfm *= trust / self.of_lightfm.deviation
        text += lightfm
        text += (1 - trust) * self.of_popularity.standard(popularity)
        expected -= self.of_expected.mean
        expected *= self.item_item_weights()
        expected *= fitted.partner_columns(items.rows) >= 0
        text += expected
        text += np.float32(fitted.parameters.cold_offset) * items.cold
        return text

    def text_weights(self, items: ItemSide) -> Scores:
        """(n, m): the weight of P_u'ᵀ A x_i; smaller for items with history, for which history speaks too."""
        weights = self.users.gamma[:, None] / self.of_text.deviation
        warm = np.float32(self.users.fitted.parameters.warm_text_weight)
        known = np.where(self.users.cold[:, None], 1, warm) * weights
        return np.asarray(np.where(items.cold[None], weights, known), dtype=np.float32)

    def item_item_weights(self) -> Scores:
        """(n, 1): the weight of B's score."""
        weight = self.users.fitted.parameters.item_item_weight
        return np.asarray(self.users.gamma[:, None] * weight / self.of_expected.deviation, dtype=np.float32)

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
        settings = fitted.parameters
        text = np.zeros(len(users))
        if side.described.any():
            mean = (side.text_direction @ fitted.mean_features)[users]
            text = items.features.paired(columns, side.text_direction, users) - mean
        weights = side.gamma[users] / self.of_text.deviation[users, 0]
        text = text * weights * np.where(items.cold[columns] | side.cold[users], 1, settings.warm_text_weight)
        base = side.trust[users] * (items.bias[columns] - fitted.warm_items.bias.mean())
        popularity = base / self.of_lightfm.deviation[users, 0] + settings.cold_offset * items.cold[columns]
        distinct, column = np.unique(columns, return_inverse=True)
        some = items.take(distinct)
        prior = self.of_popularity.standard(_popularity(side, some, _demand(fitted, some)))
        prior = np.broadcast_to(prior, (len(side.trust), len(distinct)))[users, column]
        popularity = popularity + (1 - side.trust[users]) * prior
        centre = side.latent @ fitted.warm_items.latent.mean(axis=0)
        products = np.einsum("ij,ij->i", side.latent[users], items.latent[columns]) - centre[users]
        return {
            "popularity": popularity,
            "lightfm": side.trust[users] * products / self.of_lightfm.deviation[users, 0],
            "text": text,
        }


def blocks(fitted: Fitted, users: Entities) -> Iterator[tuple[int, Block]]:
    """Users in blocks whose scores with all items are small enough to hold: where each begins, and the block."""
    size = max(_BLOCK // max(len(fitted.items), fitted.item_metric.shape[0]), 1)
    for start in range(0, max(len(users), 1), size):  # of no users, one empty block
        yield start, Block.of(fitted, users.take(np.arange(start, min(start + size, len(users)))))


def rescaled(fitted: Fitted) -> Fitted:
    """The same state with its usual deviations measured, after a change of parameters, item metric or B.

    They are measured on histories alone: a scale that moved with α would change what α was chosen for.
    """
    warm = np.flatnonzero(np.diff(fitted.history.whole.indptr))
    users = fitted.users.take(warm[:: max(len(warm) // _SAMPLE, 1)])
    silent = UserSide.of(fitted.with_parameters(alpha=0.0), users)
    directions, expected = silent.directions(), _expected(silent)
    # Users of whose items B knows none contribute zero deviation.
    squares = np.einsum("ij,ij->i", expected, expected)[:, None] / len(fitted.warm_items)
    deviations = np.sqrt(np.maximum(squares - _mean_expected(fitted, expected) ** 2, 0))
    parts = _text_deviations(fitted, directions), deviations
    usual = np.array([max(float(np.sqrt(np.mean(part**2))), 1e-9) for part in parts], dtype=np.float32)
    return fitted.changed(usual_deviations=usual)


def _expected(users: UserSide) -> Vectors:
    known = np.flatnonzero(users.fitted.in_item_item)
    return np.asarray(users.history[:, known] @ users.fitted.partners)


def _mean_expected(fitted: Fitted, expected: Vectors) -> Vectors:
    return np.asarray(expected.sum(axis=1, keepdims=True) / np.float32(len(fitted.warm_items)))


def _text_deviations(fitted: Fitted, directions: Vectors) -> Scores:
    return np.asarray(fitted.warm_items.features.dot(directions).T.std(axis=1, keepdims=True))


def _demand(fitted: Fitted, items: ItemSide) -> NDArray[np.float32]:
    return fitted.demand if items is fitted.all_items else fitted.demand_of(items)


def _popularity(users: UserSide, items: ItemSide, demand: NDArray[np.float32]) -> Scores:
    """(n, m), or (1, m) where it is the same for all."""
    weight = np.float32(users.fitted.parameters.attribute_popularity)
    if not weight or not users.cold.any():
        return demand[None]
    # The weight was chosen for users without history; a history says more than attributes.
    return demand + weight * users.fitted.attribute_popularity.of(users.entities, items.rows) * users.cold[:, None]
