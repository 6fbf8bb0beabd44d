"""Ranking metrics with one value per user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

K = 20
PRECISION_K = 10
_DISCOUNT = 1 / np.log2(np.arange(2, K + 2))


@dataclass(frozen=True)
class Metrics:
    """Metrics with one value per user.

    Equal scores have no order: NDCG, recall, precision and AUC are their means over all orders of items that tie
    (McSherry and Najork 2008, Computing information retrieval performance measures efficiently in the presence of tied
    scores). A method with equal scores is therefore as good as a random one, with an AUC of 0.5.

    Attributes:
        ndcg: NDCG@20; the ideal ranking starts with min(20, relevant) relevant items.
        recall: share of the relevant items that are in the top 20.
        precision: share of the top 10 that is relevant.
        auc: share of pairs (relevant, not relevant) in the right order, over all candidates; 1 if all are relevant.
        cold_share: share of the top 20 that is cold.
        shown: (candidates,), whether an item is in the top 20 of any user. Items that tie with rank 21 are not.
        credit: (candidates,), what an item adds to the sum of `ndcg` over users.
    """

    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    auc: NDArray[np.float64]
    cold_share: NDArray[np.float64]
    shown: NDArray[np.bool_]
    credit: NDArray[np.float64]

    @classmethod
    def of(cls, blocks: Sequence[Metrics]) -> Metrics:
        """Concatenate the metrics of blocks of users with the same candidates."""
        names = [field.name for field in fields(cls) if field.name not in ("shown", "credit")]
        joined = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
        shown = np.logical_or.reduce([block.shown for block in blocks])
        return cls(**joined, shown=shown, credit=np.sum([block.credit for block in blocks], axis=0))

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over users, and the share of candidates in the top 20 of any user."""
        return {
            f"ndcg@{K}": float(self.ndcg.mean()), f"recall@{K}": float(self.recall.mean()),
            f"precision@{PRECISION_K}": float(self.precision.mean()), "auc": float(self.auc.mean()),
            "coverage": float(self.shown.mean()), "cold_share": float(self.cold_share.mean()),
        }  # fmt: skip


def ndcg(
    scores: NDArray[np.floating[Any]], wanted: NDArray[np.bool_], candidates: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """`Metrics.ndcg` alone, in a fifth of the time of `rank_metrics`: for those who compare many scores.

    Args:
        scores: (users, items), finite.
        wanted: (users, items), the relevant items; at least one of each user.
        candidates: (users, items), what is ranked.

    >>> ndcg(np.array([[2.0, 1.0], [2.0, 1.0]]), np.eye(2, dtype=bool), np.ones((2, 2), bool)).round(3).tolist()
    [1.0, 0.631]
    """
    if not len(scores):
        return np.zeros(0)
    scores = np.where(candidates, scores, -np.inf)
    k = min(K, scores.shape[1])
    top = -np.sort(np.partition(-scores, k - 1, axis=1)[:, :k], axis=1)
    last = top[:, -1:]
    users, items = np.nonzero(wanted & candidates & (scores >= last))
    own, places = scores[users, items, None], top[users]
    first, ties = (places > own).sum(axis=1), (places == own).sum(axis=1)
    # What ties with the last place may go on below it.
    ties = np.where(own[:, 0] == last[users, 0], (scores == last).sum(axis=1)[users], ties)
    gains = _discounts(first, ties) / ties
    return np.asarray(np.bincount(users, gains, minlength=len(scores)) / _ideal(wanted.sum(axis=1)))


def rank_metrics(
    scores: NDArray[np.floating[Any]], wanted: NDArray[np.bool_] | sp.csr_matrix,
    known: NDArray[np.bool_] | sp.csr_matrix, cold: NDArray[np.bool_] | None = None,
) -> Metrics:
    """Compute the metrics of a block of users with the same candidates.

    Args:
        scores: (users, candidates), finite; higher is better.
        wanted: (users, candidates), not 0 for relevant items; at least one per user that is not in `known`.
        known: (users, candidates), not 0 for items that are not candidates for a user.
        cold: (candidates,), which items are cold; None: no item.

    >>> rank_metrics(np.array([[3.0, 2.0, 1.0]]), np.array([[True, False, False]]), np.zeros((1, 3), bool)).auc
    array([1.])
    >>> nothing = rank_metrics(np.zeros((1, 100)), np.arange(100)[None] == 0, np.zeros((1, 100), bool))
    >>> nothing.auc, nothing.recall, nothing.precision
    (array([0.5]), array([0.2]), array([0.01]))
    """
    known = sp.csr_matrix(known)
    scores, (n, candidates), n_known = scores.copy(), scores.shape, np.diff(known.indptr)
    scores[_rows(known), known.indices] = -np.inf
    # A relevant item that is known is none.
    users, items = _rows(relevant := sp.csr_matrix(wanted)), relevant.indices
    own = scores[users, items]
    users, items, own = (values[own > -np.inf] for values in (users, items, own))
    counts = np.bincount(users, minlength=n)
    ends = np.cumsum(counts)
    # One sort gives the ranks of relevant items, the AUC and the top 20.
    ordered = np.sort(scores, axis=1)
    below, up_to = np.zeros(len(own), dtype=np.int64), np.zeros(len(own), dtype=np.int64)
    for values, start, end in zip(ordered, ends - counts, ends, strict=True):
        below[start:end] = values.searchsorted(own[start:end], "left")
        up_to[start:end] = values.searchsorted(own[start:end], "right")

    def sums(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.bincount(users, values, minlength=n).astype(np.float64)

    # Mann and Whitney: the ranks from the last, less those that the relevant items have among themselves.
    middles = (below + up_to + 1) / 2 - n_known[users]
    pairs = counts * (candidates - n_known - counts)
    auc = np.divide(sums(middles) - counts * (counts + 1) / 2, pairs, out=np.ones(n), where=pairs > 0)

    # An item that ties has each of the places from `first` on with the same probability.
    first, ties = candidates - up_to, up_to - below
    in_20, in_10 = (np.minimum(first + ties, k) - np.minimum(first, k) for k in (K, PRECISION_K))
    gains = _discounts(first, ties) / ties / _ideal(counts)[users]
    shown = scores > (ordered[:, -K - 1 : -K] if candidates > K else -np.inf)
    in_top = np.maximum(np.minimum(candidates - n_known, K), 1)
    cold_share = shown[:, cold].sum(axis=1) / in_top if cold is not None else np.zeros(n)
    return Metrics(
        sums(gains), sums(in_20 / ties) / counts, sums(in_10 / ties) / PRECISION_K, auc, cold_share,
        np.asarray(shown.any(axis=0)), np.bincount(items, gains, minlength=candidates).astype(np.float64),
    )  # fmt: skip


def _rows(matrix: sp.csr_matrix) -> NDArray[np.int64]:
    """The row of each stored value."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _discounts(first: NDArray[np.int64], ties: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of the discounts of the places from `first` on, as many as `ties`."""
    places = np.concatenate([[0], np.cumsum(_DISCOUNT)])
    return np.asarray(places[np.minimum(first + ties, K)] - places[np.minimum(first, K)])


def _ideal(wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.cumsum(_DISCOUNT)[np.minimum(wanted, K) - 1], dtype=np.float64)
