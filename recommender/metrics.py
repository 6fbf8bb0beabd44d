"""Ranking metrics, one value per user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K = 20
_DISCOUNT = 1 / np.log2(np.arange(2, K + 2))


@dataclass(frozen=True)
class Metrics:
    """One value per user, in the order of the users that were scored."""

    auc: NDArray[np.float64]
    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """The mean over users of each metric."""
        return {"auc": float(self.auc.mean()), f"recall@{K}": float(self.recall.mean()),
                f"ndcg@{K}": float(self.ndcg.mean())}  # fmt: skip


def ndcg(hits: NDArray[np.bool_], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """NDCG@20; the ideal ranking has min(20, wanted) of the wanted on top.

    Args:
        hits: (users, at most 20), whether the item at each rank was wanted.
        wanted: (users,), how many were, at least 1.

    >>> ndcg(np.array([[True, False], [False, True]]), np.array([1, 1])).round(3).tolist()
    [1.0, 0.631]
    """
    ideal = np.cumsum(_DISCOUNT)[np.minimum(wanted, K) - 1]
    return np.asarray(hits @ _DISCOUNT[: hits.shape[1]] / ideal, dtype=np.float64)


def rank_metrics(
    scores: NDArray[np.floating], wanted: NDArray[np.bool_], known: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """AUC, Recall@20 and NDCG@20 of one user's ranking.

    Ties count against the method in the rankings and as half in the AUC, so that a method that says nothing
    has an AUC of 0.5 and finds nothing.

    Args:
        scores: (candidates,), higher is better.
        wanted: (candidates,), what the user did; at least one.
        known: (candidates,), what is no candidate for this user.

    >>> rank_metrics(np.array([3.0, 2.0, 1.0]), np.array([True, False, False]), np.array([False] * 3))
    (1.0, 1.0, 1.0)
    >>> rank_metrics(np.zeros(100), np.arange(100) == 0, np.zeros(100, bool))
    (0.5, 0.0, 0.0)
    """
    scores, wanted = scores[~known], wanted[~known]
    count = int(wanted.sum())
    hits = wanted[np.lexsort((wanted, -scores))][:K]  # among equals the unwanted first
    found = float(hits.sum() / count)
    gain = float(ndcg(hits[None], np.array([count]))[0])
    others = np.sort(scores[~wanted])
    if not len(others):
        return 1.0, found, gain
    below = np.searchsorted(others, scores[wanted], "left") + np.searchsorted(others, scores[wanted], "right")
    return float(below.mean() / 2 / len(others)), found, gain
