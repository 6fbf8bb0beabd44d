"""What each item in a history adds to the score of each item, computed beforehand for small requests.

The profile of a user is the sum of the items in their history, so P_u'ᵀ A P_i' is a sum of numbers that depend on two
items alone. With these numbers at hand one user costs a few rows instead of passes over A and the feature matrix. What
a profile holds beyond the history is added exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.rows import Growing, added_up

Numbers = NDArray[np.float32]
# What a profile differs by from the sum of its history, as a share of it, and is rounding.
_ROUNDING = 1e-5
_SKETCH = 64
# If more than one item in so many is described otherwise, it is as fast to begin again.
_MANY = 4


@dataclass(frozen=True)
class Likeness:
    """Products of items under A, each with the other item less the mean of the warm items.

    Attributes:
        text: (n, n), of each item with each.
        neighbours: (b, n), of what B expects after each item at the fit, with each item.
        text_sketch: (n, s), the items through A in few dimensions, for the lengths of their sums.
        neighbour_sketch: (b, s), likewise of what B expects.
        late_text: (m, n), of each item that came later with the first n.
        late_neighbours: (m, b), likewise.
    """

    text: Numbers
    neighbours: Numbers
    text_sketch: Numbers
    neighbour_sketch: Numbers
    late_text: Growing
    late_neighbours: Growing

    @classmethod
    def of(cls, features: FeatureMatrix, mean: Vectors, metric: Vectors, item_item: sp.csr_matrix) -> Likeness:
        """Of the items that are known now; see `Fitted` for what it is computed from."""
        b, d = item_item.shape[0], features.dense.shape[1]
        through: Any = features.dense @ metric[:d]
        through += features.sparse @ metric[d:]
        text = through[:, :d] @ features.dense.T
        text += (features.sparse @ np.ascontiguousarray(through[:, d:].T)).T
        text -= (through @ mean)[:, None]
        neighbours = np.asarray(item_item @ text[:b], dtype=np.float32)
        sketch = _sketch(through)
        nothing = Growing(np.zeros((0, len(features)), np.float32)), Growing(np.zeros((0, b), np.float32))
        return cls(text, neighbours, sketch, np.asarray(item_item @ sketch[:b], np.float32), *nothing)

    def grown(
        self, features: FeatureMatrix, mean: Vectors, metric: Vectors, item_item: sp.csr_matrix, new: FeatureMatrix
    ) -> Likeness:
        """With more items, m of them, whose rows of the feature matrix are `new` and the last ones in `features`."""
        n = len(self.text)
        through: Any = (new.toarray() - mean) @ metric
        text = FeatureMatrix(features.dense[:n], features.sparse[:n]).dot(through).T
        neighbours = np.asarray((item_item @ text.T[: len(self.neighbours)]).T)
        return replace(
            self, late_text=self.late_text.grown(text), late_neighbours=self.late_neighbours.grown(neighbours)
        )

    def redescribed(
        self, features: FeatureMatrix, means: tuple[Vectors, Vectors], metric: Vectors, item_item: sp.csr_matrix,
        rows: NDArray[np.int64],
    ) -> Likeness:
        """With other words, attributes or embeddings of some items: what they do not change is copied.

        Args:
            features: of all items, as they are now.
            means: of the warm items, before and now.
            metric: A.
            item_item: B.
            rows: the items that are described otherwise.
        """
        n, b = len(self.text), len(self.neighbours)
        own = np.union1d(rows, np.arange(n, len(features)))  # items that came later become like the others
        if len(own) > len(features) // _MANY:
            return Likeness.of(features, means[1], metric, item_item)
        described = features.take(own)
        through: Any = described.toarray() @ metric
        products = features.dot(through).T
        at_means = features.dot(np.stack([mean @ metric for mean in means]))
        shift = at_means[:, 1] - at_means[:, 0]
        text = np.empty((len(features), len(features)), np.float32)
        np.subtract(self.text, shift[:n, None], out=text[:n, :n])
        text[:, own] = products.T - at_means[:, 1, None]
        text[own] = products - at_means[own, 1, None]
        sketch = np.concatenate([self.text_sketch, np.zeros((len(features) - n, _SKETCH), np.float32)])
        sketch[own] = _sketch(through)
        # B·text: rows that are other ones, what all rows lost, then the columns that are other ones.
        within = own[own < b]
        shift[within] = 0
        of_own = sp.csr_matrix(item_item[:, within])
        neighbours = np.empty((b, len(features)), np.float32)
        np.subtract(self.neighbours, (item_item @ shift[:b])[:, None], out=neighbours[:, :n])
        neighbours[:, :n] += of_own @ (text[within, :n] - self.text[within])
        neighbours[:, own] = item_item @ np.ascontiguousarray(text[:b, own])
        neighbour_sketch = self.neighbour_sketch + of_own @ (sketch[within] - self.text_sketch[within])
        nothing = Growing(np.zeros((0, len(features)), np.float32)), Growing(np.zeros((0, b), np.float32))
        return Likeness(text, neighbours, sketch, np.asarray(neighbour_sketch, np.float32), *nothing)

    def text_of(self, history: sp.csr_matrix) -> tuple[Numbers, Numbers]:
        """(n, items): what histories add to `text`, centred; and (n,) about how long their directions are.

        Args:
            history: (n, items); items that came later are left out.
        """
        return _summed(history, self.text, self.late_text.rows, self.text_sketch)

    def neighbours_of(self, history: sp.csr_matrix) -> tuple[Numbers, Numbers]:
        """(n, items): `neighbour_text`, centred; likewise."""
        return _summed(history, self.neighbours, self.late_neighbours.rows, self.neighbour_sketch)

    def beyond(
        self, history: sp.csr_matrix, profiles: Vectors, features: FeatureMatrix, metric: Vectors
    ) -> Vectors | None:
        """(n, w): P_u'ᵀ A of what profiles hold beyond the histories in `text_of`; None if that is nothing.

        Args:
            history: (n, items).
            profiles: (n, d), without descriptions.
            features: of the items.
            metric: A.
        """
        n, d = len(self.text), profiles.shape[1]
        early, late = _parted(history, n)
        rest = profiles - added_up(early, features.dense[:n])
        found: Vectors | None = None
        if np.abs(rest).max(initial=0) > _ROUNDING * max(float(np.abs(profiles).max(initial=0)), 1e-6):
            found = np.asarray(rest @ metric[:d])
        if late is not None and late.nnz:
            words = np.asarray(sp.csr_matrix(late @ features.sparse[n:]) @ metric[d:])
            found = words if found is None else found + words
        return found


def _summed(history: sp.csr_matrix, rows: Numbers, late: Numbers, sketch: Numbers) -> tuple[Numbers, Numbers]:
    early, _ = _parted(history, len(rows))
    found = added_up(early, rows)
    if len(late):
        found = np.hstack([found, added_up(early, np.ascontiguousarray(late.T))])
    return found, np.linalg.norm(added_up(early, sketch), axis=1)


def _parted(history: sp.csr_matrix, n: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
    """The first n columns, and the others if there are any."""
    return (history, None) if history.shape[1] == n else (history[:, :n], history[:, n:])


def _sketch(rows: Numbers) -> Numbers:
    """(n, 64): a random projection, which keeps lengths within a fifth or so (Johnson and Lindenstrauss, 1984)."""
    chance = np.random.default_rng(0).standard_normal((rows.shape[1], _SKETCH), dtype=np.float32)
    return np.asarray(rows @ chance / np.float32(np.sqrt(_SKETCH)))
