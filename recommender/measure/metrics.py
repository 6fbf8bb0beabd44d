"""Ranking metrics with one value per user, and confidence intervals of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 20
PRECISION_K = 10
_DISCOUNT = 1 / np.log2(np.arange(2, K + 2))
_RESAMPLES = 2_000
_IN_MEMORY = 4_000_000


@dataclass(frozen=True)
class Metrics:
    """Metrics with one value per user.

    Ties count against the method in rankings, and as half in the AUC. A method with equal scores therefore has an AUC
    of 0.5 and an NDCG of 0.

    Attributes:
        ndcg: NDCG@20; the ideal ranking starts with min(20, relevant) relevant items.
        recall: share of the relevant items that are in the top 20.
        precision: share of the top 10 that is relevant.
        auc: share of pairs (relevant, not relevant) in the right order, over all candidates; 1 if all are relevant.
        cold_share: share of the top 20 that is cold.
        shown: (candidates,), whether an item is in the top 20 of any user. Items that tie with rank 21 are not.
    """

    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    auc: NDArray[np.float64]
    cold_share: NDArray[np.float64]
    shown: NDArray[np.bool_]

    @classmethod
    def of(cls, blocks: Sequence[Metrics]) -> Metrics:
        """Concatenate the metrics of blocks of users with the same candidates."""
        names = [field.name for field in fields(cls) if field.name != "shown"]
        joined = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
        return cls(**joined, shown=np.logical_or.reduce([block.shown for block in blocks]))

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over users, and the share of candidates in the top 20 of any user."""
        return {
            f"ndcg@{K}": float(self.ndcg.mean()), f"recall@{K}": float(self.recall.mean()),
            f"precision@{PRECISION_K}": float(self.precision.mean()), "auc": float(self.auc.mean()),
            "coverage": float(self.shown.mean()), "cold_share": float(self.cold_share.mean()),
        }  # fmt: skip


def ndcg(hits: NDArray[np.bool_], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """NDCG@20; the ideal ranking starts with min(20, wanted) relevant items.

    Args:
        hits: (users, at most 20), whether the item at each rank is relevant.
        wanted: (users,), number of relevant items, at least 1.

    >>> ndcg(np.array([[True, False], [False, True]]), np.array([1, 1])).round(3).tolist()
    [1.0, 0.631]
    """
    ideal = np.cumsum(_DISCOUNT)[np.minimum(wanted, K) - 1]
    return np.asarray(hits @ _DISCOUNT[: hits.shape[1]] / ideal, dtype=np.float64)


def rank_metrics(
    scores: NDArray[np.floating[Any]], wanted: NDArray[np.bool_], known: NDArray[np.bool_],
    cold: NDArray[np.bool_] | None = None,
) -> Metrics:
    """Compute the metrics of a block of users with the same candidates.

    Args:
        scores: (users, candidates), finite; higher is better.
        wanted: (users, candidates), relevant items; at least one per user that is not in `known`.
        known: (users, candidates), items that are not candidates for a user.
        cold: (candidates,), which items are cold; None: no item.

    >>> rank_metrics(np.array([[3.0, 2.0, 1.0]]), np.array([[True, False, False]]), np.zeros((1, 3), bool)).auc
    array([1.])
    >>> nothing = rank_metrics(np.zeros((1, 100)), np.arange(100)[None] == 0, np.zeros((1, 100), bool))
    >>> nothing.auc, nothing.recall, nothing.ndcg
    (array([0.5]), array([0.]), array([0.]))
    """
    scores = np.where(known, -np.inf, scores)
    wanted = wanted & ~known
    # One sort gives the ranks of relevant items, the AUC and the top 20.
    ordered = np.sort(scores, axis=1)
    candidates = scores.shape[1]
    hits = np.zeros((len(scores), K), dtype=bool)
    auc = np.ones(len(scores))
    n_known = known.sum(axis=1)
    counts = wanted.sum(axis=1)
    for row, values in enumerate(ordered):
        own = np.sort(scores[row, wanted[row]])
        unwanted = candidates - n_known[row] - len(own)
        below = np.searchsorted(values, own, "left") - n_known[row] - np.searchsorted(own, own, "left")
        level = np.searchsorted(values, own, "right") - n_known[row] - np.searchsorted(own, own, "right")
        if unwanted:
            auc[row] = (below.mean() + level.mean()) / 2 / unwanted
        ranks = unwanted - below + np.arange(len(own))[::-1]  # items that are not relevant first among equals
        hits[row, ranks[ranks < K]] = True
    shown = scores > (ordered[:, -K - 1 : -K] if candidates > K else -np.inf)
    top = np.minimum(candidates - n_known, K)
    cold_share = shown[:, cold].sum(axis=1) / np.maximum(top, 1) if cold is not None else np.zeros(len(scores))
    return Metrics(
        ndcg(hits, counts), hits.sum(axis=1) / counts, hits[:, :PRECISION_K].mean(axis=1), auc, cold_share,
        np.asarray(shown.any(axis=0)),
    )  # fmt: skip


def paired_intervals(
    differences: NDArray[np.float64], users: NDArray[np.int64], seed: int = 0
) -> NDArray[np.float64]:
    """Bootstrap intervals (95 %) of mean differences between methods on the same rankings.

    Users are resampled, each with all their values, because one user's values for several seeds depend on each other.

    Args:
        differences: (n, methods).
        users: (n,), the user of each row.
        seed: seed of the 2,000 resamples.

    Returns:
        (methods, 2): lower and upper bound.
    """
    _, places = np.unique(users, return_inverse=True)
    counts = np.bincount(places).astype(np.float64)
    n = len(counts)
    sums = np.zeros((n, differences.shape[1]))
    np.add.at(sums, places, differences)
    rng = np.random.default_rng(seed)
    means = []
    step = max(_IN_MEMORY // n, 1)
    for start in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - start)
        drawn = rng.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append((times @ sums) / (times @ counts)[:, None])
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0).T
