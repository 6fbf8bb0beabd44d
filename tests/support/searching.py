"""Data of a made-up shop for the tests of `coldstart train --search`."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.parameters import Parameters
from tests.support.made_up_shop import made_up_shop

Data: TypeAlias = tuple[Interactions, Interactions, Entities, Entities]
PARAMETERS = Parameters(components=16, epochs=5)


def held_out_data() -> Data:
    """What is learned from, what is held out, users and items with profiles of the former."""
    interactions, users, items = made_up_shop()
    held = np.arange(len(interactions)) % 4 == 0
    held |= np.isin(interactions.items, (7, 17))
    known = interactions.select(~held)
    return (known, interactions.select(held), *with_history(known, users, items))
