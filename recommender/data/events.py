"""Event weights by type, and the half-life of events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import EVENT_WEIGHTS, Enrichment


@dataclass(frozen=True)
class EventWeights:
    """The weight of an event by type, and its half-life.

    Attributes:
        by_type: weights, in purchases. The default of a type is its value in `EVENT_WEIGHTS` (views .1, searches .2,
            carts .5, purchases 1); the defaults are conventions, not measured. The weight of a return is the share of
            an event that a return or a removal takes back, at most 1. A type with the weight 0 is ignored.
        half_life_days: number of days after which an event counts half; with `inf` events do not age.

    Raises:
        ColdStartError: a weight or the half-life is out of range.

    >>> weights = EventWeights({"view": 0.05, "answer": 2}, half_life_days=90)
    >>> weights.of("view"), weights.of("cart"), weights.of("answer")
    (0.05, 0.5, 2.0)
    """

    by_type: Mapping[str, float] = field(default_factory=dict)
    half_life_days: float = math.inf

    def __post_init__(self) -> None:
        Enrichment(event_weights=dict(self.by_type), half_life_days=self.half_life_days)  # checks both
        object.__setattr__(self, "by_type", EVENT_WEIGHTS | dict(self.by_type))

    @classmethod
    def of_settings(cls, settings: Enrichment) -> EventWeights:
        """Return the weights and half-life of a repository's `enrichment.json`."""
        return cls(settings.event_weights, settings.half_life_days)

    def of(self, event_type: str) -> float:
        """Return the weight of one type.

        Raises:
            ColdStartError: the type has no weight.
        """
        if event_type not in self.by_type:
            raise ColdStartError(
                f"the event type {event_type!r} has no weight; the types with one are {', '.join(self.by_type)}. "
                "Name it in event_weights, in purchases (0 leaves it out)"
            )
        return float(self.by_type[event_type])
