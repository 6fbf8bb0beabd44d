"""The arithmetic of a score: R' = R + γ·P_u'ᵀ A P_i', its parts standardised per user.

Each part is centred by a user's mean over the items with history in training, so that a pair's score depends on
nothing else that is asked. LightFM's score, popularity and what follows from words alone are scaled by the user's own
deviation over these items, what follows from history by the deviation that is usual among all users: then history
counts for more the more there is of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors, evidence_weight
from recommender.data.entities import Entities
from recommender.model.closed_form import MOST_ITEMS
from recommender.model.feature_matrix import Columns

if TYPE_CHECKING:
    from recommender.model.recommender import HybridRecommender

Scores: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ItemSide:
    """m items as the arithmetic needs them.

    Attributes:
        entities: what is known of them.
        columns: (m, w), the joint columns.
        latent: (m, c), LightFM's vectors.
        bias: (m,), LightFM's.
        demand: (m,), log(1 + buyers), predicted from the words where nobody has bought yet.
        rows: (m,) their rows in the recommender, -1 for strangers.
        cold: (m,) true without history in training.
    """

    entities: Entities
    columns: Columns
    latent: Vectors
    bias: NDArray[np.float32]
    demand: NDArray[np.float32]
    rows: NDArray[np.int64]
    cold: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: NDArray[np.int64]) -> ItemSide:
        """These items, in this order."""
        return ItemSide(
            self.entities.take(rows), self.columns.take(rows), self.latent[rows], self.bias[rows], self.demand[rows],
            self.rows[rows], self.cold[rows],
        )  # fmt: skip

    @classmethod
    def of(cls, model: HybridRecommender, items: Entities) -> ItemSide:
        """Items that the recommender may have seen or not."""
        space, factors = model.item_space, model.factors
        features = space.matrix(items)
        columns = space.vocabulary.columns(items)
        rows = np.array([model.item_rows.get(name, -1) for name in items.ids], dtype=np.int64)
        counts = np.where(rows >= 0, model.counts[rows], 0)
        predicted = columns.dot(model.demand_weights[None]).ravel() + model.demand_centre
        demand = np.where(counts > 0, np.log1p(counts), predicted).astype(np.float32)
        return cls(
            items, columns, np.asarray(features @ factors.items), np.asarray(features @ factors.biases), demand, rows,
            ~space.knows(items.ids),
        )  # fmt: skip


@dataclass(frozen=True)
class UserSide:
    """n users as the arithmetic needs them.

    Attributes:
        model: the recommender.
        entities: what is known of them.
        history: (n, items), the weights of what they did.
        said: (n, w), what their words add to their profiles.
        latent: (n, c), LightFM's vectors.
        trust: (n,), how much LightFM's score counts beside popularity, 0 to 1.
        gamma: (n,), γ of each.
        cold: (n,), true without history.
    """

    model: HybridRecommender
    entities: Entities
    history: sp.csr_matrix
    said: Columns
    latent: Vectors
    trust: NDArray[np.float32]
    gamma: NDArray[np.float32]
    cold: NDArray[np.bool_]

    @classmethod
    def of(cls, model: HybridRecommender, users: Entities) -> UserSide:
        """Users that the recommender may have seen or not; their profiles are the given ones."""
        settings, vocabulary = model.parameters, model.item_space.vocabulary
        history = model.history_of(users.ids)
        weights = evidence_weight(users.evidence, settings.alpha, settings.evidence_scale).astype(np.float32)
        spoken = weights[:, None] * users.embeddings
        tfidf = sp.csr_matrix(sp.diags(weights) @ vocabulary.tfidf(users.descriptions))
        tfidf.resize(len(users), len(vocabulary.words) + len(vocabulary.attributes))
        n = np.diff(history.indptr)
        cold = (n == 0) & ~users.profiles.any(axis=1)
        if settings.taste and cold.any():
            # It was chosen for users without history; who has one has shown his taste.
            spoken[cold] += settings.taste * model.taste.profiles(users)[cold]
        known = model.user_space.knows(users.ids) & (n > 0)
        share = n / np.maximum(n + settings.few, 1e-9) if np.isfinite(settings.few) else np.zeros(len(n))
        trust = np.where(known, share, 0).astype(np.float32)
        heard = users.embeddings.any(axis=1) | (np.diff(tfidf.indptr) > 0)
        gamma_cold = np.where(heard, settings.gamma_cold, settings.gamma_attributes)
        gamma = np.where(cold, gamma_cold, settings.gamma).astype(np.float32)
        latent = np.asarray(model.user_space.matrix(users) @ model.factors.users)
        return cls(model, users, history, Columns(spoken, tfidf), latent, trust, gamma, cold)

    @cached_property
    def expected(self) -> sp.csr_matrix:
        """(n, items), history·B."""
        return sp.csr_matrix(self.history @ self.model.behaviour)

    @cached_property
    def past(self) -> Vectors:
        """(n, w), their profile in the joint columns, without their words."""
        columns, smoothing = self.model.all_items.columns, np.float32(self.model.parameters.smoothing)
        words = (self.history @ columns.sparse).toarray()
        past: Vectors = np.hstack([self.entities.profiles, words]) + smoothing * columns.summed(self.expected)
        return past

    @cached_property
    def words(self) -> Vectors:
        """(n, w), what their words add to it."""
        return self.said.toarray()

    @cached_property
    def spoken(self) -> Vectors:
        """(n, w), what their words add to P_u'ᵀ A."""
        d, metric = self.said.dense.shape[1], self.model.metric
        return np.asarray(self.said.dense @ metric[:d] + self.said.sparse @ metric[d:])

    def tastes(self) -> Vectors:
        """(n, w), P_u'ᵀ A."""
        if len(self.model.items) > MOST_ITEMS:
            found: Vectors = self.past @ self.model.metric + self.spoken
            return found
        # What each item in a history adds is the same for all users: less to add up than the metric to multiply by.
        d = self.said.dense.shape[1]
        tastes = self.entities.profiles @ self.model.metric[:d]
        tastes += self.history @ self.model.item_tastes
        return np.asarray(tastes + self.spoken if self.said.any() else tastes)


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
    """Scores of n users and all items of the recommender, or other ones, before they are added up.

    Attributes:
        users: the users.
        tastes: (n, w), P_u'ᵀ A.
        behaved: (n, b + 1), history·B, of the items that B knows, then a column of zeros.
        text, expected, lightfm, popularity: of each part, the moments.
    """

    users: UserSide
    tastes: Vectors
    behaved: Vectors
    text: Moments
    expected: Moments
    lightfm: Moments
    popularity: Moments

    @classmethod
    def of(cls, model: HybridRecommender, users: Entities) -> Block:
        """Everything about n users that does not depend on the items that are asked."""
        side = UserSide.of(model, users)
        tastes, behaved = side.tastes(), _behaved(model, side.history)
        warm, n = model.warm_items, len(model.warm_items)
        mean, deviation = (tastes @ model.mean_column)[:, None], np.ones((len(users), 1), np.float32)
        # Only who has no history is measured by his own deviation.
        own = np.arange(len(users)) if model.scales is None else np.flatnonzero(side.cold)
        deviation[own] = warm.columns.dot(tastes[own]).T.std(axis=1, keepdims=True)
        expected = behaved.sum(axis=1, keepdims=True) / np.float32(n)
        if model.scales is None:
            # For `usual` alone, which nothing is divided by: who has nothing to go by deviates by nothing.
            squares = np.einsum("ij,ij->i", behaved, behaved)[:, None] / n
            usual = np.sqrt(np.maximum(squares - expected**2, 0))
        else:
            deviation[own] = spread(deviation[own], mean[own])
            deviation[~side.cold] = model.scales[0]
            usual = np.full((len(users), 1), model.scales[1])
        means, covariance = model.latent_moments
        latent = np.hstack([side.latent, np.ones((len(users), 1))])
        lightfm = (latent @ means)[:, None]
        deviations = np.sqrt(np.maximum(np.einsum("ij,ij->i", latent @ covariance, latent), 0))[:, None]
        return cls(
            side, tastes, behaved, Moments(mean, deviation), Moments(expected, usual),
            Moments(lightfm.astype(np.float32), spread(deviations, lightfm)),
            Moments.of(_popularity(model, side, warm)),
        )  # fmt: skip

    def usual(self) -> NDArray[np.float32]:
        """(2,): the deviations of the scores of words and of B, as a root mean square over these users."""
        parts = (self.text.deviation, self.expected.deviation)
        return np.array([max(float(np.sqrt(np.mean(part**2))), 1e-9) for part in parts], dtype=np.float32)

    def raw(self, model: HybridRecommender, items: ItemSide) -> tuple[Scores, Scores, Scores, Scores]:
        """P_u'ᵀ A x_i, B's, LightFM's and popularity's scores, not standardised.

        Each is (n, m), popularity (1, m) where it is the same for all.
        """
        text = items.columns.dot(self.tastes).T
        expected = self.behaved[:, np.where(items.rows >= 0, model.partner_rows[items.rows], -1)]
        lightfm = self.users.latent @ items.latent.T
        lightfm += items.bias
        return text, expected, lightfm, _popularity(model, self.users, items)

    def total(self, model: HybridRecommender, items: ItemSide) -> Scores:
        """R' of every user with every item, (n, m) float32."""
        text, expected, lightfm, popularity = self.raw(model, items)
        trust = self.users.trust[:, None]
        text -= self.text.mean
        text *= self.word_weights(model, items)
        lightfm -= self.lightfm.mean
        lightfm *= trust / self.lightfm.deviation
        text += lightfm
        text += (1 - trust) * self.popularity.standard(popularity)
        expected -= self.expected.mean
        expected *= self.behaviour_weights(model)
        expected *= (items.rows >= 0) & model.behaves[items.rows]
        text += expected
        text += np.float32(model.parameters.cold_offset) * items.cold
        return text

    def word_weights(self, model: HybridRecommender, items: ItemSide) -> Scores:
        """(n, m): what P_u'ᵀ A x_i counts; items with history lean on it less, for whom there is history to say."""
        weights = self.users.gamma[:, None] / self.text.deviation
        known = np.where(self.users.cold[:, None], 1, np.float32(model.parameters.warm_words)) * weights
        return np.asarray(np.where(items.cold[None], weights, known), dtype=np.float32)

    def behaviour_weights(self, model: HybridRecommender) -> Scores:
        """(n, 1): what B's score counts."""
        weights = self.users.gamma[:, None] * model.parameters.behaviour / self.expected.deviation
        return np.asarray(weights, dtype=np.float32)

    def parts(
        self, model: HybridRecommender, items: ItemSide, users: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """What the scores of some pairs are made of; what is missing from the score is the user's history.

        Args:
            users: rows of this block.
            columns: as many rows of `items`.

        Returns:
            popularity, lightfm and words, (pairs,) each.
        """
        side, settings = self.users, model.parameters
        said = np.zeros(len(users))
        if side.said.any():
            said = items.columns.paired(columns, side.spoken, users) - (side.spoken @ model.mean_column)[users]
        weights = side.gamma[users] / self.text.deviation[users, 0]
        said = said * weights * np.where(items.cold[columns] | side.cold[users], 1, settings.warm_words)
        base = side.trust[users] * (items.bias[columns] - model.warm_items.bias.mean())
        popularity = base / self.lightfm.deviation[users, 0] + settings.cold_offset * items.cold[columns]
        asked, column = np.unique(columns, return_inverse=True)
        prior = self.popularity.standard(_popularity(model, side, items.take(asked)))
        prior = np.broadcast_to(prior, (len(side.trust), len(asked)))[users, column]
        popularity = popularity + (1 - side.trust[users]) * prior
        centre = side.latent @ model.warm_items.latent.mean(axis=0)
        products = np.einsum("ij,ij->i", side.latent[users], items.latent[columns]) - centre[users]
        return {
            "popularity": popularity,
            "lightfm": side.trust[users] * products / self.lightfm.deviation[users, 0],
            "words": said,
        }


def _behaved(model: HybridRecommender, history: sp.csr_matrix) -> Vectors:
    known = np.flatnonzero(model.behaves)
    return np.asarray(history[:, known] @ model.partners)


def _popularity(model: HybridRecommender, users: UserSide, items: ItemSide) -> Scores:
    """(n, m), or (1, m) where it is the same for all."""
    weight = np.float32(model.parameters.attribute_popularity)
    if not weight or not users.cold.any():
        return items.demand[None]
    # It was chosen for users without history; who has one has shown what he likes.
    lifts = model.groups.of(users.entities)[:, items.rows] * users.cold[:, None]
    lifts[:, items.rows < 0] = 0
    return items.demand + weight * lifts
