"""Two things that must go wrong when what a method is said to live on is taken away: texts, and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from bench_recommender_setup import ONLINE_RETAIL, dataset, ndcg_on, told
from common import table

from recommender.data.dataset import Dataset
from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.evaluation.baselines import METHODS, OURS, Scorer, fit_ours, scorer_of
from recommender.measure.splits import Split, make_splits
from recommender.model.recommender import HybridRecommender

CUTOFF = datetime(2011, 9, 1, tzinfo=UTC)
_DAYS = 60
_SHUFFLES = 3
_HALF_LIFE = EventWeights(half_life_days=15)


def measure() -> dict[str, Any]:
    """Both trials on Online Retail."""
    shop = dataset(ONLINE_RETAIL)
    return {"texts": texts(shop, _SHUFFLES), "time": times(shop, _SHUFFLES)}


def texts(shop: Dataset, seeds: int) -> dict[str, Any]:
    """NDCG@20 on cold items: as they are, with what is known of items shuffled among them, and random.

    The parameters are those chosen for the items as they are, which trust the texts as much as they deserve it there.
    """
    (split,) = make_splits(shop.interactions, shop.users, shop.items, "item_cold", groups=shop.groups)
    cold = np.flatnonzero(split.cold)
    model = fit_ours(split, 0)
    true = _mean(split, scorer_of(model), cold)
    shuffled, random = [], []
    for seed in range(seeds):
        told(f"leakage: texts shuffled, {seed + 1} of {seeds}")
        items = shuffled_texts(shop.items, seed)
        (other,) = make_splits(shop.interactions, shop.users, items, "item_cold", groups=shop.groups)
        fitted = HybridRecommender(model.parameters).fit(other.train, other.users, other.items)
        shuffled.append(_mean(other, scorer_of(fitted), cold))
        random.append(_mean(split, METHODS["random"](split, seed), cold))
    return {"true": true, "shuffled": shuffled, "random": random}


def times(shop: Dataset, seeds: int) -> dict[str, list[float]]:
    """NDCG@20 on warm items after the cut-off, with the times of what is learned from as they are and shuffled.

    Everything else stays: the same pairs are learned from, and the same ones asked for.
    """
    (split,) = make_splits(shop.interactions, shop.users, shop.items, "temporal", cutoff=CUTOFF)
    warm = np.flatnonzero(split.warm)
    results: dict[str, list[float]] = {}
    for seed in range(-1, seeds):
        told("leakage: times as they are" if seed < 0 else f"leakage: times shuffled, {seed + 1} of {seeds}")
        other = split if seed < 0 else replace(split, train=shuffled_times(split.train, seed))
        model = fit_ours(other, 0)
        scorers = {
            OURS: scorer_of(model),
            f"popularity of the last {_DAYS} days": recent_popularity(other),
            "encoder cosine, profiles with a half-life of 15 days": profiles(other, _HALF_LIFE),
            "encoder cosine, profiles that keep all": profiles(other, EventWeights()),
        }
        for method, score in scorers.items():
            results.setdefault(method, []).append(_mean(split, score, warm))
    return results


def shuffled_texts(items: Entities, seed: int) -> Entities:
    """What is known of items (texts, their vectors, attributes) given to others; ids and history stay."""
    order = np.random.default_rng(seed).permutation(len(items))
    given = items.take(order)
    return replace(given, ids=items.ids, profiles=items.profiles, evidence=items.evidence)


def shuffled_times(interactions: Interactions, seed: int) -> Interactions:
    """The same interactions, each at the time of another one."""
    # The times stay where they are, oldest first as the contract has them; what happened then moves.
    order = np.random.default_rng(seed).permutation(len(interactions))
    moved = ("users", "items", "weights", "events", "returned")
    return replace(interactions, **{name: getattr(interactions, name)[order] for name in moved})


def recent_popularity(split: Split) -> Scorer:
    """How many bought an item in the last days of what is learned from: a method made of time alone."""
    train = split.train
    late = train.timestamps >= train.timestamps.max() - np.timedelta64(_DAYS, "D")
    counts = np.bincount(train.items[late], minlength=len(split.items)).astype(np.float64)
    return lambda rows: np.tile(counts, (len(rows), 1))


def profiles(split: Split, weights: EventWeights) -> Scorer:
    """The vectors of what a user bought, weighted, beside those of the items."""
    users, _ = with_history(split.train.weighted(weights, CUTOFF), split.users, split.items)
    return lambda rows: users.profiles[rows] @ split.items.embeddings.T


def _mean(split: Split, score: Scorer, candidates: np.ndarray) -> float:
    return float(ndcg_on(split, lambda rows: score(rows)[:, candidates], candidates).mean())


def markdown(measured: dict[str, Any]) -> list[str]:
    """Both tables, and what they say."""
    found, seeds = measured["texts"], len(measured["texts"]["shuffled"])
    true, random = found["true"], float(np.mean(found["random"]))
    rows = [
        ("as they are", f"{true:.3f}", ""),
        (f"shuffled among the items, {seeds} times", _spread(found["shuffled"]),
         f"{(np.mean(found['shuffled']) - random) / (true - random):.1%}"),
        (f"a random ranking, {seeds} times", _spread(found["random"]), ""),
    ]  # fmt: skip
    first = (
        "**Texts.** NDCG@20 on the cold items of Online Retail (by stem, seed 0). What is known of items (text, "
        "vector, attributes) is shuffled among all of them, warm and cold; then the same parameters are fitted anew. "
        "An advantage that stayed would come from elsewhere, and there is nowhere else for a cold item."
    )
    lines = [first, "", *table(("texts", "NDCG@20", "of the advantage over random that is left"), rows), ""]
    second = (
        f"**Time.** NDCG@20 on warm items of Online Retail after {CUTOFF:%Y-%m-%d}. The times of what is learned from "
        "are shuffled among the interactions; which pairs are learned from and which are asked for stays. Parameters "
        "are chosen anew each time. What a method gains from time must be lost then. Two methods show that it is: the "
        f"popularity of the last {_DAYS} days, which is made of time, and profiles that forget beside such as do not."
    )
    compared = [
        (method, f"{values[0]:.3f}", _spread(values[1:]), f"{values[0] - np.mean(values[1:]):+.3f}")
        for method, values in measured["time"].items()
    ]
    head = ("method", "times as they are", f"times shuffled, {seeds} times", "lost")
    return [*lines, second, "", *table(head, compared)]


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
