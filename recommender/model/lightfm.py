"""R: LightFM on hybrid features, identity | words | attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.model.feature_matrix import Vocabulary, one_hot
from recommender.model.parameters import Parameters


class DivergedError(ColdStartError):
    """LightFM's numbers grew without bound."""


class FeatureSpace:
    """The columns of one side's hybrid features.

    Learned from entities with history; a word, attribute or id that they do not have gets no column, so an
    unseen entity's identity is zero and its vector the sum of its known features.

    Attributes:
        ids: identity columns.
        vocabulary: words and attributes.
        identity_weight: the value in the identity columns. Below 1 a warm entity leans on its words, and
            so the words learn what a cold one needs.
    """

    def __init__(self, ids: Sequence[str], vocabulary: Vocabulary, identity_weight: float) -> None:
        self.ids, self.vocabulary, self.identity_weight = list(ids), vocabulary, identity_weight
        self._columns = {name: column for column, name in enumerate(self.ids)}

    @classmethod
    def fit(cls, entities: Entities, identity_weight: float) -> FeatureSpace:
        """Learn the columns from entities that have history."""
        return cls(entities.ids, Vocabulary.fit(entities.descriptions, entities.attributes), identity_weight)

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.names)

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """(kind, name) of every column, in order."""
        words, attributes = self.vocabulary.words, self.vocabulary.attributes
        return [
            *(("identity", name) for name in self.ids), *(("word", name) for name in words),
            *(("attribute", name) for name in attributes),
        ]  # fmt: skip

    def matrix(self, entities: Entities) -> sp.csr_matrix:
        """Features of entities, known or not: (n, width) float32.

        Words and attributes are divided by the square root of their number, so that those of a long text do not drown
        the identity, nor an entity with a long text the others.
        """
        identity = one_hot([[name] for name in entities.ids], self._columns) * np.float32(self.identity_weight)
        words = self.vocabulary.tfidf(entities.descriptions)
        words.data[:] = 1
        known = sp.hstack([words, self.vocabulary.labels(entities.attributes)], format="csr")
        known.data /= np.repeat(np.sqrt(np.diff(known.indptr)), np.diff(known.indptr)).astype(np.float32)
        return sp.hstack([identity, known], format="csr")

    def represented(self, entities: Entities, factors: Vectors) -> Vectors:
        """(n, c): the sums of the factors, (width, c), of each entity's features."""
        if len(entities) != 1 or entities.descriptions[0]:
            return np.asarray(self.matrix(entities) @ factors)
        # One entity without words has few features; scipy takes longer to look at them than to add them up.
        found = np.zeros(factors.shape[1], np.float32)
        if (identity := self._columns.get(entities.ids[0])) is not None:
            found += np.float32(self.identity_weight) * factors[identity]
        if columns := self.vocabulary.label_columns(entities.attributes[0]):
            rows = np.array(columns) + len(self.ids) + len(self.vocabulary.words)
            found += factors[rows].sum(axis=0) * np.float32(1 / np.sqrt(len(columns)))
        return found[None]

    def knows(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """(n,), whether an id has an identity column: whether it had history in training."""
        return np.array([name in self._columns for name in ids], dtype=bool)


@dataclass(frozen=True)
class Factors:
    """LightFM's result: an embedding and a bias for each feature; a user's bias does not change their ranking.

    Attributes:
        users: (user features, c) float32.
        items: (item features, c) float32.
        biases: (item features,) float32.
    """

    users: Vectors
    items: Vectors
    biases: NDArray[np.float32]


def fit_lightfm(
    seen: sp.csr_matrix, user_features: sp.csr_matrix, item_features: sp.csr_matrix, settings: Parameters,
    progress: Callable[[int, int], None] = lambda epoch, epochs: None,
    watch: Callable[[int, Sequence[Any]], None] | None = None,
) -> Factors:
    """LightFM with WARP, averaged over several seeds; each has a thread of its own, which makes it repeatable.

    Args:
        seen: (users, items), 1 where they interacted.
        user_features: (users, f).
        item_features: (items, g).
        progress: told of each finished epoch of all fits.
        watch: called after each epoch, with its number from 1 on and the fits as they are; it must not change them.

    Raises:
        DivergedError: LightFM diverged.
    """
    from lightfm import LightFM

    pairs, seeds = seen.tocoo(), settings.lightfm_seeds
    fits = [
        LightFM(
            no_components=settings.components, loss="warp", learning_rate=settings.learning_rate,
            user_alpha=settings.regularisation, item_alpha=settings.regularisation, random_state=settings.seed + number,
        )
        for number in range(seeds)
    ]  # fmt: skip

    def pass_over(model: LightFM) -> None:
        with np.errstate(all="ignore"):
            model.fit_partial(pairs, user_features=user_features, item_features=item_features, num_threads=1)

    with ThreadPoolExecutor(seeds) as pool:  # LightFM lets other threads go on
        for epoch in range(settings.epochs):
            try:
                list(pool.map(pass_over, fits))
            except ValueError as error:  # LightFM's own check
                if "diverged" not in str(error):
                    raise
                raise _diverged(settings) from None
            progress((epoch + 1) * seeds, settings.epochs * seeds)
            if watch is not None:
                watch(epoch + 1, fits)
    # Side by side, the products of several fits add up: a mean of scores is one product of longer vectors.
    share = np.float32(1 / len(fits))
    factors = Factors(
        np.hstack([model.user_embeddings for model in fits]) * share,
        np.hstack([model.item_embeddings for model in fits]),
        np.asarray(np.mean([model.item_biases for model in fits], axis=0), dtype=np.float32),
    )
    if not all(np.isfinite(array).all() for array in (factors.users, factors.items, factors.biases)):
        raise _diverged(settings)
    return factors


def _diverged(settings: Parameters) -> DivergedError:
    return DivergedError(f"LightFM diverged at learning rate {settings.learning_rate}; try a smaller one")
