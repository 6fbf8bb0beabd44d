"""Choose weight and half-life of freshness, by a replay of held-out interactions in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.model.fitted import Fitted
from recommender.model.freshness import Births, Moments, decay
from recommender.model.parameters import Parameters
from recommender.tuning.divisions import Division
from recommender.tuning.held_out_rankings import all_scores

FITTED = "learned on held-out interactions in time"
NONE = "none: on held-out interactions in time, the age of an item does not help"
UNTOLD = "none: the data cannot tell"
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
HALF_LIVES = (1 / 24, 0.25, 1.0, 3.0, 10.0, 30.0, 100.0, 365.0)
# What is added to the offset of items without history: what it stood for in part, freshness says better.
OFFSETS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0)
# Interactions that are replayed at most, and scores held at once.
_MOST, _MOST_SCORES = 2_000, 16_000_000
# As many in each half of the time.
_FEWEST = 30
_LENGTH = 20
_SURE = 2.0


@dataclass(frozen=True)
class Freshness:
    """What was chosen.

    Attributes:
        weight: 0 leaves freshness out.
        half_life: in days.
        offset: what is added to `Weights.cold_offset`.
        source: how it was chosen, for people.
    """

    weight: float
    half_life: float
    offset: float
    source: str

    def settled(self, parameters: Parameters) -> Parameters:
        """Parameters with what was chosen."""
        weights = parameters.weights
        if self.offset:
            weights = replace(weights, cold_offset=round(weights.cold_offset + self.offset, 4))
        return replace(
            parameters, freshness=self.weight, freshness_half_life=self.half_life, weights=weights,
            source=parameters.source | {"freshness": self.source},
        )  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """Lists of single moments: of each interaction, the items that were there, and the one that was taken.

    Attributes:
        scores: (n, items) float32 without freshness; −∞ for what is no candidate.
        days: (n, items) float32, ages of the items then.
        cold: (items,), those without history.
        wanted: (n,), the item that was taken.
        users: (n,).
        moments: (n,) datetime64[us], rising.
    """

    scores: NDArray[np.float32]
    days: NDArray[np.float32]
    cold: NDArray[np.bool_]
    wanted: NDArray[np.int64]
    users: NDArray[np.int64]
    moments: Moments

    @classmethod
    def of(cls, fitted: Fitted, division: Division, came: Moments) -> Replay:
        """The held-out interactions of a division in time.

        Candidates are the items that had come, less what the user has seen or taken before. An item that is taken in
        the very moment in which it comes is left out: perhaps it is known from this interaction alone.

        Args:
            fitted: learned from the division.
            division: in time.
            came: (items,), when each item became known.
        """
        pairs = division.wanted.pairs()
        late = pairs.timestamps > came[pairs.items]
        seen = np.asarray(fitted.seen.take(pairs.users)[np.arange(len(pairs)), pairs.items]).ravel() > 0
        rows = np.flatnonzero(late & ~seen)
        most = int(np.clip(_MOST_SCORES // max(len(came), 1), 100, _MOST))
        rows = np.sort(np.random.default_rng(fitted.parameters.seed).permutation(rows)[:most])
        rows = rows[np.argsort(pairs.timestamps[rows], kind="stable")]
        users, wanted, moments = pairs.users[rows], pairs.items[rows], pairs.timestamps[rows].astype("datetime64[us]")
        asked, place = np.unique(users, return_inverse=True)
        plain = fitted.with_parameters(freshness=0.0)
        scores = all_scores(plain, fitted.users.take(asked))[place].astype(np.float32)
        all_items = np.arange(len(came))
        days = np.empty_like(scores)
        for row, moment in enumerate(moments):
            days[row] = Births(came.astype("datetime64[us]"), moment).days(all_items)
            gone = fitted.seen.take(users[[row]]).indices
            before = pairs.items[(pairs.users == users[row]) & (pairs.timestamps < moment)]
            scores[row, came > moment] = -np.inf
            scores[row, gone] = scores[row, before] = -np.inf
        return cls(scores, days, fitted.all_items.cold, wanted, users, moments)

    def quality(self, weight: float, half_life: float, offset: float = 0.0) -> NDArray[np.float64]:
        """(n,), NDCG@20 of each list; the taken item is last among equals."""
        scores = self.scores + np.float32(weight) * decay(self.days, half_life) if weight else self.scores
        if offset:
            scores = scores + np.float32(offset) * self.cold
        own = scores[np.arange(len(self.wanted)), self.wanted]
        rank = (scores >= own[:, None]).sum(axis=1)
        return np.asarray(np.where(rank <= _LENGTH, 1 / np.log2(1 + rank), 0.0), dtype=np.float64)


def choose_freshness(fitted: Fitted, division: Division, came: Moments) -> Freshness:
    """Choose on the earlier half of the held-out time; what does not help in the later half too is left out.

    What is taken is then chosen on all of it. The gain in the later half must be two standard errors above zero, with
    the lists of one item, and of one user, as one: whatever is new in that half is new to all of them.

    Args:
        fitted: learned from the division, with the weights of the other parts.
        division: what was held out.
        came: (items,) datetime64, when each item became known.
    """
    default = fitted.parameters.freshness_half_life
    later = division.wanted.timestamps > came[division.wanted.items]
    if not division.in_time or len(np.unique(came)) < 2 or later.sum() < 2 * _FEWEST:
        return Freshness(0.0, default, 0.0, UNTOLD)
    replay = Replay.of(fitted, division, came)
    n = len(replay.wanted)
    early = np.arange(n) < n // 2
    if n < 2 * _FEWEST:
        return Freshness(0.0, default, 0.0, UNTOLD)
    plain, tried = replay.quality(0.0, default), dict[tuple[float, float, float], NDArray[np.float64]]()

    def gain(one: tuple[float, float, float], rows: NDArray[np.bool_]) -> float:
        if one not in tried:
            tried[one] = replay.quality(*one) - plain
        return float(tried[one][rows].mean())

    chosen = _climbed(lambda one: gain(one, early))
    if not _sure(tried[chosen][~early], replay.wanted[~early], replay.users[~early]):
        return Freshness(0.0, default, 0.0, NONE)
    return Freshness(*_climbed(lambda one: gain(one, np.ones(n, dtype=bool))), FITTED)


def _climbed(gain: Callable[[tuple[float, float, float]], float]) -> tuple[float, float, float]:
    """Weight and half-life, the offset beside them, then weight and half-life again."""
    offset = 0.0
    for _ in range(2):
        weight, half_life, _ = max(((w, h, offset) for w in WEIGHTS for h in HALF_LIVES), key=gain)
        *_, offset = max(((weight, half_life, one) for one in OFFSETS), key=gain)
    return weight, half_life, offset


def _sure(gain: NDArray[np.float64], *clusters: NDArray[np.int64]) -> bool:
    """Whether a mean gain is above zero with certainty, whichever way its rows depend on each other."""
    mean = float(gain.mean())
    errors = []
    for groups in clusters:
        place = np.unique(groups, return_inverse=True)[1]
        sums = np.bincount(place, gain - mean)
        errors.append(float(np.sqrt((sums**2).sum())) / len(gain))
    return mean > _SURE * max(errors) and mean > 0
