"""Adapting a parameter of the service by what its users do: rounds of small experiments around its value.

A round shows some users less of the parameter, some more, and the others its value as it is. If one side is better
with certainty, it becomes the value of the next round. This is a hill climber (Kiefer and Wolfowitz 1952,
doi:10.1214/aoms/1177729392) whose every step is a sequential test: it moves by a fixed factor, and only on proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from coldstart_client.models import Tier
from coldstart_udfs.errors import ColdStartError

Parameter = Literal["alpha", "gamma", "exploration"]
Kind = Literal["begun", "moved", "stayed", "undone", "ended"]

# The arms of a round; the first is the value as it is.
NOW, LESS, MORE = "now", "less", "more"
# Bounds of what may be asked for: factors of what training has chosen, and a share of the places of a list.
_WIDEST = {"alpha": (0.05, 20.0), "gamma": (0.05, 20.0), "exploration": (0.005, 0.5)}
_STEPS = 1.01, 4.0
_FEWEST_USERS = 400


@dataclass(frozen=True)
class Adaptive:
    """A parameter that adapts.

    Attributes:
        parameter: alpha, gamma (factors of what training has chosen) or exploration (the share of places).
        low: the least value.
        high: the greatest value.
        tier: of which users; None is all.
        step: what a move multiplies or divides the value by.
        event: the event type that counts.
        measure: of the event, for each user: users, events or weight.
        days: after a user's first answer of a round, in which their events count.
        users: of a round at most, from 400; then the next one begins, which has forgotten this one.
        error: the probability that any move is ever made where no side is better.

    Raises:
        ColdStartError: a value out of range.
    """

    parameter: Parameter
    low: float
    high: float
    tier: Tier | None = None
    step: float = 1.5
    event: str = "purchase"
    measure: str = "users"
    days: float = 7.0
    users: int = 100_000
    error: float = 0.05

    def __post_init__(self) -> None:
        if self.parameter not in _WIDEST:
            raise ColdStartError(f"{self.parameter!r} does not adapt; possible are {', '.join(_WIDEST)}")
        if self.tier not in (None, "warm", "cold", "unknown"):
            raise ColdStartError(f"{self.tier!r} is no tier; possible are warm, cold, unknown")
        if self.tier == "unknown" and self.parameter != "exploration":
            raise ColdStartError(
                f"{self.parameter} makes no difference to users of whom nothing is known; for them, exploration adapts"
            )
        least, greatest = _WIDEST[self.parameter]
        if not least <= self.low < self.high <= greatest:
            raise ColdStartError(
                f"{self.parameter} from {self.low:g} to {self.high:g} is no range; give a lower and a higher bound "
                f"between {least:g} and {greatest:g}"
            )
        if not _STEPS[0] <= self.step <= _STEPS[1]:
            raise ColdStartError(f"the step is {self.step:g}; a factor from {_STEPS[0]:g} to {_STEPS[1]:g} is possible")
        if self.users < _FEWEST_USERS:
            raise ColdStartError(f"a round has at most {self.users:,} users; it must be {_FEWEST_USERS:,} or more")
        if not 0 < self.error <= 0.2:
            raise ColdStartError(f"the error is {self.error:g}; it must be above 0 and at most 0.2")

    @property
    def name(self) -> str:
        """The parameter, and the tier if it is one alone.

        >>> Adaptive("gamma", 0.5, 2.0).name, Adaptive("gamma", 0.5, 2.0, "cold").name
        ('gamma', 'gamma:cold')
        """
        return self.parameter if self.tier is None else f"{self.parameter}:{self.tier}"

    def check(self, value: float) -> None:
        """See that a value is within the bounds.

        Raises:
            ColdStartError: it is not.
        """
        if not self.low <= value <= self.high:
            raise ColdStartError(f"{self.name} {value:g} is not between {self.low:g} and {self.high:g}")

    def arms(self, value: float) -> dict[str, float]:
        """The values of a round, by arm. At a bound there is no arm beyond it.

        >>> Adaptive("gamma", 0.5, 2.0, step=1.5).arms(1.0)
        {'now': 1.0, 'less': 0.6667, 'more': 1.5}
        >>> Adaptive("gamma", 0.5, 2.0, step=1.5).arms(2.0)
        {'now': 2.0, 'less': 1.3333}
        """
        less, more = max(self.low, value / self.step), min(self.high, value * self.step)
        found = {NOW: value, LESS: round(less, 4), MORE: round(more, 4)}
        return {name: each for name, each in found.items() if name == NOW or abs(each / value - 1) > 1e-3}

    @property
    def planned(self) -> int:
        """The number of users at which the intervals are narrowest, in proportion: a quarter of a round."""
        return self.users // 4

    def error_of(self, number: int) -> float:
        """The error of a round, counted from 1. Those of all rounds together are `error`: Σ 1/(k·(k+1)) = 1."""
        return self.error / (number * (number + 1))


def better(bounds: Mapping[str, tuple[float, float]]) -> str | None:
    """The side that is better with certainty, the surer one if both are; None if neither is.

    Args:
        bounds: by arm, of its reward less that of the value as it is: an interval that holds at every look.

    >>> better({"less": (-0.2, -0.1), "more": (0.01, 0.3)}), better({"more": (-0.01, 0.3)})
    ('more', None)
    """
    sure = {arm: low for arm, (low, _) in bounds.items() if low > 0}
    return max(sure, key=lambda arm: sure[arm]) if sure else None


@dataclass(frozen=True)
class Move:
    """A line of the journal: the value that a parameter has from now on, and why.

    Attributes:
        at: when, UTC, in ISO format.
        kind: begun; moved to the better side; stayed, as no side was better; undone by hand; ended.
        round: the number of the round that begins with this line, from 1.
        before: the value until then.
        after: the value from then on.
        why: a sentence.
        evidence: what was seen of the round before: its experiment, users, and the interval of each arm.
        adaptive: the settings.
    """

    at: str
    kind: Kind
    round: int
    before: float
    after: float
    why: str
    evidence: dict[str, Any]
    adaptive: Adaptive

    @property
    def experiment(self) -> str:
        """The name of the experiment that is this round: the same for the same settings and value only."""
        said = json.dumps([asdict(self.adaptive), self.after], sort_keys=True)
        return f"{self.layer}-{self.round}-{hashlib.sha256(said.encode()).hexdigest()[:6]}"

    @property
    def layer(self) -> str:
        """The layer of the rounds of the parameter."""
        return f"adapt-{self.adaptive.name.replace(':', '-')}"

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Move:
        """The reverse of `as_json`."""
        return cls(**{**values, "adaptive": Adaptive(**values["adaptive"])})


def values_of(moves: Sequence[Move]) -> list[float]:
    """The values of a parameter that can be gone back to, the present one last.

    >>> a = Adaptive("gamma", 0.5, 2.0, step=1.25)
    >>> line = lambda kind, after: Move("", kind, 1, 1.0, after, "", {}, a)
    >>> values_of([line("begun", 1.0), line("moved", 1.25), line("stayed", 1.25), line("moved", 1.5)])
    [1.0, 1.25, 1.5]
    >>> values_of([line("begun", 1.0), line("moved", 1.25), line("undone", 1.0), line("moved", 0.8)])
    [1.0, 0.8]
    """
    found: list[float] = []
    for move in moves:
        if move.kind == "begun":
            found = [move.after]
        elif move.kind == "moved":
            found.append(move.after)
        elif move.kind == "undone":
            found.pop()
    return found
