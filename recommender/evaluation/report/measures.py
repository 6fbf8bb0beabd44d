"""The numbers in the report's plots, computed from an evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.text.tags import Tagger
from recommender.measure.intervals import intervals

if TYPE_CHECKING:
    from recommender.measure.splits import Split
    from recommender.model.recommender import HybridRecommender

Numbers = NDArray[np.float64]

# With fewer values, the bootstrap interval of a mean is too narrow.
LEAST_USERS, LEAST_ITEMS = 20, 10
_ABOUT_ITEMS = ("item_cold", "both_cold", "temporal")
_RESAMPLES = 1_000
_DECILES = 10
# A reader needs a few dozen labels at most, and each text takes the encoder some milliseconds.
_MOST_TAGGED = 5_000


@dataclass(frozen=True)
class Mean:
    """A mean of `n` values with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Numbers) -> Mean:
        """Compute the mean of independent values, with a bootstrap interval.

        The 1,000 resamples have a fixed seed, so that the same evaluation gives the same report.

        >>> Mean.of(np.ones(5))
        Mean(value=1.0, low=1.0, high=1.0, n=5)
        """
        rng = np.random.default_rng(0)
        means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(_RESAMPLES)]
        low, high = np.quantile(means, (0.025, 0.975))
        return cls(float(values.mean()), float(low), float(high), len(values))

    @classmethod
    def of_rankings(cls, values: Numbers, users: NDArray[np.int64], draws: NDArray[np.int64]) -> Mean:
        """Return the mean over draws of a metric from 0 to 1, one value per user and draw, which share both.

        The interval is that of `recommender.measure.intervals`, without items.
        """
        ((low, high),) = np.clip(intervals(values[:, None], users, draws), 0, 1).tolist()
        _, draw, sizes = np.unique(draws, return_inverse=True, return_counts=True)
        return cls(float(np.average(values, weights=1 / sizes[draw])), low, high, len(values))


@dataclass(frozen=True)
class Bin:
    """Users with `low` to `high` training interactions, both included."""

    low: int
    high: int
    rows: NDArray[np.int64]

    @property
    def label(self) -> str:
        """"4" or "4–7"."""
        return f"{self.low}" if self.low == self.high else f"{self.low}–{self.high}"


def bins_of(history: NDArray[np.integer]) -> list[Bin]:
    """Group users by history: 0, 1, 2–3, 4–7, then by factors of four. Bins of fewer than 20 users join the next.

    >>> [each.label for each in bins_of(np.repeat([0, 1, 2, 3, 9], 20))]
    ['0', '1', '2–3', '9']
    """
    history = np.asarray(history, dtype=np.int64)
    found, start = [], 1
    top = int(history.max(initial=0))
    if (history == 0).any():
        found.append(np.flatnonzero(history == 0))
    edge = 1
    while edge <= top:
        edge *= 2 if edge < 8 else 4  # the first interactions matter most
        rows = np.flatnonzero((history >= start) & (history < edge))
        if len(rows) >= LEAST_USERS:
            found.append(rows)
            start = edge
    rest = np.flatnonzero(history >= max(start, 1))
    if len(rest) and found and history[found[-1]].min() > 0:
        found[-1] = np.concatenate([found[-1], rest])
    elif len(rest):
        found.append(rest)
    return [Bin(int(history[rows].min()), int(history[rows].max()), rows) for rows in found]


@dataclass(frozen=True)
class Influence:
    """Text and behaviour in the profiles of users with n interactions; each field has one row per group of users.

    Attributes:
        n: the median number of interactions.
        weight: α(n), the norm of the description's part of P', since M(d) has length 1.
        norm: (groups, 3), the 10th, 50th and 90th percentile of ‖P‖.
        share: (groups, 3), the 10th, 50th and 90th percentile of α(n) / (α(n) + ‖P‖).
    """

    n: Numbers
    weight: Numbers
    norm: Numbers
    share: Numbers

    @property
    def turning_point(self) -> float | None:
        """The first n at which behaviour outweighs the text for half of the users; None if there is none."""
        below = np.flatnonzero(self.share[:, 1] < 0.5 - 1e-6)
        return float(self.n[below[0]]) if len(below) else None


def influence_of(model: HybridRecommender) -> Influence | None:
    """Return α(n) and ‖P‖ for the users of the training part; None if no user has a profile."""
    users, parameters = model.users, model.parameters
    norms = np.linalg.norm(users.profiles.astype(np.float64), axis=1)
    known = np.flatnonzero((users.evidence > 0) & (norms > 0))
    if not len(known):
        return None
    n, norms = users.evidence[known], norms[known]
    weights = parameters.alpha_of(n)
    shares = weights / (weights + norms)
    groups = np.floor(2 * np.log2(np.maximum(n, 1))).astype(int)
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    middle = np.array([np.median(n[each]) for each in rows])
    percentiles = (0.1, 0.5, 0.9)
    return Influence(
        middle, parameters.alpha_of(middle),
        np.array([np.quantile(norms[each], percentiles) for each in rows]),
        np.array([np.quantile(shares[each], percentiles) for each in rows]),
    )  # fmt: skip


@dataclass(frozen=True)
class Label:
    """The items with one tag: mean expected demand, as a percentile of the catalogue, and buyers in the test part."""

    name: str
    group: str
    predicted: float
    buyers: Mean


@dataclass(frozen=True)
class Calibration:
    """Expected demand and buyers.

    Attributes:
        cold: whether the items had no history in the training part.
        labels: tags with at least 10 items, the most frequent first.
        predicted: mean percentile of each of ten groups of items, from the least expected demand to the most.
        buyers: mean buyers of each group.
        overall: mean buyers of all items.
        correlation: Spearman's, of percentile and buyers over all items; None if one of them does not vary.
    """

    cold: bool
    labels: list[Label]
    predicted: Numbers
    buyers: list[Mean]
    overall: Mean
    correlation: float | None


def calibration_of(model: HybridRecommender, split: Split, tagger: Tagger) -> Calibration:
    """Return expected demand, buyers and tags of the split's new items, or of all items if the split has none."""
    sold = buyers_of(split)
    rows = new_items_of(split)
    new = len(rows) > 0
    rows = rows if new else np.arange(len(split.items))
    predicted = np.asarray(model.score(None, [split.items.ids[row] for row in rows]), dtype=np.float64)[0]
    buyers = sold[rows].astype(np.float64)
    order = np.argsort(predicted, kind="stable")
    groups = np.array_split(order, max(1, min(_DECILES, len(order) // LEAST_ITEMS)))
    return Calibration(
        new, _labels(tagger, [split.items.descriptions[row] for row in rows], predicted, buyers),
        np.array([predicted[group].mean() for group in groups]), [Mean.of(buyers[group]) for group in groups],
        Mean.of(buyers), _spearman(predicted, buyers),
    )  # fmt: skip


def new_items_of(split: Split) -> NDArray[np.int64]:
    """Return the cold items if the split holds out items, otherwise none: then the few cold items are not typical."""
    return np.flatnonzero(split.cold) if split.kind in _ABOUT_ITEMS else np.zeros(0, dtype=np.int64)


def buyers_of(split: Split) -> NDArray[np.int64]:
    """Return (items,), the number of users of each item in the test part."""
    return np.asarray(np.bincount(split.test.pairs().items, minlength=len(split.items)), dtype=np.int64)


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most `count` of the rows, evenly spread.

    >>> spread(np.arange(100), 4).tolist()
    [0, 33, 66, 99]
    """
    chosen: NDArray[np.int64] = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))
    return rows.take(chosen)


def _labels(tagger: Tagger, texts: Sequence[str], predicted: Numbers, buyers: Numbers) -> list[Label]:
    tagged = spread(np.arange(len(texts)), _MOST_TAGGED)
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, tags in zip(tagged.tolist(), tagger.tag([texts[row] for row in tagged]), strict=True):
        for tag in tags:
            members[tag.group or "", tag.label].append(row)
    enough = [(key, rows) for key, rows in members.items() if len(rows) >= LEAST_ITEMS]
    enough.sort(key=lambda pair: (-len(pair[1]), pair[0]))
    return [
        Label(label, group, float(predicted[rows].mean()), Mean.of(buyers[rows])) for (group, label), rows in enough
    ]


def _spearman(a: Numbers, b: Numbers) -> float | None:
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    if min(np.ptp(rank) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])
