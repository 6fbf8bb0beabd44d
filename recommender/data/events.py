"""Events: what each type weighs, and how they age."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from coldstart_udfs.settings import EVENT_WEIGHTS, Enrichment


@dataclass(frozen=True)
class EventWeights:
    """What an event counts as, by type, and how it ages.

    Attributes:
        by_type: in purchases. A type that is not named counts as in `EVENT_WEIGHTS` (views .1, searches .2, carts .5,
            purchases 1: custom, no measurement), and as 1 if it is not there either. Of a return it is the share of
            the purchase that it takes back, at most 1. 0 leaves a type out.
        half_life_days: after so many days an event counts half; `inf` keeps it whole.

    Raises:
        ColdStartError: a weight or the half-life is out of range.

    >>> weights = EventWeights({"view": 0.05}, half_life_days=90)
    >>> weights.of("view"), weights.of("cart"), weights.of("answer")
    (0.05, 0.5, 1.0)
    """

    by_type: Mapping[str, float] = field(default_factory=dict)
    half_life_days: float = math.inf

    def __post_init__(self) -> None:
        Enrichment(event_weights=dict(self.by_type), half_life_days=self.half_life_days)  # checks both
        object.__setattr__(self, "by_type", EVENT_WEIGHTS | dict(self.by_type))

    @classmethod
    def of_settings(cls, settings: Enrichment) -> EventWeights:
        """What a repository's `enrichment.json` says."""
        return cls(settings.event_weights, settings.half_life_days)

    def of(self, event_type: str) -> float:
        """The weight of one type."""
        return float(self.by_type.get(event_type, 1.0))
