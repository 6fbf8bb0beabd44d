"""What `partial_fit` costs in shops of 10⁴, 10⁵ and 10⁶ users: each size in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from typing import TypeAlias

import numpy as np
from bench_recommender_growth import DIMENSIONS, made_up, peak
from bench_recommender_setup import each_size
from common import table

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender

USERS = (10_000, 100_000, 1_000_000)
ITEMS = 10_000
PER_USER = 5
MANY = 1_000
Update: TypeAlias = tuple[Interactions, Entities, Entities]
_ROUNDS = {"one": 51, "many": 11, "new": 11}


def main() -> None:
    """Measure a shop with as many users as the argument says, and print what it took as JSON."""
    print(json.dumps(one(int(sys.argv[1]))))


def measure() -> list[dict[str, float]]:
    """Run each size once."""
    return each_size(__file__, USERS, "updates, users")


def one(users: int) -> dict[str, float]:
    """Fit a shop, ask it once, then update it; medians in milliseconds."""
    interactions, people, things = made_up(users * PER_USER, users=users, items=ITEMS)
    people, things = with_history(interactions, people, things)
    model = HybridRecommender(Parameters(epochs=1, components=16, lightfm_seeds=1)).fit(interactions, people, things)
    rng = np.random.default_rng(1)
    names = [f"u{row:07}" for row in rng.integers(users, size=_ROUNDS["one"])]
    model.recommend(names[0])  # everything that is derived from the fit is there
    times: dict[str, list[float]] = {name: [] for name in ("ask", "one", "ask after", "many", "new")}
    for name in names:
        update = _pair(people, things, int(name[1:]), int(rng.integers(ITEMS)))
        times["ask"].append(_milliseconds(lambda name=name: model.recommend(name)))
        times["one"].append(_milliseconds(lambda update=update: model.partial_fit(*update)))
        times["ask after"].append(_milliseconds(lambda name=name: model.recommend(name)))
    for _ in range(_ROUNDS["many"]):
        rows = np.unique(rng.integers(users, size=MANY))
        columns = np.unique(rng.integers(ITEMS, size=MANY))
        update = _update(people.take(rows), things.take(columns), rng)
        times["many"].append(_milliseconds(lambda update=update: model.partial_fit(*update)))
    for number in range(_ROUNDS["new"]):
        update = _newcomers(number)
        times["new"].append(_milliseconds(lambda update=update: model.partial_fit(*update)))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {"users": users, "items": ITEMS, "interactions": len(interactions), "peak_mib": peak(), **medians}


def _pair(people: Entities, things: Entities, user: int, item: int) -> Update:
    zero = np.zeros(1, np.int64)
    return _pairs(people.take(np.array([user])), things.take(np.array([item])), zero, zero)


def _update(people: Entities, things: Entities, rng: np.random.Generator) -> Update:
    rows, columns = (rng.integers(len(side), size=MANY) for side in (people, things))
    return _pairs(people, things, rows, columns)


def _newcomers(number: int) -> Update:
    """A new user who takes a new item."""
    vector = np.full((1, DIMENSIONS), DIMENSIONS**-0.5, np.float32)
    user, item = (
        Entities([f"{kind}{number}"], [text], [[]], vector, np.zeros_like(vector), np.zeros(1), "made up")
        for kind, text in (("new user", "taste1 word1"), ("new item", "taste2 word2"))
    )
    return _pairs(user, item, np.zeros(1, np.int64), np.zeros(1, np.int64))


def _pairs(people: Entities, things: Entities, rows: np.ndarray, columns: np.ndarray) -> Update:
    moments = np.full(len(rows), np.datetime64("2025-01-01", "us"))
    ones = np.ones(len(rows), np.float32)
    return Interactions(people.ids, things.ids, rows, columns, moments, ones), people, things


def _milliseconds(run: object) -> float:
    began = time.perf_counter()
    run()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1_000


def markdown(runs: list[dict[str, float]]) -> list[str]:
    """The table, and what it says."""
    head = ("users", "items", "one interaction of a known user", f"{MANY:,} interactions", "a new user with a new item",
            "`recommend` for one user", "the same, just after an update")  # fmt: skip
    names = ("one", "many", "new", "ask", "ask after")
    rows = [(f"{run['users']:,}", f"{run['items']:,}", *(f"{run[name]:.1f} ms" for name in names)) for run in runs]
    first, last = runs[0], runs[-1]
    growth = (
        f"With {last['users'] / first['users']:.0f} times the users one interaction takes "
        f"{last['one'] / first['one']:.1f} times as long, {MANY:,} take {last['many'] / first['many']:.1f} times."
    )
    return [*table(head, rows), "", growth]


if __name__ == "__main__":
    main()
