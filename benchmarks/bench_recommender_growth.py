"""Time and memory of a fit, from 10⁵ to 10⁷ generated interactions, each size in a separate process."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from bench_recommender_setup import each_size
from common import table
from numpy.typing import NDArray

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender

SIZES = (100_000, 1_000_000, 10_000_000)
PER_USER, PER_ITEM = 50, 200  # interactions; Online Retail has 61 and 73
DIMENSIONS = 384
EPOCHS = 3
_TASTES, _TASTES_OF_A_USER = 40, 3
_WORDS_OF_A_TASTE, _COMMON_WORDS = 60, 2_000
_AGREE = 0.8
_POPULARITY = 0.7


def main() -> None:
    """Fit once with the given number of interactions and print the measurements as JSON."""
    print(json.dumps(one(int(sys.argv[1]))))


def measure() -> list[dict[str, float]]:
    """Run each size once."""
    return each_size(__file__, SIZES, "growth, interactions")


def one(size: int) -> dict[str, float]:
    """Generate a shop, build its profiles, fit."""
    interactions, users, items = made_up(size)
    start = peak()
    began = time.perf_counter()
    users, items = with_history(interactions, users, items)
    profiles = time.perf_counter() - began
    began = time.perf_counter()
    model = HybridRecommender(Parameters(epochs=EPOCHS, lightfm_seeds=1)).fit(interactions, users, items)
    fit = time.perf_counter() - began
    return {"interactions": len(interactions), "users": len(users), "items": len(items), "profiles_s": profiles,
            "fit_s": fit, "start_mib": start, "peak_mib": peak(), "learned": learned(model, interactions)}  # fmt: skip


def made_up(
    size: int, seed: int = 0, *, users: int | None = None, items: int | None = None
) -> tuple[Interactions, Entities, Entities]:
    """Generate a shop with `size` distinct pairs, and users and items in proportion unless they are given.

    A user has three of forty tastes. Four of five of their items belong to these tastes, popular items more often. An
    item's vector lies near the vector of its taste, and four of its five words belong to its taste.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items = users or size // PER_USER, items or size // PER_ITEM
    taste_of = rng.integers(_TASTES, size=n_items)
    by_taste = np.argsort(taste_of, kind="stable")
    counts = np.bincount(taste_of, minlength=_TASTES)
    begins = np.cumsum(counts) - counts
    likes = rng.integers(_TASTES, size=(n_users, _TASTES_OF_A_USER))
    activity = rng.lognormal(sigma=0.8, size=n_users)
    keys = np.zeros(0, dtype=np.int64)
    while len(keys) < size:
        n = int(1.2 * (size - len(keys))) + 1_000
        rows = np.minimum(np.searchsorted(np.cumsum(activity), rng.random(n) * activity.sum()), n_users - 1)
        tastes = likes[rows, rng.integers(_TASTES_OF_A_USER, size=n)]
        tastes = np.where(rng.random(n) < _AGREE, tastes, rng.integers(_TASTES, size=n))
        # The position among a taste's items, the first more often: x = u^(1/(1-s)) has the density of Zipf's law.
        places = (rng.random(n) ** (1 / (1 - _POPULARITY)) * counts[tastes]).astype(np.int64)
        keys = np.unique(np.concatenate([keys, rows * n_items + by_taste[begins[tastes] + places]]))
    keys = rng.permutation(keys)[:size]
    moments = np.datetime64("2024-01-01", "us") + np.sort(rng.integers(31_536_000, size=size)).astype("timedelta64[s]")
    interactions = Interactions(
        [f"u{row:07}" for row in range(n_users)], [f"i{row:07}" for row in range(n_items)], keys // n_items,
        keys % n_items, moments, np.ones(size, np.float32),
    )  # fmt: skip
    nothing = np.zeros((n_users, DIMENSIONS), np.float32)
    users_ = Entities(
        interactions.user_ids, [""] * n_users, [[]] * n_users, nothing, nothing, np.zeros(n_users), "made up"
    )  # fmt: skip
    vectors = _vectors(taste_of, rng)
    items_ = Entities(
        interactions.item_ids, _texts(taste_of, rng), [[]] * n_items, vectors, np.zeros_like(vectors),
        np.zeros(n_items), "made up",
    )  # fmt: skip
    return interactions, users_, items_


def _vectors(taste_of: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    centres = rng.normal(size=(_TASTES, DIMENSIONS)).astype(np.float32)
    vectors = centres[taste_of] + rng.standard_normal((len(taste_of), DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def _texts(taste_of: NDArray[np.int64], rng: np.random.Generator) -> list[str]:
    own = taste_of[:, None] * _WORDS_OF_A_TASTE + rng.integers(_WORDS_OF_A_TASTE, size=(len(taste_of), 4))
    common = rng.integers(_COMMON_WORDS, size=len(taste_of))
    return [
        " ".join([*(f"taste{word}" for word in words), f"word{other}"])
        for words, other in zip(own.tolist(), common.tolist(), strict=True)
    ]


def learned(model: HybridRecommender, interactions: Interactions, asked: int = 200) -> float:
    """The share of users' items that score above the median of the catalogue; 0.5 if the model learned nothing."""
    rows = np.unique(interactions.users)[:: max(len(model.users) // asked, 1)]
    scores = model.score([interactions.user_ids[row] for row in rows.tolist()], model.items)
    place = np.full(len(model.users), -1)
    place[rows] = np.arange(len(rows))
    of_these = place[interactions.users] >= 0
    users, items = place[interactions.users[of_these]], interactions.items[of_these]
    return float((scores[users, items] > np.median(scores, axis=1)[users]).mean())


def peak() -> float:
    """The peak memory of this process, in MiB."""
    # getrusage's maxrss of a new process starts at its parent's peak; VmHWM starts at 0. Linux only.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def markdown(runs: list[dict[str, float]]) -> list[str]:
    """Return the table and a sentence about its growth."""
    head = ("interactions", "users", "items", "profiles", "fit", "fit per interaction", "peak memory",
            "memory before the fit")  # fmt: skip
    rows = [
        (f"{run['interactions']:,}", f"{run['users']:,}", f"{run['items']:,}", f"{run['profiles_s']:.1f} s",
         f"**{run['fit_s']:.1f} s**", f"{run['fit_s'] / run['interactions'] * 1e6:.1f} µs",
         f"**{run['peak_mib']:,.0f} MiB**", f"{run['start_mib']:,.0f} MiB")
        for run in runs
    ]  # fmt: skip
    first, last = runs[0], runs[-1]
    dearer = last["fit_s"] / last["interactions"] / (first["fit_s"] / first["interactions"])
    said = (
        f"From {first['interactions']:,} to {last['interactions']:,} interactions, the time per interaction grows to "
        f"{dearer:.2f}× (1 is linear). To check that the models learned: of the sampled users' items, "
        + ", ".join(f"{run['learned']:.0%}" for run in runs)
        + " score above the median of the catalogue (50% without learning)."
    )
    return [*table(head, rows), "", said]


if __name__ == "__main__":
    main()
