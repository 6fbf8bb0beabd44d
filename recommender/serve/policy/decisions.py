"""What a policy decided: one reserved place of one answer, and the probabilities that it was drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Decision:
    """One reserved slot of one answer, drawn from an explicit distribution.

    Attributes:
        recommendation_id: of the answer; events that cite it are its rewards.
        user_id: "" for a guest.
        at: UTC.
        position: of the slot in the list, from 1.
        item_id: the item that was drawn.
        items: the m candidates that could have been drawn.
        probabilities: (m,) float64 of the candidates; all are positive, and they add up to 1.
        contexts: (m, p) float32, what the policy knew of each candidate for this user.
        policy: which policy drew, and its version, such as "thompson/1".
    """

    recommendation_id: str
    user_id: str
    at: datetime
    position: int
    item_id: str
    items: tuple[str, ...]
    probabilities: NDArray[np.float64]
    contexts: NDArray[np.float32]
    policy: str

    @property
    def propensity(self) -> float:
        """The probability that the drawn item had."""
        return float(self.probabilities[self.items.index(self.item_id)])
