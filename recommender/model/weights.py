"""What each part of a score weighs: for warm and for cold items, for users without and with much evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError

PARTS = (
    "lightfm", "lightfm_map", "popularity", "popularity_7d", "popularity_30d", "popularity_90d", "newness", "text",
    "neighbour_text", "item_item", "predicted_profile", "attribute_popularity",
)  # fmt: skip
# Parts that say nothing of an item without history.
OF_WARM_ITEMS = ("newness", "item_item", "attribute_popularity")
# LightFM's score and the profile product are always part of a score.
ALWAYS = ("lightfm", "text")
LEAST = 0.05
# A weight beyond it says no more than that the other parts hardly count.
MOST = 10.0

# The weight for a user without evidence, and for one with very much.
Pair = tuple[float, float]

_WARM: dict[str, Pair] = {
    "lightfm": (0.2, 0.6), "lightfm_map": (0.1, 0.3), "popularity": (1.0, 0.3), "popularity_30d": (0.2, 0.1),
    "text": (0.5, 0.4), "neighbour_text": (0.0, 0.2), "item_item": (0.5, 1.0), "predicted_profile": (0.2, 0.0),
    "attribute_popularity": (0.2, 0.0),
}  # fmt: skip
_COLD: dict[str, Pair] = {
    "lightfm": (0.2, 0.4), "lightfm_map": (0.1, 0.4), "popularity": (1.0, 0.3), "popularity_30d": (0.2, 0.1),
    "text": (0.5, 1.2), "neighbour_text": (0.0, 0.5), "predicted_profile": (0.2, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """Of the parts of a score; see `recommender.model.scoring`.

    A user with n items in their history has, of each part, the weight new + n/(n + h)·(known - new); of `text`, if they
    have a description, at least h/(n + h)·`words`.

    Attributes:
        warm: for items with history, by part: (new, known); 0 for parts that are not named.
        cold: likewise for items without history.
        half_evidence: h, the number of items in a history at which both weigh equally.
        words: the least weight of `text` for a user with a description and without history: where no user of the data
            has a description, nothing tells what it should weigh. It falls as the history grows.
        cold_offset: what is added to the score of items without history.

    Raises:
        ColdStartError: an unknown part, or a weight out of range.

    >>> weights = Weights(warm={"lightfm": (0.5, 1.5), "text": (0.5, 0.5)}, cold={"text": (1.0, 1.0)})
    >>> weights.of("lightfm", np.array([0, 5])).tolist()
    [0.5, 1.0]
    """

    warm: Mapping[str, Pair] = field(default_factory=_WARM.copy)
    cold: Mapping[str, Pair] = field(default_factory=_COLD.copy)
    half_evidence: float = 5.0
    words: float = 0.0
    cold_offset: float = 0.0

    def __post_init__(self) -> None:
        for side in ("warm", "cold"):
            given = getattr(self, side)
            if not isinstance(given, Mapping) or not set(given) <= set(PARTS):
                raise ColdStartError(f"{side} weights are {given!r}; the parts of a score are {', '.join(PARTS)}")
            object.__setattr__(self, side, {part: _pair(part, given[part]) for part in PARTS if part in given})
        for name, least in (("half_evidence", 0.0), ("words", 0.0), ("cold_offset", -math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ColdStartError(f"{name} is {value!r}; it must be a finite number")
            if value < least or (name == "half_evidence" and not value):
                bound = "positive" if name == "half_evidence" else "at least 0"
                raise ColdStartError(f"{name} is {value!r}; it must be {bound}")
            if name == "words" and value > MOST:
                raise ColdStartError(f"words is {value!r}; it must be at most {MOST:g}")

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The parts that weigh anything."""
        named = {part for part in PARTS if any((*self.warm.get(part, ()), *self.cold.get(part, ())))}
        return tuple(part for part in PARTS if part in named or (part == "text" and self.words))

    def evidence(self, n: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """n/(n + h), (users,): how much a user is a known one."""
        return np.asarray(n / (n + self.half_evidence), dtype=np.float32)

    def of(
        self, part: str, n: NDArray[np.integer[Any]], *, cold: bool = False, told: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """(users,): the weight of a part for users with n items in their histories.

        Args:
            part: one of `PARTS`.
            n: (users,).
            cold: for items without history.
            told: (users,), who has a description; None is nobody.
        """
        new, known = (self.cold if cold else self.warm).get(part, (0.0, 0.0))
        evidence = self.evidence(n)
        found = np.asarray(new + evidence * np.float32(known - new), dtype=np.float32)
        return self._with_words(found, evidence, told) if part == "text" else found

    def of_all(
        self, n: NDArray[np.integer[Any]], told: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(parts, users) twice: the weights of all `parts`, for warm and for cold items; see `of`."""
        evidence = self.evidence(n)
        warm, cold = (self._pairs[side][:, :1] + self._pairs[side][:, 1:] * evidence for side in (0, 1))
        if "text" in self.parts:
            text = self.parts.index("text")
            for found in (warm, cold):
                found[text] = self._with_words(found[text], evidence, told)
        return warm, cold

    def _with_words(
        self, found: NDArray[np.float32], evidence: NDArray[np.float32], told: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        if told is None or not self.words:
            return found
        return np.where(told, np.maximum(found, (1 - evidence) * np.float32(self.words)), found)

    @cached_property
    def _pairs(self) -> NDArray[np.float32]:
        """(2, parts, 2), for warm and cold items: new, and known - new."""
        pairs = [[side.get(part, (0.0, 0.0)) for part in self.parts] for side in (self.warm, self.cold)]
        found = np.array(pairs, np.float32).reshape(2, len(self.parts), 2)
        found[:, :, 1] -= found[:, :, 0]
        return found

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        pairs = {side: {part: list(pair) for part, pair in getattr(self, side).items()} for side in ("warm", "cold")}
        rest = {name: getattr(self, name) for name in ("half_evidence", "words", "cold_offset")}
        return {**pairs, **rest}

    @classmethod
    def of_json(cls, values: Any) -> Weights:
        """The reverse of `as_json`.

        Raises:
            ColdStartError: other names, or values that are no weights.
        """
        names = {"warm", "cold", "half_evidence", "words", "cold_offset"}
        if not isinstance(values, dict) or set(values) != names:
            raise ColdStartError(f"weights are {values!r}; give {', '.join(sorted(names))}")
        return cls(**values)


def _pair(part: str, given: Any) -> Pair:
    values = tuple(given) if isinstance(given, (tuple, list)) else ()
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(values) != 2 or len(numbers) != 2 or not all(0 <= value <= MOST for value in numbers):
        raise ColdStartError(
            f"the weight of {part} is {given!r}; give two numbers from 0 to {MOST:g}: for a user without history, and "
            "for one with a long one"
        )
    return float(numbers[0]), float(numbers[1])
