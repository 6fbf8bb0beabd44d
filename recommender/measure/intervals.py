"""Confidence intervals of mean differences whose rankings share users, items and draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUANTILE = 0.975

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ByItem:
    """The same values, summed over users instead of items: what each relevant item of each draw adds.

    NDCG is a sum over a user's relevant items, so both sums of one draw are equal.

    Attributes:
        values: (m, methods), sums over the users of a draw.
        shares: (m,), expected share: the sum over these users of 1 / number of their relevant items.
        items: (m,), the item of each row, or its group.
        draws: (m,), the draw of each row.
    """

    values: Numbers
    shares: Numbers
    items: Rows
    draws: Rows


def intervals(values: Numbers, users: Rows, draws: Rows, by_item: ByItem | None = None) -> Numbers:
    """Return 95 % intervals of means that count draws, items and users as sources of chance.

    A draw is one seed: which items and users are held out, and how the methods are fitted. All users of a draw share
    it, and rank the same few held-out items, so their values are not independent. The mean is that of the draws' means.
    Its variance is estimated from three kinds of clusters: a user with the values of all draws, a draw with all its
    users, and a relevant item with all its users and draws.

        half width = max over c in {draws, items} of t(df) · √(V_users + V_c)
        V_c = C/(C−1) · Σ over the C clusters of (sum of weighted residuals)²
        df = (V_users + V_c)² / (V_users²/(C_users − 1) + V_c²/(C − 1))

    The sum of the variances of two crossed factors is what the pigeonhole bootstrap estimates (Owen 2007, The
    pigeonhole bootstrap, https://doi.org/10.1214/07-AOAS122), and like it a little too large, because what belongs to
    one user in one draw is counted twice. It is computed here, not resampled: with five draws percentiles of resamples
    are too narrow, and Student's t with Satterthwaite's degrees of freedom (1946) makes up for that. With one draw,
    users and items alone count, and the chance in fitting does not.

    Args:
        values: (n, methods), differences of a metric, one row per user and draw.
        users: (n,), the user of each row.
        draws: (n,), the draw of each row.
        by_item: the same differences by item; None: items are not counted.

    Returns:
        (methods, 2): lower and upper bound. Of a single user the bounds are infinite.

    >>> values = np.random.default_rng(0).normal(0.1, 1, size=(1_000, 1))
    >>> intervals(values, np.arange(1_000), np.arange(1_000) % 5).round(1).tolist()
    [[-0.1, 0.2]]
    """
    _, draw, sizes = np.unique(draws, return_inverse=True, return_counts=True)
    weights = 1 / (len(sizes) * sizes)
    means = (values * weights[draw, None]).sum(axis=0)
    residuals = (values - means) * weights[draw, None]
    of_users = _variance(residuals, users)
    shared = [_variance(residuals, draws)]
    if by_item is not None:
        place = np.searchsorted(np.unique(draws), by_item.draws)
        parts = (by_item.values - by_item.shares[:, None] * means) * weights[place, None]
        shared.append(_variance(parts, by_item.items))
    half = np.max([_half_width(*of_users, *each) for each in shared], axis=0)
    return np.column_stack([means - half, means + half])


def _variance(residuals: Numbers, clusters: Rows) -> tuple[Numbers, int]:
    """The variance of the sum of all residuals, if clusters are independent; and the number of clusters."""
    _, place = np.unique(clusters, return_inverse=True)
    count = int(place.max(initial=-1)) + 1
    sums = np.zeros((count, residuals.shape[1]))
    np.add.at(sums, place, residuals)
    return count / max(count - 1, 1) * (sums**2).sum(axis=0), count


def _half_width(users: Numbers, n_users: int, other: Numbers, n_other: int) -> Numbers:
    from scipy.stats import t

    if n_users < 2:
        return np.full(len(users), np.inf)
    total = users + other
    # One cluster alone has no variance: its residuals add up to 0.
    per_degree = users**2 / (n_users - 1) + other**2 / max(n_other - 1, 1)
    degrees = np.divide(total**2, per_degree, out=np.ones_like(total), where=per_degree > 0)
    return np.asarray(t.ppf(_QUANTILE, degrees) * np.sqrt(total), dtype=np.float64)
