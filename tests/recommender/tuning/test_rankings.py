"""Rankings that weights are learned on stay within bounds, whatever the size of the shop."""

from __future__ import annotations

import numpy as np
import pytest

from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.tuning import rankings
from recommender.tuning.rankings import Rankings
from tests.support.shop_of_words import DEPTH, divided, shop_of_words


def test_users_who_want_very_many_items_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_of_words(200, seed=0)
    division = divided(shop, shop[0].items % DEPTH == 2)
    fitted = fit(Parameters(components=4, epochs=1), division.learned, division.users, division.items)
    whole = Rankings.of(fitted, division, np.random.default_rng(0))
    monkeypatch.setattr(rankings, "_FEWEST_USERS", 10)
    monkeypatch.setattr(rankings, "_MOST_WANTED", len(whole.users) * whole.ranked.wanted.any(axis=0).sum() // 4)
    few = Rankings.of(fitted, division, np.random.default_rng(0))
    assert 10 <= len(few.users) <= len(whole.users) // 2
    assert set(few.users.ids) < set(whole.users.ids)
    assert few.ranked.wanted.any(axis=1).all()
