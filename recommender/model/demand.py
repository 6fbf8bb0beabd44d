"""How many buyers an item may get that nobody has bought yet, with an interval.

The buyers of an item without history are read from the items with history whose predicted demand is nearest. A
prediction that an item was part of lies nearer to its buyers than that of a new item will, so each prediction is made
without the item. For a ridge regression that has a closed form: y_i - ŷ_i(without i) = (y_i - ŷ_i) / (1 - h_i), where
h_i is the leverage x_iᵀ(XᵀX + Λ)⁻¹x_i (Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning,
equation 7.64). A new item is exchangeable with those beside it, so the order statistics of their buyers are an interval
(the argument of split conformal prediction; Barber et al. 2021, doi 10.1214/20-AOS1965, for predictions that leave one
out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.model.closed_form import MAP_RIDGE, leverages
from recommender.model.feature_matrix import FeatureMatrix

# So many items are read, spread evenly over the catalogue.
_MOST_ITEMS = 2_048
# An interval is read from a tenth of them, those with the nearest predictions, and from so many at least.
_SHARE, _FEWEST = 10, 100

Numbers = NDArray[np.float64]


def check_level(level: float) -> None:
    """Check the share of items that an interval is for.

    Raises:
        ColdStartError: it is not above 0 and below 1.
    """
    if not 0 < level < 1:
        raise ColdStartError(f"level is {level:g}; it is a share above 0 and below 1, such as 0.9")


@dataclass(frozen=True)
class KnownDemand:
    """Predicted demand and buyers of k items with history.

    Attributes:
        predicted: (k,), ascending: log(1 + buyers) of each item as the others predict it.
        buyers: (k,), their numbers.
    """

    predicted: Numbers
    buyers: NDArray[np.int64]

    @classmethod
    def of(cls, features: FeatureMatrix, predicted: NDArray[np.float32], buyers: NDArray[np.int64]) -> KnownDemand:
        """Leave each item out.

        Args:
            features: X, (n, w), of the items that the map of the expected demand was learned from.
            predicted: (n,), what the map says of them.
            buyers: (n,).
        """
        n = len(features)
        rows = np.linspace(0, n - 1, min(n, _MOST_ITEMS)).astype(np.int64)
        # The map has a mean beside its weights, which takes 1/n of each item.
        kept = np.maximum(1 - leverages(features, MAP_RIDGE, rows) - 1 / n, 1 / n)
        actual = np.log1p(buyers[rows])
        left_out = actual - (actual - predicted[rows]) / kept
        order = np.argsort(left_out, kind="stable")
        return cls(left_out[order], buyers[rows][order])

    def intervals(self, predicted: NDArray[np.float32], level: float) -> Numbers:
        """(m, 3): lower bounds, medians and upper bounds of buyers.

        Args:
            predicted: (m,), log(1 + buyers) as predicted, of items without history.
            level: the share of such items that lies within the bounds, above 0 and below 1.

        Raises:
            ColdStartError: another level.
        """
        check_level(level)
        size = min(max(len(self.predicted) // _SHARE, _FEWEST), len(self.predicted))
        middle = np.searchsorted(self.predicted, predicted) - size // 2
        starts, place = np.unique(np.clip(middle, 0, len(self.predicted) - size), return_inverse=True)
        tail = (1 - level) / 2
        # A further item lies between these order statistics with the probability `level`, or a little more.
        low = max(int(np.floor(tail * (size + 1))) - 1, 0)
        high = min(int(np.ceil((1 - tail) * (size + 1))) - 1, size - 1)
        found = np.empty((len(starts), 3))
        for row, start in enumerate(starts.tolist()):
            near = np.sort(self.buyers[start : start + size])
            found[row] = near[low], np.median(near), near[high]
        return np.asarray(found[place])
