"""Made-up shops of any size with the texts of a real catalogue, as raw files for `coldstart ingest`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import short_texts

PER_USER, PER_ITEM, MOST_ITEMS = 60, 50, 100_000  # interactions; Online Retail has 61 and 73
_DESCRIBED = 0.2  # the share of users who say something about themselves
_KINDS = ("red", "blue", "green", "yellow", "white", "black", "pink", "ivory", "large", "small", "set of 3", "set of 6",
          "gift boxed", "handmade", "vintage", "outdoor", "kitchen", "garden", "wooden", "enamel", "glass", "brass",
          "paper", "cotton", "folding", "personalised", "for children", "christmas", "wedding", "second choice",
          "refill")  # fmt: skip
_FAVOURITES, _AGREE, _NEIGHBOURS = 3, 0.7, 40
_CHUNK = 1_000_000


def write_shop(folder: Path, interactions: int, *, seed: int = 0) -> tuple[int, int]:
    """Write items, users and interactions as Parquet; returns the number of items and of users.

    The items are the products of Online Retail, and after them the same with a colour, a size or a material in front.
    A user has three favourite products. Seven of ten of their purchases are one of the forty products that follow a
    favourite in the alphabet (variants and products of the same kind), the others are drawn by popularity. The
    purchases are of the year 2024. One user in five has a description: what two of their favourites are called.
    """
    rng = np.random.default_rng(seed)
    n_items, n_users = min(interactions // PER_ITEM, MOST_ITEMS), interactions // PER_USER
    texts = _texts(n_items)
    n_items = len(texts)
    folder.mkdir(parents=True, exist_ok=True)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    item_ids = pa.array([f"i{row:06}" for row in range(n_items)])
    _write(folder / "items.parquet", {
        "item_id": item_ids, "description": pa.array(texts),
        "price": pa.array(np.round(rng.lognormal(1.0, 0.8, n_items), 2)),
        "event_timestamp": pa.array([start] * n_items),
    })  # fmt: skip
    favourites = rng.integers(n_items, size=(n_users, _FAVOURITES))
    described = rng.random(n_users) < _DESCRIBED
    words = [f"I look for {texts[one].lower()} and {texts[other].lower()}" if there else None
             for there, (one, other) in zip(described.tolist(), favourites[:, :2].tolist(), strict=True)]  # fmt: skip
    user_ids = pa.array([f"u{row:07}" for row in range(n_users)])
    _write(folder / "users.parquet", {
        "user_id": user_ids, "description": pa.array(words, pa.string()),
        "country": pa.array([f"country {row}" for row in rng.integers(20, size=n_users).tolist()]),
        "event_timestamp": pa.array([start] * n_users),
    })  # fmt: skip
    activity = np.cumsum(rng.lognormal(sigma=0.8, size=n_users))
    popularity = np.cumsum(rng.lognormal(sigma=1.2, size=n_items))
    schema = pa.schema([
        ("user_id", pa.string()), ("item_id", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC")),
        ("event_type", pa.string()),
    ])  # fmt: skip
    with pq.ParquetWriter(folder / "interactions.parquet", schema, compression="zstd") as writer:
        for first in range(0, interactions, _CHUNK):
            n = min(_CHUNK, interactions - first)
            users = np.searchsorted(activity, rng.random(n) * activity[-1])
            near = favourites[users, rng.integers(_FAVOURITES, size=n)] + rng.integers(_NEIGHBOURS, size=n)
            popular = np.searchsorted(popularity, rng.random(n) * popularity[-1])
            items = np.where(rng.random(n) < _AGREE, near % n_items, popular)
            seconds = rng.integers(366 * 86_400, size=n)
            moments = np.datetime64("2024-01-01", "us") + seconds.astype("timedelta64[s]")
            writer.write_table(pa.table([
                user_ids.take(pa.array(users)), item_ids.take(pa.array(items)),
                pa.array(moments, pa.timestamp("us")).cast(schema.field(2).type), pa.repeat("purchase", n),
            ], schema=schema))  # fmt: skip
    return n_items, n_users


def _texts(count: int) -> list[str]:
    """Distinct texts, in the order of the alphabet of the products they are made of."""
    products = sorted(short_texts(count))
    kinds = ["", *(f"{kind.upper()} " for kind in _KINDS)]
    rounds = -(-count // len(products))
    if rounds > len(kinds):
        raise SystemExit(f"{count:,} items are more than {len(products):,} products in {len(kinds)} kinds")
    found = list(dict.fromkeys(f"{kind}{product}" for product in products for kind in kinds[:rounds]))
    return found[:count]


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")
