"""The parameters of arms, applied to what a worker knows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from coldstart_client.experiments import Arm
from recommender.model.fitted import Fitted
from recommender.model.weights import MOST, Pair, Weights

# The parts that are products with a user's profile: what γ weighs.
OF_PROFILE = ("text", "neighbour_text")
# The parts that compare texts.
OF_TEXT = (*OF_PROFILE, "predicted_profile")


@dataclass(frozen=True)
class Variant:
    """What the arms of a user change together; factors of several layers are multiplied.

    Attributes:
        alpha: what α is multiplied by.
        gamma: what the weights of `OF_PROFILE` are multiplied by; none gets above `MOST`.
        text: whether texts count; without, α, `words` and the weights of `OF_TEXT` are 0.
    """

    alpha: float = 1.0
    gamma: float = 1.0
    text: bool = True

    @classmethod
    def of(cls, arms: Iterable[Arm]) -> Variant:
        """What arms change together."""
        given = list(arms)
        return cls(
            math.prod(arm.alpha for arm in given), math.prod(arm.gamma for arm in given), all(arm.text for arm in given)
        )

    def applied(self, fitted: Fitted) -> Fitted:
        """A version of a state with these parameters. It shares all arrays."""
        if self == Variant():
            return fitted
        parameters = fitted.parameters
        alpha = parameters.alpha * self.alpha if self.text else 0.0
        return fitted.with_parameters(alpha=alpha, weights=self._weights(parameters.weights))

    def _weights(self, weights: Weights) -> Weights:
        sides = [{part: self._pair(part, pair) for part, pair in side.items()} for side in (weights.warm, weights.cold)]
        words = min(weights.words * self.gamma, MOST) if self.text else 0.0
        return replace(weights, warm=sides[0], cold=sides[1], words=words)

    def _pair(self, part: str, pair: Pair) -> Pair:
        factor = self.gamma if part in OF_PROFILE else 1.0
        if not self.text and part in OF_TEXT:
            factor = 0.0
        return min(pair[0] * factor, MOST), min(pair[1] * factor, MOST)
