"""What events weigh and how they age, by trial on held-out interactions: histories change, nothing is fitted anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.model.fitted import Fitted
from recommender.model.fitting import with_history as refitted
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.weights import FEWEST

HALF_LIFE = "half_life_days"


@dataclass(frozen=True)
class Choice:
    """One weight, or the half-life, after the trials.

    Attributes:
        name: a type of event, or `half_life_days`.
        before: its value before.
        after: its value now.
        tried: which value the gain is of: the chosen one, or the best of the others if none was good enough.
        gain: in NDCG@20, over the value before; a mean over rankings.
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
        values: NDCG@20 of each ranking, with these weights (see `recommender.tuning.held_out_rankings.quality`).
        choices: one for each call of `choose`.

    Args:
        fitted: learned from `learned` under `weights`. LightFM, A and B stay as they are.
        learned: earlier interactions, not weighted.
        held_out: later interactions, which are wanted.
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
        self.values = quality(fitted, held_out)
        self._fitted, self._learned, self._held_out = fitted, learned, held_out
        self._users, self._items, self._progress = users, items, progress

    def choose(self, name: str, candidates: Sequence[float]) -> None:
        """Try other values of one weight, or of the half-life, in this order.

        One is taken if rankings are better with it than with the best so far, by more than one standard error.

        Args:
            name: a type of event, or `half_life_days`.
            candidates: what is tried; those to be preferred first, which the later ones must better.
        """
        before, start = _value(self.weights, name), self.values
        gains = {}
        for value in candidates:
            weights = _changed(self.weights, name, value)
            counted, users, _ = as_of(self._learned, weights, self._users, self._items)
            if len(counted):  # of nothing nobody is ranked for
                values = quality(refitted(self._fitted, counted, users), self._held_out)
                gains[value] = values - start
                if _better(values - self.values):
                    self.values, self.weights = values, weights
            self._progress()
        if gains and len(start):
            after = _value(self.weights, name)
            tried = after if after != before else max(gains, key=lambda value: float(gains[value].mean()))
            gain = gains[tried]
            self.choices.append(Choice(name, before, after, tried, float(gain.mean()), _error(gain)))


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


def _better(gains: NDArray[np.float64]) -> bool:
    return len(gains) >= FEWEST and float(gains.mean()) > _error(gains)


def _error(gains: NDArray[np.float64]) -> float:
    return float(gains.std() / np.sqrt(len(gains)))
