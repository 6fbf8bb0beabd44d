"""A small world with tastes in it, for the tests of splits, methods and the comparison."""

from __future__ import annotations

import numpy as np

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions

N_USERS, N_ITEMS, EACH = 80, 100, 15
DAY = np.datetime64("2024-01-01", "us")


def world() -> tuple[Interactions, Entities, Entities]:
    """Users who like what points their way; item ids are variants a and b of 50 products; half of the users have words.

    Interactions come in visits of three items at one time.
    """
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(N_ITEMS, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    taste = rng.normal(size=(N_USERS, 8)).astype(np.float32)
    chosen = rng.permuted((taste @ vectors.T).argsort(axis=1)[:, -EACH:], axis=1)
    users = np.repeat(np.arange(N_USERS), EACH)
    user_ids = [f"u{n}" for n in range(N_USERS)]
    item_ids = [f"{n // 2:03}{'ab'[n % 2]}" for n in range(N_ITEMS)]
    visits = rng.integers(0, 300, size=(N_USERS, EACH // 3)).repeat(3, axis=1)
    times = DAY + np.sort(visits, axis=1).ravel().astype("timedelta64[D]")
    own = (taste / np.linalg.norm(taste, axis=1, keepdims=True)).astype(np.float32)
    own[::2] = 0
    return (
        Interactions(user_ids, item_ids, users, chosen.ravel(), times, np.ones(len(users), np.float32)),
        _entities(user_ids, own),
        _entities(item_ids, vectors),
    )


def _entities(ids: list[str], vectors: np.ndarray) -> Entities:
    texts = [" ".join(f"w{d}" for d in np.flatnonzero(v > 0.3)) if v.any() else "" for v in vectors]
    return Entities(ids, texts, [[]] * len(ids), vectors, np.zeros_like(vectors), np.zeros(len(ids)), "stub")
