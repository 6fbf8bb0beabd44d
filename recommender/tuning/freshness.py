"""Choose weight and half-life of freshness, by a replay of held-out interactions in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.model.fitted import Fitted
from recommender.model.freshness import Births, Moments, decay
from recommender.tuning.divisions import Division
from recommender.tuning.held_out_rankings import all_scores

FITTED = "learned on held-out interactions in time"
NONE = "none: on held-out interactions in time, the age of an item does not help"
UNTOLD = "none: the data cannot tell"
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
HALF_LIVES = (1 / 24, 0.25, 1.0, 3.0, 10.0, 30.0, 100.0, 365.0)
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
        source: how it was chosen, for people.
    """

    weight: float
    half_life: float
    source: str


@dataclass(frozen=True)
class Replay:
    """Lists of single moments: of each interaction, the items that were there, and the one that was taken.

    Attributes:
        scores: (n, items) float32 without freshness; −∞ for what is no candidate.
        days: (n, items) float32, ages of the items then.
        wanted: (n,), the item that was taken.
        users: (n,).
        moments: (n,) datetime64[us], rising.
    """

    scores: NDArray[np.float32]
    days: NDArray[np.float32]
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
        return cls(scores, days, wanted, users, moments)

    def quality(self, weight: float, half_life: float) -> NDArray[np.float64]:
        """(n,), NDCG@20 of each list; the taken item is last among equals."""
        scores = self.scores + np.float32(weight) * decay(self.days, half_life) if weight else self.scores
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
    if not division.in_time or len(np.unique(came)) < 2:
        return Freshness(0.0, default, UNTOLD)
    replay = Replay.of(fitted, division, came)
    n = len(replay.wanted)
    early = np.arange(n) < n // 2
    if n < 2 * _FEWEST:
        return Freshness(0.0, default, UNTOLD)
    plain = replay.quality(0.0, default)
    gains = {(w, h): replay.quality(w, h) - plain for w in WEIGHTS for h in HALF_LIVES}
    chosen = max(gains, key=lambda one: float(gains[one][early].mean()))
    if not _sure(gains[chosen][~early], replay.wanted[~early], replay.users[~early]):
        return Freshness(0.0, default, NONE)
    weight, half_life = max(gains, key=lambda one: float(gains[one].mean()))
    return Freshness(weight, half_life, FITTED)


def _sure(gain: NDArray[np.float64], *clusters: NDArray[np.int64]) -> bool:
    """Whether a mean gain is above zero with certainty, whichever way its rows depend on each other."""
    mean = float(gain.mean())
    errors = []
    for groups in clusters:
        place = np.unique(groups, return_inverse=True)[1]
        sums = np.bincount(place, gain - mean)
        errors.append(float(np.sqrt((sums**2).sum())) / len(gain))
    return mean > _SURE * max(errors) and mean > 0
