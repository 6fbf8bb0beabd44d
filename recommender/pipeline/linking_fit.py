"""Learn what a profile in one shop says of another shop: a ridge regression on the users that both have.

What is predicted are rates of topics, not of items: nearly all items have too few buyers to learn from. The rate of a
topic among people with such a profile, divided by its rate among all, is its lift; popularity times lift ranks items.
docs/explanation/linking.md compares this with other maps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.link import Link, LinkAbout, directions, unit
from coldstart_udfs.profile import Vectors
from recommender.measure.intervals import intervals
from recommender.measure.metrics import rank_metrics
from recommender.measure.splits import stable_share
from recommender.model.linked import SMALLEST

SHARED_USERS, SHARED_SPACE = "shared users", "shared space"
# Numbers of topics: of items whose texts are alike, coarse to fine. A topic has at least three items on average.
_LEVELS, _ITEMS_OF_A_TOPIC, _MOST_ITEMS = (30, 100, 300), 3, 50_000
# This share of the largest variance of items is added to the variances of all directions.
_LEAST_VARIANCE = 0.1
# λ of the ridge regression, in mean squares of what it regresses on. Chosen for each link it was chosen too small.
RIDGE = 40.0
# Factors of the lift, tried on held-out users.
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
_FOLDS = 5
_MOST_VALIDATED = 2_000
_BLOCK = 256


@dataclass(frozen=True)
class Pairs:
    """n users of both shops.

    Attributes:
        ids: n strings.
        profiles: (n, d) float32, in the source.
        taken: (n, items), what they took in the target; any positive number counts as once.
        known: (n, items), what else they took there, which is not ranked.
    """

    ids: list[str]
    profiles: Vectors
    taken: sp.csr_matrix
    known: sp.csr_matrix

    @classmethod
    def shared(cls, ids: list[str], profiles: Vectors, taken: sp.csr_matrix) -> Pairs:
        """Users of both shops."""
        return cls(ids, profiles, taken, sp.csr_matrix(taken.shape, dtype=np.float32))


def halves(ids: list[str], taken: sp.csr_matrix, embeddings: Vectors) -> Pairs:
    """Users of the target alone, as if half of what each took had happened in another shop.

    A stable hash of user and item decides which half; users without something in both are left out.

    Args:
        ids: n strings.
        taken: (n, items), what they took in the target.
        embeddings: (items, e) float32.
    """
    matrix = sp.csr_matrix(taken)
    rows = np.repeat(np.arange(len(ids)), np.diff(matrix.indptr))
    pairs = zip(rows.tolist(), matrix.indices.tolist(), strict=True)
    first = np.array([stable_share(f"{ids[row]}\0{item}", "halves") < 0.5 for row, item in pairs], np.bool_)
    parts = []
    for half in (first, ~first):
        weights = np.asarray(matrix.data[half], np.float32)
        parts.append(sp.csr_matrix((weights, (rows[half], matrix.indices[half])), shape=matrix.shape))
    known = np.flatnonzero((np.diff(parts[0].indptr) > 0) & (np.diff(parts[1].indptr) > 0))
    told = np.asarray(parts[0][known] @ embeddings, dtype=np.float32)
    return Pairs([ids[row] for row in known.tolist()], told, parts[1][known], parts[0][known])


def fit_link(
    about: LinkAbout, source_items: Vectors, pairs: Pairs, embeddings: Vectors, counts: NDArray[np.floating]
) -> Link:
    """Learn a link; its strength is chosen on held-out users among the pairs.

    Args:
        about: what the link says about itself; strength and figures are filled in.
        source_items: (k, d) float32, embeddings of the source's items.
        pairs: of the users that it is learned from; with the method "shared space" those of `halves`.
        embeddings: (items, e) float32, of the target's items.
        counts: (items,), how many users of the target took each item, those of the pairs included.
    """
    # Without shared users the map is learned in the target alone; only the centre is the source's.
    alone = about.method == SHARED_SPACE
    centre, whitening = _whitening(embeddings if alone else source_items)
    topics, levels = _topics(embeddings)
    d, e, c = len(centre), embeddings.shape[1], len(topics)
    none = np.zeros(c, np.float32)
    empty = Link(
        about, centre, whitening, np.zeros(e, np.float32), np.zeros((d, e), np.float32), none, none,
        np.zeros((d, c), np.float32), topics, levels,
    )  # fmt: skip
    topics_of = empty.topics_of(embeddings)
    taken = sp.csr_matrix(pairs.taken.astype(bool), dtype=np.float32)
    data = _Data(
        directions(pairs.profiles, centre, whitening), _of_topics(taken, topics_of, len(topics)),
        unit(np.asarray(taken @ embeddings)),
    )  # fmt: skip
    about = _chosen(empty, data, replace(pairs, taken=taken), topics_of, counts)
    found = replace(_fitted(empty, data, about.ridge), about=about)
    return replace(found, centre=_whitening(source_items)[0]) if alone else found


@dataclass(frozen=True)
class _Data:
    """(n, d) directions in the source, (n, c) whether somebody took something of a topic, (n, e) profiles."""

    told: Vectors
    topics: Vectors
    profiles: Vectors

    def take(self, rows: NDArray[np.bool_]) -> _Data:
        return _Data(self.told[rows], self.topics[rows], self.profiles[rows])


def _fitted(link: Link, data: _Data, ridge: float) -> Link:
    """The link with maps learned from some users."""
    told, targets = data.told.astype(np.float64), np.hstack([data.topics, data.profiles]).astype(np.float64)
    centre, means = told.mean(axis=0), targets.mean(axis=0)
    told = told - centre
    gram = told.T @ told
    penalty = ridge * np.trace(gram) / len(told)
    weights = np.linalg.solve(gram + max(penalty, 1e-6) * np.eye(len(gram)), told.T @ (targets - means))
    bias, c = means - centre @ weights, data.topics.shape[1]
    return replace(
        link, rates=means[:c].astype(np.float32), rate_bias=bias[:c].astype(np.float32),
        rate_map=weights[:, :c].astype(np.float32), profile_bias=bias[c:].astype(np.float32),
        profile_map=weights[:, c:].astype(np.float32),
    )  # fmt: skip


def _chosen(
    link: Link, data: _Data, pairs: Pairs, topics_of: NDArray[np.int64], counts: NDArray[np.floating]
) -> LinkAbout:
    """The strength with the largest mean NDCG@20 of users that the map was not learned from.

    What is ranked by is popularity times the lift. A user's own purchases are not counted in the popularity: among rare
    items they would be known by it.
    """
    folds = np.array([int(stable_share(name, "link") * _FOLDS) for name in pairs.ids])
    values: dict[float, list[NDArray[np.float64]]] = {}
    asked: list[int] = []
    order = np.argsort([stable_share(name, "validated") for name in pairs.ids], kind="stable")
    validated = np.zeros(len(folds), bool)
    validated[order[:_MOST_VALIDATED]] = True
    for fold in range(_FOLDS):
        rows = np.flatnonzero((folds == fold) & validated & (np.diff(pairs.taken.indptr) > 0))
        learned = folds != fold
        if not len(rows) or learned.sum() < 2:
            continue
        asked += rows.tolist()
        one = _fitted(link, data.take(learned), link.about.ridge)
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            wanted, known = pairs.taken[some].toarray() > 0, pairs.known[some].toarray() > 0
            base = np.log(np.maximum(counts - wanted - known, 0) + SMALLEST)
            plain = rank_metrics(base, wanted, known).ndcg
            lifts = one.lifts(pairs.profiles[some], topics_of)
            for strength in STRENGTHS:
                found = rank_metrics(base + strength * lifts, wanted, known).ndcg if strength else plain
                values.setdefault(strength, []).append(found)
    if not values:
        return replace(link.about, strength=1.0)
    joined = {key: np.concatenate(found) for key, found in values.items()}
    strength = max(joined, key=lambda key: (joined[key].mean(), -key))
    without, found = joined[0.0], joined[strength]
    low, high = intervals((found - without)[:, None], np.array(asked), np.zeros(len(asked), np.int64))[0]
    figures = {"without": float(without.mean()), "with": float(found.mean()), "users": float(len(asked))}
    if np.isfinite([low, high]).all():
        figures |= {"low": float(low), "high": float(high)}
    return replace(link.about, strength=strength, figures=figures)


def _whitening(embeddings: Vectors) -> tuple[NDArray[np.float32], Vectors]:
    """(d,) the mean of items, and (d, d) the inverse root of their covariance, some added to all variances."""
    known = embeddings[embeddings.any(axis=1)].astype(np.float64)
    centre = known.mean(axis=0)
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(known.T, bias=True)))
    scale = 1 / np.sqrt(np.maximum(variances, 0) + max(_LEAST_VARIANCE * variances.max(), 1e-12))
    return centre.astype(np.float32), np.asarray((axes * scale) @ axes.T, dtype=np.float32)


def _topics(embeddings: Vectors) -> tuple[Vectors, NDArray[np.int64]]:
    """(c, e) centres of topics, and (c,) their levels: k-means on the items' embeddings."""
    from sklearn.cluster import KMeans

    known = embeddings[embeddings.any(axis=1)]
    if len(known) > _MOST_ITEMS:
        known = known[np.linspace(0, len(known) - 1, _MOST_ITEMS).astype(np.int64)]
    distinct = len(np.unique(known, axis=0))
    sizes = sorted({max(min(size, len(known) // _ITEMS_OF_A_TOPIC, distinct), 1) for size in _LEVELS})
    centres = [KMeans(size, n_init=1, max_iter=25, random_state=0).fit(known).cluster_centers_ for size in sizes]
    return np.concatenate(centres).astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def _of_topics(taken: sp.csr_matrix, topics_of: NDArray[np.int64], count: int) -> Vectors:
    """(n, c) float32: 1 where a user took something of a topic."""
    items = np.repeat(np.arange(len(topics_of)), topics_of.shape[1])
    having = sp.csr_matrix((np.ones(topics_of.size, np.float32), (items, topics_of.ravel())),
                           shape=(len(topics_of), count + 1))  # fmt: skip
    return np.asarray((taken @ having).toarray()[:, :count] > 0, dtype=np.float32)
