"""How well vectors and words rank the items that are set aside for stopping: by ridge regression, in seconds."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.measure.metrics import ndcg
from recommender.model.closed_form import penalties
from recommender.model.feature_matrix import FeatureMatrix, Vocabulary

# λ of the recommender's item metric.
RIDGE = 8.0
# Of more users some are drawn, and of more items those with the most users.
_MOST_USERS, _MOST_ITEMS = 2_000, 3_000

Mask = NDArray[np.bool_]


class RidgeRanking:
    """NDCG@20 of items without history, ranked by ridge regression of a user's history on [M | words].

    With K = XΛ⁻¹Xᵀ over the items in histories W, the scores of new items are W·(K + I)⁻¹·K_new, which is
    P_u'ᵀ A x of the recommender (`recommender.model.closed_form.item_metric`) without its other parts. What is the same
    for all vectors is computed once.

    Args:
        items: n items; their embeddings are not read.
        history: (users, n), 1 for what is known of users.
        wanted: (users, n), 1 for what they took, known or not.
        new: (n,), the items that are ranked.

    Raises:
        ColdStartError: no user with history wants a new item.
    """

    def __init__(self, items: Entities, history: sp.csr_matrix, wanted: sp.csr_matrix, new: Mask) -> None:
        counts = np.bincount(history.indices, minlength=len(items))
        self._warm = np.sort(np.argsort(-counts, kind="stable")[: min(_MOST_ITEMS, int((counts > 0).sum()))])
        self._new = np.flatnonzero(new)
        known, asked = history[:, self._warm].tocsr(), wanted[:, self._new].tocsr()
        users = np.flatnonzero((np.diff(known.indptr) > 0) & (np.diff(asked.indptr) > 0))
        if not len(users):
            raise ColdStartError("no user has both items that are learned from and items that are set aside")
        users = np.random.default_rng(0).permutation(users)[:_MOST_USERS]
        self._history, self._wanted = known[users], np.asarray(asked[users].toarray() > 0)
        texts = items.descriptions
        words = Vocabulary.fit([texts[row] for row in self._warm.tolist()], [])
        self._words = words.tfidf([texts[row] for row in np.concatenate([self._warm, self._new]).tolist()])
        of_warm = self._words[: len(self._warm)]
        self._kernel = (self._words @ of_warm.T).toarray().astype(np.float64) / RIDGE

    def __call__(self, vectors: Vectors) -> float:
        """Mean NDCG@20 over users under these vectors, (n, d)."""
        from scipy.linalg import cho_factor, cho_solve

        known = vectors[self._warm]
        spread = penalties(FeatureMatrix(known, self._words[: len(known)]), RIDGE)[0]
        kernel = self._kernel + np.vstack([known, vectors[self._new]]).astype(np.float64) @ (known.T / spread)
        within, across = kernel[: len(known)], kernel[len(known) :]
        within[np.diag_indices_from(within)] += 1
        scores = self._history @ cho_solve(cho_factor(within, overwrite_a=True, check_finite=False), across.T)
        return float(ndcg(np.asarray(scores), self._wanted, np.ones_like(self._wanted)).mean())

    def cosine(self, vectors: Vectors) -> float:
        """The same with the cosine of the vectors alone."""
        scores = (self._history @ vectors[self._warm]) @ vectors[self._new].T
        return float(ndcg(np.asarray(scores), self._wanted, np.ones_like(self._wanted)).mean())
