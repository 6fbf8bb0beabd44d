"""The settings of each method that are tried, and a method fitted with the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coldstart_udfs.console import Report, no_report
from recommender.evaluation import baselines
from recommender.evaluation.baselines import Scorer, Scores
from recommender.evaluation.trials import (
    Settings,
    best_offset,
    grid,
    processor_seconds,
    quality,
    raised,
    run_trials,
    validation_of,
)
from recommender.measure.splits import Split

# Processor seconds for the trials of a method, as a multiple of those that our recommender takes to choose and to fit.
TUNING = 3.0

_HALF_LIVES = (None, 180.0, 60.0)  # days
_LIGHTFM: Mapping[str, Sequence[int]] = {"components": (64, 256, 128, 32), "epochs": (15, 40, 30, 10)}


@dataclass(frozen=True)
class Grid:
    """The settings of a method.

    Attributes:
        settings: in the order in which they are tried; the first are the defaults.
        work: the relative seconds of a fit with settings.
    """

    settings: Sequence[Settings]
    work: Callable[[Settings], float] = lambda settings: 1.0


def _lightfm_work(settings: Settings) -> float:
    return float(settings["components"] * settings["epochs"])


# Methods that are not in it have no settings.
GRIDS: dict[str, Grid] = {
    "TF-IDF cosine": Grid(
        grid(ngrams=(1, 2), sublinear=(True, False)), lambda settings: float(settings["ngrams"])
    ),
    "LightFM ids": Grid(grid(**_LIGHTFM), _lightfm_work),
    "LightFM ids+tokens": Grid(grid(**_LIGHTFM, identity=(1.0, 0.3, 0.1)), _lightfm_work),
    "LightFM tokens": Grid(grid(**_LIGHTFM), _lightfm_work),
    "EASE": Grid(grid(ridge=(300.0, 100.0, 1_000.0, 30.0), half_life=_HALF_LIVES)),
    "ridge map": Grid(grid(text=("words", "vectors"), ridge=(1.0, 3.0, 0.3, 10.0, 0.1))),
    "implicit ALS": Grid(
        grid(factors=(64, 128, 32), ridge=(0.01, 0.1, 1.0), confidence=(5.0, 20.0, 1.0), half_life=_HALF_LIVES),
        lambda settings: float(settings["factors"]),
    ),
    "RecTools LightFM": Grid(grid(**_LIGHTFM), _lightfm_work),
}  # fmt: skip


@dataclass(frozen=True)
class Tuned:
    """A method, fitted on the whole training part.

    Attributes:
        scorer: of the method, with the constant for cold items.
        fit_s: processor seconds of this fit.
        tuning_s: processor seconds of the trials.
        trials: their number.
        settings: the chosen ones; `offset` is the constant for cold items.
    """

    scorer: Scorer
    fit_s: float
    tuning_s: float
    trials: int
    settings: Settings


@dataclass(frozen=True)
class Tuner:
    """Fits methods on one split, each with the settings that are best on a part of its training part.

    Attributes:
        split: its test part is not used.
        seed: of the methods and of the division.
        budget: processor seconds for the trials of one method; 0: the defaults, and no constant for cold items.
        report: called with ("tuning", done, total) of a method's settings.
        clock: seconds now.
    """

    split: Split
    seed: int
    budget: float
    report: Report = no_report
    clock: Callable[[], float] = processor_seconds

    @cached_property
    def validation(self) -> Split | None:
        """The division of the training part, the same for all methods."""
        return validation_of(self.split, self.seed)

    def fit(self, method: str) -> Tuned:
        """Choose settings of a method, and fit it with them.

        Args:
            method: one of `recommender.evaluation.baselines.METHODS`.
        """
        settings, offset, tuning_s, trials = self._chosen(method)
        began = self.clock()
        learned = baselines.METHODS[method](self.split, self.seed, **settings)
        fit_s = self.clock() - began
        told = {**settings, "offset": offset} if trials else {}
        return Tuned(raised(self.split, learned, offset), fit_s, tuning_s, trials, told)

    def _chosen(self, method: str) -> tuple[Settings, float, float, int]:
        held = self.validation if self.budget > 0 else None
        if held is None:
            return {}, 0.0, 0.0, 0
        learn, grid = baselines.METHODS[method], self._grid(method)

        def score(settings: Settings) -> Scores:
            return np.asarray(learn(held, self.seed, **settings)(held.asked))

        began = self.clock()
        found = run_trials(
            grid.settings, score, lambda scores: quality(held, scores), self.budget, work=grid.work, clock=self.clock,
            progress=lambda done, total: self.report("tuning", done, total),
        )  # fmt: skip
        offset = best_offset(held, found.scores)
        return found.best, offset, self.clock() - began, found.count

    def _grid(self, method: str) -> Grid:
        found = GRIDS.get(method, Grid([{}]))
        times = self.split.train.timestamps
        if times.min() < times.max():
            return found
        return Grid([settings for settings in found.settings if not settings.get("half_life")], found.work)
