"""Users as the arithmetic of a score needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.model.closed_form import MOST_ITEMS
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.fitted import Fitted
from recommender.model.rows import added_up

Scores: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class UserSide:
    """n users as the arithmetic needs them.

    Attributes:
        fitted: the state of the recommender.
        entities: what is known of them.
        history: (n, items), the weights of what they did.
        described: (n, w), what their descriptions add to their profiles.
        latent: (n, c), LightFM's vectors.
        cold: (n,), true without history.
    """

    fitted: Fitted
    entities: Entities
    history: sp.csr_matrix
    described: FeatureMatrix
    latent: Vectors
    cold: NDArray[np.bool_]

    @classmethod
    def of(cls, fitted: Fitted, users: Entities, history: sp.csr_matrix | None = None) -> UserSide:
        """Users, known or not; their profiles are the given ones, their history too unless it is None."""
        vocabulary = fitted.item_space.vocabulary
        history = fitted.history_of(users.ids) if history is None else history
        shape = len(users), len(vocabulary.words) + len(vocabulary.attributes)
        described = _nothing(*shape[1:], users.embeddings.shape[1])
        if len(users) != 1 or users.embeddings.any() or users.descriptions[0]:
            weights = fitted.parameters.alpha_of(users.evidence).astype(np.float32)
            words = sp.csr_matrix(sp.diags(weights) @ vocabulary.tfidf(users.descriptions, sentences=True))
            words.resize(*shape)
            described = FeatureMatrix(weights[:, None] * fitted.without_common(users.embeddings), words)
        cold = (np.diff(history.indptr) == 0) & ~users.profiles.any(axis=1)
        latent = fitted.user_space.represented(users, fitted.factors.users)
        return cls(fitted, users, history, described, latent, cold)

    @cached_property
    def n(self) -> NDArray[np.int64]:
        """(n,), how many items each has in their history."""
        return np.asarray(np.diff(self.history.indptr), dtype=np.int64)

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """(n,), whether they have a description."""
        words = np.diff(self.described.sparse.indptr) > 0
        return np.asarray(words | self.described.dense.any(axis=1))

    @property
    def _without_tables(self) -> bool:
        """Whether tables of directions are too large, or not worth their memory."""
        return len(self.fitted.items) > MOST_ITEMS or self.fitted.likeness is not None

    @property
    def is_one(self) -> bool:
        """Whether this is one user."""
        return len(self.entities) == 1

    @cached_property
    def in_lightfm(self) -> NDArray[np.bool_]:
        """(n,), whether LightFM knows anything of them: it has a bias for each item, but that is no user's."""
        return np.asarray(np.any(self.latent, axis=1))

    @cached_property
    def expected(self) -> Vectors:
        """(n, items at the fit), history·B."""
        history, item_item = self._at_fit, self.fitted.item_item
        if self.is_one:  # the product of two sparse matrices looks at everything twice
            return np.asarray(item_item[history.indices].T @ history.data)[None]
        return np.asarray((history @ item_item).toarray())

    @property
    def _at_fit(self) -> sp.csr_matrix:
        """(n, items at the fit), the history with the items that B may know."""
        b = self.fitted.item_item.shape[0]
        return self.history if self.history.shape[1] == b else self.history[:, :b]

    @cached_property
    def past(self) -> Vectors:
        """(n, w), their profiles in the feature matrix's columns, without their descriptions."""
        words = (self.history @ self.fitted.all_items.features.sparse).toarray()
        return np.hstack([self.entities.profiles, words])

    @cached_property
    def text(self) -> Vectors:
        """(n, w), what their descriptions add to it."""
        return self.described.toarray()

    @cached_property
    def text_direction(self) -> Vectors:
        """(n, w), what their descriptions add to P_u'ᵀ A."""
        d, metric = self.described.dense.shape[1], self.fitted.item_metric
        return np.asarray(self.described.dense @ metric[:d] + self.described.sparse @ metric[d:])

    @cached_property
    def direction(self) -> Vectors:
        """(n, w), P_u'ᵀ A."""
        fitted, d = self.fitted, self.described.dense.shape[1]
        found: Vectors = self.entities.profiles @ fitted.item_metric[:d]
        if self._without_tables:
            found += (self.history @ fitted.all_items.features.sparse) @ fitted.item_metric[d:]
        else:
            # What each item in a history adds is the same for all users: less to add up than A to multiply by.
            found += added_up(self.history, fitted.text_directions)
        return found + self.text_direction if self.described.any() else found

    @cached_property
    def neighbour_direction(self) -> Vectors:
        """(n, w), (history·B·X)ᵀ A."""
        fitted = self.fitted
        if not self._without_tables:
            return added_up(self._at_fit, fitted.neighbour_directions)
        features = fitted.all_items.features.take(np.arange(fitted.item_item.shape[0]))
        return np.asarray(features.summed(sp.csr_matrix(self._at_fit @ fitted.item_item)) @ fitted.item_metric)

    @cached_property
    def alike(self) -> dict[str, tuple[Scores, Vectors]]:
        """What `Fitted.likeness` says: by part (n, items) centred scores, and (n,) about how long directions are."""
        likeness, features = self.fitted.likeness, self.fitted.all_items.features
        if likeness is None:
            return {}
        scores, length = likeness.text_of(self.history)
        direction = likeness.beyond(self.history, self.entities.profiles, features, self.fitted.item_metric)
        if self.described.any():
            direction = self.text_direction if direction is None else direction + self.text_direction
        if direction is not None:
            scores += features.dot(direction).T
            scores -= (direction @ self.fitted.mean_features)[:, None]
            length += np.linalg.norm(direction, axis=1)
        return {"text": (scores, length), "neighbour_text": likeness.neighbours_of(self.history)}

    @cached_property
    def mean_lift(self) -> Vectors:
        """(n, 1), the mean of `attribute_popularity` over the warm items."""
        return self.fitted.attribute_popularity.mean_of(self.entities, self.fitted.mean_lifts)

    @cached_property
    def predicted_direction(self) -> Vectors:
        """(n, w), predicted profileᵀ A."""
        return self.fitted.predicted_profiles.mapped(self.entities, self.fitted.predicted_directions)


@lru_cache(maxsize=4)
def _nothing(words: int, width: int) -> FeatureMatrix:
    """What one user adds to their profile who says nothing; read only."""
    return FeatureMatrix(np.zeros((1, width), np.float32), sp.csr_matrix((1, words), dtype=np.float32))
