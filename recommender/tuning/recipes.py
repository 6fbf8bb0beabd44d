"""Choose how weights are learned: how far they are pulled to the defaults, and whether they climb afterwards.

What tells the held-out rankings of one draw best may not tell those of another: where draws are few and share popular
items, the defaults can be better than anything learned. Each recipe therefore learns from some draws and is judged on
those left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recommender.tuning.climbing import Floats, Ranked, climb
from recommender.tuning.learning import Lists, learn

# In standard errors.
_SURE = 1.0
# Draws are left out in so many groups.
_FOLDS = 3
# Of fewer rankings nothing is told of recipes.
_FEWEST = 100


@dataclass(frozen=True)
class Recipe:
    """One way to learn weights.

    Attributes:
        pull: towards the defaults, in multiples of the usual pull; infinite: the defaults themselves.
        climbs: whether coordinate ascent follows.
    """

    pull: float
    climbs: bool


RECIPES = tuple(Recipe(pull, climbs) for pull in (1.0, 20.0, math.inf) for climbs in (False, True))


@dataclass(frozen=True)
class RecipeSelection:
    """What all recipes learn from.

    Attributes:
        rankings: of each draw.
        lists: drawn from the rankings of each draw.
        prior: (2, k), the default weights.
        least: (k,), the least weight of each part.
        most: the largest weight.
        each: see `recommender.tuning.learning.learn`.
        pull: the usual one.
    """

    rankings: Sequence[Ranked]
    lists: Sequence[Lists]
    prior: Floats
    least: Floats
    most: float
    each: float
    pull: float
    _known: dict[tuple[float, int | None], Floats] = field(default_factory=dict, repr=False)

    def learned(self, recipe: Recipe, without: int | None = None) -> Floats:
        """(2, k): weights from all draws, or from all but those of a fold."""
        draws = self._draws(without, inside=False)
        found = self._pulled(recipe.pull, without)
        if recipe.climbs:
            found = climb([self.rankings[place] for place in draws], found, self.least, self.most)
        return found

    def choose(self) -> Recipe:
        """The recipe with the best NDCG@20 of draws that it did not learn from.

        Another than the first has to be better by a standard error. The first if there is one draw or few rankings.
        """
        folds = [fold for fold in range(_FOLDS) if any(len(self.lists[place]) for place in self._draws(fold))]
        if len(folds) < 2 or sum(map(len, self.lists)) < _FEWEST:
            return RECIPES[0]
        importance = np.concatenate([self.lists[place].importance for fold in folds for place in self._draws(fold)])
        importance /= importance.sum()
        values = [np.concatenate([self._quality(recipe, fold) for fold in folds]) for recipe in RECIPES]
        sure = []
        for found in values:
            gains = found - values[0]
            gain = float(importance @ gains)
            sure.append(gain - _SURE * float(np.sqrt(((importance * (gains - gain)) ** 2).sum())))
        return RECIPES[int(np.argmax(sure))]

    def _draws(self, fold: int | None, *, inside: bool = True) -> list[int]:
        return [place for place in range(len(self.lists)) if (place % _FOLDS == fold) == inside]

    def _pulled(self, pull: float, without: int | None) -> Floats:
        if (pull, without) not in self._known:
            lists = Lists.joined([self.lists[place] for place in self._draws(without, inside=False)])
            self._known[pull, without] = learn(
                lists, self.prior, self.least, self.most, each=self.each, pull=pull * self.pull
            )
        return self._known[pull, without]

    def _quality(self, recipe: Recipe, fold: int) -> Floats:
        weights = self.learned(recipe, without=fold)
        draws = [self.rankings[place] for place in self._draws(fold)]
        return np.concatenate([one.quality(one.scores(weights)) for one in draws])
