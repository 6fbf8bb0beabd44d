"""What is chosen before fitting or on validation data, and kept in the bundle."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from coldstart_udfs.errors import ColdStartError

_AT_LEAST_ONE = ("components", "epochs", "lightfm_seeds")
_MAY_BE_INFINITE = ("evidence_scale", "few")
_POSITIVE = ("learning_rate", "ridge", "behaviour_ridge", "evidence_scale")


@dataclass(frozen=True)
class Parameters:
    """Of fit and score. The defaults are what the data sets of docs/quality.md have in common.

    Attributes:
        components: LightFM's latent dimensions.
        epochs: LightFM's passes over the interactions.
        learning_rate: LightFM's.
        regularisation: LightFM's L2 penalty on features of both sides.
        lightfm_seeds: how many fits with different seeds, at the same time, are averaged; one is enough to choose the
            other parameters by.
        seed: of the first; the same seed gives identical fits.
        item_identity: weight of an item's identity feature, see `FeatureSpace`.
        ridge: λ of A = (XᵀX + λI)⁻¹.
        behaviour_ridge: λ of the behaviour matrix B, see `recommender.model.closed_form.behaviour`.
        smoothing: what the items that B expects beside a user's own weigh in his profile.
        behaviour: δ, what B's score weighs, for items with history, beside that of the words of one without.
        warm_words: what the words of an item with history weigh beside those of one without; for a user without
            history they count whole.
        alpha: α, what a user's description weighs, in interactions.
        taste: what the description counts as that people with such words had as profile, see
            `recommender.model.predicted`.
        beta: β of the served P_i' = P_i + β·M(d_i); no part of the score.
        evidence_scale: a of α(n) = α·a/(a+n).
        gamma: γ, what the profile score weighs beside LightFM's.
        gamma_cold: γ for a user without history, where popularity stands in for LightFM's score.
        gamma_attributes: likewise for one who has no words either, of whom his attributes speak through `taste`.
        attribute_popularity: how far a cold user's popularity is that among users with his attributes.
        few: after so many interactions LightFM's score of a user counts half, popularity the other half; `inf` leaves
            it to popularity.
        cold_offset: what is added to items without history, in standard deviations of a user's scores.
        source: for what was chosen, how.

    Raises:
        ColdStartError: a value out of range.
    """

    components: int = 64
    epochs: int = 15
    learning_rate: float = 0.05
    regularisation: float = 0.0
    lightfm_seeds: int = 3
    seed: int = 0
    item_identity: float = 0.3
    ridge: float = 8.0
    behaviour_ridge: float = 100.0
    smoothing: float = 1.0
    behaviour: float = 1.0
    warm_words: float = 0.5
    alpha: float = 1.0
    taste: float = 0.0
    beta: float = 1.0
    evidence_scale: float = math.inf
    gamma: float = 2.0
    gamma_cold: float = 0.5
    gamma_attributes: float = 0.5
    attribute_popularity: float = 0.0
    few: float = 10.0
    cold_offset: float = 0.0
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self) if one.name not in ("source", "seed")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise ColdStartError(f"{name} is {value!r}; it must be a number")
            if math.isinf(value) and name not in _MAY_BE_INFINITE:
                raise ColdStartError(f"{name} is infinite; it must be a finite number")
            if name == "cold_offset":
                continue
            if value < 0 or (value == 0 and name in _POSITIVE) or (value < 1 and name in _AT_LEAST_ONE):
                bound = "at least 1" if name in _AT_LEAST_ONE else "positive" if name in _POSITIVE else "at least 0"
                raise ColdStartError(f"{name} is {value!r}; it must be {bound}")

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold: infinite values are null."""
        values = asdict(self)
        return values | {name: None for name in _MAY_BE_INFINITE if math.isinf(values[name])}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Parameters:
        """The reverse of `as_json`.

        Raises:
            ColdStartError: a name that no parameter has.
        """
        known = {one.name for one in fields(cls)}
        if not set(values) <= known:
            raise ColdStartError(f"unknown parameters {sorted(set(values) - known)}; possible are {sorted(known)}")
        infinite = {name: math.inf for name in _MAY_BE_INFINITE if values.get(name, 0) is None}
        return cls(**values | infinite)
