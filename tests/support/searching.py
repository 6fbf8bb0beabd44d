"""What the tests of a search of settings search with, and what it wrote down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recommender.data.entities import with_history
from recommender.model.parameters import Parameters
from recommender.tuning.divisions import Division
from tests.support.made_up_shop import made_up_shop

PARAMETERS = Parameters(components=16, epochs=5)


def search_data() -> Division:
    """What is learned from, what is asked for, users and items with profiles of the former."""
    interactions, users, items = made_up_shop()
    held = np.arange(len(interactions)) % 4 == 0
    held |= np.isin(interactions.items, (7, 17))
    known = interactions.select(~held)
    return Division(known, interactions.select(held), *with_history(known, users, items))


def tried(storage: Path) -> list[dict[str, float]]:
    """The settings of each trial in a journal, in order."""
    trials: list[dict[str, float]] = []
    for line in storage.read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 4:  # a trial begins
            trials.append({})
        elif entry["op_code"] == 5:  # it is given a parameter
            trials[entry["trial_id"]][entry["param_name"]] = entry["param_value_internal"]
    return trials
