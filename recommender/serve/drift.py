"""Whether users' texts are like those of training: numbers to watch, computed beside the requests."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.model.fitted import Fitted

# The latest texts, over which the drift is computed, and how many have to be there.
_LATEST, _FEWEST = 1_000, 50
# With fewer described users in the bundle, texts are compared with those of the items.
_ENOUGH_USERS = 100
# So many rows stand for a large bundle, and so many new texts for all that came between two looks.
_SAMPLE, _COMPARED = 10_000, 128
# A text is far if no item is closer to it than this share of all pairs of items are to each other.
_COMMON = 0.95


class Measured(NamedTuple):
    """What `Drift.measure` found.

    Attributes:
        near: number of new texts to which an item is closer than items commonly are to each other.
        far: number of the other new texts.
        drift: see `Drift`.
    """

    near: int
    far: int
    drift: float


class Drift:
    """Compares the latest texts of users with what a bundle was trained on. Embeddings are kept in memory alone.

    With m the mean embedding of the latest 1,000 texts, and r that of the described users in the bundle (of its items,
    if it has fewer than 100 such users), the drift is |m − r|² / (1 − |r|²): the squared distance between the means, by
    the variance of the embeddings, which have length 1. It is 0 for texts like those of training, beside 1/n for a
    sample of n, and 1 if the mean has moved as far as a text commonly is from the mean. It is 0 until 50 texts came.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: deque[NDArray[np.float32]] = deque(maxlen=_LATEST)
        self._new: deque[NDArray[np.float32]] = deque(maxlen=_COMPARED)
        self._fitted: Fitted | None = None
        self._mean = np.zeros(0)
        self._items = np.zeros((0, 0), np.float32)
        self._threshold = 0.0

    def add(self, embedding: NDArray[np.float32]) -> None:
        """Take note of a user's text, (d,) float32 of length 1."""
        with self._lock:
            self._latest.append(embedding)
            self._new.append(embedding)

    def forget(self) -> None:
        """Forget all texts."""
        with self._lock:
            self._latest.clear()
            self._new.clear()

    def measure(self, base: Fitted) -> Measured:
        """Compare the texts that came since the last call with the items, and the latest ones with training.

        Args:
            base: the state in the bundle.
        """
        if base is not self._fitted:
            self._prepare(base)
        width = self._items.shape[1]
        with self._lock:
            new, latest = ([one for one in some if len(one) == width] for some in (self._new, self._latest))
            self._new.clear()
        near = int(((np.stack(new) @ self._items.T).max(axis=1) > self._threshold).sum()) if new else 0
        spread = 1.0 - float(self._mean @ self._mean)
        if len(latest) < _FEWEST or spread <= 0:
            return Measured(near, len(new) - near, 0.0)
        moved = np.mean(latest, axis=0, dtype=np.float64) - self._mean
        return Measured(near, len(new) - near, float(moved @ moved) / spread)

    def _prepare(self, base: Fitted) -> None:
        self._items, users = _described(base.items.embeddings.whole), _described(base.users.embeddings.whole)
        reference = users if len(users) >= _ENOUGH_USERS else self._items
        self._mean = reference.mean(axis=0, dtype=np.float64) if len(reference) else np.zeros(self._items.shape[1])
        rng = np.random.default_rng(0)
        one, other = rng.integers(0, max(1, len(self._items)), (2, _SAMPLE))
        apart = one != other
        cosines = np.einsum("nd,nd->n", self._items[one[apart]], self._items[other[apart]]) if apart.any() else [0.0]
        self._threshold = float(np.quantile(cosines, _COMMON))
        self._fitted = base


def _described(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows that are not zero, of a sample if there are many."""
    if len(embeddings) > _SAMPLE:
        embeddings = embeddings[np.random.default_rng(0).choice(len(embeddings), _SAMPLE, replace=False)]
    return embeddings[embeddings.any(axis=1)]
