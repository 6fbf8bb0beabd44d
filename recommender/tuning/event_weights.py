"""What events weigh and how they age, by trial on held-out interactions: histories change, nothing is fitted anew.

The best of several trials looks better than it is. So the rankings of one half of the users choose, and those of the
other half, on which nothing was chosen, judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.measure.splits import stable_share
from recommender.model.fitted import Fitted
from recommender.model.fitting import with_history as refitted
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.rankings import FEWEST

HALF_LIFE = "half_life_days"
# In standard errors: what a value must be better by, to be chosen by one half of the users and kept by the other.
CHOSEN, KEPT_FROM = 1.0, 2.5


@dataclass(frozen=True)
class Choice:
    """One weight, or the half-life, after the trials.

    Attributes:
        name: a type of event, or `half_life_days`.
        before: its value before.
        after: its value now.
        tried: the value that the choosing half of the users ranks best with, apart from the one before.
        gain: of `tried` over the value before, in NDCG@20; a mean over rankings of the judging half.
        error: the standard error of the gain.
    """

    name: str
    before: float
    after: float
    tried: float
    gain: float
    error: float


class EventTrials:
    """Trials of event weights: the same held-out rankings, with one weighting of histories after another.

    Attributes:
        weights: what was chosen so far.
        values: NDCG@20 of each ranking of the judging half, with these weights (see
            `recommender.tuning.held_out_rankings.quality`).
        rankings: number of rankings of the choosing and of the judging half of the users.
        choices: one for each call of `choose`.

    Args:
        fitted: learned from `learned` under `weights`. LightFM, A and B stay as they are.
        learned: earlier interactions, not weighted.
        held_out: later interactions, which are wanted. A stable hash of a user's id says in which half they are.
        users: features of `learned.user_ids`; their profiles are made anew.
        items: features of `learned.item_ids`.
        weights: to begin with.
        progress: told after each trial.
    """

    def __init__(
        self, fitted: Fitted, learned: Interactions, held_out: Interactions, users: Entities, items: Entities,
        weights: EventWeights, progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.weights, self.choices = weights, list[Choice]()
        judging = np.array([stable_share(name, "judging half") < 0.5 for name in held_out.user_ids])[held_out.users]
        self._choosing, self._judging = held_out.select(~judging), held_out.select(judging)
        self._chosen_by, self.values = quality(fitted, self._choosing), quality(fitted, self._judging)
        self.rankings = len(self._chosen_by), len(self.values)
        self._fitted, self._learned = fitted, learned
        self._users, self._items, self._progress = users, items, progress

    def choose(self, name: str, candidates: Sequence[float]) -> None:
        """Try other values of one weight, or of the half-life, in this order.

        The choosing half of the users takes a value that is better than the best so far by more than one standard
        error. It is kept if the judging half is better with it than with the value before, by more than 2.5 standard
        errors: then of four weights that are all without effect one is changed in about one of 40 data sets.

        Args:
            name: a type of event, or `half_life_days`.
            candidates: what is tried; those to be preferred first, which the later ones must better.
        """
        before, best, start = _value(self.weights, name), None, self._chosen_by
        tried: dict[float, NDArray[np.float64]] = {}
        for value in candidates:
            values = self._values(_changed(self.weights, name, value), self._choosing)
            if len(values):
                tried[value] = values
                if _better(values - (start if best is None else tried[best]), CHOSEN):
                    best = value
            self._progress()
        if not tried or not len(self.values):
            return
        shown = best if best is not None else max(tried, key=lambda value: float(tried[value].mean()))
        changed, after = _changed(self.weights, name, shown), before
        judged = self._values(changed, self._judging)
        gain = judged - self.values
        if best is not None and _better(gain, KEPT_FROM):
            after, self.weights, self.values, self._chosen_by = best, changed, judged, tried[best]
        self.choices.append(Choice(name, before, after, shown, float(gain.mean()), _error(gain)))

    def _values(self, weights: EventWeights, held_out: Interactions) -> NDArray[np.float64]:
        """NDCG@20 of each ranking under these weights; none if nothing is left of the histories."""
        counted, users, _ = as_of(self._learned, weights, self._users, self._items)
        return quality(refitted(self._fitted, counted, users), held_out) if len(counted) else np.zeros(0)


def as_of(
    interactions: Interactions, weights: EventWeights, users: Entities, items: Entities
) -> tuple[Interactions, Entities, Entities]:
    """What counts just after the last interaction, and features with profiles of it."""
    counted = interactions.weighted(weights, interactions.timestamps.max() + np.timedelta64(1, "us"))
    return (counted, *with_history(counted, users, items))


def _value(weights: EventWeights, name: str) -> float:
    return weights.half_life_days if name == HALF_LIFE else weights.of(name)


def _changed(weights: EventWeights, name: str, value: float) -> EventWeights:
    if name == HALF_LIFE:
        return replace(weights, half_life_days=value)
    return replace(weights, by_type={**weights.by_type, name: value})


def _better(gains: NDArray[np.float64], errors: float) -> bool:
    return len(gains) >= FEWEST and float(gains.mean()) > errors * _error(gains)


def _error(gains: NDArray[np.float64]) -> float:
    return float(gains.std() / np.sqrt(len(gains)))
