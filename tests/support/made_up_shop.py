"""A made-up shop whose right answers are known by construction, for the tests of the recommender."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.weights import OF_WARM_ITEMS, Pair, Weights

# Two tastes. Users u00…u19 live in flats and buy lamps, u20…u39 on farms and buy spades. Items i00…i09 are lamps,
# i10…i19 spades; nobody has bought i09 and i19 yet.
LAMP, SPADE = np.array([1, 0, 0.1], np.float32), np.array([0, 1, 0.1], np.float32)
LAMPS, SPADES = [f"i{n:02}" for n in range(10)], [f"i{n}" for n in range(10, 20)]
COLD_ITEMS = ["i09", "i19"]


def entities(
    ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray, attributes: Sequence[Sequence[str]] | None = None
) -> Entities:
    vectors = np.asarray(vectors, np.float32)
    labels = attributes or [[] for _ in ids]
    return Entities(ids, texts, labels, vectors, np.zeros_like(vectors), np.zeros(len(ids)), "stub")


def new(text: str, vector: np.ndarray, name: str = "new", attributes: Sequence[str] = ()) -> Entities:
    """Somebody or something that the recommender has never seen."""
    return entities([name], [text], vector[None], [list(attributes)])


def events(
    users: Entities, items: Entities, pairs: Sequence[tuple[int, int]], weights: Sequence[float] | None = None
) -> Interactions:
    """One interaction per pair of rows, an hour apart."""
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    times = np.datetime64("2024-01-01", "us") + np.arange(len(pairs)).astype("timedelta64[h]")
    given = np.ones(len(pairs), np.float32) if weights is None else np.array(weights, np.float32)
    return Interactions(users.ids, items.ids, rows, columns, times, given)


def made_up_shop() -> tuple[Interactions, Entities, Entities]:
    """Interactions, users and items, with the profiles of these interactions."""
    homes = [["home=flat"]] * 20 + [["home=farm"]] * 20
    users = entities([f"u{n:02}" for n in range(40)], [""] * 40, np.zeros((40, 3)), homes)
    texts = [f"{word} model {n}" for word in ("lamp", "spade") for n in range(10)]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(20, 3))
    kinds = [["category=lamp"]] * 10 + [["category=spade"]] * 10
    items = entities([*LAMPS, *SPADES], texts, np.repeat([LAMP, SPADE], 10, axis=0) + noise, kinds)
    interactions = events(users, items, [(u, 10 * (u // 20) + i) for u in range(40) for i in range(9) if (u + i) % 3])
    return (interactions, *with_history(interactions, users, items))


def weighing(*, cold_offset: float = 0.0, **parts: Pair) -> Weights:
    """The default weights but for these parts, which weigh the same for cold items as for warm ones."""
    usual = Weights()
    of_cold = {part: pair for part, pair in parts.items() if part not in OF_WARM_ITEMS}
    return Weights({**usual.warm, **parts}, {**usual.cold, **of_cold}, cold_offset=cold_offset)


def only(**parts: Pair) -> Weights:
    """These parts and no others, for warm and for cold items."""
    return Weights(parts, {part: pair for part, pair in parts.items() if part not in OF_WARM_ITEMS})


def trained(**changes: Any) -> HybridRecommender:
    """A recommender of its own, for tests that change it."""
    # A shop this small needs less of what keeps large ones steady, and its words tell all.
    weights = weighing(text=(4.0, 0.5))
    settings: dict[str, Any] = {"components": 8, "epochs": 10, "metric_ridge": 5.0, "weights": weights} | changes
    return HybridRecommender(Parameters(**settings)).fit(*made_up_shop())


@cache
def shared() -> HybridRecommender:
    """One for all tests that only ask."""
    return trained()


def every_score(model: HybridRecommender) -> np.ndarray:
    return model.score(model.users.ids, model.items.ids)


def column(model: HybridRecommender, *ids: str) -> list[int]:
    return [model.fitted.items.row(name) for name in ids]
