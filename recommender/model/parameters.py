"""What is chosen before fitting or on validation data, and kept in the bundle."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import evidence_weight

_AT_LEAST_ONE = ("components", "epochs", "lightfm_seeds")
_MAY_BE_INFINITE = ("evidence_scale", "lightfm_half_trust")
_POSITIVE = ("learning_rate", "metric_ridge", "item_item_ridge", "evidence_scale")
# Names that bundles of version 0.1.0 and before have.
_FORMER = {
    "item_identity": "item_identity_weight", "ridge": "metric_ridge", "behaviour_ridge": "item_item_ridge",
    "smoothing": "item_item_smoothing", "behaviour": "item_item_weight", "warm_words": "warm_text_weight",
    "taste": "predicted_profile_weight", "few": "lightfm_half_trust",
}  # fmt: skip
# A parameter that they have and that is no part of a score.
_DROPPED = "beta"


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
        metric_ridge: λ of the item metric A = (XᵀX + λI)⁻¹.
        item_item_ridge: λ of the item–item weights B, see `recommender.model.closed_form`.
        item_item_smoothing: weight, in a user's profile, of the items that B expects beside the history.
        item_item_weight: δ, weight of B's score, relative to that of text of an item without history.
        warm_text_weight: weight of text for items with history, relative to items without. For a user without history
            it is 1.
        alpha: α, the weight of a user's description, in interactions.
        predicted_profile_weight: τ, weight of the predicted profile in the description of a user without history.
        evidence_scale: a of α(n) = α·a/(a+n), in interactions; `inf` keeps α constant.
        gamma: γ, the weight of the profile score relative to LightFM's.
        gamma_cold: γ for a user without history, for whom popularity replaces LightFM's score.
        gamma_attributes: γ for a user with attributes and neither history nor words.
        attribute_popularity: how far the popularity for a user without history is that among users with the same
            attributes: 0 is overall popularity, 1 is theirs.
        lightfm_half_trust: number of interactions at which LightFM and popularity weigh equally; `inf` is popularity
            alone.
        cold_offset: what is added to the score of items without history, in deviations of a user's scores.
        source: how the value of a parameter was chosen, by name.

    Raises:
        ColdStartError: a value out of range.
    """

    components: int = 64
    epochs: int = 15
    learning_rate: float = 0.05
    regularisation: float = 0.0
    lightfm_seeds: int = 3
    seed: int = 0
    item_identity_weight: float = 0.3
    metric_ridge: float = 8.0
    item_item_ridge: float = 100.0
    item_item_smoothing: float = 1.0
    item_item_weight: float = 1.0
    warm_text_weight: float = 0.5
    alpha: float = 1.0
    predicted_profile_weight: float = 0.0
    evidence_scale: float = math.inf
    gamma: float = 2.0
    gamma_cold: float = 0.5
    gamma_attributes: float = 0.5
    attribute_popularity: float = 0.0
    lightfm_half_trust: float = 10.0
    cold_offset: float = 0.0
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self) if one.name not in ("source", "seed")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                raise ColdStartError(f"{name} is {value!r}; it must be a number")
            if abs(value) > sys.float_info.max and (name not in _MAY_BE_INFINITE or isinstance(value, int)):
                raise ColdStartError(f"{name} is infinite; it must be a finite number")
            if name == "cold_offset":
                continue
            if value < 0 or (value == 0 and name in _POSITIVE) or (value < 1 and name in _AT_LEAST_ONE):
                bound = "at least 1" if name in _AT_LEAST_ONE else "positive" if name in _POSITIVE else "at least 0"
                raise ColdStartError(f"{name} is {value!r}; it must be {bound}")
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
        values = asdict(self)
        return values | {name: None for name in _MAY_BE_INFINITE if math.isinf(values[name])}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Parameters:
        """The reverse of `as_json`; former names of parameters are understood.

        Raises:
            ColdStartError: a name that no parameter has.
        """
        given = _renamed(values) | {"source": _renamed(values.get("source", {}))}
        known = {one.name for one in fields(cls)}
        if not set(given) <= known:
            raise ColdStartError(f"unknown parameters {sorted(set(given) - known)}; possible are {sorted(known)}")
        infinite = {name: math.inf for name in _MAY_BE_INFINITE if given.get(name, 0) is None}
        return cls(**given | infinite)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    return {_FORMER.get(name, name): value for name, value in values.items() if name != _DROPPED}
