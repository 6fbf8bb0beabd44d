"""A shop without any signal: purchases by chance, each item as likely as any other, and words by chance.

Nobody's history, words or times say anything about what they take next, and nothing of an item says who will take it or
how many. So no method ranks better than another.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from recommender.data.dataset import Dataset
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions

N_USERS, N_ITEMS, EACH = 60, 70, 14
WORDS = tuple(f"word{n}" for n in range(12))
START = np.datetime64("2024-01-01", "us")
LAST_FIFTH = "2024-10-20"  # of a year
_DIMENSIONS = 6


def null_shop(seed: int, *, timed: bool = True, scale: int = 1) -> Dataset:
    """60 users who take 14 of 70 items each, within a year; or all at one moment, so that the data have no time.

    With another scale, as many times as many users and items.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items = scale * N_USERS, scale * N_ITEMS
    users = np.repeat(np.arange(n_users), EACH)
    items = np.concatenate([rng.choice(n_items, EACH, replace=False) for _ in range(n_users)]).astype(np.int64)
    days = rng.integers(0, 365, len(users)) if timed else np.zeros(len(users), np.int64)
    of_users, of_items = _entities("u", n_users, rng), _entities("i", n_items, rng)
    interactions = Interactions(
        of_users.ids, of_items.ids, users, items, START + days.astype("timedelta64[D]"), np.ones(len(users), np.float32)
    )
    return Dataset("null", interactions, of_users, of_items)


def write_null_shop(folder: Path, seed: int, *, timed: bool = True) -> Path:
    """Write such a shop as tables of the data contract, half of its interactions views and half purchases."""
    shop = null_shop(seed, timed=timed)
    interactions, rng = shop.interactions, np.random.default_rng([seed, 1])
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as con:
        con.execute(
            "CREATE TABLE items AS SELECT unnest($1) AS item_id, unnest($2) AS description",
            [list(shop.items.ids), list(shop.items.descriptions)],
        )
        con.execute(
            "CREATE TABLE interactions AS SELECT unnest($1) AS user_id, unnest($2) AS item_id, "
            "unnest($3)::TIMESTAMP AS event_timestamp, unnest($4) AS event_type",
            [
                [shop.users.ids[row] for row in interactions.users],
                [shop.items.ids[row] for row in interactions.items],
                [str(moment) for moment in interactions.timestamps],
                rng.choice(["view", "purchase"], len(interactions)).tolist(),
            ],
        )  # fmt: skip
        for table in ("items", "interactions"):
            con.execute(f"COPY {table} TO '{folder}/{table}.parquet'")
    return folder


def _entities(prefix: str, count: int, rng: np.random.Generator) -> Entities:
    """With two or three words each, and as a vector the sum of theirs."""
    vocabulary = rng.normal(size=(len(WORDS), _DIMENSIONS))
    chosen = [rng.choice(len(WORDS), rng.integers(2, 4), replace=False) for _ in range(count)]
    vectors = np.array([vocabulary[rows].sum(axis=0) for rows in chosen], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [" ".join(WORDS[row] for row in rows) for rows in chosen]
    ids = [f"{prefix}{n:02}" for n in range(count)]
    return Entities(ids, texts, [[]] * count, vectors, np.zeros_like(vectors), np.zeros(count), "stub")
