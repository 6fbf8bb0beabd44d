"""What is chosen before fitting or on validation data, and kept in the bundle."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import evidence_weight
from recommender.model.weights import Weights

_AT_LEAST_ONE = ("components", "epochs", "lightfm_seeds")
_MAY_BE_INFINITE = ("evidence_scale",)
_NO_NUMBERS = ("exclusions", "source", "seed", "weights")
_POSITIVE = ("learning_rate", "metric_ridge", "item_item_ridge", "evidence_scale", "freshness_half_life")


@dataclass(frozen=True)
class Parameters:
    """Of fit and score.

    Attributes:
        components: LightFM's latent dimensions.
        epochs: LightFM's passes over the interactions.
        learning_rate: LightFM's.
        regularisation: LightFM's L2 penalty on features of both sides.
        lightfm_seeds: number of LightFM fits with different seeds that are averaged. They run at the same time. One is
            enough to choose the other parameters by.
        seed: of the first; the same seed gives identical fits.
        item_identity_weight: value of an item's identity feature in LightFM, see `FeatureSpace`.
        metric_ridge: λ of the item metric A = (XᵀX + Λ)⁻¹, see `recommender.model.closed_form`.
        item_item_ridge: λ of the item–item weights B, see `recommender.model.closed_form`.
        freshness: what an item gains that came just now, see `recommender.model.freshness`; 0 leaves age out.
        freshness_half_life: days after which half of it is left.
        alpha: α, the weight of a user's description, in interactions.
        evidence_scale: a of α(n) = α·a/(a+n), in interactions; `inf` keeps α constant.
        weights: of the parts of a score.
        exclusions: pairs of a label of users and a label of items, such as ("age=child", "audience=adult"): items with
            the one are not recommended to users with the other.
        source: how the value of a parameter was chosen, by name.

    Raises:
        ColdStartError: a value out of range.
    """

    components: int = 64
    epochs: int = 15
    learning_rate: float = 0.05
    regularisation: float = 0.0
    lightfm_seeds: int = 2
    seed: int = 0
    item_identity_weight: float = 0.3
    metric_ridge: float = 8.0
    item_item_ridge: float = 200.0
    freshness: float = 0.0
    freshness_half_life: float = 1.0
    alpha: float = 1.0
    evidence_scale: float = math.inf
    weights: Weights = field(default_factory=Weights)
    exclusions: tuple[tuple[str, str], ...] = ()
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self) if one.name not in _NO_NUMBERS):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                raise ColdStartError(f"{name} is {value!r}; it must be a number")
            if abs(value) > sys.float_info.max and (name not in _MAY_BE_INFINITE or isinstance(value, int)):
                raise ColdStartError(f"{name} is infinite; it must be a finite number")
            if value < 0 or (value == 0 and name in _POSITIVE) or (value < 1 and name in _AT_LEAST_ONE):
                bound = "at least 1" if name in _AT_LEAST_ONE else "positive" if name in _POSITIVE else "at least 0"
                raise ColdStartError(f"{name} is {value!r}; it must be {bound}")
        if not isinstance(self.weights, Weights):
            raise ColdStartError(f"weights are {self.weights!r}; give `Weights`")
        if not isinstance(self.exclusions, tuple) or not all(map(_is_pair, self.exclusions)):
            raise ColdStartError(f"exclusions are {self.exclusions!r}; give pairs of a label of users and one of items")
        texts = (*self.source, *self.source.values()) if isinstance(self.source, dict) else (None,)
        if not all(isinstance(text, str) for text in texts):
            raise ColdStartError("source must be a text for each name of a parameter")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise ColdStartError(f"seed is {self.seed!r}; it must be a whole number from 0 to 2³² - 1")

    def alpha_of(self, n: ArrayLike) -> NDArray[np.float64]:
        """α(n), the weight of a user's description beside n interactions; of the shape of n."""
        return evidence_weight(n, self.alpha, self.evidence_scale)

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold: infinite values are null."""
        values = {one.name: getattr(self, one.name) for one in fields(self)} | {"weights": self.weights.as_json()}
        return values | {name: None for name in _MAY_BE_INFINITE if math.isinf(values[name])}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Parameters:
        """The reverse of `as_json`.

        Raises:
            ColdStartError: no dictionary, or a name that no parameter has.
        """
        if not isinstance(values, dict):
            raise ColdStartError(f"parameters are {values!r}; give a dictionary")
        known = {one.name for one in fields(cls)}
        if not set(values) <= known:
            raise ColdStartError(f"unknown parameters {sorted(set(values) - known)}; possible are {sorted(known)}")
        given = dict(values)
        if "weights" in given:
            given["weights"] = Weights.of_json(given["weights"])
        if isinstance(given.get("exclusions"), list):
            given["exclusions"] = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in given["exclusions"])
        infinite = {name: math.inf for name in _MAY_BE_INFINITE if given.get(name, 0) is None}
        return cls(**given | infinite)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(label, str) for label in value)
