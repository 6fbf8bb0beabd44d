"""How an encoder is tuned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from coldstart_udfs.errors import ColdStartError

ARITHMETIC = ("auto", "float32", "bfloat16")
# Steps by default: with fewer items, more would only repeat them.
_MANY_ITEMS, _STEPS, _STEPS_OF_FEW = 2_000, 140, 30


@dataclass(frozen=True)
class TuningSettings:
    """The settings of one tuning; the defaults are those that a laboratory found best over seven splits.

    Attributes:
        layers: number of top layers of a transformer that learn.
        adapters: rank of adapters that learn in place of these layers; 0: none.
        learning_rate: the highest one, of AdamW.
        steps: number of batches; None: 140, or 30 with fewer than 2,000 descriptions.
        batch: number of different items in a batch.
        warm_up: share of the steps in which the learning rate rises, before it falls as a cosine.
        weight_decay: of AdamW.
        clip: largest norm of a step's gradient.
        arithmetic: "float32", "bfloat16", or "auto": bfloat16 where a first batch is computed faster with it.
        seed: of the order of the items, of the users of a batch, and of adapters.

    Raises:
        ColdStartError: a value out of range.
    """

    layers: int = 2
    adapters: int = 0
    learning_rate: float = 3e-4
    steps: int | None = None
    batch: int = 512
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    arithmetic: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"layers": 1, "adapters": 0, "batch": 2, "seed": 0, "weight_decay": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ColdStartError(f"{name} is {getattr(self, name)}; it must be at least {bound}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ColdStartError(f"{name} is {getattr(self, name)}; it must be positive, such as 0.0003")
        if self.steps is not None and self.steps < 1:
            raise ColdStartError(f"steps is {self.steps}; it must be at least 1")
        if not 0 <= self.warm_up < 1:
            raise ColdStartError(f"warm_up is {self.warm_up}; it is a share of the steps, from 0 to less than 1")
        if self.arithmetic not in ARITHMETIC:
            raise ColdStartError(f"arithmetic is {self.arithmetic!r}; possible are {', '.join(ARITHMETIC)}")

    def steps_for(self, items: int) -> int:
        """The number of steps with this many descriptions."""
        return self.steps or (_STEPS if items >= _MANY_ITEMS else _STEPS_OF_FEW)

    def as_json(self) -> dict[str, Any]:
        """A dictionary for a manifest."""
        return asdict(self)
