"""Counts of several kinds against planned shares, with a test that is valid at every look.

Lindon and Malek (2020, Anytime-valid inference for multinomial count data, https://arxiv.org/abs/2011.03567).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

# The counts of a mismatch that are to be expected: the more, the sooner small mismatches are found, and the later
# large ones.
_CONCENTRATION = 100.0
# An alarm is given at this p: it is wrong once in a thousand experiments at most.
ALARM = 0.001


def evidence(counts: NDArray[np.floating], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the evidence against the shares: the likelihood of a Dirichlet mixture by that of the shares.

    If the shares are right, it ever exceeds log(1/p) with probability p at most.

    Args:
        counts: (…, k), how many of each kind were seen.
        shares: (k,), which add up to 1; or (…, k).
    """
    prior = _CONCENTRATION * shares
    weight = prior.sum(axis=-1)
    whole = weight + counts.sum(axis=-1)
    mixture = gammaln(weight) - gammaln(whole) + (gammaln(prior + counts) - gammaln(prior)).sum(axis=-1)
    return np.asarray(mixture - (counts * np.log(shares)).sum(axis=-1))


def always_valid_p(places: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """The p of "the shares are right", after a look at each user.

    Args:
        places: (n,), the kind of each user, in the order in which they came.
        shares: (k,), which add up to 1.
    """
    if not len(places):
        return 1.0
    counts = np.cumsum(places[:, None] == np.arange(len(shares)), axis=0)
    return float(np.exp(-max(float(evidence(counts, shares).max()), 0.0)))
