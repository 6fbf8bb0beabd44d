"""Learn the weights of parts from lists: what was wanted among what was not, by a softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

# What is drawn of each list.
_WANTED, _UNWANTED = 60, 150
# The scales of the prior that are tried.
_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lists:
    """l lists of up to 210 items, and the k parts of their scores.

    Attributes:
        parts: (l, 210, k) float32.
        wanted: (l, 210), 1 for items that are wanted.
        log_counts: (l, 210), how many items each stands for, as a logarithm; -inf for places without an item.
        evidence: (l,), how much each user is a known one, 0 to 1.
        importance: (l,), of each list.
    """

    parts: NDArray[np.float32]
    wanted: NDArray[np.bool_]
    log_counts: Floats
    evidence: Floats
    importance: Floats

    def __len__(self) -> int:
        return len(self.parts)

    @classmethod
    def joined(cls, lists: list[Lists]) -> Lists:
        """All of them."""
        return cls(*(np.concatenate([getattr(one, name) for one in lists]) for name in
                     ("parts", "wanted", "log_counts", "evidence", "importance")))  # fmt: skip


def draw_lists(
    parts: list[NDArray[np.float32]], wanted: NDArray[np.bool_], open_: NDArray[np.bool_], evidence: Floats,
    importance: float, rng: np.random.Generator,
) -> Lists:
    """Draw the items of each list: up to 60 that are wanted, and 150 others, uniformly.

    Args:
        parts: k arrays, (l, items) or (1, items).
        wanted: (l, items).
        open_: (l, items), the candidates, the wanted ones among them.
        evidence: (l,).
        importance: of each list.
        rng: decides what is drawn.
    """
    size = _WANTED + _UNWANTED
    columns = np.zeros((len(wanted), size), np.int64)
    log_counts = np.full((len(wanted), size), -np.inf)
    for row in range(len(wanted)):
        for start, most, mask in ((0, _WANTED, wanted[row]), (_WANTED, _UNWANTED, open_[row] & ~wanted[row])):
            found = np.flatnonzero(mask)
            some = rng.choice(found, most, replace=False) if len(found) > most else found
            columns[row, start : start + len(some)] = some
            log_counts[row, start : start + len(some)] = np.log(max(len(found), 1) / max(len(some), 1))
    rows = np.arange(len(wanted))[:, None]
    drawn = np.stack([part[0 if len(part) == 1 else rows, columns] for part in parts], axis=-1)
    first = np.arange(size)[None] < _WANTED
    return Lists(drawn, first & (log_counts > -np.inf), log_counts, evidence, np.full(len(wanted), importance))


def learn(lists: Lists, prior: Floats, least: Floats, most: float, *, each: float, pull: float) -> Floats:
    """The weights whose softmax tells best what is wanted.

    The loss of a list is -(1 - each)·log(Σ_wanted eˢ / Σ_all eˢ) - each·mean_wanted log(eˢ / Σ_all eˢ): the first asks
    for any wanted item at the top, the second for all of them. A list's items stand for those that were not drawn
    (sampled softmax with the log-correction of Bengio and Senécal, "Adaptive importance sampling", 2008).

    Args:
        lists: to learn from.
        prior: (2, k), where the weights are pulled to: for users without evidence, and with much. How far they spread
            the scores is the lists' to say: the prior is scaled first.
        least: (k,), the least weight of each part.
        most: the largest weight.
        each: 0 to 1.
        pull: of the L2 penalty, in lists: the penalty of weights that are 1 away from the prior, before it is scaled;
            infinite: the scaled prior.

    Returns:
        (2, k).
    """
    shares = np.stack([1 - lists.evidence, lists.evidence])  # (2, l)
    counts = lists.wanted.sum(axis=1)
    X = lists.parts.astype(np.float64)

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = np.einsum("lik,lk->li", X, shares.T @ weights)
        counted = scores + lists.log_counts
        top = counted.max(axis=1, keepdims=True)
        exps = np.exp(counted - top)
        total = exps.sum(axis=1)
        of_wanted = exps * lists.wanted
        inside = np.maximum(of_wanted.sum(axis=1), 1e-300)
        mean = (scores * lists.wanted).sum(axis=1) / counts
        value = np.log(total) - (1 - each) * np.log(inside) - each * (mean - top[:, 0])
        slope = exps / total[:, None]
        slope -= (1 - each) * of_wanted / inside[:, None] + each * lists.wanted / counts[:, None]
        by_list = np.einsum("lik,li->lk", X, slope * lists.importance[:, None])
        return float(lists.importance @ value), shares @ by_list

    scale = min(_SCALES, key=lambda one: loss(prior * one)[0])
    centre = np.clip(prior * scale, least, most)
    if np.isinf(pull):
        return centre

    def penalised(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(prior.shape)
        value, slope = loss(weights)
        away = (weights - centre) / scale
        return value + pull / 2 * float((away**2).sum()), (slope + pull / scale * away).ravel()

    bounds = [(float(low), most) for low in np.tile(least, 2)]
    with threadpool_limits(1, "blas"):  # for the optimiser's tiny matrices, more threads cost more than they save
        found = minimize(penalised, centre.ravel(), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x.reshape(prior.shape))
