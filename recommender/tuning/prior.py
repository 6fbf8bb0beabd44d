"""A prior: which weights of parts shops with few users have in common, and how far such a shop's own are trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from recommender.model.weights import PARTS, Pair, Weights

FORMAT = 1
# A prior for more users than that would never end.
_MOST_USERS = 100_000
# Names that `coldstart train --prior` takes beside a file.
PUBLIC, NONE = "public", "none"
_PUBLIC_FILE = "public_prior.json"
# Two numbers of a list, each on a line of its own.
_PAIR = re.compile(r"\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+)\s+\]")


@dataclass(frozen=True)
class Level:
    """What shops with about this number of users have in common.

    Attributes:
        users: with interactions.
        weights: of the parts of a score.
        own: how much the weights count that a shop learns by itself, 0 to 1.

    Raises:
        ColdStartError: fewer than one user, or a share out of range.
    """

    users: float
    weights: Weights
    own: float

    def __post_init__(self) -> None:
        for name, value, least, most in (("users", self.users, 1, _MOST_USERS), ("own", self.own, 0, 1)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ColdStartError(f"{name} of a level of a prior is {value!r}; give a number from {least} to {most}")

    @property
    def told(self) -> str:
        """Where the weights come from, for people."""
        known = f"; {self.own:.0%} learned on held-out interactions" if self.own else ""
        return f"prior for {self.users:.0f} users{known}"

    def changes(self) -> list[str]:
        """The weights that are not the defaults, for people: part, side, and the pair for new and known users."""
        start, found = Weights(), list[str]()
        for side in ("warm", "cold"):
            before, after = getattr(start, side), getattr(self.weights, side)
            pairs = [(part, before.get(part, (0.0, 0.0)), after.get(part, (0.0, 0.0))) for part in PARTS]
            found += [f"{part} of {side} items {new[0]:g}, {new[1]:g}" for part, old, new in pairs if old != new]
        if self.weights.cold_offset:
            found.append(f"cold_offset {self.weights.cold_offset:g}")
        return found

    def mixed(self, learned: Weights) -> Weights:
        """Mix the weights of the prior with those that a shop learned.

        The learned weights of warm and of cold items are first scaled, each to the sum of the prior's: it is the order
        of the parts that is taken from the shop. `cold_offset`, which places one kind of items among the other, is the
        prior's.

        Args:
            learned: by the shop, before items without history are placed.
        """
        if not self.own:
            return self.weights
        warm, cold = (
            _mixed(getattr(self.weights, side), _scaled(getattr(learned, side), getattr(self.weights, side)), self.own)
            for side in ("warm", "cold")
        )
        return replace(self.weights, warm=warm, cold=cold)


@dataclass(frozen=True)
class Prior:
    """Levels for growing numbers of users.

    Attributes:
        levels: the users of each are more than those of the one before.
        shops: what it was learned from: for each shop a hash of its tables, numbers of rows and the encoder.
        made: how: versions, date, settings.

    Raises:
        ColdStartError: no levels, or levels that are not in order.
    """

    levels: Sequence[Level]
    shops: Sequence[Mapping[str, Any]] = ()
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        users = [level.users for level in self.levels]
        if not users or users != sorted(set(users)):
            raise ColdStartError(f"the levels of a prior are for {users} users; give at least one, in rising order")

    def at(self, users: int) -> Level | None:
        """The level of a shop with this many users, between the two nearest ones.

        Between two levels, weights and the share of a shop's own change in proportion to log(users). Below the first it
        is the first. At twice the users of the last, the prior ends.

        Args:
            users: with interactions.

        Returns:
            None if the shop has so many users that its data alone decide.
        """
        users = max(users, 1)
        after = next((level for level in self.levels if level.users > users), None)
        if after is None and users >= self.end:
            return None
        before = max((level for level in self.levels if level.users <= users), key=_users, default=None)
        if after is None or before is None:
            return replace(before or self.levels[0], users=users)
        share = math.log(users / before.users) / math.log(after.users / before.users)
        warm, cold = (
            _mixed(getattr(before.weights, side), getattr(after.weights, side), share) for side in ("warm", "cold")
        )
        offset = (1 - share) * before.weights.cold_offset + share * after.weights.cold_offset
        weights = replace(before.weights, warm=warm, cold=cold, cold_offset=offset)
        return Level(users, weights, (1 - share) * before.own + share * after.own)

    @property
    def end(self) -> float:
        """The number of users from which on there is no prior: nothing was measured so far beyond the last level."""
        return 2 * self.levels[-1].users

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        levels = [{"users": one.users, "own": one.own, "weights": one.weights.as_json()} for one in self.levels]
        return {"format": FORMAT, "made": dict(self.made), "shops": [dict(one) for one in self.shops], "levels": levels}

    @classmethod
    def of_json(cls, values: Any) -> Prior:
        """The reverse of `as_json`.

        Raises:
            ColdStartError: another format, missing names, or values that are no levels.
        """
        if not isinstance(values, dict) or "format" not in values:
            raise ColdStartError("this is no prior: it has no `format`; `coldstart prior learn` writes one")
        if values["format"] != FORMAT:
            raise ColdStartError(
                f"the prior has the format {values['format']!r}, this version reads {FORMAT}; make it again with "
                "`coldstart prior learn`, or install the version that made it"
            )
        levels = values.get("levels")
        if not isinstance(levels, list) or not all(isinstance(one, dict) for one in levels):
            raise ColdStartError(f"the levels of the prior are {levels!r}; give a list of users, own and weights")
        names = {"users", "own", "weights"}
        if wrong := next((set(one) ^ names for one in levels if set(one) != names), None):
            raise ColdStartError(f"a level of the prior has {sorted(wrong)} too many or too few; give {sorted(names)}")
        found = [Level(one["users"], Weights.of_json(one["weights"]), one["own"]) for one in levels]
        return cls(found, values.get("shops", ()), values.get("made", {}))

    def write(self, path: Path) -> None:
        """Write the prior as JSON."""
        text = json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        # One line for each pair of weights.
        write_text(path, _PAIR.sub(r"[\1, \2]", text) + "\n")

    @classmethod
    def read(cls, path: Path) -> Prior:
        """Read a file that `write` wrote.

        Raises:
            ColdStartError: the file cannot be read, or holds no prior.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ColdStartError(f"{path} cannot be read as a prior: {error}; give a file, public or none") from error
        try:
            return cls.of_json(values)
        except ColdStartError as error:
            raise ColdStartError(f"{path}: {error}") from error

    @classmethod
    def named(cls, name: str) -> Prior | None:
        """The prior of an option `--prior`: "public" ships with the package, "none" is none, anything else a file.

        Raises:
            ColdStartError: see `read`.
        """
        if name == NONE:
            return None
        if name == PUBLIC:
            return cls.of_json(json.loads((files("recommender.tuning") / _PUBLIC_FILE).read_text(encoding="utf-8")))
        return cls.read(Path(name))


def _users(level: Level) -> float:
    return level.users


def _mixed(one: Mapping[str, Pair], other: Mapping[str, Pair], share: float) -> dict[str, Pair]:
    """(1 - share)·one + share·other, part by part."""
    found = {}
    for part in PARTS:
        if part in one or part in other:
            pairs = np.array([one.get(part, (0.0, 0.0)), other.get(part, (0.0, 0.0))])
            new, known = ((1 - share) * pairs[0] + share * pairs[1]).round(4).tolist()
            found[part] = (new, known)
    return found


def _scaled(weights: Mapping[str, Pair], like: Mapping[str, Pair]) -> dict[str, Pair]:
    """The same weights with the sum of others."""
    total, wanted = (sum(sum(pair) for pair in one.values()) for one in (weights, like))
    factor = wanted / total if total else 0.0
    return {part: (new * factor, known * factor) for part, (new, known) in weights.items()}
