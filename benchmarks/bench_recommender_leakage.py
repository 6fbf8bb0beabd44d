"""Two controls against leakage: shuffled texts and shuffled times."""

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
    """Run both controls on Online Retail."""
    shop = dataset(ONLINE_RETAIL)
    return {"texts": texts(shop, _SHUFFLES), "time": times(shop, _SHUFFLES)}


def texts(shop: Dataset, seeds: int) -> dict[str, Any]:
    """NDCG@20 on cold items: with their texts, with texts shuffled among items, and of a random ranking.

    The parameters are those chosen with the original texts.
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
    """NDCG@20 on warm items after the cut-off, with original and with shuffled training times.

    The training pairs and the test pairs stay the same.
    """
    (split,) = make_splits(shop.interactions, shop.users, shop.items, "temporal", cutoff=CUTOFF)
    warm = np.flatnonzero(split.warm)
    results: dict[str, list[float]] = {}
    for seed in range(-1, seeds):
        told("leakage: original times" if seed < 0 else f"leakage: times shuffled, {seed + 1} of {seeds}")
        other = split if seed < 0 else replace(split, train=shuffled_times(split.train, seed))
        model = fit_ours(other, 0)
        scorers = {
            OURS: scorer_of(model),
            f"popularity of the last {_DAYS} days": recent_popularity(other),
            "encoder cosine, profiles with a half-life of 15 days": profiles(other, _HALF_LIFE),
            "encoder cosine, profiles without a half-life": profiles(other, EventWeights()),
        }
        for method, score in scorers.items():
            results.setdefault(method, []).append(_mean(split, score, warm))
    return results


def shuffled_texts(items: Entities, seed: int) -> Entities:
    """Shuffle texts, vectors and attributes among items; ids and history stay."""
    order = np.random.default_rng(seed).permutation(len(items))
    given = items.take(order)
    return replace(given, ids=items.ids, profiles=items.profiles, evidence=items.evidence)


def shuffled_times(interactions: Interactions, seed: int) -> Interactions:
    """The same interactions, each with the time of another."""
    # The sorted times stay in place, as `Interactions` requires; the other columns are permuted.
    order = np.random.default_rng(seed).permutation(len(interactions))
    moved = ("users", "items", "weights", "events", "returned")
    return replace(interactions, **{name: getattr(interactions, name)[order] for name in moved})


def recent_popularity(split: Split) -> Scorer:
    """The number of buyers of an item in the last days of the training data: a method that depends only on time."""
    train = split.train
    late = train.timestamps >= train.timestamps.max() - np.timedelta64(_DAYS, "D")
    counts = np.bincount(train.items[late], minlength=len(split.items)).astype(np.float64)
    return lambda rows: np.tile(counts, (len(rows), 1))


def profiles(split: Split, weights: EventWeights) -> Scorer:
    """The product of a user's profile, with weighted events, and the items' vectors."""
    users, _ = with_history(split.train.weighted(weights, CUTOFF), split.users, split.items)
    return lambda rows: users.profiles[rows] @ split.items.embeddings.T


def _mean(split: Split, score: Scorer, candidates: np.ndarray) -> float:
    return float(ndcg_on(split, lambda rows: score(rows)[:, candidates], candidates).mean())


def markdown(measured: dict[str, Any]) -> list[str]:
    """Return both tables and their descriptions."""
    found, seeds = measured["texts"], len(measured["texts"]["shuffled"])
    true, random = found["true"], float(np.mean(found["random"]))
    rows = [
        ("original", f"{true:.3f}", ""),
        (f"shuffled among the items, {seeds} times", _spread(found["shuffled"]),
         f"{(np.mean(found['shuffled']) - random) / (true - random):.1%}"),
        (f"a random ranking, {seeds} times", _spread(found["random"]), ""),
    ]  # fmt: skip
    first = (
        "**Texts.** NDCG@20 on the cold items of Online Retail (by stem, seed 0). Texts, vectors and attributes are "
        "shuffled among all items, warm and cold, and the model is fitted again with the same parameters. The "
        "advantage over a random ranking must disappear, because texts and attributes are the only information about "
        "a cold item."
    )
    lines = [first, "", *table(("texts", "NDCG@20", "remaining advantage over random"), rows), ""]
    second = (
        f"**Time.** NDCG@20 on warm items of Online Retail after {CUTOFF:%Y-%m-%d}. The times of the training "
        "interactions are shuffled; training pairs and test pairs stay the same, and parameters are chosen again each "
        f"time. A method must lose what it gains from time. Popularity of the last {_DAYS} days and profiles with a "
        "half-life depend on time; profiles without a half-life do not."
    )
    compared = [
        (method, f"{values[0]:.3f}", _spread(values[1:]), f"{values[0] - np.mean(values[1:]):+.3f}")
        for method, values in measured["time"].items()
    ]
    head = ("method", "original times", f"times shuffled, {seeds} times", "difference")
    return [*lines, second, "", *table(head, compared)]


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
