"""How weights are learned is judged on draws that were not learned from."""

from __future__ import annotations

import numpy as np

from recommender.tuning.climbing import Ranked
from recommender.tuning.learning import draw_lists
from recommender.tuning.recipes import RECIPES, RecipeSelection

MOST = 10.0


def draw(rng: np.random.Generator, *, users: int = 60, items: int = 25, lucky: bool) -> Ranked:
    """Users who share a few items; the first part tells what each wants.

    If lucky, some items are wanted more than the part says, as happens to a few items by chance; three parts are the
    same for all users, and say nothing.
    """
    told = rng.normal(size=(users, items))
    luck = rng.normal(size=items) * (2.0 if lucky else 0.0)
    taste = told + luck + rng.gumbel(size=told.shape)
    wanted = taste >= np.sort(taste, axis=1)[:, [-2]]
    parts = [told.astype(np.float32), *(rng.normal(size=(1, items)).astype(np.float32) for _ in range(3))]
    return Ranked(parts, wanted, np.ones_like(wanted), np.ones(users), 1.0)


def selection(rankings: list[Ranked], prior: list[float]) -> RecipeSelection:
    """All three draws, with these defaults."""
    rng = np.random.default_rng(0)
    lists = [draw_lists(list(one.parts), one.wanted, one.open_, one.evidence, 1.0, rng) for one in rankings]
    return RecipeSelection(rankings, lists, np.tile(prior, (2, 1)), np.zeros(4), MOST, 0.0, 3.0)


def test_what_the_items_of_a_draw_share_by_chance_is_not_learned_where_the_defaults_do_better() -> None:
    chosen, usual = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        one = selection([draw(rng, lucky=True) for _ in range(3)], [1.0, 0.0, 0.0, 0.0])
        others = [draw(rng, lucky=True) for _ in range(8)]
        for found, recipe in ((chosen, one.choose()), (usual, RECIPES[0])):
            weights = one.learned(recipe)
            found.append(np.mean([other.quality(other.scores(weights)).mean() for other in others]))
    assert np.mean(chosen) > np.mean(usual) + 0.005


def test_defaults_that_are_wrong_do_not_stay() -> None:
    rng = np.random.default_rng(0)
    one = selection([draw(rng, lucky=False) for _ in range(3)], [0.0, 1.0, 1.0, 1.0])
    recipe = one.choose()
    assert np.isfinite(recipe.pull)
    weights = one.learned(recipe)[1]
    assert weights[0] > 4 * weights[1:].max()


def test_one_draw_tells_nothing_of_recipes() -> None:
    assert selection([draw(np.random.default_rng(0), lucky=True)], [1.0, 0.0, 0.0, 0.0]).choose() == RECIPES[0]


def test_few_rankings_tell_nothing_of_recipes() -> None:
    prior = [1.0, 0.0, 0.0, 0.0]
    few, enough = [], []
    for seed in range(3):
        for found, users in ((few, 33), (enough, 60)):
            rng = np.random.default_rng(seed)
            found.append(selection([draw(rng, users=users, lucky=True) for _ in range(3)], prior).choose())
    assert set(few) == {RECIPES[0]}
    assert set(enough) != {RECIPES[0]}
