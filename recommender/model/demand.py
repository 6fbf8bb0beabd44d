"""How far the expected demand of an item that nobody has bought yet may be off.

Leave-one-out residuals of a ridge regression have a closed form: what item i lacks is (y_i - ŷ_i) / (1 - h_i), where
h_i is its leverage x_iᵀ(XᵀX + Λ)⁻¹x_i (Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning,
equation 7.64). Their quantiles, added to the prediction of a new item, are an interval: the jackknife (Barber et al.
2021, Predictive inference with the jackknife+, doi 10.1214/20-AOS1965, section 1). The residuals are those of the items
whose own predictions were nearest, because rare items err otherwise than popular ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.model.closed_form import MAP_RIDGE, leverages
from recommender.model.feature_matrix import FeatureMatrix

# Residuals are read of so many items, spread evenly.
_MOST_ITEMS = 2_048
# An interval is read from a fifth of them, those with the nearest predictions, and from so many at least.
_SHARE, _FEWEST = 5, 100

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class DemandErrors:
    """By how much predictions of log(1 + buyers) are off, for k items that each prediction was not learned from.

    Attributes:
        predicted: (k,), ascending.
        residuals: (k,), what was true less what was predicted.
    """

    predicted: Numbers
    residuals: Numbers

    @classmethod
    def of(cls, features: FeatureMatrix, predicted: NDArray[np.float32], actual: NDArray[np.float64]) -> DemandErrors:
        """Leave each item out.

        Args:
            features: X, (n, w), of the items that the map was learned from.
            predicted: (n,), what the map says of them.
            actual: (n,), log(1 + buyers).
        """
        n = len(features)
        rows = np.linspace(0, n - 1, min(n, _MOST_ITEMS)).astype(np.int64)
        # The map has a mean beside its weights, which takes 1/n of each item.
        kept = np.maximum(1 - leverages(features, MAP_RIDGE, rows) - 1 / n, 1 / n)
        residuals = (actual[rows] - predicted[rows]) / kept
        left_out = actual[rows] - residuals
        order = np.argsort(left_out, kind="stable")
        return cls(left_out[order], residuals[order])

    def intervals(self, predicted: NDArray[np.float32], level: float) -> NDArray[np.float64]:
        """(m, 3): lower bounds, medians and upper bounds of log(1 + buyers).

        Args:
            predicted: (m,), of items that the map was not learned from.
            level: the share of such items that lies within the bounds, above 0 and below 1.

        Raises:
            ColdStartError: another level.
        """
        if not 0 < level < 1:
            raise ColdStartError(f"level is {level:g}; it is a share above 0 and below 1, such as 0.9")
        size = min(max(len(self.predicted) // _SHARE, _FEWEST), len(self.predicted))
        middle = np.searchsorted(self.predicted, predicted) - size // 2
        starts, place = np.unique(np.clip(middle, 0, len(self.predicted) - size), return_inverse=True)
        found = np.empty((len(starts), 3))
        tail = (1 - level) / 2
        # The order statistics between which a further residual lies with this probability.
        low = max(int(np.floor(tail * (size + 1))) - 1, 0)
        high = min(int(np.ceil((1 - tail) * (size + 1))) - 1, size - 1)
        for row, start in enumerate(starts.tolist()):
            near = np.sort(self.residuals[start : start + size])
            found[row] = near[low], np.median(near), near[high]
        return np.asarray(predicted[:, None] + found[place])
