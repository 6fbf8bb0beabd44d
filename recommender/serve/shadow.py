"""Compare two recommenders on events that neither has learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recommender.data.contract import TAKE_BACK
from recommender.data.events import EventWeights
from recommender.measure.intervals import ByItem, intervals
from recommender.measure.metrics import Metrics, rank_metrics
from recommender.model.recommender import HybridRecommender
from recommender.serve.events.event import Event

# Users who are compared at most, and who are scored at once.
_MOST, _BLOCK = 2_000, 200


@dataclass(frozen=True)
class Comparison:
    """Two recommenders on the same rankings.

    Attributes:
        rankings: number of users with an item that they took, and had not taken before.
        current: mean NDCG@20 of the one that serves.
        candidate: mean NDCG@20 of the other.
        low: lower bound of the 95 % interval of candidate minus current, which counts users and items.
        high: upper bound.
    """

    rankings: int
    current: float
    candidate: float
    low: float
    high: float


def compare(
    current: HybridRecommender, candidate: HybridRecommender, events: Sequence[Event], weights: EventWeights
) -> Comparison:
    """Rank for each user of the events the items that both know and the user had not seen before.

    Args:
        current: what serves, with all that it knew before the events.
        candidate: the other one.
        events: later ones. Those that count in training are what the users wanted.
        weights: by event type.
    """
    items = [name for name in current.items.ids if candidate.fitted.items.row(name) >= 0]
    columns = {name: column for column, name in enumerate(items)}
    wanted: dict[str, set[int]] = {}
    for event in events:
        counts = any(kind not in TAKE_BACK and weights.by_type.get(kind, 0) > 0 for kind, _ in event.rows)
        if counts and event.item_id in columns:
            wanted.setdefault(event.user_id, set()).add(columns[event.item_id])
    users = sorted(wanted)
    if len(users) > _MOST:
        chosen = np.random.default_rng(0).choice(len(users), _MOST, replace=False)
        users = [users[row] for row in sorted(chosen.tolist())]
    models = (current, candidate)
    found: tuple[list[Metrics], list[Metrics]] = ([], [])
    kept, new = [], []
    for start in range(0, len(users), _BLOCK):
        names = users[start : start + _BLOCK]
        pairs = [(row, column) for row, name in enumerate(names) for column in wanted[name]]
        relevant = sp.csr_matrix((np.ones(len(pairs)), tuple(zip(*pairs, strict=True))), shape=(len(names), len(items)))
        seen = sum(_seen(model, names, items) for model in models)
        left = relevant - relevant.multiply(seen > 0)
        rows = np.flatnonzero(np.diff(sp.csr_matrix(left).indptr))
        if not len(rows):
            continue
        kept += [names[row] for row in rows.tolist()]
        new.append(sp.csr_matrix(left)[rows])
        for model, metrics in zip(models, found, strict=True):
            scores = model.score([names[row] for row in rows.tolist()], items, unknown="popularity")
            metrics.append(rank_metrics(scores, new[-1] > 0, seen[rows] > 0))
    if not kept:
        return Comparison(0, 0.0, 0.0, -np.inf, np.inf)
    one, other = (Metrics.of(metrics) for metrics in found)
    relevant = sp.vstack(new, format="csr")
    shares = _shares(relevant)
    taken = np.flatnonzero(shares)
    by_item = ByItem((other.credit - one.credit)[taken, None], shares[taken], taken, np.zeros(len(taken), np.int64))
    difference = (other.ndcg - one.ndcg)[:, None]
    none = np.zeros(len(kept), np.int64)
    ((low, high),) = intervals(difference, np.arange(len(kept)), none, by_item)
    return Comparison(len(kept), float(one.ndcg.mean()), float(other.ndcg.mean()), float(low), float(high))


def _seen(model: HybridRecommender, users: Sequence[str], items: Sequence[str]) -> sp.csr_matrix:
    """(users, items), what users have interacted with."""
    return sp.csr_matrix(model.fitted.seen_by(users)[:, model.fitted.items.rows(items)])


def _shares(relevant: sp.csr_matrix) -> NDArray[np.float64]:
    """(items,), the sum over the users who wanted an item of 1 / number of items that they wanted."""
    counts = np.diff(relevant.indptr)
    return np.bincount(relevant.indices, np.repeat(1 / counts, counts), relevant.shape[1]).astype(np.float64)
